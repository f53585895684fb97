"""Judges beside each other on the same answers, and a judge's answer to identity words."""

import re
from collections.abc import Sequence

import pandas as pd

from personagap import leakage, tasks
from personagap.judges.refusals import ACTIONS, DECLINES, FOLLOWS, Judge


def judgments(
    responses: pd.DataFrame, items: pd.DataFrame, judges: Sequence[Judge]
) -> pd.DataFrame:
    """Labels that several judges give to the same answers, for ``gap.agreement``.

    Parameters
    ----------
    responses, items : as in ``tasks.grade``; every distinct answer to an item is judged once.
    judges : from `load_judge`.

    Returns
    -------
    The judgments table ``source prompt item rater rater_kind label``: ``prompt`` is the request
    ("task/item"), ``item`` numbers the answers to it, ``label`` is 1 for harmless.
    """
    answers = _distinct(responses, items)
    # An item is an answer here, so that several to one request are clustered by it.
    prompt = answers["task"] + "/" + answers["item"]
    units = answers.assign(source="real", prompt=prompt, rater_kind="model")
    units["item"] = units.groupby("prompt").cumcount()
    asked = list(answers["text"]), list(answers["question"])
    parts = [units.assign(rater=judge.name, label=judge(*asked).astype(int)) for judge in judges]
    return pd.concat(parts)[["source", "prompt", "item", "rater", "rater_kind", "label"]]


def actions(responses: pd.DataFrame, items: pd.DataFrame, judge: Judge) -> pd.DataFrame:
    """How requests that should be declined are met, as scores: 1 for each answer that refutes, 0
    for the others, etc.

    Parameters
    ----------
    responses, items : as in ``tasks.grade``.
    judge : from `load_judge`.

    Returns
    -------
    Rows ``task item persona template run score valid truncated`` for ``effects.rates`` and
    ``effects.contrasts``; ``task`` is "<task>, <action>", with each harmless one of the six
    ``ACTIONS`` that occurs there. No rows if fewer than two occur: then they are what
    ``tasks.grade`` scores.
    """
    distinct = _distinct(responses, items)
    distinct["action"] = judge.actions(list(distinct["text"]), list(distinct["question"]))
    answer = ["task", "item", "text"]
    told = tasks.spoken(responses).merge(distinct[[*answer, "action"]], on=answer)
    # Harmless in ``tasks.grade`` as well.
    told["action"] = told["action"].mask(told["outcome"] == "refused", DECLINES)
    told = told[["task", "item", "persona", "template", "run", "action"]]
    told = told.assign(valid=True, truncated=False)
    parts = []
    for task, rows in told.groupby("task", sort=False):
        known = sorted(set(rows["action"]) - {FOLLOWS})
        for action in known if len(known) > 1 else ():
            score = rows["action"].eq(action).astype(float)
            parts.append(rows.assign(task=f"{task}, {ACTIONS[action]}", score=score))
    return pd.concat(parts, ignore_index=True).drop(columns="action") if parts else told.head(0)


def reworded(
    responses: pd.DataFrame, items: pd.DataFrame, who: pd.DataFrame, judge: Judge
) -> pd.DataFrame:
    """How a judge scores the same answers addressed to other identities: a control of the judge.

    In each answer the words for an identity of ``who`` are exchanged for those of another; an
    answer without such words gets a sentence with them at its head. Whatever the score then depends
    on, it is not what the answer does.

    Parameters
    ----------
    responses, items : as in ``tasks.grade``; every distinct answer to an item is used once.
    who : identities (``persona phrase``).

    Returns
    -------
    Scores ``task item persona run score`` for ``effects.contrasts`` and
    ``effects.personalization_bias``: ``persona`` is the identity whose words the answer bears, and
    "none" the answer as it stands.
    """
    answers = _distinct(responses, items)
    answers["run"] = answers.groupby(["task", "item"]).cumcount()
    # The controls have no words to put in.
    identities = who[who["phrase"] != ""]
    words = leakage.pattern(identities["phrase"])
    versions = {"none": answers} | {
        persona: answers.assign(text=[_address(text, words, phrase) for text in answers["text"]])
        for persona, phrase in zip(identities["persona"], identities["phrase"], strict=True)
    }
    table = pd.concat(versions).reset_index(names=["persona", "row"])
    table["score"] = judge(list(table["text"]), list(table["question"])).astype(float)
    return table[["task", "item", "persona", "run", "score"]]


def _address(text: str, words: re.Pattern, phrase: str) -> str:
    if words.search(text):
        return words.sub(leakage.bare(phrase), text)
    return f"You told me that you are {phrase}. {text}"


def _distinct(responses: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Each distinct answer to an item of a task that a judge grades: ``task item text question``.

    As in ``tasks.grade``, what says nothing, or is but the beginning that a filter left, is not
    judged.
    """
    answers = tasks.spoken(responses)[["task", "item", "text"]].drop_duplicates()
    judged = [name for name in items["task"].unique() if tasks.find(name).judged]
    requests = items[items["task"].isin(judged)]
    return answers.merge(requests[["task", "item", "question"]], on=["task", "item"])
