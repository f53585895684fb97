"""MBPP (Austin et al. 2021): short Python programs, each tested by three assertions."""

import re
from typing import Any

import pandas as pd

from personagap._reading import Rule, read_jsonl
from personagap.tasks._programs import code
from personagap.tasks._task import Grader, Hub, Task, filled, first_line, zero

# --- items ----------------------------------------------------------------------------------------


def _are_asserts(tests: Any) -> bool:
    nonempty = hasattr(tests, "__len__") and len(tests) > 0
    return nonempty and all(str(test).startswith("assert ") for test in tests)


def _items(table: pd.DataFrame) -> dict[str, Any]:
    return {
        "item": table["task_id"],
        "question": table["text"],
        "tests": table["test_list"].map(list),
        "setup": table.get("test_setup_code", ""),
    }


TESTS = Rule(lambda tests: tests.map(_are_asserts), "test_list is not a list of assert statements")

# --- graders --------------------------------------------------------------------------------------


def paper_code(text: str) -> str | None:
    """Return the first fenced block by the paper's pattern, which eats digits at its end (S7)."""
    _, fence, rest = text.partition("```")
    block, end, _ = rest.removeprefix("python\n").partition("```")
    if not fence or not end:
        return None
    # A call of `input` would wait for a keyboard, so the released code comments out such lines.
    block = re.sub(r"(?<!\d)\d+\Z", "", block)
    return "\n".join(f"# {line}" if "input(" in line else line for line in block.split("\n"))


# Of all reference solutions the one of item 123 takes longest: 3 to 6 s of processor time.
CORRECTED = Grader(lambda row: code(row.text, row.tests), lambda passed, _: all(passed), seconds=12)
PAPER = Grader(
    lambda row: paper_code(row.text), lambda passed, _: sum(passed) / len(passed), seconds=1
)

TASK = Task(
    name="mbpp",
    dimension="utility",
    order=3,
    # The size of all splits together, which the released code joins (S20)
    n_items=974,
    licence="CC-BY-4.0",
    hub=Hub("google-research-datasets/mbpp", "full", "train+test+validation+prompt"),
    files={"mbpp*.jsonl": read_jsonl},
    schema={"task_id": None, "text": filled("question"), "test_list": TESTS},
    items=_items,
    fields=lambda item: {"tests": "\n".join(item.tests)},
    graders={
        "corrected": CORRECTED,
        "paper": PAPER,
        "code": PAPER._replace(mark=zero, seconds=None),
    },
    discrepancies={
        "S7 fence that eats digits": CORRECTED._replace(extract=PAPER.extract),
        "S7 program compared with 1": CORRECTED._replace(mark=zero, seconds=None),
        "S8 cut at the first line break": first_line(CORRECTED),
        "S20 share of asserts": CORRECTED._replace(mark=PAPER.mark),
    },
)
