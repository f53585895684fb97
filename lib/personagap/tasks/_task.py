"""The definition of a task: the source of its items, its prompt, and its graders."""

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
    """A data set on the Hugging Face Hub."""

    name: str
    configuration: str | None
    split: str


class Grader(NamedTuple):
    """The rules that extract and score an answer.

    ``extract(row)`` returns the value that the answer states, or None, which counts as wrong;
    ``mark(value, row)`` returns its score in [0, 1]. A row is a row of the items table with the
    ``text`` and ``outcome`` of the answer. If ``seconds`` is set, the extracted value is a program:
    it is run with this time limit for all its tests together, and ``mark`` receives the list of
    tests passed in place of the program.
    """

    extract: Callable[[Any], Any]
    mark: Callable[[Any, Any], float]
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark task.

    Attributes
    ----------
    name : name of the task and of its prompt, ``data/prompts/<name>.txt``.
    dimension : "utility" or "safety".
    order : position among the tasks. Random numbers are drawn task by task, so a new task must come
        last to leave the results of the others unchanged.
    n_items : size of the whole data set; for the first five tasks, of the version used by the code
        of arXiv 2406.11107.
    published_as : name among the noise floors of ``data/safety_utility/published.csv``.
    licence, hub : licence of the data set, and its location on the Hub, if any.
    files : glob patterns, in order of preference, and the function that reads a matching file. A
        file matched by a plain pattern holds all items; if the pattern names a folder, the items
        are spread over all its files.
    columns : function that converts the columns of a file or Hub data set to those of ``schema``.
    schema : required columns, and the rule that each must satisfy.
    items : function that takes such a table and returns the columns of the items table
        (``datasets.load``) that the task fills: ``item``, ``question``, and whatever its prompt and
        graders read.
    fields : function that takes an item and returns what fills its prompt besides ``{question}``.
    choices : the possible answers, if there are only a few; then answers have a likelihood. Two
        more prompts are needed, ``<name>_begun.txt`` and ``<name>_letter.txt``.
    graders : one grader for each protocol; without any, a judge labels the answers.
    discrepancies : the corrected grader with one trap of the released grader each.
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
        # No UserError, because this is a mistake of the author of a task, not of a user.
        if self.dimension not in DIMENSIONS:
            raise ValueError(f"{self.name}: a dimension is one of {', '.join(DIMENSIONS)}")
        if self.graders and set(self.graders) != set(PROTOCOLS):
            raise ValueError(f"{self.name}: graders are needed for {', '.join(PROTOCOLS)}")

    @property
    def judged(self) -> bool:
        """Whether a judge labels the answers (``judges.load_judge``)."""
        return not self.graders

    @property
    def programs(self) -> bool:
        """Whether the answers are programs, which only run in the `sandbox`."""
        return any(grader.seconds for grader in self.graders.values())


# --- what several tasks share ---------------------------------------------------------------------


def filled(what: str) -> Rule:
    """Return the rule for a column of non-empty texts."""
    good = lambda column: column.map(lambda text: isinstance(text, str) and text.strip() != "")  # noqa: E731
    return Rule(good, f"an empty {what}, or one that is no text", "fill it in or drop the row")


def to_judge(table: pd.DataFrame, question: str, group: str) -> dict[str, Any]:
    """Return the columns of items with judged answers; ``question`` and ``group`` name columns."""
    # Do-Not-Answer comes with ids, StrongREJECT does not.
    item = table.get("id", position(table))
    return {"item": item, "question": table[question], "group": table[group]}


def position(table: pd.DataFrame) -> pd.Series:
    """Return row numbers as ids, for files without ids of their own."""
    return pd.Series(range(len(table)), table.index)


def zero(*_: Any) -> float:
    """Return 0, the score of a comparison that never holds.

    The released code compares values of different types.
    """
    return 0.0


#: A word or a number at the end of a text: "Option B", "1,"
_LAST_WORD = re.compile(r"(?<![\d.,])\d[\d.,]*\Z|(?<!\w)\w+\Z")


def uncut_text(row: Any) -> str:
    """Return the text of an answer; if truncated, without its last word ("12" may be cut "120")."""
    return _LAST_WORD.sub("", row.text) if row.outcome == "truncated" else row.text


def first_line(grader: Grader) -> Grader:
    """Return the grader applied to answers that are cut at the first line break (S8)."""

    def extract(row: Any) -> Any:
        # Stripped first, or nothing would be left of an answer that starts with a line break.
        first, *more = row.text.strip().split("\n")
        outcome = "answered" if more else row.outcome
        return grader.extract(row._replace(text=first, outcome=outcome))

    return grader._replace(extract=extract)
