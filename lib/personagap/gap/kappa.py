"""Agreement between raters: Cohen's κ of pairs and of groups, Fleiss' κ, Krippendorff's α."""

from itertools import combinations, product
from typing import Unpack

import numpy as np
import pandas as pd

from personagap.errors import UserError, require_one_of
from personagap.gap.resampling import How, Resampling, resample
from personagap.gap.tables import KINDS, binary, kinds, units, without_majority
from personagap.results import result
from personagap.schema import MAJORITY

#: Number of labels of a scale from 0 to 100. With more, nearly all cells of a contingency table are
#: empty, and the tables of all resamples do not fit in memory.
MAX_LABELS = 101


def _disagreement(labels: np.ndarray, scale: str) -> np.ndarray:
    """Disagreement (K, K) of pairs of labels: their distance on a "linear" scale, its square on
    others. Distances are between values, not ranks, so steps that nobody used count.
    """
    distance = np.abs(np.subtract.outer(labels, labels)).astype(float)
    if scale == "nominal":
        return (distance > 0).astype(float)
    return distance if scale == "linear" else distance**2


def _kappa(tables: np.ndarray, disagreement: np.ndarray) -> np.ndarray:
    """κ = 1 − observed / expected disagreement of contingency tables (…, K, K); NaN where no
    disagreement is expected.
    """
    # Numerator and denominator are in counts, times the squared total: a resample in which a pair
    # shares no unit then causes no division by 0 before the last line.
    rows, columns, total = tables.sum(-1), tables.sum(-2), tables.sum((-1, -2))
    observed = (tables * disagreement).sum((-1, -2)) * total
    expected = np.einsum("...i,ij,...j->...", rows, disagreement, columns)
    unknown = np.full(np.shape(total), np.nan)
    return 1 - np.divide(observed, expected, out=unknown, where=expected > 0)


def require_few_labels(labels: int, what: str, other: str) -> None:
    """Raise `UserError` if there are so many different labels that hardly two are equal."""
    if labels > MAX_LABELS:
        remedy = f"it is for categories, so round them, or use {other}"
        raise UserError(f"{what} of {labels} different labels: {remedy}")


