"""Models behind an OpenAI-compatible server (vLLM, ``transformers serve``, llama.cpp, the API itself)."""

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openai

from personagap.errors import UserError, first_line
from personagap.leaving import leaving
from personagap.models import Generation, Sampling
from personagap.models.answers import ENDINGS
from personagap.models.rendering import Messages, fold_system

#: Requests under way at a time: enough to fill a server's batches.
CONCURRENCY = 16
#: Repetitions of a request that failed (by the client, after what time the server asks for, else 0.5, 1, 2 … seconds),
#: and the seconds before a garbled answer is asked for again.
RETRIES = 5
PAUSE = 3.0
#: Seconds without an answer before a request counts as lost: a busy server queues requests.
TIMEOUT = 600.0
#: As many alternatives to a token as the OpenAI format gives.
TOP_LOGPROBS = 20
#: Ways to say "the k likeliest tokens", by the field that carries it; k = 0 is all of them. The second is that of
#: ``transformers serve``, which otherwise takes the likeliest token always.
SAMPLERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "top_k": lambda k: {"top_k": k or -1},
    "generation_config": lambda k: {"generation_config": json.dumps({"do_sample": True, "top_k": k})},
}
INSTEAD = "ask with generate and extract the choice from the text instead"
PROBE = [{"role": "user", "content": "Hi"}]
#: Fields by which a server (vLLM, SGLang) goes on with an answer that the chat has begun.
CONTINUE = {"add_generation_prompt": False, "continue_final_message": True}


