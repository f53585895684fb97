"""How much of the variance of single answers is due to identity, item, phrasing, run and their
interactions.
"""

from math import prod

import numpy as np
import pandas as pd

from personagap.effects._table import POINTS, ROUNDING, Cells, identity_cells
from personagap.effects.anova import by_level, mean_squares, subsets
from personagap.effects.resampling import resampled_means
from personagap.errors import shares
from personagap.results import generator, result

_NAMES = {"i": "identity", "p": "phrasing", "j": "item"}
#: Of the mean squares: the ends of a 95 % interval then rest on a hundred draws each.
_DRAWS = 4000


def variance_components(
    scores: pd.DataFrame, *, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Variance components of an answer: identities, phrasings, items, runs crossed and random.

    Parameters
    ----------
    scores : rows ``persona task item score``, optionally ``template run``, ``score`` in [0, 1].
        missing cells are filled.
    level, seed : of the intervals.

    Returns
    -------
    Keys ``task component`` and the ``results.COLUMNS`` (``n`` levels of the component), two rows
    for each component: the metric "variance" in points² is unbiased, hence signed; "share" of the
    total, and its interval, lie in [0, 1] and count negative components as 0. Components:
    "identity", "item", "identity × item"; with several templates also "phrasing" and its
    interactions; with several runs "run", the variance between runs of a cell. With one run the
    highest interaction holds that too.

    Raises
    ------
    UserError : as `personalization_bias`.

    Notes
    -----
    Moment estimators from the mean squares of the balanced layout of cell means (Searle, Casella &
    McCulloch, *Variance Components*, ch. 4); unequal runs enter by their harmonic mean. They agree
    with REML on balanced data and take any size. Intervals are generalised confidence intervals
    (Burdick, Borror & Montgomery 2005): mean squares are redrawn together. Those that items have no
    part in are redrawn as MS · df / χ², for normal effects. The others are averages over items, and
    right or wrong answers are far from normal: items are resampled for them, and for the runs, as
    MS · MS / MS*. Where only a few of some 60 items are hard, intervals cover in about 90 %.
    Missing cells as in `personalization_bias`.

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
    shares(level=level)
    rng = generator(seed)
    tasks = identity_cells(scores)
    tables = [_components(table, rng, level).assign(task=task) for task, table in tasks.items()]
    return result(pd.concat(tables), ["task", "component"])


def _components(table: Cells, rng: np.random.Generator, level: float) -> pd.DataFrame:
    sizes = dict(zip("ipj", table.mean.shape, strict=True))
    runs = table.runs[table.runs > 0]
    run_df = int((runs - 1).sum())
    squares = {effect: (ms.value, ms.df) for effect, ms in mean_squares(table.mean, "ipj").items()}
    squares["run"] = (np.nansum(table.within) / max(run_df, 1), run_df)
    of_items = by_level(table.mean, "ipj", "j") | {"run": np.nansum(table.within, axis=(0, 1))}
    # A resample without any of the few items that carry the effect would divide by 0.
    shares = {effect: each / max(each.mean(), 1e-30) for effect, each in of_items.items()}
    means = resampled_means(np.column_stack([*shares.values()]), _DRAWS, rng)
    resampled = dict(zip(shares, np.maximum(means, 1e-3).T, strict=True))
    # Of each, the observed value and draws of it.
    drawn = {}
    for effect, (value, df) in squares.items():
        if effect in resampled:
            draws = value / resampled[effect]
        else:
            # Of few levels, identities or phrasings: too few to resample, so as of normal effects.
            draws = value * df / rng.chisquare(max(df, 1), _DRAWS)
        drawn[effect] = np.append(value, draws)
    solved = _solve(drawn, sizes, float((1 / runs).mean()))
    if run_df == 0:
        del solved["run"]
    share = _shares(list(solved.values()))
    low, high = np.quantile(share[:, 1:], [(1 - level) / 2, (1 + level) / 2], axis=1)
    crossed = [effect for effect in solved if effect != "run"]
    names = [" × ".join(_NAMES[letter] for letter in effect) for effect in crossed]
    levels = [prod(sizes[letter] for letter in effect) for effect in crossed]
    if "run" in solved:
        names, levels = [*names, "run"], [*levels, table.runs.sum()]
    known = pd.DataFrame({"component": names, "n": levels})
    points = [POINTS**2 * float(values[0]) for values in solved.values()]
    variance = known.assign(estimate=points, metric="variance", unit="points²", method="moments")
    parts = known.assign(estimate=share[:, 0], ci_low=low, ci_high=high, metric="share")
    parts = parts.assign(unit="share", method="moments, generalised interval")
    return pd.concat([variance, parts])


def _solve(
    squares: dict[str, np.ndarray], sizes: dict[str, int], per_answer: float
) -> dict[str, np.ndarray]:
    """Components by inclusion and exclusion of mean squares.

    E[MS_S] = Σ over U ⊇ S of σ²_U × (cells per level of U).
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
    # An estimated variance below 0 is none, so that shares stay between 0 and 1.
    positive = np.maximum(components, 0.0)
    total = positive.sum(axis=0)
    return np.divide(positive, total, out=np.zeros_like(positive), where=total > ROUNDING**2)
