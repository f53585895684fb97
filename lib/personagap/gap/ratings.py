"""Graded ratings: how high judges rate beside people, and what ratings go up with.

The human majority is no rater here: it repeats the people it was made from.
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
    individuals,
    numbers,
    people_and_models,
    require,
)
from personagap.results import corrected, result


def judge_inflation(judgments: pd.DataFrame, **how: Unpack[How]) -> pd.DataFrame:
    """How much higher a model rates than people do, on the units both rated.

    Parameters
    ----------
    judgments : numeric labels; a unit's human value is the mean of its human ratings.

    Returns
    -------
    `results`, one row per model, with the key ``rater`` and the two means, ``value human``;
    ``estimate`` is model − human in units of the rating. Two or more people count as drawn from all
    who might have rated, with their own severity (`Resampling.over_raters`); one person stands for
    nobody else, as ``method`` says.

    Examples
    --------
    >>> from personagap.gap import simulate_ratings
    >>> table = judge_inflation(simulate_ratings(inflation=0.4), n_bootstrap=200)
    >>> table[["rater", "estimate", "ci_low", "ci_high"]].round(2)
       rater  estimate  ci_low  ci_high
    0  judge      0.33    0.14     0.51
    """
    wide, humans, models = people_and_models(judgments, "judge inflation")
    drawn, human = resample(wide.index, **how), wide[humans].mean(axis=1).to_numpy()
    # By its distance from the model, a person's severity is known also of one who rated no unit
    # that another rated.
    own = wide[humans].to_numpy()
    rows = []
    for rater in models:
        label = wide[rater].to_numpy()
        both = ~np.isnan(label - human)
        if not both.any():
            raise UserError(f"{rater!r} shares no item with the human raters")
        gap = drawn.ratio(label - human, where=both)
        gaps, judged = label[:, None] - own, np.isfinite(own) & both[:, None]
        by_rater = [drawn.ratio(x, where=y) for x, y in zip(gaps.T, judged.T, strict=True)]
        row = {"rater": rater, "n": both.sum()}
        row |= drawn.tested(gap, np.stack(by_rater, axis=1), judged)
        rows.append(row | {"value": label[both].mean(), "human": human[both].mean()})
    same = {"metric": "inflation", "unit": "rating", "method": _method(drawn, humans)}
    return corrected(result(rows, ["rater"], **same), ["metric"])


def _method(drawn: Resampling, humans: list[str]) -> str:
    who = f"{len(humans)} raters random" if len(humans) > 1 else "this one rater"
    return f"{drawn.method}, {who}"


def mention_bias(judgments: pd.DataFrame, **how: Unpack[How]) -> pd.DataFrame:
    """Does a rater reward or punish a response that names the attribute? Mean rating with − without
    mention.

    Parameters
    ----------
    judgments : numeric labels, with a column ``mention`` (true or false, 1 or 0) that says so for
        each unit.

    Returns
    -------
    `results`, with the key ``rater``, "human" (mean of the human ratings) first, and ``n_mention``,
    of the ``n`` those with a mention; metrics "mention bias" and, for models, "excess", the
    difference from the humans' value. People are random, as in `judge_inflation`.

    Examples
    --------
    >>> from personagap.gap import simulate_ratings
    >>> table = mention_bias(simulate_ratings(mention=-0.4), n_bootstrap=200)
    >>> table[["rater", "metric", "estimate", "ci_low", "ci_high"]].round(2)
       rater        metric  estimate  ci_low  ci_high
    0  human  mention bias     -0.15   -0.49     0.19
    1  judge  mention bias     -0.38   -0.76    -0.00
    2  judge        excess     -0.23   -0.65     0.19
    """
    said = covariates_of(judgments, ["mention"])["mention"]
    expect(said.isin([0, 1]).all(), "true or false in every row", mention=sorted(set(said))[:5])
    wide, humans, models = people_and_models(judgments, "mention bias")
    key = list(wide.index.names)
    flags = judgments.assign(mention=said).drop_duplicates(key).set_index(key)["mention"]
    mention = flags.reindex(wide.index).to_numpy(dtype=bool)
    drawn, rows = resample(wide.index, **how), []
    by_rater = np.stack([_mention(drawn, wide[one].to_numpy(), mention) for one in humans], axis=1)
    people = by_rater, wide[humans].notna().to_numpy()
    for rater in ["human", *models]:
        x = (wide[humans].mean(axis=1) if rater == "human" else wide[rater]).to_numpy()
        named, unnamed = ~np.isnan(x) & mention, ~np.isnan(x) & ~mention
        if not named.any() or not unnamed.any():
            raise UserError(
                f"{rater!r} needs ratings both of responses with a mention and of ones without"
            )
        delta = _mention(drawn, x, mention)
        who = {"rater": rater, "n": (named | unnamed).sum(), "n_mention": named.sum()}
        if rater == "human":
            human = delta
            rows.append({**who, "metric": "mention bias", **drawn.tested(delta, *people)})
            continue
        # A model stands for itself; the people it is held against are drawn from many.
        rows.append({**who, "metric": "mention bias", **drawn.tested(delta)})
        rows.append({**who, "metric": "excess", **drawn.tested(delta - human, *people)})
    same = {"unit": "rating", "method": _method(drawn, humans)}
    return corrected(result(rows, ["rater"], **same), ["metric"])


def _mention(drawn: Resampling, x: np.ndarray, mention: np.ndarray) -> np.ndarray:
    """Mean of ``x`` with − without mention; of a rater who rated none of either it is 0, as nothing
    is known.
    """
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
    `results`, with the keys ``rater rater_kind``: "mean rating", and the shares "better" (above 3),
    "no better" (of judgments at most 3) and "no better, by response" (of responses whose mean is at
    most 3). People are random, as in `judge_inflation`, but in the last: that is of the mean of
    these people.
    """
    require(judgments, "label", "rater_kind", *item)
    judgments = individuals(judgments).assign(label=numbers)
    # Of a category "human" might be none.
    people = judgments["rater"].astype(object).where(judgments["rater_kind"] == "model", "human")
    table = judgments.assign(rater=people, person=judgments["rater"])
    who = ["rater", "rater_kind"]
    # By response apart, as papers give both: a share of judgments is none of responses (R9).
    responses = table.groupby([*who, *item], sort=False)["label"].mean().reset_index()
    metrics = {
        "mean rating": table.assign(value=table["label"]),
        "better": table.assign(value=(table["label"] > 3).astype(int)),
        "no better": table.assign(value=(table["label"] <= 3).astype(int)),
        "no better, by response": responses.assign(value=(responses["label"] <= 3).astype(int)),
    }
    tables = []
    for name, rows in metrics.items():
        raters, rows = "person" if "person" in rows else None, rows.assign(metric=name)
        by = [*who, "metric"]
        tables.append(means(rows, "value", by, raters=raters, unit="rating", **how))
    return pd.concat(tables, ignore_index=True)


