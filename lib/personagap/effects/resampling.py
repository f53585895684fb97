"""PB of one task under random signs and bootstrap.

Shared by `personalization_bias`, `bias_equivalence`, `omnibus` and `paired_change`.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import sparse

from personagap.effects._table import POINTS, ROUNDING
from personagap.effects.anova import mean_squares
from personagap.effects.paired import pseudo_difference
from personagap.errors import require_at_least

#: Draws × items held in memory at once, some 20 MB.
_CHUNK_CELLS = 1_000_000


class Moments(NamedTuple):
    """Observed PB² of a task and error variances of an identity's mean, as squared proportions."""

    pb2: float
    item_noise: float  # from items and runs
    phrasing_noise: float  # from identity × phrasing beyond that (0 with one phrasing; signed)
    phrasing_spread: float  # variance of identity × phrasing means over the number of phrasings
    k: int  # identities

    @classmethod
    def of(cls, x: np.ndarray) -> "Moments":
        """Compute the moments of identity × phrasing × item cell means ``x`` (k × T × n)."""
        k, n_templates, n = x.shape
        squares = mean_squares(x, "ipj")
        square = {effect: ms.value / (n * n_templates) for effect, ms in squares.items()}
        pb2, spread = square["i"] * (k - 1) / k, square.get("ip", 0.0)
        return cls(pb2, square["ij"], spread - square.get("ipj", 0.0), spread, k)

    @property
    def noise(self) -> float:
        """Error variance of an identity's mean, at least that of the phrasings alone."""
        return max(self.item_noise + self.phrasing_noise, self.phrasing_spread)

    @property
    def debiased(self) -> float:
        """Unbiased estimate of the true PB², possibly negative."""
        # PB² divides by k, but its noise has k − 1 degrees of freedom.
        return self.pb2 - (self.k - 1) / self.k * (self.item_noise + self.phrasing_noise)

    def phrasing_draws(
        self, n_templates: int, n_draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw plausible values (n_draws,) of the phrasing noise.

        With few degrees of freedom, a plug-in estimate would make intervals too short.
        """
        df, within = (self.k - 1) * (n_templates - 1), self.phrasing_spread - self.phrasing_noise
        return np.maximum(self.phrasing_spread * df / rng.chisquare(df, n_draws) - within, 0)


def collapse_clusters(x: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Replace each cluster of items (last axis) by one pseudo-item.

    The mean is unchanged, and the spread is that of the clusters.
    """
    mean = x.mean(axis=-1, keepdims=True)
    return mean + cluster_sums(x - mean, codes)


def cluster_sums(x: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Sums of ``x`` over clusters of items (last axis), scaled so that the mean is unchanged.

    Used for `flipped` without centring: centred on the overall mean, a small cluster would reflect
    that mean more than its own items.
    """
    groups = codes.max() + 1
    if groups == x.shape[-1]:
        return x
    # Sums rather than means: a large cluster has more weight in the mean of items, and so in its
    # error.
    return x @ np.eye(groups)[codes] * groups / x.shape[-1]


def flipped(x: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Null distribution of PB² when the deviations of each item get a random sign.

    Returns
    -------
    (2, n_draws) : PB², and the identity × phrasing variance over the number of phrasings (0 with
        one phrasing).
    """
    require_at_least(1, n_permutations=n_draws)
    k, n_templates, _ = x.shape
    # All identities of an item share a sign, so their dependence within items is preserved.
    deviations = x - x.mean(axis=0)
    by_phrasing = [_flipped_means(deviations[:, t].T, n_draws, rng) for t in range(n_templates)]
    means = np.stack(by_phrasing, axis=2)
    pb2 = (means.mean(axis=2) ** 2).mean(axis=1)
    if n_templates == 1:
        return np.stack([pb2, np.zeros(n_draws)])
    squares = (means - means.mean(axis=2, keepdims=True)) ** 2
    variance = squares.sum(axis=(1, 2)) / ((k - 1) * (n_templates - 1))
    return np.stack([pb2, variance / n_templates])


def _flipped_means(values: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Means of the rows of ``values`` (n × k), each with a random sign: (draws × k)."""
    # Single precision suffices: a p-value needs no more than seven digits.
    n, values, means = len(values), values.astype(np.float32), []
    for size in _chunks(n_draws, n):
        # Each random byte gives eight signs.
        octets = rng.integers(256, size=(size, (n + 7) // 8), dtype=np.uint8)
        bits = np.unpackbits(octets, axis=1, count=n)
        means.append((bits.astype(np.float32) * 2 - 1) @ values / n)
    return np.concatenate(means).astype(float)


@functools.lru_cache(maxsize=2)
def _ones(size: int) -> np.ndarray:
    """Weights of sparse sums, cached because allocating memory takes longer than the sums."""
    return np.ones(size)


def _chunks(n_draws: int, n: int) -> list[int]:
    """Numbers of draws to make at once, so that draws × n values fit in memory."""
    size = min(max(1, _CHUNK_CELLS // n), n_draws, 128)
    return [size] * (n_draws // size) + ([n_draws % size] if n_draws % size else [])


def pb_test(moments: list[Moments], nulls: list[np.ndarray]) -> dict[str, float]:
    """Test PB, jointly over tasks, against its distribution under random signs (`flipped`).

    Returns
    -------
    ``pb`` and ``noise_floor`` (mean PB under random signs) in points, and ``p_value`` of the sum
    over tasks of PB² in units of its noise.
    """
    zero = np.zeros_like(nulls[0][0])
    pb2, observed, floor, scaled = 0.0, 0.0, zero, zero
    for m, (draws, spread) in zip(moments, nulls, strict=True):
        # Equal scores differ by rounding errors, which must not be tested against each other.
        if draws.mean() < ROUNDING**2:
            continue
        # With phrasings, observed and drawn PB² are each divided by their own noise: the drawn data
        # have no identity × phrasing variance besides their own.
        several = m.phrasing_spread > 0
        noise = m.noise if several else draws.mean()
        pb2, observed = pb2 + m.pb2, observed + m.pb2 / noise
        scaled = scaled + draws / (np.maximum(spread, 1e-30) if several else noise)
        floor = floor + draws * (max(1.0, noise / spread.mean()) if several else 1.0)
    # Ties count as exceeding, up to rounding errors.
    exceeding = np.count_nonzero(scaled >= observed * (1 - 1e-6) - 1e-9)
    return {
        "pb": POINTS * pb2**0.5,
        "noise_floor": POINTS * float(np.sqrt(floor).mean()),
        "p_value": (1 + exceeding) / (1 + len(floor)),
    }


class Bootstrap(NamedTuple):
    """Errors of PB² in bootstrap samples of items, one value per draw.

    ``error2`` is the mean square of the errors of the identity means, ``cross`` their product with
    an effect of PB 1, and ``noise`` the estimated noise of PB².
    """

    error2: np.ndarray
    cross: np.ndarray
    noise: np.ndarray

    @classmethod
    def draw(
        cls,
        x: np.ndarray,
        n_draws: int,
        items: np.random.Generator,
        rest: np.random.Generator,
        one_answer: float,
    ) -> "Bootstrap":
        """Resample the items of cell means ``x`` (k × T × n) with the generator ``items``.

        Two sources of error are too rare or have too few units to be resampled and are drawn as
        Gaussian with the generator ``rest``: the noise of phrasings, and two pseudo-items of
        opposite sign along the observed effect, as in `paired.clustered_mean`. A pseudo-item has
        the largest effect of any item, or ``one_answer`` where no item shows any.
        """
        # With 20 draws the limits of a 95 % interval are the smallest and the largest draw.
        require_at_least(20, n_bootstrap=n_draws)
        k, n_templates, n = x.shape
        centred = (x.mean(axis=1) - x.mean(axis=(0, 1))).T
        effect = centred.mean(axis=0)
        columns = np.column_stack([centred, (centred**2).sum(axis=1)])
        means = resampled_means(columns, n_draws, items)
        residual = means[:, -1] - (means[:, :-1] ** 2).sum(axis=1)
        # (k − 1)/k · MS_residual / n from the same draw, as the two errors are correlated.
        noise = residual / (k * (n - 1))
        # Resampling underestimates the variance of a mean by (n − 1)/n.
        error = (means[:, :-1] - effect) * np.sqrt(n / (n - 1))
        # An error along the effect changes PB² in proportion to its size, an error across it only
        # by its square.
        direction = effect / np.linalg.norm(effect) if effect.any() else np.eye(k)[0]
        pseudo = 2**0.5 * pseudo_difference(centred @ direction, one_answer, binary=False) / n
        error = error + rest.normal(size=(n_draws, 1)) * pseudo * direction
        noise = noise + pseudo**2 / k
        if n_templates > 1:
            observed, df = Moments.of(x), (k - 1) * (n_templates - 1)
            within = observed.phrasing_spread - observed.phrasing_noise
            excess = observed.phrasing_draws(n_templates, n_draws, rest)
            jitter = rest.normal(size=error.shape) * np.sqrt(excess)[:, None]
            error = error + jitter - jitter.mean(axis=1, keepdims=True)
            spread = (within + excess) * rest.chisquare(df, n_draws) / df
            noise = noise + (k - 1) / k * (spread - within)
        return cls((error**2).mean(axis=1), error @ direction / k**0.5, noise)


def resampled_means(values: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Bootstrap means over the rows of ``values`` (n, or n × columns).

    Returns (draws,) or (draws × columns). A generator in the same state draws the same rows,
    whatever the columns.
    """
    n, means = len(values), []
    for size in _chunks(n_draws, n):
        starts = np.arange(size + 1, dtype=np.int32) * n
        picks = rng.integers(n, size=size * n, dtype=np.int32)
        sums = sparse.csr_array((_ones(size * n), picks, starts), shape=(size, n)) @ values
        means.append(sums / n)
    return np.concatenate(means)
