"""Reading the reply of a server: an answer, an error inside it, the likeliest next tokens."""

import contextlib
import email.utils
import json
import math
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from personagap.models import Generation
from personagap.models.answers import outcome_of
from personagap.models.streamed import json_or_events
from personagap.redaction import sanitize

#: HTTP statuses by words in the error, for errors without a status; any other error counts as 500.
STATUS_WORDS = {
    429: r"rate.?limit|too.many|quota|exhausted|throttl",
    503: r"overload|unavailable|capacity|busy|time.?out",
    401: r"api.?key|unauthori|authenticat",
    400: r"invalid|bad.?request|not.?found|unsupported|context.length|content.filter",
}
#: Words in the error for a prompt, or an answer, that a content filter stopped: Azure, OpenAI,
#: DeepSeek, Qwen, OpenRouter, Gemini, Grok, Zhipu.
FILTERED = re.compile(
    r"content[_ ]?(?:filter|policy|management)|responsible_?ai|moderation|data_?inspection"
    r"|content exists risk|block_?reason|violates usage guidelines|usage policy|safety system"
    r"|(?:prompt|input|output) was flagged|敏感",
    re.IGNORECASE,
)
#: Statuses of such an error.
FILTERED_STATUSES = (400, 403, 451)
#: Temporary errors below 500: a time-out, a conflict, too early, too many requests.
TEMPORARY = (408, 409, 425, 429)
RETRY_AFTER = re.compile(
    r'"retry[-_ ]?after(?P<ms>[-_ ]?ms)?"\s*:\s*"?(?P<number>\d{1,9}(?:\.\d+)?)'
    # "Please try again in 1m20.5s" (OpenAI), "retryDelay": "34s" (Gemini)
    r'|(?:(?:try again|retry) (?:in|after) |"retryDelay"\s*:\s*")(?:(?P<minutes>\d{1,9}) ?m'
    r"(?:in\w*)? ?)?(?P<seconds>\d{1,9}(?:\.\d+)?) ?(?P<unit>ms|milli|s)",
    re.IGNORECASE,
)
#: Types of the parts of a message's content that are not its text.
PART_KINDS = {
    **dict.fromkeys(
        ["thinking", "thought", "reasoning", "reasoning_text", "reasoning_content"], "thinking"
    ),
    "refusal": "refusal",
}
#: Fields of a message that hold its reasoning: in vLLM and DeepSeek, in OpenRouter and newer
#: versions, in Ollama, in LiteLLM.
REASONING_FIELDS = (
    "reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks",
)  # fmt: skip
#: Spaces and line breaks as vocabularies write them, for servers that return tokens in this form.
WHITESPACE_MARKS = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n"})
#: The largest share of the choices' probability that may fall on choices that are not listed. Above
#: it the probabilities count as unknown.
UNKNOWN = 0.01
#: Minimum of the probability that is not listed, which rounding may leave at 0 or below.
ROUNDING = 1e-6


class Failure(Exception):
    """A request without an answer; its message is one line.

    Attributes
    ----------
    status : the HTTP status, or that of an error inside a reply; None if there was no reply.
    filtered : whether a content filter stopped the prompt or the answer.
    wait : seconds for which the server asks for no further request.
    passes : whether the error is temporary and the request should be retried.
    """

    def __init__(
        self,
        reason: str,
        status: int | None = None,
        filtered: bool = False,
        wait: float | None = None,
        passes: bool = True,
    ):
        super().__init__(" ".join(sanitize(reason).split())[:300])
        self.status, self.filtered, self.wait, self.passes = status, filtered, wait, passes


def failure(status: int, text: str, headers: Mapping[str, str]) -> Failure:
    """Return the failure of an HTTP error, or of an error in the text of a successful reply."""
    error = error_in(_json(text)) or {}
    words = FILTERED.search(json.dumps(error, ensure_ascii=False)[:1000]) is not None
    if status < 400:
        status = FILTERED_STATUSES[0] if words else _status(error)
    wait, filtered = wait_asked(headers, text), words and status in FILTERED_STATUSES
    temporary = status >= 500 or status in TEMPORARY or wait is not None
    if (header := headers.get("x-should-retry")) in ("true", "false"):
        # OpenAI states whether to retry a request.
        temporary = header == "true"
    return Failure(f"{status} {text}", status, filtered, wait, temporary and not filtered)


