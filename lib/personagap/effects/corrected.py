"""Rates, contrasts and bias of answers that an erring judge scored, corrected for its errors (Rogan
& Gladen 1978).
"""

import numpy as np
import pandas as pd
from scipy import stats

from personagap.effects._table import POINTS
from personagap.errors import UserError, shares
from personagap.results import COLUMNS, generator, require, result

#: Youden's J = sensitivity + specificity − 1 at which nothing is told any more if its interval
#: reaches below: a corrected difference would be over five times the raw one, and so would its
#: noise.
POOR = 0.2
N_DRAWS = 10_000


def judge_corrected(
    table: pd.DataFrame, card: pd.DataFrame, *, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Results of a judge's scores beside what they are without what the judge gets wrong.

    Parameters
    ----------
    table : of ``effects.rates``, ``effects.contrasts`` or ``effects.personalization_bias``, of
        tasks that the judge scored (a joint PB is left out). Scores are 1 for harmless.
    card : the judge's, ``by group metric estimate n`` with the metrics sensitivity and specificity,
        of ``judges.validate``: by model where it has models, or else over all.
    level : of the intervals, the table's too.
    seed : of the draws.

    Returns
    -------
    Keys of ``table`` and the ``results.COLUMNS`` with the corrected estimate and its interval, in
    points for rates and contrasts, for bias the debiased PB² in points²; then ``raw raw_low
    raw_high``, what was corrected, and ``youden`` (sensitivity + specificity − 1, mean over the
    models of the card). p-values are the raw ones. Estimates are NaN where the judge is too poor
    for a correction (the interval of ``youden`` reaches below ``POOR``).

    Notes
    -----
    A judge of sensitivity s and specificity t calls θ s + (1 − θ)(1 − t) harmless where θ is so;
    hence θ = (rate + t − 1) / J with J = s + t − 1. A difference of rates is J times the true one,
    and PB² is J² times, if the judge errs alike whoever asks (``judges.reworded`` tests that);
    tests against 0 are the raw ones. So an erring judge *shrinks* effects, and a rate may be far
    off even where contrasts are small.

    *Intervals*: draws of the raw result, from a normal distribution whose halves reach to the
    limits of its interval, meet draws of s and t. For these a model of the card is drawn, then s
    and t from Jeffreys' posteriors of its counts: the judge errs on these answers as on those of
    some model it was measured on. With few models that is little to go by, and a model of a new
    style may lie outside; labelled answers of the very model are better.

    Examples
    --------
    A judge that finds 90 of 100 harmless answers and 80 of 100 harmful ones sees 69 % where 70 %
    are harmless.

    >>> from personagap.effects import rates
    >>> scores = pd.DataFrame({"task": "dna", "persona": "none", "item": range(100), "valid": True,
    ...                        "truncated": False, "score": [1.0] * 69 + [0.0] * 31})
    >>> card = pd.DataFrame({"by": "all", "group": "all", "metric": ["sensitivity", "specificity"],
    ...                      "estimate": [0.9, 0.8], "n": 100})
    >>> judge_corrected(rates(scores), card)[["estimate", "raw", "youden"]].round(2)
       estimate   raw  youden
    0      70.0  69.0     0.7
    """
    shares(level=level)
    require(card, "rows of the card", "by", "group", "metric", "estimate", "n")
    require(table, "results", "ci_low", "ci_high")
    # Not of equivalence, whose margin the judge's errors shrink too, nor of changes, where PB² is
    # one quantity of several.
    score = "metric" in table and (table["metric"] == "score").all() and "margin" not in table
    if not (score or "debiased_pb2" in table):
        wanted = "the table of effects.rates, effects.contrasts or effects.personalization_bias"
        raise UserError(f"these are no results that can be corrected for a judge: give {wanted}")
    rng = generator(seed)
    sensitivity, specificity = _sensitivity_and_specificity(card, rng)
    youden = sensitivity + specificity - 1
    bias = "debiased_pb2" in table
    if bias:
        # Its columns are its own. A joint PB has tasks in it that no judge scored.
        table = table[table["dimension"] != "joint"]
        table = table.assign(n=table["n_items"], estimate=table["debiased_pb2"])
        same = {"metric": "debiased_pb2", "unit": "points²", "method": "item bootstrap"}
        table = result(table, ["dimension"], **same)
    keys = list(table.columns[: table.columns.get_loc("metric")])
    raw = _drawn(table["estimate"], table["ci_low"], table["ci_high"], level, rng)
    # Draws near J = 0 have no bound; where they are many, nothing is told (below).
    scale = np.maximum(youden, POOR / 10)
    if bias:
        values = raw / scale**2
    elif "persona" in table:
        # Of rates alone the judge's false alarms are taken off: in differences they cancel.
        values = np.clip(POINTS * (raw / POINTS + specificity - 1) / scale, 0, POINTS)
    else:
        values = np.clip(raw / scale, -POINTS, POINTS)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(values[:, 1:], tails, axis=1)
    told = np.quantile(youden[1:], tails[0]) > POOR
    columns = {"estimate": values[:, 0], "ci_low": low, "ci_high": high}
    before = table[[*columns]].set_axis(["raw", "raw_low", "raw_high"], axis=1)
    before = before.assign(youden=youden[0])
    after = {name: np.where(told, each, np.nan) for name, each in columns.items()}
    method = table["method"] + ", Rogan & Gladen"
    return table[[*keys, *COLUMNS]].assign(**after, method=method).join(before)


def _sensitivity_and_specificity(card: pd.DataFrame, rng: np.random.Generator) -> list[np.ndarray]:
    """A judge's sensitivity and specificity: an estimate first, then draws of its uncertainty
    (1 + n_draws,).
    """
    by = "model" if "model" in set(card["by"]) else "all"
    wide = card[card["by"] == by].pivot(index="group", columns="metric", values=["estimate", "n"])
    both = ["sensitivity", "specificity"]
    if not set(both) <= set(wide["estimate"].columns) or wide["estimate"][both].dropna().empty:
        raise UserError(
            "the judge's card has no model with both sensitivity and specificity: label more "
            "answers"
        )
    wide = wide.loc[wide["estimate"][both].dropna().index]
    which = rng.integers(len(wide), size=N_DRAWS)
    parts = []
    for metric in both:
        share, n = (wide[column, metric].to_numpy(dtype=float) for column in ("estimate", "n"))
        # A card states shares; Jeffreys' posterior is of counts, and proper at 0 and at all of n.
        right = np.round(share * n)
        drawn = rng.beta(right[which] + 0.5, (n - right)[which] + 0.5)
        parts.append(np.concatenate([[share.mean()], drawn]))
    return parts


def _drawn(
    estimate: pd.Series, low: pd.Series, high: pd.Series, level: float, rng: np.random.Generator
) -> np.ndarray:
    """(n, 1 + n_draws): each estimate, then draws of it that have its interval."""
    middle, low, high = (column.to_numpy(dtype=float)[:, None] for column in (estimate, low, high))
    z = np.concatenate([[0.0], rng.normal(size=N_DRAWS) / stats.norm.ppf((1 + level) / 2)])
    return middle + z * np.where(z > 0, high - middle, middle - low)
