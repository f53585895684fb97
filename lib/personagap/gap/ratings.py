"""Graded ratings: judges beside people, below the ceiling that people's own noise sets.

The human majority is no rater here: it agrees with the people it was made from, which would raise
the ceiling (with the median of three as a fourth, in `simulate_ratings`, from 0.76 to 0.89).
"""

from itertools import combinations
from typing import Unpack

import numpy as np
import pandas as pd
from scipy import stats

from personagap.errors import UserError
from personagap.gap.resampling import How, Resampling, resample
from personagap.gap.sources import means
from personagap.gap.tables import UNIT, individuals, kinds, no_code, require, units


def _sides(judgments: pd.DataFrame) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Units × raters, the human raters and the models; the majority vote is neither."""
    judgments = individuals(judgments)
    wide, kind = units(judgments), kinds(judgments)
    humans, models = ([rater for rater in wide if kind[rater] == side] for side in ("human", "model"))
    if not humans:
        raise UserError("no judgments of rater_kind 'human' to compare with")
    return wide, humans, models


def judge_inflation(judgments: pd.DataFrame, **how: Unpack[How]) -> pd.DataFrame:
    """How much higher a model rates than people do, on the units both rated.

    Parameters
    ----------
    judgments : numeric labels; a unit's human value is the mean of its human ratings.

    Returns
    -------
    DataFrame, one row per model: ``rater value human estimate ci_low ci_high p_value n method``;
    ``estimate`` is model − human in units of the rating. Two or more people count as drawn from all who might have
    rated, with their own severity (`Resampling.over_raters`); one person stands for nobody else, as ``method`` says.

    Examples
    --------
    >>> from personagap.gap import simulate_ratings
    >>> table = judge_inflation(simulate_ratings(inflation=0.4), n_bootstrap=200)
    >>> table[["rater", "estimate", "ci_low", "ci_high"]].round(2)
       rater  estimate  ci_low  ci_high
    0  judge      0.33    0.14     0.51
    """
    wide, humans, models = _sides(judgments)
    drawn, human = resample(wide.index, **how), wide[humans].mean(axis=1).to_numpy()
    rows = []
    for rater in models:
        label = wide[rater].to_numpy()
        both = ~np.isnan(label - human)
        if not both.any():
            raise UserError(f"{rater!r} shares no item with the human raters")
        gap = drawn.ratio(label - human, where=both)
        own = (wide[humans].to_numpy() - human[:, None]).T
        by_rater = np.stack([drawn.ratio(x, where=both & np.isfinite(x)) for x in own], axis=1)
        low, high, p_value = drawn.limits(gap, by_rater)
        rows.append((rater, label[both].mean(), human[both].mean(), gap[0], low, high, p_value, both.sum()))
    table = pd.DataFrame(rows, columns=["rater", "value", "human", "estimate", "ci_low", "ci_high", "p_value", "n"])
    return table.assign(method=f"{drawn.method}, {_population(humans)}")


def _population(humans: list[str]) -> str:
    return f"{len(humans)} raters random" if len(humans) > 1 else "this one rater"


def _ranks(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mid-ranks of ``x`` (n,) in each resample: (resamples, n)."""
    _, code = np.unique(x, return_inverse=True)
    counts = weight @ np.eye(code.max() + 1)[code]
    return (np.cumsum(counts, axis=1) - counts / 2)[:, code]


def _spearman(x: np.ndarray, y: np.ndarray, drawn: Resampling) -> np.ndarray:
    """Spearman's ρ over the units both judged, in the sample and each resample; NaN where one is constant."""
    both = ~np.isnan(x + y)
    if not both.any():
        return np.full(len(drawn.weights), np.nan)
    weight = drawn.weights[:, drawn.cell[both]]
    total = weight.sum(axis=1, keepdims=True).clip(min=1)
    a, b = (
        rank - (weight * rank).sum(axis=1, keepdims=True) / total for rank in (_ranks(v[both], weight) for v in (x, y))
    )
    scale = np.sqrt((weight * a * a).sum(axis=1) * (weight * b * b).sum(axis=1))
    return np.divide((weight * a * b).sum(axis=1), scale, out=np.full(len(weight), np.nan), where=scale > 1e-9)


