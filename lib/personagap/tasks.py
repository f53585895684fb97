"""The five tasks: the prompt of an item, and the grade of a response.

Three protocols: "paper", "code" and "corrected", see `graders`.
"""

import functools
import json
from collections.abc import Callable

import numpy as np
import pandas as pd

from personagap import graders, prompts
from personagap.datasets import CHOICES
from personagap.errors import UserError

UTILITY = ("mmlu", "gsm8k", "mbpp")
SAFETY = ("do_not_answer", "strongreject")
PROTOCOLS = ("corrected", "paper", "code")
#: The ``finish_reason`` of an answer by likelihood, whose ``text`` holds the log-probability of each choice, in JSON.
LIKELIHOOD = "likelihood"
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
    return _filled(item.task, item)


def likelihood_prompt(item, continues: bool) -> list[tuple[str, str]]:
    """Turns (role, text) that end where one of the task's ``datasets.CHOICES`` is the next word.

    Asked to show its work first, a model does not begin with a letter. So the prompt is followed by the last sentence
    of an answer, begun (``data/prompts/mmlu_begun.txt``); a server that cannot continue it is asked for the letter
    alone (``mmlu_letter.txt``). The probability that falls on the choices is in the scores (``choice_mass``).

    Parameters
    ----------
    item : a row of the items table, of a task with choices.
    continues : of the model, whether it goes on with a begun answer.
    """
    if continues:
        return [("user", prompt(item)), ("assistant", prompts.template(f"{item.task}_begun"))]
    return [("user", _filled(f"{item.task}_letter", item))]


def _filled(name: str, item) -> str:
    fields = {"question": item.question}
    if item.task == "mmlu":
        fields |= dict(zip(CHOICES["mmlu"], item.choices, strict=True))
    elif item.task == "mbpp":
        fields["tests"] = "\n".join(item.tests)
    return prompts.fill(prompts.template(name), **fields)


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

    An answer by likelihood (``ask.ask(answers="likelihood")``) scores the probability of the right choice, normalised
    over the choices, and scores have two columns more: ``accuracy`` (1 if the right choice is the likeliest, whatever
    the protocol) and ``choice_mass``, the probability that falls on the choices at all. Without sampling noise and
    with one forward pass an answer, it is the estimate of Miller, arXiv 2411.00640, §3.2.
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
    weighed = bool(len(answered)) and (answered["finish_reason"] == LIKELIHOOD).all()
    grade_task = _weigh if weighed else functools.partial(_grade_task, protocol=protocol, judge=judge)
    parts = [grade_task(task, rows) for task, rows in answers.groupby("task", sort=False)]
    graded = pd.concat(parts) if parts else answers.reindex(columns=[*answers, "score", "valid"])
    more = ["accuracy", "choice_mass"] if weighed else []
    scores = answered.merge(graded[[*key, "score", "valid", *more]])
    scores = scores.astype({"score": float, "valid": bool})
    columns = [*scores.columns.intersection(["condition"]), *SCORE_COLUMNS, *more]
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


def _weigh(task: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Score answers by likelihood."""
    choices = list(CHOICES[task])
    mass = np.exp(pd.DataFrame(map(json.loads, rows["text"]), index=rows.index)[choices])
    right = rows["answer"].to_numpy()[:, None] == np.array(choices)
    total = mass.sum(axis=1)
    score, likeliest = mass.where(right, 0).sum(axis=1) / total, right[range(len(mass)), mass.to_numpy().argmax(axis=1)]
    return rows.assign(score=score.clip(upper=1), valid=True, accuracy=likeliest.astype(float), choice_mass=total)


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
