"""Models in process, through transformers."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import transformers
from transformers import DynamicCache
from transformers.cache_utils import Cache

from personagap.errors import UserError
from personagap.models import Generation, Sampling, loading, rendering, trie
from personagap.models.decoding import HEADROOM, Batch, Request, uniforms
from personagap.models.rendering import Messages

#: Tokens per forward pass of prompts. Attention inside a pack grows with its square, so a small
#: model on a CPU wants small packs and a large one on a GPU large ones.
PACK = {"cpu": 384, "cuda": 4096}
#: Answers decoded together, and the columns of their caches in all.
ROWS = {"cpu": 64, "cuda": 256}
COLUMNS = {"cpu": 2**16, "cuda": 2**19}


class LocalModel:
    """A causal language model run by transformers, with its real chat template.

    Parameters
    ----------
    source : local folder or Hub name.
    name : what result tables call it.
    device, dtype, revision, prompt_format : see ``models.load_model``.

    Attributes
    ----------
    id, revision : name; commit of a Hub model, or hash of a folder's configuration and weights.
    """

    def __init__(
        self,
        source: str,
        name: str,
        device: str,
        dtype: str,
        revision: str | None = None,
        prompt_format: str = "chat",
    ):
        self.id = name
        self.tokenizer, self.model, self.revision = loading.load(source, name, device, dtype, revision)
        self.prompt_format = prompt_format
        if prompt_format == "base":
            self.tokenizer.chat_template = rendering.BASE_FORMAT
        self.device = self.model.device
        config = self.model.config.get_text_config(decoder=True)
        self.context = getattr(config, "max_position_embeddings", None) or 2**31
        self._windows = loading.attention_windows(config)
        kind = self.device.type if self.device.type in PACK else "cpu"
        self.pack, self.rows, self.columns = PACK[kind], ROWS[kind], COLUMNS[kind]
        self._eos = torch.tensor(loading.eos_ids(self.tokenizer, self.model), device=self.device)
        if not self._packs_well():
            raise UserError(
                f"model {name}: {type(self.model).__name__} does not take prepared attention masks; serve it "
                "(vLLM, transformers serve) and use openai:MODEL@http://host:port/v1"
            )

    def describe(self) -> dict:
        """What a run must record to be repeated: model, revision, precision, device, versions."""
        return {
            "model": self.id,
            "backend": "transformers",
            "prompt_format": self.prompt_format,
            "revision": self.revision,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "context": self.context,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def render(self, messages: Messages) -> str:
        """The prompt string of a chat; the system text is in it, or ``UserError``."""
        return rendering.render(self.tokenizer, messages)

    def generate(self, chats: Sequence[Messages], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """Answer each chat.

        An answer depends on its prompt, ``sampling`` and its seed; what shares its batch changes
        it only where floating-point rounding tips a near-tie.

        Raises
        ------
        UserError
            A prompt that fills the context window, or a single request that memory cannot hold.
        """
        prompts = self._encode([self.render(chat) for chat in chats])
        same: dict[tuple, list[int]] = {}  # the same prompt and seed have the same answer
        for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            same.setdefault((prompt.tobytes(), seed if sampling.temperature else 0), []).append(i)
        requests = []
        for (_, seed), indices in same.items():
            prompt = prompts[indices[0]]
            limit = min(sampling.max_tokens, self.context - len(prompt))
            requests.append(Request(indices, prompt, limit, uniforms(seed, limit)))
        # Neighbours have about the same length and share prefixes.
        requests.sort(key=lambda r: (len(r.prompt).bit_length(), r.prompt.astype(">u4").tobytes()))
        answers: dict[int, Generation] = {}
        self._within_memory(lambda: self._decode(requests, sampling, answers))
        return [answers[i] for i in range(len(prompts))]

    def choose(self, chats: Sequence[Messages], choices: Sequence[str] | Sequence[list[str]]) -> list[np.ndarray]:
        """Log-probability of each choice as the words right after the generation prompt.

        Parameters
        ----------
        chats : the prompts.
        choices : one list of strings for all chats, or a list of them for each.

        Returns
        -------
        One array per chat, in the order of its choices: natural-log probabilities summed over a
        choice's tokens, given the prompt (normalised over neither choices nor length).
        """
        each = [choices] * len(chats) if choices and isinstance(choices[0], str) else choices
        rendered = [self.render(chat) for chat in chats]
        prompts = self._encode(rendered)
        continuations = self._continuations(rendered, each)
        # A choice's last token is predicted but never read, so choices of one token add nothing.
        sequences, starts, targets = [], [], []
        for prompt, endings in zip(prompts, continuations, strict=True):
            for ending in endings:
                sequences.append(np.append(prompt, ending[:-1]) if len(ending) > 1 else prompt)
                starts.append(len(prompt) - 1)
                targets.append(ending)
        scores = np.empty(len(sequences))
        self._within_memory(lambda: self._score(sequences, starts, targets, scores))
        return np.split(scores, np.cumsum([len(endings) for endings in continuations])[:-1])

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        """Token ids, without the special tokens that the chat template has already written (T9)."""
        ids = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        longest = max(map(len, ids), default=0)
        if longest >= self.context:
            raise UserError(
                f"model {self.id}: a prompt of {longest:,} tokens does not fit the context window "
                f"of {self.context:,}; shorten the prompt or use a model with a longer context"
            )
        return [np.array(tokens, dtype=np.int64) for tokens in ids]

    def _continuations(self, prompts: list[str], choices: Sequence[Sequence[str]]) -> list[list[np.ndarray]]:
        """Token ids of each choice as they follow its prompt.

        Tokenizers split a text at special tokens first, so what stands before the last of them
        (in a chat template, all but "assistant") does not matter and is left out.
        """
        special = [str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        tails = [prompt[max([0, *(prompt.rfind(token) for token in special)]) :] for prompt in prompts]
        known: dict[tuple[str, str], np.ndarray] = {}
        for tail, endings in zip(tails, choices, strict=True):
            for ending in endings:
                if (tail, ending) not in known:
                    known[tail, ending] = self._continuation(tail, ending)
        return [[known[tail, ending] for ending in endings] for tail, endings in zip(tails, choices, strict=True)]

    def _continuation(self, tail: str, choice: str) -> np.ndarray:
        def ids(text: str) -> list[int]:
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]

        before, whole = ids(tail), ids(tail + choice)
        # If the choice merges with the prompt's last token, it is taken by itself: the model
        # continues the prompt's tokens as they are.
        ending = whole[len(before) :] if whole[: len(before)] == before else ids(choice)
        if not ending:
            raise UserError(f"choice {choice!r} is empty: it has no probability")
        return np.array(ending, dtype=np.int64)

    def _score(self, sequences: list, starts: list[int], targets: list, scores: np.ndarray) -> None:
        for pack, logits, rows, _ in self._packs(sequences, starts):
            logits = logits.float()
            normaliser = logits.logsumexp(-1)
            ends = np.cumsum([len(targets[member]) for member in pack.members])
            at = torch.from_numpy(np.concatenate(rows)).to(self.device)
            wanted = torch.from_numpy(np.concatenate([targets[member] for member in pack.members])).to(self.device)
            log_probability = (logits[at, wanted] - normaliser[at]).double().cpu().numpy()
            scores[pack.members] = np.add.reduceat(log_probability, np.append(0, ends[:-1]))

    def _decode(self, requests: list[Request], sampling: Sampling, answers: dict[int, Generation]) -> None:
        """Answer the requests not in ``answers`` yet."""
        pending = deque(request for request in requests if request.indices[0] not in answers)
        batch = Batch.of([], sampling.max_tokens, self.device)
        while True:
            self._collect(batch, answers)
            admitted = self._admit(pending, batch)
            if not admitted and batch.done.all():
                return
            batch = batch.merged(Batch.of(admitted, sampling.max_tokens, self.device))
            self._prefill(batch, len(batch.requests) - len(admitted), sampling)
            self._run_steps(batch, sampling)

    def _collect(self, batch: Batch, answers: dict[int, Generation]) -> None:
        """Put the finished rows' answers into ``answers``."""
        eos = set(self._eos.tolist())
        for row in batch.done.nonzero().squeeze(-1).tolist():
            request = batch.requests[row]
            tokens = batch.tokens[row, : int(batch.count[row])].tolist()
            text = self.tokenizer.decode(tokens, skip_special_tokens=True)
            ended = tokens[-1] in eos
            if self.prompt_format == "base":
                text, next_question, _ = text.partition(rendering.BASE_STOP)
                ended = ended or bool(next_question)
            reason = "stop" if ended else "length"
            seconds = time.perf_counter() - request.started
            answer = Generation(text, reason, len(request.prompt), len(tokens), seconds)
            answers.update(dict.fromkeys(request.indices, answer))

    def _admit(self, pending: deque, batch: Batch) -> list[Request]:
        """Take requests while rows and cache columns are left."""
        going = (~batch.done).nonzero().squeeze(-1)
        width, admitted = batch.used - int(batch.first[going].min()) if len(going) else 0, []
        while pending:
            rows = len(going) + len(admitted) + 1
            wider = max(width, len(pending[0].prompt))
            if rows > 1 and (rows > self.rows or rows * (wider + HEADROOM) > self.columns):
                break
            width = wider
            admitted.append(pending.popleft())
        return admitted

    def _prefill(self, batch: Batch, start: int, sampling: Sampling) -> None:
        """Compute the prompts of the rows from ``start`` on, and draw their first tokens."""
        prompts = [request.prompt for request in batch.requests[start:]]
        for pack, logits, at, cache in self._packs(prompts, [len(prompt) - 1 for prompt in prompts]):
            rows = [start + member for member in pack.members]
            batch.fill(rows, pack.paths, cache)
            batch.append(torch.tensor(rows, device=self.device), logits[np.concatenate(at)], sampling, self._eos)

    def _run_steps(self, batch: Batch, sampling: Sampling) -> None:
        """Decode until a quarter of the rows are done or the spare columns are used up."""
        cache = Cache(layers=batch.layers)
        columns = torch.arange(batch.layers[0].keys.shape[2], device=self.device)
        while int(batch.done.sum()) < max(1, len(batch.requests) // 4) and batch.used < len(columns):
            last = batch.tokens.gather(1, (batch.count - 1)[:, None])
            seen = columns[: batch.used + 1]
            visible = (seen >= batch.first[:, None])[:, None, None]
            mask = self._mask(visible, batch.used, seen)  # columns differ as positions in a row do
            logits = self._forward(last, (batch.used - batch.first)[:, None], mask, cache, 1)
            batch.used += 1
            batch.append(slice(None), logits[:, -1], sampling, self._eos)

    def _packs(self, sequences: list[np.ndarray], starts: list[int]) -> Iterator[tuple]:
        """Run each pack of the prefix tree.

        Yields (pack, logits (n, vocabulary), rows, cache): ``rows`` holds, for each member, the
        rows of ``logits`` after its positions from ``starts`` on.
        """
        states = []
        for pack in trie.packs(sequences, starts, self.pack):
            carried = torch.from_numpy(pack.carried).to(self.device)
            cache = DynamicCache([(keys[:, :, carried], values[:, :, carried]) for keys, values in states] or None)
            reads = [path[starts[member] :] for member, path in zip(pack.members, pack.paths, strict=True)]
            kept, rows = np.unique(np.concatenate(reads), return_inverse=True)
            keep = torch.from_numpy(kept - len(carried)).to(self.device)
            depths = torch.tensor(pack.depths, device=self.device)
            columns = torch.arange(len(depths), device=self.device)
            queries = columns[len(carried) :, None]
            visible = (columns <= queries) & (queries < torch.from_numpy(pack.ends).to(self.device))
            mask = self._mask(visible[None, None], depths[len(carried) :, None], depths)
            tokens = torch.tensor([pack.tokens], device=self.device)
            logits = self._forward(tokens, depths[None, len(carried) :], mask, cache, keep)[0]
            states = [(layer.keys, layer.values) for layer in cache.layers]
            yield pack, logits, np.split(rows, np.cumsum([len(read) for read in reads])[:-1]), cache

    @torch.inference_mode()
    def _packs_well(self) -> bool:
        """Whether packed prompts give the logits of plain ones (not so in recurrent layers, ALiBi …)."""
        if not set(self._windows) <= {"full_attention", "sliding_attention"}:
            return False
        sequences = [np.array([1, 2, 3, 4, 5]), np.array([1, 2, 3, 6, 7, 8])]
        try:
            pack, packed, rows, _ = next(self._packs(sequences, [len(sequence) - 1 for sequence in sequences]))
        except (AttributeError, NotImplementedError, TypeError, ValueError):
            return False
        for member, (row,) in zip(pack.members, rows, strict=True):
            plain = self.model(torch.from_numpy(sequences[member])[None].to(self.device)).logits[0, -1]
            if (packed[row] - plain).abs().mean() > 0.05 * plain.std():
                return False
        return True

    def _mask(self, visible: torch.Tensor, queries, keys: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """Additive attention mask (rows, 1, queries, keys), one per kind of layer where they differ.

        ``queries`` and ``keys`` are positions: a sliding window also hides what is too far back.
        """
        masks = {}
        for kind, window in self._windows.items():
            allowed = visible if window is None else visible & (queries - keys < window)
            nothing = torch.zeros(allowed.shape, dtype=self.model.dtype, device=self.device)
            masks[kind] = nothing.masked_fill_(~allowed, torch.finfo(self.model.dtype).min)
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _forward(self, tokens: torch.Tensor, positions: torch.Tensor, mask, cache: Cache, keep) -> torch.Tensor:
        """Logits at the positions ``keep`` only: (rows, kept, vocabulary)."""
        return self.model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        ).logits

    def _within_memory(self, work: Callable[[], None]) -> None:
        """Run ``work``, with batches half the size each time memory runs out."""
        while True:
            try:
                with torch.inference_mode():
                    return work()
            except (torch.OutOfMemoryError, MemoryError) as error:
                if self.rows == 1:
                    raise UserError(
                        f"model {self.id}: one request at a time does not fit the memory of {self.device}; "
                        "use a smaller model or dtype, shorter prompts, or a server"
                    ) from error
            # Outside the handler, which keeps the failed batch alive.
            self.rows, self.pack, self.columns = self.rows // 2, max(64, self.pack // 2), self.columns // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
