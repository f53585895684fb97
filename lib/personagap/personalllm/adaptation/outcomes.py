"""Outcomes in the users' own eyes: rewards, win rates, and paired differences with intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from personagap import gap
from personagap.errors import UserError
from personagap.gap.resampling import resample
from personagap.personalllm.adaptation.icl import STRATEGIES, Study, favourites
from personagap.results import add_holm, result

#: Columns that name an experimental condition.
CELL = ["arm", "shots", "template"]
#: The user's own reward of the response; whether it is better than the reference response; whether
#: it is at least as good as the best of the 8 stored ones.
METRICS = ["persona_reward", "win_rate_vs_reference", "win_rate_vs_best"]


def references(study: Study, seed: int = 0) -> pd.DataFrame:
    """Return the outcomes of stored responses, which need no model (template "none").

    They are baselines that a strategy should beat, and "best of 8", an upper bound.
    """
    # Stored responses are free: a strategy that beats none of these is not worth its cost.
    stored, user = study.stored(), np.arange(len(study.target))
    drawn = np.random.default_rng(seed).integers(stored.shape[1], size=len(user))
    scores = {
        "random response": stored[user, drawn],
        "reference": stored[:, study.reference],
        "population's favourite": stored[user, favourites(study, study.target)[0]],
        "best of 8": stored.max(axis=1),
    }
    tables = [score_outcomes(study, values, arm, 0, "none") for arm, values in scores.items()]
    return pd.concat(tables, ignore_index=True)


def score_outcomes(study: Study, scores: np.ndarray, *cell: str | int) -> pd.DataFrame:
    """Return a table ``user prompt``, ``METRICS``, ``CELL`` and the ``unit`` of rewards, from the
    reward (``scores``) of each user.

    A tie with the reference is not a win, as in the paper.
    """
    stored = study.stored()
    won = scores > stored[:, study.reference]
    values = (scores, won.astype(float), (scores >= stored.max(axis=1)).astype(float))
    columns = {"user": np.arange(len(scores)), "prompt": study.target}
    columns |= dict(zip(METRICS, values, strict=True)) | dict(zip(CELL, cell, strict=True))
    return pd.DataFrame(columns | {"unit": study.unit})


def summarise(results: pd.DataFrame, **how) -> pd.DataFrame:
    """Return the means of all conditions: `results` with the keys
    ``strategy shots control template``.

    ``how`` holds ``n_bootstrap level seed`` of ``gap.How``. Intervals resample test prompts
    together with the users that each was assigned to; with no more users than prompts that is the
    same as resampling users.
    """
    table = results.melt([*CELL, "user", "prompt"], METRICS, "metric")
    arm, no_examples = table["arm"], table["shots"] == 0
    table["control"] = arm.mask(no_examples, "none").mask(arm.isin(STRATEGIES), "own")
    table["strategy"] = arm.where(no_examples, arm.map(STRATEGIES).fillna("winning"))
    columns = ["strategy", "shots", "control", "template", "metric"]
    return gap.means(table, "value", columns, unit=results["unit"].iloc[0], cluster="prompt", **how)


def compare(
    results: pd.DataFrame, of: Sequence[str], against: Sequence[str], **how
) -> pd.DataFrame:
    """Estimate the differences between arms, paired by user, at the same shots and template.

    Arms without examples are compared with every number of shots. ``how`` is that of `summarise`.

    `results` have the keys ``contrast shots template``; ``n`` counts users, ``p_adjusted`` corrects
    over the contrasts of one metric, number of shots and template.
    """
    wide = results.pivot(index=["user", "prompt"], columns=CELL, values=METRICS)
    cells = results[CELL].drop_duplicates()
    arms_b = cells[cells["arm"].isin(against)]
    pairs = cells[cells["arm"].isin(of)].merge(arms_b, how="cross", suffixes=("", "_b"))
    # A different number of examples or template would confound the comparison (P7, P8).
    pairs = pairs.query("shots_b == shots or shots_b == 0")
    pairs = pairs.query("template_b == template or template_b == 'none'")
    if pairs.empty:
        known = ", ".join(cells["arm"].unique())
        raise UserError(f"{list(of)} and {list(against)}: no two to compare among {known}")
    pairs.insert(0, "contrast", pairs["arm"] + " − " + pairs["arm_b"])
    a = pd.MultiIndex.from_frame(pairs[CELL])
    b = pd.MultiIndex.from_frame(pairs[[f"{name}_b" for name in CELL]])
    # The same resamples for all pairs and metrics; users who share a prompt are drawn together.
    resamples = resample(wide.index, cluster="prompt", **how)
    tables = []
    for metric in METRICS:
        difference = wide[metric][a].to_numpy() - wide[metric][b].to_numpy()
        means = resamples.totals(difference) / resamples.totals(np.ones((len(wide), 1)))
        unit = results["unit"].iloc[0] if metric == "persona_reward" else "share"
        rows = pairs[["contrast", *CELL[1:]]].assign(metric=metric, unit=unit)
        tables.append(rows.assign(**resamples.tested(means)))
    table = result(pd.concat(tables), ["contrast", *CELL[1:]], n=len(wide), method=resamples.method)
    return add_holm(table, ["metric", "shots", "template"])


def by_database(
    results: pd.DataFrame, study: Study, seed: int = 0, **how
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `summarise` and `compare` for each size of the database, the key ``users``.

    ``results`` are those of `serve` with ``neighbour_arms``, with the size of the database as a
    column ``users``. Similar users are compared with all other arms, and the own history with the
    one drawn as in the authors' code (P7).
    """
    others = ["zero_shot", "random users", "own history", "oracle users", "population's favourite"]
    contrasts = {"similar by difference": others, "own history": ["own history as coded"]}
    means, paired = [], []
    for size, served in results.groupby("users"):
        both = pd.concat([served.drop(columns="users"), references(study, seed)])
        means.append(summarise(both, seed=seed, **how).assign(users=size))
        for of, against in contrasts.items():
            paired.append(compare(both, [of], against, seed=seed, **how).assign(users=size))
    means = result(pd.concat(means), ["users", "strategy", "shots", "control", "template"])
    return means, result(pd.concat(paired), ["users", "contrast", "shots", "template"])
