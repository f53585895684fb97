"""Do judges rank as people do? Rank correlations, below the ceiling that people's own noise sets.

The human majority is no rater here: it agrees with the people it was made from, which would raise
the ceiling (with the median of three as a fourth, in `simulate_ratings`, from 0.76 to 0.89).
"""

from itertools import combinations
from typing import Unpack

import numpy as np
import pandas as pd
from scipy import stats

from personagap.errors import UserError
from personagap.gap.resampling import How, Resampling, resample
from personagap.gap.tables import people_and_models
from personagap.results import generator, result

#: Pairings tried: all n! of eight values or fewer, as many drawn of more.
_PAIRINGS = 50_000


def _ranks(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mid-ranks of ``x`` (n,) in each resample: (resamples, n)."""
    _, first, code = np.unique(np.sort(x), return_index=True, return_inverse=True)
    order = np.argsort(x, kind="stable")
    counts, ties = weight[:, order], len(first) < len(x)
    # A rank is how many come before, so a resample needs no units of its own: only their counts.
    if ties:
        counts = np.add.reduceat(counts, first, axis=1)
    middle = np.cumsum(counts, axis=1) - counts / 2
    ranks = np.empty(weight.shape)
    ranks[:, order] = middle[:, code] if ties else middle
    return ranks


class Spearman:
    """Spearman's ρ in the sample and each resample; what two correlations share is ranked once."""

    def __init__(self, drawn: Resampling):
        self.drawn = drawn
        self.ranked: dict[tuple[bytes, bytes], tuple[np.ndarray, np.ndarray]] = {}
        self.weights: dict[bytes, np.ndarray] = {}

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Over the units both judged, NaN where one is constant: (resamples,)."""
        both = ~np.isnan(x + y)
        if not both.any():
            return np.full(len(self.drawn.weights), np.nan)
        # ρ is Pearson's r of mid-ranks: the formula of squared rank differences is off with ties.
        (a, of_a), (b, of_b) = (self._ranked(v, both) for v in (x, y))
        scale = np.sqrt(of_a * of_b)
        together = (self._weight(both) * a * b).sum(axis=1)
        return np.divide(together, scale, out=np.full(len(scale), np.nan), where=scale > 1e-9)

    def _weight(self, units: np.ndarray) -> np.ndarray:
        key = units.tobytes()
        if key not in self.weights:
            self.weights[key] = self.drawn.weights[:, self.drawn.cell[units]]
        return self.weights[key]

    def _ranked(self, x: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ranks of ``x`` among ``units`` less their mean (resamples, n), and their sums of squares
        (resamples,).
        """
        key = x.tobytes(), units.tobytes()
        if key not in self.ranked:
            weight = self._weight(units)
            rank, total = _ranks(x[units], weight), weight.sum(axis=1, keepdims=True).clip(min=1)
            rank = rank - (weight * rank).sum(axis=1, keepdims=True) / total
            self.ranked[key] = rank, (weight * rank * rank).sum(axis=1)
        return self.ranked[key]


def judge_correlation(judgments: pd.DataFrame, **how: Unpack[How]) -> pd.DataFrame:
    """Spearman's ρ of each judge with the mean human rating, and the most that human noise allows.

    With mean ρ̄ between two humans (weighted by the units they share), the mean of k of them has
    reliability k ρ̄ / (1 + (k − 1) ρ̄) (Spearman–Brown; k is the harmonic mean of ratings per
    unit); a judge that knew the true values would reach its square root, the ceiling. ρ over the
    ceiling is the disattenuated value (Spearman 1904); it can exceed 1 by chance.

    Returns
    -------
    `results`, with the keys ``rater rater_kind``; metrics "spearman", "ceiling" and
    "disattenuated", of each model and of each human (against the mean of the *other* humans, so the
    two are to be compared through the disattenuated values). Where humans do not correlate
    positively the ceiling is undefined, as the ``note`` says.

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
    drawn = resample(wide.index, **how)
    spearman = Spearman(drawn)
    label = {rater: wide[rater].to_numpy() for rater in wide}
    pairs = [(np.isfinite(label[a] + label[b]).sum(), a, b) for a, b in combinations(humans, 2)]
    values = np.stack([spearman(label[a], label[b]) for _, a, b in pairs])
    weights = np.array([[n] for n, _, _ in pairs]) * np.isfinite(values)
    between = (np.nan_to_num(values) * weights).sum(axis=0) / np.maximum(weights.sum(axis=0), 1)
    # Of people who do not correlate, Spearman–Brown would give no reliability, or a negative one.
    between = np.where(between > 0, between, np.nan)
    rows = []
    for rater in [*models, *humans]:
        # A person is held against the others alone: the mean of all contains them (R8).
        others = wide[[human for human in humans if human != rater]]
        rho = spearman(label[rater], others.mean(axis=1).to_numpy())
        ratings = others.notna().to_numpy().sum(axis=1)[np.isfinite(label[rater])]
        ratings = ratings[ratings > 0]
        # Harmonic, for the noise of a unit's mean goes with 1 / its number of ratings.
        k = 1 / (1 / ratings).mean()
        ceiling = np.sqrt(k * between / (1 + (k - 1) * between))
        true = rho / ceiling
        note = "humans do not agree: no ceiling" if np.isnan(true[0]) else ""
        if np.isnan(rho[0]):
            note = "ρ undefined"
        kind = "human" if rater in humans else "model"
        who = {"rater": rater, "rater_kind": kind, "n": len(ratings), "note": note}
        rows.append({**who, "metric": "spearman", **drawn.row(rho, -1, 1)})
        rows.append({**who, "metric": "ceiling", **drawn.row(ceiling, 0, 1)})
        # Without bounds: to cut it at 1 would bias what chance carries above.
        rows.append({**who, "metric": "disattenuated", **drawn.row(true)})
    return result(rows, ["rater", "rater_kind"], method=drawn.method)


def exact_correlation(x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """Spearman's ρ with its permutation p-value: exact for few points, which no t test is.

    Parameters
    ----------
    x, y : (n,) paired values, n ≥ 3.
    seed : of the pairings drawn where there are too many to try all (n > 8).

    Returns
    -------
    `results`, one row "spearman"; the p-value is twice that of ρ's side, ``p_t`` the t
    approximation that papers report.

    Examples
    --------
    The published r = 0.90, p = 0.04 over five models (R16):

    >>> exact = exact_correlation([1, 2, 3, 4, 5], [1, 2, 3, 5, 4])
    >>> exact[["estimate", "p_value", "n", "method", "p_t"]].round(3)
       estimate  p_value  n             method    p_t
    0       0.9    0.083  5  exact permutation  0.037
    """
    # What is no number is a gap.
    x, y = (pd.to_numeric(pd.Series(each), errors="coerce").to_numpy(float) for each in (x, y))
    if len(x) != len(y) or len(x) < 3 or np.isnan(x + y).any() or min(np.ptp(x), np.ptp(y)) == 0:
        raise UserError("a correlation needs three or more complete pairs of values that vary")
    # Under permutation only Σ of products moves, so that serves for ρ, at a fraction of the time.
    a, b = stats.rankdata(x), stats.rankdata(y)
    centred = b - b.mean()
    test = stats.permutation_test(
        (a,),
        lambda ranks, axis: (ranks * centred).sum(axis=axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=_PAIRINGS,
        rng=generator(seed),
    )
    rho, p_t = stats.spearmanr(x, y)
    exact = len(test.null_distribution) < _PAIRINGS
    method = "exact permutation" if exact else f"permutation, {_PAIRINGS} draws"
    row = {"estimate": rho, "p_value": test.pvalue, "n": len(x), "method": method, "p_t": p_t}
    return result([row], [], metric="spearman")