def judge_correlation(judgments: pd.DataFrame, **how: Unpack[How]) -> pd.DataFrame:
    """Spearman's ρ of each judge with the mean human rating, and the most that human noise allows.

    With mean ρ̄ between two humans (weighted by the units they share), the mean of k of them has reliability
    k ρ̄ / (1 + (k − 1) ρ̄) (Spearman–Brown; k is the harmonic mean of ratings per unit); a judge that knew the true
    values would reach its square root, the ceiling.
    ρ over the ceiling is the disattenuated value (Spearman 1904); it can exceed 1 by chance.

    Returns
    -------
    DataFrame, one row per model and per human (against the mean of the *other* humans, so the two
    are to be compared through the disattenuated values): ``rater rater_kind n spearman ci_low ci_high
    ceiling ceiling_low ceiling_high disattenuated disattenuated_low disattenuated_high note``. Where
    humans do not correlate positively the ceiling is undefined, as the note says.

    Examples
    --------
    >>> from personagap.gap import simulate_ratings
    >>> table = judge_correlation(simulate_ratings(), n_bootstrap=200)
    >>> table[["rater", "spearman", "ceiling", "disattenuated"]].round(2)
         rater  spearman  ceiling  disattenuated
    0    judge      0.59     0.76           0.78
    1  human_0      0.40     0.69           0.58
    2  human_1      0.41     0.69           0.59
    3  human_2      0.35     0.69           0.51
    """
    wide, humans, models = _sides(judgments)
    if len(humans) < 2:
        raise UserError("the noise ceiling needs two or more human raters, there is one")
    drawn = resample(wide.index, **how)
    label = {rater: wide[rater].to_numpy() for rater in wide}
    pairs = [(np.isfinite(label[a] + label[b]).sum(), a, b) for a, b in combinations(humans, 2)]
    values = np.stack([_spearman(label[a], label[b], drawn) for _, a, b in pairs])
    weights = np.array([[n] for n, _, _ in pairs]) * np.isfinite(values)
    between = (np.nan_to_num(values) * weights).sum(axis=0) / np.maximum(weights.sum(axis=0), 1)
    between = np.where(between > 0, between, np.nan)
    rows = []
    for rater in [*models, *humans]:
        others = [human for human in humans if human != rater]
        rho = _spearman(label[rater], wide[others].mean(axis=1).to_numpy(), drawn)
        ratings = wide[others].notna().sum(axis=1)[wide[rater].notna()]
        k = 1 / (1 / ratings[ratings > 0]).mean()  # noise goes with 1 / ratings of a unit
        ceiling = np.sqrt(k * between / (1 + (k - 1) * between))
        true = rho / ceiling
        note = "" if not np.isnan(true[0]) else "ρ undefined" if np.isnan(rho[0]) else "humans do not agree: no ceiling"
        kind, n = (
            "human" if rater in humans else "model",
            (wide[rater].notna() & wide[others].notna().any(axis=1)).sum(),
        )
        estimates = [rho[0], *drawn.interval(rho, -1, 1), ceiling[0], *drawn.interval(ceiling, 0, 1)]
        estimates += [true[0], *drawn.interval(true)]
        rows.append((rater, kind, n, *estimates, note))
    limits = ["ci_low", "ci_high"]
    limits += [name + end for name in ("ceiling", "disattenuated") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["rater", "rater_kind", "n", "spearman", *limits, "note"])