def _json(text: str) -> Any:
    with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
        return json_or_events(text)
    return None


def error_in(reply: Any) -> dict | None:
    """Return the error in a reply, if any.

    It may stand in place of the choice (OpenRouter), in a list (Gemini), or be the whole reply
    (vLLM, MiniMax). An error that is only a text becomes a message.
    """
    if isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]
    if not isinstance(reply, dict):
        return None
    error = reply.get("error")
    match reply.get("choices"):
        case [{"error": choice_error}, *_]:
            error = error or choice_error
    if not error and not reply.get("choices"):
        error = reply
    return error if isinstance(error, dict) or not error else {"message": error}


def _status(error: Mapping) -> int:
    """Return the HTTP status that corresponds to an error inside a reply."""
    for code in map(str, (error.get("code"), error.get("status"), error.get("status_code"))):
        if re.fullmatch("[45][0-9][0-9]", code):
            return int(code)
    text = json.dumps(error)
    for status, words in STATUS_WORDS.items():
        if re.search(words, text, re.IGNORECASE):
            return status
    return 500


def wait_asked(headers: Mapping[str, str], text: str = "") -> float | None:
    """Return the seconds for which the server asks for no further request, in its headers (as a
    number or a date) or in the text of its error.
    """
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return None if math.isnan(seconds) else max(0.0, seconds)
    if date := email.utils.parsedate_tz(headers.get("retry-after")):
        with contextlib.suppress(ValueError, OverflowError):  # a year without end
            return max(0.0, email.utils.mktime_tz(date) - time.time())
    if not (match := RETRY_AFTER.search(text)):
        return None
    in_ms = match["ms"] or str(match["unit"]).lower().startswith("m")
    seconds = float(match["number"] or match["seconds"]) / (1000 if in_ms else 1)
    return seconds + 60 * int(match["minutes"] or 0)


def choice_of(reply: Any) -> dict:
    """Return the first choice of a chat completion; `Failure` if there is none, or if the answer
    was broken off.
    """
    try:
        choice = reply["choices"][0]
        failed = outcome_of(_finish_reason(choice)) == "failed"
        complete = isinstance(choice["message"], dict) and not failed
    except (AttributeError, LookupError, TypeError):
        complete = False
    if not complete:
        raise Failure("the answer is not a chat completion, or was broken off", 200)
    return choice


def _finish_reason(choice: Mapping) -> str:
    """Return the finish reason, which some servers give as an object with a type; "" if none."""
    reason = choice.get("finish_reason")
    return str((reason.get("type") if isinstance(reason, dict) else reason) or "")


def usage(reply: dict, name: str) -> int | None:
    """Return a token count, such as "prompt_tokens", if the server reports it."""
    counts = reply.get("usage")
    count = counts.get(name) if isinstance(counts, dict) else None
    # Not isinstance, since True is an int. Above 2**53 integers are not exact in JSON, nor in a
    # table of floats.
    return count if type(count) is int and 0 <= count < 2**53 else None


def generation(reply: dict, seconds: float) -> Generation:
    """Return the answer in a chat completion, with its text, reasoning and refusal joined from
    their parts.
    """
    choice = choice_of(reply)
    message = choice["message"]
    content = _parts(message.get("content"))
    fields = filter(None, map(message.get, REASONING_FIELDS))
    reasoning = _parts(next(fields, None), "thinking")["thinking"] or content["thinking"]
    refusal = _parts(message.get("refusal"), "refusal")["refusal"] or content["refusal"]
    return Generation(
        _encodable(refusal or content["text"]),
        _finish_reason(choice) or "stop",
        usage(reply, "prompt_tokens"),
        usage(reply, "completion_tokens"),
        seconds,
        _encodable(reasoning),
        "refused" if refusal else "",
    )