def _label_codes(wide: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the labels (n_units, n_raters), −1 where not judged, and the sorted labels."""
    codes, labels = pd.factorize(wide.to_numpy().ravel(), sort=True)
    return codes.reshape(wide.shape), labels


def _pairwise_kappa(
    judgments: pd.DataFrame, gold: str, weights: str | None, **how: Unpack[How]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, Resampling]:
    """Table ``rater_a rater_b pair n agreement`` of pairs of raters, their κ (resamples, n_pairs)
    and shared units (n_units, n_pairs), and the resampling.
    """
    wide = units(judgments)
    if wide.shape[1] < 2:
        raise UserError("agreement needs judgments of at least two raters, there is one")
    codes, labels = _label_codes(wide)
    require_few_labels(len(labels), "κ", "gap.reliability")
    require_one_of(["nominal", "linear", "quadratic"], "unknown weights", weights or "nominal")
    k, disagreement = len(labels), _disagreement(labels, weights or "nominal")
    boot, rows, kappas = resample(wide.index, **how), [], []
    pairs = list(combinations(range(wide.shape[1]), 2))
    shared = np.stack([(codes[:, a] >= 0) & (codes[:, b] >= 0) for a, b in pairs], axis=1)
    kind_of = kinds(judgments)
    # With a misspelt gold, the majority would pass for one of the people it summarizes (R8).
    require_one_of(kind_of | {MAJORITY: ""}, "no rater to be gold", gold)
    # With a model as gold, its agreement with people would pass for agreement among people.
    if kind_of.get(gold) == "model":
        people = ", ".join(rater for rater, kind in kind_of.items() if kind == "human")
        remedy = f"choose from {people or 'none here'}"
        raise UserError(f"gold {gold!r} is a model, and the reference is people: {remedy}")
    # The majority is a kind of its own, because it contains the humans (R8).
    kind_of |= {gold: "majority"}
    order = ["majority", *KINDS]
    for (a, b), both in zip(pairs, shared.T, strict=True):
        # A unit counts in one of K × K cells, so weighted sums give the tables of all resamples.
        one_hot = np.eye(k * k)[np.where(both, codes[:, a] * k + codes[:, b], 0)]
        kappas.append(_kappa(boot.totals(one_hot, both).reshape(-1, k, k), disagreement))
        raters = wide.columns[[a, b]]
        pair = "–".join(sorted((kind_of[rater] for rater in raters), key=order.index))
        same_label = np.mean(codes[both, a] == codes[both, b]) if both.any() else np.nan
        rows.append((*raters, pair, both.sum(), same_label))
    table = pd.DataFrame(rows, columns=["rater_a", "rater_b", "pair", "n", "agreement"])
    return table, np.stack(kappas, axis=1), shared, boot


def agreement(
    judgments: pd.DataFrame, *, gold: str = MAJORITY, weights: str | None = None, **how: Unpack[How]
) -> pd.DataFrame:
    """Cohen's κ of every pair of raters on the items both judged, with cluster-bootstrap intervals.

    Parameters
    ----------
    judgments : long table ``user prompt item rater rater_kind label``.
    gold : rater that is the majority vote of the humans; pairs with it are "majority–…".
    weights : None for nominal labels, "linear" or "quadratic" in the distance of ordinal labels.
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    `results` table with the keys ``rater_a rater_b pair`` and the share of equal labels,
    ``agreement``. κ is undefined (NaN, explained in ``note``) where a pair shares no item or both
    gave a single label.

    Examples
    --------
    The 50 grant proposals read by two people in Wikipedia's article "Cohen's kappa": κ = 0.4.

    >>> pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    >>> judgments = pd.DataFrame([
    ...     {"prompt": i % 5, "item": i, "rater": rater, "rater_kind": "human", "label": label}
    ...     for i, pair in enumerate(pairs) for rater, label in zip("AB", pair)])
    >>> found = agreement(judgments, cluster="prompt")
    >>> found[["rater_a", "rater_b", "estimate", "n", "agreement"]].round(3)
      rater_a rater_b  estimate   n  agreement
    0       A       B       0.4  50        0.7
    """
    pairs, kappas, shared, boot = _pairwise_kappa(judgments, gold, weights, **how)
    constant = np.where(np.isnan(kappas[0]), "both gave one and the same label throughout", "")
    note = np.where(pairs["n"] == 0, "no item judged by both", constant)
    table = pairs.assign(**boot.row(kappas, -1, 1, shared), note=note)
    return result(table, ["rater_a", "rater_b", "pair"], metric="kappa", method=boot.method)


def mean_agreement(
    judgments: pd.DataFrame, *, gold: str = MAJORITY, weights: str | None = None, **how: Unpack[How]
) -> pd.DataFrame:
    """Mean pairwise κ within and between kinds of raters, unweighted as in the paper.

    Parameters are those of `agreement`.

    Returns
    -------
    `results` table with the key ``pair``; ``n`` counts the pairs of raters with a defined κ.

    Examples
    --------
    >>> from personagap.gap import simulate_relevance
    >>> mean_agreement(simulate_relevance(), n_bootstrap=200).iloc[:, :5].round(2)
                 pair metric  estimate  ci_low  ci_high
    0  majority–model  kappa      0.26    0.20     0.32
    1     model–model  kappa      0.11    0.03     0.19
    """
    pairs, kappas, shared, boot = _pairwise_kappa(judgments, gold, weights, **how)
    # Each κ has the same weight, so a unit has that of the pairs that share it.
    of_units, rows = shared / np.maximum(shared.sum(axis=0), 1), []
    for pair, places in pairs.groupby("pair").indices.items():
        # The same pairs in every resample, or the mean would vary with the pairs left out.
        defined = places[~np.isnan(kappas[0, places])]
        n, used = len(defined), defined if len(defined) else places
        row = boot.row(kappas[:, used].mean(axis=1), -1, 1, of_units[:, used].sum(axis=1))
        rows.append({"pair": pair, "n": n, **row})
    return result(rows, ["pair"], metric="kappa", method=boot.method)


def majority_bias(judgments: pd.DataFrame) -> pd.DataFrame:
    """How much of a rater's agreement with the majority is agreement with itself (R8).

    Parameters
    ----------
    judgments : 0/1 labels of an odd number of three or more raters. Only units judged by all of
        them are used, and the rater with the majority vote is ignored.

    Returns
    -------
    `results` table with the key ``rater``. The metrics are "κ with the majority" that includes the
    rater, "κ if independent" (its exact value if raters with these yes rates labelled
    independently, which would be 0 without the bias) and "κ with the others" (with the majority of
    the other raters, ties split evenly).

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
    wide = units(without_majority(judgments))
    wide = binary(wide, [*wide]).dropna()
    labels, n_raters = wide.to_numpy(), wide.shape[1]
    if n_raters < 3 or n_raters % 2 == 0 or not len(wide):
        needed = "an odd number of raters, three or more, on shared items"
        raise UserError(f"majority_bias needs {needed}: there are {n_raters}")
    # Every pattern of labels with its probability under independence gives the exact bias.
    rates, patterns = labels.mean(axis=0), np.array([*product([0, 1], repeat=n_raters)])
    chance = np.prod(np.where(patterns == 1, rates, 1 - rates), axis=1)
    rows = []
    for j, rater in enumerate(wide.columns):
        # An even number of others can tie, which counts as half a yes, as if decided by a coin.
        others = np.delete(labels, j, axis=1).mean(axis=1)
        majority_of_others = np.where(others == 0.5, 0.5, others > 0.5)
        kappas = {
            "κ with the majority": _binary_kappa(labels[:, j], labels.mean(axis=1) > 0.5),
            "κ if independent": _binary_kappa(patterns[:, j], patterns.mean(axis=1) > 0.5, chance),
            "κ with the others": _binary_kappa(labels[:, j], majority_of_others),
        }
        rows += [{"rater": rater, "metric": name, "estimate": kappas[name]} for name in kappas]
    return result(rows, ["rater"], n=len(wide))  # Without intervals: it follows by definition.


def _binary_kappa(x: np.ndarray, y: np.ndarray, weight: np.ndarray | float = 1.0) -> float:
    """κ of 0/1 labels with weights; ``y`` may also be the probability of a 1."""
    sides = np.stack([1 - x, x]) * weight, np.stack([1 - y, y])
    return float(_kappa(np.einsum("in,jn->ij", *np.asarray(sides, dtype=float)), 1 - np.eye(2)))


def reliability(
    judgments: pd.DataFrame, *, measurement: str = "nominal", **how: Unpack[How]
) -> pd.DataFrame:
    """Chance-corrected agreement of a group of raters: Fleiss' κ and Krippendorff's α.

    Parameters
    ----------
    judgments : judgments of one group of raters only (e.g. the humans); their majority is left out.
    measurement : "nominal", "ordinal" or "interval" (for α only; Krippendorff 2011, Computing
        Krippendorff's Alpha-Reliability, §E).
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    `results` table with one row per coefficient; ``n`` counts units and ``n_raters`` all raters.
    Raters may differ from unit to unit (Fleiss 1971). Fleiss' κ requires the same number of ratings
    of every unit and uses the units with the most frequent number; α uses all units with two or
    more ratings.

    Examples
    --------
    >>> from personagap.gap import simulate_ratings
    >>> ratings = simulate_ratings().query("rater_kind == 'human'").round({"label": 0})
    >>> reliability(ratings, measurement="interval", n_bootstrap=200).iloc[:, :4].round(2)
                          metric  estimate  ci_low  ci_high
    0                   Fleiss κ      0.06   -0.01     0.12
    1  Krippendorff α (interval)      0.29    0.17     0.41
    """
    require_one_of(["nominal", "ordinal", "interval"], "unknown measurement", measurement)
    wide = units(without_majority(judgments))
    codes, labels = _label_codes(wide)
    counts = (codes[:, :, None] == np.arange(len(labels))).sum(axis=1).astype(float)
    rated = counts.sum(axis=1)
    several = rated > 1
    if not several.any() or len(labels) < 2:
        raise UserError(
            "reliability needs units judged by two or more raters, and more than one label"
        )
    # The chance term of Fleiss' κ assumes that all units have the same number of ratings.
    n_ratings = int(np.bincount(rated[several].astype(int)).argmax())
    boot = resample(wide.index, **how)
    often, alpha = rated == n_ratings, _alpha(counts, several, boot, measurement, labels)
    rows = [
        {"metric": "Fleiss κ", "n": often.sum()}
        | boot.row(_fleiss(counts, often, boot), -1, 1, often),
        {"metric": f"Krippendorff α ({measurement})", "n": several.sum()}
        | boot.row(alpha, -1, 1, several),
    ]
    return result(rows, [], method=boot.method, n_raters=wide.shape[1])


def _fleiss(counts: np.ndarray, units: np.ndarray, boot: Resampling) -> np.ndarray:
    n_ratings = counts[units].sum(axis=1).max()
    agreement = (counts * (counts - 1)).sum(axis=1, keepdims=True) / (n_ratings * (n_ratings - 1))
    sums = boot.totals(np.hstack([agreement, counts / n_ratings, np.ones_like(agreement)]), units)
    # κ is undefined in a resample with none of these units or only one label, which is left out.
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = sums[:, 0] / sums[:, -1]
        chance = ((sums[:, 1:-1] / sums[:, -1:]) ** 2).sum(axis=1)
        return (observed - chance) / (1 - chance)


def _alpha(
    counts: np.ndarray, units: np.ndarray, boot: Resampling, measurement: str, labels: np.ndarray
) -> np.ndarray:
    k, n_others = counts.shape[1], (counts.sum(axis=1) - 1).clip(min=1)
    # Coincidences of a unit: its ordered pairs of labels, divided by the number of raters less one.
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(k)
    of_units = (pairs / n_others[:, None, None]).reshape(-1, k * k)
    coincidence = boot.totals(of_units, units).reshape(-1, k, k)
    margin = coincidence.sum(axis=2)
    if measurement == "ordinal":
        # The distance of ordinal labels is that of their mid-ranks, which differ by resample.
        rank = np.cumsum(margin, axis=1) - margin / 2
        disagreement = (rank[:, :, None] - rank[:, None, :]) ** 2
    else:
        disagreement = _disagreement(labels, measurement)[None]
    observed = (coincidence * disagreement).sum(axis=(1, 2))
    # Less one, because a label is not paired with itself.
    products = (margin[:, :, None] * disagreement * margin[:, None, :]).sum(axis=(1, 2))
    expected = products / (margin.sum(axis=1) - 1)
    return 1 - np.divide(observed, expected, out=np.full_like(observed, np.nan), where=expected > 0)
