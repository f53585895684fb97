"""Reading the outputs of models: yes or no, the numbers of a list, JSON."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from personagap.models.answers import visible
from personagap.tasks._wording import actual, plain

#: Number of brackets at which parsing of JSON is attempted in an output.
ATTEMPTS = 100
#: Length of an output that is read as YAML, which is slow.
YAML_LENGTH = 20_000

# --- answers about relevance ----------------------------------------------------------------------

_ANSWER = re.compile(r"(?i)\banswer\W{1,6}(?:yes\b|no|\d)")
_ENDS = r"\b(?=\W*?(?:\n|\Z|[.,;:!)–—-](?:\s|\Z)| (?:BECAUSE|SINCE|AS)\b))"
#: "Answer: YES", "ANSWER - NO", "Answer YES", "Verdict: NO" (a line), "Relevant? No",
#: "The answer should be no.", "I would say yes.", "Therefore, NO."
_STATED = re.compile(
    r"(?:\bANSWER\b\W{0,3}[:=–—-]\W{0,6}|\bBOXED: |\bANSWER\n\W{0,3})(YES|NO)\b"
    r"|(?:^[ #>-]*[A-Z ]{2,30} ?[:=?]\W{0,3}|\bANSWER(?: \w{1,9}){0,2} (?:IS|BE)\b\W{1,3}|\bANSWER "
    r"|\bI(?:'D| WOULD|'LL| WILL)? (?:SAY|ANSWER)\b\W{1,3}|\b(?:SO|THUS|THEREFORE|HENCE)\b,? )"
    rf"(YES|NO){_ENDS}",
    re.MULTILINE,
)
#: Both words as alternatives: "Answer: YES or NO", "Answer: YES/NO"
_OFFERED = re.compile(r" ?(?:/|OR\b)")
#: A last line that is "NO", or a first one such as "Yes, as …"
_ALONE = re.compile(
    r"(?:.*\n\W*(?=\w+\W*\Z)|\W*(?=\w+\W*(?:\n|\Z|[.,;:–—-]\s| \()))(YES|NO)\b", re.DOTALL
)
#: Numbers without any other text, such as "2, 5" or "None"
_NUMBERS = re.compile(r"(?:[\W\d]|\bAND\b)*|\W*NONE\W*|\W*ALL(?: OF THEM)?\W*")
_RANGE = re.compile(r"\b(\d{1,3}) ?(?:-|–|—|\bTO\b|\bTHROUGH\b) ?(\d{1,3})\b")
#: A remark in brackets, such as "1 (the user has 2 dogs)", but not "(1)"
_REMARK = re.compile(r"\([^()\n]*[^\W\d][^()\n]*\)")
#: A line of a list that repeats or explains what is chosen: "1. The user bakes"
_ENTRY = re.compile(r"(?:^|[,;] )[\s*#(-]*(\d+)[.):] (?=.*[^\W\d])")
#: An answer for each: "1. Yes", "| 2 | no |", "{1: yes, 2: no}"
_EACH = re.compile(rf"(?:^|[,{{]) ?\W{{0,6}}(\d+)\W{{1,5}}(YES|NO){_ENDS}", re.MULTILINE)
#: Why some are chosen, up to further ones: "1, as he has 2 dogs, and 3"
_REASON = re.compile(r"\b(?:BECAUSE|SINCE|AS)\b[^\n]{0,200}?(?=,? AND \d|[,;] ?\d|$)")
_UNCLEAR = re.compile(r"\b(?:NOT|EXCEPT|EXCLUDING|BUT|OR|UNLESS|POSSIBLY|PERHAPS|MAYBE)\b")

_RATING = re.compile(
    r"(?i)\W*(?:(?:the |my )?(?:rating|score)\W*(?:is\W*)?)?([1-5])(?: ?/ ?5| out of 5)?\W*"
)


def read_answer(text: str | None, n: int = 1, mode: str = "single") -> list[int] | None:
    """Read the labels 0/1 of the ``n`` attributes of a page from the text after the last "Answer:",
    or from a text that consists of the answer alone; None if it cannot be read.

    Examples
    --------
    >>> read_answer("It sets the tone.\\n**Answer: YES**"), read_answer("Answer: 1, 3", 3, "list")
    ([1], [1, 0, 1])
    >>> read_answer("NO"), read_answer("2", 3, "list")
    ([0], [0, 1, 0])
    >>> read_answer("Yes and no."), read_answer("Answer: 4", 3, "list")
    (None, None)
    """
    text = actual(re.sub(r"```\w*|[*_`\"]", "", plain(text or "")), _ANSWER).strip().upper()
    return _yes_or_no(text) if mode == "single" else _chosen(text, n)


def _yes_or_no(text: str) -> list[int] | None:
    # The last statement counts, as a text may quote that of the question before giving its own.
    if statements := [*_STATED.finditer(text)]:
        if _OFFERED.match(text, statements[-1].end()):
            return None
        word = statements[-1][1] or statements[-1][2]
    elif re.search(r"\bANSWER ?:", text) or not (alone := _ALONE.match(text)):
        return None
    else:
        word = alone[1]
    return [int(word == "YES")]


def _chosen(text: str, n: int) -> list[int] | None:
    marks = [*re.finditer(r"\bANSWER ?[:=]|\bBOXED:", text)]
    marked, answer = bool(marks), text[marks[-1].end() if marks else 0 :]
    answer = _REMARK.sub("", answer)
    if each := dict(_EACH.findall(answer)):
        words = [each.get(str(number)) for number in range(1, n + 1)]
        return None if None in words or len(each) > n else [int(word == "YES") for word in words]
    # Numbers alone may spread over several lines; if the answer also explains them, the first line
    # holds the numbers, or each line begins with one.
    bare = _NUMBERS.fullmatch(answer)
    lines = [line for line in answer.strip("- \n").split("\n") if line.strip()] or [""]
    entries = [_ENTRY.findall(line) if _ENTRY.match(line) else [] for line in lines]
    if marked and all(entries):
        line = ", ".join(itertools.chain(*entries))
    else:
        line = _REASON.sub("", answer if bare or not marked else lines[0])
    line = _RANGE.sub(lambda ends: ",".join(map(str, range(int(ends[1]), int(ends[2]) + 1))), line)
    # A number that no attribute has makes the whole answer unreadable: nobody knows which attribute
    # was meant, and the other numbers may be shifted too.
    numbers = {int(number) for number in re.findall(r"\d+", line)}
    none = re.match(r"\W*(?:NONE\b|\[ ?\]|\Z)", line) if "[" in line or "N" in line else None
    if not numbers and re.match(r"\W*ALL\b", line):
        numbers = set(range(1, n + 1))
    if not (marked or bare) or not numbers <= set(range(1, n + 1)) or not (numbers or none):
        return None
    return None if _UNCLEAR.search(line) else [int(number in numbers) for number in range(1, n + 1)]


def read_rating(text: str | None) -> float | None:
    """Return the rating in a JSON object, or in a text that consists of it; None without either, 0
    for an object without a rating.

    Examples
    --------
    >>> read_rating('{"rating": 4}'), read_rating("Rating: 4/5"), read_rating('{"rating": "good"}')
    (4, 4.0, 0)
    """
    if answer := read_object(text, "rating"):
        return as_number(answer.get("rating")) or 0
    alone = _RATING.fullmatch(plain(text or ""))
    return float(alone[1]) if alone else None


# --- JSON -----------------------------------------------------------------------------------------


def read_list(text: str | None) -> list | None:
    """Return the first list of objects in an output, after any thinking; failing that the first
    list, or the objects that stand there without one; None if there are neither.

    Examples
    --------
    >>> read_list('As in [1]: [{"a": 1}]'), read_list('{"a": 1}\\n{"a": 2}'), read_list("None.")
    ([{'a': 1}], [{'a': 1}, {'a': 2}], None)
    """
    lists = [*_values(text, "[")]
    # A list inside a list, as some models enclose theirs
    lists = [
        value[0] if len(value) == 1 and isinstance(value[0], list) else value for value in lists
    ]
    of_objects = (value for value in lists if any(isinstance(item, dict) for item in value))
    if lists:
        return next(of_objects, lists[0])
    # The objects of a list that is cut off are no answer.
    cut_off = re.match(r"[^{]*\[", visible(text or ""))
    return None if cut_off else [*_values(text, "{")] or None


def read_object(text: str | None, key: str) -> dict | None:
    """Return the first object with this key in an output, after any thinking; failing that the
    first object; None if there is none. The case of keys is ignored.

    Examples
    --------
    >>> read_object('{"step": 1} {"Rating": 4}', "rating")
    {'rating': 4}
    """
    found = [lower_keys(value) for value in _values(text, "{")]
    return next((value for value in found if key in value), found[0] if found else None)


def lower_keys(value: dict) -> dict:
    """Return an object with keys in lower case."""
    return {str(key).lower(): item for key, item in value.items()}


def as_number(value: Any) -> float | None:
    """Return a number, or the number in a text such as "4" or "4/5"; None for anything else."""
    if isinstance(value, str) and (match := re.fullmatch(r" *(-?\d*\.?\d+) *(?:/ *5)? *", value)):
        return float(match[1])
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _values(text: str | None, bracket: str) -> Iterator[Any]:
    """Yield the JSON lists or objects in an output that are not inside others of their kind."""
    # Reasoning may contain drafts of the list; only the visible text is the answer.
    text, position, found = visible(text or ""), 0, False
    # Other text may surround the JSON: code fences, "The list [as asked]:", a closing remark.
    for _ in range(ATTEMPTS):
        if (start := text.find(bracket, position)) < 0:
            break
        try:
            # Not strict, because models leave the line breaks of texts unescaped.
            value, position = json.JSONDecoder(strict=False).raw_decode(text, start)
            found = True
            yield value
        except json.JSONDecodeError as error:
            # After the error: a list inside a list that is cut off is not the answer.
            position = max(error.pos, start + 1)
        except RecursionError:
            break
    if not found:
        yield from _almost(text, bracket)


def _almost(text: str, bracket: str) -> Iterator[Any]:
    """Yield what a text with single quotes, unquoted keys or a comma too many means, if anything.

    YAML allows all of these.
    """
    start, end = text.find(bracket), text.rfind("]" if bracket == "[" else "}") + 1
    if not 0 <= start < end <= start + YAML_LENGTH:
        return
    quoted = re.sub("[“”]", '"', text[start:end])
    try:
        value = yaml.safe_load(re.sub(r"(?<=[\s,{}\[\]])//.*", "", quoted))
    except (yaml.YAMLError, ValueError, RecursionError):
        return
    if isinstance(value, list if bracket == "[" else dict):
        yield value
