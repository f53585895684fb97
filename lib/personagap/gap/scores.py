"""Judges that give scores: threshold-free quality, the best threshold, calibration."""

from collections.abc import Callable
from typing import Unpack

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.model_selection import GroupKFold

from personagap.errors import UserError, at_least
from personagap.gap.relevance import difference_table, gold_units, shared_units
from personagap.gap.resampling import How, Resampling, resample
from personagap.gap.tables import require, units
from personagap.results import result

FOLDS = 5
#: Cells × resamples that are unfolded to units at a time, to bound memory.
CHUNK = 20_000


def _average_precision(y: np.ndarray, score: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Average precision Σ (R_t − R_{t−1}) P_t by row of weights (rows, n); NaN without a positive.

    scikit-learn's takes one set of weights at a time.
    """
    order = np.argsort(-score, kind="stable")
    # Items of one score have no order among themselves: all up to its last are said yes to.
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    # Recall moves at positives alone, and only there precision counts.
    right = np.flatnonzero(y[order])
    until = last[np.searchsorted(last, right)]
    ends = np.searchsorted(right, until, side="right") - 1

    def average(weights: np.ndarray) -> np.ndarray:
        weight = weights[:, order]
        positive, yes = weight[:, right], np.cumsum(weight, axis=1)[:, until]
        hits = np.cumsum(positive, axis=1)[:, ends]
        precision = np.divide(hits, yes, out=np.zeros_like(yes), where=yes > 0)
        area, total = (positive * precision).sum(axis=1), positive.sum(axis=1)
        return np.divide(area, total, out=np.full(len(area), np.nan), where=total > 0)

    return average


def _resampled_precision(y: np.ndarray, score: np.ndarray, drawn: Resampling) -> np.ndarray:
    """Average precision in the sample and each resample."""
    average = _average_precision(y, score)
    chunks = np.array_split(drawn.weights, 1 + drawn.weights.size // CHUNK)
    return np.concatenate([average(weights[:, drawn.cell]) for weights in chunks])


def _best(y: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """The largest F1 of any threshold, and the highest threshold that reaches it."""
    precision, recall, thresholds = precision_recall_curve(y, score)
    # Rounded, or the last bit would choose among thresholds that are equally good; from the highest
    # down, as `argmax` takes the first, and without the last point of the curve, recall 0, which
    # has no threshold.
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-30))[-2::-1].round(12)
    return f1.max(), thresholds[::-1][f1.argmax()]


def _held_out(y: np.ndarray, score: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Yes or no by the threshold that is best on the other prompts."""
    # Folds of whole prompts (R7): items of one prompt go together, and would give it away.
    label = np.zeros(len(y))
    for train, test in GroupKFold(min(FOLDS, len(np.unique(groups)))).split(score, y, groups):
        label[test] = score[test] >= _best(y[train], score[train])[1]
    return label


def scored_metrics(
    judgments: pd.DataFrame, gold: str = "human_majority", **how: Unpack[How]
) -> pd.DataFrame:
    """Judges that give a score (higher: more relevant), without a threshold or with the best one.

    Returns
    -------
    `results`, with the key ``rater``; metrics "prevalence", "auprc", "auprc_per_user" (the mean
    over prompt × user lists that hold a relevant attribute), "best_f1", "best_threshold" and "f1".
    The best F1 is optimistic, for its threshold is chosen on the same items (its chance level is
    that of select-all); "f1" chooses it on other prompts (cross-fitted).

    Examples
    --------
    >>> from personagap.gap import simulate_relevance
    >>> scored = simulate_relevance().query("rater != 'b'")
    >>> scored_metrics(scored, n_bootstrap=200).iloc[:2, :5].round(2)
      rater      metric  estimate  ci_low  ci_high
    0     a  prevalence      0.19     NaN      NaN
    1     a       auprc      0.29    0.22     0.35
    """
    require(judgments, "prompt", "user")
    wide = gold_units(units(judgments), gold)
    if wide.isna().any(axis=None):
        remedy = "leave out incomplete raters"
        raise UserError(f"scored_metrics needs a score of every rater for every item: {remedy}")
    drawn = resample(wide.index, **how)
    y = wide[gold].to_numpy()
    prompt = wide.index.get_level_values("prompt").to_numpy()
    # Average precision has no value for a list without a relevant item.
    lists = [rows for _, rows in wide.groupby(["prompt", "user"]) if rows[gold].any()]
    rows = []
    for rater in wide.columns.drop(gold):
        score = wide[rater].to_numpy()
        auprc, chosen = _resampled_precision(y, score, drawn), _held_out(y, score, prompt)
        own = [average_precision_score(each[gold], each[rater]) for each in lists]
        best_f1, best_threshold = _best(y, score)
        held_out = drawn.ratio(2 * chosen * y, chosen + y)
        # No interval of the best F1 and its threshold: chosen on these very items, they would have
        # one that is too short and in the wrong place.
        found = {
            "prevalence": {"estimate": y.mean()},
            "auprc": drawn.row(auprc, 0, 1),
            "auprc_per_user": {"estimate": np.mean(own)},
            "best_f1": {"estimate": best_f1},
            "best_threshold": {"estimate": best_threshold},
            "f1": drawn.row(held_out, 0, 1, drawn.clusters(chosen + y > 0)),
        }
        rows += [{"rater": rater, "metric": name, **found[name]} for name in found]
    return result(rows, ["rater"], n=len(wide), method=drawn.method)


def scored_difference(
    judgments: pd.DataFrame, a: str, b: str, gold: str = "human_majority", **how: Unpack[How]
) -> pd.DataFrame:
    """Do the scores of ``a`` rank better than those of ``b``? Both on the same items of the same
    resamples.

    A judge that says yes or no ranks with ties, as average precision allows; ``b`` may be
    "select_all".

    Returns
    -------
    One row, metric "auprc", like those of ``paired_difference``.
    """
    wide = shared_units(judgments, a, b, gold)
    drawn, y = resample(wide.index, **how), wide[gold].to_numpy()
    both = wide[[a, b]].to_numpy().T
    of_a, of_b = (_resampled_precision(y, scores, drawn)[:, None] for scores in both)
    return difference_table(f"{a} − {b}", ["auprc"], of_a, of_b, drawn, len(wide))


def reliability_curve(
    judgments: pd.DataFrame, gold: str = "human_majority", *, n_bins: int = 10, **how: Unpack[How]
) -> pd.DataFrame:
    """How often the gold says yes among items whose scores (in [0, 1]) are alike.

    Returns
    -------
    `results`, with the keys ``rater bin``: bins of equal count (fewer where scores tie), metric
    "observed", the gold's yes rate, and the mean ``score``.

    Examples
    --------
    >>> from personagap.gap import simulate_relevance
    >>> scored = simulate_relevance().query("rater != 'b'")
    >>> curve = reliability_curve(scored, n_bins=2, n_bootstrap=200)
    >>> curve[["rater", "bin", "estimate", "n", "score"]].round(2)
      rater  bin  estimate     n  score
    0     a    0      0.19  1008   0.51
    """
    at_least(1, n_bins=n_bins)
    wide = gold_units(units(judgments), gold)
    drawn = resample(wide.index, **how)
    y = wide[gold].to_numpy()
    rows = []
    for rater in wide.columns.drop(gold):
        score = wide[rater].to_numpy()
        if not ((score >= 0) & (score <= 1)).all():
            reason = "a reliability curve needs a score in [0, 1] for every item"
            raise UserError(f"rater {rater!r}: {reason}")
        # Of equal count, for each then rests on as many items; of equal width most would be empty
        # for judges that are sure.
        bins = pd.qcut(score, n_bins, labels=False, duplicates="drop")
        for number in np.unique(bins):
            here = bins == number
            observed = drawn.ratio(y, where=here)
            row = {"rater": rater, "bin": number, "n": here.sum(), "score": score[here].mean()}
            rows.append({**row, **drawn.row(observed, 0, 1, drawn.clusters(here))})
    return result(rows, ["rater", "bin"], metric="observed", unit="share", method=drawn.method)
