"""Which identities, without 31 tests: effects shrunk towards their category and the mean, by
partial pooling.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from personagap.effects._table import POINTS, Cells, group, identity_cells
from personagap.effects.paired import largest_difference
from personagap.effects.resampling import Moments, clustered
from personagap.errors import UserError
from personagap.limits import student
from personagap.results import generator, result

_GRID, _DRAWS = 30, 4000


class Pooled(NamedTuple):
    """Posterior of the effects on a grid of the two standard deviations."""

    weight: np.ndarray  # (points,) probability of each pair of standard deviations
    mean: np.ndarray  # (points, k) of the effects
    error: np.ndarray  # (k, k) covariance of the estimates' errors
    # (points, k, k) of which error − shrunk @ error is the covariance of the effects.
    shrunk: np.ndarray

    def draws(self, contrast: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Of linear contrasts (m × k) of the effects: (m, draws), each contrast by itself."""
        point = rng.choice(len(self.weight), _DRAWS, p=self.weight)
        # Most points have no weight, so those that are drawn are worked out once each.
        used, point = np.unique(point, return_inverse=True)
        centre = (self.mean @ contrast.T)[used]
        covariance = self.error - self.shrunk[used] @ self.error
        spread = np.sqrt(np.maximum(np.einsum("mk,pkl,ml->pm", contrast, covariance, contrast), 0))
        return (centre[point] + spread[point] * rng.normal(size=(_DRAWS, len(contrast)))).T


