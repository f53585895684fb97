"""Loading of the tasks' items from raw files in their upstream formats."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from personagap import sandbox
from personagap._reading import check, find_folder, from_hub, refuse, source
from personagap.errors import UserError, require_at_least
from personagap.tasks._registry import WITH_CHOICES, select
from personagap.tasks._task import Hub, Task

OURS = "Apache-2.0 (written for this project)"
#: Defaults of the columns that most tasks leave empty.
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
    """Load the items of several tasks into one table (the same function as ``datasets.load``).

    Parameters
    ----------
    tasks : "all" (every task that ``data`` holds and this machine can grade), a name, or a list of
        names.
    data : "demo" (simulated items written for this project), a folder in which the ``files`` of
        each task are found by name (``mmlu*.csv``, ``gsm8k*.jsonl`` …), or "hub" (downloaded from
        the Hugging Face Hub).
    items_per_task : number of items to draw at random from each task (all, if there are fewer).
        Under the same seed a smaller draw is a subset of a larger one, so its answers can be
        reused.
    graded : whether the answers will be graded on this machine, which for programs requires a
        `sandbox`.
    answers : how the answers will be elicited (``ask.ask``). "likelihood" is only possible for
        tasks with ``choices``.

    Returns
    -------
    DataFrame, one row per item: ``task item question choices answer tests setup group``. ``item``
    is a string, unique within its task; ``choices`` holds four strings (mmlu, else None),
    ``answer`` a letter (mmlu) or a number as text (gsm8k, else None), ``tests`` a list of
    asserts and ``setup`` the code that runs before them (mbpp, else None and ""), ``group`` the
    subject, type of harm or category. ``attrs["sources"]`` lists ``task source licence file rows``
    of every file read; ``attrs["left_out"]`` has a line for each task of "all" that was left out,
    with the reason.

    For MMLU the dev split is used on the Hub and where a folder has both splits, as in the code of
    arXiv 2406.11107; give a folder with ``mmlu/test`` alone to use the test split.

    Raises
    ------
    UserError
        For an unknown task, malformed data, or a task requested by name whose data or sandbox is
        missing. The message names the file, the row (a CSV header is row 1) and the remedy.

    Examples
    --------
    >>> items = load("mmlu", items_per_task=2)
    >>> items[["task", "answer"]].shape
    (2, 2)
    """
    selected = select(tasks)
    require_at_least(0, seed=seed)
    if items_per_task is not None:
        require_at_least(1, items_per_task=items_per_task)
    tables, left_out = [], []
    for task in selected:
        table = read(task, data)
        obstacle, remedy = _obstacle(task, table is not None, data, graded, answers)
        if not obstacle:
            tables.append(_draw(table, items_per_task, seed))
        # A task requested by name must not be dropped silently; with "all", a machine without a
        # sandbox still runs the other tasks.
        elif tasks != "all":
            raise UserError(f"{task.name}: {obstacle}: {remedy}")
        else:
            left_out.append(f"{task.name}: {obstacle}")
            print(f"{left_out[-1]}, task skipped")
    if not tables:
        reasons = "; ".join(left_out)
        raise UserError(f"no benchmark data to use in {data} ({reasons}): add one of these files")
    items = pd.concat(tables, ignore_index=True)
    items.attrs = {"sources": [table.attrs for table in tables], "left_out": left_out}
    return items


def _obstacle(
    task: Task, present: bool, data: str | Path, graded: bool, answers: str
) -> tuple[str, str]:
    """Return what prevents a task from being used here ("" if nothing does), and the remedy."""
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
    # Each task has a random stream of its own, seeded by its name, so that its draw does not depend
    # on which other tasks are loaded.
    rng = np.random.default_rng([seed, zlib.crc32(table["task"].iloc[0].encode())])
    # The head of a permutation instead of `choice`, so that smaller draws are subsets of larger.
    return table.iloc[np.sort(rng.permutation(len(table))[:n])]


# --- one task -------------------------------------------------------------------------------------


def read(task: Task, data: str | Path) -> pd.DataFrame | None:
    """Return all items of a task, with their source in ``attrs``; None if ``data`` lacks them.

    Repeated questions (same choices and tests) stay, so each counts as evidence of its own, but a
    notice is printed. MMLU has one such pair among its 285 items; many of them suggest that a file
    was joined to itself.
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
        # Unlike other demo data these are not simulated: real models may be asked the questions.
        items.attrs["licence"] = OURS
    return items


def _files(task: Task, folder: Path) -> tuple[str, list[Path]]:
    """Return the first pattern that matches any files, and those files."""
    for pattern in task.files:
        files = sorted(folder.glob(pattern))
        # One such file holds all items, so a second one must be another version of them.
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
    """Return each item's tests as single asserts.

    Tests that cannot be run raise here, before any model is asked.
    """
    checked = []
    for row, tests, setup in zip(items.index, items["tests"], items["setup"], strict=True):
        try:
            checked.append(sandbox.check_tests(tests, setup))
        except UserError as error:
            raise UserError(f"{where}, row {row}: {error}") from None
    return checked


def _repeated(items: pd.DataFrame, where: str) -> int:
    """Return the number of repeated questions, and print it with the row of the first one."""
    repeated = items[["question", "choices", "tests"]].astype("str").duplicated()
    if repeated.any():
        note = f"{repeated.sum()} repeated questions (first: row {repeated.idxmax()})"
        print(f"{where}: {note}, each counted as an item of its own; drop what is there by mistake")
    return int(repeated.sum())
