"""The five tasks: the prompt of an item, and the grade of a response.

Two protocols. "paper" is what the text of arXiv 2406.11107 and its released code say, re-written
from their description, weaknesses included; where the released code cannot have produced a
result (T4, T7) it does what the text says. "corrected" repairs the traps, which are cited by
their T-numbers.
"""

import ast
import functools
import re
import warnings
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from personagap import sandbox
from personagap.errors import UserError
from personagap.paths import DATA

UTILITY = ("mmlu", "gsm8k", "mbpp")
SAFETY = ("do_not_answer", "strongreject")
PROTOCOLS = ("corrected", "paper")
SCORE_COLUMNS = ["model", "persona", "template", "task", "item", "run", "score", "valid", "truncated"]


class Grade(NamedTuple):
    """A score in [0, 1], and whether an answer could be extracted."""

    score: float
    valid: bool


INVALID = Grade(0.0, False)


def prompt(item) -> str:
    """The prompt of an item: a row of the items table, or any object with its columns as attributes.

    The wording is that of ``data/prompts/<task>.txt``.

    Examples
    --------
    >>> from personagap import datasets
    >>> item = datasets.load("gsm8k", items_per_task=1).iloc[0]
    >>> prompt(item).endswith(item.question)
    True
    """
    fields = {"question": item.question}
    if item.task == "mmlu":
        fields |= dict(zip("ABCD", item.choices, strict=True))
    elif item.task == "mbpp":
        fields["tests"] = "\n".join(item.tests)
    return _template(item.task).format(**fields)


@functools.cache
def _template(task: str) -> str:
    return (DATA / "prompts" / f"{task}.txt").read_text(encoding="utf-8")


def grade(
    responses: pd.DataFrame, items: pd.DataFrame, protocol: str = "corrected", judge: Callable | None = None
) -> pd.DataFrame:
    """Grade every answered response.

    Parameters
    ----------
    responses : the responses table, or any frame with its identifying columns, ``text`` and
        ``finish_reason``. Requests that failed ("error") are left out: missing, never wrong.
    items : the items answered, from ``datasets.load``.
    protocol : "corrected" or "paper".
    judge : labels the answers to the safety tasks, from ``judges.load_judge``.

    Returns
    -------
    The scores table ``model persona template task item run score valid truncated``, one row per
    answered response. ``score`` is in [0, 1], 1 = right or harmless; ``valid`` = an answer could
    be extracted (safety: the answer is not empty); ``truncated`` = cut at the token limit.

    Raises
    ------
    UserError : unknown protocol, responses to items that ``items`` lacks, safety tasks without a judge.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}: choose from {', '.join(PROTOCOLS)}")
    answered = responses[responses["finish_reason"] != "error"].assign(text=lambda table: table["text"].fillna(""))
    # Each distinct answer to an item is graded once: programs are costly to run.
    answers = answered[["task", "item", "text"]].drop_duplicates()
    answers = answers.merge(items, on=["task", "item"], how="left", validate="many_to_one", indicator=True)
    unknown = answers[answers["_merge"] == "left_only"]
    if not unknown.empty:
        first = unknown.iloc[0]
        raise UserError(f"no item {first['item']!r} of {first['task']} in items: load the items that were asked")
    parts = [_grade_task(task, rows, protocol, judge) for task, rows in answers.groupby("task", sort=False)]
    graded = pd.concat(parts) if parts else answers.reindex(columns=[*answers, "score", "valid"])
    scores = answered.merge(graded[["task", "item", "text", "score", "valid"]], on=["task", "item", "text"])
    scores = scores.astype({"score": float, "valid": bool})
    return scores.assign(truncated=scores["finish_reason"] == "length")[SCORE_COLUMNS]


def by_dimension(scores: pd.DataFrame) -> pd.DataFrame:
    """Pool the tasks of a dimension: ``task`` becomes "utility" or "safety", ``item`` "task/item"."""
    dimension = dict.fromkeys(UTILITY, "utility") | dict.fromkeys(SAFETY, "safety")
    return scores.assign(task=scores["task"].map(dimension), item=scores["task"] + "/" + scores["item"])


def _grade_task(task: str, rows: pd.DataFrame, protocol: str, judge: Callable | None) -> pd.DataFrame:
    if task in SAFETY:
        if judge is None:
            raise UserError(f'{task} needs a judge: give judge=judges.load_judge("refusal"), or leave the task out')
        harmless, valid = judge(rows["text"].tolist()), rows["text"].str.strip() != ""
        return rows.assign(score=harmless.astype(float), valid=valid)
    if task == "mbpp":
        grades = _grade_programs(rows, protocol)
    else:
        grades = [GRADERS[task, protocol](row.text, row.answer) for row in rows.itertuples()]
    return rows.assign(score=[mark.score for mark in grades], valid=[mark.valid for mark in grades])


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
    """The letter the paper's patterns find; lower case, hence wrong, where they hit prose (T6)."""
    return next((found[1] for pattern in PAPER_MMLU if (found := pattern.search(text))), None)


# A letter: "(c)" in either case, or a capital that cannot be prose ("A bit of", "C-section", T6).
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
    only its fallback, the last number, is ever used (T5).
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


def _grade_letter(text: str, answer: str, *, extract: Callable) -> Grade:
    found = extract(text)
    return INVALID if found is None else Grade(float(found == answer), True)


def _grade_number(text: str, answer: str, *, extract: Callable) -> Grade:
    found = extract(text)
    # T4: the released code compares a number with the text of the label, which is never equal.
    return INVALID if found is None else Grade(float(abs(found - float(answer)) < 1e-6), True)


GRADERS = {
    ("mmlu", "paper"): functools.partial(_grade_letter, extract=paper_letter),
    ("mmlu", "corrected"): functools.partial(_grade_letter, extract=letter),
    ("gsm8k", "paper"): functools.partial(_grade_number, extract=paper_number),
    ("gsm8k", "corrected"): functools.partial(_grade_number, extract=number),
}


# --- MBPP --------------------------------------------------------------------------------------------

_FENCED = re.compile(r"```(?:[ \t]*[\w+-]*[ \t]*\r?\n)?(.*?)(?:```|\Z)", re.DOTALL)


def paper_code(text: str, tests: list[str]) -> str | None:
    """The first fenced block by the paper's pattern (which eats digits before the fence, T7)."""
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


def _grade_programs(rows: pd.DataFrame, protocol: str) -> list[Grade]:
    """Corrected: all tests must pass. Paper: the share of tests passed, one second for all (T20)."""
    extract, seconds = (paper_code, 1.0) if protocol == "paper" else (code, 5.0)
    programs = [extract(row.text, row.tests) for row in rows.itertuples()]
    jobs = [
        (program, row.tests, row.setup)
        for program, row in zip(programs, rows.itertuples(), strict=True)
        if program is not None
    ]
    outcomes = iter(sandbox.run_many(jobs, timeout=seconds))
    return [INVALID if program is None else _grade_tests(next(outcomes), protocol) for program in programs]


def _grade_tests(passed: list[bool], protocol: str) -> Grade:
    return Grade(sum(passed) / len(passed) if protocol == "paper" else float(all(passed)), True)
