"""GSM8K (Cobbe et al. 2021): word problems of school mathematics, answered with a number."""

import re
from typing import Any

import pandas as pd

from personagap._reading import Rule, read_jsonl
from personagap.tasks._numbers import number
from personagap.tasks._task import Grader, Hub, Task, filled, first_line, position, uncut_text, zero

# --- items ----------------------------------------------------------------------------------------


def _label(answer: pd.Series) -> pd.Series:
    """Return the number after "####"; labels hold thousands separators and signs (S4)."""
    label = answer.astype("str").str.extract(r"####(.*)$", flags=re.MULTILINE)[0]
    label = label.str.replace(",", "").str.strip()
    return label.where(label.str.fullmatch(r"-?\d+(\.\d+)?", na=False))


def _items(table: pd.DataFrame) -> dict[str, Any]:
    answer = _label(table["answer"]).astype(object)
    return {"item": position(table), "question": table["question"], "answer": answer}


SOLUTION = Rule(lambda answer: _label(answer).notna(), "the answer does not end in '#### number'")

# --- graders --------------------------------------------------------------------------------------


def paper_number(text: str) -> float | None:
    """Return the last number of the text, without its sign.

    The released code strips all commas before it searches for "Therefore, the answer is", so only
    its fallback, the last number, is ever used (S5).
    """
    numbers = re.findall(r"\d+(?:\.\d+)?", text.replace(",", ""))
    return float(numbers[-1]) if numbers else None


# With a tolerance, because labels are decimal numbers and answers may be fractions.
CORRECTED = Grader(
    lambda row: number(uncut_text(row)),
    mark=lambda value, row: abs(value - float(row.answer)) < 1e-6,
)
PAPER = CORRECTED._replace(extract=lambda row: paper_number(row.text))

TASK = Task(
    name="gsm8k",
    dimension="utility",
    order=2,
    n_items=1319,
    published_as="GSM8K",
    licence="MIT",
    hub=Hub("openai/gsm8k", "main", "test"),
    files={"gsm8k*.jsonl": read_jsonl},
    schema={"question": filled("question"), "answer": SOLUTION},
    items=_items,
    graders={"corrected": CORRECTED, "paper": PAPER, "code": PAPER._replace(mark=zero)},
    discrepancies={
        "S4 number compared with text": CORRECTED._replace(mark=zero),
        "S5 last number, without its sign": PAPER,
        "S8 cut at the first line break": first_line(CORRECTED),
    },
)
