"""Continuous batching: the key-value cache of the answers being generated, and their random draws.

Column j of a cache row belongs to token j of its request, whatever else is in the batch. From time
to time finished rows leave and waiting requests take their place, so that short answers do not wait
for the longest. Several answers to one prompt share a row until they differ: each token that they
have in common is computed once.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicLayer

from personagap.errors import UserError

#: Free columns of the cache after its rows have changed: the number of steps until the next change.
HEADROOM = 64

#: Keys and values of a layer, (rows, heads, columns, channels) each.
States = tuple[torch.Tensor, torch.Tensor]


@dataclass(eq=False)
class Request:
    """A request for one answer, of at most ``limit`` tokens, drawn with ``seed``; ``indices`` are
    the chats that get it.
    """

    indices: list[int]
    prompt: np.ndarray
    seed: int
    limit: int = 0
    started: float = 0.0

    def uniforms(self) -> np.ndarray:
        """Return the uniform random numbers for all tokens, from a counter-based generator."""
        # All before the first token, so that the draws do not depend on when the request runs, or
        # on the rest of its batch.
        return np.random.Generator(np.random.Philox(self.seed)).random(self.limit, dtype=np.float32)


def raise_if_nan(values: torch.Tensor) -> None:
    """Raise `UserError` for NaN, which is the maximum to torch: any answer would be arbitrary."""
    if values.isnan().any():
        remedy = "load it with dtype float32, or tune it at a lower learning rate"
        raise UserError(f"what the model computes is no number: {remedy}")


def pick(logits: torch.Tensor, uniform: torch.Tensor, sampling) -> torch.Tensor:
    """Draw one token per row by inverting the cumulative distribution at ``uniform``.

    Parameters
    ----------
    logits : (rows, vocabulary).
    uniform : (rows), in [0, 1).
    sampling : a ``Sampling``; temperature 0 takes the likeliest token.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    k = min(sampling.top_k or logits.shape[-1], logits.shape[-1])
    values, tokens = (logits.float() / sampling.temperature).topk(k)
    weights = values.softmax(-1)
    if sampling.top_p < 1:
        # Keep the smallest set of likeliest tokens whose probability reaches top_p.
        weights = weights.masked_fill(weights.cumsum(-1) - weights >= sampling.top_p, 0.0)
    # In the order of token ids, so that rounding that swaps two near-ties cannot change the draw.
    tokens, order = tokens.sort(-1)
    cumulative = weights.gather(-1, order).cumsum(-1)
    drawn = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(-1, keepdim=True)
    return tokens.gather(-1, drawn.clamp(max=k - 1)).squeeze(-1)


class InPlaceLayer(DynamicLayer):
    """A layer's cache to which each row writes in place, at its own ``column``; the parent copies
    the whole cache at each step.
    """

    keys: torch.Tensor  # unlike in the parent, never None
    values: torch.Tensor
    #: Where the next token goes, (rows,) and (rows, 1), and the number of columns in use; set
    #: before each step.
    row: torch.Tensor
    column: torch.Tensor
    width: int

    def __init__(self, keys: torch.Tensor, values: torch.Tensor):
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        at = (self.row, slice(None), self.column)
        self.keys[at], self.values[at] = key_states[:, :, 0], value_states[:, :, 0]
        rows = len(self.row)
        return self.keys[:rows, :, : self.width], self.values[:rows, :, : self.width]

    def get_seq_length(self) -> int:
        return self.width


