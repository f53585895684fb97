"""MBPP (Austin et al. 2021): short Python programs, each held against three assertions."""

import ast
import re
import warnings
from typing import Any

import pandas as pd

from personagap._reading import Rule, read_jsonl
from personagap.tasks._task import Grader, Hub, Task, filled, first_line, never

# --- its items ------------------------------------------------------------------------------------


def _asserts(tests: Any) -> bool:
    listed = hasattr(tests, "__len__") and len(tests) > 0
    return listed and all(str(test).startswith("assert ") for test in tests)


def _items(table: pd.DataFrame) -> dict[str, Any]:
    return {
        "item": table["task_id"],
        "question": table["text"],
        "tests": table["test_list"].map(list),
        "setup": table.get("test_setup_code", ""),
    }


TESTS = Rule(lambda tests: tests.map(_asserts), "test_list is not a list of assert statements")

# --- how an answer is read ------------------------------------------------------------------------


def paper_code(text: str) -> str | None:
    """The first fenced block by the paper's pattern (which eats digits before the fence, S7)."""
    found = re.search(r"```(?:python\n)?([\s\S]*?)\d*```", text)
    if found is None:
        return None
    return "\n".join(f"# {line}" if "input(" in line else line for line in found[1].split("\n"))


_FENCED = re.compile(r"```(?:[ \t]*[\w+-]*[ \t]*\r?\n)?(.*?)(?:```|\Z)", re.DOTALL)


def code(text: str, tests: list[str]) -> str | None:
    """The program of a response: the last fenced block that defines what the tests call.

    Failing that the first block; without a fence the whole text, if it is a program. A last
    fence may be unclosed (a truncated answer).
    """
    blocks = _FENCED.findall(text)
    called = set(re.findall(r"[A-Za-z_]\w*(?=\s*\()", " ".join(tests)))
    named = re.compile(r"(?:def|class)\s+(\w+)")
    defining = [block for block in blocks if called & set(named.findall(block))]
    if blocks:
        return defining[-1] if defining else blocks[0]
    try:
        with warnings.catch_warnings(action="ignore"):  # the text's own odd escapes
            parsed = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return text if any(isinstance(node, ast.FunctionDef) for node in parsed.body) else None


CORRECTED = Grader(
    extract=lambda row: code(row.text, row.tests),
    mark=lambda passed, row: all(passed),
    seconds=5.0,
)
PAPER = Grader(
    extract=lambda row: paper_code(row.text),
    mark=lambda passed, row: sum(passed) / len(passed),
    seconds=1.0,
)

TASK = Task(
    name="mbpp",
    dimension="utility",
    order=3,
    n_items=974,  # of all splits, which the released code joins
    licence="CC-BY-4.0",
    hub=Hub("google-research-datasets/mbpp", "full", "train+test+validation+prompt"),
    files={"mbpp*.jsonl": read_jsonl},
    schema={"task_id": None, "text": filled("question"), "test_list": TESTS},
    items=_items,
    fields=lambda item: {"tests": "\n".join(item.tests)},
    graders={
        "corrected": CORRECTED,
        "paper": PAPER,
        "code": PAPER._replace(mark=never, seconds=None),
    },
    discrepancies={
        "S7 fence that eats digits": CORRECTED._replace(extract=PAPER.extract),
        "S7 program compared with 1": CORRECTED._replace(mark=never, seconds=None),
        "S8 cut at the first line break": first_line(CORRECTED),
        "S20 share of asserts": CORRECTED._replace(mark=PAPER.mark),
    },
)
