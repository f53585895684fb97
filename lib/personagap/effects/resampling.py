"""PB of one task under permutation and bootstrap: what `personalization_bias`, `omnibus` and `paired_change` share."""

import functools
from typing import NamedTuple

import numpy as np
from scipy import sparse

from personagap.effects._table import POINTS
from personagap.effects.anova import mean_squares
from personagap.errors import at_least

_CHUNK_CELLS = 1_000_000  # draws × items held at once: some 20 MB


class Moments(NamedTuple):
    """Observed PB² of one task and the error variances of an identity's mean, as squared proportions."""

    pb2: float
    item_noise: float  # from items and runs
    phrasing_noise: float  # from identity × phrasing beyond that (0 with one phrasing; signed)
    phrasing_spread: float  # variance of identity × phrasing means over the number of phrasings
    k: int

    @classmethod
    def of(cls, x: np.ndarray) -> "Moments":
        """From the mean squares of identity × phrasing × item cell means ``x`` (k × T × n)."""
        k, n_templates, n = x.shape
        square = {effect: ms.value / (n * n_templates) for effect, ms in mean_squares(x, "ipj").items()}
        spread = square.get("ip", 0.0)
        return cls(square["i"] * (k - 1) / k, square["ij"], spread - square.get("ipj", 0.0), spread, k)

    @property
    def noise(self) -> float:
        return max(self.item_noise + self.phrasing_noise, self.phrasing_spread)

    @property
    def debiased(self) -> float:
        return self.pb2 - (self.k - 1) / self.k * (self.item_noise + self.phrasing_noise)


def permuted(x: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """PB² (first row) and identity × phrasing variance / T (second row) of relabelled scores."""
    at_least(1, n_permutations=n_draws)
    k, n_templates, _ = x.shape
    means = np.stack([_relabelled_means(x[:, t].T, n_draws, rng) for t in range(n_templates)], axis=2)
    pb2 = means.mean(axis=2).var(axis=1)
    if n_templates == 1:
        return np.stack([pb2, np.zeros(n_draws)])
    rest = means - means.mean(axis=2, keepdims=True)
    rest = rest - rest.mean(axis=1, keepdims=True)
    return np.stack([pb2, (rest**2).sum(axis=(1, 2)) / ((k - 1) * (n_templates - 1)) / n_templates])


def _relabelled_means(values: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Identity means (draws × k) after a random rotation or reflection of each row of ``values`` (n × k).

    A sparse 0/1 matrix sums the rows that are turned alike in a draw: n · k additions a draw, and only n random
    numbers. Single precision does, once the row means, which do not matter to PB, are taken off. The identities
    are put on their circle in random order, so that the order they come in does not matter.
    """
    n, k = values.shape
    values = (values - values.mean(axis=1, keepdims=True))[:, rng.permutation(k)].astype(np.float32)
    means = []
    for size in _chunks(n_draws, n):
        turns = rng.integers(2 * k, size=(n, size), dtype=np.int32) + 2 * k * np.arange(size, dtype=np.int32)
        starts = np.arange(n + 1, dtype=np.int32) * size
        group = sparse.csc_array((_ones(n * size, np.float32), turns.ravel(), starts), shape=(size * 2 * k, n))
        sums = (group @ values).reshape(size, 2, k, k).astype(float)
        sums = sums[:, 0] + sums[:, 1, :, ::-1]  # the second half are reflected, then turned as well
        means.append(sum(np.roll(sums[:, turn], turn, axis=1) for turn in range(k)) / n)
    return np.concatenate(means)


@functools.lru_cache(maxsize=2)
def _ones(size: int, dtype: type) -> np.ndarray:
    """Weights of sparse sums, kept because touching fresh memory takes longer than the sums."""
    return np.ones(size, dtype)


def _chunks(n_draws: int, n: int) -> list[int]:
    size = min(max(1, _CHUNK_CELLS // n), n_draws, 128)
    return [size] * (n_draws // size) + ([n_draws % size] if n_draws % size else [])


def null_of(moments: list[Moments], drawn: list[np.ndarray]) -> dict[str, float]:
    """PB, its mean under permutation and the p-value, summed over the tasks given."""
    pb2 = sum(m.pb2 for m in moments)
    floor, scaled = 0.0, 0.0
    for m, (draws, spread) in zip(moments, drawn, strict=True):
        several = m.phrasing_spread > 0
        floor = floor + draws * (max(1.0, m.noise / spread.mean()) if several else 1.0)
        scaled = scaled + draws * (m.noise / np.maximum(spread, 1e-30) if several else 1.0)
    exceeding = np.count_nonzero(scaled >= pb2 * (1 - 1e-6) - 1e-18)  # ties count, rounding does not
    return {
        "pb": POINTS * pb2**0.5,
        "noise_floor": POINTS * float(np.sqrt(floor).mean()),
        "p_value": (1 + exceeding) / (1 + len(floor)),
    }


class Bootstrap(NamedTuple):
    """Per draw: mean square of the resampled errors, their product with the effects, the noise estimate."""

    error2: np.ndarray
    cross: np.ndarray
    noise: np.ndarray

    @classmethod
    def draw(cls, x: np.ndarray, n_draws: int, rng: np.random.Generator) -> "Bootstrap":
        """Resample items; phrasings are too few to resample, so their noise is drawn as Gaussian."""
        at_least(20, n_bootstrap=n_draws)  # the ends of a 95 % interval are the least and the largest of 20 draws
        k, n_templates, n = x.shape
        centred = (x.mean(axis=1) - x.mean(axis=(0, 1))).T
        effect = centred.mean(axis=0)
        columns = np.column_stack([centred, (centred**2).sum(axis=1)])
        means = np.concatenate([_resampled_means(columns, size, rng) for size in _chunks(n_draws, n)])
        residual = means[:, -1] - (means[:, :-1] ** 2).sum(axis=1)
        noise = residual / (k * (n - 1))  # (k − 1)/k · MS_residual / n
        # n/(n − 1): resampling understates the variance of a mean by that factor
        error = (means[:, :-1] - effect) * np.sqrt(n / (n - 1))
        if n_templates > 1:
            # The phrasing variance rests on few degrees of freedom: each draw has its own plausible value.
            observed, df = Moments.of(x), (k - 1) * (n_templates - 1)
            within = observed.phrasing_spread - observed.phrasing_noise
            spread = observed.phrasing_spread * df / rng.chisquare(df, n_draws)
            excess = np.maximum(spread - within, 0.0)
            jitter = rng.normal(size=error.shape) * np.sqrt(excess)[:, None]
            error = error + jitter - jitter.mean(axis=1, keepdims=True)
            noise = noise + (k - 1) / k * ((within + excess) * rng.chisquare(df, n_draws) / df - within)
        return cls((error**2).mean(axis=1), (error * effect).mean(axis=1), noise)


def _resampled_means(columns: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    n = len(columns)
    starts = np.arange(n_draws + 1, dtype=np.int32) * n
    picks = rng.integers(n, size=n_draws * n, dtype=np.int32)
    return sparse.csr_array((_ones(n_draws * n, float), picks, starts), shape=(n_draws, n)) @ columns / n
