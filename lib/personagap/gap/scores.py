"""Metrics of judges that give scores: average precision, best threshold, calibration."""

from collections.abc import Callable
from typing import Unpack

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.model_selection import GroupKFold

from personagap.errors import UserError, require_at_least
from personagap.gap.relevance import difference_table, gold_units, shared_units
from personagap.gap.resampling import How, Resampling, resample
from personagap.gap.tables import require_columns, units
from personagap.results import result
from personagap.schema import MAJORITY

N_FOLDS = 5
#: Cells × resamples that are expanded to units at a time, to bound memory.
CHUNK_SIZE = 20_000


def _average_precision(y: np.ndarray, score: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that computes average precision for each row of weights (rows, n).

    Average precision is Σ (R_t − R_{t−1}) P_t, NaN without a positive. Unlike scikit-learn's
    function, it takes many sets of weights at once.
    """
    order = np.argsort(-score, kind="stable")
    # Items with the same score are selected together: precision is that at the last of them.
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    # Recall changes at positives only, so precision is needed there only.
    positives = np.flatnonzero(y[order])
    last_tied = last[np.searchsorted(last, positives)]
    ends = np.searchsorted(positives, last_tied, side="right") - 1

    def average_precision(weights: np.ndarray) -> np.ndarray:
        weight = weights[:, order]
        positive, selected = weight[:, positives], np.cumsum(weight, axis=1)[:, last_tied]
        hits = np.cumsum(positive, axis=1)[:, ends]
        precision = np.divide(hits, selected, out=np.zeros_like(selected), where=selected > 0)
        area, total = (positive * precision).sum(axis=1), positive.sum(axis=1)
        return np.divide(area, total, out=np.full(len(area), np.nan), where=total > 0)

    return average_precision


def _resampled_auprc(y: np.ndarray, score: np.ndarray, boot: Resampling) -> np.ndarray:
    """Average precision (resamples,) in the sample and each resample."""
    average_precision = _average_precision(y, score)
    chunks = np.array_split(boot.weights, 1 + boot.weights.size // CHUNK_SIZE)
    return np.concatenate([average_precision(weights[:, boot.cell]) for weights in chunks])


def _best_threshold(y: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Largest F1 of any threshold, and the highest threshold that reaches it."""
    precision, recall, thresholds = precision_recall_curve(y, score)
    # Rounded, so that floating-point error does not choose among equally good thresholds. In
    # descending order of thresholds, as `argmax` takes the first, and without the last point of the
    # curve, at recall 0, which has no threshold.
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-30))[-2::-1].round(12)
    return f1.max(), thresholds[::-1][f1.argmax()]


