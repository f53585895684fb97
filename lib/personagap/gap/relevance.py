"""Metrics of yes/no judges against the human majority, with baselines and paired comparisons."""

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import pandas as pd

from personagap.errors import UserError
from personagap.gap.resampling import How, Resampling, resample
from personagap.gap.tables import binary, columns_of, kinds, units
from personagap.results import result
from personagap.schema import MAJORITY

METRICS = [
    "prevalence", "yes_rate", "precision", "recall", "f1", "accuracy", "kappa", "auprc",
    "over_selection",
]  # fmt: skip
LOWEST = np.array([-1.0 if name == "kappa" else 0.0 for name in METRICS])
HIGHEST = np.array([np.inf if name == "over_selection" else 1.0 for name in METRICS])
#: Units other than "share": κ, F1 and AUPRC have none.
UNITS = {"over_selection": "ratio", **dict.fromkeys(("f1", "kappa", "auprc"), "")}
#: Whether a metric is a share, or as F1 lies between two.
SHARES = np.array([name not in ("kappa", "auprc", "over_selection") for name in METRICS])


def confusion_metrics(
    tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute all ``METRICS`` from counts (or expected counts) of the four outcomes, elementwise.

    Precision is 0 for a judge that never says yes, and κ is 0 for one that always gives the same
    label. AUPRC is scikit-learn's average precision of a yes/no score: P·R + (1 − R)·prevalence.
    Over-selection is the judge's yes rate divided by the gold's. Without a positive in the gold,
    recall and the metrics derived from it are NaN.

    Examples
    --------
    >>> metrics = confusion_metrics(tp=2, fp=2, fn=1, tn=5)
    >>> names = ("precision", "recall", "f1", "kappa", "over_selection")
    >>> {name: round(float(metrics[name]), 3) for name in names}
    {'precision': 0.5, 'recall': 0.667, 'f1': 0.571, 'kappa': 0.348, 'over_selection': 1.333}
    """
    # Vectorized over resamples, where scikit-learn takes one set of labels at a time.
    tp, fp, fn, tn = (np.asarray(count, dtype=float) for count in (tp, fp, fn, tn))
    n, positive, yes = tp + fp + fn + tn, tp + fn, tp + fp

    def ratio(a: np.ndarray, b: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
        return np.divide(a, b, out=np.full(np.shape(b), otherwise), where=b > 0)

    prevalence, yes_rate, accuracy = ratio(positive, n), ratio(yes, n), ratio(tp + tn, n)
    precision, recall = ratio(tp, yes, 0.0), ratio(tp, positive)
    chance = prevalence * yes_rate + (1 - prevalence) * (1 - yes_rate)
    return {
        "prevalence": prevalence,
        "yes_rate": yes_rate,
        "precision": precision,
        "recall": recall,
        "f1": np.where(positive > 0, ratio(2 * tp, positive + yes), np.nan),
        "accuracy": accuracy,
        "kappa": np.where(n > 0, ratio(accuracy - chance, 1 - chance, 0.0), np.nan),
        "auprc": precision * recall + (1 - recall) * prevalence,
        "over_selection": ratio(yes_rate, prevalence),
    }


def _metric_values(x: np.ndarray, y: np.ndarray, boot: Resampling) -> np.ndarray:
    """``METRICS`` of labels ``x`` (NaN: not judged) against gold ``y``: (resamples, n_metrics)."""
    return _metric_matrix(observed_metrics(x, y, boot, ~np.isnan(x)))


def observed_metrics(
    x: np.ndarray, y: np.ndarray, boot: Resampling, where: np.ndarray
) -> dict[str, np.ndarray]:
    """Resampled `confusion_metrics` of 0/1 labels ``x`` against gold ``y`` on units ``where``."""
    outcomes = np.stack([x * y, x * (1 - y), (1 - x) * y, (1 - x) * (1 - y)], axis=1)
    return confusion_metrics(*boot.totals(outcomes, where).T)


def _units_of_metrics(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Units (n_units, n_metrics) that each of ``METRICS`` of labels ``x`` is based on: those in the
    denominator of a share, e.g. for precision those called yes.
    """
    judged = ~np.isnan(x)
    base = {"precision": x == 1, "recall": judged & (y == 1), "f1": judged & ((x == 1) | (y == 1))}
    return np.stack([base.get(name, judged) for name in METRICS], axis=1)


def _metric_matrix(metrics: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([metrics[name] for name in METRICS], axis=1)


def gold_units(wide: pd.DataFrame, gold: str) -> pd.DataFrame:
    """Return the units judged by the gold rater; `UserError` if it never says yes."""
    binary(wide, [gold])
    judged = wide[wide[gold].notna()]
    if not judged[gold].any():
        remedy = "choose another gold"
        raise UserError(f"{gold!r} never says yes, so recall, F1 and AUPRC are undefined: {remedy}")
    return judged


def shared_units(judgments: pd.DataFrame, a: str, b: str, gold: str) -> pd.DataFrame:
    """Return the units judged by ``gold``, ``a`` and ``b``, with "select_all" as another rater."""
    # Always available (R5): at a prevalence of 18 % yes to everything beats a published baseline.
    wide = gold_units(units(judgments), gold).assign(select_all=1.0)
    wide = wide[columns_of(wide, [a, b]).notna().all(axis=1)]
    if wide.empty:
        raise UserError(f"{a!r}, {b!r} and {gold!r} share no item")
    return wide


def relevance_metrics(
    judgments: pd.DataFrame, gold: str = MAJORITY, **how: Unpack[How]
) -> pd.DataFrame:
    """Classification metrics of each rater against the gold labels, with two uninformed baselines.

    Parameters
    ----------
    judgments : long table ``user prompt item rater rater_kind label``, labels 0/1.
    gold : rater taken as the truth. A human who is part of a majority partly agrees with themselves
        (R8).
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    `results` table with the keys ``rater rater_kind``: `METRICS` of each rater and of the baselines
    "select_all" (always yes, R5) and "prevalence" (yes at random at the base rate; expected
    values). A share of 0 or 1 has Wilson's interval at the number of its clusters, unless it is 0
    or 1 by the definition of a baseline.

    Examples
    --------
    >>> labels = {"human_majority": [1, 0, 0, 1, 0, 0], "judge": [1, 1, 0, 1, 1, 0]}
    >>> judgments = pd.DataFrame([
    ...     {"prompt": i // 2, "item": i, "rater": rater, "rater_kind": "model", "label": label}
    ...     for rater, column in labels.items() for i, label in enumerate(column)])
    >>> from personagap.results import wide
    >>> wide(relevance_metrics(judgments, cluster="prompt"), ["f1"]).round(3)
            rater rater_kind  n     f1  f1_low  f1_high
    0       judge      model  6  0.667     0.0    1.000
    1  select_all   baseline  6  0.500     0.0    1.000
    2  prevalence   baseline  6  0.333     0.0    0.968
    """
    wide = gold_units(units(judgments), gold)
    raters = [rater for rater in wide.columns if rater != gold]
    binary(wide, raters)
    boot = resample(wide.index, **how)
    y, kind_of = wide[gold].to_numpy(), kinds(judgments)
    rows: list[tuple] = []
    for rater in raters:
        n = wide[rater].notna().sum()
        if n == 0:
            raise UserError(f"rater {rater!r} shares no item with {gold!r}: leave the rater out")
        x = wide[rater].to_numpy()
        limits = boot.row(
            _metric_values(x, y, boot), LOWEST, HIGHEST, _units_of_metrics(x, y), SHARES
        )
        rows.append((rater, kind_of[rater], n, limits))
    # The expected outcomes of the baselines follow from the base rate p of each resample. Drawing
    # labels would add noise.
    p, q = boot.ratio(y), boot.ratio(1 - y)
    select_all, chance = (p, q, 0 * p, 0 * q), (p * p, p * q, q * p, q * q)
    for name, outcomes, *constant in (
        ("select_all", select_all, "yes_rate", "recall", "kappa"),
        ("prevalence", chance, "kappa", "over_selection"),
    ):
        values = _metric_matrix(confusion_metrics(*outcomes))
        by_definition = np.isin(METRICS, constant)
        limits = boot.row(values, LOWEST, HIGHEST, share=SHARES, by_definition=by_definition)
        rows.append((name, "baseline", len(y), limits))
    tables = []
    for rater, kind, n, limits in rows:
        of_rater = {"rater": rater, "rater_kind": kind, "n": n}
        tables.append(pd.DataFrame(of_rater | _metric_columns(limits)))
    return result(pd.concat(tables), ["rater", "rater_kind"], method=boot.method)


def _metric_columns(columns: dict[str, np.ndarray], metrics: Sequence[str] = METRICS) -> dict:
    return {"metric": metrics, "unit": [UNITS.get(name, "share") for name in metrics], **columns}


def paired_difference(
    judgments: pd.DataFrame, a: str, b: str, gold: str = MAJORITY, **how: Unpack[How]
) -> pd.DataFrame:
    """Paired difference in metrics of the judges ``a`` and ``b``, on the same items and resamples.

    ``b`` may be "select_all", the baseline that always says yes.

    Returns
    -------
    `results` table, one row per metric, with the key ``contrast`` and ``value_a value_b``;
    ``estimate`` is a − b. The p-value agrees with the interval: it is below 1 − ``level`` where the
    interval excludes 0. Tests are corrected when several pairs are compared (`results.add_holm`).

    Examples
    --------
    >>> from personagap.gap import simulate_relevance
    >>> table = paired_difference(simulate_relevance(stricter=1), "a", "b", n_bootstrap=200)
    >>> table[["metric", "estimate", "ci_low", "ci_high"]].round(2)
               metric  estimate  ci_low  ci_high
    0        yes_rate      0.25    0.18     0.32
    1       precision     -0.13   -0.20    -0.05
    2          recall      0.25    0.11     0.39
    3              f1     -0.05   -0.13     0.04
    4        accuracy     -0.16   -0.22    -0.10
    5           kappa     -0.12   -0.22    -0.01
    6           auprc     -0.04   -0.11     0.02
    7  over_selection      1.34    0.95     1.72
    """
    wide = shared_units(judgments, a, b, gold)
    boot, y = resample(wide.index, **how), wide[gold].to_numpy()
    labels = binary(wide, [a, b]).to_numpy().T
    values_a, values_b = (_metric_values(x, y, boot) for x in labels)
    table = difference_table(f"{a} − {b}", METRICS, values_a, values_b, boot, len(wide))
    # Prevalence is that of the gold, the same for both.
    return table[table["metric"] != "prevalence"].reset_index(drop=True)


def difference_table(
    contrast: str, metrics: Sequence[str], a: np.ndarray, b: np.ndarray, boot: Resampling, n: int
) -> pd.DataFrame:
    """`results` table of the differences a − b (resamples, n_metrics) of metrics on ``n`` units."""
    table = pd.DataFrame(_metric_columns(boot.tested(a - b), metrics))
    table = table.assign(value_a=a[0], value_b=b[0])
    return result(table, ["contrast"], contrast=contrast, n=n, method=boot.method)
