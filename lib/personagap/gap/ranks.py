"""Rank correlations of judges with people, and the noise ceiling set by disagreement among people.

The human majority is not a rater here: it agrees with the people it summarizes, which would raise
the ceiling (in `simulate_ratings`, from 0.76 to 0.89 with the median of three as a fourth rater).
"""

from itertools import combinations
from typing import Unpack

import numpy as np
import pandas as pd
from scipy import stats

from personagap.errors import UserError
from personagap.gap.resampling import How, Resampling, resample
from personagap.gap.tables import people_and_models
from personagap.results import random_generator, result

#: Pairings tried: all n! of eight values or fewer, this number of random ones for more values.
_MAX_PAIRINGS = 50_000


def _mid_ranks(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mid-ranks (resamples, n) of ``x`` (n,) with multiplicities ``weights`` (resamples, n)."""
    _, first, code = np.unique(np.sort(x), return_index=True, return_inverse=True)
    order = np.argsort(x, kind="stable")
    counts, ties = weights[:, order], len(first) < len(x)
    # A rank is a count of the values before it, so resamples need multiplicities only, no sorting.
    if ties:
        counts = np.add.reduceat(counts, first, axis=1)
    mid_ranks = np.cumsum(counts, axis=1) - counts / 2
    ranks = np.empty(weights.shape)
    ranks[:, order] = mid_ranks[:, code] if ties else mid_ranks
    return ranks


class Spearman:
    """Spearman's ρ in the sample and each resample.

    Ranks and weights are cached, because many correlations share a variable and its units.
    """

    def __init__(self, boot: Resampling):
        self.boot = boot
        self._ranks_cache: dict[tuple[bytes, bytes], tuple[np.ndarray, np.ndarray]] = {}
        self._weights_cache: dict[bytes, np.ndarray] = {}

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """ρ (resamples,) over the units with both values; NaN where one of them is constant."""
        both = ~np.isnan(x + y)
        if not both.any():
            return np.full(len(self.boot.weights), np.nan)
        # Pearson's r of mid-ranks: the formula with squared rank differences is wrong with ties.
        (a, squares_a), (b, squares_b) = (self._centred_ranks(v, both) for v in (x, y))
        norm = np.sqrt(squares_a * squares_b)
        products = (self._weights(both) * a * b).sum(axis=1)
        return np.divide(products, norm, out=np.full(len(norm), np.nan), where=norm > 1e-9)

    def _weights(self, units: np.ndarray) -> np.ndarray:
        key = units.tobytes()
        if key not in self._weights_cache:
            self._weights_cache[key] = self.boot.weights[:, self.boot.cell[units]]
        return self._weights_cache[key]

    def _centred_ranks(self, x: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centred ranks of ``x`` among ``units`` (resamples, n), and their sums of squares."""
        key = x.tobytes(), units.tobytes()
        if key not in self._ranks_cache:
            weights = self._weights(units)
            rank, n = _mid_ranks(x[units], weights), weights.sum(axis=1, keepdims=True).clip(min=1)
            rank = rank - (weights * rank).sum(axis=1, keepdims=True) / n
            self._ranks_cache[key] = rank, (weights * rank * rank).sum(axis=1)
        return self._ranks_cache[key]


def judge_correlation(judgments: pd.DataFrame, **how: Unpack[How]) -> pd.DataFrame:
    """Spearman's ρ of each judge with the mean human rating, and its noise ceiling.

    With a mean ρ̄ between two humans (weighted by the units they share), the mean of k humans has
    the reliability k ρ̄ / (1 + (k − 1) ρ̄) (Spearman–Brown; k is the harmonic mean of the ratings
    per unit). A judge that knows the true values reaches its square root, the ceiling. ρ over the
    ceiling is the disattenuated correlation (Spearman 1904), which can exceed 1 by chance.

    Parameters
    ----------
    judgments : long table ``user prompt item rater rater_kind label`` of two or more people.
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    `results` table with the keys ``rater rater_kind`` and the metrics "spearman", "ceiling" and
    "disattenuated" of each model and each human. A human is compared with the mean of the *other*
    humans, so models and humans are comparable through the disattenuated values only. Where humans
    do not correlate positively the ceiling is undefined, as ``note`` says.

    Examples
    --------
    >>> from personagap.gap import simulate_ratings
    >>> table = judge_correlation(simulate_ratings(), n_bootstrap=200)
    >>> table.loc[:3, ["rater", "metric", "estimate"]].round(2)
         rater         metric  estimate
    0    judge       spearman      0.59
    1    judge        ceiling      0.76
    2    judge  disattenuated      0.78
    3  human_0       spearman      0.40
    """
    wide, humans, models = people_and_models(judgments, "the noise ceiling", 2)
    boot = resample(wide.index, **how)
    spearman = Spearman(boot)
    labels = {rater: wide[rater].to_numpy() for rater in wide}
    pairs = [(np.isfinite(labels[a] + labels[b]).sum(), a, b) for a, b in combinations(humans, 2)]
    values = np.stack([spearman(labels[a], labels[b]) for _, a, b in pairs])
    weights = np.array([[n] for n, _, _ in pairs]) * np.isfinite(values)
    mean_rho = (np.nan_to_num(values) * weights).sum(axis=0) / np.maximum(weights.sum(axis=0), 1)
    # Spearman–Brown is not defined for people who do not correlate positively.
    mean_rho = np.where(mean_rho > 0, mean_rho, np.nan)
    several, rows = (wide[humans].notna().sum(axis=1) > 1).to_numpy(), []
    for rater in [*models, *humans]:
        # A person is compared with the others only: the mean of all includes that person (R8).
        others = wide[[human for human in humans if human != rater]]
        rho = spearman(labels[rater], others.mean(axis=1).to_numpy())
        ratings = others.notna().to_numpy().sum(axis=1)[np.isfinite(labels[rater])]
        ratings = ratings[ratings > 0]
        # Harmonic, because the noise variance of a unit's mean is proportional to 1 / its ratings.
        k = 1 / (1 / ratings).mean() if len(ratings) else np.nan
        ceiling = np.sqrt(k * mean_rho / (1 + (k - 1) * mean_rho))
        disattenuated = rho / ceiling
        note = "humans do not agree: no ceiling" if np.isnan(disattenuated[0]) else ""
        if np.isnan(rho[0]):
            note = "ρ undefined"
        kind = "human" if rater in humans else "model"
        row = {"rater": rater, "rater_kind": kind, "n": len(ratings), "note": note}
        judged = np.isfinite(labels[rater]) & others.notna().any(axis=1).to_numpy()
        rows.append({**row, "metric": "spearman", **boot.row(rho, -1, 1, judged)})
        rows.append({**row, "metric": "ceiling", **boot.row(ceiling, 0, 1, several)})
        # Without bounds, because cutting at 1 would bias values that exceed it by chance.
        limits = boot.row(disattenuated, where=min(judged, several, key=boot.df))
        rows.append({**row, "metric": "disattenuated", **limits})
    return result(rows, ["rater", "rater_kind"], method=boot.method)


def exact_correlation(x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """Spearman's ρ with its permutation p-value, which is exact for few points, unlike a t test.

    Parameters
    ----------
    x, y : (n,) paired values, n ≥ 3.
    seed : seed of the random pairings where there are too many to try all (n > 8).

    Returns
    -------
    `results` table with one row "spearman". The two-sided p-value is twice the smaller one-sided
    one; ``p_t`` is the p-value of the t approximation that papers report.

    Examples
    --------
    The published r = 0.90, p = 0.04 over five models (R16):

    >>> exact = exact_correlation([1, 2, 3, 4, 5], [1, 2, 3, 5, 4])
    >>> exact[["estimate", "p_value", "n", "method", "p_t"]].round(3)
       estimate  p_value  n             method    p_t
    0       0.9    0.083  5  exact permutation  0.037
    """
    # Values that are not numbers count as missing.
    x, y = (pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(float) for values in (x, y))
    if len(x) != len(y) or len(x) < 3 or np.isnan(x + y).any() or min(np.ptp(x), np.ptp(y)) == 0:
        raise UserError("a correlation needs three or more complete pairs of values that vary")
    # Under permutation ρ depends on the sum of products only, which is much faster to compute.
    a, b = stats.rankdata(x), stats.rankdata(y)
    centred = b - b.mean()
    test = stats.permutation_test(
        (a,),
        lambda ranks, axis: (ranks * centred).sum(axis=axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=_MAX_PAIRINGS,
        rng=random_generator(seed),
    )
    rho, p_t = stats.spearmanr(x, y)
    exact = len(test.null_distribution) < _MAX_PAIRINGS
    method = "exact permutation" if exact else f"permutation, {_MAX_PAIRINGS} draws"
    row = {"estimate": rho, "p_value": test.pvalue, "n": len(x), "method": method, "p_t": p_t}
    return result([row], [], metric="spearman")
