"""Confidence limits and degrees of freedom shared by several packages.

Student's t, pseudo-clusters, Wilson's score interval, MOVER for differences, Clopper–Pearson for
simulations; degrees of freedom by Satterthwaite and for clusters.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special
from statsmodels.stats.proportion import proportion_confint

from personagap.errors import require_fraction


def t_interval(
    centre: ArrayLike,
    error: ArrayLike,
    df: ArrayLike,
    level: float,
    low: ArrayLike = -np.inf,
    high: ArrayLike = np.inf,
) -> np.ndarray:
    """Limits (2, …) of ``centre`` by Student's t, truncated to the possible [``low``, ``high``].

    Parameters
    ----------
    centre, error, df : estimate, its standard error and degrees of freedom.
    level : confidence level.
    low, high : bounds of the parameter.
    """
    require_fraction(level=level)
    # Equals scipy.stats.t.ppf, without the cost of its checks.
    reach = special.stdtrit(df, (1 + level) / 2) * np.asarray(error)
    return np.clip([centre - reach, centre + reach], low, high)


def satterthwaite_df(variance: float, *parts: tuple[float, float]) -> float:
    """Approximate degrees of freedom of a ``variance`` that is a sum of independent parts.

    Each part is a pair of a variance and its degrees of freedom. A part that is subtracted adds to
    the error like the others. Without any variance the result is infinite (Satterthwaite 1946,
    Biometrics Bulletin 2, 110–114).

    Examples
    --------
    Welch's degrees of freedom for two means with squared errors 1 and 2 and 9 degrees of freedom
    each:

    >>> satterthwaite_df(3, (1, 9), (2, 9))
    16.2
    """
    spread = sum(part**2 / df for part, df in parts)
    return float(variance**2 / spread) if spread else np.inf


def effective_clusters(sizes: np.ndarray) -> Any:
    """Number of equal clusters with the same information as clusters of these sizes, (Σ n)² / Σ n².

    ``sizes`` are (n_clusters,), or (n_clusters, m) for m statistics. It is 0 without any unit.
    """
    total, squares = sizes.sum(axis=0, dtype=float) ** 2, (sizes**2).sum(axis=0)
    return np.divide(total, squares, out=np.zeros_like(total), where=squares > 0)[()]


def cluster_df(sizes: np.ndarray) -> Any:
    """Degrees of freedom of a variance between clusters of these sizes, at least 1.

    One less than `effective_clusters`. A cluster that holds half of all units has an error of which
    the others carry little information (Carter, Schnepel & Steigerwald 2017, Review of Economics
    and Statistics 99, 698–709).

    Examples
    --------
    >>> print(cluster_df(np.array([5, 5, 5, 5])), cluster_df(np.array([6, 2, 2, 2])))
    3.0 2.0
    """
    return np.maximum(effective_clusters(sizes) - 1, 1.0)


def cluster_correction(sizes: np.ndarray) -> Any:
    """Factor that makes the squared residuals of clusters of these sizes an unbiased variance.

    The residual of a cluster with the share w of all units is its deviation from a mean that
    contains it. Where the means of clusters vary equally, the expected sum of squares is
    Σ w² (1 − 2 w + Σ w²) in units of their variance, not Σ w² (Bell & McCaffrey 2002, Survey
    Methodology 28, 169–181). For G equal clusters the factor is the usual G / (G − 1).

    Examples
    --------
    >>> sizes = np.array([[5, 5, 5], [6, 2, 2]]).T
    >>> cluster_correction(sizes).round(2)
    array([1.5 , 2.59])
    """
    w = sizes / np.maximum(sizes.sum(axis=0), 1e-300)
    squares = (w**2).sum(axis=0)
    expected = (w**2 * (1 - 2 * w + squares)).sum(axis=0)
    # A single cluster has no residual, and counts as two.
    factor = np.full(np.shape(squares), 2.0)
    return np.divide(squares, expected, out=factor, where=expected > 1e-12)[()]


def with_pseudo_clusters(
    mean: Any, error: float, clusters: Any, largest: Any = 1.0
) -> tuple[Any, Any]:
    """Centre and standard error of a mean, valid also where hardly any cluster differs, or none.

    Two pseudo-clusters are added, one at ``largest`` and one at −``largest`` (Bonett & Price 2012,
    Journal of Educational and Behavioral Statistics 37, 479–488, for pairs of 0/1;
    ``effects.contrasts`` does the same). Their influence vanishes as the number of clusters grows.
    """
    n = clusters + 2
    squares = error**2 * clusters * (clusters - 1) + 2 * largest**2 + 2 * clusters * mean**2 / n
    return clusters * mean / n, np.sqrt(squares / (n * (n - 1)))


def t_adjustment(df: ArrayLike, level: float) -> Any:
    """Return (z / t)², by which an effective sample size is multiplied.

    It allows for the estimation of the standard error with ``df`` degrees of freedom (Korn &
    Graubard 1998, Survey Methodology 24, 193–201).
    """
    return (special.ndtri((1 + level) / 2) / special.stdtrit(df, (1 + level) / 2)) ** 2


def wilson_interval(share: ArrayLike, size: ArrayLike, level: float) -> np.ndarray:
    """Wilson's score limits (2, …) of proportions with (effective) sample sizes ``size``."""
    require_fraction(level=level)
    low, high = proportion_confint(np.multiply(share, size), size, 1 - level, "wilson")
    # The limits enclose the share, but rounding errors can exclude a share of 0 or 1.
    return np.stack([np.minimum(low, share), np.maximum(high, share)])


def mover_interval(
    value: float, limits: tuple[float, float], other: float, limits_of_other: tuple[float, float]
) -> tuple[float, float]:
    """Limits of ``value`` − ``other`` from the limits of the two independent estimates.

    MOVER: method of variance estimates recovery (Zou & Donner 2008).

    Examples
    --------
    >>> low, high = mover_interval(50, (40, 60), 30, (30, 30))
    >>> print(low, high)
    10.0 30.0
    """
    (low, high), (other_low, other_high) = limits, limits_of_other
    below = np.hypot(value - low, other_high - other)
    above = np.hypot(high - value, other - other_low)
    return value - other - below, value - other + above


def monte_carlo(outcomes: pd.DataFrame, name: str) -> pd.DataFrame:
    """Share of True in each column, with its exact (Clopper–Pearson) 95 % interval.

    Returns rows for ``results.result``, with the names of the columns in the column ``name``.
    """
    low, high = proportion_confint(outcomes.sum(), len(outcomes), method="beta")
    columns = {"estimate": outcomes.mean(), "ci_low": low, "ci_high": high, "n": len(outcomes)}
    table = pd.DataFrame(columns | {"unit": "share", "method": "Monte Carlo, Clopper–Pearson"})
    return table.rename_axis(name).reset_index()
