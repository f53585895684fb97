"""The cluster bootstrap behind every interval of ``gap``.

Units (prompt × user × attribute) are not independent: a prompt recurs across users and a user
across prompts. The cluster bootstrap draws whole clusters with replacement. Its variance V,
multiplied by G / (G − 1) for G equal clusters to undo the bootstrap's downward bias
(`limits.cluster_correction`), gives the interval estimate ± t √V with G − 1 degrees of freedom, G
being the effective number of clusters (`limits.cluster_df`). Where two factors cross,
V = V_prompt + V_user − V_prompt×user, each from its own bootstrap, and G − 1 is that of the smaller
factor (Cameron, Gelbach & Miller 2011, Journal of Business & Economic Statistics 29, 238–249). On
simulated judgments of this design (21 prompts × 40 users, similar to the real data) the interval
covers in 95–96 %; clustering by prompt alone covers in 90–93 % (``personagap.validation.gap``), and
the pigeonhole bootstrap (Owen 2007) in 97–100 %: needlessly wide.

A statistic that is the same in every cluster has V = 0, but it is not certain. Shares of 0 or 1 get
Wilson's interval at the number of clusters: G independent clusters are all at 1 with a probability
of at most (true share)^G, however strongly the judgments within a cluster are correlated, so they
count as G observations. The interval then reaches 3.84 / (G + 3.84) below 1, close to the rule of
three (Hanley & Lippman-Hand 1983, JAMA 249, 1743–1745). It covers shares of 95–99 % of 20 prompts
in all of 150 simulations; without it coverage is 15–65 %. Means of paired differences of shares get
two pseudo-clusters (`limits.with_pseudo_clusters`), as does any other statistic that is the same in
every cluster: one in its favour and one against it, of the size of the statistic, or of a step of 1
where it is 0. Four clusters at +1 are then not significant but six are, as in the sign test; and
two judges that never differed in the sample are not taken to be identical. All of this counts the
clusters of the units that a statistic is based on, such as those of who judged five of 40 prompts.
"""

import functools
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from personagap.errors import UserError, require_at_least, require_fraction
from personagap.limits import (
    cluster_correction,
    cluster_df,
    satterthwaite_df,
    t_interval,
    wilson_interval,
    with_pseudo_clusters,
)
from personagap.results import factorized, random_generator

#: Fewest resamples accepted; fewer give no usable standard error, and a report wants hundreds.
MIN_RESAMPLES = 20
#: Standard errors below this are 0 up to rounding.
TINY = 1e-9
#: Units that a statistic is based on, as a mask or weights: (n_units,), or (n_units, m) of m
#: statistics; None: all.
Where = ArrayLike | None


class How(TypedDict, total=False):
    """Keyword arguments of every function that returns intervals.

    cluster : column whose levels are drawn with replacement, or two columns that cross. Default:
        prompt and user.
    n_bootstrap : number of resamples of each factor. Default 2,000.
    level : coverage of the intervals. Default 0.95.
    seed : seed of the resamples. Default 0.
    """

    cluster: str | tuple[str, str]
    n_bootstrap: int
    level: float
    seed: int


