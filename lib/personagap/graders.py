"""Graders of MMLU, GSM8K and MBPP: how an answer is read and what it scores, under each protocol.

"paper" is what the text of arXiv 2406.11107 and its released code say, re-written from their
description, weaknesses included; where the released code cannot have produced a result (S4, S7)
it does what the text says. "code" is the released code as it stands. "corrected" repairs the
traps, each of which `DISCREPANCIES` also holds by itself; S-numbers name them.
"""

import ast
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from personagap import sandbox


class Grade(NamedTuple):
    """A score in [0, 1], and whether an answer could be extracted."""

    score: float
    valid: bool


class Rule(NamedTuple):
    """``extract(row)`` gives what the answer in a row says, or None, which is wrong; ``mark(value, row)`` its score.

    With ``seconds`` the value is a program, and what is marked are its tests: passed, one by one, in so many seconds
    together.
    """

    extract: Callable[[Any], Any]
    mark: Callable[[Any, Any], float]
    seconds: float | None = None


def grade(answers: pd.DataFrame, rules: Mapping[str, Rule]) -> dict[str, list[Grade]]:
    """Grades of the same answers by each rule.

    Parameters
    ----------
    answers : ``text`` and the columns of the items table, one row per answer, of one task.
    rules : by name. A program that several of them read is run once.
    """
    rows, passed, grades = list(answers.itertuples()), {}, {}
    for name, rule in rules.items():
        values = [rule.extract(row) for row in rows]
        if rule.seconds:
            keys = [(program, row.item, rule.seconds) for program, row in zip(values, rows, strict=True)]
            new = {key: row for key, row in zip(keys, rows, strict=True) if key[0] is not None and key not in passed}
            jobs = [(program, row.tests, row.setup) for (program, *_), row in new.items()]
            passed |= zip(new, sandbox.run_many(jobs, timeout=rule.seconds), strict=True)
            values = [passed.get(key) for key in keys]
        grades[name] = [
            Grade(0.0, False) if value is None else Grade(float(rule.mark(value, row)), True)
            for value, row in zip(values, rows, strict=True)
        ]
    return grades


# --- MMLU --------------------------------------------------------------------------------------------

#: Tried in this order, whatever the case (§3.5 of the reference).
PAPER_MMLU = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in [
        r"the\s*answer\s*is\s*\(([A-D])\)",
        r"the\s*answer[,.\s]*is\s*([A-D])",
        r"the\s*correct\s*answer\s*is\s*\(([A-D])\)",
        r"the\s*answer\s*is:\s*\n*\s*\(([A-D])\)",
        r"ption\s\(([A-D])\)",
    ]
]


def paper_letter(text: str) -> str | None:
    """The letter the paper's patterns find; lower case, hence wrong, where they hit prose (S6)."""
    return next((found[1] for pattern in PAPER_MMLU if (found := pattern.search(text))), None)


