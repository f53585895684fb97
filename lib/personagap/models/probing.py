"""What a server accepts, probed once before the first request: servers speak different dialects of
the OpenAI format.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from personagap.errors import UserError
from personagap.models import Sampling
from personagap.models.answers import visible
from personagap.models.connection import Connection
from personagap.models.rendering import DATE, DATE_STRING, user_chat
from personagap.models.replies import Failure, alternatives, generation, usage

PROBE = user_chat("Hi")
#: A question with many answers, which differ in their first token.
RANDOM_NUMBER = user_chat("Choose a number between 100 and 999 at random. Say the number alone.")
#: Lengths of its answers. The longer ones are for models that begin with a thought.
RANDOM_NUMBER_TOKENS = (1, 32)
SEEDS = range(1, 9)
#: Number of answers that must be identical where sampling should be deterministic.
REPEATED = 4
LIMIT, NEWER_LIMIT = "max_tokens", "max_completion_tokens"
#: Numbers of alternative tokens to request: the most in the OpenAI format, and in some servers.
ALTERNATIVES = (20, 5)
#: Ways to request the k likeliest tokens, named after their field. k = 0 means all tokens, which is
#: -1 for some servers and 0 for others. The last is for ``transformers serve``, which otherwise
#: decodes greedily.
SAMPLERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "top_k": lambda k: {"top_k": k or -1},
    "top_k, 0 for all": lambda k: {"top_k": k},
    "generation_config": lambda k: {
        "generation_config": json.dumps({"do_sample": True, "top_k": k})
    },
}
#: Statuses of a request that the server does not understand. llama.cpp's Python server returns 500,
#: which is otherwise a temporary fault and retried: a probe is retried only once.
REJECTED, PROBE_RETRIES = (400, 422, 500, 501), 1
#: In the error of a model that thinks, where the limit leaves no token for the answer.
TOO_SHORT = "output limit was reached"


@dataclass
class Dialect:
    """The fields that one model on one server accepts.

    ``limit`` is the field for the length of an answer, ``temperatures`` are those of 0, 0.5 and 1
    that it accepts, ``sampler`` is the one of `SAMPLERS` that it respects, if any, and ``date`` are
    the fields that pin the date. ``summary`` describes all of this in words.
    """

    server: str
    limit: str
    temperatures: tuple[float, ...] = (0.0, 0.5, 1.0)
    top_p: bool = True
    seed: bool = True
    system: bool = True
    date: dict[str, Any] = field(default_factory=dict)
    sampler: str | None = None
    summary: dict[str, str] = field(default_factory=dict)

    def fields(self, sampling: Sampling, seed: int | None = None) -> dict[str, Any]:
        """Return the fields of a request for one answer, without its messages.

        ``UserError`` for sampling that the server does not support.
        """
        temperature, top_p, top_k = sampling.temperature, sampling.top_p, sampling.top_k
        accepted = (temperature if temperature in (0, 1) else 0.5) in self.temperatures
        if not accepted and temperature != 1:
            # Servers that refuse the field use 1.
            self._refuse("temperature", f"asks for {temperature:g}")
        if top_p != 1 and not self.top_p:
            self._refuse("top_p", f"asks for {top_p:g}")
        if top_k and temperature and not self.sampler:
            self._refuse("top_k", f"asks for {top_k}; ask with top_k=0 (-p top_k 0), all tokens")
        body: dict[str, Any] = {self.limit: sampling.max_tokens, **self.date}
        body |= {"temperature": temperature} if accepted else {}
        body |= {"top_p": top_p} if self.top_p else {}
        body |= {"seed": seed} if self.seed and seed is not None else {}
        # At temperature 0 the likeliest token is taken, whatever top_k is.
        return body | (SAMPLERS[self.sampler](top_k) if self.sampler and temperature else {})

    def differences(self, other: "Dialect") -> str:
        """Return the names of the attributes in which two dialects differ, separated by commas."""
        ours, theirs = vars(self), vars(other)
        compared = sorted(ours.keys() - {"server", "summary"})
        return ", ".join(name for name in compared if ours[name] != theirs[name])

    def _refuse(self, name: str, request: str) -> None:
        raise UserError(f"server {self.server}: {name} is {self.summary[name]}, and this {request}")


def probe(connection: Connection) -> Dialect:
    """Find out what the server accepts; `Failure` if it does not answer at all.

    A field counts as accepted if a request with it is not rejected. Whether top_k has an effect is
    tested on answers: it is respected if all seeds give the same answer with top_k 1, but not with
    all tokens.
    """
    dialect = Dialect(connection.url, _limit_field(connection))
    connection.probe = base = {"messages": PROBE, dialect.limit: 1}

    def accepts(**fields: Any) -> bool:
        return _accepts(connection, base | fields)

    # All fields in one request, which most servers accept. Otherwise each field separately.
    if not accepts(temperature=0.0, top_p=1.0, seed=1):
        dialect.temperatures = tuple(t for t in dialect.temperatures if accepts(temperature=t))
        dialect.top_p, dialect.seed = accepts(top_p=1.0), accepts(seed=1)
    dialect.system = _reaches_prompt(
        lambda text: prompt_tokens(connection, {"role": "system", "content": text}, *PROBE)
    )
    dated = _reaches_prompt(lambda text: prompt_tokens(connection, *PROBE, **_date_field(text)))
    dialect.date = _date_field(DATE_STRING) if dated else {}
    seed = "taken" if dialect.seed else "refused: the same request may be answered differently"
    dialect.summary = {
        "answer_limit": f"field {dialect.limit}",
        "temperature": _describe_temperatures(dialect.temperatures),
        "top_p": "taken" if dialect.top_p else "refused",
        "seed": seed,
        "system_role": "system message" if dialect.system else "head of the user turn",
        "date": "the server's, if its chat template states one",
    }
    if dated:
        dialect.summary["date"] = f"{DATE}, wherever asked"
    _SamplingProbe(connection, dialect).run(accepts)
    return dialect


def _describe_temperatures(accepted: tuple[float, ...]) -> str:
    if len(accepted) == 3:
        return "taken"
    if 0.5 not in accepted:
        return "fixed at 1"
    return f"taken, but for {'1' if 0.0 in accepted else '0'}"


def _date_field(text: str) -> dict[str, Any]:
    """Return the field from which some chat templates (Llama's) read the date."""
    return {"chat_template_kwargs": {"date_string": text}}


def prompt_tokens(connection: Connection, *messages: dict[str, str], **fields: Any) -> int:
    """Return the length of the prompt that the server makes of a chat; 0 if it does not say."""
    body = (connection.probe or {}) | {"messages": list(messages)} | fields
    reply = connection.complete(body, PROBE_RETRIES)
    return usage(reply, "prompt_tokens") or 0


def declined(error: Failure) -> bool:
    """Return whether the server rejects the request itself.

    Other failures are temporary. They say nothing about what the server accepts, and must not
    change what is sent.
    """
    return not error.passes or error.status in REJECTED


def _accepts(connection: Connection, body: dict) -> bool:
    try:
        connection.complete(body, PROBE_RETRIES)
    except Failure as error:
        if error.status not in REJECTED:
            raise
        return TOO_SHORT in str(error)
    return True


def _limit_field(connection: Connection) -> str:
    """Return the field for the length of an answer; newer models reject the older one."""
    try:
        connection.complete({"messages": PROBE, LIMIT: 1})
        return LIMIT
    except Failure as error:
        first = error
        if error.status not in REJECTED:
            raise
    if not _accepts(connection, {"messages": PROBE, NEWER_LIMIT: 1}):
        raise first
    return NEWER_LIMIT


def _reaches_prompt(count_tokens: Callable[[str], int]) -> bool:
    """Return whether a longer text makes a longer prompt, which shows that the model reads it.

    The server's chat template cannot be inspected, and may refuse or drop a system message (S9).
    Unless token counts prove that it is read, its text goes to the user turn.
    """
    try:
        short, long = (count_tokens("one " * n) for n in (1, 20))
    except Failure as error:
        if not declined(error):
            raise
        return False
    # Less than the 19 words that were added, since a tokenizer may merge some of them.
    return long - short >= 10


def max_alternatives(connection: Connection, body: dict) -> int:
    """Return for how many of the likeliest next tokens the server gives log-probabilities; 0 if it
    gives none.

    `Failure` for a server that rejects the request for them.
    """
    rejection = None
    for number in ALTERNATIVES:
        try:
            request = body | {"logprobs": True, "top_logprobs": number}
            if alternatives(connection.complete(request, PROBE_RETRIES)):
                return number
        except Failure as error:
            if not declined(error):
                raise
            rejection = error
    if rejection:
        raise rejection
    return 0


class _SamplingProbe:
    """Tests on the beginnings of answers to one question whether seeds, temperature 0 and top_k
    have the effect that they should.
    """

    def __init__(self, connection: Connection, dialect: Dialect):
        self._connection, self._dialect = connection, dialect
        self._tokens = RANDOM_NUMBER_TOKENS[0]

    def run(self, accepts: Callable[..., bool]) -> None:
        """Choose a sampler that respects top_k, and describe top_k, seeds and temperature 0."""
        dialect, summary = self._dialect, self._dialect.summary
        # The fields with which answers were seen to vary.
        summary["top_k"], varying = "refused", None
        for name, sampler in SAMPLERS.items():
            if not (accepts(**sampler(10)) and accepts(**sampler(0))):
                continue
            varied = self._vary(sampler(0))
            if varied and self._repeat(SEEDS[:REPEATED], sampler(1)):
                dialect.sampler, varying = name, sampler(0)
                summary["top_k"] = f"field {name}, kept to"
                break
            # The first accepted field stays, unless a later one turns out to be respected.
            if dialect.sampler:
                continue
            if varied:
                summary["top_k"] = f"taken in the field {name.partition(',')[0]}, but not kept to"
                varying = sampler(0)
            else:
                dialect.sampler = name
                summary["top_k"] = f"field {name}, taken; no answer ever varied, to try it on"
        if varying is None and not self._vary({}):
            return
        if dialect.seed:
            repeats = self._repeat([1] * REPEATED, varying or {})
            effect = "and repeats" if repeats else "but does not repeat"
            summary["seed"] = f"taken, {effect} its answer"
        if 0.0 in dialect.temperatures and not self._repeat(SEEDS[:REPEATED], {}, temperature=0.0):
            summary["temperature"] += "; at 0 the answers differ all the same"

    def _vary(self, fields: dict) -> bool:
        """Return whether answers differ between seeds; longer ones are drawn where the shortest
        have no visible text yet.
        """
        for self._tokens in RANDOM_NUMBER_TOKENS:
            answers = self._answers(SEEDS, fields, 1.0)
            if len(set(answers)) > 1:
                return True
            if visible(answers[0]).strip():
                break
        return False

    def _repeat(self, seeds: Sequence[int], fields: dict, temperature: float = 1.0) -> bool:
        """Return whether all seeds give the same answer."""
        return len(set(self._answers(seeds, fields, temperature))) == 1

    def _answers(self, seeds: Sequence[int], fields: dict, temperature: float) -> list[str]:
        """Return the answer for each seed, up to the first that differs from the others."""
        answers: list[str] = []
        for seed in seeds:
            sampling = Sampling(temperature, top_k=0, max_tokens=self._tokens)
            body = {"messages": RANDOM_NUMBER} | self._dialect.fields(sampling, seed) | fields
            answer = generation(self._connection.complete(body), 0.0)
            answers.append(f"{answer.reasoning}{answer.text}")
            if answers[-1] != answers[0]:
                break
        return answers
