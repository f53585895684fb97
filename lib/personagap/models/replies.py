"""What the reply of a server says: an answer, an error inside one, the likeliest next tokens."""

import email.utils
import json
import math
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from personagap.leaving import leaving
from personagap.models import Generation
from personagap.models.answers import ending

#: Errors by their words, for those that carry no HTTP status; others count as the server's own.
WORDS = {
    429: r"rate.?limit|too.many|quota|exhausted|throttl",
    503: r"overload|unavailable|capacity|busy|time.?out",
    401: r"api.?key|unauthori|authenticat",
    400: r"invalid|bad.?request|not.?found|unsupported|context.length|content.filter",
}
#: What servers call a prompt, or an answer, that their filter stopped, by the words of the error:
#: Azure, OpenAI, DeepSeek, Qwen, OpenRouter, Gemini, Grok, Zhipu.
FILTERED = re.compile(
    r"content[_ ]?(?:filter|policy|management)|responsible_?ai|moderation|data_?inspection"
    r"|content exists risk|block_?reason|violates usage guidelines|usage policy|safety system"
    r"|(?:prompt|input|output) was flagged|敏感",
    re.IGNORECASE,
)
#: Statuses of such an error.
STOPPED = (400, 403, 451)
#: Statuses below 500 that pass: a time-out, a conflict, too early, too many requests.
PASSING = (408, 409, 425, 429)
RETRY_AFTER = re.compile(
    r'"retry[-_ ]?after(?P<ms>[-_ ]?ms)?"\s*:\s*"?(?P<number>\d+(?:\.\d+)?)', re.IGNORECASE
)
#: Parts of a content that are not its text.
KINDS = {
    **dict.fromkeys(["thinking", "reasoning", "reasoning_text", "reasoning_content"], "thinking"),
    "refusal": "refusal",
}
#: Fields of a message that hold its thoughts: of vLLM and DeepSeek, of OpenRouter and newer
#: versions, of Ollama.
THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details", "thinking")
#: How tokenizers write a space and a line break where a server
#: gives a token as its vocabulary has it.
MARKS = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n"})
#: What the choices beyond the listed alternatives may be of all choices together; more, and the
#: probabilities of the choices are not known.
UNKNOWN = 0.01
#: What is left of 1 by rounding is no less than this.
ROUNDING = 1e-6


class Failure(Exception):
    """A request without an answer; says why, in a line.

    ``status`` is that of HTTP or of an error inside an answer, and None where nothing came back;
    ``filtered`` whether a filter stopped it; ``wait`` the seconds it asks to be left alone;
    ``passes`` whether to ask again.
    """

    def __init__(
        self,
        reason: str,
        status: int | None = None,
        filtered: bool = False,
        wait: float | None = None,
        passes: bool = True,
    ):
        super().__init__(" ".join(leaving(reason).split())[:300])
        self.status, self.filtered, self.wait, self.passes = status, filtered, wait, passes


def failure(status: int, text: str, headers: Mapping[str, str]) -> Failure:
    """The error of an HTTP status, or, of a status that means success, the one in the text."""
    error = error_in(_json(text)) or {}
    said = FILTERED.search(json.dumps(error, ensure_ascii=False)[:1000]) is not None
    if status < 400:
        status = STOPPED[0] if said else _status(error)
    wait, filtered = wait_asked(headers, text), said and status in STOPPED
    passes = status >= 500 or status in PASSING or wait is not None
    if (told := headers.get("x-should-retry")) in ("true", "false"):
        # OpenAI says itself whether a request should be sent again.
        passes = told == "true"
    return Failure(f"{status} {text}", status, filtered, wait, passes and not filtered)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def error_in(reply: Any) -> dict | None:
    """The error that a reply holds, in place of its choice (OpenRouter), in a list (Gemini), or as
    the whole of it (vLLM, MiniMax); an error that is mere text has none but its message.
    """
    if isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]
    if not isinstance(reply, dict):
        return None
    error = reply.get("error")
    match reply.get("choices"):
        case [{"error": said}, *_]:
            error = error or said
    if not error and not reply.get("choices"):
        error = reply
    return error if isinstance(error, dict) or not error else {"message": error}


def _status(error: Mapping) -> int:
    """The HTTP status that an error would have had."""
    for told in (error.get("code"), error.get("status"), error.get("status_code")):
        if str(told).isdigit() and 400 <= int(str(told)) < 600:
            return int(str(told))
    words = json.dumps(error)
    said = (status for status, each in WORDS.items() if re.search(each, words, re.IGNORECASE))
    return next(said, 500)


def wait_asked(headers: Mapping[str, str], text: str = "") -> float | None:
    """Seconds that the server asks to be left alone, in its headers (a number or a date) or in its
    error.
    """
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return None if math.isnan(seconds) else max(0.0, seconds)
    if date := email.utils.parsedate_tz(headers.get("retry-after")):
        return max(0.0, email.utils.mktime_tz(date) - time.time())
    found = RETRY_AFTER.search(text)
    return float(found["number"]) / (1000 if found["ms"] else 1) if found else None


