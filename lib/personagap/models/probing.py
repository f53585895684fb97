"""What a server understands, tried once before anything is asked: servers of one format speak
dialects of it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from personagap.errors import UserError
from personagap.models import Sampling
from personagap.models.answers import visible
from personagap.models.connection import Connection
from personagap.models.rendering import DATE, DATE_STRING, user_says
from personagap.models.replies import Failure, alternatives, generation, usage

PROBE = user_says("Hi")
#: Has many answers, whose first tokens differ; the longer ones are for models that begin with a
#: thought.
DRAWN = "Choose a number between 100 and 999 at random. Say the number alone."
DRAW = user_says(DRAWN)
DRAWN_TOKENS = (1, 32)
SEEDS = range(1, 9)
#: Seeds over which the likeliest token alone must repeat itself.
REPEATED = 4
LIMIT, NEWER_LIMIT = "max_tokens", "max_completion_tokens"
#: As many alternatives to a token as the OpenAI format gives, and as some servers do at most.
ALTERNATIVES = (20, 5)
#: Ways to say "the k likeliest tokens", by the field that carries it; k = 0 is all of them, which
#: is -1 to some servers and 0 to others. The last is that of ``transformers serve``, which
#: otherwise takes the likeliest token always.
SAMPLERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "top_k": lambda k: {"top_k": k or -1},
    "top_k, 0 for all": lambda k: {"top_k": k},
    "generation_config": lambda k: {
        "generation_config": json.dumps({"do_sample": True, "top_k": k})
    },
}
#: Statuses of a request that the server does not understand; llama.cpp's Python server says 500. So
#: what is tried is tried no more than twice.
REFUSED, TRIES_MORE = (400, 422, 500, 501), 1
#: Said by models that think, of a limit that leaves no token for the answer.
TOO_SHORT = "output limit was reached"


@dataclass
class Dialect:
    """How one model on one server is asked.

    ``limit`` is the field for the length of an answer, ``temperatures`` those it takes of 0, 0.5
    and 1, ``sampler`` one of `SAMPLERS` if it keeps to one, ``date`` the fields that pin the date.
    ``found`` says all of it in words.
    """

    server: str
    limit: str
    temperatures: tuple[float, ...] = (0.0, 0.5, 1.0)
    top_p: bool = True
    seed: bool = True
    system: bool = True
    date: dict[str, Any] = field(default_factory=dict)
    sampler: str | None = None
    found: dict[str, str] = field(default_factory=dict)

    def fields(self, sampling: Sampling, seed: int | None = None) -> dict[str, Any]:
        """A request for one answer, less its messages; ``UserError`` for sampling that the server
        does not do.
        """
        heat, top_p, top_k = sampling.temperature, sampling.top_p, sampling.top_k
        taken = (heat if heat in (0, 1) else 0.5) in self.temperatures
        if not taken and heat != 1:
            # Where the field cannot be sent, servers take 1.
            self._refuse("temperature", f"asks for {heat:g}")
        if top_p != 1 and not self.top_p:
            self._refuse("top_p", f"asks for {top_p:g}")
        if top_k and heat and not self.sampler:
            self._refuse("top_k", f"asks for {top_k}; ask with top_k=0 (-p top_k 0), all tokens")
        body: dict[str, Any] = {self.limit: sampling.max_tokens, **self.date}
        body |= {"temperature": heat} if taken else {}
        body |= {"top_p": top_p} if self.top_p else {}
        body |= {"seed": seed} if self.seed and seed is not None else {}
        # At temperature 0 the likeliest token is taken, whatever top_k.
        return body | (SAMPLERS[self.sampler](top_k) if self.sampler and heat else {})

    def differing(self, other: "Dialect") -> str:
        """In what the other is asked in another way, in words; "" if in nothing."""
        ours, theirs = vars(self), vars(other)
        asked = sorted(ours.keys() - {"server", "found"})
        return ", ".join(name for name in asked if ours[name] != theirs[name])

    def _refuse(self, name: str, asked: str) -> None:
        raise UserError(f"server {self.server}: {name} is {self.found[name]}, and this {asked}")


def probe(connection: Connection) -> Dialect:
    """Try what the server understands; `Failure` if it does not answer at all.

    A field is taken if a request with it is not refused. Whether more comes of it is drawn: top_k
    is kept to if the likeliest token alone repeats itself over seeds where all tokens do not.
    """
    found = Dialect(connection.url, _limit(connection))
    connection.probe = base = {"messages": PROBE, found.limit: 1}

    def takes(**fields: Any) -> bool:
        return _takes(connection, base | fields)

    # All at once: most servers take them, and are asked no more. Else each by itself.
    if not takes(temperature=0.0, top_p=1.0, seed=1):
        found.temperatures = tuple(heat for heat in found.temperatures if takes(temperature=heat))
        found.top_p, found.seed = takes(top_p=1.0), takes(seed=1)
    found.system = _lengthens(
        lambda text: prompt_tokens(connection, {"role": "system", "content": text}, *PROBE)
    )
    dated = _lengthens(lambda text: prompt_tokens(connection, *PROBE, **_dated(text)))
    found.date = _dated(DATE_STRING) if dated else {}
    found.found = {
        "answer_limit": f"field {found.limit}",
        "temperature": _say_temperatures(found.temperatures),
        "top_p": "taken" if found.top_p else "refused",
        "seed": "taken" if found.seed else "refused: the same request may be answered differently",
        "system_role": "system message" if found.system else "head of the user turn",
        "date": "the server's, if its chat template states one",
    }
    if dated:
        found.found["date"] = f"{DATE}, wherever asked"
    _Draws(connection, found).judge(takes)
    return found


def _say_temperatures(taken: tuple[float, ...]) -> str:
    if len(taken) == 3:
        return "taken"
    if 0.5 not in taken:
        return "fixed at 1"
    return f"taken, but for {'1' if 0.0 in taken else '0'}"


def _dated(text: str) -> dict[str, Any]:
    """What gives a chat template that reads its date from a field (Llama's) another date."""
    return {"chat_template_kwargs": {"date_string": text}}


def prompt_tokens(connection: Connection, *messages: dict[str, str], **fields: Any) -> int:
    """Length of the prompt that the server makes of a chat; 0 if it does not tell."""
    body = (connection.probe or {}) | {"messages": list(messages)} | fields
    reply = connection.complete(body, TRIES_MORE)
    return usage(reply, "prompt_tokens") or 0


def declined(error: Failure) -> bool:
    """Whether the server says no to what was asked; else it has a bad moment, which tells nothing
    of what it understands, and must not change what is asked.
    """
    return not error.passes or error.status in REFUSED


def _takes(connection: Connection, body: dict) -> bool:
    try:
        connection.complete(body, TRIES_MORE)
    except Failure as error:
        if error.status not in REFUSED:
            raise
        return TOO_SHORT in str(error)
    return True


def _limit(connection: Connection) -> str:
    """The field for the length of an answer; newer models refuse the older one."""
    try:
        connection.complete({"messages": PROBE, LIMIT: 1})
        return LIMIT
    except Failure as error:
        first = error
        if error.status not in REFUSED:
            raise
    if not _takes(connection, {"messages": PROBE, NEWER_LIMIT: 1}):
        raise first
    return NEWER_LIMIT


def _lengthens(tokens: Callable[[str], int]) -> bool:
    """Whether a longer text makes a longer prompt: then it reaches the model.

    The server's chat template is out of sight, and may refuse or drop a system message (S9). Unless
    the token counts prove that it is read, its text goes to the user turn.
    """
    try:
        short, long = (tokens("one " * n) for n in (1, 20))
    except Failure as error:
        if not declined(error):
            raise
        return False
    # Not 19: a tokenizer may take some of the words together.
    return long - short >= 10


def alternatives_told(connection: Connection, body: dict) -> int:
    """Of how many of the likeliest next tokens the server tells the log-probabilities; 0 if it
    tells none.

    `Failure` for a server that refuses to be asked for them.
    """
    refused = None
    for number in ALTERNATIVES:
        try:
            asked = body | {"logprobs": True, "top_logprobs": number}
            if alternatives(connection.complete(asked, TRIES_MORE)):
                return number
        except Failure as error:
            if not declined(error):
                raise
            refused = error
    if refused:
        raise refused
    return 0


class _Draws:
    """Beginnings of answers to one question: do they differ between seeds, and repeat themselves
    where they should?
    """

    def __init__(self, connection: Connection, dialect: Dialect):
        self._connection, self._dialect, self._tokens = connection, dialect, DRAWN_TOKENS[0]

    def judge(self, takes: Callable[..., bool]) -> None:
        """Find a field that keeps to top_k, and what becomes of seeds and of temperature 0."""
        dialect, said = self._dialect, self._dialect.found
        said["top_k"], drawn = "refused", None
        for name, sampler in SAMPLERS.items():
            if not (takes(**sampler(10)) and takes(**sampler(0))):
                continue
            varied = self._vary(sampler(0))
            if varied and self._repeat(SEEDS[:REPEATED], sampler(1)):
                dialect.sampler, said["top_k"], drawn = name, f"field {name}, kept to", sampler(0)
                break
            # The first that was taken stays, unless another is kept to.
            if dialect.sampler:
                continue
            if varied:
                said["top_k"] = f"taken in the field {name.partition(',')[0]}, but not kept to"
                drawn = sampler(0)
            else:
                dialect.sampler = name
                said["top_k"] = f"field {name}, taken; no answer ever varied, to try it on"
        if drawn is None and not self._vary({}):
            return
        if dialect.seed:
            repeats = self._repeat([1] * REPEATED, drawn or {})
            said["seed"] = (
                f"taken, {'and repeats' if repeats else 'but does not repeat'} its answer"
            )
        if 0.0 in dialect.temperatures and not self._repeat(SEEDS[:REPEATED], {}, heat=0.0):
            said["temperature"] += "; at 0 the answers differ all the same"

    def _vary(self, more: dict) -> bool:
        """Whether answers differ; longer ones are drawn where the shortest say nothing yet."""
        for self._tokens in DRAWN_TOKENS:
            told = self._told(SEEDS, more, 1.0)
            if len(set(told)) > 1:
                return True
            if visible(told[0]).strip():
                break
        return False

    def _repeat(self, seeds: Sequence[int], more: dict, heat: float = 1.0) -> bool:
        return len(set(self._told(seeds, more, heat))) == 1

    def _told(self, seeds: Sequence[int], more: dict, heat: float) -> list[str]:
        """The answers, up to one that differs from the first."""
        told: list[str] = []
        for seed in seeds:
            sampling = Sampling(heat, top_k=0, max_tokens=self._tokens)
            body = {"messages": DRAW} | self._dialect.fields(sampling, seed) | more
            answer = generation(self._connection.complete(body), 0.0)
            told.append(f"{answer.reasoning}{answer.text}")
            if told[-1] != told[0]:
                break
        return told