def _parts(content: Any, kind: str = "text") -> dict[str, str]:
    """Return the joined text, thinking and refusal of a message's content.

    The content is a string (of the given ``kind``), a part with a type, or a list of both.
    """
    joined: dict[str, str] = defaultdict(str)
    if isinstance(content, str):
        joined[kind] = content
    parts = content if isinstance(content, list) else []
    for part in [content] if isinstance(content, dict) else parts:
        fields = part if isinstance(part, dict) else {"text": part}
        # Gemini flags its thoughts instead of giving them a type.
        type_ = "thinking" if fields.get("thought") is True else str(fields.get("type"))
        names = (type_, "text", "content", "summary", "parts", "value")
        inner = next(filter(None, map(fields.get, names)), None)
        for name, text in _parts(inner, PART_KINDS.get(type_, kind)).items():
            joined[name] += text
    return joined


def _encodable(text: str) -> str:
    """Replace lone surrogates, which JSON can contain but UTF-8 files cannot."""
    return text.encode(errors="replace").decode()


def alternatives(reply: dict) -> list[tuple[str, float]]:
    """Return the likeliest first tokens of an answer, as text, with their log-probabilities; an
    empty list if the server gives none.
    """
    try:
        logprobs = choice_of(reply)["logprobs"]
        if not logprobs.get("content"):
            # The format of plain completions (Together): token → log-probability.
            pairs = logprobs["top_logprobs"][0].items()
            listed = [(str(token).translate(WHITESPACE_MARKS), float(lp)) for token, lp in pairs]
        else:
            tokens = logprobs["content"][0]["top_logprobs"]
            if isinstance(tokens, dict):
                tokens = [{"token": token, "logprob": value} for token, value in tokens.items()]
            listed = [(_text(token), float(token["logprob"])) for token in tokens]
    except (AttributeError, LookupError, TypeError, ValueError):
        return []
    return [(token, value) for token, value in listed if not math.isnan(value)]


def _text(token: Mapping) -> str:
    """Return the text of a token's bytes, or of its name in the vocabulary."""
    try:
        text = bytes(token["bytes"]).decode()
    except (LookupError, TypeError, ValueError):
        text = ""
    # The bytes may be missing, or be a part of a character.
    return text or str(token["token"]).translate(WHITESPACE_MARKS)


def read_choices(
    listed: Sequence[tuple[str, float]], choices: Sequence[str]
) -> tuple[np.ndarray, str | None]:
    """Return the log-probability of each choice as the next token, from the likeliest tokens, and
    a choice that leaves the probabilities unknown, if there is one.

    Tokens that read as the same choice, apart from white space around it ("A", " A", one token
    twice), are summed: an answer that begins with any of them is that choice.

    A choice that is not listed is at most as likely as the least likely listed token, and as all
    unlisted tokens together; it is given that upper bound. Let p be the listed probability of all
    choices, and b the sum of these bounds. The share of each choice among the choices is then
    accurate to b / (p + b). If that exceeds `UNKNOWN`, the shares are unknown, and the second value
    is the first choice that is not listed; otherwise it is None.

    Examples
    --------
    >>> tokens = [("A", np.log(0.5)), (" A", np.log(0.25)), ("B", np.log(0.125))]
    >>> np.exp(read_choices(tokens, ["A", "B"])[0])
    array([0.75 , 0.125])
    """
    # " A" and "A" are the same choice, unless both are among the choices.
    normalise = str.strip if len({choice.strip() for choice in choices}) == len(choices) else str
    mass: dict[str, float] = defaultdict(lambda: -math.inf)
    for token, log_probability in listed:
        mass[normalise(token)] = np.logaddexp(mass[normalise(token)], log_probability)
    least = min(log_probability for _, log_probability in listed)
    unlisted = max(1 - math.exp(np.logaddexp.reduce(list(mass.values()))), ROUNDING)
    bound = min(least, math.log(unlisted))
    absent = [choice for choice in choices if normalise(choice) not in mass]
    p = sum(math.exp(mass[normalise(choice)]) for choice in choices if choice not in absent)
    b = len(absent) * math.exp(bound)
    unknown = absent[0] if b > UNKNOWN * (p + b) else None
    return np.array([mass.get(normalise(choice), bound) for choice in choices]), unknown
