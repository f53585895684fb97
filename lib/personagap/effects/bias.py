"""Personalization bias (PB) and how much of it is noise."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import optimize

from personagap.effects._table import POINTS, Cells, identity_cells, nonresponders
from personagap.effects.resampling import (
    Bootstrap,
    Moments,
    cluster_sums,
    clustered,
    flipped,
    null_of,
)
from personagap.errors import UserError, shares
from personagap.results import corrected, generator, require, result


def personalization_bias(
    scores: pd.DataFrame,
    *,
    cluster: str | None = None,
    n_permutations: int = 2000,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Spread of the mean score over identities, with its noise floor, p-value and debiased square.

    PB² is the population variance over identities of the mean score (arXiv 2406.11107); the joint
    PB² is the sum over tasks. PB is positive even without any effect (S12), hence the other
    columns. The controls are no identities and are left out everywhere (S15).

    Parameters
    ----------
    scores : one row per graded answer, ``persona task item score`` and optionally ``template run``;
        ``score`` in [0, 1]. Runs of a cell are averaged, whatever their number. Cells that are
        missing are filled by the additive fit of identities and items to the others, which takes
        them to be missing for reasons that identity and item explain; items that half of the
        identities lack are left out, with a warning, and so is an identity that answered less than
        a third of the items that others did.
    cluster : column of ``scores`` that names clusters of items whose answers go together (an MMLU
        subject); without it every item stands alone.
    n_permutations, n_bootstrap, level, seed : draws of the test and of the interval, its level,
        their seed.

    Returns
    -------
    DataFrame with one row per task and ``joint``: ``dimension pb noise_floor p_value debiased_pb2
    ci_low ci_high n_identities n_items n_runs n_missing p_adjusted family``. ``pb`` and
    ``noise_floor`` are in points (100 × score), ``debiased_pb2`` and its interval in points²;
    ``n_runs`` is the largest number of runs in a cell, ``n_missing`` counts the cells filled.
    ``p_adjusted`` is Holm's over the tasks (none shares an item with another, so the min-p of
    Westfall & Young would gain nothing but Šidák's .001); that of ``joint`` is its own.

    Raises
    ------
    UserError : fewer than two identities, or fewer than two items that most identities answered.

    Notes
    -----
    *Noise floor and p-value*: the deviations of an item's cells from their mean change sign
    together, at random. The null is equal means over the population of items, whatever the
    identities' variances, runs, or answers that go together within an item; relabelling identities
    within items, which takes cells for exchangeable, rejects it in 10–23 % of such data. (1 + #{PB*
    ≥ PB}) / (1 + draws) is exact for deviations symmetric about 0 (Hemerik & Goeman 2018), else a
    wild bootstrap (Friedrich, Konietschke & Pauly 2017). The joint p-value sums PB² over tasks in
    units of its noise, so that a small task's noise does not hide a large task's effect.

    *Debiased PB²*: (MS_identity − MS_residual)/n of the identity × item layout, times (k − 1)/k,
    which puts it on the scale of PB². It is unbiased, hence signed.

    *Several phrasings* are a random factor: identity × phrasing variance counts as noise in the
    debiased value and its interval; signs are drawn within phrasings, and PB* is compared after
    dividing both by their own noise (as in an F ratio, so this p-value is approximate), and the
    floor is raised when phrasings vary by more than items and runs explain. So an effect that lives
    in one phrasing is not called an effect.

    *Interval*: bootstrap over items, inverted. For a candidate truth θ the identity means are
    rescaled so that the bootstrap world's PB² is θ (as observed it would be too large by the noise
    floor); the interval holds the θ under which the estimate lies between the α/2 and 1 − α/2
    quantiles. Its lower end continues linearly below 0, where it says that no effect is needed to
    explain the scores. Two pseudo-items along the observed effect keep it honest where hardly an
    item shows one (`resampling.Bootstrap`), as in `contrasts`.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> scores = simulate_scores([-4, 4] * 5, n_items=300, n_runs=3, seed=1)  # true PB 4, PB² 16
    >>> bias = personalization_bias(scores)
    >>> shown = ["dimension", "pb", "noise_floor", "p_value", "debiased_pb2", "ci_low", "ci_high"]
    >>> bias[shown].round(3)
      dimension     pb  noise_floor  p_value  debiased_pb2  ci_low  ci_high
    0      mmlu  4.124        1.273      0.0        15.325   8.719   24.326
    1     joint  4.124        1.273      0.0        15.325   8.719   24.326
    """
    shares(level=level)
    tasks = identity_cells(scores, cluster)
    _same_identities(tasks, nonresponders(scores))
    means = {task: clustered(table.mean, table.clusters) for task, table in tasks.items()}
    rngs = iter(generator(seed).spawn(2 * len(tasks)))
    moments = {task: Moments.of(x) for task, x in means.items()}
    sums = {task: cluster_sums(table.mean, table.clusters) for task, table in tasks.items()}
    drawn = {task: flipped(x, n_permutations, next(rngs)) for task, x in sums.items()}
    errors = {
        task: Bootstrap.draw(x, n_bootstrap, rng := next(rngs), rng, 1 / tasks[task].runs.max())
        for task, x in means.items()
    }
    rows: list[dict] = []
    for dimension, names in [*((task, [task]) for task in tasks), ("joint", list(tasks))]:
        # Of one task the joint PB is that of the task, and the interval takes longest of all.
        if dimension == "joint" and len(tasks) == 1:
            rows.append(rows[0] | {"dimension": dimension, "tests": dimension})
            break
        own, cells = [moments[name] for name in names], [tasks[name] for name in names]
        low, high = interval(own, [errors[name] for name in names], level)
        row = {"dimension": dimension, **null_of(own, [drawn[name] for name in names])}
        row["debiased_pb2"] = POINTS**2 * sum(m.debiased for m in own)
        row |= {"ci_low": POINTS**2 * low, "ci_high": POINTS**2 * high}
        row["n_identities"] = max(len(table.personas) for table in cells)
        row["n_items"] = sum(len(table.items) for table in cells)
        row["n_runs"] = max(int(table.runs.max()) for table in cells)
        row["n_missing"] = sum(table.missing for table in cells)
        # Joint needs no correction for them.
        row["tests"] = "joint" if dimension == "joint" else "tasks"
        rows.append(row)
    table = corrected(pd.DataFrame(rows), ["tests"])
    del table["tests"]
    return table