@dataclass(frozen=True)
class Resampling:
    """Bootstrap multiplicities of the clusters, shared by all statistics of one analysis.

    Attributes
    ----------
    cell : (n_units,) cell, i.e. combination of clusters, of each unit.
    weights : (1 + k · n_bootstrap, n_cells) multiplicities. Row 0 is all ones, the sample itself,
        so a statistic of weighted sums yields its estimate and its resamples at once. Then follow k
        blocks: one (k = 1), or those of the two factors and of their cells (k = 3).
    codes : (k, n_cells) cluster of each cell in each block.
    level : coverage of the intervals.
    method : description of the intervals in words.
    """

    cell: np.ndarray
    weights: np.ndarray
    codes: np.ndarray
    level: float
    method: str

    @property
    def sizes(self) -> np.ndarray:
        """(k,) number of clusters of each block."""
        return self.codes.max(axis=1) + 1

    def _sizes(self, where: Where) -> list[np.ndarray]:
        """Units ``where`` in each cluster of each block: (size,), or (size, m) for m statistics."""
        weight = np.ones(len(self.cell)) if where is None else np.asarray(where, dtype=float)
        sizes = [np.zeros((size, *weight.shape[1:])) for size in self.sizes]
        for size, code in zip(sizes, self.codes, strict=True):
            np.add.at(size, code[self.cell], weight)
        return sizes

    def df(self, where: Where = None) -> Any:
        """Degrees of freedom of the standard error of a statistic of the units ``where``."""
        # With two crossed factors, those of the factor whose variance is estimated less precisely.
        return np.min([cluster_df(size) for size in self._sizes(where)], axis=0)

    def clusters(self, where: Where = None) -> Any:
        """Number of clusters that contain the units ``where``, for the factor with fewer."""
        return np.min([(size > 0).sum(axis=0) for size in self._sizes(where)], axis=0)

    def totals(self, values: np.ndarray, where: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Weighted sums (1 + k · n_bootstrap, m) of ``values`` (n_units, m) of units ``where``."""
        # All units of a cell have the same weight: sum them once, not in every resample.
        sums = np.zeros((self.weights.shape[1], values.shape[1]))
        np.add.at(sums, self.cell[where], values[where])
        return self.weights @ sums

    def ratio(
        self, x: np.ndarray, y: np.ndarray | float = 1.0, where: np.ndarray | slice = slice(None)
    ) -> np.ndarray:
        """Σ x / Σ y over units (1 + k · n_bootstrap,), or the mean of x; NaN where Σ y is 0."""
        top, bottom = self.totals(np.stack(np.broadcast_arrays(x, y), axis=1), where).T
        return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)

    def standard_error(self, values: np.ndarray, where: Where = None) -> np.ndarray:
        """Standard error of ``values`` (1 + k · n_bootstrap, …), statistics of the units ``where``.

        Undefined resamples are ignored.
        """
        blocks = values[1:].reshape(len(self.sizes), -1, *values.shape[1:])
        if not np.isfinite(blocks).all():  # Masked arrays take several times as long.
            blocks = np.ma.masked_invalid(blocks)
        factor = np.stack([cluster_correction(size) for size in self._sizes(where)])
        variance = (np.ma.filled(blocks.var(axis=1), np.nan).T * factor.T).T
        if len(variance) == 1:
            return np.sqrt(variance[0])
        # By chance the combined variance can fall below that of either factor.
        return np.sqrt(np.maximum(variance[:2].sum(axis=0) - variance[2], variance[:2].max(axis=0)))

    def interval(
        self,
        values: np.ndarray,
        low: ArrayLike = -np.inf,
        high: ArrayLike = np.inf,
        where: Where = None,
        share: ArrayLike = False,
        by_definition: ArrayLike = False,
    ) -> np.ndarray:
        """Confidence limits (2, …) of a statistic with range [``low``, ``high``].

        Parameters
        ----------
        where : units that it is based on, e.g. those in the denominator of a share.
        share : whether it is a share, with Wilson's interval where it is 0 or 1 in all clusters, or
            based on one (constant at another value it follows from a rule: five of each list).
        by_definition : whether one that does not vary cannot vary.
        """
        share, varies = np.asarray(share), ~np.asarray(by_definition)
        centre, error = self._centre_and_error(values, ~share & varies, where)
        limits = t_interval(centre, error, self.df(where), self.level, low, high)
        clusters = np.maximum(self.clusters(where), 1)
        constant = (error < TINY) & (np.isin(values[0], [0, 1]) | (clusters == 1)) & share & varies
        if constant.any():
            size = np.where(constant, clusters, np.nan)
            limits = np.where(constant, wilson_interval(values[0], size, self.level), limits)
        return limits

    def _centre_and_error(
        self, values: np.ndarray, pseudo: bool | np.ndarray, where: Where, step: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Centre and standard error of the interval; a statistic that does not vary gets
        ``pseudo``-clusters of its own size, or of a ``step`` where it is 0.
        """
        error = self.standard_error(values, where)
        constant, size = (error < TINY) & pseudo, np.abs(values[0])
        size = np.where(size < TINY, step, size)
        centre, pseudo_error = with_pseudo_clusters(values[0], 0.0, self.clusters(where), size)
        return np.where(constant, centre, values[0]), np.where(constant, pseudo_error, error)

    def row(self, values: np.ndarray, *of: Any, **also: Any) -> dict[str, np.ndarray]:
        """``estimate ci_low ci_high`` of a statistic; parameters as for `interval`."""
        limits = self.interval(values, *of, **also)
        return {"estimate": values[0], "ci_low": limits[0], "ci_high": limits[1]}

    def tested(
        self, values: np.ndarray, *of_raters: np.ndarray, where: Where = None, step: float = 1.0
    ) -> dict[str, np.ndarray]:
        """`row` of a difference, with the two-sided p-value of the t test that it is 0.

        Parameters
        ----------
        *of_raters : ``by_rater`` and ``judged`` of `over_raters`, to treat raters as random too.
        where : units that it is based on, unless raters are given, who judged those.
        step : smallest difference that matters, used where the difference is 0 throughout.
        """
        where = of_raters[1].any(axis=1) if of_raters else where
        df, (centre, error) = self.df(where), self._centre_and_error(values, True, where, step)
        if of_raters:
            rater_error, df = self.over_raters(values, *of_raters)
            # Pseudo-clusters are for statistics that vary neither over clusters nor over raters.
            if not rater_error < TINY:
                centre, error = values[0], np.asarray(rater_error)
        low, high = t_interval(centre, error, df, self.level)
        p_value = 2 * special.stdtr(df, -np.abs(centre / error))
        return {"estimate": values[0], "ci_low": low, "ci_high": high, "p_value": p_value}

    def over_raters(
        self, values: np.ndarray, by_rater: np.ndarray, judged: np.ndarray
    ) -> tuple[float, float]:
        """Standard error and Satterthwaite's degrees of freedom with raters as a random factor.

        The variance between raters, less the part that resampling attributes to noise, is added to
        that of clusters (as `effects.contrasts` does for phrasings). It is not added for a single
        rater, nor for raters who each judged in one cluster alone: the variance of clusters then
        contains it.

        Parameters
        ----------
        values : (1 + k · n_bootstrap,) the statistic over all raters.
        by_rater : (1 + k · n_bootstrap, n_raters) the statistic of each rater.
        judged : (n_units, n_raters) which rater judged which unit, as raters differ in weight.
        """
        active, used = judged.any(axis=0), judged.any(axis=1)
        df, error = float(self.df(used)), float(self.standard_error(values, used))
        squared_error, n_raters = error**2, int(active.sum())
        clusters_of_raters = [(size > 0).sum(axis=0) for size in self._sizes(judged[:, active])]
        if n_raters < 2 or any((number == 1).all() for number in clusters_of_raters[:2]):
            return error, df
        deviation = by_rater[:, active] - np.nanmean(by_rater[:, active], axis=1, keepdims=True)
        squares = (deviation[0] ** 2).sum(), (self.standard_error(deviation) ** 2).sum()
        # For raters of equal weight the sum of squared weights is one over their number.
        weights = judged[used] / judged[used].sum(axis=1, keepdims=True)
        weights2 = float((weights.mean(axis=0) ** 2).sum())
        between, within = (float(part) / (n_raters - 1) * weights2 for part in squares)
        # If raters differ less than their noise, subtracting it would make the error too small.
        variance = max(squared_error + between - within, squared_error, between)
        if not variance:
            return 0.0, df
        # With few raters, most of the uncertainty is in the variance between them.
        parts = (squared_error, df), (between, n_raters - 1)
        return variance**0.5, satterthwaite_df(variance, *parts, (within, df * (n_raters - 1)))


def resample(
    units: pd.MultiIndex | pd.DataFrame,
    *,
    cluster: str | tuple[str, str] = ("prompt", "user"),
    n_bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Resampling:
    """Draw the clusters of ``units``, given by index level or column, with replacement.

    See `How` for the other parameters.

    Raises
    ------
    UserError : no such factor, or only one level of it; ``n_bootstrap`` is too small, or ``level``
        is not between 0 and 1.
    """
    require_at_least(MIN_RESAMPLES, n_bootstrap=n_bootstrap)
    require_fraction(level=level)
    factors = list(cluster) if isinstance(cluster, (list, tuple)) else [cluster]
    if len(factors) not in (1, 2):
        raise UserError(f"cluster= takes one column or two that cross, not {len(factors)}")
    table, codes = units.to_frame() if isinstance(units, pd.Index) else units, []
    for factor in factors:
        if factor not in table:
            remedy = f"choose cluster= among {', '.join(map(str, table))}"
            raise UserError(f"no column {factor!r} in the judgments: {remedy}")
        # A missing name is a cluster like any other: a code of −1 would belong to no cell.
        codes.append(factorized(table[factor], use_na_sentinel=False)[0])
        if codes[-1].max() == 0:
            raise UserError(
                f"only one {factor} in the judgments, so no interval over {factor}s: change "
                "cluster="
            )
    shape = [code.max() + 1 for code in codes]
    # Only the cells that occur: with four users per prompt they are a tenth of all combinations.
    occurring, cell = np.unique(np.ravel_multi_index(codes, shape), return_inverse=True)
    cells = np.unravel_index(occurring, shape)
    blocks = [*cells, np.arange(len(occurring))] if len(factors) == 2 else [cells[0]]
    counts = _multiplicities(tuple(int(code.max()) + 1 for code in blocks), n_bootstrap, seed)
    weights = [count[:, code] for count, code in zip(counts, blocks, strict=True)]
    weights = [np.ones((1, len(occurring))), *weights]
    method = f"cluster bootstrap by {' and '.join(factors)}, {n_bootstrap} resamples, t interval"
    return Resampling(cell, np.concatenate(weights), np.stack(blocks), level, method)


@functools.lru_cache(maxsize=2)
def _multiplicities(sizes: tuple[int, ...], n_bootstrap: int, seed: int) -> list[np.ndarray]:
    """How often each cluster is drawn, (n_bootstrap, size) for each of the ``sizes``.

    Cached, because analyses of the same design draw the same resamples.
    """
    rng = random_generator(seed)
    # Drawing n of n with replacement is one multinomial draw; no index of units is needed.
    return [rng.multinomial(n, np.full(n, 1 / n), size=n_bootstrap) for n in sizes]
