"""What the designs of published studies could show: intervals, noise floors and smallest effects
beside their numbers.

Papers print numbers without intervals. An interval follows from the design as far as that is known;
where it is not (which tasks, how many runs, which rows were tested), from the least and the most
noisy design that fits what is known.
"""

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from scipy import optimize, stats

from personagap.limits import mover, satterthwaite, wilson
from personagap.paths import DATA
from personagap.published import PAPERS, load
from personagap.results import result

#: What becomes of a claim: under every design that fits, under the least noisy alone, under none.
STANDS, DEPENDS, NOISE = "stands", "depends on what was not published", "could be noise"
#: Value in points → the ends of its 95 % interval.
Interval = Callable[[float], tuple[float, float]]
_METHODS = {
    "PB": "noncentral χ²",
    "rate": "Wilson",
    "F1": "normal, by prompts",
    "correlation": "Bonett–Wright",
}
_IDENTITIES = 31
_UTILITY = ("MMLU test", "MMLU dev (57 files x 5)", "GSM8K test", "MBPP all splits")
_SAFETY = ("Do-Not-Answer", "StrongReject shipped")
#: Mean variance p(1 − p) of an answer where difficulties are Beta(1, 1), and Beta(.3, .2).
_EVEN, _EXTREME = 1 / 6, 0.08
_Z = stats.norm.ppf(0.975)
_Z_POWER = _Z + stats.norm.ppf(0.8)


def claims() -> pd.DataFrame:
    """What published numbers say at face value, and what their designs could show.

    Returns
    -------
    DataFrame of `results`, one row per line of ``data/claims.csv``, in points (hundredths): ``paper
    claim``, then the columns of a result, whose interval is that of the most noisy design;
    ``best_low best_high`` that of the least noisy; ``detectable``: the smallest effect that the
    most noisy design finds with 80 % power; ``floor_low floor_high``: the PB that noise alone
    gives; ``verdict``; ``evidence``, where the number was read; ``note``.

    Where a PB is held against none, ``estimate`` is the published PB and the interval that of the
    *true* PB.

    Notes
    -----
    Differences: MOVER (Zou and Donner 2008) of two intervals, as if these were independent; the
    same items asked twice would give narrower ones. Rates: Wilson. Correlations: Bonett and Wright
    (2000). PB: PB² over its noise is noncentral χ² of 31 identities; what raises the noise,
    interactions of identity and item, is not known and left out. F1: the standard error by prompts
    of the two released models; √5 times that where it is unknown which rows were tested, since a
    fifth may have been.

    Examples
    --------
    >>> table = claims().set_index("claim")[["estimate", "ci_low", "ci_high", "verdict"]].round(1)
    >>> print(*table.loc["Other users' histories help more than one's own"])
    1.5 -2.1 5.1 could be noise
    """
    listed = pd.read_csv(DATA / "claims.csv", dtype={"than": str}).fillna({"than": "", "note": ""})
    rows = pd.DataFrame([_against_design(claim) for claim in listed.to_dict("records")])
    verdict = np.select([rows["ci_low"] > 0, rows["best_low"] > 0], [STANDS, DEPENDS], NOISE)
    table = result(rows.assign(verdict=verdict), ["paper", "claim"], unit="points")
    last = ["verdict", "evidence", "note"]
    return table[[*table.columns.drop(last), *last]]


