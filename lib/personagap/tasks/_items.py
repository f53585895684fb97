"""Items of the tasks, from their raw files in upstream's formats."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from personagap import sandbox
from personagap._reading import check, find_folder, from_hub, refuse, source
from personagap.errors import UserError, at_least
from personagap.tasks._registry import WITH_CHOICES, select
from personagap.tasks._task import Hub, Task

OURS = "Apache-2.0 (written for this project)"
#: Columns of an item that most tasks leave empty.
EMPTY = {"item": "", "question": "", "choices": None, "answer": None}
EMPTY |= {"tests": None, "setup": "", "group": ""}


def load(
    tasks: str | Sequence[str] = "all",
    data: str | Path = "demo",
    items_per_task: int | None = None,
    seed: int = 0,
    graded: bool = True,
    answers: str = "generate",
) -> pd.DataFrame:
    """Load items of tasks into one table; ``datasets.load`` is the same.

    Parameters
    ----------
    tasks : "all" (whatever ``data`` holds and this machine can grade), a name, or a list of names.
    data : "demo" (simulated items written for this project), a folder in which each task's
        ``files`` are found by name (``mmlu*.csv``, ``gsm8k*.jsonl`` …), or "hub" (over the
        network).
    items_per_task : draw that many items of each task at random (all, if there are fewer). With
        one seed a smaller draw is part of a larger one, so answers to it can be reused.
    graded : answers will be graded here, so that programs need a `sandbox`.
    answers : how they will be asked for (``ask.ask``): by "likelihood" only tasks with ``choices``
        can.

    Returns
    -------
    DataFrame, one row per item: ``task item question choices answer tests setup group``. ``item``
    is a string, unique within its task; ``choices`` holds four strings (mmlu, else None),
    ``answer`` a letter (mmlu) or a number as text (gsm8k, else None), ``tests`` a list of
    asserts and ``setup`` the code before them (mbpp, else None and ""), ``group`` the subject,
    type of harm or category. ``attrs["sources"]`` lists ``task source licence file rows`` of
    what was read; ``attrs["left_out"]`` which tasks of "all" are left out and why, a line each.

    MMLU is its dev split where a folder has both, and on the Hub, as in the code of
    arXiv 2406.11107; give a folder with ``mmlu/test`` alone to use the test split.

    `UserError`: unknown task, data of a task asked for by name not found or no sandbox for it, or
    malformed data; the message names the file, the row (a CSV header is row 1) and the remedy.

    Examples
    --------
    >>> items = load("mmlu", items_per_task=2)
    >>> items[["task", "answer"]].shape
    (2, 2)
    """
    wanted = select(tasks)
    at_least(0, seed=seed)
    if items_per_task is not None:
        at_least(1, items_per_task=items_per_task)
    found, left_out = [], []
    for task in wanted:
        table = read(task, data)
        lack, remedy = _lack(task, table is not None, data, graded, answers)
        if not lack:
            found.append(_draw(table, items_per_task, seed))
        # Who names a task wants it; of "all" a machine without a sandbox still runs the others.
        elif tasks != "all":
            raise UserError(f"{task.name}: {lack}: {remedy}")
        else:
            left_out.append(f"{task.name}: {lack}")
            print(f"{left_out[-1]}, task skipped")
    if not found:
        why = "; ".join(left_out)
        raise UserError(f"no benchmark data to use in {data} ({why}): add one of these files")
    items = pd.concat(found, ignore_index=True)
    items.attrs = {"sources": [table.attrs for table in found], "left_out": left_out}
    return items


def _lack(
    task: Task, present: bool, data: str | Path, graded: bool, answers: str
) -> tuple[str, str]:
    """What keeps a task from being used here, "" if nothing does, and the remedy."""
    if not present:
        return f"no {' or '.join(task.files)} in {data}", "add the file, or leave the task out"
    if answers == "likelihood" and not task.choices:
        remedy = f"ask for {', '.join(WITH_CHOICES)}, or generate answers"
        return "has no choices to weigh by likelihood", remedy
    remedy = f"leave {task.name} out, or set {sandbox.OPT_IN}=1 to run them unconfined"
    return sandbox.refusal() if graded and task.programs else "", remedy


def _draw(table: pd.DataFrame, n: int | None, seed: int) -> pd.DataFrame:
    if n is None:
        return table
    # A stream for each task, by its name: which others are drawn changes nothing.
    rng = np.random.default_rng([seed, zlib.crc32(table["task"].iloc[0].encode())])
    # The first of one permutation, not `choice`: a smaller draw is then part of a larger one.
    return table.iloc[np.sort(rng.permutation(len(table))[:n])]


# --- one task -------------------------------------------------------------------------------------


def read(task: Task, data: str | Path) -> pd.DataFrame | None:
    """Items of a task, ``attrs`` saying where they are from; None if ``data`` lacks them.

    A question that is asked again, with the same choices or tests, counts as evidence twice, and is
    told: MMLU holds such a pair among its 285, a file joined to itself nothing else.
    """
    if str(data) == "hub":
        if not task.hub:
            return None
        where = f"hub:{task.hub.name}/{task.hub.split}"
        tables = {where: _fetch(task.hub)}
    else:
        folder = find_folder(data)
        pattern, files = _files(task, folder)
        if not files:
            return None
        where = str(files[0] if files[0].parent == folder else files[0].parent)
        tables = {str(file): task.files[pattern](file) for file in files}
    for name in tables:
        tables[name] = task.columns(tables[name])
        check(tables[name], name, task.schema)
    table = pd.concat(tables.values())
    items = pd.DataFrame({"task": task.name} | EMPTY | task.items(table), table.index)
    items = items.astype({"item": "str", "question": "str"}).fillna({"setup": ""})
    refuse(items["item"].duplicated(), where, "an id used before", "give each item its own id")
    if task.programs:
        items["tests"] = _single_asserts(items, where)
    items.attrs = source(task.name, where, len(items), task.licence)
    items.attrs["repeated"] = _repeated(items, where)
    if items.attrs["source"] == "demo":
        # Real questions, only nobody else's: a real model may be asked them.
        items.attrs["licence"] = OURS
    return items


def _files(task: Task, folder: Path) -> tuple[str, list[Path]]:
    """The files of the first pattern that finds any, and the pattern."""
    for pattern in task.files:
        files = sorted(folder.glob(pattern))
        # One file is all the items, so of two of them one is another version.
        if len(files) > 1 and "/" not in pattern:
            names = ", ".join(file.name for file in files)
            several = f"several files for {task.name} ({names})"
            raise UserError(f"{folder}: {several}: leave only the one to use")
        if files:
            return pattern, files
    return "", []


def _fetch(hub: Hub) -> pd.DataFrame:
    import datasets

    with from_hub(f"load {hub.name} from the Hub"):
        return datasets.load_dataset(hub.name, hub.configuration, split=hub.split).to_pandas()


def _single_asserts(items: pd.DataFrame, where: str) -> list[list[str]]:
    """The tests of each item, taken apart; what cannot be run is refused before any answer is."""
    tests = []
    for row, given, setup in zip(items.index, items["tests"], items["setup"], strict=True):
        try:
            tests.append(sandbox.check_tests(given, setup))
        except UserError as error:
            raise UserError(f"{where}, row {row}: {error}") from None
    return tests


def _repeated(items: pd.DataFrame, where: str) -> int:
    """How many questions were asked before; their number is told, with the row of the first."""
    columns = ("question", "choices", "tests")
    again = pd.DataFrame({name: items[name].astype("str") for name in columns}).duplicated()
    if again.any():
        told = f"{again.sum()} repeated questions (first: row {again.idxmax()})"
        print(f"{where}: {told}, each counted as an item of its own; drop what is there by mistake")
    return int(again.sum())
