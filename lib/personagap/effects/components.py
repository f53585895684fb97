"""How much of the variance of single answers is due to identity, item, phrasing, run and their interactions."""

from math import prod

import numpy as np
import pandas as pd

from personagap.effects._table import POINTS, Cells, by_task, checked
from personagap.effects.anova import mean_squares, subsets
from personagap.effects.bias import identity_cells
from personagap.effects.paired import CONTROLS

_NAMES = {"i": "identity", "p": "phrasing", "j": "item"}
_DRAWS = 4000


def variance_components(
    scores: pd.DataFrame, *, controls: tuple[str, ...] = CONTROLS, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Variance components of a single answer, identities, phrasings, items and runs crossed and random.

    Parameters
    ----------
    scores : rows ``persona task item score``, optionally ``template run``, ``score`` in [0, 1]. Items that
        some identity did not answer in some template are left out.
    controls : personas that are not identities.
    level, seed : of the intervals.

    Returns
    -------
    DataFrame, one row per task and component: ``task component variance unit share ci_low ci_high n_levels``.
    ``variance`` in points² is unbiased, hence signed; ``share`` of the total, and its interval, lie in [0, 1]
    and count negative components as 0. Components: "identity", "item", "identity × item"; with several
    templates also "phrasing" and its interactions; with several runs "run", the variance between runs of a
    cell. With one run the highest interaction holds that too.

    Raises
    ------
    UserError : as `personalization_bias`.

    Notes
    -----
    Moment estimators from the mean squares of the balanced layout of cell means (Searle, Casella & McCulloch,
    *Variance Components*, ch. 4); unequal runs enter by their harmonic mean. They agree with REML on balanced
    data and take any size. Intervals are generalised confidence intervals (Burdick, Borror & Montgomery
    2005): each mean square is redrawn as MS · df / χ².

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> scores = simulate_scores([-9, -3, 0, 3, 9], n_items=300, n_runs=3, seed=0)
    >>> variance_components(scores)[["component", "variance", "share", "ci_low", "ci_high"]].round(3)
             component  variance  share  ci_low  ci_high
    0         identity    31.416  0.013   0.004    0.103
    1             item   880.601  0.351   0.300    0.394
    2  identity × item    55.621  0.022   0.002    0.043
    3              run  1540.000  0.614   0.545    0.653
    """
    scores = checked(scores)
    rng = np.random.default_rng(seed)
    frames = []
    for task, part in by_task(scores[~scores["persona"].isin(controls)]):
        table = identity_cells(part, task)
        kept = part[part["item"].isin(table.items)]
        frames.append(_components(table, kept, rng, level).assign(task=task))
    columns = ["task", "component", "variance", "unit", "share", "ci_low", "ci_high", "n_levels"]
    return pd.concat(frames, ignore_index=True)[columns]


def _components(table: Cells, rows: pd.DataFrame, rng: np.random.Generator, level: float) -> pd.DataFrame:
    sizes = dict(zip("ipj", table.mean.shape, strict=True))
    squares = mean_squares(table.mean, "ipj")
    run_df = int((table.runs - 1).sum())
    spread = (rows["score"] ** 2).sum() - (table.runs * table.mean**2).sum()  # Σ (score − cell mean)²
    observed = {effect: np.array([ms.value]) for effect, ms in squares.items()} | {
        "run": np.array([spread / max(run_df, 1)])
    }
    dfs = {effect: ms.df for effect, ms in squares.items()} | {"run": run_df}
    redrawn = {effect: observed[effect] * df / rng.chisquare(max(df, 1), _DRAWS) for effect, df in dfs.items()}
    per_answer = float((1 / table.runs).mean())
    estimate, draws = (_solve(values, sizes, per_answer) for values in (observed, redrawn))
    if run_df == 0:
        estimate.pop("run"), draws.pop("run")
    share, shares = (_shares(np.stack(list(values.values()))) for values in (estimate, draws))
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2], axis=1)
    names = [" × ".join(_NAMES[letter] for letter in effect) if effect != "run" else effect for effect in estimate]
    levels = [prod(sizes[letter] for letter in effect) if effect != "run" else len(rows) for effect in estimate]
    variance = [POINTS**2 * float(value[0]) for value in estimate.values()]
    columns = {"component": names, "variance": variance, "unit": "points²", "share": share[:, 0]}
    return pd.DataFrame({**columns, "ci_low": low, "ci_high": high, "n_levels": levels})


def _solve(squares: dict[str, np.ndarray], sizes: dict[str, int], per_answer: float) -> dict[str, np.ndarray]:
    """Components from E[MS_S] = Σ over U ⊇ S of σ²_U × (cells per level of U), by inclusion and exclusion."""
    factors = "".join(letter for letter, size in sizes.items() if size > 1)
    solved = {}
    for effect in subsets(factors):
        above = [other for other in subsets(factors) if set(other) >= set(effect)]
        total = sum((-1) ** (len(other) - len(effect)) * squares[other] for other in above)
        noise = squares["run"] * per_answer if effect == factors else 0.0
        solved[effect] = (total - noise) / prod(sizes[letter] for letter in factors if letter not in effect)
    return solved | {"run": squares["run"]}


def _shares(components: np.ndarray) -> np.ndarray:
    positive = np.maximum(components, 0.0)
    total = positive.sum(axis=0)
    return np.divide(positive, total, out=np.zeros_like(positive), where=total > 0)
