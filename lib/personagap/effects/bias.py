"""Personalization bias (PB) and how much of it is noise."""

import functools
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from personagap.effects._table import POINTS, Cells, by_task, cells, checked
from personagap.effects.anova import mean_squares
from personagap.errors import UserError

_CHUNK_CELLS = 1_000_000  # draws × items held at once: some 20 MB


class Moments(NamedTuple):
    """Observed PB² of one task and the error variances of an identity's mean, as squared proportions."""

    pb2: float
    item_noise: float  # from items and runs
    phrasing_noise: float  # from identity × phrasing beyond that (0 with one phrasing; signed)
    phrasing_spread: float  # variance of identity × phrasing means over the number of phrasings
    k: int

    @property
    def noise(self) -> float:
        return max(self.item_noise + self.phrasing_noise, self.phrasing_spread)

    @property
    def debiased(self) -> float:
        return self.pb2 - (self.k - 1) / self.k * (self.item_noise + self.phrasing_noise)


def personalization_bias(
    scores: pd.DataFrame,
    *,
    controls: tuple[str, ...] = ("none", "assistant"),
    n_permutations: int = 2000,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Spread of the mean score over identities, with its noise floor, p-value and debiased square.

    PB² is the population variance over identities of the mean score (arXiv 2406.11107); the joint
    PB² is the sum over tasks. PB is positive even without any effect (T12), hence the other columns.
    The controls are no identities and are left out everywhere (T15).

    Parameters
    ----------
    scores : one row per graded answer, ``persona task item score`` and optionally ``template run``;
        ``score`` in [0, 1]. Runs of a cell are averaged, whatever their number. A task's items that some
        identity did not answer are left out of that task; ``n_items`` counts what remains.
    controls : personas that are not identities.
    n_permutations, n_bootstrap : Monte-Carlo draws.
    level : confidence level of the interval.
    seed : of all random draws.

    Returns
    -------
    DataFrame with one row per task and ``joint``: ``dimension pb noise_floor p_value debiased_pb2 ci_low
    ci_high n_identities n_items n_runs``. ``pb`` and ``noise_floor`` are in points (100 × score),
    ``debiased_pb2`` and its interval in points²; ``n_runs`` is the largest number of runs in a cell.

    Raises
    ------
    UserError : fewer than two identities, or fewer than two items that all identities answered.

    Notes
    -----
    *Noise floor and p-value*: identity labels are permuted within item × template; the cells of runs stay
    together. A draw relabels each item's cells at random once and then shifts them cyclically by a fresh
    random amount. These shifts form a subgroup of all within-item permutations, so the p-value
    (1 + #{PB* ≥ PB}) / (1 + draws) is exact (Hemerik & Goeman 2018), and E[PB*²] is that of the full group.

    *Debiased PB²*: (MS_identity − MS_residual)/n of the identity × item layout, times (k − 1)/k, which puts
    it on the scale of PB². It is unbiased, hence signed.

    *Several phrasings* are a random factor: identity × phrasing variance counts as noise in the debiased
    value and its interval; PB* is compared after dividing both by their own noise (as in an F ratio), and
    the floor is raised when phrasings vary by more than items and runs explain. So an effect that lives
    in one phrasing is not called an effect.

    *Interval*: bootstrap over items, inverted. For a candidate truth θ the identity means are rescaled so
    that the bootstrap world's PB² is θ (as observed it would be too large by the noise floor); the interval
    holds the θ under which the estimate lies between the α/2 and 1 − α/2 quantiles. Its lower end continues
    linearly below 0, where it says that no effect is needed to explain the scores.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> scores = simulate_scores([-4, 4] * 5, n_items=300, n_runs=3, seed=1)  # true PB 4, PB² 16
    >>> bias = personalization_bias(scores)
    >>> bias[["dimension", "pb", "noise_floor", "p_value", "debiased_pb2", "ci_low", "ci_high"]].round(3)
      dimension     pb  noise_floor  p_value  debiased_pb2  ci_low  ci_high
    0      mmlu  4.124        1.285      0.0        15.325   9.019   23.851
    1     joint  4.124        1.285      0.0        15.325   9.019   23.851
    """
    scores = checked(scores)
    scores = scores[~scores["persona"].isin(controls)]
    rngs = iter(np.random.default_rng(seed).spawn(2 * scores["task"].nunique()))
    tasks = {task: identity_cells(rows, task) for task, rows in by_task(scores)}
    if not tasks:
        raise UserError(f"scores hold no identities beside the controls {', '.join(controls)}")
    _same_identities(tasks)
    moments = {task: moments_of(table.mean) for task, table in tasks.items()}
    drawn = {task: permuted(table.mean, n_permutations, next(rngs)) for task, table in tasks.items()}
    noise = {task: _Bootstrap.draw(table.mean, n_bootstrap, next(rngs)) for task, table in tasks.items()}

    def row(dimension: str, names: list[str]) -> dict:
        counts = [tasks[name] for name in names]
        low, high = _interval([moments[name] for name in names], [noise[name] for name in names], level)
        return {
            "dimension": dimension,
            **null_of([moments[name] for name in names], [drawn[name] for name in names]),
            "debiased_pb2": POINTS**2 * sum(moments[name].debiased for name in names),
            "ci_low": POINTS**2 * low,
            "ci_high": POINTS**2 * high,
            "n_identities": len(counts[0].personas),
            "n_items": sum(len(table.items) for table in counts),
            "n_runs": max(int(table.runs.max()) for table in counts),
        }

    return pd.DataFrame([*(row(task, [task]) for task in tasks), row("joint", list(tasks))])


def identity_cells(rows: pd.DataFrame, task: str) -> Cells:
    """The items that all identities answered in all templates."""
    table = cells(rows, task).complete()
    if len(table.personas) < 2:
        raise UserError(f"{task}: personalization bias needs at least two identities, the scores hold one")
    if len(table.items) < 2:
        raise UserError(
            f"{task}: {len(table.items)} items were answered by all identities in all templates; 2 are needed"
        )
    return table


def _same_identities(tasks: dict) -> None:
    everyone = set().union(*(table.personas for table in tasks.values()))
    for task, table in tasks.items():
        if lacking := everyone - set(table.personas):
            raise UserError(
                f"{task}: no scores of {sorted(lacking)[0]}, which other tasks have; the joint PB needs all"
            )


def moments_of(x: np.ndarray) -> Moments:
    """From the mean squares of identity × phrasing × item cell means ``x`` (k × T × n)."""
    k, n_templates, n = x.shape
    square = {effect: ms.value / (n * n_templates) for effect, ms in mean_squares(x, "ipj").items()}
    spread = square.get("ip", 0.0)
    return Moments(square["i"] * (k - 1) / k, square["ij"], spread - square.get("ipj", 0.0), spread, k)


def permuted(x: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """PB² (first row) and identity × phrasing variance / T (second row) of relabelled scores."""
    k, n_templates, _ = x.shape
    means = np.stack([_shifted_means(x[:, t].T, n_draws, rng) for t in range(n_templates)], axis=2)
    pb2 = means.mean(axis=2).var(axis=1)
    if n_templates == 1:
        return np.stack([pb2, np.zeros(n_draws)])
    rest = means - means.mean(axis=2, keepdims=True)
    rest = rest - rest.mean(axis=1, keepdims=True)
    return np.stack([pb2, (rest**2).sum(axis=(1, 2)) / ((k - 1) * (n_templates - 1)) / n_templates])


def _shifted_means(values: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Identity means (draws × k) after a random cyclic relabelling of each row of ``values`` (n × k).

    A sparse 0/1 matrix sums the rows that share a draw's shift: n · k additions a draw, and only n random
    numbers. Single precision does, once the row means, which do not matter to PB, are taken off.
    """
    n, k = values.shape
    values = rng.permuted(values - values.mean(axis=1, keepdims=True), axis=1).astype(np.float32)
    means = []
    for size in _chunks(n_draws, n):
        shifts = rng.integers(k, size=(n, size), dtype=np.int32) + k * np.arange(size, dtype=np.int32)
        starts = np.arange(n + 1, dtype=np.int32) * size
        group = sparse.csc_array((_ones(n * size, np.float32), shifts.ravel(), starts), shape=(size * k, n))
        sums = (group @ values).reshape(size, k, k).astype(float)
        means.append(sum(np.roll(sums[:, shift], shift, axis=1) for shift in range(k)) / n)
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
        if m.phrasing_spread == 0:
            floor, scaled = floor + draws, scaled + draws
            continue
        floor = floor + draws * max(1.0, m.noise / spread.mean())
        scaled = scaled + draws * m.noise / np.maximum(spread, 1e-30)
    exceeding = np.count_nonzero(scaled >= pb2 * (1 - 1e-6) - 1e-18)  # ties count, rounding does not
    return {
        "pb": POINTS * pb2**0.5,
        "noise_floor": POINTS * float(np.sqrt(floor).mean()),
        "p_value": (1 + exceeding) / (1 + len(floor)),
    }


class _Bootstrap(NamedTuple):
    """Per draw: mean square of the resampled errors, their product with the effects, the noise estimate."""

    error2: np.ndarray
    cross: np.ndarray
    noise: np.ndarray

    @classmethod
    def draw(cls, x: np.ndarray, n_draws: int, rng: np.random.Generator) -> "_Bootstrap":
        """Resample items; phrasings are too few to resample, so their noise is drawn as Gaussian."""
        k, n_templates, n = x.shape
        centred = (x.mean(axis=1) - x.mean(axis=(0, 1))).T
        effect = centred.mean(axis=0)
        columns = np.column_stack([centred, (centred**2).sum(axis=1)])
        means = np.concatenate([_resampled_means(columns, size, rng) for size in _chunks(n_draws, n)])
        residual = means[:, -1] - (means[:, :-1] ** 2).sum(axis=1)
        noise = residual / (k * (n - 1))  # (k − 1)/k · MS_residual / n
        # n/(n − 1): resampling understates the variance of a mean by that factor
        error = (means[:, :-1] - effect) * np.sqrt(n / (n - 1))
        observed = moments_of(x)
        if n_templates > 1:
            # The phrasing variance rests on few degrees of freedom: each draw has its own plausible value.
            df = (k - 1) * (n_templates - 1)
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


def _interval(moments: list[Moments], noise: list[_Bootstrap], level: float) -> tuple[float, float]:
    """Truths θ under which the debiased estimate is not surprising, by inverting the bootstrap."""
    estimate = sum(m.debiased for m in moments)
    share = np.array([max(m.debiased, 0.0) for m in moments])
    if not share.any():
        share = np.array([m.pb2 for m in moments])
    if not share.any():
        return 0.0, 0.0  # every identity scored the same
    share = share / share.sum()
    base = sum(b.error2 - b.noise for b in noise)
    # Effects scaled by c have PB² = c²·pb2, so θ·share needs c = √(θ·share / pb2).
    slope = sum(2 * np.sqrt(s / m.pb2) * b.cross for s, m, b in zip(share, moments, noise, strict=True) if s)

    def surplus(theta: float, quantile: float) -> float:
        root = max(theta, 0.0) ** 0.5
        return np.quantile(base + root * slope, quantile) + theta - estimate

    def solve(quantile: float) -> float:
        low = high = estimate - np.quantile(base, quantile)
        if low <= 0:
            return low
        while surplus(high, quantile) < 0:
            high *= 2
        low = 0.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if surplus(middle, quantile) < 0 else (low, middle)
        return high

    return solve((1 + level) / 2), max(solve((1 - level) / 2), 0.0)
