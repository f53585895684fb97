"""Benchmark items and human judgments, from the demo bundle, a folder or the Hugging Face Hub."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from personagap import sandbox
from personagap.datasets.annotations import load_histories, load_judgments, load_relevance
from personagap.datasets.benchmarks import BENCHMARKS, read
from personagap.datasets.opinionqa import load_opinions
from personagap.datasets.personalllm import load_evaluation, load_interactions, load_personalllm
from personagap.errors import UserError, at_least

#: The five tasks, in reading order.
TASKS = tuple(BENCHMARKS)
#: Those whose answers are programs.
PROGRAMS = ("mbpp",)
#: Tasks whose answer is one of a few given words, so that it has a likelihood, and those words.
CHOICES = {"mmlu": tuple("ABCD")}


def load(
    tasks: str | Sequence[str] = "all",
    data: str | Path = "demo",
    items_per_task: int | None = None,
    seed: int = 0,
    graded: bool = True,
    answers: str = "generate",
) -> pd.DataFrame:
    """Load benchmark items into one table.

    Parameters
    ----------
    tasks : "all" (whatever ``data`` holds and this machine can grade), one of `TASKS`, or a list.
    data : "demo" (simulated items written for this project), a folder in which each data set is
        found by name (``mmlu*.csv`` or ``mmlu/{dev,test}/*.csv``, ``gsm8k*.jsonl``,
        ``mbpp*.jsonl``, ``do_not_answer*.csv``, ``strongreject*.csv``), or "hub" (needs the
        network and ``pip install "personagap[hub]"``).
    items_per_task : draw that many items of each task at random (all, if there are fewer). With
        one seed a smaller draw is part of a larger one, so answers to it can be reused.
    graded : answers will be graded here, so that programs (mbpp) need a `sandbox`.

    answers : how they will be asked for (``ask.ask``): by "likelihood" only tasks with `CHOICES` can.

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

    Raises
    ------
    UserError : unknown task, data of a task asked for by name not found or no sandbox for it, or
        malformed data; the message names the file, the row (a CSV header is row 1) and the remedy.

    Examples
    --------
    >>> items = load("mmlu", items_per_task=2)
    >>> items[["task", "answer"]].shape
    (2, 2)
    """
    named = [] if tasks == "all" else [tasks] if isinstance(tasks, str) else tasks
    if not isinstance(named, (list, tuple)) or (tasks != "all" and not named):
        raise UserError(f"tasks are {tasks!r}: give 'all' or a list of some of {', '.join(TASKS)}")
    for task in named:
        if task not in TASKS:
            raise UserError(f"unknown task {task!r}: choose from {', '.join(TASKS)}")
    at_least(0, seed=seed)
    if items_per_task is not None:
        at_least(1, items_per_task=items_per_task)
    found, left_out = [], []
    for task in dict.fromkeys(named or TASKS):
        table = read(task, data)
        if table is None:
            lack, remedy = f"no {BENCHMARKS[task].files} in {data}", "add the file, or leave the task out"
        elif answers == "likelihood" and task not in CHOICES:
            lack, remedy = "has no choices to weigh by likelihood", f"ask for {', '.join(CHOICES)}, or generate answers"
        else:
            lack, remedy = sandbox.refusal() if graded and task in PROGRAMS else "", sandbox.REMEDY
        if not lack:
            found.append(_draw(table, items_per_task, seed))
        elif named:
            raise UserError(f"{task}: {lack}: {remedy}")
        else:
            left_out.append(f"{task}: {lack}")
            print(f"{left_out[-1]}, task skipped")
    if not found:
        raise UserError(f"no benchmark data to use in {data} ({'; '.join(left_out)}): add one of these files")
    items = pd.concat(found, ignore_index=True)
    items.attrs = {"sources": [table.attrs for table in found], "left_out": left_out}
    return items


def _draw(table: pd.DataFrame, n: int | None, seed: int) -> pd.DataFrame:
    if n is None:
        return table
    shuffled = np.random.default_rng([seed, zlib.crc32(table["task"].iloc[0].encode())]).permutation(len(table))
    return table.iloc[np.sort(shuffled[:n])]