def numbers() -> pd.DataFrame:
    """Every published PB, every win rate and F1 of known n, with its interval, as `claims`.

    Returns
    -------
    DataFrame of `results` after ``paper experiment quantity condition``; then ``best_low best_high
    evidence``. The interval of a PB is that of the true PB.

    Examples
    --------
    >>> numbers().groupby("metric").size().to_dict()
    {'F1': 12, 'PB': 8, 'rate': 55}
    """
    measures = {"pb": "PB", "pb_utility": "PB", "f1": "F1"}
    measures |= dict.fromkeys(["win_rate_vs_gpt4o", "win_rate_vs_best_of_8"], "rate")
    tables = pd.concat(map(load, PAPERS))
    tables = tables.assign(metric=tables["quantity"].map(measures))
    tables = tables.dropna(subset=["metric", "value"])
    tables = tables[(tables["metric"] == "PB") | tables["n"].notna()]
    rows = []
    for number in tables.to_dict("records"):
        value = number["value"] * _scale(number["unit"])
        alone = {"than": "", "n": np.nan, "n_worst": np.nan}
        claim = number | alone | {"measure": number["metric"]}
        least, most, row = _designs(claim, number["n"], value)
        rows.append(number | row | _ends(least(value), most(value)) | {"estimate": value})
    same = {"unit": "points", "method": [_METHODS[row["metric"]] for row in rows]}
    table = result(rows, ["paper", "experiment", "quantity", "condition"], **same)
    return table.drop(columns=["value", "note", "detectable"])


def _against_design(claim: dict) -> dict:
    """One claim: its number or difference, with intervals under the least and the most noisy
    design.
    """
    same = "experiment == @claim['experiment'] and quantity == @claim['quantity']"
    numbers = load(claim["paper"]).query(same)
    numbers = numbers.set_index("condition")
    number, than = numbers.loc[claim["condition"]], claim["than"]
    points = numbers["value"] * _scale(number["unit"])
    value = points[claim["condition"]]
    other = points[than] if than in points else float(than or 0)
    smallest = min(value, other) if than else value
    least, most, row = _designs(claim, number["n"], smallest)
    if than:
        # A number that the value is held against has no interval; a published one has that of its
        # own design.
        of_other: tuple[Interval, ...] = (lambda value: (value, value),) * 2
        if than in points:
            of_other = _designs(claim, numbers["n"][than], smallest)[:2]
        best, worst, none = (
            mover(each, interval(each), other, interval_of_other(other))
            for each, interval, interval_of_other in (
                (value, least, of_other[0]), (value, most, of_other[1]), (other, most, of_other[1]),
            )
        )  # fmt: skip
        # Of the difference as published and of none, whichever interval is wider.
        width = max(np.ptp(worst), np.ptp(none))
        row |= {"estimate": value - other, "detectable": min(100, width / 2 * _Z_POWER / _Z)}
    else:
        best, worst = least(value), most(value)
        row |= {"estimate": value}
    told = {name: claim[name] for name in ("paper", "claim", "note")}
    told |= {"evidence": number["evidence"], "metric": claim["measure"]}
    return told | {"method": _METHODS[claim["measure"]]} | row | _ends(best, worst)


def _scale(unit: str) -> int:
    """From a published unit to points."""
    return 1 if unit in ("points", "percent") else 100


def _ends(best: tuple[float, float], worst: tuple[float, float]) -> dict[str, float]:
    return {"best_low": best[0], "best_high": best[1], "ci_low": worst[0], "ci_high": worst[1]}


def _designs(claim: dict, n: float, smallest: float) -> tuple[Interval, Interval, dict]:
    """Intervals under the least and the most noisy design that fits, and facts of the latter.

    Parameters
    ----------
    n : published; the claim's own goes before it.
    smallest : of its numbers (points).
    """
    measure, n = claim["measure"], n if np.isnan(claim["n"]) else claim["n"]
    if measure == "PB":
        # Sorted by their noise.
        least, *_, most = _noises(claim["quantity"], smallest)
        found = {"n": _IDENTITIES, "floor_low": least[0] ** 0.5, "floor_high": most[0] ** 0.5}
        if claim["than"]:
            return partial(_expected_pb, noise=least), partial(_expected_pb, noise=most), found
        found["detectable"] = _smallest_pb(most)
        return partial(_true_pb, noise=least), partial(_true_pb, noise=most), found
    if measure == "F1":
        error = _f1_error()
        # A fifth of the rows may have been tested: √5 times the error (R19).
        most_error = error * (5**0.5 if np.isnan(n) else 1)
        return partial(_normal, error=error), partial(_normal, error=most_error), {"n": n}
    interval = _wilson if measure == "rate" else _bonett_wright
    fewest = np.nanmin([n, claim["n_worst"]])
    return partial(interval, n=n), partial(interval, n=fewest), {"n": fewest}


