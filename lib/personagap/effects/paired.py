"""Linear contrasts of personas, paired by item: estimates, standard errors and tests.

Every paired comparison of the package uses the errors computed here.
"""

import math
from collections.abc import Collection, Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import fft, stats

from personagap.effects._table import POINTS, ROUNDING, cells
from personagap.effects.anova import mean_squares
from personagap.errors import UserError
from personagap.limits import cluster_df, satterthwaite_df, t_interval
from personagap.schema import CONTROLS

#: ``method`` of a contrast without an estimate, as answers were blocked, empty or unfinished.
NO_ESTIMATE = "none: fewer than two items with an answer of both"


class Paired(NamedTuple):
    """A contrast as a proportion, with its test.

    The interval is computed from ``centre`` and ``se`` (never 0), which include two pseudo-items.
    """

    estimate: float
    bounds: tuple[float, float]  # smallest and largest contrast that the weights allow
    cohens_h: float
    n_items: int
    n_runs: int
    centre: float
    se: float
    df: float
    statistic: float
    p_value: float
    method: str

    def interval(self, level: float) -> tuple[float, float]:
        """Confidence interval in points."""
        low, high = POINTS * t_interval(self.centre, self.se, self.df, level, *self.bounds)
        return low, high

    def row(self, task: str, contrast: str, level: float) -> dict:
        """Return a row for ``results.result``, in points."""
        low, high = self.interval(level)
        return {
            "task": task, "contrast": contrast, "estimate": POINTS * self.estimate, "ci_low": low,
            "ci_high": high,
            "p_value": self.p_value, "n": self.n_items, "method": self.method,
            "statistic": self.statistic, "n_runs": self.n_runs, "cohens_h": self.cohens_h,
        }  # fmt: skip


def _without_estimate(bounds: tuple[float, float], n_items: int) -> Paired:
    """Return a contrast whose estimate and test are missing (NaN)."""
    names = ["estimate", "cohens_h", "centre", "se", "df", "statistic", "p_value"]
    unknown = dict.fromkeys(names, np.nan)
    return Paired(bounds=bounds, n_items=n_items, n_runs=0, method=NO_ESTIMATE, **unknown)


