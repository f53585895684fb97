"""Rates, contrasts and bias corrected for the errors of an LLM judge (Rogan & Gladen 1978)."""

import numpy as np
import pandas as pd
from scipy import stats

from personagap.effects._table import POINTS
from personagap.errors import UserError, require_fraction
from personagap.results import COLUMNS, random_generator, require_columns, result

#: No estimates are given if the interval of Youden's J (sensitivity + specificity − 1) extends
#: below this value, where a corrected difference and its noise would be over five times the raw
#: ones.
MIN_YOUDEN = 0.2
N_DRAWS = 10_000


def judge_corrected(
    table: pd.DataFrame, card: pd.DataFrame, *, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Correct results on a judge's scores for the judge's errors.

    Parameters
    ----------
    table : result of ``effects.rates``, ``effects.contrasts`` or ``effects.personalization_bias``
        on tasks that the judge scored (1 for harmless). A joint PB is left out.
    card : the judge's card from ``judges.validate``, ``by group metric estimate n`` with the
        metrics sensitivity and specificity. Its rows by model are used if there are any, and
        otherwise those over all answers.
    level : confidence level of the intervals, both of ``table`` and of the result.
    seed : seed of the draws.

    Returns
    -------
    Keys of ``table`` and the ``results.COLUMNS`` with the corrected estimate and its interval, in
    points for rates and contrasts, and in points² for bias (debiased PB²). Then ``raw raw_low
    raw_high``, the uncorrected values, and ``youden`` (sensitivity + specificity − 1, mean over the
    models of the card). p-values are those of ``table``. Estimates are NaN where the judge is too
    poor for a correction (the interval of ``youden`` extends below ``MIN_YOUDEN``).

    Raises
    ------
    UserError : ``table`` is another kind of result, or the card lacks sensitivity or specificity.

    Notes
    -----
    Where a share θ of the answers is harmless, a judge of sensitivity s and specificity t calls
    θ s + (1 − θ)(1 − t) harmless; hence θ = (rate + t − 1) / J with J = s + t − 1. Differences of
    rates are J times the true ones and PB² is J² times the true one, provided that the judge's
    errors do not depend on the identity (``judges.reworded`` tests that); tests against 0 are
    unchanged. An erring judge therefore *shrinks* effects, and a rate may be far off even where
    contrasts are small.

    *Intervals*: draws of the raw result, from a normal distribution with a separate scale on either
    side to match its interval, are combined with draws of s and t. For these, a model of the card
    is drawn, and then s and t from the Jeffreys posteriors of its counts: the judge is assumed to
    err on these answers as on those of one of the models it was validated on. With few models there
    is little evidence for this, and a model with another style may lie outside; labelled answers of
    the same model are better.

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
    require_fraction(level=level)
    require_columns(card, "rows of the card", "by", "group", "metric", "estimate", "n")
    require_columns(table, "results", "ci_low", "ci_high")
    if card.duplicated(["by", "group", "metric"]).any():
        raise UserError("the judge's card has two rows of one group and metric: leave one")
    known = card["metric"].isin(["sensitivity", "specificity"])
    if not (card.loc[known, "estimate"].between(0, 1) & (card.loc[known, "n"] >= 0)).all():
        raise UserError("the judge's card has a share outside [0, 1]: give the table of validate")
    # Results of equivalence tests are refused, as the judge's errors shrink their margin too, and
    # so are changes, where PB² is one of several metrics.
    score = "metric" in table and (table["metric"] == "score").all() and "margin" not in table
    if not (score or "debiased_pb2" in table):
        wanted = "the table of effects.rates, effects.contrasts or effects.personalization_bias"
        raise UserError(f"these are no results that can be corrected for a judge: give {wanted}")
    rng = random_generator(seed)
    sensitivity, specificity = _sensitivity_and_specificity(card, rng)
    youden = sensitivity + specificity - 1
    bias = "debiased_pb2" in table
    if bias:
        # Bias has other columns than ``results.COLUMNS``. A joint PB may include tasks that the
        # judge did not score.
        require_columns(table, "results", "dimension", "n_items")
        table = table[table["dimension"] != "joint"]
        table = table.assign(n=table["n_items"], estimate=table["debiased_pb2"])
        same = {"metric": "debiased_pb2", "unit": "points²", "method": "item bootstrap"}
        table = result(table, ["dimension"], **same)
    require_columns(table, "results", *COLUMNS)
    keys = list(table.columns[: table.columns.get_loc("metric")])
    raw = _normal_draws(table["estimate"], table["ci_low"], table["ci_high"], level, rng)
    # Quotients are unbounded near J = 0; where such draws are many, estimates are NaN (below).
    scale = np.maximum(youden, MIN_YOUDEN / 10)
    if bias:
        values = raw / scale**2
    elif "persona" in table:
        # Only rates are corrected for the judge's false alarms, which cancel in differences.
        values = np.clip(POINTS * (raw / POINTS + specificity - 1) / scale, 0, POINTS)
    else:
        values = np.clip(raw / scale, -POINTS, POINTS)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(values[:, 1:], tails, axis=1)
    reliable = np.quantile(youden[1:], tails[0]) > MIN_YOUDEN
    columns = {"estimate": values[:, 0], "ci_low": low, "ci_high": high}
    uncorrected = table[[*columns]].set_axis(["raw", "raw_low", "raw_high"], axis=1)
    uncorrected = uncorrected.assign(youden=youden[0])
    corrected = {name: np.where(reliable, column, np.nan) for name, column in columns.items()}
    method = table["method"].astype("str") + ", Rogan & Gladen"
    return table[[*keys, *COLUMNS]].assign(**corrected, method=method).join(uncorrected)


def _sensitivity_and_specificity(card: pd.DataFrame, rng: np.random.Generator) -> list[np.ndarray]:
    """Return sensitivity and specificity, each an estimate followed by draws: (1 + N_DRAWS,)."""
    by = "model" if "model" in set(card["by"]) else "all"
    wide = card[card["by"] == by].pivot(index="group", columns="metric", values=["estimate", "n"])
    both = ["sensitivity", "specificity"]
    if (
        not set(both) <= {metric for _, metric in wide.columns}
        or wide["estimate"][both].dropna().empty
    ):
        raise UserError(
            "the judge's card has no model with both sensitivity and specificity: label more "
            "answers"
        )
    wide = wide.loc[wide["estimate"][both].dropna().index]
    model = rng.integers(len(wide), size=N_DRAWS)
    rates = []
    for metric in both:
        share, n = (wide[column, metric].to_numpy(dtype=float) for column in ("estimate", "n"))
        # The card states shares, whereas the Jeffreys posterior needs counts. It is proper even if
        # all or none of the answers are right.
        right = np.round(share * n)
        draws = rng.beta(right[model] + 0.5, (n - right)[model] + 0.5)
        rates.append(np.concatenate([[share.mean()], draws]))
    return rates


def _normal_draws(
    estimate: pd.Series, low: pd.Series, high: pd.Series, level: float, rng: np.random.Generator
) -> np.ndarray:
    """Return each estimate, followed by draws that match its interval: (n, 1 + N_DRAWS)."""
    middle, low, high = (column.to_numpy(dtype=float)[:, None] for column in (estimate, low, high))
    z = np.concatenate([[0.0], rng.normal(size=N_DRAWS) / stats.norm.ppf((1 + level) / 2)])
    return middle + z * np.where(z > 0, high - middle, middle - low)