def mention_bias(judgments: pd.DataFrame, **how: Unpack[How]) -> pd.DataFrame:
    """Does a rater reward or punish a response that names the attribute? Mean rating with − without mention.

    Parameters
    ----------
    judgments : numeric labels, with a column ``mention`` (true/false) that says so for each unit.

    Returns
    -------
    DataFrame, one row for "human" (mean of the human ratings) and per model: ``rater n_mention
    n_without estimate ci_low ci_high p_value`` and, for models, ``excess excess_low excess_high
    excess_p``, the difference from the humans' value. People are random, as in `judge_inflation`.

    Examples
    --------
    >>> from personagap.gap import simulate_ratings
    >>> table = mention_bias(simulate_ratings(mention=-0.4), n_bootstrap=200)
    >>> table[["rater", "estimate", "excess", "excess_low", "excess_high"]].round(2)
       rater  estimate  excess  excess_low  excess_high
    0  human     -0.15     NaN         NaN          NaN
    1  judge     -0.38   -0.23       -0.65         0.19
    """
    require(judgments, "mention")
    wide, humans, models = _sides(judgments)
    flags = judgments.drop_duplicates([column for column in UNIT if column in judgments])
    mention = flags.set_index(list(wide.index.names))["mention"].reindex(wide.index).to_numpy(dtype=bool)
    drawn, human, rows = resample(wide.index, **how), None, []
    for rater, label in [("human", wide[humans].mean(axis=1)), *((model, wide[model]) for model in models)]:
        x = label.to_numpy()
        named, unnamed = ~np.isnan(x) & mention, ~np.isnan(x) & ~mention
        if not named.any() or not unnamed.any():
            raise UserError(f"{rater!r} needs ratings both of responses with a mention and of ones without")
        delta = _mention(drawn, x, mention)
        if human is None:
            by_rater = np.stack([_mention(drawn, wide[one].to_numpy(), mention) for one in humans], axis=1)
        row = {"rater": rater, "n_mention": named.sum(), "n_without": unnamed.sum()}
        of_one = by_rater if human is None else by_rater[:, :1]
        row |= zip(["estimate", "ci_low", "ci_high", "p_value"], [delta[0], *drawn.limits(delta, of_one)], strict=True)
        if human is None:
            human = delta
        else:
            excess = [(delta - human)[0], *drawn.limits(delta - human, by_rater)]
            row |= zip(["excess", "excess_low", "excess_high", "excess_p"], excess, strict=True)
        rows.append(row)
    return pd.DataFrame(rows)


def _mention(drawn: Resampling, x: np.ndarray, mention: np.ndarray) -> np.ndarray:
    """Mean of ``x`` with − without mention; of a rater who rated none of either it is 0, as nothing is known."""
    named, unnamed = (drawn.ratio(x, where=np.isfinite(x) & side) for side in (mention, ~mention))
    return np.nan_to_num(named - unnamed)


def rating_summary(judgments: pd.DataFrame, item: list[str], **how: Unpack[How]) -> pd.DataFrame:
    """How personalized responses fare on the scale from 1 to 5, by people and by each model.

    Parameters
    ----------
    judgments : numeric labels, above 3 where personalized is better.
    item : columns that identify a response, of which several attributes are rated (R9).

    Returns
    -------
    DataFrame ``rater rater_kind measure n estimate ci_low ci_high``: "mean rating", and the shares "better" (above 3),
    "no better" (of judgments at most 3) and "no better, by response" (of responses whose mean is at most 3). People are
    random, as in `judge_inflation`, but in the last: that is of the mean of these people.
    """
    judgments = individuals(judgments)
    no_code(judgments["label"])
    table = judgments.assign(
        rater=judgments["rater"].where(judgments["rater_kind"] == "model", "human"), person=judgments["rater"]
    )
    who = ["rater", "rater_kind"]
    responses = table.groupby([*who, *item], sort=False)["label"].mean().reset_index()
    measures = {
        "mean rating": table.assign(value=table["label"]),
        "better": table.assign(value=(table["label"] > 3).astype(int)),
        "no better": table.assign(value=(table["label"] <= 3).astype(int)),
        "no better, by response": responses.assign(value=(responses["label"] <= 3).astype(int)),
    }
    tables = [
        means(
            rows.assign(measure=name), "value", [*who, "measure"], raters="person" if "person" in rows else None, **how
        )
        for name, rows in measures.items()
    ]
    return pd.concat(tables, ignore_index=True)


