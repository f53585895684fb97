"""The five tasks: the prompt of an item, and the grade of a response.

Three protocols: "paper", "code" and "corrected", see `graders`.
"""

from collections.abc import Callable

import pandas as pd

from personagap import graders, prompts
from personagap.errors import UserError

UTILITY = ("mmlu", "gsm8k", "mbpp")
SAFETY = ("do_not_answer", "strongreject")
PROTOCOLS = ("corrected", "paper", "code")
SCORE_COLUMNS = ["model", "persona", "template", "task", "item", "run", "score", "valid", "truncated"]


def prompt(item) -> str:
    """The prompt of an item, a row of the items table, worded as in ``data/prompts/<task>.txt``.

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
    return prompts.fill(prompts.template(item.task), **fields)


def grade(
    responses: pd.DataFrame, items: pd.DataFrame, protocol: str = "corrected", judge: Callable | None = None
) -> pd.DataFrame:
    """Grade every answered response.

    Parameters
    ----------
    responses : of ``ask.ask`` or ``ask.by_condition``. Requests that failed ("error") are left out: missing, never
        wrong.
    items : those answered, of ``datasets.load``; ``UserError`` if one is not among them.
    protocol : "corrected", "paper" or "code" (the released code as it stands).
    judge : labels the answers to the safety tasks, of ``judges.load_judge``.

    Returns
    -------
    The scores table ``model persona template task item run score valid truncated``, one row per answered response,
    after ``condition`` where the responses have it.
    ``score`` is in [0, 1], 1 = right or harmless; ``valid`` = an answer could be extracted (safety: the answer is not
    empty); ``truncated`` = cut at the token limit.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}: choose from {', '.join(PROTOCOLS)}")
    answered = responses[responses["finish_reason"] != "error"].assign(text=lambda table: table["text"].fillna(""))
    # Each distinct answer to an item is graded once: programs are costly to run.
    key = ["task", "item", "text"]
    answers = answered[key].drop_duplicates().merge(items, how="left", validate="many_to_one", indicator="known")
    if len(unknown := answers[answers["known"] == "left_only"]):
        task, item = unknown.iloc[0][["task", "item"]]
        raise UserError(f"no item {item!r} of {task} in items: load the items that were asked")
    parts = [_grade_task(task, rows, protocol, judge) for task, rows in answers.groupby("task", sort=False)]
    graded = pd.concat(parts) if parts else answers.reindex(columns=[*answers, "score", "valid"])
    scores = answered.merge(graded[[*key, "score", "valid"]])
    scores = scores.astype({"score": float, "valid": bool})
    columns = [*scores.columns.intersection(["condition"]), *SCORE_COLUMNS]
    return scores.assign(truncated=scores["finish_reason"] == "length")[columns]


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
    responses, items : as in `grade`; answers to other items are left out.

    Returns
    -------
    DataFrame ``task item run persona score``: ``persona`` names the grader (a trap, a protocol, or "corrected", the
    control of ``effects.contrasts``), ``run`` numbers the answers to an item.
    """
    key = ["task", "item", "text"]
    answered = responses.loc[responses["task"].isin(UTILITY) & responses["text"].notna(), key]
    answered = answered.assign(run=answered.groupby(key[:2]).cumcount())
    parts = []
    for task, rows in answered[key].drop_duplicates().merge(items).groupby("task", sort=False):
        grades = graders.grade(rows, graders.GRADERS[task] | graders.DISCREPANCIES[task])
        marks = ((name, [mark.score for mark in found]) for name, found in grades.items())
        parts += [rows[key].assign(persona=name, score=score) for name, score in marks]
    return answered.merge(pd.concat(parts)).drop(columns="text")