def partial_pooling(
    scores: pd.DataFrame,
    by: Mapping[Any, str] | None = None,
    *,
    cluster: str | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Effects of all identities (and categories) at once, each shrunk by how much noise it holds.

    The largest of 31 raw differences is mostly noise. Here identities are taken as drawn from their
    category and categories as drawn from all, so what they have in common says how far to believe
    each: estimates are shrunk towards the category's, and that towards the mean.

    Parameters
    ----------
    scores, cluster : as in `personalization_bias`; three identities or more.
    by : persona → category, of three categories or more, e.g. ``dict(zip(who["persona"],
        who["category"]))``.
    level, seed : of the intervals.

    Returns
    -------
    DataFrame ``task level contrast metric …``, in points, each identity (or category) less the mean
    of all identities. Level "identity": "raw effect", "shrunken effect", "new item" (what it will
    show on one more item asked as often) and, with several phrasings, "new phrasing" (its effect if
    stated in one more way); the last two are prediction intervals. Level "category": "raw effect"
    and "shrunken effect" of the mean of its identities.

    Raises
    ------
    UserError : fewer than three identities or categories; an identity without a category.

    Notes
    -----
    yᵢ = μ + category + identity + error, all normal; the error's covariance is that of the crossed
    identity × item layout, identities of a category erring on the same items together, plus
    identity × phrasing. The two standard deviations are not plugged in but averaged over their
    posterior under a flat prior (Gelman et al., Bayesian Data Analysis, 3rd ed., §5.4; plugged in,
    as in Morris 1983, intervals are too short for few identities). So intervals hold the truth in
    ``level`` of *identities*; of one that is alone in being different they do so less often. There
    are no tests here.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> scores = simulate_scores([-6, 0, 0, 0, 0, 0], n_items=300, n_runs=2, seed=1)
    >>> pooled = partial_pooling(scores).query("contrast == 'p00 − mean'")
    >>> pooled[["metric", "estimate", "ci_low", "ci_high"]].round(2)
                metric  estimate  ci_low  ci_high
    0       raw effect     -3.78   -6.97    -0.59
    1  shrunken effect     -1.40   -4.85     0.47
    2         new item     -1.40  -57.03    59.02
    """
    tasks, rows = identity_cells(scores, cluster), []
    rngs = generator(seed).spawn(len(tasks))
    for (task, table), rng in zip(tasks.items(), rngs, strict=True):
        groups = _groups(table, by, task)
        pooled, error = _pool(table, groups)
        rows += [{"task": task, **row} for row in _rows(table, pooled, error, groups, level, rng)]
    method = "partial pooling, hierarchical normal model"
    return result(rows, ["task", "level", "contrast"], unit="points", method=method)


def _groups(table: Cells, by: Mapping[Any, str] | None, task: str) -> pd.Series:
    """Category of each identity; all are one where there are none."""
    if len(table.personas) < 3:
        problem = f"partial pooling needs three identities or more, there are {len(table.personas)}"
        raise UserError(f"{task}: {problem}")
    if by is None:
        return pd.Series("", index=table.personas)
    if lacking := [persona for persona in table.personas if persona not in by]:
        remedy = "name one, or leave the identity out"
        raise UserError(f"{task}: no category of {lacking[0]!r} in by=: {remedy}")
    groups = pd.Series({persona: group(by, persona) for persona in table.personas})
    if groups.nunique() < 3:
        problem = f"partial pooling needs three categories or more, there are {groups.nunique()}"
        raise UserError(f"{task}: {problem}")
    return groups


def _pool(table: Cells, of: pd.Series) -> tuple[Pooled, np.ndarray]:
    x, binary = clustered(table.mean, table.clusters), table.binary
    of_item = x.mean(axis=1)
    k, n = of_item.shape
    # Items that are hard for all say nothing of differences, and would drown them.
    deviation = of_item - of_item.mean(axis=0)
    covariance = np.cov(deviation)
    same = of.to_numpy()[:, None] == of.to_numpy()
    apart, within = ~same, same & ~np.eye(k, dtype=bool)
    # What a category shares is its own error.
    common = covariance[apart if apart.any() else within].mean()
    shared = covariance[within].mean() - common if within.any() and apart.any() else 0.0
    largest = np.array([largest_difference(row, 1 / table.runs.max(), binary) for row in deviation])
    own = np.diag(covariance) - common
    # Each is part of the mean that it deviates from.
    own = (own - 2 / k * own.mean()) / (1 - 2 / k)
    # Two pseudo-items, as in `paired.clustered_mean`: where hardly an answer differs, the spread
    # seen is too small.
    own = np.maximum(own, 0) + 2 * largest**2 / n
    # Below each identity's own error, or the covariance would not be one.
    shared = np.clip(shared, 0, 0.95 * own.min())
    error = (np.diag(own - shared) + shared * same) / n
    error = error + np.eye(k) * max(Moments.of(x).phrasing_noise, 0)
    groups = of.to_numpy() if apart.any() else None
    return hierarchical(of_item.mean(axis=1), error, groups), error


def hierarchical(y: np.ndarray, error: np.ndarray, group: np.ndarray | None = None) -> Pooled:
    """Effects behind estimates ``y`` (k) with covariance ``error`` (k × k), of identities within
    ``group``.

    Flat priors on the mean and on the standard deviations of identities and of groups, up to four
    times the spread.
    """
    k, identities = len(y), np.eye(len(y))
    # A flat prior needs an end, here far beyond the raw spread, which holds noise too. The error is
    # added, for estimates that are all alike would leave no grid.
    top = 4 * np.std(y, ddof=1) + np.diag(error).mean() ** 0.5
    grid = (np.arange(_GRID) + 0.5) / _GRID * top
    between = np.zeros((k, k)) if group is None else (group[:, None] == group).astype(float)
    pairs = np.array([(a, b) for a in grid for b in (grid if group is not None else [0.0])])
    total = error + pairs[:, :1, None] ** 2 * identities + pairs[:, 1:, None] ** 2 * between
    # The mean is integrated out in closed form, which leaves a grid of two dimensions only.
    precision = np.linalg.inv(total)
    weight_of_mean = precision.sum(axis=(1, 2))
    ones = precision.sum(axis=2)
    projected = precision - ones[:, :, None] * ones[:, None, :] / weight_of_mean[:, None, None]
    log = -0.5 * (np.linalg.slogdet(total)[1] + np.log(weight_of_mean) + (projected @ y) @ y)
    weight = np.exp(log - log.max())
    shrunk = error @ projected
    return Pooled(weight / weight.sum(), y - shrunk @ y, error, shrunk)


def _rows(
    table: Cells,
    pooled: Pooled,
    error: np.ndarray,
    group: pd.Series,
    level: float,
    rng: np.random.Generator,
) -> list[dict]:
    k, _, n = table.mean.shape
    of_item = table.mean.mean(axis=1)
    y = of_item.mean(axis=1)
    each = zip(table.personas, np.eye(k) - 1 / k, strict=True)
    contrasts = {("identity", persona): weights for persona, weights in each}
    names = list(dict.fromkeys(group))
    for name in names if len(names) > 1 else []:
        member = (group == name).to_numpy()
        contrasts["category", name] = member / member.sum() - 1 / k
    weights = np.array(list(contrasts.values()))
    drawn, raw = pooled.draws(weights, rng), weights @ y
    # Known without draws, whose mean would move with the seed.
    expected = weights @ (pooled.weight @ pooled.mean)
    limits = student(raw, np.sqrt(np.einsum("mk,kl,ml->m", weights, error, weights)), n - 1, level)
    tails = [(1 - level) / 2, (1 + level) / 2]
    apart, shrunken = of_item - of_item.mean(axis=0), np.quantile(drawn, tails, axis=1).T
    rows = []
    for place, (where, name) in enumerate(contrasts):
        effect = drawn[place]
        found = {
            "raw effect": (raw[place], limits[:, place]),
            "shrunken effect": (expected[place], shrunken[place]),
        }
        if where == "identity":
            # The item's own deviation is drawn as it was seen: an answer is right or wrong, and a
            # normal distribution would promise scores that cannot be. Nearest, for the same reason.
            item = effect + rng.choice(apart[place] - raw[place], _DRAWS)
            found["new item"] = expected[place], np.quantile(item, tails, method="nearest")
            if table.mean.shape[1] > 1:
                phrased = effect + _phrasing(table.mean, rng)
                found["new phrasing"] = expected[place], np.quantile(phrased, tails)
        who = {"level": where, "contrast": f"{name} − mean", "n": n}
        for metric, (estimate, ends) in found.items():
            low, high = POINTS * ends
            row = {"metric": metric, "estimate": POINTS * estimate, "ci_low": low, "ci_high": high}
            rows.append(who | row)
    return rows


def _phrasing(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws of identity × phrasing, whose variance is itself uncertain."""
    n_templates = x.shape[1]
    variance = n_templates * Moments.of(x).phrasing_draws(n_templates, _DRAWS, rng)
    return np.sqrt(variance) * rng.normal(size=_DRAWS)
