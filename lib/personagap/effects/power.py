"""What a design can detect, and what it takes to detect a given effect."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import product

import numpy as np
import pandas as pd
from scipy import optimize, stats

from personagap.effects._table import POINTS, identity_cells
from personagap.effects.components import variance_components
from personagap.errors import UserError, at_least, expect, explained, shares
from personagap.limits import satterthwaite
from personagap.results import wide

#: Components (points²) of answers whose success probability is uniform over items and the same for
#: all identities: what one knows before a pilot. E[p(1 − p)] = 1/6.
NO_PILOT = {"run": POINTS**2 / 6}
#: What a design can detect, in points.
SIZES = ["smallest_contrast", "smallest_contrast_holm", "smallest_pb"]
#: The components that a design of one phrasing errs by, and one of several besides.
NOISE = {"identity × item", "run"}
PHRASINGS = {"identity × phrasing", "identity × phrasing × item"}


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
    components : component → variance in points², as `variance_components` of a pilot gives them for
        one task: ``results.wide(pilot).set_index("component")["variance"]``. Default: no
        interactions, items of uniform difficulty. Those of a pilot of one run hold the noise of
        runs in their highest interaction and serve designs of one run only.
    n_items, n_runs, n_templates : numbers, or lists of numbers of which all combinations are tried.
    n_identities : of which each is compared with the control.
    alpha, target : level of the tests and power wished for.

    Returns
    -------
    DataFrame, one row per design: ``n_items n_runs n_templates n_answers noise_floor
    smallest_contrast smallest_contrast_holm smallest_pb``. ``n_answers`` is per identity; the rest
    is in points. The first contrast is for one test at ``alpha``, the second for ``alpha /
    n_identities``; ``inf`` where even 100 points would be missed.

    Notes
    -----
    Standard error of a contrast with a control that is asked without phrasings, of variances I
    (identity × item), P (identity × phrasing), R (identity × phrasing × item) and E (run), T
    phrasings, n items, r runs: √[2I/n + P/T + (R + E/r)/(nT) + (R + E/r)/n], referred to the
    noncentral t. For PB the ratio of PB² to its noise is referred to the noncentral F. With one
    phrasing the effect is that in this phrasing, and P and R are no noise.

    Examples
    --------
    >>> found = power(n_items=[100, 1000], n_runs=3)
    >>> found[["n_items", "noise_floor", "smallest_contrast", "smallest_pb"]].round(2)
       n_items  noise_floor  smallest_contrast  smallest_pb
    0      100         2.30               9.43         2.11
    1     1000         0.73               2.96         0.66
    """
    with explained("components are no variances", "give component → variance in points²"):
        given = dict(NO_PILOT if components is None else components).items()
        variance = {str(name): float(each) for name, each in given}
    expect(np.isfinite(list(variance.values())).all(), "finite variances", components=variance)
    each = map(np.asarray, (n_items, n_runs, n_templates))
    items, runs, templates = (np.atleast_1d(n).tolist() for n in each)
    at_least(2, n_identities=n_identities)
    at_least(2, each=True, n_items=items)
    at_least(1, each=True, n_runs=runs, n_templates=templates)
    shares(alpha=alpha, target=target)
    if target <= alpha:
        raise UserError(f"target is {target}: give a power above alpha, {alpha}")
    noise = NOISE if min(templates) == 1 else NOISE | PHRASINGS
    if not noise & set(variance):
        # Nothing that errs would find any effect.
        known = ", ".join(sorted(noise))
        raise UserError(
            f"components have none of {known}: give those of one task, as "
            'results.wide(pilot).set_index("component")["variance"]'
        )
    if "run" not in variance and max(runs) > 1:
        raise UserError(
            "the components have no 'run', which a pilot of one run hides in its highest "
            "interaction: ask the pilot twice (runs=2), or plan for n_runs=1"
        )
    tests = (n_identities, alpha, target)
    designs = product(items, runs, templates)
    return pd.DataFrame([_detectable(variance, *design, *tests) for design in designs])


