"""A batch of answers in the making: its key-value cache, its random numbers, its finished rows.

Column j of a row of the cache belongs to token j of its request, whatever else is in the batch. Now
and then finished rows leave and waiting requests take their place, so that mixed lengths never wait
for the longest. Several answers to one prompt are one row until they differ: each token that they
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

#: Free columns of the cache after rows have changed: the steps until they must change anyway.
HEADROOM = 64


#: Keys and values of a layer, (rows, heads, columns, channels) each.
States = tuple[torch.Tensor, torch.Tensor]


@dataclass(eq=False)
class Request:
    """An answer to make for the chats ``indices``: ``limit`` tokens at most, drawn with the numbers
    of ``seed``.
    """

    indices: list[int]
    prompt: np.ndarray
    seed: int
    limit: int = 0
    started: float = 0.0

    def uniforms(self) -> np.ndarray:
        """The numbers that draw the tokens, from a counter-based generator of their own seed."""
        # All at once, before the first token: what is drawn does not depend on when the request
        # runs, or with whom.
        return np.random.Generator(np.random.Philox(self.seed)).random(self.limit, dtype=np.float32)


def are_numbers(values: torch.Tensor) -> None:
    """`UserError` for NaN, the largest to torch: whatever came first would be the answer."""
    if values.isnan().any():
        remedy = "load it with dtype float32, or tune it at a lower learning rate"
        raise UserError(f"what the model computes is no number: {remedy}")


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
    if sampling.top_p < 1:
        # The smallest set of likeliest tokens that holds top_p.
        weights = weights.masked_fill(weights.cumsum(-1) - weights >= sampling.top_p, 0.0)
    # In the order of token ids: rounding that swaps two near-ties then cannot change the draw.
    tokens, order = tokens.sort(-1)
    cumulative = weights.gather(-1, order).cumsum(-1)
    drawn = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(-1, keepdim=True)
    return tokens.gather(-1, drawn.clamp(max=k - 1)).squeeze(-1)


class OwnColumns(DynamicLayer):
    """A layer's cache in which each row writes its own ``column`` in place, where the parent copies
    everything.
    """

    keys: torch.Tensor  # never None as in the parent
    values: torch.Tensor
    #: Where the next token goes, (rows,) and (rows, 1), and how many columns are in use: set at
    #: each step.
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
    """The requests of a call, and the cache ``layers`` of those under way, by number in ``going``.

    ``row`` (as many) are their rows of the cache, ``of_row`` is one request of each row: those of
    one prompt share a row until they draw different tokens. Of each request: ``prompt`` and
    ``limit`` (tokens), ``count`` (tokens made), ``done``, and ``tokens`` and ``uniforms``
    (requests, longest answer + 1). A done one goes on writing its next token and column, which are
    not read. Of the ``columns`` of the cache no row has filled more than ``width``; it has rows for
    all under way.
    """

    def __init__(self, requests: list[Request], device: torch.device):
        sizes = [(len(request.prompt), request.limit) for request in requests]
        self.requests, self.waiting = requests, 0
        self.layers: list[OwnColumns] = []
        both = torch.tensor(sizes, dtype=torch.long, device=device)
        self.prompt, self.limit = both.reshape(-1, 2).T
        self.count = torch.zeros_like(self.limit)
        self.done = torch.zeros_like(self.limit, dtype=torch.bool)
        longest = max((limit for _, limit in sizes), default=0)
        drawn = np.zeros((len(requests), 1 + longest), dtype=np.float32)
        for line, request in zip(drawn, requests, strict=True):
            line[: request.limit] = request.uniforms()
        self.uniforms = torch.from_numpy(drawn).to(device)
        self.tokens = torch.zeros_like(self.uniforms, dtype=torch.long)
        self.going = self.row = self.of_row = torch.arange(0, device=device)

    def finished(self) -> list[int]:
        return self.going[self.done[self.going]].tolist()

    def renew(self, most_rows: int, most_columns: int) -> list[int]:
        """Let finished requests leave, and others take their place while there is room; the numbers
        of the new ones.
        """
        keep = (~self.done[self.going]).nonzero().squeeze(-1)
        used = int((self.prompt + self.count)[self.going[keep]].max()) - 1 if len(keep) else 0
        candidates = self.requests[self.waiting : self.waiting + most_rows]
        lengths = [len(request.prompt) for request in candidates]
        widths = np.maximum.accumulate([used, *lengths])
        rows = len(keep) + np.arange(len(widths))
        fits = (rows <= most_rows) & (rows * (widths + HEADROOM) <= most_columns)
        # One always goes, however long, or nothing would ever be done.
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
        # One copy for all changes: rows out, rows in, and columns for the steps to come.
        for layer in self.layers:
            # No channels, more columns, no heads, more rows.
            room = (0, 0, 0, self.columns - used, 0, 0, 0, len(self.going) - len(kept))
            both = layer.keys, layer.values
            layer.keys, layer.values = (pad(each[kept, :, :used], room) for each in both)
        for number in new:
            self.requests[number].started = time.perf_counter()
        self.waiting += n
        return new

    def heads(self, numbers: list[int]) -> list[bool]:
        """Of each of these requests, whether its prompt is another than that of the one before."""
        prompts = [self.requests[number].prompt for number in numbers]
        # By identity: to compare their tokens would take as long as reading them.
        pairs = zip(prompts, [None, *prompts], strict=False)
        return [prompt is not before for prompt, before in pairs]

    def fill(self, rows: torch.Tensor, paths: list[np.ndarray], states: list[States]) -> None:
        """Copy the columns ``paths`` of a computed pack to ``rows`` of the cache."""
        if not self.layers:
            self.layers = [OwnColumns(*map(self._room, both)) for both in states]
        index = pad_sequence([torch.from_numpy(path) for path in paths], batch_first=True)
        index = index.to(self.row.device)
        for layer, (keys, values) in zip(self.layers, states, strict=True):
            layer.keys[rows, :, : index.shape[1]] = keys[0][:, index].transpose(0, 1)
            layer.values[rows, :, : index.shape[1]] = values[0][:, index].transpose(0, 1)

    def _room(self, states: torch.Tensor) -> torch.Tensor:
        """An empty cache for the rows, like ``states`` (any, heads, any, channels)."""
        return states.new_zeros(len(self.going), states.shape[1], self.columns, states.shape[3])

    def step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The last token of each row and the column it goes to, (rows, 1) both."""
        if len(self.of_row) < len(self.going):
            self._part()
        last = self.count[self.of_row] - 1
        row = torch.arange(len(self.of_row), device=self.row.device)
        column, self.width = self.prompt[self.of_row] + last, self.width + 1
        for layer in self.layers:
            layer.row, layer.column, layer.width = row, column, self.width
        return self.tokens[self.of_row, last][:, None], column[:, None]

    def _part(self) -> None:
        """Give rows of their own to requests whose last tokens differ from others' in their row."""
        live = (~self.done[self.going]).nonzero().squeeze(-1)
        numbers = self.going[live]
        token = self.tokens[numbers, self.count[numbers] - 1]
        found, which = (self.row[live] << 32 | token).unique(return_inverse=True)
        row = found >> 32
        apart = torch.zeros_like(row, dtype=torch.bool)
        # The first token of a row stays in it; others need rows of their own.
        apart[1:] = row[1:] == row[:-1]
        source, size = row[apart], len(self.of_row)
        row[apart] = torch.arange(size, size + len(source), device=row.device)
        for layer in self.layers:
            for each in (layer.keys, layer.values):
                each[size : size + len(source), :, : self.width] = each[source, :, : self.width]
        self.row[live] = row[which]
        self.of_row = torch.cat([self.of_row, source])
        # A row stands for one that goes on: one that is done has another last token.
        self.of_row[self.row[live]] = numbers

    def append(
        self, numbers: torch.Tensor, logits: torch.Tensor, sampling, eos: torch.Tensor
    ) -> None:
        """Draw the next token of requests ``numbers`` from ``logits`` (requests, vocabulary)."""
        count = self.count[numbers]
        token = pick(logits, self.uniforms[numbers, count], sampling)
        # Of a done row it lies behind its end, where nobody looks.
        self.tokens[numbers, count] = token
        self.count[numbers] += ~self.done[numbers]
        self.done[numbers] |= torch.isin(token, eos) | (self.count[numbers] >= self.limit[numbers])
