"""Models behind an OpenAI-compatible server (vLLM, ``transformers serve``, llama.cpp, the API)."""

import functools
import json
import threading
import time
from collections.abc import Sequence

import numpy as np
import openai

from personagap.errors import UserError
from personagap.models import Chats, Choices, Generation, Keep, Sampling, probing, replies
from personagap.models.connection import Connection
from personagap.models.rendering import Messages, fold_system
from personagap.models.replies import Failure

INSTEAD = "ask with generate and extract the choice from the text instead"
#: Fields by which a server (vLLM, SGLang) goes on with an answer that the chat has begun.
CONTINUE = {"add_generation_prompt": False, "continue_final_message": True}


class ServerModel:
    """A model on an OpenAI-compatible server, or several, asked through chat completions.

    Parameters
    ----------
    model : name under which the server serves it; ``id``.
    url : base address, such as "http://localhost:8000/v1"; ``revision``, as a server does not tell
        that of its weights. Of several, separated by commas, each takes the next request as it is
        done with one; if one is lost, the others go on.
    patience : seconds for which a server that stops answering is waited for.

    ``UserError`` if a server is unreachable, refuses the key, or does not serve ``model``; or if
    several differ in the models that they serve, or in what they understand.
    """

    def __init__(self, model: str, url: str, patience: float):
        # In one order, since answers are stored under it.
        urls = sorted({each.strip() for each in url.split(",")})
        self.id, self.revision = model, ",".join(urls)
        # Why a request first failed for good.
        self.failure: str | None = None
        self._told: int | None = None
        self._trying = threading.Lock()
        lines = [Connection(model, each, patience) for each in urls]
        served = [line.served() for line in lines]
        # Answers of all of them are stored as of one model, and a run resumes with any: so that
        # what is asked must not depend on who answers.
        lists = {tuple(sorted(names)) for names in served if names}
        if len(lists) > 1 and not all(model in names for names in lists):
            pairs = zip(lines, map(", ".join, served), strict=True)
            each = "; ".join(f"{line.url}: {names}" for line, names in pairs)
            raise UserError(f"servers {self.revision}: they serve different models ({each})")
        dialects = [_dialect(line, names) for line, names in zip(lines, served, strict=True)]
        self._connection, self._dialect = lines[0], dialects[0]
        for line, dialect in zip(lines[1:], dialects[1:], strict=True):
            if differing := self._dialect.differing(dialect):
                remedy = "ask each by itself"
                raise UserError(f"servers {self.revision}: they differ in {differing}: {remedy}")
            self._connection.join(line)

    def describe(self) -> dict:
        """What a run must record: model, server, and what the server was found to understand."""
        try:
            told = self._likeliest({"messages": probing.PROBE} | self._first)
        except Failure:
            told = 0
        return {
            "model": self.id,
            "backend": "openai",
            "revision": None,
            "server": self.revision,
            **self._dialect.found,
            "logprobs": f"of the {told} likeliest tokens" if told else "not given",
            "default_system_prompt": self._default_system_prompt,
            "patience": f"{self._connection.patience:g} s",
            "openai": openai.__version__,
        }

    @functools.cached_property
    def continues(self) -> bool:
        """Whether an answer that a chat has begun is continued: then its turn is not ended, which
        saves tokens.
        """
        begun = [*probing.PROBE, {"role": "assistant", "content": "The answer is ("}]
        try:
            return 0 < self._prompt_tokens(*begun, **CONTINUE) < self._prompt_tokens(*begun)
        except Failure as error:
            if not probing.declined(error):
                raise UserError(f"server {self.revision}: {error}: run again") from error
            return False

    def render(self, messages: Messages) -> str:
        """The messages as they are sent, in JSON: the server applies the chat template."""
        return json.dumps(self._messages(messages), ensure_ascii=False)

    def generate(
        self, chats: Chats, sampling: Sampling, seeds: Sequence[int], keep: Keep = None
    ) -> list[Generation]:
        """Answer each chat, and tell ``keep(i, answer)`` of each as it comes, from this thread.

        A request that fails for good has ``finish_reason`` "error" and no text. ``UserError`` for
        sampling that the server does not do, if it refuses every request (a revoked key …), or if
        it stops answering for longer than the patience with it.
        """
        # What the server refuses of it is told before anything is asked.
        self._dialect.fields(sampling)
        refusals: list[Failure] = []

        def answer(chat: Messages, seed: int) -> Generation:
            start = time.perf_counter()
            try:
                asked = {"messages": self._messages(chat)} | self._dialect.fields(sampling, seed)
                reply = self._connection.complete(asked)
            except Failure as error:
                if error.filtered:
                    # A prompt that a filter stops: an outcome, no failure.
                    return Generation("", "content_filter", None, 0, time.perf_counter() - start)
                self.failure = self.failure or str(error)
                if error.status and not error.passes:
                    refusals.append(error)
                return Generation(None, "error", None, None, time.perf_counter() - start)
            return replies.generation(reply, time.perf_counter() - start)

        answers = self._connection.at_once(answer, chats, seeds, keep)
        # Some refused requests are the prompts' own; if all are, it is the key, the name, the
        # address.
        if answers and len(refusals) == len(answers):
            raise UserError(f"server {self.revision}: refuses every request ({refusals[0]})")
        return answers

    def choose(self, chats: Chats, choices: Choices, keep: Keep = None) -> list[np.ndarray]:
        """Log-probability of each choice as the next token after the generation prompt.

        Each choice must be one token. The OpenAI format tells the likeliest tokens alone:
        `replies.weigh` says what is made of them, and of a choice that is not among them.
        ``UserError`` if that leaves the choices' probabilities unknown, or if the server gives
        none. See ``LocalModel.choose``, which has neither limit.
        """
        each = [choices] * len(chats) if choices and isinstance(choices[0], str) else choices

        def scores(chat: Messages, endings: Sequence[str]) -> np.ndarray:
            fields = {"messages": self._messages(chat)} | self._first
            if chat[-1]["role"] == "assistant":
                fields |= CONTINUE
            try:
                fields |= {"logprobs": True, "top_logprobs": self._likeliest(fields)}
                listed = replies.alternatives(self._connection.complete(fields))
            except Failure as error:
                problem = f"no log-probabilities ({error})"
                raise UserError(f"server {self.revision}: {problem}") from error
            if not listed:
                problem = f"gives no log-probabilities, which choose needs (vLLM does); {INSTEAD}"
                raise UserError(f"server {self.revision}: {problem}")
            weights, unknown = replies.weigh(listed, endings)
            if unknown is not None:
                raise UserError(
                    f"server {self.revision}: {unknown!r} is not among the {len(listed)} likeliest "
                    f"next tokens, and may be more than {replies.UNKNOWN:.0%} of what falls on the "
                    f"choices, so its log-probability is unknown; {INSTEAD}"
                )
            return weights

        return self._connection.at_once(scores, chats, each, keep)

    @functools.cached_property
    def _first(self) -> dict:
        """A request for the next token alone."""
        return self._dialect.fields(Sampling(temperature=1.0, top_k=0, max_tokens=1))

    def _likeliest(self, fields: dict) -> int:
        """Of how many of the likeliest tokens the server tells, tried once, on the first request
        that wants to know.
        """
        with self._trying:
            if self._told is None:
                self._told = probing.alternatives_told(self._connection, fields)
        return self._told

    @functools.cached_property
    def _default_system_prompt(self) -> str:
        """What a server gives away of a system prompt that its template puts where a chat has none:
        its length, if an explicit empty one takes its place.
        """
        empty = {"role": "system", "content": ""}
        try:
            own = self._prompt_tokens(*probing.PROBE) - self._prompt_tokens(empty, *probing.PROBE)
        except Failure:
            own = 0
        return f"{own} tokens, whose text the server does not tell" if own > 0 else "unknown"

    def _prompt_tokens(self, *messages: dict[str, str], **fields) -> int:
        return probing.prompt_tokens(self._connection, *messages, **fields)

    def _messages(self, chat: Messages) -> Messages:
        # A server that drops system messages drops the identity with them (S9).
        lost = chat[0]["role"] == "system" and not self._dialect.system
        return fold_system(chat) if lost else chat


def _dialect(line: Connection, served: list[str]) -> probing.Dialect:
    try:
        return probing.probe(line)
    except Failure as error:
        has = f"; it lists {', '.join(served)}" if served else ""
        problem = f"{line.model!r} does not answer ({error}){has}"
        raise UserError(f"server {line.url}: {problem}") from error