# A letter: "(c)" in either case, or a capital that cannot be prose ("A bit of", "C-section", S6).
_REASON = r"(?:because|since|as|and|or|which|with)\b"
_LETTER = (
    r"(?:[(\[]\s*([A-Da-d])\s*[)\]]"
    rf"|(A(?![ \t]+(?!{_REASON})\w)|[B-D](?![ \t]+(?!{_REASON})[a-z]))(?![\w'’+#-]|\.\w))"
)
_CHOICE = r"(?i:option|choice|letter)?\s*"
_HEDGE = r"(?i:(?:therefore|thus|probably|most\s+likely|likely|clearly)[,\s]+)?"
_STATEMENTS = [
    # "the answer is (C)", "Answer: C", "the correct option would be C"
    r"(?i:answer|choice|option)(?i:\s+choice|\s+option)?\s*(?:(?i:is|was|(?:would|must|should)\s+be)\s*:?|:|=|-)\s*"
    + _HEDGE + _CHOICE + _LETTER,
    # "I choose C"
    r"(?i:\b(?:choose|select|pick|go\s+with))\s+" + _CHOICE + _LETTER,
    # "Therefore, (C)."
    r"(?i:\b(?:therefore|thus|hence|so)),?\s+" + _CHOICE + _LETTER + r"(?=[\s.:!]*(?:\n|\Z))",
    # "(C) is correct", "Option C is the right answer"
    rf"(?:\b|(?=[(\[]))(?:{_LETTER}|([A-D]))\s+(?i:is)\s+(?i:the\s+)?(?i:correct|right|best)\b",
    r"\\boxed\{\s*(?:\\text\{)?\(?([A-D])\)?\s*\}",
]  # fmt: skip
_STATEMENT = re.compile("|".join(f"(?:{pattern})" for pattern in _STATEMENTS))
_ANOTHER = re.compile(r"\s*(?:or|and|/|,|&)\s*" + _CHOICE + r"[(\[]?[A-D](?![\w'’])")
#: A line that is only a choice: "C", "(C)", "C.", "C) Lima".
_BARE = re.compile(rf"{_LETTER}[ .:]*|([A-D])[.):]\s.*|[(\[]([A-D])[)\]]\s.*")
_CONCLUDES = re.compile(r"\b(?:answer|correct|therefore)\b", re.IGNORECASE)
_DENIES = re.compile(r"\b(?:not|cannot|wrong|incorrect)\b|n['’]t\b", re.IGNORECASE)


def letter(text: str) -> str | None:
    """The choice that a response states last, or None where it states none, or several at once.

    Failing a statement ("the answer is …"), a line that is nothing but a choice counts, if no
    other line names another, and then the one choice in brackets of a concluding last line.

    Examples
    --------
    >>> letter("The answer is a bit unclear, but **Answer: C**")
    'C'
    >>> letter("The answer is (A) or (B).") is None
    True
    """
    text = re.sub(r'[*`$"“”]|__', "", text).strip()
    statements = list(_STATEMENT.finditer(text))
    if statements:
        last = statements[-1]
        return None if _ANOTHER.match(text, last.end()) else _group(last)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = {_group(bare) for line in lines if (bare := _BARE.fullmatch(line))}
    if not named and lines and _CONCLUDES.search(lines[-1]) and not _DENIES.search(lines[-1]):
        named = set(re.findall(r"\(([A-D])\)", lines[-1]))
    return named.pop() if len(named) == 1 else None


def _group(match: re.Match) -> str:
    return next(group for group in match.groups() if group).upper()


# --- GSM8K -------------------------------------------------------------------------------------------


def paper_number(text: str) -> float | None:
    """The last number of the text, without its sign.

    The released code strips the commas before it looks for "Therefore, the answer is", so that
    only its fallback, the last number, is ever used (S5).
    """
    numbers = re.findall(r"\d+(?:\.\d+)?", text.replace(",", ""))
    return float(numbers[-1]) if numbers else None


_DIGITS = r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\.)\.\d+"
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)%])[-−–])?[$€£]?"  # a sign counts where nothing stands before it: not in "5-3"
    rf"(?:(?P<whole>\d+)\s+(?P<over>\d+)/(?P<under>\d+)|(?P<value>{_DIGITS})(?:\s*/\s*(?P<divisor>\d+))?)"
)
_ANSWER = re.compile(r"answer\s*(?:is|was|would\s+be|:|=)|####|\\boxed\{", re.IGNORECASE)


def number(text: str) -> float | None:
    """The number of the last "answer is" sentence, else the last number of the text.

    Signs, decimals, thousands separators, currencies, per cent signs, fractions and mixed
    numbers are read; of an equation the result is taken.

    Examples
    --------
    >>> number("So the answer is $1,250.50. He saves it in 3 weeks.")
    1250.5
    """
    text = re.sub(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"\1/\2", text)
    text = re.sub(r"\\(?=[$%])|\\[,!]|[*`]", "", text)
    for statement in reversed(list(_ANSWER.finditer(text))):
        sentence = re.split(r"\n\s*\S|[.!?]\s", text[statement.end() :][:300].lstrip(), maxsplit=1)[0]
        stated = list(_NUMBER.finditer(sentence.rpartition("=")[2])) or list(_NUMBER.finditer(sentence))
        if stated:
            return _value(stated[0])
    numbers = list(_NUMBER.finditer(text))
    return _value(numbers[-1]) if numbers else None