class ServerModel:
    """A model on an OpenAI-compatible server, asked through chat completions.

    Parameters
    ----------
    model : name under which the server serves it; ``id``.
    url : base address, such as "http://localhost:8000/v1"; ``revision``, as a server does not tell that of its weights.

    ``UserError`` if the server is unreachable, refuses the key, or does not serve ``model``.
    """

    def __init__(self, model: str, url: str):
        self.id, self.revision = model, url
        self.failure: str | None = None  # why a request first failed for good
        key = os.environ.get("OPENAI_API_KEY") or "none"
        try:
            self._client = openai.OpenAI(base_url=url, api_key=key, timeout=TIMEOUT, max_retries=RETRIES)
        except Exception as error:  # of the network library below, whose name depends on the version of openai
            raise UserError(f"server {url}: no address ({first_line(error)}): expected http://host:port/v1") from None
        served = self._served()
        try:
            self._system_role = self._reads_system()
            self._sampler = next((field for field in SAMPLERS if self._accepts(SAMPLERS[field](10))), None)
        except openai.OpenAIError as error:
            has = f"; it lists {', '.join(served)}" if served else ""
            raise UserError(f"server {url}: {model!r} does not answer ({_reason(error)}){has}") from error

    def describe(self) -> dict:
        """What a run must record: model, server, and where the system text goes."""
        return {
            "model": self.id,
            "backend": "openai",
            "revision": None,
            "server": self.revision,
            "system_role": "system message" if self._system_role else "head of the user turn",
            "default_system_prompt": self._default_system_prompt,
            "top_k": f"field {self._sampler}" if self._sampler else "not supported",
            "openai": openai.__version__,
        }

    @functools.cached_property
    def continues(self) -> bool:
        """Whether an answer that a chat has begun is continued: then its turn is not ended, which saves tokens."""
        begun = [*PROBE, {"role": "assistant", "content": "The answer is ("}]
        try:
            return 0 < self._prompt_tokens(*begun, **CONTINUE) < self._prompt_tokens(*begun)
        except openai.OpenAIError:
            return False

    def render(self, messages: Messages) -> str:
        """The messages as they are sent, in JSON: the server applies the chat template."""
        return json.dumps(self._messages(messages), ensure_ascii=False)

    def generate(
        self, chats: Sequence[Messages], sampling: Sampling, seeds: Sequence[int], keep: Callable | None = None
    ) -> list[Generation]:
        """Answer each chat, and tell ``keep(i, answer)`` of each as it comes, from the thread that asked.

        A request that fails for good has ``finish_reason`` "error" and no text.
        ``UserError`` if the server does not know top_k, or refuses every request (a revoked key …).
        """
        if sampling.top_k and sampling.temperature and self._sampler is None:
            raise UserError(f"server {self.revision}: does not take top_k; ask with top_k=0")
        # At temperature 0 the likeliest token is taken, whatever top_k.
        fields = SAMPLERS[self._sampler](sampling.top_k) if self._sampler and sampling.temperature else None
        refusals: list[openai.APIStatusError] = []

        def answer(chat: Messages, seed: int) -> Generation:
            start = time.perf_counter()
            try:
                completion = self._complete(self._messages(chat), sampling, seed=seed, extra_body=fields)
            except openai.OpenAIError as error:
                if getattr(error, "code", None) == "content_filter":  # Azure's word on a prompt that its filter stops
                    return Generation("", "content_filter", None, 0, time.perf_counter() - start)
                self.failure = self.failure or _reason(error)
                if isinstance(error, openai.APIStatusError) and error.status_code < 500:
                    refusals.append(error)
                return Generation(None, "error", None, None, time.perf_counter() - start)
            choice, usage = completion.choices[0], completion.usage
            message, refusal = choice.message, choice.message.refusal
            thought = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
            return Generation(
                _whole(refusal or message.content or ""),
                choice.finish_reason or "stop",
                usage.prompt_tokens if usage else None,
                usage.completion_tokens if usage else None,
                time.perf_counter() - start,
                _whole(thought) if isinstance(thought, str) else "",
                "refused" if refusal else "",
            )

        answers = _at_once(answer, chats, seeds, keep)
        if answers and len(refusals) == len(answers):
            raise UserError(f"server {self.revision}: refuses every request ({_reason(refusals[0])})")
        return answers

    def choose(
        self, chats: Sequence[Messages], choices: Sequence[str] | Sequence[list[str]], keep: Callable | None = None
    ) -> list[np.ndarray]:
        """Log-probability of each choice as the next token after the generation prompt.

        Each choice must be one token and among the 20 likeliest, as the OpenAI format tells no other: ``UserError``
        otherwise, or if the server gives none. See ``LocalModel.choose``, which has neither limit.
        """
        each = [choices] * len(chats) if choices and isinstance(choices[0], str) else choices
        first = Sampling(temperature=1.0, top_k=0, max_tokens=1)

        def scores(chat: Messages, endings: Sequence[str]) -> np.ndarray:
            try:
                asked: dict[str, Any] = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
                if chat[-1]["role"] == "assistant":
                    asked["extra_body"] = CONTINUE
                completion = self._complete(self._messages(chat), first, **asked)
            except openai.OpenAIError as error:
                raise UserError(f"server {self.revision}: no log-probabilities ({_reason(error)})") from error
            given = completion.choices[0].logprobs
            if given is None or not given.content or not given.content[0].top_logprobs:
                raise UserError(
                    f"server {self.revision}: gives no log-probabilities, which choose needs (vLLM does); {INSTEAD}"
                )
            known = {top.token: top.logprob for top in given.content[0].top_logprobs}
            absent = [choice for choice in endings if choice not in known]
            if absent:
                raise UserError(
                    f"server {self.revision}: {absent[0]!r} is not among the {len(known)} likeliest next tokens, so "
                    f"its log-probability is unknown; {INSTEAD}"
                )
            return np.array([known[choice] for choice in endings])

        return _at_once(scores, chats, each, keep)

    def _served(self) -> list[str]:
        """Names of the models the server lists (``transformers serve`` leaves local folders out)."""
        try:
            at_once = self._client.with_options(timeout=30.0, max_retries=0)
            return [model.id for model in at_once.models.list().data]
        except openai.APIConnectionError as error:
            raise UserError(
                f"server {self.revision}: unreachable ({_reason(error)}): start it, or correct the address"
            ) from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise UserError(f"server {self.revision}: refuses OPENAI_API_KEY ({_reason(error)})") from error
        except (openai.OpenAIError, ValueError, AttributeError):
            return []  # not every server lists its models; the first chat tells

    def _reads_system(self) -> bool:
        """Whether a system message reaches the model: a longer one must make a longer prompt.

        The server's chat template is out of sight, and may refuse or drop a system message (S9). Unless the token
        counts prove that it is read, its text goes to the user turn.
        """
        try:
            short, long = (self._prompt_tokens({"role": "system", "content": "one " * n}, *PROBE) for n in (1, 20))
        except (openai.BadRequestError, openai.UnprocessableEntityError, openai.InternalServerError):
            self._prompt_tokens(*PROBE)  # the same error again, if it is not the system message
            return False
        return long - short >= 10

    @functools.cached_property
    def _default_system_prompt(self) -> str:
        """What a server gives away of a system prompt that its template puts where a chat has none: its length, if an
        explicit empty one takes its place.
        """
        try:
            own = self._prompt_tokens(*PROBE) - self._prompt_tokens({"role": "system", "content": ""}, *PROBE)
        except openai.OpenAIError:
            own = 0
        return f"{own} tokens, whose text the server does not tell" if own > 0 else "unknown"

    def _prompt_tokens(self, *messages: dict[str, str], **fields) -> int:
        """Length of the prompt that the server makes of a chat; 0 if it does not tell."""
        usage = self._complete(list(messages), Sampling(temperature=0.0, max_tokens=1), extra_body=fields or None).usage
        return usage.prompt_tokens if usage else 0

    def _accepts(self, fields: dict) -> bool:
        try:
            self._complete(PROBE, Sampling(temperature=0.0, max_tokens=1), extra_body=fields)
        except (openai.BadRequestError, openai.UnprocessableEntityError):
            return False
        return True

    def _messages(self, chat: Messages) -> Messages:
        return fold_system(chat) if chat[0]["role"] == "system" and not self._system_role else chat

    def _complete(self, messages: Messages, sampling: Sampling, **options):
        """One chat completion. The client repeats what failed, this what comes garbled or broken off."""
        how = {name: getattr(sampling, name) for name in ("temperature", "top_p", "max_tokens")}
        how |= {"model": self.id, "messages": messages}
        for attempt in range(RETRIES + 1):
            time.sleep(PAUSE if attempt else 0)
            with contextlib.suppress(ValueError):  # not JSON
                completion = self._client.chat.completions.create(**how, **options)
                choice = (getattr(completion, "choices", None) or [None])[0]
                if choice and choice.message is not None and choice.finish_reason not in ENDINGS["failed"]:
                    return completion
        raise openai.OpenAIError("the answer is not a chat completion, or was broken off")


def _whole(text: str) -> str:
    """Without halves of characters, which JSON can hold and no file."""
    return text.encode(errors="replace").decode()


def _at_once(work: Callable, chats: Sequence[Messages], more: Sequence, keep: Callable | None) -> list:
    """``work`` on each chat, several at a time. An answer is kept before its thread asks again, so that a kill costs no
    more than what was under way.
    """

    def one(i: int, chat: Messages, argument: object) -> object:
        answer = work(chat, argument)
        if keep:
            keep(i, answer)
        return answer

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        return list(pool.map(one, range(len(chats)), chats, more))


def _reason(error: Exception) -> str:
    """One line on what went wrong: the server's own words, and the cause of a lost connection."""
    message = str(error)
    if isinstance(error, openai.APIConnectionError):
        message = str(error.__cause__ or error)
    elif isinstance(error, openai.APIStatusError):
        message = f"{error.status_code} {error.response.text}"
    return " ".join(leaving(message).split())[:300] or type(error).__name__
