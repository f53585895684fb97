"""MMLU (Hendrycks et al. 2021): multiple-choice questions of 57 subjects, four choices each."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from personagap._reading import Rule, read_csv
from personagap.errors import UserError
from personagap.tasks._choice_texts import named
from personagap.tasks._letters import letter
from personagap.tasks._task import Grader, Hub, Task, filled, first_line, uncut_text

LETTERS = list("ABCD")

# --- items ----------------------------------------------------------------------------------------


def _subject(file: Path) -> pd.DataFrame:
    """Read a file of ``mmlu/dev`` or ``mmlu/test``, which is named after its subject."""
    table = read_csv(file)
    # Upstream files have no header, so the first question was read as one.
    if "question" not in table:
        if len(table.columns) != 6:
            wrong = f"{len(table.columns)} fields: question, four choices and answer are needed"
            raise UserError(f"{file}, row 1: {wrong}")
        table = read_csv(file, header=["question", *LETTERS, "answer"])
    return table.assign(subject=re.sub(r"_(dev|test|val)$", "", file.stem))


def _columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with one column per choice.

    The Hub has a single column of lists; files of the test split have ``choice0`` to ``choice3``.
    """
    if "choices" in table and table["choices"].dtype == object:
        table[LETTERS] = table["choices"].tolist()
    return table.rename(columns={f"choice{index}": name for index, name in enumerate(LETTERS)})


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

# --- graders --------------------------------------------------------------------------------------

#: The paper's patterns in their order; case is ignored (§3.5 of the reference).
PAPER_PATTERNS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in [
        r"the\s*answer\s*is\s*\(([A-D])\)",
        r"the\s*answer[,.\s]*is\s*([A-D])",
        r"the\s*correct\s*answer\s*is\s*\(([A-D])\)",
        # The original also has \n*, between two \s*, which match line breaks anyway.
        r"the\s*answer\s*is:\s*\(([A-D])\)",
        r"ption\s\(([A-D])\)",
    ]
]


def paper_letter(text: str) -> str | None:
    """Return the letter found by the paper's patterns, in lower case (so wrong) from prose (S6)."""
    return next((match[1] for pattern in PAPER_PATTERNS if (match := pattern.search(text))), None)


def choice(text: str, choices: Sequence[str]) -> str | None:
    """Return the choice that an answer states by its letter, or else by its exact text.

    Examples
    --------
    >>> choice("The answer is **Quito**.", ["Lima", "Bogotá", "Quito", "La Paz"])
    'C'
    """
    return letter(text) or named(text, choices)


CORRECTED = Grader(
    lambda row: choice(uncut_text(row), row.choices), mark=lambda choice, row: choice == row.answer
)
PAPER = CORRECTED._replace(extract=lambda row: paper_letter(row.text))

TASK = Task(
    name="mmlu",
    dimension="utility",
    order=1,
    # The size of the dev split, which the released code loads
    n_items=285,
    published_as="MMLU-dev",
    licence="MIT",
    hub=Hub("cais/mmlu", "all", "dev"),
    # The dev split comes first, as in the released code.
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
