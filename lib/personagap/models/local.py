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

#: Prompts whose rendering is remembered: of several conditions, counted first, then asked, weighed.
RENDERED = 2**15


class LocalModel(Packed):
    """A causal language model run by transformers, with its real chat template.

    Parameters
    ----------
    source : local folder or Hub name.
    name : what result tables call it.
    device, dtype, prompt_format : of ``models.load_model``.
    revision : branch, tag or commit of a Hub model, or what a folder is known by.
    about : what else a run must record of it.

    Attributes
    ----------
    continues : True; an answer that a chat has begun is continued.
    id, commit : name; commit of a Hub model, hash of a folder's configuration and weights, or of
        a GGUF file.
    revision : that, and the precision where it is not float32.
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
        # Near ties fall otherwise in another precision: its answers are stored apart.
        precision = str(model.dtype).removeprefix("torch.")
        self.revision = self.commit if precision == "float32" else f"{self.commit}, {precision}"
        with explained(f"model {name}: cannot be used", "replace it with the full folder"):
            super().__init__(model, name)
            ends = loading.eos_ids(self.tokenizer, self.model)
            self._eos = torch.tensor(ends, device=self.device)
        self._tags = tags_of(self.tokenizer)
        self.prompt_format, own = prompt_format, self.tokenizer.chat_template
        self.tokenizer.chat_template = rendering.FORMATS.get(prompt_format, own)
        self.context = getattr(self.config, "max_position_embeddings", None) or 2**31

    def describe(self) -> dict:
        """What a run must record to be repeated, from the revision to the template's words."""
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
        """The same model, asked in another of ``rendering.FORMATS``."""
        other = copy.copy(self)
        other.prompt_format, other.tokenizer = prompt_format, copy.deepcopy(self.tokenizer)
        other._rendered = {}
        other.tokenizer.chat_template = rendering.FORMATS[prompt_format]
        return other

    def render(self, messages: Messages) -> str:
        """The prompt string of a chat; the system text is in it, or ``UserError``."""
        # A template costs a small model as much as its answer, and is asked for several times.
        turns = tuple(tuple(message.items()) for message in messages)
        if turns not in self._rendered:
            if len(self._rendered) == RENDERED:
                self._rendered.clear()
            self._rendered[turns] = rendering.render(self.tokenizer, messages)
        return self._rendered[turns]

    def generate(
        self, chats: Chats, sampling: Sampling, seeds: Sequence[int], keep: Keep = None
    ) -> list[Generation]:
        """Answer each chat, and tell ``keep(i, answer)`` of each as it comes.

        An answer depends on its prompt, ``sampling`` and its seed; what shares its batch changes it
        only where floating-point rounding tips a near-tie (rare in float32, less so in bfloat16).
        ``UserError`` for a prompt that fills the context window, or a single request that memory
        cannot hold.
        """
        same: dict[tuple, list[int]] = {}  # the same prompt and seed have the same answer
        for i, (chat, seed) in enumerate(zip(chats, seeds, strict=True)):
            same.setdefault((self.render(chat), seed if sampling.temperature else 0), []).append(i)
        texts = list(dict.fromkeys(prompt for prompt, _ in same))
        tokens = dict(zip(texts, self._encode(texts), strict=True))
        requests = [Request(indices, tokens[text], seed) for (text, seed), indices in same.items()]
        for request in requests:
            request.limit = min(sampling.max_tokens, self.context - len(request.prompt))
        # Neighbours have about the same length and share prefixes.
        requests.sort(key=lambda r: (len(r.prompt).bit_length(), r.prompt.astype(">u4").tobytes()))
        answers: dict[int, Generation] = {}
        self._within_memory(lambda: self._decode(requests, sampling, answers, keep or _ignore))
        return [answers[i] for i in range(len(chats))]

    def choose(self, chats: Chats, choices: Choices, keep: Keep = None) -> list[np.ndarray]:
        """Log-probability of each choice as the words right after the generation prompt.

        Parameters
        ----------
        chats : the prompts.
        choices : one list of strings for all chats, or a list of them for each.
        keep : ``keep(i, array)`` is told of each chat's as it comes.

        Returns
        -------
        One array per chat, in the order of its choices: natural-log probabilities summed over a
        choice's tokens, given the prompt (normalised over neither choices nor length).
        """
        each: Any = [choices] * len(chats) if choices and isinstance(choices[0], str) else choices
        rendered = [self.render(chat) for chat in chats]
        continuations = self._continuations(rendered, each)
        both = zip(self._encode(rendered), continuations, strict=True)
        pairs = [(prompt, ending) for prompt, endings in both for ending in endings]
        scores, sizes = np.full(len(pairs), np.nan), list(map(len, continuations))
        parts = np.split(scores, np.cumsum(sizes, dtype=int))[:-1]  # views: filled as ``scores`` is
        chat_of = np.repeat(np.arange(len(sizes)), sizes)

        def scored(members: list[int]) -> None:
            assert keep is not None  # or it is not called
            for chat in set(chat_of[members]):
                if not np.isnan(parts[chat]).any():
                    keep(int(chat), parts[chat])

        self._within_memory(lambda: self._score(pairs, scores, scored if keep else _ignore))
        return parts

    def hidden_states(self, chats: Chats, depth: float) -> np.ndarray:
        """What the model holds at each prompt's last token, after the share ``depth`` of its
        layers: (chats, hidden size) float32.
        """
        return self._states(self._encode([self.render(chat) for chat in chats]), depth)

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        """Token ids, without the special tokens that the chat template has already written (S9)."""
        if not texts:  # of which a tokenizer makes an IndexError
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
        """Token ids of each choice as they follow its prompt.

        Tokenizers split a text at special tokens first, so what stands before the last of them (in
        a chat template, all but "assistant") does not matter and is left out.
        """
        # Each prompt whole would be tokenised once more for each choice.
        added = self.tokenizer.added_tokens_decoder.values()
        special = [str(token) for token in added if token.special]
        tails = [prompt[max([0, *map(prompt.rfind, special)]) :] for prompt in prompts]
        known = functools.cache(self._continuation)
        pairs = zip(tails, choices, strict=True)
        return [[known(tail, ending) for ending in endings] for tail, endings in pairs]

    def _continuation(self, tail: str, choice: str) -> np.ndarray:
        def ids(text: str) -> list[int]:
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]

        before, whole = ids(tail), ids(tail + choice)
        # A choice that merges with the prompt's last token is taken by itself: the model continues
        # what is there.
        ending = whole[len(before) :] if whole[: len(before)] == before else ids(choice)
        if not ending:
            raise UserError(f"choice {choice!r} is empty: it has no probability")
        return np.array(ending, dtype=np.int64)

    def _score(
        self, pairs: list[tuple[np.ndarray, np.ndarray]], scores: np.ndarray, scored: Callable
    ) -> None:
        """Put each ending's log-probability into ``scores``, and tell ``scored`` of which."""
        # An ending's last token is predicted but never read, so endings of one token add nothing.
        sequences = [np.append(prompt, ending[:-1]) for prompt, ending in pairs]
        starts = [len(prompt) - 1 for prompt, _ in pairs]
        for pack, logits, rows, _ in self._packs(sequences, starts):
            logits = logits.float()  # a sum over the vocabulary loses whole digits in bfloat16
            normaliser = logits.logsumexp(-1)
            raise_if_nan(normaliser)
            endings = [pairs[member][1] for member in pack.members]
            at = torch.from_numpy(np.concatenate(rows)).to(self.device)
            wanted = torch.from_numpy(np.concatenate(endings)).to(self.device)
            log_probability = (logits[at, wanted] - normaliser[at]).double().cpu().numpy()
            first = np.cumsum([0, *map(len, endings[:-1])])
            scores[pack.members] = np.add.reduceat(log_probability, first)
            scored(pack.members)

    def _decode(
        self,
        requests: list[Request],
        sampling: Sampling,
        answers: dict[int, Generation],
        keep: Callable,
    ) -> None:
        """Answer the requests not in ``answers`` yet."""
        # Some are there already where memory ran out and this is the second try.
        rest = [request for request in requests if request.indices[0] not in answers]
        batch = Batch(rest, self.device)
        while True:
            new = batch.renew(self.rows, self.columns)
            if not len(batch.going):
                return
            self._prefill(batch, new, sampling)
            self._run_steps(batch, sampling, lambda: self._collect(batch, answers, keep))

    def _collect(self, batch: Batch, answers: dict[int, Generation], keep: Callable) -> int:
        """Put finished rows' answers into ``answers``, and tell ``keep``; how many are finished."""
        finished = batch.finished()
        new = [number for number in finished if batch.requests[number].indices[0] not in answers]
        eos = set(self._eos.tolist()) if new else ()
        sizes = batch.count[new].tolist()
        rows = batch.tokens[new, : max(sizes, default=0)].tolist()
        for number, row, size in zip(new, rows, sizes, strict=True):
            request, tokens = batch.requests[number], row[:size]
            text = decoded(self.tokenizer, tokens, self._tags)
            ended = tokens[-1] in eos
            # It knows no end of a turn, and goes on with a question of its own.
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
        """Compute the prompts of the requests ``new``, the last rows; draw their first tokens."""
        heads = itertools.compress(new, batch.heads(new))
        prompts = [batch.requests[number].prompt for number in heads]
        last = [len(prompt) - 1 for prompt in prompts]
        for pack, logits, at, states in self._packs(prompts, last):
            # Here, and not at each step, where a GPU would have to wait for the answer.
            raise_if_nan(logits)
            rows = torch.tensor(pack.members, device=self.device) + len(batch.of_row) - len(prompts)
            batch.fill(rows, pack.paths, states)
            which, member = (batch.row[:, None] == rows).nonzero(as_tuple=True)
            drawn = logits[np.concatenate(at)][member]
            batch.append(batch.going[which], drawn, sampling, self._eos)

    def _run_steps(self, batch: Batch, sampling: Sampling, collect: Callable[[], int]) -> None:
        """Decode until a quarter of the rows are done or the columns are used up."""
        cache = Cache(layers=[*batch.layers])
        # Renewing a batch copies its cache: done for each row that ends, it would take most time.
        while collect() < max(1, len(batch.going) // 4) and batch.width < batch.columns:
            tokens, at = batch.step()
            columns = torch.arange(batch.width, device=self.device)
            mask = self._mask((columns <= at)[:, None, None], at[:, None, None], columns)
            logits = self._forward(tokens, at, mask, cache, 1)
            batch.append(batch.going, logits[batch.row, -1], sampling, self._eos)


def _ignore(*told: object) -> None:
    """Where nobody wants to be told."""