def choice_of(reply: Any) -> dict:
    """The first choice of a chat completion; `Failure` for what is none, or was broken off."""
    try:
        choice = reply["choices"][0]
        failed = ending(str(choice.get("finish_reason"))) == "failed"
        whole = isinstance(choice["message"], dict) and not failed
    except (AttributeError, LookupError, TypeError):
        whole = False
    if not whole:
        raise Failure("the answer is not a chat completion, or was broken off", 200)
    return choice


def usage(reply: dict, name: str) -> int | None:
    """A count of tokens, if the server tells one."""
    told = reply.get("usage")
    count = told.get(name) if isinstance(told, dict) else None
    # True is an int as well; above 2**53 a JSON number is no longer exact, nor is it in a table of
    # floats.
    return count if type(count) is int and 0 <= count < 2**53 else None


def generation(reply: dict, seconds: float) -> Generation:
    """The answer in a chat completion; its text, thoughts and refusal may come in parts."""
    choice = choice_of(reply)
    message = choice["message"]
    parts = _parts(message.get("content"))
    told = filter(None, map(message.get, THOUGHTS))
    thought = _parts(next(told, None), "thinking")["thinking"]
    refusal = _parts(message.get("refusal"), "refusal")["refusal"] or parts["refusal"]
    return Generation(
        _whole(refusal or parts["text"]),
        str(choice.get("finish_reason") or "stop"),
        usage(reply, "prompt_tokens"),
        usage(reply, "completion_tokens"),
        seconds,
        _whole(thought or parts["thinking"]),
        "refused" if refusal else "",
    )


def _parts(content: Any, kind: str = "text") -> dict[str, str]:
    """Text, thinking and refusal of a message's content: a string, a typed part, or a list of them,
    joined.
    """
    found: dict[str, str] = defaultdict(str)
    if isinstance(content, str):
        found[kind] = content
    parts = content if isinstance(content, list) else []
    for part in [content] if isinstance(content, dict) else parts:
        fields = part if isinstance(part, dict) else {"text": part}
        # Gemini marks its thoughts.
        told = "thinking" if fields.get("thought") is True else str(fields.get("type"))
        names = (told, "text", "content", "summary")
        held = next(filter(None, map(fields.get, names)), None)
        for name, text in _parts(held, KINDS.get(told, kind)).items():
            found[name] += text
    return found


def _whole(text: str) -> str:
    """Without halves of characters, which JSON can hold and no file."""
    return text.encode(errors="replace").decode()


def alternatives(reply: dict) -> list[tuple[str, float]]:
    """The likeliest first tokens of an answer, as text, with their log-probabilities; none if the
    server gives none.
    """
    try:
        told = choice_of(reply)["logprobs"]
        if not told.get("content"):
            # As of plain completions (Together): token → log-probability.
            pairs = told["top_logprobs"][0].items()
            listed = [(str(token).translate(MARKS), float(value)) for token, value in pairs]
        else:
            tokens = told["content"][0]["top_logprobs"]
            listed = [(_text(token), float(token["logprob"])) for token in tokens]
    except (AttributeError, LookupError, TypeError, ValueError):
        return []
    return [(token, value) for token, value in listed if not math.isnan(value)]


def _text(token: Mapping) -> str:
    try:
        text = bytes(token["bytes"]).decode()
    except (LookupError, TypeError, ValueError):
        text = ""
    # Its bytes are not told, or are a piece of a character.
    return text or str(token["token"]).translate(MARKS)


def weigh(
    listed: Sequence[tuple[str, float]], choices: Sequence[str]
) -> tuple[np.ndarray, str | None]:
    """Log-probability of each choice as the next token, from the likeliest tokens, and a choice
    that leaves it unknown.

    Tokens that read as the same choice, but for white space around it ("A", " A", one token twice),
    are added up: an answer that begins with any of them is that choice.

    A choice that is not listed is no likelier than the least likely token listed, nor than all that
    is not listed together; it is given that upper bound. With p listed on the choices in all and b
    given to those not listed, each choice's share of the choices is then right to within b / (p +
    b). Where that is more than `UNKNOWN`, the shares are not known, and the second value is the
    first choice that is not listed, else None.

    Examples
    --------
    >>> tokens = [("A", np.log(0.5)), (" A", np.log(0.25)), ("B", np.log(0.125))]
    >>> np.exp(weigh(tokens, ["A", "B"])[0])
    array([0.75 , 0.125])
    """
    # " A" and "A" are one choice, unless both are to choose from.
    read = str.strip if len({choice.strip() for choice in choices}) == len(choices) else str
    mass: dict[str, float] = defaultdict(lambda: -math.inf)
    for token, log_probability in listed:
        mass[read(token)] = np.logaddexp(mass[read(token)], log_probability)
    least = min(log_probability for _, log_probability in listed)
    unlisted = max(1 - math.exp(np.logaddexp.reduce(list(mass.values()))), ROUNDING)
    bound = min(least, math.log(unlisted))
    absent = [choice for choice in choices if read(choice) not in mass]
    known = sum(math.exp(mass[read(choice)]) for choice in choices if choice not in absent)
    possible = len(absent) * math.exp(bound)
    unknown = absent[0] if possible > UNKNOWN * (known + possible) else None
    return np.array([mass.get(read(choice), bound) for choice in choices]), unknown