def _value(match: re.Match) -> float | None:
    divisor = float(match["under"] or match["divisor"] or 1)
    if divisor == 0:
        return None
    value = float((match["value"] or match["over"]).replace(",", "")) / divisor + float(match["whole"] or 0)
    return -value if match["sign"] else value


# --- MBPP --------------------------------------------------------------------------------------------

_FENCED = re.compile(r"```(?:[ \t]*[\w+-]*[ \t]*\r?\n)?(.*?)(?:```|\Z)", re.DOTALL)


def paper_code(text: str) -> str | None:
    """The first fenced block by the paper's pattern (which eats digits before the fence, S7)."""
    found = re.search(r"```(?:python\n)?([\s\S]*?)\d*```", text)
    if found is None:
        return None
    return "\n".join(f"# {line}" if "input(" in line else line for line in found[1].split("\n"))


def code(text: str, tests: list[str]) -> str | None:
    """The program of a response: the last fenced block that defines what the tests call.

    Failing that the first block; without a fence the whole text, if it is a program. A last
    fence may be unclosed (a truncated answer).
    """
    blocks = _FENCED.findall(text)
    called = set(re.findall(r"[A-Za-z_]\w*(?=\s*\()", " ".join(tests)))
    defining = [block for block in blocks if called & set(re.findall(r"(?:def|class)\s+(\w+)", block))]
    if blocks:
        return defining[-1] if defining else blocks[0]
    try:
        with warnings.catch_warnings(action="ignore"):  # the text's own odd escapes
            parsed = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return text if any(isinstance(node, ast.FunctionDef) for node in parsed.body) else None


# --- the rules -----------------------------------------------------------------------------------------


def _never(*_) -> float:
    return 0.0


def _first_line(rule: Rule) -> Rule:
    return rule._replace(extract=lambda row: rule.extract(row._replace(text=row.text.strip().split("\n")[0])))


_MMLU = Rule(lambda row: letter(row.text), lambda found, row: found == row.answer)
_GSM8K = Rule(lambda row: number(row.text), lambda found, row: abs(found - float(row.answer)) < 1e-6)
_MBPP = Rule(lambda row: code(row.text, row.tests), lambda passed, row: all(passed), 5.0)
_PAPER_MMLU = _MMLU._replace(extract=lambda row: paper_letter(row.text))
_PAPER_GSM8K = _GSM8K._replace(extract=lambda row: paper_number(row.text))
_PAPER_MBPP = Rule(lambda row: paper_code(row.text), lambda passed, row: sum(passed) / len(passed), 1.0)

GRADERS = {
    "mmlu": {"corrected": _MMLU, "paper": _PAPER_MMLU, "code": _PAPER_MMLU},
    "gsm8k": {"corrected": _GSM8K, "paper": _PAPER_GSM8K, "code": _PAPER_GSM8K._replace(mark=_never)},
    "mbpp": {"corrected": _MBPP, "paper": _PAPER_MBPP, "code": _PAPER_MBPP._replace(mark=_never, seconds=None)},
}
#: Each trap alone, in the corrected grader.
DISCREPANCIES = {
    "mmlu": {
        "S6 first match, in any case": _PAPER_MMLU,
        "S8 cut at the first line break": _first_line(_MMLU),
    },
    "gsm8k": {
        "S4 number compared with text": _GSM8K._replace(mark=_never),
        "S5 last number, without its sign": _PAPER_GSM8K,
        "S8 cut at the first line break": _first_line(_GSM8K),
    },
    "mbpp": {
        "S7 fence that eats digits": _MBPP._replace(extract=_PAPER_MBPP.extract),
        "S7 program compared with 1": _MBPP._replace(mark=_never, seconds=None),
        "S8 cut at the first line break": _first_line(_MBPP),
        "S20 share of asserts": _MBPP._replace(mark=_PAPER_MBPP.mark),
    },
}
