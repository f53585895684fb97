"""Graded ratings: how high judges rate compared with people, and what their ratings depend on.

The human majority is not a rater here, because it repeats the people it summarizes.
"""

from typing import Unpack

import numpy as np
import pandas as pd

from personagap.errors import UserError, expect
from personagap.gap.resampling import How, Resampling, resample
from personagap.gap.shares import means
from personagap.gap.tables import (
    UNIT,
    covariates_of,
    numbers,
    people_and_models,
    require_columns,
    without_majority,
)
from personagap.results import add_holm, result


def judge_inflation(judgments: pd.DataFrame, **how: Unpack[How]) -> pd.DataFrame:
    """How much higher a model rates than people do, on the units rated by both.

    Parameters
    ----------
    judgments : long table ``user prompt item rater rater_kind label`` with numeric labels; a unit's
        human value is the mean of its human ratings.
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    `results` table, one row per model, with the key ``rater`` and the two means, ``value human``;
    ``estimate`` is model − human in units of the rating. Two or more people are treated as a sample
    of all who might have rated, each with their own severity (`Resampling.over_raters`); a single
    person is not, as ``method`` says. With three people whose severity varies, the test at 5 %
    rejects a true null in about 7 % of data sets: their variance is estimated from two degrees of
    freedom.

    Examples
    --------
    >>> from personagap.gap import simulate_ratings
    >>> table = judge_inflation(simulate_ratings(inflation=0.4), n_bootstrap=200)
    >>> table[["rater", "estimate", "ci_low", "ci_high"]].round(2)
       rater  estimate  ci_low  ci_high
    0  judge      0.33    0.14     0.51
    """
    wide, humans, models = people_and_models(judgments, "judge inflation")
    boot, human_mean = resample(wide.index, **how), wide[humans].mean(axis=1).to_numpy()
    # Severity is measured relative to the model, so people need not have rated the same units.
    human_labels = wide[humans].to_numpy()
    rows = []
    for rater in models:
        labels = wide[rater].to_numpy()
        both = ~np.isnan(labels - human_mean)
        if not both.any():
            raise UserError(f"{rater!r} shares no item with the human raters")
        inflation = boot.ratio(labels - human_mean, where=both)
        gaps, judged = labels[:, None] - human_labels, np.isfinite(human_labels) & both[:, None]
        by_rater = [boot.ratio(x, where=rated) for x, rated in zip(gaps.T, judged.T, strict=True)]
        row = {"rater": rater, "n": both.sum()}
        row |= boot.tested(inflation, np.stack(by_rater, axis=1), judged)
        rows.append(row | {"value": labels[both].mean(), "human": human_mean[both].mean()})
    constants = {"metric": "inflation", "unit": "rating", "method": _describe_method(boot, humans)}
    return add_holm(result(rows, ["rater"], **constants), ["metric"])


def _describe_method(boot: Resampling, humans: list[str]) -> str:
    raters = f"{len(humans)} raters random" if len(humans) > 1 else "this one rater"
    return f"{boot.method}, {raters}"


def mention_bias(judgments: pd.DataFrame, **how: Unpack[How]) -> pd.DataFrame:
    """Difference in mean rating between responses that mention the user's attribute and others.

    Parameters
    ----------
    judgments : numeric labels, with a column ``mention`` (true or false, 1 or 0) of each unit.
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    `results` table with the key ``rater``, "human" (the mean of the human ratings) first, and
    ``n_mention``, the number of the ``n`` responses with a mention. The metrics are "mention bias"
    and, for models, "excess", the difference from the humans' value. People are a random factor, as
    in `judge_inflation`.

    Examples
    --------
    >>> from personagap.gap import simulate_ratings
    >>> table = mention_bias(simulate_ratings(mention=-0.4), n_bootstrap=200)
    >>> table[["rater", "metric", "estimate", "ci_low", "ci_high"]].round(2)
       rater        metric  estimate  ci_low  ci_high
    0  human  mention bias     -0.15   -0.49     0.20
    1  judge  mention bias     -0.38   -0.76    -0.00
    2  judge        excess     -0.23   -0.65     0.19
    """
    flags = covariates_of(judgments, ["mention"])["mention"]
    expect(flags.isin([0, 1]).all(), "true or false in every row", mention=sorted(set(flags))[:5])
    wide, humans, models = people_and_models(judgments, "mention bias")
    key = list(wide.index.names)
    flags = judgments.assign(mention=flags).drop_duplicates(key).set_index(key)["mention"]
    mention = flags.reindex(wide.index).to_numpy(dtype=bool)
    boot, rows = resample(wide.index, **how), []
    by_rater = [_mention_effect(boot, wide[human].to_numpy(), mention) for human in humans]
    raters = np.stack(by_rater, axis=1), wide[humans].notna().to_numpy()
    for rater in ["human", *models]:
        x = (wide[humans].mean(axis=1) if rater == "human" else wide[rater]).to_numpy()
        named, unnamed = ~np.isnan(x) & mention, ~np.isnan(x) & ~mention
        if not named.any() or not unnamed.any():
            raise UserError(
                f"{rater!r} needs ratings both of responses with a mention and of ones without"
            )
        effect = _mention_effect(boot, x, mention)
        rated = named | unnamed
        row = {"rater": rater, "n": rated.sum(), "n_mention": named.sum()}
        if rater == "human":
            human_effect = effect
            rows.append({**row, "metric": "mention bias", **boot.tested(effect, *raters)})
            continue
        # A model is a fixed factor; the people it is compared with are a random one.
        rows.append({**row, "metric": "mention bias", **boot.tested(effect, where=rated)})
        rows.append({**row, "metric": "excess", **boot.tested(effect - human_effect, *raters)})
    constants = {"unit": "rating", "method": _describe_method(boot, humans)}
    return add_holm(result(rows, ["rater"], **constants), ["metric"])