def rating_effects(
    judgments: pd.DataFrame, covariates: list[str], **how: Unpack[How]
) -> pd.DataFrame:
    """What ratings go up with, and shouldn't: least-squares slopes, each at equal other covariates.

    For length (R17), position (R11) and mention together. A longer response may well be better; so
    a model's slopes are those of its rating *less the people's mean rating* of the same unit.

    Parameters
    ----------
    judgments : numeric labels and the numeric ``covariates`` of each judgment.

    Returns
    -------
    `results`, for each ``rater``: "human" (all human ratings) and each model less people.
    ``metric`` is the covariate; ``estimate`` is in points of the rating per unit of it. One that
    does not vary has no row.
    """
    require(judgments, "label", "rater_kind")
    judgments = judgments.assign(**covariates_of(judgments, covariates))
    judgments = individuals(judgments).assign(label=numbers)
    key = [column for column in UNIT if column in judgments]
    models = judgments["rater_kind"] == "model"
    if models.all():
        raise UserError(
            "rating_effects needs labels of people (rater_kind 'human'), which those of models "
            "are held against"
        )
    people = judgments[~models].groupby(key)["label"].mean().rename("people")
    who = judgments["rater"].astype(object).where(models, "human")
    table = judgments.assign(rater=who).join(people, on=key)
    table["label"] = table["label"] - table["people"].where(models, 0)
    rows = []
    for rater, part in table.dropna(subset="label").groupby("rater", sort=False):
        used = [covariate for covariate in covariates if np.ptp(part[covariate]) > 0]
        x = np.column_stack([np.ones(len(part)), part[used]]).astype(float)
        drawn, k = resample(part[key], **how), x.shape[1]
        # X'X and X'y of every resample are sums over units, so no fit is made again from rows.
        products = np.einsum("ij,ik->ijk", x, np.column_stack([x, part["label"]]))
        sums = drawn.totals(products.reshape(len(part), -1)).reshape(-1, k, k + 1)
        # Pseudo-inverse, as a resample may hold one value of a covariate only.
        slopes = (np.linalg.pinv(sums[:, :, :k]) @ sums[:, :, k:])[:, :, 0]
        who = {"rater": rater, "n": len(part)}
        for covariate, values in zip(used, slopes.T[1:], strict=True):
            found = drawn.tested(values, step=1 / np.ptp(part[covariate]))
            rows.append(who | {"metric": covariate, **found})
    same = {"unit": "rating per unit", "method": f"least squares, {drawn.method}"}
    return corrected(result(rows, ["rater"], **same), ["metric"])