class Task:
    """Cell means of one task, prepared for any number of contrasts."""

    def __init__(
        self,
        name: str,
        rows: pd.DataFrame,
        cluster: str | None,
        nonresponding: Collection[str] = (),
    ):
        self.name, self.cluster, self.nonresponding = name, cluster, set(nonresponding)
        self.table = cells(rows, name, cluster)
        self.binary = self.table.binary

    def paired(self, weights: dict[str, float]) -> Paired:
        """Estimate and test Σ weight × mean score over the items that all personas answered."""
        means, shared = self._shared_items(weights)
        lowest = sum(weight for weight in weights.values() if weight < 0)
        bounds = lowest, sum(weight for weight in weights.values() if weight > 0)
        if shared.sum() < 2:
            # Too few items are the user's mistake, unless the models gave no answers.
            if not self.nonresponding & set(weights):
                few = f"{' and '.join(map(str, weights))} share {shared.sum()} answered items"
                raise UserError(f"{self.name}: {few}; 2 are needed")
            return _without_estimate(bounds, int(shared.sum()))
        means, clusters = means[:, :, shared], self.table.clusters[shared]
        weight = np.array(list(weights.values()))
        n_runs = int(self.table.runs[self._positions(weights)].max())
        difference = np.tensordot(weight, means, axes=1)
        pseudo = pseudo_difference(difference, 1 / n_runs, self.binary)
        if len(difference) > 1:
            test = crossed_test(difference, clusters, pseudo)
        # The sign-flip test would give the same p-value; McNemar's is the name that readers know.
        elif len(weight) == 2 and n_runs == 1 and not self.cluster and np.isin(means, [0, 1]).all():
            test = *clustered_mean(difference[0], clusters, pseudo), *_mcnemar(difference[0])
        else:
            centre, se, df = clustered_mean(difference[0], clusters, pseudo)
            method = "sign-flip exact" + (f", clusters of {self.cluster}" if self.cluster else "")
            p_value = sign_flip(np.bincount(clusters, weights=difference[0]))
            test = centre, se, df, difference.mean() / se, p_value, method
        effect_size = _cohens_h(weight, means.mean(axis=(1, 2)))
        return Paired(difference.mean(), bounds, effect_size, int(shared.sum()), n_runs, *test)

    def comparable(self, persona: str, control: str) -> bool:
        """Whether nonresponse leaves the two items in common that a comparison needs."""
        if persona not in self.nonresponding:
            return True
        return int(self._shared_items([persona, control])[1].sum()) >= 2

    def _positions(self, personas: Iterable[str]) -> list[int]:
        return [self.table.personas.index(persona) for persona in personas]

    def _shared_items(self, personas: Collection[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the cell means of ``personas``, and which items (n,) all of them answered.

        The means (persona × phrasing × item) are of the phrasings that all personas have.
        """
        available = self.table.personas
        if absent := [persona for persona in personas if persona not in available]:
            if not self.nonresponding & set(absent):
                choices = f"there are {', '.join(map(str, available))}"
                raise UserError(f"{self.name}: no scores of {absent[0]!r}; {choices}")
            return self.table.mean[:0], np.zeros(len(self.table.items), dtype=bool)
        control = [persona in CONTROLS for persona in personas]
        means = _controls_in_every_phrasing(self.table.mean[self._positions(personas)], control)
        # A phrasing without any answer of one persona would leave no item in common.
        means = means[:, np.isfinite(means).any(axis=2).all(axis=0)]
        return means, np.isfinite(means).all(axis=(0, 1)) & (means.shape[1] > 0)


def _controls_in_every_phrasing(means: np.ndarray, control: list[bool]) -> np.ndarray:
    """Average the answers of controls over templates, and repeat the average in each of them.

    A control states no identity, so its answers have no phrasing.
    """
    if means.shape[1] == 1:
        return means
    count = np.isfinite(means[control]).sum(axis=1, keepdims=True)
    total = np.nansum(means[control], axis=1, keepdims=True)
    means[control] = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return means[:, :1] if all(control) else means


def pseudo_difference(difference: np.ndarray, one_answer: float, binary: bool) -> float:
    """Size of the difference of a pseudo-item in `clustered_mean`.

    One answer for binary scores, or if no item differs; otherwise the largest difference of any
    item.
    """
    largest = float(np.abs(difference).max())
    return one_answer if binary or largest < ROUNDING else largest


def clustered_mean(
    difference: np.ndarray, clusters: np.ndarray, pseudo: float
) -> tuple[float, float, float]:
    """Centre, cluster-robust standard error and df of a mean of paired differences.

    Two pseudo-items with the differences +``pseudo`` and −``pseudo`` are added to the data: the
    difference of a single answer for binary scores (Bonett & Price 2012, for one run), and the
    largest observed difference for other scores. They keep the coverage of the interval when pairs
    hardly differ; their influence vanishes with n.
    """
    n = len(difference) + 2
    centre, sizes = difference.sum() / n, np.bincount(clusters)
    sums = np.bincount(clusters, weights=difference - centre)[sizes > 0]
    sums = np.append(sums, [pseudo - centre, -pseudo - centre])
    groups, share = len(sums), np.append(sizes[sizes > 0], [1, 1]) / n
    # Jackknife over clusters: leaving out a cluster changes the mean by sum / (1 − share). With
    # clusters of equal size it is the usual factor G / (G − 1).
    variance = (groups - 1) / groups * ((sums / (1 - share)) ** 2).sum()
    # Degrees of freedom count the observed clusters only: pseudo-items are no evidence of a spread.
    return centre, variance**0.5 / n, cluster_df(sizes)


def _mcnemar(difference: np.ndarray) -> tuple[float, float, str]:
    """Smaller discordant count and exact p-value of McNemar's test, and its name."""
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    fewer = min(better, worse)
    p_value = min(1.0, 2 * float(stats.binom.cdf(fewer, better + worse, 0.5)))
    return float(fewer), p_value, "McNemar exact"


def crossed_test(difference: np.ndarray, clusters: np.ndarray, pseudo: float) -> tuple:
    """Test a mean of phrasing × item differences, both factors random (Clark 1973).

    A quasi-F test, as t with Satterthwaite's degrees of freedom. Returns estimate, standard error,
    df, t, p-value and the name of the method.
    """
    _, item_se, item_df = clustered_mean(difference.mean(axis=0), clusters, pseudo)
    table = mean_squares(difference, "pj")
    phrasing, within = (table[effect].value / difference.size for effect in ("p", "pj"))
    # Both terms include the variance within cells, so it is subtracted once; the sum may fall below
    # either.
    variance = max(item_se**2 + phrasing - within, item_se**2, phrasing)
    phrasing_df = table["p"].df
    parts = (item_se**2, item_df), (phrasing, phrasing_df), (within, item_df * phrasing_df)
    df, se, estimate = satterthwaite_df(variance, *parts), variance**0.5, difference.mean()
    p_value = 2 * float(stats.t.sf(abs(estimate) / se, df))
    return estimate, se, df, estimate / se, p_value, "items × phrasings, Satterthwaite t"


def _cohens_h(weight: np.ndarray, score: np.ndarray) -> float:
    """Cohen's h between the weighted mean scores on the two sides of the contrast."""
    sides = (side @ score / side.sum() for side in np.maximum([weight, -weight], 0))
    up, down = (2 * math.asin(min(side, 1.0) ** 0.5) for side in sides)
    return up - down


def sign_flip(values: np.ndarray) -> float:
    """Exact two-sided p-value of Σ values when all signs are equally likely, for any n.

    The sum of multiples of a common step has the characteristic function Π cos(value · ω), so one
    Fourier transform replaces the enumeration of 2ⁿ sign patterns. Values without a common step are
    first rounded to a fine one; rounding preserves their symmetry about 0, so the test of the
    rounded values is still exact.
    """
    size = np.abs(values[np.abs(values) > ROUNDING])
    if not len(size):
        return 1.0
    distinct = np.unique(size.round(9))
    step = 0.0
    # Means over few runs and phrasings take few values; with many values, a common step would be
    # too fine.
    if len(distinct) < 200:
        fractions = (Fraction(value).limit_denominator(1000) for value in distinct)
        step = 1 / math.lcm(*(fraction.denominator for fraction in fractions))
    if step * 2**20 < size.sum() or np.abs(size / step - np.rint(size / step)).max() > 1e-4:
        # The rounding error is below 1/32 of the mean size.
        step = size.sum() / max(2**14, 16 * len(size))
    steps = np.rint(values / step).astype(int)
    distinct, count = np.unique(np.abs(steps[steps != 0]), return_counts=True)
    span, observed = int(distinct @ count), abs(int(steps.sum()))
    if observed == 0:
        return 1.0
    length = fft.next_fast_len(2 * span + 1, real=True)
    cosine = np.cos(2 * np.pi / length * np.arange(length))
    with np.errstate(divide="ignore"):
        log = np.log(np.abs(cosine))
    # The product would underflow, so logarithms are summed and the sign is kept separately.
    frequency, transform = np.arange(length // 2 + 1), np.zeros(length // 2 + 1)
    negative = np.zeros(len(transform), dtype=bool)
    for value, power in zip(distinct, count, strict=True):
        angle = value * frequency % length
        transform += power * log[angle]
        negative ^= (cosine[angle] < 0) & bool(power % 2)
    density = fft.irfft(np.where(negative, -1, 1) * np.exp(transform), length)
    # 1e-13 is the accuracy of the transform, 2^(1 − m) the smallest p-value of m differences.
    smallest = max(1e-13, 2.0 ** (1 - count.sum()))
    return float(np.clip(2 * density[observed : span + 1].sum(), smallest, 1.0))