def _mention_effect(boot: Resampling, x: np.ndarray, mention: np.ndarray) -> np.ndarray:
    """Mean of ``x`` with − without mention; 0 for a rater without ratings of one of the two."""
    rated = np.isfinite(x)
    difference = boot.ratio(x, where=rated & mention) - boot.ratio(x, where=rated & ~mention)
    return np.nan_to_num(difference)


def rating_summary(judgments: pd.DataFrame, item: list[str], **how: Unpack[How]) -> pd.DataFrame:
    """Summary of the ratings of personalized responses on a scale of 1–5, by people and each model.

    Parameters
    ----------
    judgments : numeric labels, above 3 where the personalized response is better.
    item : columns that identify a response; several attributes of a response are rated (R9).
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    `results` table with the keys ``rater rater_kind`` and the metrics "mean rating", "better"
    (share of judgments above 3), "no better" (share of judgments at most 3) and "no better, by
    response" (share of responses with a mean of at most 3). People are a random factor, as in
    `judge_inflation`, except for the last, which is based on the mean of these people.
    """
    require_columns(judgments, "label", "rater_kind", *item)
    judgments = without_majority(judgments).assign(label=numbers)
    # As objects, because "human" may not be among the categories of a categorical column.
    rater = judgments["rater"].astype(object).where(judgments["rater_kind"] == "model", "human")
    table = judgments.assign(rater=rater, person=judgments["rater"])
    keys = ["rater", "rater_kind"]
    # Papers report both: a share of judgments is not a share of responses (R9).
    responses = table.groupby([*keys, *item], sort=False)["label"].mean().reset_index()
    metrics = {
        "mean rating": table.assign(value=table["label"]),
        "better": table.assign(value=(table["label"] > 3).astype(int)),
        "no better": table.assign(value=(table["label"] <= 3).astype(int)),
        "no better, by response": responses.assign(value=(responses["label"] <= 3).astype(int)),
    }
    tables = []
    for name, rows in metrics.items():
        raters, rows = "person" if "person" in rows else None, rows.assign(metric=name)
        tables.append(means(rows, "value", [*keys, "metric"], raters=raters, unit="rating", **how))
    return pd.concat(tables, ignore_index=True)


def rating_effects(
    judgments: pd.DataFrame, covariates: list[str], **how: Unpack[How]
) -> pd.DataFrame:
    """Least-squares slopes of ratings on covariates that should not matter, mutually adjusted.

    Meant for length (R17), position (R11) and mention together. A longer response may be better, so
    the slopes of a model are those of its rating *less the people's mean rating* of the same unit.

    Parameters
    ----------
    judgments : numeric labels and the numeric ``covariates`` of each judgment.
    covariates : columns to regress on; one that does not vary has no row in the result.
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    `results` table with the key ``rater``: "human" (all human ratings) and each model less people.
    ``metric`` is the covariate, and ``estimate`` is in points of the rating per unit of it.
    """
    require_columns(judgments, "label", "rater_kind")
    judgments = judgments.assign(**covariates_of(judgments, covariates))
    judgments = without_majority(judgments).assign(label=numbers)
    key = [column for column in UNIT if column in judgments]
    models = judgments["rater_kind"] == "model"
    if models.all():
        raise UserError(
            "rating_effects needs labels of people (rater_kind 'human'), which those of models "
            "are held against"
        )
    people = judgments[~models].groupby(key)["label"].mean().rename("people")
    # Joined to the key alone, as the judgments may have a column of that name.
    level = judgments[key].join(people, on=key)["people"].where(models, 0)
    rater = judgments["rater"].astype(object).where(models, "human")
    table = judgments.assign(rater=rater, label=judgments["label"] - level)
    rows = []
    for rater, part in table.dropna(subset="label").groupby("rater", sort=False):
        used = [covariate for covariate in covariates if np.ptp(part[covariate]) > 0]
        x = np.column_stack([np.ones(len(part)), part[used]]).astype(float)
        boot, k = resample(part[key], **how), x.shape[1]
        # X'X and X'y are sums over units, so resamples are fitted without going back to the rows.
        products = np.einsum("ij,ik->ijk", x, np.column_stack([x, part["label"]]))
        sums = boot.totals(products.reshape(len(part), -1)).reshape(-1, k, k + 1)
        # Pseudo-inverse, because a covariate may be constant in a resample.
        slopes = (np.linalg.pinv(sums[:, :, :k]) @ sums[:, :, k:])[:, :, 0]
        for covariate, values in zip(used, slopes.T[1:], strict=True):
            row = {"rater": rater, "metric": covariate, "n": len(part)}
            rows.append(row | boot.tested(values, step=1 / np.ptp(part[covariate])))
    constants = {"unit": "rating per unit", "method": f"least squares, {boot.method}"}
    return add_holm(result(rows, ["rater"], **constants), ["metric"])