def _wilson(value: float, n: float) -> tuple[float, float]:
    low, high = 100 * wilson(value / 100, n, 0.95)
    return low, high


def _normal(value: float, error: float) -> tuple[float, float]:
    return value - _Z * error, value + _Z * error


def _f1_error() -> float:
    """Standard error of F1 (points) over 41 prompts: the mean of those of the two models whose
    judgments are public.
    """
    # Published as limits, from which the error is had back.
    limits = load("recentering").query("quantity.str.startswith('f1_ci95')")
    limits = limits.groupby("condition")["value"]
    return 100 * (limits.max() - limits.min()).mean() / (2 * _Z)


def _bonett_wright(value: float, n: float) -> tuple[float, float]:
    """Of Spearman's ρ (hundredths) by Fisher's z with the variance of ranks (Psychometrika 65)."""
    error = ((1 + (value / 100) ** 2 / 2) / (n - 3)) ** 0.5
    low, high = np.tanh(np.arctanh(value / 100) + np.array([-1, 1]) * _Z * error)
    return 100 * low, 100 * high


def _noises(quantity: str, smallest: float) -> list[tuple[float, float]]:
    """Of the designs that fit: PB² that noise alone gives (points²), and its degrees of freedom.

    The tasks of the released code with their two sizes of MMLU, items of all difficulties or mostly
    easy and hard ones, three runs, as it asks its own models, or one, as it asks those behind an
    API. A design does not fit whose noise alone would give more than the ``smallest`` PB that was
    published (points) in 97.5 % of studies.
    """
    sizes = load("safety_utility").query("experiment == 'dataset_sizes' and quantity == 'items'")
    sizes = sizes.set_index("condition")["value"]
    both = ([f"dataset={name}" for name in names] for names in (_UTILITY, _SAFETY))
    utility, safety = (sizes[names] for names in both)
    free, found = _IDENTITIES - 1, []
    tasks = itertools.product(utility, safety) if quantity == "pb" else itertools.product(utility)
    for items, spread, runs in itertools.product(tasks, (_EVEN, _EXTREME), (1, 3)):
        # In points²; the joint PB² is a sum over tasks, and so is its noise.
        variances = 1e4 * spread / (np.array(items) * runs)
        noise = variances.sum() * free / _IDENTITIES
        df = satterthwaite(variances.sum(), *((variance, free) for variance in variances))
        if stats.chi2.cdf(smallest**2 / noise * df, df) > 0.025:
            found.append((noise, df))
    return sorted(found)


def _true_pb(pb: float, noise: tuple[float, float]) -> tuple[float, float]:
    """Interval of the true PB: PB² over its noise is noncentral χ², of which the true PB² is the
    noncentrality.
    """
    unit, free = noise[0] / noise[1], noise[1]

    def end(level: float) -> float:
        def excess(true: float) -> float:
            return stats.ncx2.cdf(pb**2 / unit, free, true**2 / unit) - level

        # Where a PB like this is no exception without any effect, the end is 0.
        return optimize.brentq(excess, 1e-6, pb + 20) if excess(1e-6) > 0 else 0.0

    return end(0.975), end(0.025)


def _expected_pb(pb: float, noise: tuple[float, float]) -> tuple[float, float]:
    """Interval of the PB that is expected, noise and all: what a difference of published PBs is
    made of.
    """
    low, high = _true_pb(pb, noise)
    return (low**2 + noise[0]) ** 0.5, (high**2 + noise[0]) ** 0.5


def _smallest_pb(noise: tuple[float, float]) -> float:
    """True PB that is told from noise with 80 % power."""
    unit, free = noise[0] / noise[1], noise[1]
    seen = stats.chi2.ppf(0.95, free)
    return optimize.brentq(lambda true: stats.ncx2.sf(seen, free, true**2 / unit) - 0.8, 1e-6, 100)
