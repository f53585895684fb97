"""Whose opinions simulated users have: representativeness on OpinionQA (arXiv 2409.20296, §3.3)."""

from itertools import product
from typing import Unpack

import numpy as np
import pandas as pd

from personagap.datasets.opinionqa import Opinions
from personagap.errors import UserError, expect, explained
from personagap.gap.resampling import How, resample
from personagap.results import require, result

#: What the distance of two answers is divided by: the range of the ordinals, as OpinionQA does, or
#: the number of options less one, as PersonalLLM does for itself. They differ where a midpoint was
#: inserted (P5).
DISTANCES = ("max−min", "options−1")


def simulated_opinions(opinions: Opinions, weights: pd.DataFrame) -> pd.DataFrame:
    """Answers of simulated users and of what they are to be compared with:
    ``model question distribution``.

    A user's answer is the weighted mean of the reward models' answers, as places on the scale,
    moved to the nearest option (the first of two as near), which pulls to the middle. The
    comparators: "uniform" over the options, "reward models, one vote each", and each reward model
    alone.

    Parameters
    ----------
    opinions : ``datasets.load_opinions`` with answers of reward models.
    weights : users × reward models.

    `UserError`: the answers lack a reward model that the users weigh, or are absent.
    """
    if opinions.answers is None:
        remedy = "add opinionqa/reward_model_answers.csv"
        raise UserError(f"no reward model has answered the survey: {remedy}")
    options = opinions.people.drop_duplicates("question").set_index("question")["ordinal"]
    answers = opinions.answers.pivot(index="question", columns="reward_model", values="answer")
    missing = sorted(set(weights) - set(answers))
    if missing or answers[list(weights)].isna().any(axis=None):
        name = missing[0] if missing else answers[list(weights)].isna().any().idxmax()
        raise UserError(f"reward model {name!r} has not answered every question: add its answers")
    rows = []
    for question, ordinal in options.loc[answers.index].items():
        given = answers.loc[question, list(weights)].to_numpy()
        mean = weights.to_numpy() @ given
        # A survey offers options and no places between them.
        snapped = ordinal[np.abs(ordinal - mean[:, None]).argmin(axis=1)]
        chosen = {"simulated users": snapped, "reward models, one vote each": given}
        chosen |= {f"{name} alone": given[[i]] for i, name in enumerate(weights)}
        for name, each in chosen.items():
            rows.append((name, question, (each[:, None] == ordinal).mean(axis=0)))
        rows.append(("uniform", question, np.full(len(ordinal), 1 / len(ordinal))))
    return pd.DataFrame(rows, columns=["model", "question", "distribution"])


def representativeness(
    people: pd.DataFrame, models: pd.DataFrame, **how: Unpack[How]
) -> pd.DataFrame:
    """1 − mean over questions of normalised Wasserstein distance to each group (OpinionQA, eq. 2).

    Parameters
    ----------
    people : ``Opinions.people``.
    models : ``model question distribution``; questions that a model lacks are left out for it.
    how : of the intervals, which resample the questions.

    Returns
    -------
    `results`, with the keys ``model attribute group distance``, in [0, 1]; one row for each of
    ``DISTANCES``.
    """
    require(people, "people", "attribute", "group", "question", "ordinal", "distribution")
    require(models, "models", "model", "question", "distribution")
    model, names = pd.factorize(models["model"])
    group, groups = pd.factorize(pd.MultiIndex.from_frame(people[["attribute", "group"]]))
    people, models = people.assign(code=group), models.assign(code=model)
    answers = dict(list(models.groupby("question")))
    both = people[people["question"].isin(answers)]
    asked = list(both.groupby("question", sort=False))
    expect(asked, "answers to questions of the people", models=models)
    # NaN where a model or a group has no answer: left out of its mean, not counted as far.
    near = np.full((len(asked), len(names), len(groups), len(DISTANCES)), np.nan)
    for number, (question, rows) in enumerate(asked):
        given = answers[question]
        with explained(f"question {question!r}", "give a share for each of its options"):
            near[number][np.ix_(given["code"], rows["code"])] = _near(rows, given)
    flat = near.reshape(len(asked), -1)
    questions = pd.MultiIndex.from_arrays([range(len(asked))], names=["question"])
    how = {"cluster": "question", **how}
    drawn = resample(questions, **how)
    total, n = drawn.totals(np.nan_to_num(flat)), drawn.totals((~np.isnan(flat)).astype(float))
    mean = np.divide(total, n, out=np.full_like(total, np.nan), where=n > 0)
    keys = [(name, *pair, distance) for name, pair, distance in product(names, groups, DISTANCES)]
    columns = ["model", "attribute", "group", "distance"]
    table = pd.DataFrame(keys, columns=columns).assign(**drawn.row(mean, 0, 1), n=n[0].astype(int))
    return result(table[table["n"] > 0], columns, metric="representativeness", method=drawn.method)


def survey(opinions: Opinions, weights: pd.DataFrame, **how: Unpack[How]) -> pd.DataFrame:
    """`representativeness` of the survey's language models, and of simulated users if reward models
    answered it.
    """
    simulated = [] if opinions.answers is None else [simulated_opinions(opinions, weights)]
    return representativeness(opinions.people, pd.concat([opinions.models, *simulated]), **how)


def _near(people: pd.DataFrame, models: pd.DataFrame) -> np.ndarray:
    """1 − distance on one question: (models, groups, distances)."""
    ordinal = people["ordinal"].iloc[0]
    order = np.argsort(ordinal)
    human, model = (
        np.stack(table["distribution"])[:, order].cumsum(axis=1) for table in (people, models)
    )
    far = (np.abs(model[:, None] - human)[..., :-1] * np.diff(ordinal[order])).sum(axis=-1)
    return 1 - far[..., None] / np.array([np.ptp(ordinal), len(ordinal) - 1])
