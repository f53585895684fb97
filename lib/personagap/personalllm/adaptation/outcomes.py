"""What users got, in their own eyes: rewards, win rates, and paired differences with intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from personagap import gap
from personagap.errors import UserError
from personagap.gap.resampling import resample
from personagap.personalllm.adaptation.icl import STRATEGIES, Study, favourites
from personagap.results import corrected, result

CELL = ["arm", "shots", "template"]
#: Mean reward in the user's eyes; share better served than by the reference; share served as well
#: as by the best of 8.
METRICS = ["persona_reward", "win_rate_vs_reference", "win_rate_vs_best"]


def references(study: Study, seed: int = 0) -> pd.DataFrame:
    """Outcomes without a model, of template "none": what a strategy must beat, or cannot beat."""
    # A stored response costs no model: what beats none of these is not worth asking for.
    stored, each = study.stored(), np.arange(len(study.target))
    drawn = np.random.default_rng(seed).integers(stored.shape[1], size=len(each))
    scores = {
        "random response": stored[each, drawn],
        "reference": stored[:, study.reference],
        "population's favourite": stored[each, favourites(study, study.target)[0]],
        "best of 8": stored.max(axis=1),
    }
    tables = [of_scores(study, got, name, 0, "none") for name, got in scores.items()]
    return pd.concat(tables, ignore_index=True)


def of_scores(study: Study, scores: np.ndarray, *cell: str | int) -> pd.DataFrame:
    """``user prompt``, ``METRICS``, ``CELL`` and the ``unit`` of rewards, from each user's reward.

    A tie with the reference is no win, as in the paper.
    """
    stored = study.stored()
    won = scores > stored[:, study.reference]
    values = (scores, won.astype(float), (scores >= stored.max(axis=1)).astype(float))
    columns = {"user": np.arange(len(scores)), "prompt": study.target}
    columns |= dict(zip(METRICS, values, strict=True)) | dict(zip(CELL, cell, strict=True))
    return pd.DataFrame(columns | {"unit": study.unit})


def summarise(results: pd.DataFrame, **how) -> pd.DataFrame:
    """Means of all cells: `results` with the keys ``strategy shots control template``.

    ``how`` holds ``n_bootstrap level seed`` of ``gap.How``. Intervals resample test prompts, and
    with each the users that it was dealt to: users alone, where there are no more users than
    prompts.
    """
    table = results.melt([*CELL, "user", "prompt"], METRICS, "metric")
    arm, alone = table["arm"], table["shots"] == 0
    table["control"] = arm.mask(alone, "none").mask(arm.isin(STRATEGIES), "own")
    table["strategy"] = arm.where(alone, arm.map(STRATEGIES).fillna("winning"))
    columns = ["strategy", "shots", "control", "template", "metric"]
    return gap.means(table, "value", columns, unit=results["unit"].iloc[0], cluster="prompt", **how)


def compare(
    results: pd.DataFrame, of: Sequence[str], against: Sequence[str], **how
) -> pd.DataFrame:
    """Differences between arms, paired by user, of like shots and template; ``how``: `summarise`.

    Arms without examples stand against every number of shots.

    `results`, with the keys ``contrast shots template``; ``n`` counts users, ``p_adjusted``
    corrects over the contrasts of one metric, number of shots and template.
    """
    wide = results.pivot(index=["user", "prompt"], columns=CELL, values=METRICS)
    cells = results[CELL].drop_duplicates()
    theirs = cells[cells["arm"].isin(against)]
    pairs = cells[cells["arm"].isin(of)].merge(theirs, how="cross", suffixes=("", "_b"))
    # Like with like: more examples, or another template, would be a second difference (P7, P8).
    pairs = pairs.query("shots_b == shots or shots_b == 0")
    pairs = pairs.query("template_b == template or template_b == 'none'")
    if pairs.empty:
        known = ", ".join(cells["arm"].unique())
        raise UserError(f"{list(of)} and {list(against)}: no two to compare among {known}")
    pairs.insert(0, "contrast", pairs["arm"] + " − " + pairs["arm_b"])
    ours = pd.MultiIndex.from_frame(pairs[CELL])
    others = pd.MultiIndex.from_frame(pairs[[f"{name}_b" for name in CELL]])
    # The same draws for all pairs and metrics; users who share a prompt are drawn together.
    drawn = resample(wide.index, cluster="prompt", **how)
    tables = []
    for metric in METRICS:
        difference = wide[metric][ours].to_numpy() - wide[metric][others].to_numpy()
        values = drawn.totals(difference) / drawn.totals(np.ones((len(wide), 1)))
        unit = results["unit"].iloc[0] if metric == "persona_reward" else "share"
        found = pairs[["contrast", *CELL[1:]]].assign(metric=metric, unit=unit)
        tables.append(found.assign(**drawn.tested(values)))
    table = result(pd.concat(tables), ["contrast", *CELL[1:]], n=len(wide), method=drawn.method)
    return corrected(table, ["metric", "shots", "template"])


def by_database(
    results: pd.DataFrame, study: Study, seed: int = 0, **how
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`summarise` and `compare` of users who were served from several databases, by ``users``.

    ``results`` is of `serve` with ``neighbour_arms``, and has ``users``, the size of the database.
    Similar users are held against everything else, and the own history against the one drawn as in
    the authors' code (P7).
    """
    against = ["zero_shot", "random users", "own history", "oracle users", "population's favourite"]
    coded = ["own history as coded"]
    means, paired = [], []
    for size, served in results.groupby("users"):
        both = pd.concat([served.drop(columns="users"), references(study, seed)])
        means.append(summarise(both, seed=seed, **how).assign(users=size))
        for of, others in (("similar by difference", against), ("own history", coded)):
            paired.append(compare(both, [of], others, seed=seed, **how).assign(users=size))
    means = result(pd.concat(means), ["users", "strategy", "shots", "control", "template"])
    return means, result(pd.concat(paired), ["users", "contrast", "shots", "template"])
