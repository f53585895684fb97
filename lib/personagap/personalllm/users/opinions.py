"""Representativeness of the opinions of simulated users on OpinionQA (arXiv 2409.20296, §3.3)."""

from itertools import product
from typing import Unpack

import numpy as np
import pandas as pd

from personagap.datasets.opinionqa import Opinions
from personagap.errors import UserError, expect, explained
from personagap.gap.resampling import How, resample
from personagap.results import require_columns, result

#: Denominators of the distance between two answers: the range of the ordinals, as in OpinionQA, or
#: the number of options less one, as in PersonalLLM for its own users. They differ where a midpoint
#: was inserted (P5).
DISTANCES = ("max−min", "options−1")


def simulated_opinions(opinions: Opinions, weights: pd.DataFrame) -> pd.DataFrame:
    """Return the distributions of answers of simulated users and of comparators:
    ``model question distribution``.

    A user's answer is the weighted mean of the reward models' answers on the ordinal scale, rounded
    to the nearest option (to the first of two equally near), which favours middle options. The
    comparators are "uniform" over the options, "reward models, one vote each", and each reward
    model alone.

    Parameters
    ----------
    opinions : ``datasets.load_opinions`` with answers of reward models.
    weights : users × reward models.

    `UserError`: answers of reward models are missing, or lack a reward model of ``weights``.
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
        votes = answers.loc[question, list(weights)].to_numpy()
        mean = weights.to_numpy() @ votes
        # Users must choose an option; a survey has no answers in between.
        nearest = ordinal[np.abs(ordinal - mean[:, None]).argmin(axis=1)]
        chosen = {"simulated users": nearest, "reward models, one vote each": votes}
        chosen |= {f"{name} alone": votes[[i]] for i, name in enumerate(weights)}
        for name, options_chosen in chosen.items():
            rows.append((name, question, (options_chosen[:, None] == ordinal).mean(axis=0)))
        rows.append(("uniform", question, np.full(len(ordinal), 1 / len(ordinal))))
    return pd.DataFrame(rows, columns=["model", "question", "distribution"])


def representativeness(
    people: pd.DataFrame, models: pd.DataFrame, **how: Unpack[How]
) -> pd.DataFrame:
    """Estimate 1 − the mean over questions of the normalised Wasserstein distance to each group
    (OpinionQA, eq. 2).

    Parameters
    ----------
    people : ``Opinions.people``.
    models : ``model question distribution``; questions that a model lacks are left out of its mean.
    how : options of the intervals, which resample the questions.

    Returns
    -------
    `results` in [0, 1], with the keys ``model attribute group distance``, where ``distance`` is one
    of ``DISTANCES``.
    """
    require_columns(people, "people", "attribute", "group", "question", "ordinal", "distribution")
    require_columns(models, "models", "model", "question", "distribution")
    model, names = pd.factorize(models["model"])
    group, groups = pd.factorize(pd.MultiIndex.from_frame(people[["attribute", "group"]]))
    people, models = people.assign(code=group), models.assign(code=model)
    answers = dict(list(models.groupby("question")))
    both = people[people["question"].isin(answers)]
    questions = list(both.groupby("question", sort=False))
    expect(questions, "answers to questions of the people", models=models)
    # NaN where a model or a group has no answer, to be left out of the mean.
    scores = np.full((len(questions), len(names), len(groups), len(DISTANCES)), np.nan)
    for number, (question, rows) in enumerate(questions):
        of_models = answers[question]
        with explained(f"question {question!r}", "give a share for each of its options"):
            scores[number][np.ix_(of_models["code"], rows["code"])] = _similarity(rows, of_models)
    flat = scores.reshape(len(questions), -1)
    index = pd.MultiIndex.from_arrays([range(len(questions))], names=["question"])
    how = {"cluster": "question", **how}
    drawn = resample(index, **how)
    total, n = drawn.totals(np.nan_to_num(flat)), drawn.totals((~np.isnan(flat)).astype(float))
    mean = np.divide(total, n, out=np.full_like(total, np.nan), where=n > 0)
    keys = [(name, *pair, distance) for name, pair, distance in product(names, groups, DISTANCES)]
    columns = ["model", "attribute", "group", "distance"]
    row = drawn.row(mean, 0, 1, ~np.isnan(flat))
    table = pd.DataFrame(keys, columns=columns).assign(**row, n=n[0].astype(int))
    return result(table[table["n"] > 0], columns, metric="representativeness", method=drawn.method)


def survey(opinions: Opinions, weights: pd.DataFrame, **how: Unpack[How]) -> pd.DataFrame:
    """Estimate the `representativeness` of the survey's language models and, if reward models
    answered the survey, of simulated users.
    """
    simulated = [] if opinions.answers is None else [simulated_opinions(opinions, weights)]
    return representativeness(opinions.people, pd.concat([opinions.models, *simulated]), **how)


def _similarity(people: pd.DataFrame, models: pd.DataFrame) -> np.ndarray:
    """Return 1 − the normalised distance on one question: (models, groups, distances)."""
    ordinal = people["ordinal"].iloc[0]
    order = np.argsort(ordinal)
    human, model = (
        np.stack(table["distribution"])[:, order].cumsum(axis=1) for table in (people, models)
    )
    # In one dimension, the Wasserstein distance is the area between the cumulative distributions.
    distance = (np.abs(model[:, None] - human)[..., :-1] * np.diff(ordinal[order])).sum(axis=-1)
    return 1 - distance[..., None] / np.array([np.ptp(ordinal), len(ordinal) - 1])
