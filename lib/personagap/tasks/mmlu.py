"""MMLU (Hendrycks et al. 2021): multiple-choice questions of 57 subjects, four choices each."""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from personagap._reading import Rule, read_csv
from personagap.errors import UserError
from personagap.tasks._letters import letter
from personagap.tasks._task import Grader, Hub, Task, filled, first_line, whole_words

LETTERS = list("ABCD")

# --- its items ------------------------------------------------------------------------------------


def _subject(file: Path) -> pd.DataFrame:
    """A file of ``mmlu/dev`` or ``mmlu/test``, which is named for its subject."""
    table = read_csv(file)
    # The files upstream have no header, so their first question was taken for one.
    if "question" not in table:
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


WRONG = "the answer is not one of A, B, C, D (or 0–3)"
ANSWER = Rule(lambda answer: _answer(answer).isin(LETTERS), WRONG)

# --- how an answer is read ------------------------------------------------------------------------

#: Tried in this order, whatever the case (§3.5 of the reference).
PAPER_PATTERNS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in [
        r"the\s*answer\s*is\s*\(([A-D])\)",
        r"the\s*answer[,.\s]*is\s*([A-D])",
        r"the\s*correct\s*answer\s*is\s*\(([A-D])\)",
        # Theirs also has \n*, between two \s*, which match it anyway.
        r"the\s*answer\s*is:\s*\(([A-D])\)",
        r"ption\s\(([A-D])\)",
    ]
]


def paper_letter(text: str) -> str | None:
    """The letter the paper's patterns find; lower case, hence wrong, where they hit prose (S6)."""
    return next((found[1] for pattern in PAPER_PATTERNS if (found := pattern.search(text))), None)


CORRECTED = Grader(
    lambda row: letter(whole_words(row)), mark=lambda found, row: found == row.answer
)
PAPER = CORRECTED._replace(extract=lambda row: paper_letter(row.text))

TASK = Task(
    name="mmlu",
    dimension="utility",
    order=1,
    # The size of its dev split, which the released code loads.
    n_items=285,
    published_as="MMLU-dev",
    licence="MIT",
    hub=Hub("cais/mmlu", "all", "dev"),
    # The dev split where there are both, as in the released code.
    files={"mmlu*.csv": read_csv, "mmlu/dev/*.csv": _subject, "mmlu/test/*.csv": _subject},
    columns=_columns,
    schema={"subject": None, "question": filled("question")}
    | {**dict.fromkeys(LETTERS, filled("choice")), "answer": ANSWER},
    items=_items,
    fields=lambda item: dict(zip(LETTERS, item.choices, strict=True)),
    choices=tuple(LETTERS),
    graders={"corrected": CORRECTED, "paper": PAPER, "code": PAPER},
    discrepancies={
        "S6 first match, in any case": PAPER,
        "S8 cut at the first line break": first_line(CORRECTED),
    },
)
