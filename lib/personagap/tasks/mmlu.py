"""MMLU (Hendrycks et al. 2021): multiple-choice questions of 57 subjects, four choices each."""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from personagap._reading import Rule, read_csv
from personagap.errors import UserError
from personagap.tasks._task import Grader, Hub, Task, filled, first_line

LETTERS = list("ABCD")

# --- its items ------------------------------------------------------------------------------------


def _subject(file: Path) -> pd.DataFrame:
    """A file of ``mmlu/dev`` or ``mmlu/test``, which is named for its subject."""
    table = read_csv(file)
    if "question" not in table:  # upstream has no header
        if len(table.columns) != 6:
            wrong = f"{len(table.columns)} fields: question, four choices and answer are needed"
            raise UserError(f"{file}, row 1: {wrong}")
        table = read_csv(file, header=["question", *LETTERS, "answer"])
    return table.assign(subject=re.sub(r"_(dev|test|val)$", "", file.stem))


def _columns(table: pd.DataFrame) -> pd.DataFrame:
    """A column for each choice: the Hub has them in a list, the test split under other names."""
    if "choices" in table and table["choices"].dtype == object:
        table[LETTERS] = table["choices"].tolist()
    return table.rename(columns={f"choice{place}": name for place, name in enumerate(LETTERS)})


def _answer(answer: pd.Series) -> pd.Series:
    return answer.astype("str").str.strip().replace([*"0123"], LETTERS)


def _items(table: pd.DataFrame) -> dict[str, Any]:
    number = table.groupby("subject").cumcount().astype("str")
    return {
        "item": table["subject"] + "/" + number,
        "question": table["question"],
        "choices": pd.Series(table[LETTERS].to_numpy().tolist(), table.index),
        "answer": _answer(table["answer"]).astype(object),
        "group": table["subject"],
    }


ANSWER = Rule(
    lambda answer: _answer(answer).isin(LETTERS),
    "the answer is not one of A, B, C, D (or 0–3)",
)

# --- how an answer is read ------------------------------------------------------------------------

#: Tried in this order, whatever the case (§3.5 of the reference).
PAPER_PATTERNS = [
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
    return next((found[1] for pattern in PAPER_PATTERNS if (found := pattern.search(text))), None)


# A letter: "(c)" in either case, or a capital that cannot be prose ("A bit of", "C-section", S6).
_REASON = r"(?:because|since|as|and|or|which|with)\b"
_LETTER = (
    r"(?:[(\[]\s*([A-Da-d])\s*[)\]]"
    rf"|(A(?![ \t]+(?!{_REASON})\w)|[B-D](?![ \t]+(?!{_REASON})[a-z]))(?![\w'’+#-]|\.\w))"
)
_CHOICE = r"(?i:option|choice|letter)?\s*"
_HEDGE = r"(?i:(?:therefore|thus|probably|most\s+likely|likely|clearly)[,\s]+)?"
_IS = r"(?:(?i:is|was|(?:would|must|should)\s+be)\s*:?|:|=|-)\s*"
_STATEMENTS = [
    # "the answer is (C)", "Answer: C", "the correct option would be C"
    r"(?i:answer|choice|option)(?i:\s+choice|\s+option)?\s*" + _IS + _HEDGE + _CHOICE + _LETTER,
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


CORRECTED = Grader(
    extract=lambda row: letter(row.text),
    mark=lambda found, row: found == row.answer,
)
PAPER = CORRECTED._replace(extract=lambda row: paper_letter(row.text))

TASK = Task(
    name="mmlu",
    dimension="utility",
    order=1,
    n_items=285,  # its dev split, which the released code loads
    published_as="MMLU-dev",
    licence="MIT",
    hub=Hub("cais/mmlu", "all", "dev"),
    # The dev split where there are both, as in the released code.
    files={"mmlu*.csv": read_csv, "mmlu/dev/*.csv": _subject, "mmlu/test/*.csv": _subject},
    columns=_columns,
    schema={
        "subject": None,
        "question": filled("question"),
        **dict.fromkeys(LETTERS, filled("choice")),
        "answer": ANSWER,
    },
    items=_items,
    fields=lambda item: dict(zip(LETTERS, item.choices, strict=True)),
    choices=tuple(LETTERS),
    graders={"corrected": CORRECTED, "paper": PAPER, "code": PAPER},
    discrepancies={
        "S6 first match, in any case": PAPER,
        "S8 cut at the first line break": first_line(CORRECTED),
    },
)
