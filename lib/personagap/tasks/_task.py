"""What makes a task: where its items are, how one is asked, how an answer is read and scored."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from personagap._reading import Rule

DIMENSIONS = ("utility", "safety")
PROTOCOLS = ("corrected", "paper", "code")


class Hub(NamedTuple):
    """A data set of the Hugging Face Hub."""

    name: str
    configuration: str | None
    split: str


class Grader(NamedTuple):
    """How an answer is read, and what it scores.

    ``extract(row)`` gives what the answer in a row says, or None, which is wrong; ``mark(value,
    row)`` its score in [0, 1]. A row is one of the items table with the answer's ``text`` and
    ``outcome``. With ``seconds`` the value is a program, and what is marked are its tests: passed,
    one by one, in so many seconds together.
    """

    extract: Callable[[Any], Any]
    mark: Callable[[Any, Any], float]
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task.

    Attributes
    ----------
    name : also of its prompt, ``data/prompts/<name>.txt``.
    dimension : "utility" or "safety".
    order : its place among the tasks. Random numbers are drawn task by task, so that a new one
        goes last: the results of the others stay as they are.
    n_items : of the whole data set; of the first five, as the code of arXiv 2406.11107 uses it.
    published_as : its name among the noise floors of ``data/safety_utility/published.csv``.
    licence, hub : of the data set, and where the Hub has it, if it does.
    files : what to look for in a folder, in this order, and what reads such a file. One file of a
        pattern is all the items; where the pattern names a folder, every file there is some.
    columns : gives the columns that a file or the Hub has the names and forms of ``schema``.
    schema : the columns that a table must have, and what must hold of them.
    items : from such a table, the columns of the items table (``datasets.load``) that the task
        fills: ``item`` and ``question``, and what its prompt and its graders read.
    fields : of an item, what fills its prompt besides ``{question}``.
    choices : if every answer is one of a few words, these; then answers have a likelihood. Two
        more prompts are needed, ``<name>_begun.txt`` and ``<name>_letter.txt``.
    graders : one for each protocol; without any, a judge says whether an answer is harmless.
    discrepancies : each trap of the released grader alone, in the corrected one.
    """

    name: str
    dimension: str
    order: int = 100
    n_items: int
    published_as: str | None = None
    licence: str
    hub: Hub | None = None
    files: Mapping[str, Callable[[Path], pd.DataFrame]]
    columns: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table
    schema: dict[str, Rule | None]
    items: Callable[[pd.DataFrame], dict[str, Any]]
    fields: Callable[[Any], dict[str, str]] = lambda item: {}
    choices: tuple[str, ...] = ()
    graders: Mapping[str, Grader] = field(default_factory=dict)
    discrepancies: Mapping[str, Grader] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A mistake of who adds a task, not of a user: hence no UserError.
        if self.dimension not in DIMENSIONS:
            raise ValueError(f"{self.name}: a dimension is one of {', '.join(DIMENSIONS)}")
        if self.graders and set(self.graders) != set(PROTOCOLS):
            raise ValueError(f"{self.name}: graders are needed for {', '.join(PROTOCOLS)}")

    @property
    def judged(self) -> bool:
        """Whether a judge labels its answers (``judges.load_judge``)."""
        return not self.graders

    @property
    def programs(self) -> bool:
        """Whether its answers are programs, which only run in the `sandbox`."""
        return any(grader.seconds for grader in self.graders.values())


# --- what several tasks share ---------------------------------------------------------------------


def filled(what: str) -> Rule:
    """The rule of a column of texts, none of which may be empty."""
    good = lambda column: column.map(lambda text: isinstance(text, str) and text.strip() != "")  # noqa: E731
    return Rule(good, f"an empty {what}, or one that is no text", "fill it in or drop the row")


def to_judge(table: pd.DataFrame, question: str, group: str) -> dict[str, Any]:
    """Columns of items whose answers a judge grades, from the names of a file's columns."""
    # Do-Not-Answer has ids of its own, StrongREJECT none.
    item = table.get("id", position(table))
    return {"item": item, "question": table[question], "group": table[group]}


def position(table: pd.DataFrame) -> pd.Series:
    """Items that have no id of their own are known by their place in the file."""
    return pd.Series(range(len(table)), table.index)


def never(*_: Any) -> float:
    """The mark of a comparison that cannot be true, as where the released code compares types."""
    return 0.0


#: A word or a number at the end of a text: "Option B", "1,".
_LAST = re.compile(r"(?<![\d.,])\d[\d.,]*\Z|(?<!\w)\w+\Z")


def whole_words(row: Any) -> str:
    """An answer's text, less the last word where it may be cut: "12" of "120"."""
    return _LAST.sub("", row.text) if row.outcome == "truncated" else row.text


def first_line(grader: Grader) -> Grader:
    """A grader of answers that were cut at the first line break (S8)."""

    def extract(row: Any) -> Any:
        # Stripped first: an answer that began with a line break would be cut to nothing.
        first, *more = row.text.strip().split("\n")
        outcome = "answered" if more else row.outcome
        return grader.extract(row._replace(text=first, outcome=outcome))

    return grader._replace(extract=extract)