class Batch:
    """The requests of a call, and the key-value cache of those under way.

    Attributes
    ----------
    going : numbers of the requests under way.
    row : cache row of each of them. Requests with the same prompt share a row until they draw
        different tokens.
    of_row : for each row, one of its requests.
    prompt, limit, count, done : of all requests: tokens in the prompt, maximum number of tokens in
        the answer, tokens drawn so far, and whether it is finished.
    tokens, uniforms : tokens and random numbers of all requests: (requests, longest answer + 1). A
        finished request still writes its next token and column, which are never read.
    layers, columns, width : the cache, its number of columns, and the number of columns in use. It
        has enough rows for all requests under way to be apart.
    """

    def __init__(self, requests: list[Request], device: torch.device):
        self.requests, self.waiting = requests, 0
        self.layers: list[InPlaceLayer] = []
        sizes = [(len(request.prompt), request.limit) for request in requests]
        lengths = torch.tensor(sizes, dtype=torch.long, device=device)
        self.prompt, self.limit = lengths.reshape(-1, 2).T
        self.count = torch.zeros_like(self.limit)
        self.done = torch.zeros_like(self.limit, dtype=torch.bool)
        longest = max((request.limit for request in requests), default=0)
        uniforms = np.zeros((len(requests), 1 + longest), dtype=np.float32)
        for line, request in zip(uniforms, requests, strict=True):
            line[: request.limit] = request.uniforms()
        self.uniforms = torch.from_numpy(uniforms).to(device)
        self.tokens = torch.zeros_like(self.uniforms, dtype=torch.long)
        self.going = self.row = self.of_row = torch.arange(0, device=device)

    def finished(self) -> list[int]:
        """Return the numbers of the requests under way that are finished."""
        return self.going[self.done[self.going]].tolist()

    def renew(self, most_rows: int, most_columns: int) -> list[int]:
        """Replace finished requests by waiting ones, as far as there is room; return the numbers of
        the new requests.
        """
        keep = (~self.done[self.going]).nonzero().squeeze(-1)
        used = int((self.prompt + self.count)[self.going[keep]].max()) - 1 if len(keep) else 0
        candidates = self.requests[self.waiting : self.waiting + most_rows]
        lengths = [len(request.prompt) for request in candidates]
        widths = np.maximum.accumulate([used, *lengths])
        rows = len(keep) + np.arange(len(widths))
        fits = (rows <= most_rows) & (rows * (widths + HEADROOM) <= most_columns)
        # An empty batch takes one request, however long, or decoding would never end.
        fits[1:2] |= len(keep) == 0
        n = int(fits[1:].sum())
        new = list(range(self.waiting, self.waiting + n))
        self.width = int(widths[n])
        kept, row = self.row[keep].unique(return_inverse=True)
        added = torch.from_numpy(np.cumsum(self.heads(new), dtype=np.int64)).to(row.device)
        self.row = torch.cat([row, added + len(kept) - 1])
        long = {"dtype": torch.long, "device": row.device}
        self.going = torch.cat([self.going[keep], torch.tensor(new, **long)])
        self.of_row = torch.empty(int(self.row.max()) + 1 if len(self.row) else 0, **long)
        self.of_row[self.row] = self.going
        left = (self.limit - self.count)[self.going].tolist()
        self.columns = self.width + min(HEADROOM, max(left, default=0))
        # A single copy removes rows, adds rows, and adds columns for the next steps.
        for layer in self.layers:
            # Padding of channels, columns, heads and rows, in this order.
            room = (0, 0, 0, self.columns - used, 0, 0, 0, len(self.going) - len(kept))
            layer.keys = pad(layer.keys[kept, :, :used], room)
            layer.values = pad(layer.values[kept, :, :used], room)
        for number in new:
            self.requests[number].started = time.perf_counter()
        self.waiting += n
        return new

    def heads(self, numbers: list[int]) -> list[bool]:
        """Return whether each request's prompt differs from that of the request before it."""
        prompts = [self.requests[number].prompt for number in numbers]
        # Equal prompts are one object; comparing their tokens would be slow.
        pairs = zip(prompts, [None, *prompts], strict=False)
        return [prompt is not before for prompt, before in pairs]

    def fill(self, rows: torch.Tensor, paths: list[np.ndarray], states: list[States]) -> None:
        """Copy the columns ``paths`` of a computed pack to the given ``rows`` of the cache."""
        if not self.layers:
            self.layers = [InPlaceLayer(*map(self._empty_cache, pair)) for pair in states]
        index = pad_sequence([torch.from_numpy(path) for path in paths], batch_first=True)
        index = index.to(self.row.device)
        for layer, (keys, values) in zip(self.layers, states, strict=True):
            layer.keys[rows, :, : index.shape[1]] = keys[0][:, index].transpose(0, 1)
            layer.values[rows, :, : index.shape[1]] = values[0][:, index].transpose(0, 1)

    def _empty_cache(self, states: torch.Tensor) -> torch.Tensor:
        """Return an empty cache for all rows, like ``states`` (any, heads, any, channels)."""
        return states.new_zeros(len(self.going), states.shape[1], self.columns, states.shape[3])

    def step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the last token of each row and the column that it goes to, both (rows, 1)."""
        if len(self.of_row) < len(self.going):
            self._split_rows()
        last = self.count[self.of_row] - 1
        row = torch.arange(len(self.of_row), device=self.row.device)
        column, self.width = self.prompt[self.of_row] + last, self.width + 1
        for layer in self.layers:
            layer.row, layer.column, layer.width = row, column, self.width
        return self.tokens[self.of_row, last][:, None], column[:, None]

    def _split_rows(self) -> None:
        """Give rows of their own to requests whose last token differs from others' in their row."""
        live = (~self.done[self.going]).nonzero().squeeze(-1)
        numbers = self.going[live]
        token = self.tokens[numbers, self.count[numbers] - 1]
        # Distinct pairs of row and token, sorted by row, and the pair of each request.
        pairs, pair_of = (self.row[live] << 32 | token).unique(return_inverse=True)
        row = pairs >> 32
        moves = torch.zeros_like(row, dtype=torch.bool)
        # The first token of a row stays in it; the others need new rows.
        moves[1:] = row[1:] == row[:-1]
        source, size = row[moves], len(self.of_row)
        row[moves] = torch.arange(size, size + len(source), device=row.device)
        for layer in self.layers:
            for states in (layer.keys, layer.values):
                states[size : size + len(source), :, : self.width] = states[source, :, : self.width]
        self.row[live] = row[pair_of]
        self.of_row = torch.cat([self.of_row, source])
        # A row is represented by a request under way: a finished one has another last token.
        self.of_row[self.row[live]] = numbers

    def append(
        self, numbers: torch.Tensor, logits: torch.Tensor, sampling, eos: torch.Tensor
    ) -> None:
        """Draw the next tokens of requests ``numbers`` from ``logits`` (requests, vocabulary)."""
        count = self.count[numbers]
        token = pick(logits, self.uniforms[numbers, count], sampling)
        # For a finished request this is after its end, and is never read.
        self.tokens[numbers, count] = token
        self.count[numbers] += ~self.done[numbers]
        self.done[numbers] |= torch.isin(token, eos) | (self.count[numbers] >= self.limit[numbers])
