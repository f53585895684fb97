"""The ``scores`` table from answers that other tools asked for and graded.

`from_lm_eval` reads lm-evaluation-harness, `from_inspect` inspect_ai, `from_csv` anybody's table,
`load` any of these. Each takes ``columns``, which says where a column of ``scores`` is to be found,
and returns ``model persona template task item run score valid truncated``: one row per graded
answer, ``score`` between 0 and 1 (1: right, or harmless). Answers of one persona to the same item
are runs, in the order of the files. None of the tools needs to be installed.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from personagap import personas
from personagap._graded import COLUMNS, Wanted, of_csv, of_inspect, of_lm_eval
from personagap._reading import source
from personagap.errors import UserError, expect, explained, one_of
from personagap.paths import DEMO

#: Columns of ``scores`` → where they are to be found.
Columns = Wanted | None


def load(
    place: str | Path, kind: str = "auto", columns: Columns = None, **how: Any
) -> pd.DataFrame:
    """Scores of a file or folder by its ``kind``, or by what it holds; "demo" is ours.

    A kind is "lm_eval", "inspect" or "csv"; ``columns`` and ``how`` are those of its function.
    """
    expect(isinstance(place, (str, Path)), "a file or folder", place=place)
    place = DEMO / "scores.csv" if str(place) == "demo" else Path(place)
    one_of(["auto", *KINDS], "unknown kind of scores", kind)
    for name, (read, patterns) in KINDS.items():
        if name == kind or (kind == "auto" and _files(place, patterns)):
            return read(place, columns, **how)
    if not place.exists():
        raise UserError(f"no file or folder {place}: correct the path")
    remedy = "give a CSV, or logs of lm-evaluation-harness or inspect_ai"
    raise UserError(f"no scores in {place}: {remedy}")


def from_lm_eval(
    folder: str | Path, columns: Columns = None, *, task: str | None = None, control: str = "none"
) -> pd.DataFrame:
    """Scores from every ``samples_*.jsonl`` of lm-evaluation-harness under a folder.

    ``lm-eval run --log_samples --output_path`` writes them. The tool does not say which answers
    were cut off: ``truncated`` is False. ``valid`` is whether its filter found an answer.

    Parameters
    ----------
    columns : where to find ``persona``: "system prompt" (the default: an identity of the project by
        its phrasing, any other text by itself, no system prompt as "none"), "file" (the first part
        of its path below the folder: one folder per persona), or a field of the task's documents;
        ``item``: "doc_id" or a field, which must be the same for all personas; ``score``: the
        metric, where there are several filters as in the tool's own results
        ("exact_match,strict-match"; default: the first).
    task : one name for all, such as "mmlu" for its 57 subjects; default: each by itself.
    control : the persona that others are compared with; it will be called "none".

    Raises
    ------
    UserError : no such files, or names the file, what is wrong and the remedy.
    """
    return _scores(of_lm_eval, "lm_eval", Path(folder), columns or {}, task, control)


def from_inspect(
    log: str | Path, columns: Columns = None, *, task: str | None = None, control: str = "none"
) -> pd.DataFrame:
    """Scores from a log of inspect_ai, or all logs under a folder; epochs are runs.

    ``valid`` is whether the scorer found an answer, ``truncated`` whether the model stopped at its
    limit of tokens. Samples that ended in an error are left out.

    Parameters
    ----------
    columns, task, control : as of `from_lm_eval`; the fields are those of a sample's metadata, the
        log's metadata and the task's arguments; ``item``: "id" or a field; ``score``: the scorer
        ("scorer,key" where its values are dictionaries; default: the first).
    """
    return _scores(of_inspect, "inspect", Path(log), columns or {}, task, control)


def from_csv(
    file: str | Path, columns: Columns = None, *, task: str | None = None, control: str = "none"
) -> pd.DataFrame:
    """Scores from a CSV, or all of a folder: one row per answer.

    Parameters
    ----------
    columns : column of ``scores`` → the file's name for it, such as ``{"persona": "user", "score":
        "correct"}``. ``persona`` (or "file", one file per persona), ``item`` and ``score`` (a
        number, true/false, yes/no; empty: not answered) are needed, the others may be left out.
    task, control : as of `from_lm_eval`; a file without a column ``task`` is one.
    """
    return _scores(of_csv, "csv", Path(file), columns or {}, task, control)


#: How each kind is read, and the names of its files.
KINDS: dict[str, tuple[Callable, str]] = {
    "lm_eval": (from_lm_eval, "samples_*.jsonl"),
    "inspect": (from_inspect, "*.eval *.json"),
    "csv": (from_csv, "*.csv"),
}


def _files(place: Path, patterns: str) -> list[Path]:
    """The files of a kind by name, which begins or ends with the time; or the one file given."""
    if place.is_file():
        return [place] if any(place.match(each) for each in patterns.split()) else []
    # In the order in which they were asked, in which the runs of an item are numbered.
    files = [file for each in patterns.split() for file in place.rglob(each)]
    return sorted(files, key=lambda file: (file.name, file))


def _rows(read: Callable, patterns: str, place: Path, columns: Wanted) -> Iterator[dict[str, Any]]:
    if unknown := [name for name in columns if name not in COLUMNS]:
        known = f"columns may name {', '.join(COLUMNS)}"
        raise UserError(f"scores have no column {unknown[0]!r}: {known}")
    if not (files := _files(place, patterns)):
        wanted = patterns.replace(" ", " or ")
        raise UserError(f"no {wanted} in {place}: give the folder or file that holds the scores")
    remedy = "give the log as the tool wrote it, and its kind"
    for file in files:
        persona = file.relative_to(place).parts[0] if file != place else file.name
        # Another version of a tool writes other fields: a KeyError would say nothing of the file.
        with explained(f"{file}: not in the format expected", remedy):
            yield from read(file, re.sub(r"\.(csv|eval|jsonl?)$", "", persona), columns)


def _scores(
    read: Callable, kind: str, place: Path, columns: Wanted, task: str | None, control: str
) -> pd.DataFrame:
    """What ``read`` finds as the ``scores`` table; ``attrs["sources"]`` says where."""
    table = pd.DataFrame(_rows(read, KINDS[kind][1], place, columns))
    if table.empty:
        raise UserError(f"{place}: no graded answers: give logs that hold some")
    who = table["persona"].unique()
    if control not in who:
        known = ", ".join(repr(name) for name in who[:12])
        raise UserError(
            f"{place}: no persona {control!r}, which others are compared with: control is one "
            f"of {known}"
        )
    # What another tool calls "none" becomes an identity, since only one can be the control.
    if control != "none":
        table["persona"] = table["persona"].replace({"none": "no system prompt", control: "none"})
    stated = table.loc[~table["persona"].isin(personas.CONTROLS), "template"].unique()
    # Controls state nothing, so they are asked in the phrasing of the others.
    if len(stated) == 1:
        table["template"] = stated[0]
    # Items of two subjects may have the same number.
    if task is not None:
        table = table.assign(item=table["task"] + "/" + table["item"], task=task)
    if "run" not in table:
        table["run"] = table.groupby(["model", "persona", "template", "task", "item"]).cumcount()
    scores = table[COLUMNS]
    counts = table.groupby("task", sort=False).size()
    scores.attrs["sources"] = [source(name, place, count) for name, count in counts.items()]
    return scores
