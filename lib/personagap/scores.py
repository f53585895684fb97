"""The ``scores`` table from answers collected and graded by other tools.

`from_lm_eval` reads logs of lm-evaluation-harness, `from_inspect` those of inspect_ai, `from_csv`
any CSV, and `load` any of these. The argument ``columns`` maps columns of ``scores`` to where they
are found. The result has the columns ``model persona template task item run score valid truncated``
and one row per graded answer, with ``score`` between 0 and 1 (1: right, or harmless). Several
answers of a persona to the same item are runs, in the order of the files. The tools need not be
installed.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from personagap import personas
from personagap._graded import COLUMNS, ColumnMap, csv_answers, inspect_answers, lm_eval_answers
from personagap._reading import source
from personagap.errors import UserError, expect, explained, require_one_of
from personagap.paths import DEMO

#: Column of ``scores`` → where to find it.
Columns = ColumnMap | None


def load(
    place: str | Path, kind: str = "auto", columns: Columns = None, **how: Any
) -> pd.DataFrame:
    """Read scores from a file or folder of any supported kind.

    Parameters
    ----------
    place : file or folder; "demo" for the demo scores.
    kind : "lm_eval", "inspect" or "csv"; "auto" chooses by the names of the files.
    columns, **how : as in `from_lm_eval`, `from_inspect` or `from_csv`.
    """
    expect(isinstance(place, (str, Path)), "a file or folder", place=place)
    place = DEMO / "scores.csv" if str(place) == "demo" else Path(place)
    require_one_of(["auto", *KINDS], "unknown kind of scores", kind)
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
    """Read scores from every ``samples_*.jsonl`` of lm-evaluation-harness under a folder.

    ``lm-eval run --log_samples --output_path`` writes these files. They do not record which answers
    were cut off, so ``truncated`` is False. ``valid`` is whether the filter found an answer.

    Parameters
    ----------
    columns : where to find ``persona``: "system prompt" (the default; prompts of this project are
        recognized, other texts name a persona of their own, and no prompt is "none"), "file" (the
        first part of the path below the folder: one folder per persona), or a field of the task's
        documents; ``item``: "doc_id" or a field, which must be the same for all personas;
        ``score``: the metric, with its filter if there are several, as in the results of the tool
        ("exact_match,strict-match"; default: the first).
    task : one name for all tasks, such as "mmlu" for its 57 subjects; by default they are kept
        separate.
    control : persona to compare others with; it is renamed to "none".

    Raises
    ------
    UserError : there are no such files, or one is invalid; the message names the file, the problem
        and the remedy.
    """
    return _scores(lm_eval_answers, "lm_eval", Path(folder), columns or {}, task, control)


def from_inspect(
    log: str | Path, columns: Columns = None, *, task: str | None = None, control: str = "none"
) -> pd.DataFrame:
    """Read scores from a log of inspect_ai, or from all logs under a folder; epochs are runs.

    ``valid`` is whether the scorer found an answer, ``truncated`` whether the model stopped at its
    token limit. Samples that ended in an error are left out.

    Parameters
    ----------
    columns, task, control : as in `from_lm_eval`. Fields are those of the sample's metadata, the
        log's metadata and the task's arguments; ``item``: "id" or a field; ``score``: the scorer
        ("scorer,key" if its values are dictionaries; default: the first).
    """
    return _scores(inspect_answers, "inspect", Path(log), columns or {}, task, control)


def from_csv(
    file: str | Path, columns: Columns = None, *, task: str | None = None, control: str = "none"
) -> pd.DataFrame:
    """Read scores from a CSV, or from all CSVs under a folder: one row per answer.

    Parameters
    ----------
    columns : column of ``scores`` → its name in the file, such as ``{"persona": "user", "score":
        "correct"}``. Required are ``persona`` (or "file", one file per persona), ``item`` and
        ``score`` (a number, true/false or yes/no; empty if not answered).
    task, control : as in `from_lm_eval`; a file without a column ``task`` is one task.
    """
    return _scores(csv_answers, "csv", Path(file), columns or {}, task, control)


#: Kind → function that reads it, and patterns of its file names.
KINDS: dict[str, tuple[Callable, str]] = {
    "lm_eval": (from_lm_eval, "samples_*.jsonl"),
    "inspect": (from_inspect, "*.eval *.json"),
    "csv": (from_csv, "*.csv"),
}


def _files(place: Path, patterns: str) -> list[Path]:
    """Return the files that match ``patterns``, sorted by name, or the given file if it does."""
    if place.is_file():
        return [place] if any(place.match(pattern) for pattern in patterns.split()) else []
    # File names contain the time, and runs of an item are numbered in the order of collection.
    files = [file for pattern in patterns.split() for file in place.rglob(pattern)]
    return sorted(files, key=lambda file: (file.name, file))


def _rows(read: Callable, patterns: str, place: Path, columns: ColumnMap) -> Iterator[dict]:
    """Yield the answers that ``read`` finds in the files under ``place``."""
    if unknown := [name for name in columns if name not in COLUMNS]:
        allowed = f"columns may name {', '.join(COLUMNS)}"
        raise UserError(f"scores have no column {unknown[0]!r}: {allowed}")
    if not place.exists():
        raise UserError(f"no file or folder {place}: correct the path")
    if not (files := _files(place, patterns)):
        wanted = patterns.replace(" ", " or ")
        raise UserError(f"no {wanted} in {place}: give the folder or file that holds the scores")
    remedy = "give the log as the tool wrote it, and its kind"
    for file in files:
        persona = file.relative_to(place).parts[0] if file != place else file.name
        # Other versions of a tool write other fields; a KeyError would not name the file.
        with explained(f"{file}: not in the format expected", remedy):
            yield from read(file, re.sub(r"\.(csv|eval|jsonl?)$", "", persona), columns)


def _scores(
    read: Callable, kind: str, place: Path, columns: ColumnMap, task: str | None, control: str
) -> pd.DataFrame:
    """Return the ``scores`` table of the answers that ``read`` finds, with ``attrs["sources"]``."""
    table = pd.DataFrame(_rows(read, KINDS[kind][1], place, columns))
    if table.empty:
        raise UserError(f"{place}: no graded answers: give logs that hold some")
    who = table["persona"].unique()
    if control not in who:
        names = ", ".join(repr(name) for name in who[:12])
        raise UserError(
            f"{place}: no persona {control!r}, which others are compared with: control is one "
            f"of {names}"
        )
    # A persona called "none" that is not the control becomes an identity of another name.
    if control != "none":
        table["persona"] = table["persona"].replace({"none": "no system prompt", control: "none"})
    stated = table.loc[~table["persona"].isin(personas.CONTROLS), "template"].unique()
    # Controls state no identity, so they take the phrasing of the others if there is only one.
    if len(stated) == 1:
        table["template"] = stated[0]
    # Merged tasks may have items of the same name.
    if task is not None:
        table = table.assign(item=table["task"] + "/" + table["item"], task=task)
    if "run" not in table:
        table["run"] = table.groupby(["model", "persona", "template", "task", "item"]).cumcount()
    scores = table[COLUMNS]
    counts = table.groupby("task", sort=False).size()
    scores.attrs["sources"] = [source(name, place, count) for name, count in counts.items()]
    return scores
