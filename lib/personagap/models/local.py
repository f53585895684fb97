"""Models in process, through transformers."""

import copy
import functools
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from transformers.cache_utils import Cache

from personagap.errors import UserError, explained
from personagap.models import Chats, Choices, Generation, Keep, Sampling, loading, rendering
from personagap.models.answers import decoded, tags_of
from personagap.models.decoding import Batch, Request, raise_if_nan
from personagap.models.packed import Packed
from personagap.models.rendering import Messages

#: Number of cached prompts: those of several conditions, each of which is needed several times.
MAX_RENDERED = 2**15


class LocalModel(Packed):
    """A causal language model run by transformers, with its real chat template.

    Parameters
    ----------
    source : local folder or Hub name.
    name : name in result tables.
    device, dtype, prompt_format : as in ``models.load_model``.
    revision : branch, tag or commit of a Hub model, or an identifier for a folder.
    about : further information that a run must record.

    Attributes
    ----------
    continues : True: an answer that a chat has begun is continued.
    id, commit : name; commit of a Hub model, hash of a folder's configuration and weights, or
        hash of a GGUF file.
    revision : the commit, and the precision if it is not float32.
    """

    continues = True

    def __init__(
        self,
        source: str,
        name: str,
        device: str,
        dtype: str,
        prompt_format: str,
        revision: str | None = None,
        about: dict[str, str] | None = None,
    ):
        self._about = about or {}
        self._rendered: dict[tuple, str] = {}
        self.tokenizer, model, self.commit = loading.load(source, name, device, dtype, revision)
        # Near ties are decided differently in another precision: answers are stored separately.
        precision = str(model.dtype).removeprefix("torch.")
        self.revision = self.commit if precision == "float32" else f"{self.commit}, {precision}"
        with explained(f"model {name}: cannot be used", "replace it with the full folder"):
            super().__init__(model, name)
            ends = loading.eos_ids(self.tokenizer, self.model)
            self._eos = torch.tensor(ends, device=self.device)
        self._tags = tags_of(self.tokenizer)
        self.prompt_format, template = prompt_format, self.tokenizer.chat_template
        self.tokenizer.chat_template = rendering.FORMATS.get(prompt_format, template)
        self.context = getattr(self.config, "max_position_embeddings", None) or 2**31

    def describe(self) -> dict:
        """Return what a run must record so that it can be repeated."""
        on_gpu = self.device.type == "cuda"
        return {
            "model": self.id,
            **self._about,
            "backend": "transformers",
            "prompt_format": self.prompt_format,
            "revision": self.revision,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": torch.cuda.get_device_name(self.device) if on_gpu else self.device.type,
            "parameters": self.model.num_parameters(),
            "context": self.context,
            **rendering.describe(self.tokenizer),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def formatted(self, prompt_format: str) -> "LocalModel":
        """Return the same model with another prompt format of ``rendering.FORMATS``."""
        other = copy.copy(self)
        other.prompt_format, other.tokenizer = prompt_format, copy.deepcopy(self.tokenizer)
        other._rendered = {}
        other.tokenizer.chat_template = rendering.FORMATS[prompt_format]
        return other

    def render(self, messages: Messages) -> str:
        """Return the prompt of a chat; ``UserError`` if it would lack the system text."""
        # Cached, since rendering a prompt can take as long as a small model's answer.
        turns = tuple(tuple(message.items()) for message in messages)
        if turns not in self._rendered:
            if len(self._rendered) == MAX_RENDERED:
                self._rendered.clear()
            self._rendered[turns] = rendering.render(self.tokenizer, messages)
        return self._rendered[turns]

    def generate(
        self, chats: Chats, sampling: Sampling, seeds: Sequence[int], keep: Keep = None
    ) -> list[Generation]:
        """Return an answer to each chat, and call ``keep(i, answer)`` as each is finished.

        An answer depends on its prompt, ``sampling`` and its seed. The rest of its batch changes it
        only where floating-point rounding decides a near-tie (rare in float32, less so in
        bfloat16). ``UserError`` for a prompt that fills the context window, or a single request
        that does not fit into memory.
        """
        # Chats with the same prompt and seed have the same answer.
        indices: dict[tuple[str, int], list[int]] = {}
        for i, (chat, seed) in enumerate(zip(chats, seeds, strict=True)):
            key = self.render(chat), seed if sampling.temperature else 0
            indices.setdefault(key, []).append(i)
        texts = list(dict.fromkeys(text for text, _ in indices))
        tokens = dict(zip(texts, self._encode(texts), strict=True))
        requests = [Request(chats_of, tokens[text], s) for (text, s), chats_of in indices.items()]
        for request in requests:
            request.limit = min(sampling.max_tokens, self.context - len(request.prompt))
        # Sorted, so that neighbours have similar lengths and share prefixes.
        requests.sort(key=lambda r: (len(r.prompt).bit_length(), r.prompt.astype(">u4").tobytes()))
        answers: dict[int, Generation] = {}
        self._within_memory(lambda: self._decode(requests, sampling, answers, keep or _ignore))
        return [answers[i] for i in range(len(chats))]

    def choose(self, chats: Chats, choices: Choices, keep: Keep = None) -> list[np.ndarray]:
        """Return the log-probability of each choice directly after the generation prompt.

        Parameters
        ----------
        chats : the prompts.
        choices : one list of strings for all chats, or one list per chat.
        keep : ``keep(i, array)`` is called as each chat's array is finished.

        Returns
        -------
        One array per chat, in the order of its choices: natural-log probabilities summed over the
        tokens of a choice, given the prompt (normalised neither over choices nor by length).
        """
        lists: Any = [choices] * len(chats) if choices and isinstance(choices[0], str) else choices
        rendered = [self.render(chat) for chat in chats]
        continuations = self._continuations(rendered, lists)
        prompts = zip(self._encode(rendered), continuations, strict=True)
        pairs = [(prompt, ending) for prompt, endings in prompts for ending in endings]
        scores, sizes = np.full(len(pairs), np.nan), list(map(len, continuations))
        parts = np.split(scores, np.cumsum(sizes, dtype=int))[:-1]  # views of ``scores``
        chat_of = np.repeat(np.arange(len(sizes)), sizes)

        def update(members: list[int]) -> None:
            assert keep is not None  # otherwise it is not called
            for chat in set(chat_of[members]):
                if not np.isnan(parts[chat]).any():
                    keep(int(chat), parts[chat])

        self._within_memory(lambda: self._score(pairs, scores, update if keep else _ignore))
        return parts

    def hidden_states(self, chats: Chats, depth: float) -> np.ndarray:
        """Return the hidden state at each prompt's last token, after the share ``depth`` of the
        layers: (chats, hidden size) float32.
        """
        return self._states(self._encode([self.render(chat) for chat in chats]), depth)

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        """Return token ids; the chat template has already written the special tokens (S9)."""
        if not texts:  # an IndexError in tokenizers
            return []
        ids = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        if (longest := max(map(len, ids))) >= self.context:
            raise UserError(
                f"model {self.id}: a prompt of {longest:,} tokens does not fit the context window "
                f"of {self.context:,}; shorten the prompt or use a model with a longer context"
            )
        return [np.array(tokens, dtype=np.int64) for tokens in ids]

    def _continuations(
        self, prompts: list[str], choices: Sequence[Sequence[str]]
    ) -> list[list[np.ndarray]]:
        """Return the token ids of each choice after its prompt.

        Tokenizers split a text at special tokens first, so that text before the last of them (in
        a chat template, everything but "assistant") does not matter.
        """
        # Tokenising the full prompt again with each choice would be slow.
        added = self.tokenizer.added_tokens_decoder.values()
        special = [str(token) for token in added if token.special]
        tails = [prompt[max([0, *map(prompt.rfind, special)]) :] for prompt in prompts]
        encode = functools.cache(self._continuation)
        pairs = zip(tails, choices, strict=True)
        return [[encode(tail, ending) for ending in endings] for tail, endings in pairs]

    def _continuation(self, tail: str, choice: str) -> np.ndarray:
        def ids(text: str) -> list[int]:
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]

        before, joined = ids(tail), ids(tail + choice)
        # If the choice merges with the last token of the prompt, it is tokenised alone, since the
        # model continues the prompt as it is.
        ending = joined[len(before) :] if joined[: len(before)] == before else ids(choice)
        if not ending:
            raise UserError(f"choice {choice!r} is empty: it has no probability")
        return np.array(ending, dtype=np.int64)

    def _score(
        self, pairs: list[tuple[np.ndarray, np.ndarray]], scores: np.ndarray, update: Callable
    ) -> None:
        """Write the log-probabilities of endings to ``scores``; tell ``update`` which are done."""
        # The last token of an ending is predicted but not read: endings of one token cost nothing.
        sequences = [np.append(prompt, ending[:-1]) for prompt, ending in pairs]
        starts = [len(prompt) - 1 for prompt, _ in pairs]
        for pack, logits, rows, _ in self._packs(sequences, starts):
            logits = logits.float()  # a sum over the vocabulary would lose digits in bfloat16
            normaliser = logits.logsumexp(-1)
            raise_if_nan(normaliser)
            endings = [pairs[member][1] for member in pack.members]
            at = torch.from_numpy(np.concatenate(rows)).to(self.device)
            wanted = torch.from_numpy(np.concatenate(endings)).to(self.device)
            log_probability = (logits[at, wanted] - normaliser[at]).double().cpu().numpy()
            first = np.cumsum([0, *map(len, endings[:-1])])
            scores[pack.members] = np.add.reduceat(log_probability, first)
            update(pack.members)

    def _decode(
        self,
        requests: list[Request],
        sampling: Sampling,
        answers: dict[int, Generation],
        keep: Callable,
    ) -> None:
        """Answer the requests that are not in ``answers`` yet."""
        # Some are, if memory ran out in an earlier attempt.
        rest = [request for request in requests if request.indices[0] not in answers]
        batch = Batch(rest, self.device)
        while True:
            new = batch.renew(self.rows, self.columns)
            if not len(batch.going):
                return
            self._prefill(batch, new, sampling)
            self._run_steps(batch, sampling, lambda: self._collect(batch, answers, keep))

    def _collect(self, batch: Batch, answers: dict[int, Generation], keep: Callable) -> int:
        """Store new answers, call ``keep`` with each, and return how many requests are finished."""
        finished = batch.finished()
        new = [number for number in finished if batch.requests[number].indices[0] not in answers]
        eos = set(self._eos.tolist()) if new else ()
        sizes = batch.count[new].tolist()
        rows = batch.tokens[new, : max(sizes, default=0)].tolist()
        for number, row, size in zip(new, rows, sizes, strict=True):
            request, tokens = batch.requests[number], row[:size]
            text, ended = decoded(self.tokenizer, tokens, self._tags), tokens[-1] in eos
            # A base model does not end its turn, but continues with another question.
            if self.prompt_format == "base":
                text, next_question, _ = text.partition(rendering.BASE_STOP)
                ended = ended or bool(next_question)
            reason = "stop" if ended else "length"
            seconds = time.perf_counter() - request.started
            answer = Generation(text, reason, len(request.prompt), len(tokens), seconds)
            for index in request.indices:
                answers[index] = answer
                keep(index, answer)
        return len(finished)

    def _prefill(self, batch: Batch, new: list[int], sampling: Sampling) -> None:
        """Compute the prompts of ``new`` requests, in the last rows; draw their first tokens."""
        heads = itertools.compress(new, batch.heads(new))
        prompts = [batch.requests[number].prompt for number in heads]
        last = [len(prompt) - 1 for prompt in prompts]
        for pack, logits, at, states in self._packs(prompts, last):
            # Checked here and not at each step, since the check makes a GPU wait.
            raise_if_nan(logits)
            rows = torch.tensor(pack.members, device=self.device) + len(batch.of_row) - len(prompts)
            batch.fill(rows, pack.paths, states)
            which, member = (batch.row[:, None] == rows).nonzero(as_tuple=True)
            drawn = logits[np.concatenate(at)][member]
            batch.append(batch.going[which], drawn, sampling, self._eos)

    def _run_steps(self, batch: Batch, sampling: Sampling, collect: Callable[[], int]) -> None:
        """Decode until a quarter of the requests are finished or the columns are used up."""
        cache = Cache(layers=[*batch.layers])
        # Renewing a batch copies its cache, which would take too long after every finished request.
        while collect() < max(1, len(batch.going) // 4) and batch.width < batch.columns:
            tokens, at = batch.step()
            columns = torch.arange(batch.width, device=self.device)
            mask = self._mask((columns <= at)[:, None, None], at[:, None, None], columns)
            logits = self._forward(tokens, at, mask, cache, 1)
            batch.append(batch.going, logits[batch.row, -1], sampling, self._eos)


def _ignore(*arguments: object) -> None:
    """Do nothing; the callback where none is given."""
