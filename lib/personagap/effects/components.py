"""Variance components of single answers: identity, item, phrasing, run and their interactions."""

from math import prod

import numpy as np
import pandas as pd

from personagap.effects._table import POINTS, ROUNDING, Cells, identity_cells
from personagap.effects.anova import level_contributions, mean_squares, subsets
from personagap.effects.resampling import resampled_means
from personagap.errors import require_fraction
from personagap.results import random_generator, result

_NAMES = {"i": "identity", "p": "phrasing", "j": "item"}
#: Draws of the mean squares: a hundred lie beyond each limit of a 95 % interval.
_DRAWS = 4000


def variance_components(
    scores: pd.DataFrame, *, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Variance components of single answers.

    Identities, phrasings, items and runs are crossed random factors.

    Parameters
    ----------
    scores : rows ``persona task item score``, optionally ``template run``, ``score`` in [0, 1].
        Missing cells are imputed as in `personalization_bias`.
    level : confidence level of the intervals.
    seed : seed of the draws.

    Returns
    -------
    Keys ``task component`` and the ``results.COLUMNS`` (``n`` levels of the component), two rows
    for each component: the metric "variance", in points², is unbiased and hence signed; the
    "share" of the total and its interval lie in [0, 1], with negative components counted as 0.
    Components are "identity", "item" and "identity × item"; with several templates also "phrasing"
    and its interactions; with several runs "run", the variance between runs of a cell. With one run
    the highest interaction includes the variance between runs.

    Raises
    ------
    UserError : as `personalization_bias`.

    Notes
    -----
    Moment estimators from the mean squares of the balanced layout of cell means (Searle, Casella &
    McCulloch, *Variance Components*, ch. 4); unequal runs enter by their harmonic mean. They agree
    with REML on balanced data and are fast at any size. Intervals are generalised confidence
    intervals (Burdick, Borror & Montgomery 2005): all mean squares are redrawn jointly. Those that
    do not involve items are redrawn as MS · df / χ², which assumes normal effects. The others, and
    that of runs, are averages over items, and binary answers are far from normal, so items are
    resampled: a draw is MS · MS / MS*. Where only a few of some 60 items are hard, 95 % intervals
    cover in about 90 %.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> from personagap.results import wide
    >>> scores = simulate_scores([-9, -3, 0, 3, 9], n_items=300, n_runs=3, seed=0)
    >>> wide(variance_components(scores)).drop(columns="task").round(3)
             component     n  variance  share  share_low  share_high
    0         identity     5    31.416  0.013      0.004       0.101
    1             item   300   880.601  0.351      0.301       0.390
    2  identity × item  1500    55.621  0.022      0.001       0.044
    3              run  4500  1540.000  0.614      0.548       0.656
    """
    require_fraction(level=level)
    rng = random_generator(seed)
    tasks = identity_cells(scores)
    tables = [_components(table, rng, level).assign(task=task) for task, table in tasks.items()]
    return result(pd.concat(tables), ["task", "component"])


def _components(table: Cells, rng: np.random.Generator, level: float) -> pd.DataFrame:
    """Rows of one task: variances and shares of all components."""
    sizes = dict(zip("ipj", table.mean.shape, strict=True))
    runs = table.runs[table.runs > 0]
    run_df = int((runs - 1).sum())
    squares = {effect: (ms.value, ms.df) for effect, ms in mean_squares(table.mean, "ipj").items()}
    squares["run"] = (np.nansum(table.within) / max(run_df, 1), run_df)
    by_item = level_contributions(table.mean, "ipj", "j")
    by_item["run"] = np.nansum(table.within, axis=(0, 1))
    relative = {effect: part / max(part.mean(), 1e-30) for effect, part in by_item.items()}
    means = resampled_means(np.column_stack([*relative.values()]), _DRAWS, rng)
    # A resample without any of the few items that carry an effect would give a division by 0.
    resampled = dict(zip(relative, np.maximum(means, 1e-3).T, strict=True))
    # The observed value of each mean square, followed by its draws.
    drawn = {}
    for effect, (value, df) in squares.items():
        if effect in resampled:
            draws = value / resampled[effect]
        else:
            # Identities and phrasings are too few to be resampled: normal effects are assumed.
            draws = value * df / rng.chisquare(max(df, 1), _DRAWS)
        drawn[effect] = np.append(value, draws)
    components = _solve(drawn, sizes, float((1 / runs).mean()))
    if run_df == 0:
        del components["run"]
    share = _shares(list(components.values()))
    low, high = np.quantile(share[:, 1:], [(1 - level) / 2, (1 + level) / 2], axis=1)
    crossed = [effect for effect in components if effect != "run"]
    names = [" × ".join(_NAMES[letter] for letter in effect) for effect in crossed]
    levels = [prod(sizes[letter] for letter in effect) for effect in crossed]
    if "run" in components:
        names, levels = [*names, "run"], [*levels, table.runs.sum()]
    labels = pd.DataFrame({"component": names, "n": levels})
    points = [POINTS**2 * float(values[0]) for values in components.values()]
    variance = labels.assign(estimate=points, metric="variance", unit="points²", method="moments")
    shares = labels.assign(estimate=share[:, 0], ci_low=low, ci_high=high, metric="share")
    shares = shares.assign(unit="share", method="moments, generalised interval")
    return pd.concat([variance, shares])


def _solve(
    squares: dict[str, np.ndarray], sizes: dict[str, int], per_answer: float
) -> dict[str, np.ndarray]:
    """Solve the expected mean squares for the components, by inclusion and exclusion.

    E[MS_S] = Σ over U ⊇ S of σ²_U × (cells per level of U). ``per_answer`` is the mean of 1 / runs.
    """
    factors = "".join(letter for letter, size in sizes.items() if size > 1)
    solved = {}
    for effect in subsets(factors):
        above = [other for other in subsets(factors) if set(other) >= set(effect)]
        total = sum((-1) ** (len(other) - len(effect)) * squares[other] for other in above)
        noise = squares["run"] * per_answer if effect == factors else 0.0
        cells = prod(sizes[letter] for letter in factors if letter not in effect)
        solved[effect] = (total - noise) / cells
    return solved | {"run": squares["run"]}


def _shares(components: list[np.ndarray]) -> np.ndarray:
    """Shares of the total variance (components × draws)."""
    # Negative estimates count as 0, so that shares stay between 0 and 1.
    positive = np.maximum(components, 0.0)
    total = positive.sum(axis=0)
    return np.divide(positive, total, out=np.zeros_like(positive), where=total > ROUNDING**2)
