"""Analysis of variance of balanced crossed layouts by direct summation, fast at any size."""

from collections.abc import Iterator
from itertools import combinations
from math import prod
from typing import NamedTuple

import numpy as np


class MeanSquare(NamedTuple):
    """Mean square of an effect, and its degrees of freedom."""

    value: float
    df: int


def subsets(factors: str) -> Iterator[str]:
    """Yield all non-empty subsets of ``factors`` (one letter each), by size."""
    for size in range(1, len(factors) + 1):
        yield from map("".join, combinations(factors, size))


def mean_squares(x: np.ndarray, factors: str) -> dict[str, MeanSquare]:
    """Mean squares of all main effects and interactions, with one observation per cell.

    Parameters
    ----------
    x : array with one axis per factor.
    factors : one letter per axis. An axis of length 1 is not a factor: its effects are left out.

    Returns
    -------
    Effect → mean square; an interaction is named by the letters of its factors.

    Examples
    --------
    >>> squares = mean_squares(np.array([[1.0, 2, 3], [3, 4, 8]]), "ab")
    >>> {name: (square.value, square.df) for name, square in squares.items()}
    {'a': (13.5, 1), 'b': (6.5, 2), 'ab': (1.5, 2)}
    """
    # A balanced layout needs no regression, whose design matrix would have a column per item.
    sizes = dict(zip(factors, x.shape, strict=True))
    table = {}
    for subset, effect in _effects(x, factors):
        df = prod(sizes[factor] - 1 for factor in subset)
        # The sum of squares runs over all cells, in which each effect occurs x.size / effect.size
        # times.
        table[subset] = MeanSquare(float((effect**2).sum()) * x.size / effect.size / df, df)
    return table


def level_contributions(x: np.ndarray, factors: str, factor: str) -> dict[str, np.ndarray]:
    """Contribution of each level of ``factor`` to the mean squares of the effects it is part of.

    Contributions are sums of squared effects, proportional to the mean squares.

    Examples
    --------
    >>> level_contributions(np.array([[1.0, 2, 3], [3, 4, 8]]), "ab", "b")["b"]
    array([2.25, 0.25, 4.  ])
    """
    other_axes = tuple(axis for axis, name in enumerate(factors) if name != factor)
    effects = ((subset, effect) for subset, effect in _effects(x, factors) if factor in subset)
    return {subset: (effect**2).sum(axis=other_axes) for subset, effect in effects}


def _effects(x: np.ndarray, factors: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the main effects and interactions of the factors that have at least two levels."""
    varying = "".join(factor for factor, size in zip(factors, x.shape, strict=True) if size > 1)
    for subset in subsets(varying):
        others = tuple(axis for axis, factor in enumerate(factors) if factor not in subset)
        effect = x.mean(axis=others, keepdims=True)
        # Centring along each axis in turn removes all that smaller subsets explain.
        for axis in (factors.index(factor) for factor in subset):
            effect = effect - effect.mean(axis=axis, keepdims=True)
        yield subset, effect


def impute_additive(y: np.ndarray) -> np.ndarray:
    """Fill the gaps (NaN) of ``y`` (rows × columns) so that row means are least-squares effects.

    An additive model of rows and columns is fitted to the observed cells and fills the gaps. The
    residuals of a row with n of N observed cells are scaled by N / n, so that their spread
    estimates the error of the row's mean. Any two rows must be connected by shared columns.

    Examples
    --------
    >>> impute_additive(np.array([[1.0, 2, np.nan], [3, 4, 8]]))
    array([[1., 2., 6.],
           [3., 4., 8.]])
    """
    observed = np.isfinite(y)
    if observed.all():
        return y
    values, per_row, per_column = np.where(observed, y, 0.0), observed.sum(axis=1), observed.sum(0)
    # Normal equations of the rows after eliminating the columns: k × k, whereas items are
    # thousands. They are singular, as a constant may move from rows to columns; lstsq returns one
    # solution, and any will do.
    share = observed / per_column
    normal = np.diag(per_row) - share @ observed.T
    rows = np.linalg.lstsq(normal, values.sum(axis=1) - share @ values.sum(axis=0))[0]
    fit = rows[:, None] + (values.sum(axis=0) - rows @ observed) / per_column
    return fit + np.where(observed, (y - fit) * (y.shape[1] / per_row)[:, None], 0.0)
