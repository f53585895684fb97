"""Partial pooling: effects of identities shrunk towards their category and the overall mean."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from personagap.effects._table import POINTS, Cells, group_name, identity_cells
from personagap.effects.paired import pseudo_difference
from personagap.effects.resampling import Moments, collapse_clusters
from personagap.errors import UserError
from personagap.limits import cluster_correction, cluster_df, t_interval
from personagap.results import random_generator, result

_GRID_SIZE, _DRAWS = 30, 4000


class Posterior(NamedTuple):
    """Posterior of the effects, on a grid of the two standard deviations."""

    weight: np.ndarray  # (points,) probability of each pair of standard deviations
    mean: np.ndarray  # (points, k) posterior means of the effects
    error: np.ndarray  # (k, k) covariance of the estimates' errors
    # (points, k, k) shrinkage: error − shrunk @ error is the posterior covariance of the effects.
    shrunk: np.ndarray

    def draws(self, contrast: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw linear contrasts (m × k) of the effects: (m, draws), from their marginals."""
        point = rng.choice(len(self.weight), _DRAWS, p=self.weight)
        # Most grid points have negligible weight, so only those drawn are computed.
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
    """Effects of all identities (and categories), shrunk according to their noise.

    The largest of 31 raw differences is mostly noise. Here identities are random draws from their
    category, and categories from a common distribution. The spread estimated from all of them
    determines how far each estimate is shrunk towards its category, and that towards the mean.

    Parameters
    ----------
    scores, cluster : as in `personalization_bias`, with at least three identities.
    by : persona → category, with at least three categories, such as ``dict(zip(who["persona"],
        who["category"]))``.
    level : probability of the intervals.
    seed : seed of the draws.

    Returns
    -------
    DataFrame ``task level contrast metric …``, in points: each identity (or category) minus the
    mean of all identities. Level "identity": "raw effect", "shrunken effect", "new item" (the
    difference on one more item with as many runs) and, with several phrasings, "new phrasing" (the
    effect if the identity is stated in one more way); the last two are prediction intervals. Level
    "category": "raw effect" and "shrunken effect" of the mean of its identities.

    Raises
    ------
    UserError : fewer than three identities or categories; an identity without a category.

    Notes
    -----
    yᵢ = μ + category + identity + error, all normal. The covariance of the errors is that of the
    crossed identity × item layout, with correlated errors of the identities of a category on the
    same items, plus identity × phrasing. The two standard deviations are not plugged in but
    integrated over their posterior under a flat prior (Gelman et al., Bayesian Data Analysis, 3rd
    ed., §5.4); plug-in intervals, as in Morris 1983, are too short for few identities. Intervals
    cover ``level`` of the *identities*; coverage is lower for a single identity that differs from
    all others; with five items, shrunken effects of 20 identities are covered in 90 %. No tests are
    made.

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
    rngs = random_generator(seed).spawn(len(tasks))
    for (task, table), rng in zip(tasks.items(), rngs, strict=True):
        categories = _categories(table, by, task)
        posterior = _posterior(table, categories)
        rows += [{"task": task, **row} for row in _rows(table, posterior, categories, level, rng)]
    method = "partial pooling, hierarchical normal model"
    return result(rows, ["task", "level", "contrast"], unit="points", method=method)


def _categories(table: Cells, by: Mapping[Any, str] | None, task: str) -> pd.Series:
    """Category of each identity; a single one for all without ``by``."""
    if len(table.personas) < 3:
        problem = f"partial pooling needs three identities or more, there are {len(table.personas)}"
        raise UserError(f"{task}: {problem}")
    if by is None:
        return pd.Series("", index=table.personas)
    if lacking := [persona for persona in table.personas if persona not in by]:
        remedy = "name one, or leave the identity out"
        raise UserError(f"{task}: no category of {lacking[0]!r} in by=: {remedy}")
    categories = pd.Series({persona: group_name(by, persona) for persona in table.personas})
    if (n_categories := categories.nunique()) < 3:
        problem = f"partial pooling needs three categories or more, there are {n_categories}"
        raise UserError(f"{task}: {problem}")
    return categories


def _posterior(table: Cells, categories: pd.Series) -> Posterior:
    """Estimate the error covariance of the identity means, and their posterior."""
    x, binary = collapse_clusters(table.mean, table.clusters), table.binary
    by_item = x.mean(axis=1)
    k, n = by_item.shape
    # The difficulty of items carries no information on differences, and would dominate them.
    deviation, sizes = by_item - by_item.mean(axis=0), np.bincount(table.clusters)
    covariance = np.cov(deviation, ddof=0) * cluster_correction(sizes)
    same = categories.to_numpy()[:, None] == categories.to_numpy()
    across, within = ~same, same & ~np.eye(k, dtype=bool)
    # The covariance across categories is due to centring. Within a category, any excess over it is
    # an error that its identities share.
    common = covariance[across if across.any() else within].mean()
    shared = covariance[within].mean() - common if within.any() and across.any() else 0.0
    items = table.mean.mean(axis=1)
    items = items - items.mean(axis=0)
    pseudo = np.array([pseudo_difference(row, 1 / table.runs.max(), binary) for row in items])
    variance = np.diag(covariance) - common
    # Each identity is part of the mean that it deviates from.
    variance = (variance - 2 / k * variance.mean()) / (1 - 2 / k)
    # Two pseudo-items, as in `paired.clustered_mean`: where hardly any answers differ, the observed
    # spread is too small. They are items also where the others come in clusters.
    variance = np.maximum(variance, 0) + 2 * pseudo**2 * n / sizes.sum() ** 2
    # The shared part must be below each variance, or the matrix would not be positive definite.
    shared = np.clip(shared, 0, 0.95 * variance.min())
    error = (np.diag(variance - shared) + shared * same) / n
    error = error + np.eye(k) * max(Moments.of(x).phrasing_noise, 0)
    group = categories.to_numpy() if across.any() else None
    return hierarchical(by_item.mean(axis=1), error, group)


def hierarchical(y: np.ndarray, error: np.ndarray, group: np.ndarray | None = None) -> Posterior:
    """Posterior of the effects behind estimates ``y`` (k,) with error covariance (k × k).

    ``group`` holds the category of each identity. Priors are flat on the mean and on the standard
    deviations of identities and of categories, up to four times the spread of ``y`` plus the root
    mean error variance.
    """
    k, identities = len(y), np.eye(len(y))
    # A flat prior needs an upper limit, here far beyond the raw spread, which includes noise. The
    # error is added because equal estimates would otherwise leave an empty grid.
    top = 4 * np.std(y, ddof=1) + np.diag(error).mean() ** 0.5
    grid = (np.arange(_GRID_SIZE) + 0.5) / _GRID_SIZE * top
    between = np.zeros((k, k)) if group is None else (group[:, None] == group).astype(float)
    pairs = np.array([(a, b) for a in grid for b in (grid if group is not None else [0.0])])
    total = error + pairs[:, :1, None] ** 2 * identities + pairs[:, 1:, None] ** 2 * between
    # The mean is integrated out in closed form, which leaves a grid of two dimensions.
    precision = np.linalg.inv(total)
    weight_of_mean = precision.sum(axis=(1, 2))
    ones = precision.sum(axis=2)
    projected = precision - ones[:, :, None] * ones[:, None, :] / weight_of_mean[:, None, None]
    log = -0.5 * (np.linalg.slogdet(total)[1] + np.log(weight_of_mean) + (projected @ y) @ y)
    weight = np.exp(log - log.max())
    shrunk = error @ projected
    return Posterior(weight / weight.sum(), y - shrunk @ y, error, shrunk)


def _rows(
    table: Cells,
    posterior: Posterior,
    categories: pd.Series,
    level: float,
    rng: np.random.Generator,
) -> list[dict]:
    """Rows of one task: all metrics of each identity, and of each category if there are several."""
    k, _, n = table.mean.shape
    by_item = table.mean.mean(axis=1)
    y = by_item.mean(axis=1)
    centring = zip(table.personas, np.eye(k) - 1 / k, strict=True)
    contrasts = {("identity", persona): weights for persona, weights in centring}
    names = list(dict.fromkeys(categories))
    for name in names if len(names) > 1 else []:
        member = (categories == name).to_numpy()
        contrasts["category", name] = member / member.sum() - 1 / k
    weights = np.array(list(contrasts.values()))
    drawn, raw = posterior.draws(weights, rng), weights @ y
    # The posterior mean is exact; the mean of the draws would depend on the seed.
    expected = weights @ (posterior.weight @ posterior.mean)
    error = np.sqrt(np.einsum("mk,kl,ml->m", weights, posterior.error, weights))
    limits = t_interval(raw, error, cluster_df(np.bincount(table.clusters)), level)
    tails = [(1 - level) / 2, (1 + level) / 2]
    deviation, shrunken = by_item - by_item.mean(axis=0), np.quantile(drawn, tails, axis=1).T
    rows = []
    for i, (kind, name) in enumerate(contrasts):
        effect = drawn[i]
        metrics = {
            "raw effect": (raw[i], limits[:, i]),
            "shrunken effect": (expected[i], shrunken[i]),
        }
        if kind == "identity":
            # Item deviations are drawn from those observed: scores are discrete, and a normal
            # distribution would predict impossible ones. Hence also the method "nearest".
            item = effect + rng.choice(deviation[i] - raw[i], _DRAWS)
            metrics["new item"] = expected[i], np.quantile(item, tails, method="nearest")
            if table.mean.shape[1] > 1:
                phrased = effect + _phrasing_effects(table.mean, rng)
                metrics["new phrasing"] = expected[i], np.quantile(phrased, tails)
        key = {"level": kind, "contrast": f"{name} − mean", "n": n}
        for metric, (estimate, interval) in metrics.items():
            low, high = POINTS * interval
            row = {"metric": metric, "estimate": POINTS * estimate, "ci_low": low, "ci_high": high}
            rows.append(key | row)
    return rows


def _phrasing_effects(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw identity × phrasing effects, allowing for the uncertainty of their variance."""
    n_templates = x.shape[1]
    variance = n_templates * Moments.of(x).phrasing_draws(n_templates, _DRAWS, rng)
    return np.sqrt(variance) * rng.normal(size=_DRAWS)
