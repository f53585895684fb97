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

REMEDY = "ask with generate and extract the choice from the text instead"
#: Fields with which a server (vLLM, SGLang) continues an answer that the chat has begun.
CONTINUE = {"add_generation_prompt": False, "continue_final_message": True}


class ServerModel:
    """A model on one or several OpenAI-compatible servers, used through chat completions.

    Parameters
    ----------
    model : name under which the server serves the model; becomes ``id``.
    url : base address, such as "http://localhost:8000/v1"; becomes ``revision``, since a server
        does not tell the revision of its weights. Requests are spread over several servers,
        separated by commas; if one is lost, the others continue.
    patience : seconds to wait for a server that stops answering.

    ``UserError`` if a server is unreachable, refuses the key, or does not serve ``model``; or if
    several servers differ in the models that they serve, or in the fields that they accept.
    """

    def __init__(self, model: str, url: str, patience: float):
        # Sorted, since answers are stored under these addresses.
        urls = sorted({address.strip() for address in url.split(",")})
        self.id, self.revision = model, ",".join(urls)
        # The reason of the first request that failed for good.
        self.failure: str | None = None
        self._n_alternatives: int | None = None
        self._probing = threading.Lock()
        connections = [Connection(model, address, patience) for address in urls]
        served = [connection.served() for connection in connections]
        # Answers of all servers are stored as those of one model, and a run may resume with any of
        # them. Requests must therefore not depend on the server.
        lists = {tuple(sorted(names)) for names in served if names}
        if len(lists) > 1 and not all(model in names for names in lists):
            pairs = zip(urls, map(", ".join, served), strict=True)
            models = "; ".join(f"{address}: {names}" for address, names in pairs)
            raise UserError(f"servers {self.revision}: they serve different models ({models})")
        dialects = list(map(_dialect, connections, served))
        self._connection, self._dialect = connections[0], dialects[0]
        for connection, dialect in zip(connections[1:], dialects[1:], strict=True):
            if differences := self._dialect.differences(dialect):
                remedy = "ask each by itself"
                raise UserError(f"servers {self.revision}: they differ in {differences}: {remedy}")
            self._connection.join(connection)

    def describe(self) -> dict:
        """Return what a run must record: model, server, and the fields that the server accepts."""
        try:
            number = self._max_alternatives({"messages": probing.PROBE} | self._one_token)
        except Failure:
            number = 0
        return {
            "model": self.id,
            "backend": "openai",
            "revision": None,
            "server": self.revision,
            **self._dialect.summary,
            "logprobs": f"of the {number} likeliest tokens" if number else "not given",
            "default_system_prompt": self._default_system_prompt,
            "patience": f"{self._connection.patience:g} s",
            "openai": openai.__version__,
        }

    @functools.cached_property
    def continues(self) -> bool:
        """Whether an answer that a chat has begun is continued.

        If it is, the chat template does not end its turn, and the prompt is shorter.
        """
        begun = [*probing.PROBE, {"role": "assistant", "content": "The answer is ("}]
        try:
            return 0 < self._prompt_tokens(*begun, **CONTINUE) < self._prompt_tokens(*begun)
        except Failure as error:
            if not probing.declined(error):
                raise UserError(f"server {self.revision}: {error}: run again") from error
            return False

    def render(self, messages: Messages) -> str:
        """Return the messages as they are sent, in JSON; the server applies the chat template."""
        return json.dumps(self._messages(messages), ensure_ascii=False)

    def generate(
        self, chats: Chats, sampling: Sampling, seeds: Sequence[int], keep: Keep = None
    ) -> list[Generation]:
        """Return an answer to each chat, and call ``keep(i, answer)`` as each arrives.

        A request that fails for good has ``finish_reason`` "error" and no text. ``UserError`` for
        sampling that the server does not support, if it refuses every request (for example after
        its key was revoked), or if it does not answer for longer than ``patience``.
        """
        # Raises for unsupported sampling before the first request.
        self._dialect.fields(sampling)
        refusals: list[Failure] = []

        def answer(chat: Messages, seed: int) -> Generation:
            start = time.perf_counter()
            try:
                body = {"messages": self._messages(chat)} | self._dialect.fields(sampling, seed)
                reply = self._connection.complete(body)
            except Failure as error:
                if error.filtered:
                    # A prompt that a content filter stops is an outcome, not a failure.
                    return Generation("", "content_filter", None, 0, time.perf_counter() - start)
                self.failure = self.failure or str(error)
                if error.status and not error.passes:
                    refusals.append(error)
                return Generation(None, "error", None, None, time.perf_counter() - start)
            return replies.generation(reply, time.perf_counter() - start)

        answers = self._connection.run_all(answer, chats, seeds, keep)
        # Single requests are refused because of their prompts; if all are, the key, the model's
        # name or the address is wrong.
        if answers and len(refusals) == len(answers):
            raise UserError(f"server {self.revision}: refuses every request ({refusals[0]})")
        return answers

    def choose(self, chats: Chats, choices: Choices, keep: Keep = None) -> list[np.ndarray]:
        """Return the log-probability of each choice as the next token after the generation prompt.

        Each choice must be a single token. The OpenAI format lists the likeliest tokens only; for
        the probabilities of choices that are not listed see `replies.read_choices`. ``UserError``
        if these remain unknown, or if the server gives no log-probabilities. ``LocalModel.choose``
        has neither limitation.
        """
        per_chat = [choices] * len(chats) if choices and isinstance(choices[0], str) else choices

        def scores(chat: Messages, options: Sequence[str]) -> np.ndarray:
            body = {"messages": self._messages(chat)} | self._one_token
            if chat[-1]["role"] == "assistant":
                body |= CONTINUE
            try:
                body |= {"logprobs": True, "top_logprobs": self._max_alternatives(body)}
                listed = replies.alternatives(self._connection.complete(body))
            except Failure as error:
                problem = f"no log-probabilities ({error})"
                raise UserError(f"server {self.revision}: {problem}") from error
            if not listed:
                problem = f"gives no log-probabilities, which choose needs (vLLM does); {REMEDY}"
                raise UserError(f"server {self.revision}: {problem}")
            weights, unknown = replies.read_choices(listed, options)
            if unknown is not None:
                raise UserError(
                    f"server {self.revision}: {unknown!r} is not among the {len(listed)} likeliest "
                    f"next tokens, and may be more than {replies.UNKNOWN:.0%} of what falls on the "
                    f"choices, so its log-probability is unknown; {REMEDY}"
                )
            return weights

        return self._connection.run_all(scores, chats, per_chat, keep)

    @functools.cached_property
    def _one_token(self) -> dict:
        """The fields of a request for the next token only."""
        return self._dialect.fields(Sampling(temperature=1.0, top_k=0, max_tokens=1))

    def _max_alternatives(self, body: dict) -> int:
        """Return for how many tokens the server gives log-probabilities; probed once, with the
        first request that needs it.
        """
        with self._probing:
            if self._n_alternatives is None:
                self._n_alternatives = probing.max_alternatives(self._connection, body)
        return self._n_alternatives

    @functools.cached_property
    def _default_system_prompt(self) -> str:
        """The length of the system prompt that the chat template adds to a chat without one.

        It shows if an explicit empty system message replaces it; else it is unknown.
        """
        empty, user = {"role": "system", "content": ""}, probing.PROBE
        try:
            length = self._prompt_tokens(*user) - self._prompt_tokens(empty, *user)
        except Failure:
            length = 0
        return f"{length} tokens, whose text the server does not tell" if length > 0 else "unknown"

    def _prompt_tokens(self, *messages: dict[str, str], **fields) -> int:
        return probing.prompt_tokens(self._connection, *messages, **fields)

    def _messages(self, chat: Messages) -> Messages:
        # A server that drops system messages would drop the identity with them (S9).
        dropped = chat[0]["role"] == "system" and not self._dialect.system
        return fold_system(chat) if dropped else chat


def _dialect(connection: Connection, served: list[str]) -> probing.Dialect:
    """Probe a server; `UserError`, with the models that it lists as ``served``, if it fails."""
    try:
        return probing.probe(connection)
    except Failure as error:
        listed = f"; it lists {', '.join(served)}" if served else ""
        problem = f"{connection.model!r} does not answer ({error}){listed}"
        raise UserError(f"server {connection.url}: {problem}") from error