def rating_effects(judgments: pd.DataFrame, covariates: list[str], **how: Unpack[How]) -> pd.DataFrame:
    """What ratings go up with, and shouldn't: least-squares slopes, each at equal other covariates.

    For length (R17), position (R11) and mention together. A longer response may well be better; so a model's slopes are
    those of its rating *less the people's mean rating* of the same unit.

    Parameters
    ----------
    judgments : numeric labels and the numeric ``covariates`` of each judgment.

    Returns
    -------
    DataFrame, for "human" (all human ratings) and each model less people: ``rater covariate n estimate ci_low ci_high
    p_value``; ``estimate`` in points of the rating per unit of the covariate. One that does not vary has no row.
    """
    judgments = individuals(judgments)
    key = [column for column in UNIT if column in judgments]
    models = judgments["rater_kind"] == "model"
    people = judgments[~models].groupby(key)["label"].mean().rename("people")
    table = judgments.assign(rater=judgments["rater"].where(models, "human")).join(people, on=key)
    table["label"] = table["label"] - table["people"].where(models, 0)
    rows = []
    for rater, part in table.dropna(subset="label").groupby("rater", sort=False):
        used = [covariate for covariate in covariates if np.ptp(part[covariate].astype(float)) > 0]
        x = np.column_stack([np.ones(len(part)), part[used]]).astype(float)
        drawn = resample(part[key], **how)
        k = x.shape[1]
        products = np.einsum("ij,ik->ijk", x, np.column_stack([x, part["label"]])).reshape(len(part), -1)
        sums = drawn.totals(products).reshape(-1, k, k + 1)
        slopes = (np.linalg.pinv(sums[:, :, :k]) @ sums[:, :, k:])[:, :, 0]
        for covariate, values in zip(used, slopes.T[1:], strict=True):
            rows.append((rater, covariate, len(part), values[0], *drawn.interval(values), float(drawn.p_value(values))))
    return pd.DataFrame(rows, columns=["rater", "covariate", "n", "estimate", "ci_low", "ci_high", "p_value"])


def exact_correlation(x: np.ndarray, y: np.ndarray, *, n_resamples: int = 50_000, seed: int = 0) -> pd.DataFrame:
    """Spearman's ρ with its permutation p-value: exact when there are few points, which no t test is.

    Parameters
    ----------
    x, y : (n,) paired values, n ≥ 3.
    n_resamples : all n! pairings are enumerated if they are no more than this (n ≤ 8), else drawn.

    Returns
    -------
    One row ``n spearman p_exact p_t exact``; ``p_t`` is the t approximation that papers report.

    Examples
    --------
    The published r = 0.90, p = 0.04 over five models (R16):

    >>> exact_correlation([1, 2, 3, 4, 5], [1, 2, 3, 5, 4]).round(3)
       n  spearman  p_exact    p_t  exact
    0  5       0.9    0.083  0.037   True
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(x) != len(y) or len(x) < 3 or np.isnan(x + y).any() or min(np.ptp(x), np.ptp(y)) == 0:
        raise UserError("a correlation needs three or more complete pairs of values that vary")
    a, b = stats.rankdata(x), stats.rankdata(y)
    centred = b - b.mean()
    test = stats.permutation_test(
        (a,),
        lambda ranks, axis: (ranks * centred).sum(axis=axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=n_resamples,
        rng=np.random.default_rng(seed),
    )
    rho, p_t = stats.spearmanr(x, y)
    row = (len(x), rho, test.pvalue, p_t, len(test.null_distribution) < n_resamples)
    return pd.DataFrame([row], columns=["n", "spearman", "p_exact", "p_t", "exact"])
