"""Power: effects that a design can detect, and designs that can detect an effect."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import product

import numpy as np
import pandas as pd
from scipy import optimize, stats

from personagap.effects._table import POINTS, identity_cells
from personagap.effects.components import variance_components
from personagap.errors import UserError, expect, explained, require_at_least, require_fraction
from personagap.limits import satterthwaite_df
from personagap.results import wide

#: Components (points²) assumed without a pilot: success probabilities are uniform over items and
#: the same for all identities, so E[p(1 − p)] = 1/6.
NO_PILOT = {"run": POINTS**2 / 6}
#: Columns of the smallest detectable effects, in points.
DETECTABLE_SIZES = ["smallest_contrast", "smallest_contrast_holm", "smallest_pb"]
#: Components that are noise in any design, and the one that is noise only with several phrasings.
NOISE_COMPONENTS = {"identity × item", "identity × phrasing × item", "run"}
PHRASING_COMPONENTS = {"identity × phrasing"}


def power(
    components: Mapping[str, float] | None = None,
    *,
    n_items: int | Iterable[int],
    n_runs: int | Iterable[int] = 1,
    n_templates: int | Iterable[int] = 1,
    n_identities: int = 31,
    alpha: float = 0.05,
    target: float = 0.8,
) -> pd.DataFrame:
    """Smallest contrast and smallest PB that a design detects.

    Parameters
    ----------
    components : component → variance in points², such as the `variance_components` of a pilot for
        one task: ``results.wide(pilot).set_index("component")["variance"]``. By default there are
        no interactions, and item difficulty is uniform. In a pilot of one run, the highest
        interaction includes the variance between runs, so its components apply only to designs of
        one run.
    n_items, n_runs, n_templates : numbers, or lists of numbers; all combinations are evaluated.
    n_identities : number of identities, each compared with the control.
    alpha, target : level of the tests, and desired power.

    Returns
    -------
    DataFrame, one row per design: ``n_items n_runs n_templates n_answers noise_floor
    smallest_contrast smallest_contrast_holm smallest_pb``. ``n_answers`` is per identity; the other
    values are in points. The first contrast is for one test at ``alpha``, the second for a test at
    ``alpha / n_identities``; ``inf`` where even 100 points would not be detected.

    Notes
    -----
    The standard error of a contrast with a control, which has no phrasings, is √[2I/n + P/T + (R +
    E/r)/(nT) + (R + E/r)/n] for variances I (identity × item), P (identity × phrasing), R (identity
    × phrasing × item) and E (run), T phrasings, n items and r runs; power is from the noncentral t.
    For PB, the ratio of PB² to its noise follows the noncentral F. With one phrasing, the effect is
    that in this phrasing: P is not noise, while R is, as items are sampled (2 (I + R + E/r)/n).

    Examples
    --------
    >>> found = power(n_items=[100, 1000], n_runs=3)
    >>> found[["n_items", "noise_floor", "smallest_contrast", "smallest_pb"]].round(2)
       n_items  noise_floor  smallest_contrast  smallest_pb
    0      100         2.30               9.43         2.11
    1     1000         0.73               2.96         0.66
    """
    with explained("components are no variances", "give component → variance in points²"):
        named = dict(NO_PILOT if components is None else components).items()
        variance = {str(name): float(value) for name, value in named}
    expect(np.isfinite(list(variance.values())).all(), "finite variances", components=variance)
    items, runs, templates = map(_as_list, (n_items, n_runs, n_templates))
    require_at_least(2, n_identities=n_identities)
    require_at_least(2, each=True, n_items=items)
    require_at_least(1, each=True, n_runs=runs, n_templates=templates)
    require_fraction(alpha=alpha, target=target)
    if target <= alpha:
        raise UserError(f"target is {target}: give a power above alpha, {alpha}")
    noise = NOISE_COMPONENTS if min(templates) == 1 else NOISE_COMPONENTS | PHRASING_COMPONENTS
    if not noise & set(variance):
        # A design without noise would detect any effect.
        names = ", ".join(sorted(noise))
        example = 'results.wide(pilot).set_index("component")["variance"]'
        raise UserError(f"components have none of {names}: give those of one task, as {example}")
    if "run" not in variance and max(runs) > 1:
        raise UserError(
            "the components have no 'run', which a pilot of one run hides in its highest "
            "interaction: ask the pilot twice (runs=2), or plan for n_runs=1"
        )
    tests = (n_identities, alpha, target)
    designs = product(items, runs, templates)
    return pd.DataFrame([_design_row(variance, *design, *tests) for design in designs])


def detectable(scores: pd.DataFrame, *, alpha: float = 0.05, target: float = 0.8) -> pd.DataFrame:
    """Smallest effects that existing data could have detected, by `power` of their own design.

    Parameters
    ----------
    scores : as in ``personalization_bias``.
    alpha, target : as in `power`.

    Returns
    -------
    ``task`` and the columns of `power`, one row per task. Sizes are NaN where all answers to each
    item have the same score, as there is no information on their variance.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> scores = simulate_scores([-9, -3, 0, 3, 9], n_items=300, n_runs=3, seed=0)
    >>> detectable(scores)[["task", "n_items", "smallest_contrast_holm", "smallest_pb"]].round(2)
       task  n_items  smallest_contrast_holm  smallest_pb
    0  mmlu      300                    6.69         2.13
    """
    parts = wide(variance_components(scores)).set_index(["task", "component"])["variance"]
    rows = []
    for task, table in identity_cells(scores).items():
        identities, templates, items = table.mean.shape
        design = {"n_items": items, "n_templates": templates, "n_identities": identities}
        # Unequal runs enter by their harmonic mean, as in the components.
        harmonic = 1 / float((1 / table.runs[table.runs > 0]).mean())
        runs, variance = max(1, round(harmonic)), dict(parts[task])
        # `power` needs a whole number of runs; scaling keeps the variance of a cell mean.
        if "run" in variance:
            variance["run"] = variance["run"] * runs / harmonic
        row = power(variance, n_runs=runs, alpha=alpha, target=target, **design)
        # Equal runs have a spread of rounding errors.
        if row["noise_floor"].item() < 1e-6:
            row[DETECTABLE_SIZES] = np.nan
        rows.append(row.assign(task=task))
    table = pd.concat(rows, ignore_index=True)
    return table[["task", *table.columns.drop("task")]]


def items_needed(
    components: Mapping[str, float] | None = None,
    *,
    contrast: float | None = None,
    pb: float | None = None,
    **design,
) -> int:
    """Smallest number of items that detects a contrast (after Holm's correction) or a PB.

    Parameters
    ----------
    components : as in `power`.
    contrast, pb : the effect in points; give one of the two.
    **design : ``n_runs n_templates n_identities alpha target`` of `power`, one number each.

    Raises
    ------
    UserError : no number of items suffices, as phrasings vary too much.

    Examples
    --------
    >>> items_needed(contrast=5, n_runs=3)
    715
    """
    if (contrast is None) == (pb is None):
        raise UserError("items_needed takes one size: give contrast= or pb=, in points")
    require_at_least(0, whole=False, **({"contrast": contrast} if pb is None else {"pb": pb}))
    column, size = ("smallest_contrast_holm", contrast) if pb is None else ("smallest_pb", pb)

    def suffices(n: int) -> bool:
        sizes = power(components, n_items=n, **design)[column]
        several = {name: value for name, value in design.items() if isinstance(value, Iterable)}
        expect(not several, "one number", **several)
        return sizes.item() <= size

    # The detectable effect decreases with the number of items, so bisection finds the smallest.
    sizes = range(2**24)
    n = bisect_left(sizes, True, lo=2, key=suffices)
    if n == len(sizes):
        raise UserError(f"no number of items detects {size} points in this design: add phrasings")
    return n


def split_budget(
    budget: int,
    components: Mapping[str, float] | None = None,
    *,
    n_runs: int | Iterable[int] = range(1, 6),
    n_templates: int | Iterable[int] = range(2, 7),
    max_items: int | None = None,
    **design,
) -> pd.DataFrame:
    """Compare designs that divide a budget of answers over items, phrasings and runs.

    Parameters
    ----------
    budget : number of answers per identity.
    components, design : as in `power`.
    n_runs, n_templates : numbers to try. Designs of one phrasing can only be compared with each
        other, as they detect an effect in this phrasing.
    max_items : number of items available.

    Returns
    -------
    The columns of `power`, one row per design, sorted by the smallest contrast detected.

    Examples
    --------
    >>> pilot = {"identity × item": 300, "identity × phrasing": 2, "run": 1500}
    >>> found = split_budget(3000, pilot, n_templates=[4], max_items=1000)
    >>> found[["n_items", "n_runs", "smallest_contrast"]].round(2)
       n_items  n_runs  smallest_contrast
    0      750       1               5.59
    1      375       2               6.11
    2      250       3               6.60
    3      187       4               7.07
    4      150       5               7.50
    """
    require_at_least(1, budget=budget, max_items=max_items or budget)
    tables = []
    run_numbers, template_numbers = _as_list(n_runs), _as_list(n_templates)
    require_at_least(1, each=True, n_runs=run_numbers, n_templates=template_numbers)
    for runs, templates in product(run_numbers, template_numbers):
        items = min(budget // (runs * templates), max_items or budget)
        if items > 1:
            size = {"n_items": items, "n_runs": runs, "n_templates": templates}
            tables.append(power(components, **size, **design))
    if not tables:
        raise UserError(f"{budget} answers do not pay for two items in any of these designs")
    return pd.concat(tables).sort_values("smallest_contrast", ignore_index=True)


def _as_list(numbers: int | Iterable[int]) -> list[int]:
    return np.atleast_1d(np.asarray(numbers)).tolist()


def _design_row(
    variance: Mapping[str, float],
    n: int,
    runs: int,
    templates: int,
    k: int,
    alpha: float,
    target: float,
) -> dict[str, float]:
    """Row of `power` for n items and k identities."""
    # A negative estimate of a component is not distinguishable from 0.
    parts = {name: max(float(value), 0.0) for name, value in variance.items()}
    item, run = parts.get("identity × item", 0.0), parts.get("run", 0.0)
    # With one phrasing, the effect is that in this phrasing. Its items are a sample all the same.
    phrasing = parts.get("identity × phrasing", 0.0) if templates > 1 else 0.0
    cell = parts.get("identity × phrasing × item", 0.0) + run / runs
    within = cell / (n * templates)
    # Mean squares by item and by phrasing, as in the tests; `within` is part of both.
    by_item, by_phrasing = 2 * item / n + within + cell / n, phrasing / templates + within
    noise = item / n + within + phrasing / templates
    if templates > 1:
        se2, item_df, phrasing_df = by_item + by_phrasing - within, n - 1, templates - 1
        both = (within, item_df * phrasing_df)
        df = satterthwaite_df(se2, (by_item, item_df), (by_phrasing, phrasing_df), both)
        pb_parts = (item / n + within, (k - 1) * item_df), (by_phrasing, (k - 1) * phrasing_df)
        pb_df = satterthwaite_df(noise, *pb_parts)
    else:
        se2, df, pb_df = by_item, n - 1, (k - 1) * (n - 1)
    # The mean of χ with k − 1 degrees of freedom, relative to its root mean square.
    chi_mean = stats.chi.mean(k - 1) / (k - 1) ** 0.5
    design = {"n_items": n, "n_runs": runs, "n_templates": templates}
    return design | {
        "n_answers": n * runs * templates,
        "noise_floor": (noise * (k - 1) / k) ** 0.5 * chi_mean,
        "smallest_contrast": _attainable(_noncentral_t(alpha, target, df) * se2**0.5),
        # Holm's method compares the smallest of k p-values with alpha / k.
        "smallest_contrast_holm": _attainable(_noncentral_t(alpha / k, target, df) * se2**0.5),
        "smallest_pb": _attainable((_noncentral_f(alpha, target, k - 1, pb_df) * noise / k) ** 0.5),
    }


def _attainable(effect: float) -> float:
    """Return the effect, or infinity if it exceeds the range of scores."""
    return effect if effect <= POINTS else np.inf


def _noncentral_t(alpha: float, target: float, df: float) -> float:
    """Effect, in standard errors, that a two-sided t-test detects with power ``target``."""
    critical = stats.t.isf(alpha / 2, df)
    return _root(lambda effect: stats.nct.sf(critical, df, effect) - target, 3 * critical + 10)


def _noncentral_f(alpha: float, target: float, df1: float, df2: float) -> float:
    """Noncentrality that an F-test detects with power ``target``."""
    critical = stats.f.isf(alpha, df1, df2)
    upper = 100 * df1 * critical + 100
    return _root(lambda nc: stats.ncf.sf(critical, df1, df2, nc) - target, upper)


def _root(surplus: Callable[[float], float], upper: float) -> float:
    """Root of a power less its target, infinite beyond ``upper`` (very few items, power near 1)."""
    return optimize.brentq(surplus, 0, upper) if surplus(upper) > 0 else np.inf
