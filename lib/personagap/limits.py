"""Confidence limits that several rooms give, each in one place: of Student, Wilson, of differences
and of simulations; Satterthwaite's degrees of freedom.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special
from statsmodels.stats.proportion import proportion_confint

from personagap.errors import shares


def student(
    centre: ArrayLike,
    error: ArrayLike,
    df: ArrayLike,
    level: float,
    low: ArrayLike = -np.inf,
    high: ArrayLike = np.inf,
) -> np.ndarray:
    """Limits (2, …) of ``centre`` by Student's t; cut to what can be, [``low``, ``high``]."""
    shares(level=level)
    # As scipy.stats.t.ppf, without its checks.
    reach = special.stdtrit(df, (1 + level) / 2) * np.asarray(error)
    return np.clip([centre - reach, centre + reach], low, high)


def satterthwaite(variance: float, *parts: tuple[float, float]) -> float:
    """Degrees of freedom of a ``variance`` that is made of ``parts``, each with its own.

    A part that is taken off adds to the error like any other. Without variance they are infinite
    (Satterthwaite 1946, Biometrics Bulletin 2, 110–114).

    Examples
    --------
    Welch's, of two means with squared errors of 1 and 2 and 9 degrees of freedom each:

    >>> satterthwaite(3, (1, 9), (2, 9))
    16.2
    """
    spread = sum(part**2 / df for part, df in parts)
    return float(variance**2 / spread) if spread else np.inf


def cluster_df(sizes: np.ndarray) -> float:
    """Degrees of freedom of the spread of clusters of these sizes, at least 1: one less than their
    effective number, (Σ n)² / Σ n², which is how many of one size say as much.

    Where one cluster holds half of all units the others tell little of its error (Carter, Schnepel
    & Steigerwald 2017, Review of Economics and Statistics 99, 698–709).

    Examples
    --------
    >>> cluster_df(np.array([5, 5, 5, 5])), cluster_df(np.array([6, 2, 2, 2]))
    (3.0, 2.0)
    """
    return max(float(sizes.sum() ** 2 / (sizes**2).sum()) - 1, 1.0)


def t_adjustment(df: ArrayLike, level: float) -> Any:
    """(z / t)²: by how much an effective sample size is smaller where the error that it follows
    from is itself an estimate with ``df`` (Korn & Graubard 1998, Survey Methodology 24, 193–201).
    """
    return (special.ndtri((1 + level) / 2) / special.stdtrit(df, (1 + level) / 2)) ** 2


def wilson(share: ArrayLike, size: ArrayLike, level: float) -> np.ndarray:
    """Wilson's limits (2, …) of shares at (effective) sample sizes."""
    shares(level=level)
    low, high = proportion_confint(np.multiply(share, size), size, 1 - level, "wilson")
    # In exact arithmetic the share lies within; rounding puts 0 and 1 outside.
    return np.stack([np.minimum(low, share), np.maximum(high, share)])


def mover(
    value: float, limits: tuple[float, float], other: float, limits_of_other: tuple[float, float]
) -> tuple[float, float]:
    """Limits (2,) of ``value`` − ``other``, independent, from those of each (MOVER, Zou & Donner
    2008).

    Examples
    --------
    >>> low, high = mover(50, (40, 60), 30, (30, 30))
    >>> print(low, high)
    10.0 30.0
    """
    (low, high), (low_of_other, high_of_other) = limits, limits_of_other
    below = np.hypot(value - low, high_of_other - other)
    above = np.hypot(high - value, other - low_of_other)
    return value - other - below, value - other + above


def monte_carlo(outcomes: pd.DataFrame, name: str) -> pd.DataFrame:
    """Share of True in each column, with its exact (Clopper–Pearson) 95 % interval, for
    ``results.result``.

    ``name`` is the column that holds the names of the columns.
    """
    low, high = proportion_confint(outcomes.sum(), len(outcomes), method="beta")
    columns = {"estimate": outcomes.mean(), "ci_low": low, "ci_high": high, "n": len(outcomes)}
    table = pd.DataFrame(columns | {"unit": "share", "method": "Monte Carlo, Clopper–Pearson"})
    return table.rename_axis(name).reset_index()
