"""Grades of responses, under each protocol."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from personagap import sandbox
from personagap.errors import UserError
from personagap.tasks._registry import find
from personagap.tasks._task import PROTOCOLS, Grader

#: ``finish_reason`` of an answer by likelihood, whose ``text`` holds the log-probability of each
#: choice, in JSON.
LIKELIHOOD = "likelihood"
SCORE_COLUMNS = [
    "model",
    "persona",
    "template",
    "task",
    "item",
    "run",
    "score",
    "valid",
    "truncated",
]


class Grade(NamedTuple):
    """A score in [0, 1], and whether an answer could be extracted."""

    score: float
    valid: bool


def grade(
    responses: pd.DataFrame,
    items: pd.DataFrame,
    protocol: str = "corrected",
    judge: Callable | None = None,
) -> pd.DataFrame:
    """Grade every answered response.

    Parameters
    ----------
    responses : of ``ask.ask`` or ``ask.by_condition``. Requests that failed ("error") are left out:
        missing, never wrong.
    items : those answered, of ``datasets.load``; ``UserError`` if one is not among them.
    protocol : "corrected", "paper" or "code" (the released code as it stands).
    judge : labels the answers to the safety tasks, of ``judges.load_judge``.

    Returns
    -------
    The scores table ``model persona template task item run score valid truncated``, one row per
    answered response, after ``condition`` where the responses have it. ``score`` is in [0, 1],
    1 = right or harmless; ``valid`` = an answer could be extracted (safety: the answer is not
    empty); ``truncated`` = cut at the token limit.

    An answer by likelihood (``ask.ask(answers="likelihood")``) scores the probability of the right
    choice, normalised over the choices, and scores have two columns more: ``accuracy`` (1 if the
    right choice is the likeliest, whatever the protocol) and ``choice_mass``, the probability that
    falls on the choices at all. Without sampling noise and with one forward pass an answer, it is
    the estimate of Miller, arXiv 2411.00640, §3.2.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}: choose from {', '.join(PROTOCOLS)}")
    answered = responses[responses["finish_reason"] != "error"]
    answered = answered.assign(text=answered["text"].fillna(""))
    # Each distinct answer to an item is graded once: programs are costly to run.
    key = ["task", "item", "text"]
    answers = _with_items(answered[key].drop_duplicates(), items)
    weighed = bool(len(answered)) and (answered["finish_reason"] == LIKELIHOOD).all()
    grading = functools.partial(_grade_task, protocol=protocol, judge=judge)
    grade_task = _weigh if weighed else grading
    parts = [grade_task(task, rows) for task, rows in answers.groupby("task", sort=False)]
    graded = pd.concat(parts) if parts else answers.reindex(columns=[*answers, "score", "valid"])
    more = ["accuracy", "choice_mass"] if weighed else []
    scores = answered.merge(graded[[*key, "score", "valid", *more]])
    scores = scores.astype({"score": float, "valid": bool})
    columns = [*scores.columns.intersection(["condition"]), *SCORE_COLUMNS, *more]
    return scores.assign(truncated=scores["finish_reason"] == "length")[columns]


def by_dimension(scores: pd.DataFrame) -> pd.DataFrame:
    """Pool the tasks of a dimension: ``task`` becomes "utility" or "safety", ``item`` "task/item".

    ``UserError`` for a task that is not known: it has no dimension.
    """
    dimension = {name: find(name).dimension for name in scores["task"].unique()}
    item = scores["task"] + "/" + scores["item"]
    return scores.assign(task=scores["task"].map(dimension), item=item)