def pb_corrected(bias: pd.DataFrame) -> pd.DataFrame:
    """PB without its noise: the roots of the debiased PB² and its interval, 0 of what is negative.

    Parameters
    ----------
    bias : of `personalization_bias`, or `by_condition` of it.

    Returns
    -------
    Keys ``condition`` (where there are some) and ``dimension``, and the ``results.COLUMNS``, in
    points.
    """
    require(bias, "results of bias", "dimension", "debiased_pb2", "ci_low", "ci_high", "n_items")
    keys = [name for name in ("condition", "dimension") if name in bias]
    columns = ["estimate", "ci_low", "ci_high"]
    squares = bias[["debiased_pb2", "ci_low", "ci_high"]].set_axis(columns, axis=1)
    roots = squares.clip(lower=0) ** 0.5
    known = {"metric": "pb_corrected", "unit": "points", "method": "item bootstrap"}
    return result(bias[keys].assign(**roots, n=bias["n_items"]), keys, **known)


def _same_identities(tasks: dict[str, Cells], nonresponding: dict[str, set[str]]) -> None:
    everyone = set().union(*(table.personas for table in tasks.values()))
    for task, table in tasks.items():
        if lacking := everyone - set(table.personas) - nonresponding.get(task, set()):
            raise UserError(
                f"{task}: no scores of {sorted(lacking)[0]}, which other tasks have; the joint "
                "PB needs all"
            )


def inverted(
    moments: list[Moments], errors: list[Bootstrap]
) -> tuple[float, Callable[[float], np.ndarray]]:
    """Debiased PB², and the function that draws it in a world whose true PB² is θ."""
    estimate = sum(m.debiased for m in moments)
    # A joint θ is spread over tasks as the estimates are; without any, as PB² itself, or evenly.
    share = np.array([max(m.debiased, 0.0) for m in moments])
    if not share.any():
        share = np.array([m.pb2 for m in moments])
    if not share.any():
        share = np.ones(len(moments))
    share = share / share.sum()
    base = sum(b.error2 - b.noise for b in errors)
    slope = sum(2 * np.sqrt(s) * b.cross for s, b in zip(share, errors, strict=True))
    return estimate, lambda theta: base + theta**0.5 * slope + theta


def interval(moments: list[Moments], errors: list[Bootstrap], level: float) -> tuple[float, float]:
    """Truths θ under which the debiased estimate is not surprising, by inverting the bootstrap."""
    estimate, world = inverted(moments, errors)

    def solve(quantile: float) -> float:
        def surplus(theta: float) -> float:
            return _quantile(world(theta), quantile) - estimate

        high = -surplus(0.0)
        # Even a world without effect shows more: go on below 0 in a straight line.
        if high <= 0:
            return high
        while surplus(high) < 0:
            high *= 2
        return optimize.brentq(surplus, 0.0, high, xtol=1e-15)

    # No true PB² is negative, and the interval must hold some truth; only its lower end goes on
    # below 0.
    return solve((1 + level) / 2), max(solve((1 - level) / 2), 0.0)


def _quantile(values: np.ndarray, quantile: float) -> float:
    """`np.quantile` of a vector, in a fifth of its time for a few hundred values."""
    place = quantile * (len(values) - 1)
    below = min(int(place), len(values) - 2)
    low, high = np.partition(values, (below, below + 1))[below : below + 2]
    share = place - below
    # Either way round as there, so that the last digit is the same.
    return high - (high - low) * (1 - share) if share >= 0.5 else low + (high - low) * share
