"""Analysis of variance of balanced crossed layouts, by direct summation: quick at any size."""

from collections.abc import Iterator
from itertools import combinations
from math import prod
from typing import NamedTuple

import numpy as np


class MeanSquare(NamedTuple):
    value: float
    df: int


def subsets(factors: str) -> Iterator[str]:
    """All non-empty subsets of ``factors`` (a letter each), by size."""
    for size in range(1, len(factors) + 1):
        yield from map("".join, combinations(factors, size))


def mean_squares(x: np.ndarray, factors: str) -> dict[str, MeanSquare]:
    """Mean square of every main effect and interaction of one observation per cell.

    Parameters
    ----------
    x : array with one axis per factor.
    factors : a letter for each axis. An axis of length 1 is no factor: its effects are left out.

    Examples
    --------
    >>> squares = mean_squares(np.array([[1.0, 2, 3], [3, 4, 8]]), "ab")
    >>> {name: (square.value, square.df) for name, square in squares.items()}
    {'a': (13.5, 1), 'b': (6.5, 2), 'ab': (1.5, 2)}
    """
    # Of a balanced layout sums need no regression, whose design would have a column for every item.
    sizes = dict(zip(factors, x.shape, strict=True))
    table = {}
    for subset, effect in _effects(x, factors):
        df = prod(sizes[factor] - 1 for factor in subset)
        # An effect is that of all cells of its levels, so it counts as often as there are cells.
        table[subset] = MeanSquare(float((effect**2).sum()) * x.size / effect.size / df, df)
    return table


def by_level(x: np.ndarray, factors: str, factor: str) -> dict[str, np.ndarray]:
    """What each level of ``factor`` adds, up to a constant, to the mean squares it is part of.

    Examples
    --------
    >>> by_level(np.array([[1.0, 2, 3], [3, 4, 8]]), "ab", "b")["b"]
    array([2.25, 0.25, 4.  ])
    """
    rest = tuple(axis for axis, name in enumerate(factors) if name != factor)
    effects = (pair for pair in _effects(x, factors) if factor in pair[0])
    return {subset: (effect**2).sum(axis=rest) for subset, effect in effects}


def _effects(x: np.ndarray, factors: str) -> Iterator[tuple[str, np.ndarray]]:
    """Main effects and interactions, of factors with two levels or more."""
    for subset in subsets(
        "".join(factor for factor, size in zip(factors, x.shape, strict=True) if size > 1)
    ):
        others = tuple(axis for axis, factor in enumerate(factors) if factor not in subset)
        effect = x.mean(axis=others, keepdims=True)
        # Means taken off along each axis in turn leave what no smaller subset explains.
        for axis in (factors.index(factor) for factor in subset):
            effect = effect - effect.mean(axis=axis, keepdims=True)
        yield subset, effect


def imputed(y: np.ndarray) -> np.ndarray:
    """``y`` (rows × columns) without gaps (NaN): row means are then the least-squares row effects.

    Rows and columns are additive, fitted to the cells there are. A gap gets the fit. The residuals
    of a row that has n of N cells count N / n times, so that their spread gives the error of its
    mean. Any two rows must be connected by columns that they share.

    Examples
    --------
    >>> imputed(np.array([[1.0, 2, np.nan], [3, 4, 8]]))
    array([[1., 2., 6.],
           [3., 4., 8.]])
    """
    there = np.isfinite(y)
    if there.all():
        return y
    known, per_row, per_column = np.where(there, y, 0.0), there.sum(axis=1), there.sum(axis=0)
    # Normal equations of the rows alone, columns eliminated: k × k, where items are thousands. They
    # are singular, as a constant may move from rows to columns: lstsq takes any such solution.
    share = there / per_column
    normal = np.diag(per_row) - share @ there.T
    rows = np.linalg.lstsq(normal, known.sum(axis=1) - share @ known.sum(axis=0))[0]
    fit = rows[:, None] + (known.sum(axis=0) - rows @ there) / per_column
    return fit + np.where(there, (y - fit) * (y.shape[1] / per_row)[:, None], 0.0)