def detectable(scores: pd.DataFrame, *, alpha: float = 0.05, target: float = 0.8) -> pd.DataFrame:
    """What data at hand could have shown: `power` of their own design, from their own variance.

    Parameters
    ----------
    scores : as in ``personalization_bias``.
    alpha, target : as in `power`.

    Returns
    -------
    The columns of `power` after ``task``, one row per task. Sizes are NaN where all answers to each
    item scored alike, which does not tell how they would vary.

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
        # Unequal runs count by their harmonic mean, as in the components.
        harmonic = 1 / float((1 / table.runs[table.runs > 0]).mean())
        runs, own = max(1, round(harmonic)), dict(parts[task])
        # Of a number that is not whole, what it makes of the variance of runs is.
        own |= {name: own[name] * runs / harmonic for name in own.keys() & {"run"}}
        found = power(own, n_runs=runs, alpha=alpha, target=target, **design)
        # Rounding leaves a trace of the spread of equal runs.
        if found["noise_floor"].item() < 1e-6:
            found[SIZES] = np.nan
        rows.append(found.assign(task=task))
    table = pd.concat(rows, ignore_index=True)
    return table[["task", *table.columns.drop("task")]]


def items_needed(
    components: Mapping[str, float] | None = None,
    *,
    contrast: float | None = None,
    pb: float | None = None,
    **design,
) -> int:
    """Fewest items that detect a contrast (after Holm's correction) or a PB of so many points.

    Parameters
    ----------
    components : as in `power`.
    contrast, pb : the effect in points; give one.
    **design : ``n_runs n_templates n_identities alpha target`` of `power`, numbers.

    Raises
    ------
    UserError : no number of items suffices, because phrasings vary too much.

    Examples
    --------
    >>> items_needed(contrast=5, n_runs=3)
    715
    """
    if (contrast is None) == (pb is None):
        raise UserError("items_needed takes one size: give contrast= or pb=, in points")
    at_least(0, whole=False, **({"contrast": contrast} if pb is None else {"pb": pb}))
    column, size = ("smallest_contrast_holm", contrast) if pb is None else ("smallest_pb", pb)

    def suffices(n: int) -> bool:
        sizes = power(components, n_items=n, **design)[column]
        several = {name: value for name, value in design.items() if isinstance(value, Iterable)}
        expect(not several, "one number", **several)
        return sizes.item() <= size

    # More items never detect less, so the fewest are found by bisection.
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
    """How to spend ``budget`` answers per identity over items, phrasings and runs: `power`, best
    contrast first.

    Parameters
    ----------
    budget : answers per identity.
    components, design : as in `power`.
    n_runs, n_templates : numbers to try. Compare designs of one phrasing with each other only: what
        they detect is an effect in this phrasing.
    max_items : how many items there are.

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
    at_least(1, budget=budget, max_items=max_items or budget)
    tables = []
    each = [np.atleast_1d(np.asarray(n)).tolist() for n in (n_runs, n_templates)]
    at_least(1, each=True, n_runs=each[0], n_templates=each[1])
    for runs, templates in product(*each):
        items = min(budget // (runs * templates), max_items or budget)
        if items > 1:
            size = {"n_items": items, "n_runs": runs, "n_templates": templates}
            tables.append(power(components, **size, **design))
    if not tables:
        raise UserError(f"{budget} answers do not pay for two items in any of these designs")
    return pd.concat(tables).sort_values("smallest_contrast", ignore_index=True)


def _detectable(
    variance: Mapping[str, float],
    n: int,
    runs: int,
    templates: int,
    k: int,
    alpha: float,
    target: float,
) -> dict[str, float]:
    """A row of `power`, of n items and k identities."""
    # An estimated component may be negative: then it is not distinguishable from none.
    parts = {name: max(float(each), 0.0) for name, each in variance.items()}
    item, run = parts.get("identity × item", 0.0), parts.get("run", 0.0)
    phrasing, rest = 0.0, 0.0
    # In one phrasing the effect is that in this phrasing, and they are no noise.
    if templates > 1:
        phrasing = parts.get("identity × phrasing", 0.0)
        rest = parts.get("identity × phrasing × item", 0.0)
    cell = rest + run / runs
    within = cell / (n * templates)
    # Item-side and phrasing-side mean squares, as the tests form them; `within` is in both.
    by_item, by_phrasing = 2 * item / n + within + cell / n, phrasing / templates + within
    noise = item / n + within + phrasing / templates
    if templates > 1:
        se2, free = by_item + by_phrasing - within, (n - 1, templates - 1)
        both = (within, free[0] * free[1])
        df = satterthwaite(se2, (by_item, free[0]), (by_phrasing, free[1]), both)
        of_pb = (item / n + within, (k - 1) * free[0]), (by_phrasing, (k - 1) * free[1])
        pb_df = satterthwaite(noise, *of_pb)
    else:
        se2, df, pb_df = by_item, n - 1, (k - 1) * (n - 1)
    # The mean of a χ with k − 1 degrees of freedom lies by 1 / (4 (k − 1)) below its root mean
    # square.
    of_chi = 1 - 1 / (4 * (k - 1))
    return {
        "n_items": n,
        "n_runs": runs,
        "n_templates": templates,
        "n_answers": n * runs * templates,
        "noise_floor": (noise * (k - 1) / k) ** 0.5 * of_chi,
        "smallest_contrast": _possible(_noncentral_t(alpha, target, df) * se2**0.5),
        # Holm holds the smallest of k p-values against alpha / k.
        "smallest_contrast_holm": _possible(_noncentral_t(alpha / k, target, df) * se2**0.5),
        "smallest_pb": _possible((_noncentral_f(alpha, target, k - 1, pb_df) * noise / k) ** 0.5),
    }


def _possible(effect: float) -> float:
    return effect if effect <= POINTS else np.inf


def _noncentral_t(alpha: float, target: float, df: float) -> float:
    """Effect in standard errors that a two-sided t-test detects."""
    critical = stats.t.isf(alpha / 2, df)
    # A bracket that holds the effect, whatever power is asked for.
    most = 3 * critical + 10
    return optimize.brentq(lambda far: stats.nct.sf(critical, df, far) - target, 0, most)


def _noncentral_f(alpha: float, target: float, df1: float, df2: float) -> float:
    """Noncentrality that an F-test detects."""
    critical = stats.f.isf(alpha, df1, df2)
    most = 100 * df1 * critical + 100
    return optimize.brentq(lambda far: stats.ncf.sf(critical, df1, df2, far) - target, 0, most)
