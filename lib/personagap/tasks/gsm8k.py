"""GSM8K (Cobbe et al. 2021): word problems of school mathematics, answered with a number."""

import re
from typing import Any

import pandas as pd

from personagap._reading import Rule, read_jsonl
from personagap.tasks._task import Grader, Hub, Task, filled, first_line, never, position

# --- its items ------------------------------------------------------------------------------------


def _label(answer: pd.Series) -> pd.Series:
    """What follows "####"; labels hold thousands separators and signs (S4)."""
    label = answer.astype("str").str.extract(r"####(.*)$", flags=re.MULTILINE)[0]
    label = label.str.replace(",", "").str.strip()
    return label.where(label.str.fullmatch(r"-?\d+(\.\d+)?", na=False))


def _items(table: pd.DataFrame) -> dict[str, Any]:
    answer = _label(table["answer"]).astype(object)
    return {"item": position(table), "question": table["question"], "answer": answer}


SOLUTION = Rule(lambda answer: _label(answer).notna(), "the answer does not end in '#### number'")

# --- how an answer is read ------------------------------------------------------------------------


def paper_number(text: str) -> float | None:
    """The last number of the text, without its sign.

    The released code strips the commas before it looks for "Therefore, the answer is", so that
    only its fallback, the last number, is ever used (S5).
    """
    numbers = re.findall(r"\d+(?:\.\d+)?", text.replace(",", ""))
    return float(numbers[-1]) if numbers else None


_DIGITS = r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\.)\.\d+"
_NUMBER = re.compile(
    # A sign counts only where nothing stands before it: not in "5-3".
    r"(?P<sign>(?<![\w.)%])[-−–])?[$€£]?"
    r"(?:(?P<whole>\d+)\s+(?P<over>\d+)/(?P<under>\d+)"
    rf"|(?P<value>{_DIGITS})(?:\s*/\s*(?P<divisor>\d+))?)"
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
        after = text[statement.end() :][:300].lstrip()
        sentence = re.split(r"\n\s*\S|[.!?]\s", after, maxsplit=1)[0]
        result = sentence.rpartition("=")[2]
        stated = list(_NUMBER.finditer(result)) or list(_NUMBER.finditer(sentence))
        if stated:
            return _value(stated[0])
    numbers = list(_NUMBER.finditer(text))
    return _value(numbers[-1]) if numbers else None


def _value(match: re.Match) -> float | None:
    divisor = float(match["under"] or match["divisor"] or 1)
    if divisor == 0:
        return None
    value = float((match["value"] or match["over"]).replace(",", "")) / divisor
    value += float(match["whole"] or 0)
    return -value if match["sign"] else value


CORRECTED = Grader(
    extract=lambda row: number(row.text),
    mark=lambda found, row: abs(found - float(row.answer)) < 1e-6,
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
    graders={
        "corrected": CORRECTED,
        "paper": PAPER,
        "code": PAPER._replace(mark=never),
    },
    discrepancies={
        "S4 number compared with text": CORRECTED._replace(mark=never),
        "S5 last number, without its sign": PAPER,
        "S8 cut at the first line break": first_line(CORRECTED),
    },
)