def _cross_fitted_labels(y: np.ndarray, score: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Labels 0/1 by the threshold that is best on the prompts of the other folds."""
    # Folds of whole prompts (R7): correlated items of a prompt in both parts would be a leak.
    label = np.zeros(len(y))
    for train, test in GroupKFold(min(N_FOLDS, len(np.unique(groups)))).split(score, y, groups):
        label[test] = score[test] >= _best_threshold(y[train], score[train])[1]
    return label


def scored_metrics(
    judgments: pd.DataFrame, gold: str = MAJORITY, **how: Unpack[How]
) -> pd.DataFrame:
    """Metrics of judges that give a score (higher: more relevant).

    Parameters
    ----------
    judgments : long table ``user prompt item rater rater_kind label``, with a score of every rater
        for every item.
    gold : rater taken as the truth, with labels 0/1.
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    `results` table with the key ``rater`` and the metrics "prevalence", "auprc", "auprc_per_user"
    (the mean over prompt × user lists that contain a relevant attribute), "best_f1",
    "best_threshold" and "f1". The best F1 is optimistic, because its threshold is chosen on the
    same items (its chance level is that of select-all); for "f1" it is chosen on other prompts
    (cross-fitting).

    Examples
    --------
    >>> from personagap.gap import simulate_relevance
    >>> scored = simulate_relevance().query("rater != 'b'")
    >>> scored_metrics(scored, n_bootstrap=200).iloc[:2, :5].round(2)
      rater      metric  estimate  ci_low  ci_high
    0     a  prevalence      0.19     NaN      NaN
    1     a       auprc      0.29    0.22     0.35
    """
    require_columns(judgments, "prompt", "user")
    wide = gold_units(units(judgments), gold)
    if wide.isna().any(axis=None):
        remedy = "leave out incomplete raters"
        raise UserError(f"scored_metrics needs a score of every rater for every item: {remedy}")
    boot = resample(wide.index, **how)
    y = wide[gold].to_numpy()
    prompt = wide.index.get_level_values("prompt").to_numpy()
    # Average precision is undefined for a list without a relevant item.
    lists = [rows for _, rows in wide.groupby(["prompt", "user"]) if rows[gold].any()]
    rows = []
    for rater in wide.columns.drop(gold):
        score = wide[rater].to_numpy()
        auprc, predicted = _resampled_auprc(y, score, boot), _cross_fitted_labels(y, score, prompt)
        by_list = [average_precision_score(items[gold], items[rater]) for items in lists]
        best_f1, best_threshold = _best_threshold(y, score)
        held_out = boot.ratio(2 * predicted * y, predicted + y)
        # No interval of the best F1 and its threshold: as they are chosen on the same items, it
        # would be too short and biased.
        metrics = {
            "prevalence": {"estimate": y.mean()},
            "auprc": boot.row(auprc, 0, 1),
            "auprc_per_user": {"estimate": np.mean(by_list)},
            "best_f1": {"estimate": best_f1},
            "best_threshold": {"estimate": best_threshold},
            "f1": boot.row(held_out, 0, 1, predicted + y > 0, share=True),
        }
        rows += [{"rater": rater, "metric": name, **metrics[name]} for name in metrics]
    return result(rows, ["rater"], n=len(wide), method=boot.method)


def scored_difference(
    judgments: pd.DataFrame, a: str, b: str, gold: str = MAJORITY, **how: Unpack[How]
) -> pd.DataFrame:
    """Paired difference in average precision of the judges ``a`` and ``b``, on shared resamples.

    Labels 0/1 are scores with ties, which average precision allows; ``b`` may be "select_all".

    Returns
    -------
    `results` table with one row like those of `paired_difference`, metric "auprc".
    """
    wide = shared_units(judgments, a, b, gold)
    boot, y = resample(wide.index, **how), wide[gold].to_numpy()
    scores = wide[[a, b]].to_numpy().T
    auprc_a, auprc_b = (_resampled_auprc(y, score, boot)[:, None] for score in scores)
    return difference_table(f"{a} − {b}", ["auprc"], auprc_a, auprc_b, boot, len(wide))


def reliability_curve(
    judgments: pd.DataFrame, gold: str = MAJORITY, *, n_bins: int = 10, **how: Unpack[How]
) -> pd.DataFrame:
    """Reliability curve: the gold's yes rate among items with similar scores in [0, 1].

    Parameters
    ----------
    judgments : long table ``user prompt item rater rater_kind label``.
    gold : rater taken as the truth, with labels 0/1.
    n_bins : number of bins with equal counts of items; fewer result where scores tie.
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    `results` table with the keys ``rater bin``, the metric "observed" (the gold's yes rate) and the
    mean ``score``.

    Examples
    --------
    >>> from personagap.gap import simulate_relevance
    >>> scored = simulate_relevance().query("rater != 'b'")
    >>> curve = reliability_curve(scored, n_bins=2, n_bootstrap=200)
    >>> curve[["rater", "bin", "estimate", "n", "score"]].round(2)
      rater  bin  estimate     n  score
    0     a    0      0.19  1008   0.51
    """
    require_at_least(1, n_bins=n_bins)
    wide = gold_units(units(judgments), gold)
    boot = resample(wide.index, **how)
    y = wide[gold].to_numpy()
    rows = []
    for rater in wide.columns.drop(gold):
        score = wide[rater].to_numpy()
        if not ((score >= 0) & (score <= 1)).all():
            reason = "a reliability curve needs a score in [0, 1] for every item"
            raise UserError(f"rater {rater!r}: {reason}")
        # Equal counts give estimates of similar precision; with equal widths most bins would be
        # empty for confident judges.
        # Equal scores, which have no quantiles to part them, are one bin.
        bins = np.nan_to_num(pd.qcut(score, n_bins, labels=False, duplicates="drop")).astype(int)
        for number in np.unique(bins):
            in_bin = bins == number
            observed = boot.ratio(y, where=in_bin)
            row = {"rater": rater, "bin": number, "n": in_bin.sum(), "score": score[in_bin].mean()}
            rows.append({**row, **boot.row(observed, 0, 1, in_bin, share=True)})
    return result(rows, ["rater", "bin"], metric="observed", unit="share", method=boot.method)
