"""A causal language model run over prompts that are packed as a prefix tree, in batches that fit
its memory.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache

from personagap.errors import UserError
from personagap.models import loading, trie
from personagap.models.decoding import States, are_numbers
from personagap.models.prepacked import prepack

#: Tokens per forward pass of prompts: attention inside a pack grows with its square, so a small
#: model on a CPU wants small packs and a large one on a GPU large ones. Answers decoded together,
#: and the columns of their caches in all.
PACK = {"cpu": 384, "cuda": 4096}
ROWS = {"cpu": 128, "cuda": 256}
COLUMNS = {"cpu": 2**15, "cuda": 2**19}
#: A model that keeps little of a token decodes up to so many times as many answers together, their
#: caches in so many bytes: calling its layers costs more than what they compute.
MORE, SMALL = 4, 2**28


class Packed:
    """Forward passes of ``model``, known as ``name``, and what of it fits into memory at a time.

    ``UserError`` for a model whose attention cannot be told what it sees.
    """

    def __init__(self, model: PreTrainedModel, name: str):
        self.id, self.model, self.device = name, model, model.device
        prepack(model)
        self.config = model.config.get_text_config(decoder=True)
        self._windows = loading.attention_windows(self.config)
        kind = self.device.type if self.device.type in PACK else "cpu"
        self.pack, self.rows, self.columns = PACK[kind], ROWS[kind], COLUMNS[kind]
        column = self._bytes_of_column()
        if not column:
            raise UserError(
                f"model {name}: {type(model).__name__} does not take prepared attention masks; "
                "serve it (vLLM, transformers serve) and use openai:MODEL@http://host:port/v1"
            )
        times = min(max(SMALL // (column * self.columns), 1), MORE)
        self.rows, self.columns = self.rows * times, self.columns * times

    def _packs(
        self, sequences: list[np.ndarray], starts: list[int], layer: int | None = None
    ) -> Iterator[tuple]:
        """Run each pack of the prefix tree.

        Yields (pack, logits (n, vocabulary), rows, states of each layer): ``rows`` holds, for each
        member, the rows of ``logits`` after its positions from ``starts`` on. With ``layer`` hidden
        states take the place of logits, as of `_forward`.
        """
        states: list[States] = []
        for pack in trie.packs(sequences, starts, self.pack):
            carried = torch.from_numpy(pack.carried).to(self.device)
            cache = DynamicCache(
                [(keys[:, :, carried], values[:, :, carried]) for keys, values in states] or None
            )
            # Logits cost as much as a layer or more: only those are computed that somebody reads,
            # each once.
            paths = zip(pack.members, pack.paths, strict=True)
            reads = [path[starts[member] :] for member, path in paths]
            kept, rows = np.unique(np.concatenate(reads), return_inverse=True)
            keep = torch.from_numpy(kept - len(carried)).to(self.device)
            depths = torch.tensor(pack.depths, device=self.device)
            columns = torch.arange(len(depths), device=self.device)
            queries = columns[len(carried) :, None]
            visible = (columns <= queries) & (queries < torch.from_numpy(pack.ends).to(self.device))
            mask = self._mask(visible[None, None], depths[len(carried) :, None], depths)
            tokens = torch.tensor([pack.tokens], device=self.device)
            positions = depths[None, len(carried) :]
            logits = self._forward(tokens, positions, mask, cache, keep, layer)[0]
            # By their types without keys, which `_bytes_of_column` refuses.
            layers: list[Any] = cache.layers
            states = [(each.keys, each.values) for each in layers]
            ends = np.cumsum([len(read) for read in reads])
            yield pack, logits, np.split(rows, ends[:-1]), states

    def _states(self, sequences: list[np.ndarray], depth: float) -> np.ndarray:
        """Hidden states at each sequence's last token, after the share ``depth`` of the layers."""
        last = [len(sequence) - 1 for sequence in sequences]
        layer = round(depth * self.config.num_hidden_layers)
        states = np.empty((len(sequences), self.config.hidden_size), dtype=np.float32)

        def read() -> None:
            for pack, hidden, rows, _ in self._packs(sequences, last, layer):
                are_numbers(hidden)
                states[pack.members] = hidden[np.concatenate(rows)].float().cpu()

        self._within_memory(read)
        return states

    @torch.inference_mode()
    def _bytes_of_column(self) -> int:
        """Size of a token in the key-value cache; 0 if packed prompts do not give the logits of
        plain ones (as with recurrent layers, ALiBi …).
        """
        if not set(self._windows) <= {"full_attention", "sliding_attention"}:
            return 0
        # Two that share a beginning, and of different lengths: so that both masks and positions
        # matter.
        sequences = [np.array([1, 2, 3, 4, 5]), np.array([1, 2, 3, 6, 7, 8])]
        try:
            pack, packed, rows, states = next(
                self._packs(sequences, [len(sequence) - 1 for sequence in sequences])
            )
        except (AttributeError, NotImplementedError, TypeError, ValueError):
            return 0
        for member, (row,) in zip(pack.members, rows, strict=True):
            alone = torch.from_numpy(sequences[member])[None].to(self.device)
            plain = self.model(alone).logits[0, -1]
            # Rounding differs a little in bfloat16; a layer that lets neighbours in differs by the
            # spread itself.
            if (packed[row] - plain).abs().mean() > 0.05 * plain.std():
                return 0
        return sum(each[:, :, 0].nbytes for layer in states for each in layer)

    def _mask(
        self, visible: torch.Tensor, queries, keys: torch.Tensor
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Additive attention mask (rows, 1, queries, keys), one for each kind of layer.

        ``queries`` and ``keys`` are positions: a sliding window also hides what is too far back.
        """
        masks = {}
        for kind, window in self._windows.items():
            allowed = visible if window is None else visible & (queries - keys < window)
            # Added to the scores of attention, and not boolean: every implementation of it takes
            # that form.
            nothing = torch.zeros(allowed.shape, dtype=self.model.dtype, device=self.device)
            masks[kind] = nothing.masked_fill_(~allowed, torch.finfo(self.model.dtype).min)
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, mask, cache: Cache, keep, layer=None
    ) -> torch.Tensor:
        """Logits at the positions ``keep`` only: (rows, kept, vocabulary); with ``layer``, hidden
        states after so many layers: (rows, kept, hidden size).
        """
        where = {"position_ids": positions, "attention_mask": mask, "logits_to_keep": keep}
        given = where | {"past_key_values": cache, "use_cache": True}
        if layer is None:
            return self.model(tokens, **given).logits
        return self.model(tokens, output_hidden_states=True, **given).hidden_states[layer][:, keep]

    def _within_memory(self, work: Callable[[], None]) -> None:
        """Run ``work``, with batches half the size each time memory runs out."""
        while True:
            try:
                with torch.inference_mode():
                    return work()
            except (MemoryError, RuntimeError) as error:
                known = isinstance(error, MemoryError | torch.OutOfMemoryError)
                if not known and not should_reduce_batch_size(error):
                    raise
                if self.rows == 1:
                    raise UserError(
                        f"model {self.id}: one request at a time does not fit the memory of "
                        f"{self.device}; use a smaller model or dtype, shorter prompts, or a server"
                    ) from error
            # Outside the handler, which keeps the failed batch alive.
            self.rows, self.columns = self.rows // 2, self.columns // 2
            self.pack = max(64, self.pack // 2)
            clear_device_cache(garbage_collection=True)
