"""Forward passes of a causal language model over prompts that are packed as a prefix tree, in
batches that fit into memory.
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
from personagap.models.decoding import States, raise_if_nan
from personagap.models.prepacked import prepack

#: Prompt tokens per forward pass, answers decoded together, and columns of all their caches. The
#: cost of attention grows with the square of a pack: small packs suit small models on a CPU, large
#: packs large models on a GPU.
PACK = {"cpu": 384, "cuda": 4096}
ROWS = {"cpu": 128, "cuda": 256}
COLUMNS = {"cpu": 2**15, "cuda": 2**19}
#: A model with a small cache decodes up to `MAX_FACTOR` times as many answers together, while their
#: caches take at most `CACHE_BYTES`: calling its layers costs more time than their computations.
MAX_FACTOR, CACHE_BYTES = 4, 2**28


class Packed:
    """Forward passes of ``model``, which is called ``name``, in batches that fit into memory.

    ``UserError`` for a model that does not take custom attention masks.
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
        factor = min(max(CACHE_BYTES // (column * self.columns), 1), MAX_FACTOR)
        self.rows, self.columns = self.rows * factor, self.columns * factor

    def _packs(
        self, sequences: list[np.ndarray], starts: list[int], layer: int | None = None
    ) -> Iterator[tuple]:
        """Run each pack of the prefix tree of ``sequences``.

        Yields (pack, logits (n, vocabulary), rows, states of each layer). ``rows`` contains, for
        each member of the pack, the rows of ``logits`` that follow its positions from its start in
        ``starts`` on. With ``layer``, hidden states take the place of logits, see `_forward`.
        """
        states: list[States] = []
        for pack in trie.packs(sequences, starts, self.pack):
            carried = torch.from_numpy(pack.carried).to(self.device)
            states = [(keys[:, :, carried], values[:, :, carried]) for keys, values in states]
            cache = DynamicCache(states or None)
            # Logits cost as much as a layer or more: only those that are read are computed, each
            # of them once.
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
            # Any, since some types of layer have no keys; `_bytes_of_column` refuses those.
            layers: list[Any] = cache.layers
            states = [(layer_cache.keys, layer_cache.values) for layer_cache in layers]
            ends = np.cumsum([len(read) for read in reads])
            yield pack, logits, np.split(rows, ends[:-1]), states

    def _states(self, sequences: list[np.ndarray], depth: float) -> np.ndarray:
        """Return the hidden state at each sequence's last token, after the share ``depth`` of the
        layers: (sequences, hidden size).
        """
        last = [len(sequence) - 1 for sequence in sequences]
        layer = round(depth * self.config.num_hidden_layers)
        states = np.empty((len(sequences), self.config.hidden_size), dtype=np.float32)

        def read() -> None:
            for pack, hidden, rows, _ in self._packs(sequences, last, layer):
                raise_if_nan(hidden)
                states[pack.members] = hidden[np.concatenate(rows)].float().cpu()

        self._within_memory(read)
        return states

    @torch.inference_mode()
    def _bytes_of_column(self) -> int:
        """Return the size of a token in the key-value cache, or 0 if packing changes the logits of
        prompts (as with recurrent layers, ALiBi …).
        """
        if not set(self._windows) <= {"full_attention", "sliding_attention"}:
            return 0
        # A shared prefix and different lengths, so that both masks and positions matter.
        sequences = [np.array([1, 2, 3, 4, 5]), np.array([1, 2, 3, 6, 7, 8])]
        last = [len(sequence) - 1 for sequence in sequences]
        try:
            pack, packed, rows, states = next(self._packs(sequences, last))
        except (AttributeError, NotImplementedError, TypeError, ValueError):
            return 0
        for member, (row,) in zip(pack.members, rows, strict=True):
            alone = torch.from_numpy(sequences[member])[None].to(self.device)
            plain = self.model(alone).logits[0, -1]
            # Rounding in bfloat16 makes a small difference. A layer that sees other prompts makes
            # one as large as the spread of the logits.
            if (packed[row] - plain).abs().mean() > 0.05 * plain.std():
                return 0
        return sum(tensor[:, :, 0].nbytes for layer in states for tensor in layer)

    def _mask(
        self, visible: torch.Tensor, queries, keys: torch.Tensor
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Return the additive attention mask (rows, 1, queries, keys), or a dictionary of masks if
        there are several kinds of layers.

        ``queries`` and ``keys`` are positions: a sliding window also hides keys too far back.
        """
        masks = {}
        for kind, window in self._windows.items():
            allowed = visible if window is None else visible & (queries - keys < window)
            # Additive, not boolean, since every implementation of attention takes that form.
            mask = torch.zeros(allowed.shape, dtype=self.model.dtype, device=self.device)
            masks[kind] = mask.masked_fill_(~allowed, torch.finfo(self.model.dtype).min)
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, mask, cache: Cache, keep, layer=None
    ) -> torch.Tensor:
        """Return the logits at the positions ``keep`` only: (rows, kept, vocabulary); with
        ``layer``, the hidden states after that many layers: (rows, kept, hidden size).
        """
        inputs = {"position_ids": positions, "attention_mask": mask, "logits_to_keep": keep}
        inputs |= {"past_key_values": cache, "use_cache": True}
        if layer is None:
            return self.model(tokens, **inputs).logits
        outputs = self.model(tokens, output_hidden_states=True, **inputs)
        return outputs.hidden_states[layer][:, keep]

    def _within_memory(self, work: Callable[[], None]) -> None:
        """Run ``work``; halve the size of batches and retry each time memory runs out."""
        while True:
            try:
                with torch.inference_mode():
                    return work()
            except (MemoryError, RuntimeError) as error:
                out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
                if not out_of_memory and not should_reduce_batch_size(error):
                    raise
                if self.rows == 1:
                    raise UserError(
                        f"model {self.id}: one request at a time does not fit the memory of "
                        f"{self.device}; use a smaller model or dtype, shorter prompts, or a server"
                    ) from error
            # After the handler, whose traceback keeps the failed batch in memory.
            self.rows, self.columns = self.rows // 2, self.columns // 2
            self.pack = max(64, self.pack // 2)
            clear_device_cache(garbage_collection=True)
