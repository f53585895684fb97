"""The five tasks: the prompt of an item, and the grade of a response.

Three protocols: "paper", "code" and "corrected", see `graders`.
"""

import functools
from collections.abc import Callable

import pandas as pd

from personagap import graders
from personagap.errors import UserError
from personagap.paths import DATA

UTILITY = ("mmlu", "gsm8k", "mbpp")
SAFETY = ("do_not_answer", "strongreject")
PROTOCOLS = ("corrected", "paper", "code")
SCORE_COLUMNS = ["model", "persona", "template", "task", "item", "run", "score", "valid", "truncated"]


def prompt(item) -> str:
    """The prompt of an item: a row of the items table, or any object with its columns as attributes.

    The wording is that of ``data/prompts/<task>.txt``.

    Examples
    --------
    >>> from personagap import datasets
    >>> item = datasets.load("gsm8k", items_per_task=1).iloc[0]
    >>> prompt(item).endswith(item.question)
    True
    """
    fields = {"question": item.question}
    if item.task == "mmlu":
        fields |= dict(zip("ABCD", item.choices, strict=True))
    elif item.task == "mbpp":
        fields["tests"] = "\n".join(item.tests)
    return _template(item.task).format(**fields)


@functools.cache
def _template(task: str) -> str:
    return (DATA / "prompts" / f"{task}.txt").read_text(encoding="utf-8")


def grade(
    responses: pd.DataFrame, items: pd.DataFrame, protocol: str = "corrected", judge: Callable | None = None
) -> pd.DataFrame:
    """Grade every answered response.

    Parameters
    ----------
    responses : the responses table, or any frame with its identifying columns, ``text`` and
        ``finish_reason``. Requests that failed ("error") are left out: missing, never wrong.
    items : the items answered, from ``datasets.load``.
    protocol : "corrected", "paper" or "code" (the released code as it stands).
    judge : labels the answers to the safety tasks, from ``judges.load_judge``.

    Returns
    -------
    The scores table ``model persona template task item run score valid truncated``, one row per
    answered response. ``score`` is in [0, 1], 1 = right or harmless; ``valid`` = an answer could
    be extracted (safety: the answer is not empty); ``truncated`` = cut at the token limit.

    Raises
    ------
    UserError : unknown protocol, responses to items that ``items`` lacks, safety tasks without a judge.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}: choose from {', '.join(PROTOCOLS)}")
    answered = responses[responses["finish_reason"] != "error"].assign(text=lambda table: table["text"].fillna(""))
    # Each distinct answer to an item is graded once: programs are costly to run.
    answers = answered[["task", "item", "text"]].drop_duplicates()
    answers = answers.merge(items, on=["task", "item"], how="left", validate="many_to_one", indicator=True)
    unknown = answers[answers["_merge"] == "left_only"]
    if not unknown.empty:
        first = unknown.iloc[0]
        raise UserError(f"no item {first['item']!r} of {first['task']} in items: load the items that were asked")
    parts = [_grade_task(task, rows, protocol, judge) for task, rows in answers.groupby("task", sort=False)]
    graded = pd.concat(parts) if parts else answers.reindex(columns=[*answers, "score", "valid"])
    scores = answered.merge(graded[["task", "item", "text", "score", "valid"]], on=["task", "item", "text"])
    scores = scores.astype({"score": float, "valid": bool})
    return scores.assign(truncated=scores["finish_reason"] == "length")[SCORE_COLUMNS]


def by_dimension(scores: pd.DataFrame) -> pd.DataFrame:
    """Pool the tasks of a dimension: ``task`` becomes "utility" or "safety", ``item`` "task/item"."""
    dimension = dict.fromkeys(UTILITY, "utility") | dict.fromkeys(SAFETY, "safety")
    return scores.assign(task=scores["task"].map(dimension), item=scores["task"] + "/" + scores["item"])


def _grade_task(task: str, rows: pd.DataFrame, protocol: str, judge: Callable | None) -> pd.DataFrame:
    if task in SAFETY:
        if judge is None:
            raise UserError(f'{task} needs a judge: give judge=judges.load_judge("refusal"), or leave the task out')
        harmless = judge(rows["text"].tolist(), rows["question"].tolist())
        return rows.assign(score=harmless.astype(float), valid=rows["text"].str.strip() != "")
    grades = graders.grade(rows, {protocol: graders.GRADERS[task][protocol]})[protocol]
    return rows.assign(score=[mark.score for mark in grades], valid=[mark.valid for mark in grades])


def discrepancies(responses: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """The same answers to the utility tasks, graded with each trap of `graders` by itself.

    Parameters
    ----------
    responses : as in `grade`.
    items : those whose answers are graded.

    Returns
    -------
    DataFrame ``task item run persona score``: ``persona`` names the grader (a trap, a protocol, or
    "corrected", the control of ``effects.contrasts``), ``run`` numbers the answers to an item.
    """
    answered = responses.loc[responses["task"].isin(UTILITY) & responses["text"].notna(), ["task", "item", "text"]]
    answered = answered.assign(run=answered.groupby(["task", "item"]).cumcount())
    texts = answered.drop(columns="run").drop_duplicates().merge(items, on=["task", "item"])
    parts = []
    for task, rows in texts.groupby("task", sort=False):
        grades = graders.grade(rows, graders.GRADERS[task] | graders.DISCREPANCIES[task])
        keys = rows[["task", "item", "text"]]
        parts += [keys.assign(persona=name, score=[mark.score for mark in marks]) for name, marks in grades.items()]
    return answered.merge(pd.concat(parts), on=["task", "item", "text"]).drop(columns="text")