def discrepancies(responses: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """The same answers, graded with each trap of the released graders by itself.

    Parameters
    ----------
    responses, items : as in `grade`; answers to other items are left out, and those that a judge
        labels.

    Returns
    -------
    DataFrame ``task item run persona score``: ``persona`` names the grader (a trap, a protocol, or
    "corrected", the control of ``effects.contrasts``), ``run`` numbers the answers to an item.
    """
    key = ["task", "item", "text"]
    judged = [name for name in responses["task"].unique() if find(name).judged]
    answered = responses.loc[~responses["task"].isin(judged) & responses["text"].notna(), key]
    answered = answered.assign(run=answered.groupby(key[:2]).cumcount())
    parts = []
    for name, rows in answered[key].drop_duplicates().merge(items).groupby("task", sort=False):
        task = find(name)
        grades = _grades(rows, {**task.graders, **task.discrepancies})
        marks = {grader: [mark.score for mark in found] for grader, found in grades.items()}
        parts += [rows[key].assign(persona=grader, score=score) for grader, score in marks.items()]
    return answered.merge(pd.concat(parts)).drop(columns="text")


def _with_items(answers: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Answers with the columns of their items; `UserError` for an unknown task or item."""
    for name in answers["task"].unique():
        find(name)
    merged = answers.merge(items, how="left", validate="many_to_one", indicator="known")
    if len(unknown := merged[merged["known"] == "left_only"]):
        task, item = unknown.iloc[0][["task", "item"]]
        raise UserError(f"no item {item!r} of {task} in items: load the items that were asked")
    return merged


def _grade_task(
    name: str,
    rows: pd.DataFrame,
    protocol: str,
    judge: Callable | None,
) -> pd.DataFrame:
    task = find(name)
    if not task.judged:
        grades = _grades(rows, {protocol: task.graders[protocol]})[protocol]
        scores, valid = zip(*grades, strict=True)
        return rows.assign(score=scores, valid=valid)
    if judge is None:
        remedy = 'give judge=judges.load_judge("refusal"), or leave the task out'
        raise UserError(f"{name} needs a judge: {remedy}")
    harmless = judge(rows["text"].tolist(), rows["question"].tolist())
    return rows.assign(score=harmless.astype(float), valid=rows["text"].str.strip() != "")


def _grades(answers: pd.DataFrame, graders: Mapping[str, Grader]) -> dict[str, list[Grade]]:
    """Grades of the same answers by each grader.

    ``answers`` has ``text`` and the columns of the items table, one row per answer, of one task. A
    program that several graders read is run once.
    """
    rows, passed, grades = list(answers.itertuples()), {}, {}
    for name, grader in graders.items():
        values = [grader.extract(row) for row in rows]
        if grader.seconds:
            values = _tested(values, rows, grader.seconds, passed)
        grades[name] = [
            Grade(0.0, False) if value is None else Grade(float(grader.mark(value, row)), True)
            for value, row in zip(values, rows, strict=True)
        ]
    return grades


def _tested(programs: list, rows: list, seconds: float, passed: dict) -> list:
    """Which tests each program passes, None for no program.

    ``passed`` holds the programs that were run before, and is added to.
    """
    keys = [(program, row.item, seconds) for program, row in zip(programs, rows, strict=True)]
    by_key = dict(zip(keys, rows, strict=True))
    new = {key: row for key, row in by_key.items() if key[0] is not None and key not in passed}
    jobs = [(program, row.tests, row.setup) for (program, *_), row in new.items()]
    passed.update(zip(new, sandbox.run_many(jobs, timeout=seconds), strict=True))
    return [passed.get(key) for key in keys]


def _weigh(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Score answers by likelihood."""
    choices = list(find(name).choices)
    mass = np.exp(pd.DataFrame(map(json.loads, rows["text"]), index=rows.index)[choices])
    right = rows["answer"].to_numpy()[:, None] == np.array(choices)
    likeliest = right[range(len(mass)), mass.to_numpy().argmax(axis=1)]
    total = mass.sum(axis=1)
    return rows.assign(
        score=(mass.where(right, 0).sum(axis=1) / total).clip(upper=1),
        valid=True,
        accuracy=likeliest.astype(float),
        choice_mass=total,
    )
