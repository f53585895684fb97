"""A batch of answers in the making: its key-value cache, its random numbers, its finished rows.

Rows are aligned at the right edge: at a step all of them write the same column of the cache, and
each has its own first column. Now and then the batch is rebuilt: finished rows leave, waiting
requests take their place, so that mixed lengths never wait for the longest.
"""

import functools
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

#: Free columns of the cache after a rebuild: the steps until it must be rebuilt anyway.
HEADROOM = 64


@dataclass(eq=False)
class Request:
    """An answer to make for the chats ``indices``: ``limit`` tokens at most, drawn with ``uniforms``."""

    indices: list[int]
    prompt: np.ndarray
    limit: int
    uniforms: np.ndarray
    started: float = 0.0


def uniforms(seed: int, n: int) -> np.ndarray:
    """The numbers that draw an answer's tokens, from a counter-based generator of its own seed."""
    return np.random.Generator(np.random.Philox(seed)).random(n, dtype=np.float32)


def pick(logits: torch.Tensor, uniform: torch.Tensor, sampling) -> torch.Tensor:
    """Draw one token per row by inverting the cumulative distribution at ``uniform``.

    Parameters
    ----------
    logits : (rows, vocabulary).
    uniform : (rows), in [0, 1).
    sampling : ``Sampling``; temperature 0 takes the likeliest token.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    k = min(sampling.top_k or logits.shape[-1], logits.shape[-1])
    values, tokens = (logits.float() / sampling.temperature).topk(k)
    weights = values.softmax(-1)
    if sampling.top_p < 1:  # the smallest set of likeliest tokens that holds top_p
        weights = weights.masked_fill(weights.cumsum(-1) - weights >= sampling.top_p, 0.0)
    # In the order of token ids: rounding that swaps two near-ties then cannot change the draw.
    tokens, order = tokens.sort(-1)
    cumulative = weights.gather(-1, order).cumsum(-1)
    drawn = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(-1, keepdim=True)
    return tokens.gather(-1, drawn.clamp(max=k - 1)).squeeze(-1)


class SpareColumns(DynamicLayer):
    """A layer's cache that writes one column in place, where its parent copies all of them."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, used: int):
        super().__init__()
        self.keys, self.values, self.used, self.is_initialized = keys, values, used, True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        self.keys[:, :, self.used] = key_states[:, :, 0]
        self.values[:, :, self.used] = value_states[:, :, 0]
        self.used += 1
        return self.keys[:, :, : self.used], self.values[:, :, : self.used]

    def get_seq_length(self) -> int:
        return self.used


@dataclass
class Batch:
    """Rows being decoded: tensors with one entry per request, and the cache they share.

    ``tokens`` and ``uniforms`` are (rows, longest answer + 1), of which ``count`` are made so
    far: a done row goes on writing its next column, which is not read. ``first`` is a row's first
    column of the cache, of which ``used`` columns are filled.
    """

    requests: list[Request]
    tokens: torch.Tensor
    uniforms: torch.Tensor
    count: torch.Tensor
    limit: torch.Tensor
    first: torch.Tensor
    done: torch.Tensor
    used: int
    layers: list[SpareColumns] = field(default_factory=list)

    @classmethod
    def of(cls, requests: list[Request], max_tokens: int, device: torch.device) -> "Batch":
        """Rows whose prompts are not computed yet, aligned at the end of the longest."""
        now = time.perf_counter()
        drawn = np.zeros((len(requests), max_tokens + 1), dtype=np.float32)
        for row, request in enumerate(requests):
            request.started = now
            drawn[row, : request.limit] = request.uniforms
        lengths = torch.tensor([len(request.prompt) for request in requests], dtype=torch.long)
        used = int(lengths.max()) if requests else 0
        return cls(
            requests=list(requests),
            tokens=torch.zeros(drawn.shape, dtype=torch.long, device=device),
            uniforms=torch.from_numpy(drawn).to(device),
            count=torch.zeros(len(requests), dtype=torch.long, device=device),
            limit=torch.tensor([request.limit for request in requests], dtype=torch.long, device=device),
            first=(used - lengths).to(device),
            done=torch.zeros(len(requests), dtype=torch.bool, device=device),
            used=used,
        )

    def merged(self, other: "Batch") -> "Batch":
        """The unfinished rows, followed by those of ``other``, with fresh spare columns."""
        keep = (~self.done).nonzero().squeeze(-1)
        width = self.used - int(self.first[keep].min()) if len(keep) else 0
        used = max(width, other.used)
        rows = {
            name: torch.cat([getattr(self, name)[keep], getattr(other, name)])
            for name in ("tokens", "uniforms", "count", "limit", "done")
        }
        first = torch.cat([self.first[keep] + (used - self.used), other.first + (used - other.used)])
        batch = Batch([*(self.requests[row] for row in keep.tolist()), *other.requests], first=first, used=used, **rows)
        move = functools.partial(batch._widened, keep=keep, end=self.used, width=width)
        batch.layers = [SpareColumns(move(layer.keys), move(layer.values), used) for layer in self.layers]
        return batch

    def _room(self, states: torch.Tensor) -> torch.Tensor:
        """An empty cache for these rows, like ``states`` (any, heads, any, dimension)."""
        columns = self.used + min(HEADROOM, int((self.limit - self.count).max()))
        return states.new_zeros(len(self.requests), states.shape[1], columns, states.shape[3])

    def _widened(self, states: torch.Tensor, keep: torch.Tensor, end: int, width: int) -> torch.Tensor:
        """Room for these rows, holding the ``width`` columns before ``end`` of the rows kept."""
        room = self._room(states)
        room[: len(keep), :, self.used - width : self.used] = states[keep, :, end - width : end]
        return room

    def fill(self, rows: list[int], paths: list[np.ndarray], cache: Cache) -> None:
        """Copy the columns ``paths`` of a computed pack into the ends of ``rows``."""
        if not self.layers:
            self.layers = [SpareColumns(self._room(c.keys), self._room(c.values), self.used) for c in cache.layers]
        width = max(map(len, paths))
        index = torch.zeros(len(rows), width, dtype=torch.long)
        for row, path in enumerate(paths):
            index[row, width - len(path) :] = torch.from_numpy(path)
        index, rows = index.to(self.tokens.device), torch.tensor(rows, device=self.tokens.device)
        span = slice(self.used - width, self.used)
        for layer, computed in zip(self.layers, cache.layers, strict=True):
            layer.keys[rows, :, span] = computed.keys[0][:, index].transpose(0, 1)
            layer.values[rows, :, span] = computed.values[0][:, index].transpose(0, 1)

    def append(self, rows: torch.Tensor | slice, logits: torch.Tensor, sampling, eos: torch.Tensor) -> None:
        """Draw the next token of ``rows`` from ``logits`` (rows, vocabulary); done rows keep theirs."""
        step = self.count[rows][:, None]
        token = pick(logits, self.uniforms[rows].gather(1, step).squeeze(1), sampling)
        self.tokens[rows] = self.tokens[rows].scatter(1, step, token[:, None])
        self.count[rows] += ~self.done[rows]
        self.done[rows] |= torch.isin(token, eos) | (self.count[rows] >= self.limit[rows])
