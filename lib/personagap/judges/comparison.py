"""Several judges on the same answers, and a judge's sensitivity to identity words."""

import re
from collections.abc import Sequence

import pandas as pd

from personagap import leakage, tasks
from personagap.judges.refusals import ACTIONS, DECLINES, FOLLOWS, Judge


def judgments(
    responses: pd.DataFrame, items: pd.DataFrame, judges: Sequence[Judge]
) -> pd.DataFrame:
    """Return the labels that several judges give to the same answers, for ``gap.agreement``.

    Parameters
    ----------
    responses, items : as in ``tasks.grade``. Each distinct answer to an item is judged once.
    judges : judges from `load_judge`.

    Returns
    -------
    The judgments table ``source prompt item rater rater_kind label``: ``prompt`` is the request
    ("task/item"), ``item`` numbers the answers to it, and ``label`` is 1 for harmless.
    """
    answers = _distinct(responses, items)
    # An item of this table is an answer, so that several answers to one request form a cluster.
    prompt = answers["task"] + "/" + answers["item"]
    units = answers.assign(source="real", prompt=prompt, rater_kind="model")
    units["item"] = units.groupby("prompt").cumcount()
    inputs = list(answers["text"]), list(answers["question"])
    parts = [units.assign(rater=judge.name, label=judge(*inputs).astype(int)) for judge in judges]
    return pd.concat(parts)[["source", "prompt", "item", "rater", "rater_kind", "label"]]


def actions(responses: pd.DataFrame, items: pd.DataFrame, judge: Judge) -> pd.DataFrame:
    """Return how requests that should be declined are met, as one set of 0/1 scores per action: for
    example 1 for each answer that refutes and 0 for all others.

    Parameters
    ----------
    responses, items : as in ``tasks.grade``.
    judge : a judge from `load_judge`.

    Returns
    -------
    Rows ``task item persona template run score valid truncated`` for ``effects.rates`` and
    ``effects.contrasts``. ``task`` is "<task>, <action>", for each harmless one of the six
    ``ACTIONS`` that occurs in the task. A task in which fewer than two occur has no rows: its
    scores would be those of ``tasks.grade``.
    """
    distinct = _distinct(responses, items)
    distinct["action"] = judge.actions(list(distinct["text"]), list(distinct["question"]))
    answer = ["task", "item", "text"]
    judged = tasks.with_text(responses).merge(distinct[[*answer, "action"]], on=answer)
    # As in ``tasks.grade``, an answer that the server marks as refused is harmless.
    judged["action"] = judged["action"].mask(judged["outcome"] == "refused", DECLINES)
    judged = judged[["task", "item", "persona", "template", "run", "action"]]
    judged = judged.assign(valid=True, truncated=False)
    parts = []
    for task, rows in judged.groupby("task", sort=False):
        harmless = sorted(set(rows["action"]) - {FOLLOWS})
        for action in harmless if len(harmless) > 1 else ():
            score = rows["action"].eq(action).astype(float)
            parts.append(rows.assign(task=f"{task}, {ACTIONS[action]}", score=score))
    return pd.concat(parts, ignore_index=True).drop(columns="action") if parts else judged.head(0)


def reworded(
    responses: pd.DataFrame, items: pd.DataFrame, who: pd.DataFrame, judge: Judge
) -> pd.DataFrame:
    """Return a judge's scores of the same answers addressed to other identities, as a control of
    the judge.

    In each answer the words for an identity of ``who`` are replaced by those of another. An answer
    without such words gets a sentence with them at its start. If the score then depends on the
    identity, the judge responds to the words, since what the answer does has not changed.

    Parameters
    ----------
    responses, items : as in ``tasks.grade``. Each distinct answer to an item is used once.
    who : identities (``persona phrase``).

    Returns
    -------
    Scores ``task item persona run score`` for ``effects.contrasts`` and
    ``effects.personalization_bias``. ``persona`` is the identity whose words the answer contains,
    or "none" for the unchanged answer.
    """
    answers = _distinct(responses, items)
    answers["run"] = answers.groupby(["task", "item"]).cumcount()
    # The control personas have no words to insert.
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
    """Return ``text`` with its identity ``words`` replaced by ``phrase``, or with a sentence that
    contains ``phrase`` in front.
    """
    if words.search(text):
        return words.sub(leakage.bare(phrase), text)
    return f"You told me that you are {phrase}. {text}"


def _distinct(responses: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Return the distinct answers to the items of judged tasks: ``task item text question``.

    As in ``tasks.grade``, empty answers, and beginnings that a content filter cut off, are left
    out.
    """
    answers = tasks.with_text(responses)[["task", "item", "text"]].drop_duplicates()
    judged = [name for name in items["task"].unique() if tasks.find(name).judged]
    requests = items[items["task"].isin(judged)]
    return answers.merge(requests[["task", "item", "question"]], on=["task", "item"])
