"""Agreement between raters: Cohen's κ by pairs and by groups, Fleiss' κ, Krippendorff's α."""

from itertools import combinations, product
from typing import Unpack

import numpy as np
import pandas as pd

from personagap.errors import UserError, one_of
from personagap.gap.resampling import How, Resampling, resample
from personagap.gap.tables import KINDS, MAJORITY, binary, individuals, kinds, units
from personagap.results import result

#: Labels of a scale from 0 to 100: of more, hardly a cell of a table of pairs holds a unit, nor
#: does it fit in memory.
MOST = 101


def _cost(labels: np.ndarray, scale: str) -> np.ndarray:
    """Disagreement of every pair of labels; on a scale it is the distance of their values, used by
    anyone or not.
    """
    distance = np.abs(np.subtract.outer(labels, labels)).astype(float)
    if scale == "nominal":
        return (distance > 0).astype(float)
    return distance if scale == "linear" else distance**2


def _kappa(tables: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """κ = 1 − observed / expected disagreement of (…, K, K) tables; NaN where no disagreement is
    expected.
    """
    # In counts, both sides times the squared total: a resample in which a pair shares no unit
    # then divides nothing by 0 but at the end.
    rows, columns, total = tables.sum(-1), tables.sum(-2), tables.sum((-1, -2))
    observed = (tables * cost).sum((-1, -2)) * total
    expected = np.einsum("...i,ij,...j->...", rows, cost, columns)
    unknown = np.full(np.shape(total), np.nan)
    return 1 - np.divide(observed, expected, out=unknown, where=expected > 0)


def categories(labels: int, what: str, other: str) -> None:
    """`UserError` for so many different labels that hardly two are the same."""
    if labels > MOST:
        remedy = f"it is for categories, so round them, or use {other}"
        raise UserError(f"{what} of {labels} different labels: {remedy}")


def _codes(wide: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the labels (n_units, n_raters), −1 where not judged; and the labels, sorted."""
    codes, labels = pd.factorize(wide.to_numpy().ravel(), sort=True)
    return codes.reshape(wide.shape), labels


def _resampled(
    judgments: pd.DataFrame, gold: str, weights: str | None, **how: Unpack[How]
) -> tuple[pd.DataFrame, np.ndarray, Resampling]:
    """One row per pair of raters, ``rater_a rater_b pair n agreement``, and κ in the sample and
    each resample.
    """
    wide = units(judgments)
    if wide.shape[1] < 2:
        raise UserError("agreement needs judgments of at least two raters, there is one")
    codes, labels = _codes(wide)
    categories(len(labels), "κ", "gap.reliability")
    one_of(["nominal", "linear", "quadratic"], "unknown weights", weights or "nominal")
    k, cost = len(labels), _cost(labels, weights or "nominal")
    drawn, rows, kappas = resample(wide.index, **how), [], []
    kind = kinds(judgments)
    # Else the majority would be one of the people it was made from (R8).
    one_of(kind | {MAJORITY: ""}, "no rater to be gold", gold)
    # A model taken for the majority of people would be reported as their agreement.
    if kind.get(gold) == "model":
        people = ", ".join(rater for rater, side in kind.items() if side == "human")
        remedy = f"choose from {people or 'none here'}"
        raise UserError(f"gold {gold!r} is a model, and the reference is people: {remedy}")
    # Its own kind, for it contains the humans (R8).
    kind |= {gold: "majority"}
    order = ["majority", *KINDS]
    for a, b in combinations(range(wide.shape[1]), 2):
        both = (codes[:, a] >= 0) & (codes[:, b] >= 0)
        # A unit counts in one cell of the K × K table, so that totals give the table of every
        # resample at once.
        onehot = np.eye(k * k)[np.where(both, codes[:, a] * k + codes[:, b], 0)]
        kappas.append(_kappa(drawn.totals(onehot, both).reshape(-1, k, k), cost))
        raters = wide.columns[[a, b]]
        pair = "–".join(sorted((kind[rater] for rater in raters), key=order.index))
        same = np.mean(codes[both, a] == codes[both, b]) if both.any() else np.nan
        rows.append((*raters, pair, both.sum(), same))
    table = pd.DataFrame(rows, columns=["rater_a", "rater_b", "pair", "n", "agreement"])
    return table, np.stack(kappas, axis=1), drawn


def agreement(
    judgments: pd.DataFrame, *, gold: str = MAJORITY, weights: str | None = None, **how: Unpack[How]
) -> pd.DataFrame:
    """Cohen's κ of every pair of raters on the items both judged, with cluster-bootstrap intervals.

    Parameters
    ----------
    judgments : long table ``user prompt item rater rater_kind label``.
    gold : the rater that is the majority of the human ones; pairs with it are "majority–…".
    weights : None, "linear" or "quadratic" in the distance of the labels (ordinal ones).
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    `results`, with the keys ``rater_a rater_b pair``, and the share of equal labels, ``agreement``.
    κ is undefined (NaN, with a ``note`` that says why) where a pair shares no item or both gave a
    single label.

    Examples
    --------
    The 50 grant proposals of two readers of Wikipedia's "Cohen's kappa": κ = 0.4.

    >>> pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    >>> judgments = pd.DataFrame([
    ...     {"prompt": i % 5, "item": i, "rater": rater, "rater_kind": "human", "label": label}
    ...     for i, pair in enumerate(pairs) for rater, label in zip("AB", pair)])
    >>> found = agreement(judgments, cluster="prompt")
    >>> found[["rater_a", "rater_b", "estimate", "n", "agreement"]].round(3)
      rater_a rater_b  estimate   n  agreement
    0       A       B       0.4  50        0.7
    """
    pairs, kappas, drawn = _resampled(judgments, gold, weights, **how)
    constant = np.where(np.isnan(kappas[0]), "both gave one and the same label throughout", "")
    note = np.where(pairs["n"] == 0, "no item judged by both", constant)
    found = pairs.assign(**drawn.row(kappas, -1, 1), note=note)
    return result(found, ["rater_a", "rater_b", "pair"], metric="kappa", method=drawn.method)


def mean_agreement(
    judgments: pd.DataFrame, *, gold: str = MAJORITY, weights: str | None = None, **how: Unpack[How]
) -> pd.DataFrame:
    """Mean pairwise κ within and between kinds of raters, as the paper averages it (unweighted).

    Returns
    -------
    `results`, with the key ``pair``; ``n`` counts the pairs of raters with a defined κ.

    Examples
    --------
    >>> from personagap.gap import simulate_relevance
    >>> mean_agreement(simulate_relevance(), n_bootstrap=200).iloc[:, :5].round(2)
                 pair metric  estimate  ci_low  ci_high
    0  majority–model  kappa      0.26    0.20     0.32
    1     model–model  kappa      0.11    0.03     0.19
    """
    pairs, kappas, drawn = _resampled(judgments, gold, weights, **how)
    rows = []
    for kind, places in pairs.groupby("pair").indices.items():
        # The same pairs in every resample, or their mean would vary with who is left out.
        defined = places[~np.isnan(kappas[0, places])]
        means = kappas[:, defined if len(defined) else places].mean(axis=1)
        rows.append({"pair": kind, "n": len(defined), **drawn.row(means, -1, 1)})
    return result(rows, ["pair"], metric="kappa", method=drawn.method)


def majority_bias(judgments: pd.DataFrame) -> pd.DataFrame:
    """How much of the agreement of a rater with the majority is agreement with itself (R8).

    Parameters
    ----------
    judgments : 0/1 labels of three or more raters (an odd number); units that all of them judged
        are used, and a majority among the raters is not.

    Returns
    -------
    `results`, with the key ``rater``; metrics "κ with the majority" that contains the rater, "κ if
    independent" (what that would be, exactly, if raters with these yes rates labelled
    independently: 0 without the bias) and "κ with the others" (with their majority, ties split
    evenly).

    Examples
    --------
    >>> from personagap.gap import simulate_ratings
    >>> people = simulate_ratings().query("rater_kind == 'human'")
    >>> yes = people.assign(label=(people["label"] > 3) * 1)
    >>> majority_bias(yes).loc[:2, ["rater", "metric", "estimate"]].round(2)
         rater               metric  estimate
    0  human_0  κ with the majority      0.58
    1  human_0     κ if independent      0.49
    2  human_0    κ with the others      0.22
    """
    wide = units(individuals(judgments))
    wide = binary(wide, [*wide]).dropna()
    labels, m = wide.to_numpy(), wide.shape[1]
    if m < 3 or m % 2 == 0 or not len(wide):
        raise UserError(
            "majority_bias needs an odd number of raters, three or more, on shared items: "
            f"there are {m}"
        )
    # All patterns of labels, each as likely as under independence: the bias exactly, undrawn.
    rates = labels.mean(axis=0)
    every = np.array(list(product([0, 1], repeat=m)))
    chance = np.prod(np.where(every == 1, rates, 1 - rates), axis=1)
    rows = []
    for j, rater in enumerate(wide.columns):
        # The others are even in number and may tie: half a yes each, as a coin would decide.
        others = np.delete(labels, j, axis=1).mean(axis=1)
        without = np.where(others == 0.5, 0.5, others > 0.5)
        kappas = {
            "κ with the majority": _kappa_of(labels[:, j], labels.mean(axis=1) > 0.5),
            "κ if independent": _kappa_of(every[:, j], every.mean(axis=1) > 0.5, chance),
            "κ with the others": _kappa_of(labels[:, j], without),
        }
        rows += [{"rater": rater, "metric": name, "estimate": kappas[name]} for name in kappas]
    # Without intervals: what is shown is a bias of the definition, not of these data.
    return result(rows, ["rater"], n=len(wide))


def _kappa_of(x: np.ndarray, y: np.ndarray, weight: np.ndarray | float = 1.0) -> float:
    """κ of 0/1 labels, of which ``y`` may be a probability."""
    sides = np.stack([1 - x, x]) * weight, np.stack([1 - y, y])
    return float(_kappa(np.einsum("in,jn->ij", *np.asarray(sides, dtype=float)), 1 - np.eye(2)))


def reliability(
    judgments: pd.DataFrame, *, measurement: str = "nominal", **how: Unpack[How]
) -> pd.DataFrame:
    """Chance-corrected agreement of a group of raters: Fleiss' κ and Krippendorff's α.

    Parameters
    ----------
    judgments : of the raters of one group only (e.g. the humans); their majority is left out.
    measurement : "nominal", "ordinal" or "interval" (α only; Krippendorff 2011, Computing
        Krippendorff's Alpha-Reliability, §E).

    Returns
    -------
    `results` of both, with ``n_raters``, which counts all; ``n`` are units. Raters need not be the
    same from unit to unit (Fleiss 1971): his κ rests on the units with the most frequent number of
    ratings, which all units must share, α on all units with two or more.

    Examples
    --------
    >>> from personagap.gap import simulate_ratings
    >>> ratings = simulate_ratings().query("rater_kind == 'human'").round({"label": 0})
    >>> reliability(ratings, measurement="interval", n_bootstrap=200).iloc[:, :4].round(2)
                          metric  estimate  ci_low  ci_high
    0                   Fleiss κ      0.06   -0.01     0.12
    1  Krippendorff α (interval)      0.29    0.17     0.41
    """
    one_of(["nominal", "ordinal", "interval"], "unknown measurement", measurement)
    wide = units(individuals(judgments))
    codes, labels = _codes(wide)
    counts = (codes[:, :, None] == np.arange(len(labels))).sum(axis=1).astype(float)
    rated = counts.sum(axis=1)
    paired = rated > 1
    if not paired.any() or len(labels) < 2:
        raise UserError(
            "reliability needs units judged by two or more raters, and more than one label"
        )
    # Fleiss' chance term takes all units to have as many ratings.
    usual = int(np.bincount(rated[paired].astype(int)).argmax())
    drawn = resample(wide.index, **how)
    alpha = _alpha(counts, paired, drawn, measurement, labels)
    rows = [
        ("Fleiss κ", (rated == usual).sum(), _fleiss(counts, rated == usual, drawn)),
        (f"Krippendorff α ({measurement})", paired.sum(), alpha),
    ]
    found = [{"metric": name, "n": n, **drawn.row(values, -1, 1)} for name, n, values in rows]
    return result(found, [], method=drawn.method, n_raters=wide.shape[1])


def _fleiss(counts: np.ndarray, where: np.ndarray, drawn: Resampling) -> np.ndarray:
    m = counts[where].sum(axis=1).max()
    same = (counts * (counts - 1)).sum(axis=1, keepdims=True) / (m * (m - 1))
    sums = drawn.totals(np.hstack([same, counts / m, np.ones_like(same)]), where)
    # A resample may draw none of these units, or all of one label: it is left out.
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = sums[:, 0] / sums[:, -1]
        chance = ((sums[:, 1:-1] / sums[:, -1:]) ** 2).sum(axis=1)
        return (observed - chance) / (1 - chance)


def _alpha(
    counts: np.ndarray, where: np.ndarray, drawn: Resampling, measurement: str, labels: np.ndarray
) -> np.ndarray:
    k, others = counts.shape[1], (counts.sum(axis=1) - 1).clip(min=1)
    # Coincidences of a unit: each ordered pair of its labels, divided by the raters less one.
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(k)
    of_units = (pairs / others[:, None, None]).reshape(-1, k * k)
    coincidence = drawn.totals(of_units, where).reshape(-1, k, k)
    margin = coincidence.sum(axis=2)
    if measurement == "ordinal":
        # The labels between two, half of each end: mid-ranks, which differ in every resample.
        rank = np.cumsum(margin, axis=1) - margin / 2
        cost = (rank[:, :, None] - rank[:, None, :]) ** 2
    else:
        cost = _cost(labels, {"nominal": "nominal", "interval": "quadratic"}[measurement])[None]
    observed = (coincidence * cost).sum(axis=(1, 2))
    # A label is not paired with itself: hence less one.
    paired = (margin[:, :, None] * cost * margin[:, None, :]).sum(axis=(1, 2))
    expected = paired / (margin.sum(axis=1) - 1)
    return 1 - np.divide(observed, expected, out=np.full_like(observed, np.nan), where=expected > 0)
