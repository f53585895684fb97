"""What the designs of published studies could show: intervals, noise floors, detectable effects.

Papers print numbers without intervals. The interval follows from the design where it is known.
Where it is not (which tasks, how many runs, which rows were tested), intervals are computed for the
least and the most noisy design compatible with what is known.
"""

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from scipy import optimize, stats

from personagap.limits import mover_interval, satterthwaite_df, wilson_interval
from personagap.paths import DATA
from personagap.published import PAPERS, load
from personagap.results import result

#: Verdicts: a claim is significant under every compatible design, only under the least noisy, or
#: under none.
STANDS, DEPENDS, NOISE = "stands", "depends on what was not published", "could be noise"
#: Function that maps a value in points to the limits of its 95 % interval.
Interval = Callable[[float], tuple[float, float]]
_INTERVAL_METHODS = {
    "PB": "noncentral χ²",
    "rate": "Wilson",
    "F1": "normal, by prompts",
    "correlation": "Bonett–Wright",
}
_N_IDENTITIES = 31
_UTILITY_TASKS = ("MMLU test", "MMLU dev (57 files x 5)", "GSM8K test", "MBPP all splits")
_SAFETY_TASKS = ("Do-Not-Answer", "StrongReject shipped")
#: Mean variance p(1 − p) of an answer with difficulties distributed as Beta(1, 1) or Beta(.3, .2).
_ANSWER_VARIANCES = (1 / 6, 0.08)
_Z = stats.norm.ppf(0.975)
_Z_POWER = _Z + stats.norm.ppf(0.8)


def claims() -> pd.DataFrame:
    """Published claims with intervals, detectable effects and verdicts from their designs.

    Returns
    -------
    `results` table, one row per line of ``data/claims.csv``, in points (hundredths), with the keys
    ``paper claim``. Its interval is that of the most noisy design, ``best_low best_high`` that of
    the least noisy. ``detectable`` is the smallest effect that the most noisy design finds with
    80 % power, ``floor_low floor_high`` the PB expected from noise alone in the two designs. Then
    follow ``verdict``, ``evidence`` (the source of the number) and ``note``.

    For a PB that is not compared with another, ``estimate`` is the published PB and the interval
    that of the *true* PB.

    Notes
    -----
    Differences: MOVER (Zou and Donner 2008) of two intervals treated as independent; with the same
    items in both, they would be narrower. Rates: Wilson. Correlations: Bonett and Wright (2000).
    PB: PB² over its noise is noncentral χ² for 31 identities; interactions of identity and item,
    which raise the noise, are unknown and ignored. F1: standard error by prompts of the two
    released models, times √5 where it is unknown which rows were tested, since it may have been a
    fifth.

    Examples
    --------
    >>> table = claims().set_index("claim")[["estimate", "ci_low", "ci_high", "verdict"]].round(1)
    >>> print(*table.loc["Other users' histories help more than one's own"])
    1.5 -2.1 5.1 could be noise
    """
    listed = pd.read_csv(DATA / "claims.csv", dtype={"than": str}).fillna({"than": "", "note": ""})
    rows = pd.DataFrame([_claim_row(claim) for claim in listed.to_dict("records")])
    verdict = np.select([rows["ci_low"] > 0, rows["best_low"] > 0], [STANDS, DEPENDS], NOISE)
    table = result(rows.assign(verdict=verdict), ["paper", "claim"], unit="points")
    last = ["verdict", "evidence", "note"]
    return table[[*table.columns.drop(last), *last]]


def numbers() -> pd.DataFrame:
    """Every published PB, and every win rate and F1 with known n, with intervals as in `claims`.

    Returns
    -------
    `results` table with the keys ``paper experiment quantity condition``, then ``best_low best_high
    evidence``. The interval of a PB is that of the true PB.

    Examples
    --------
    >>> numbers().groupby("metric").size().to_dict()
    {'F1': 12, 'PB': 8, 'rate': 55}
    """
    measures = {"pb": "PB", "pb_utility": "PB", "f1": "F1"}
    measures |= dict.fromkeys(["win_rate_vs_gpt4o", "win_rate_vs_best_of_8"], "rate")
    published = pd.concat(map(load, PAPERS))
    published = published.assign(metric=published["quantity"].map(measures))
    published = published.dropna(subset=["metric", "value"])
    published = published[(published["metric"] == "PB") | published["n"].notna()]
    rows = []
    for number in published.to_dict("records"):
        points = number["value"] * _points_per(number["unit"])
        no_comparison = {"than": "", "n": np.nan, "n_worst": np.nan}
        claim = number | no_comparison | {"measure": number["metric"]}
        least, most, row = _designs(claim, number["n"], points)
        rows.append(number | row | _limits(least(points), most(points)) | {"estimate": points})
    constants = {"unit": "points", "method": [_INTERVAL_METHODS[row["metric"]] for row in rows]}
    table = result(rows, ["paper", "experiment", "quantity", "condition"], **constants)
    return table.drop(columns=["value", "note", "detectable"])


def _claim_row(claim: dict) -> dict:
    """Row of a claim: its number or difference, with intervals of the two extreme designs."""
    selection = "experiment == @claim['experiment'] and quantity == @claim['quantity']"
    numbers = load(claim["paper"]).query(selection).set_index("condition")
    number, than = numbers.loc[claim["condition"]], claim["than"]
    points = numbers["value"] * _points_per(number["unit"])
    value = points[claim["condition"]]
    other = points[than] if than in points else float(than or 0)
    smallest = min(value, other) if than else value
    least, most, row = _designs(claim, number["n"], smallest)
    if than:
        # A constant to compare with has no interval; a published number has that of its design.
        other_best = other_worst = (other, other)
        if than in points:
            other_least, other_most, _ = _designs(claim, numbers["n"][than], smallest)
            other_best, other_worst = other_least(other), other_most(other)
        best = mover_interval(value, least(value), other, other_best)
        worst = mover_interval(value, most(value), other, other_worst)
        no_difference = mover_interval(other, most(other), other, other_worst)
        # Power follows from the wider of the intervals of the published and of no difference.
        width = max(np.ptp(worst), np.ptp(no_difference))
        row |= {"estimate": value - other, "detectable": min(100, width / 2 * _Z_POWER / _Z)}
    else:
        best, worst = least(value), most(value)
        row |= {"estimate": value}
    columns = {name: claim[name] for name in ("paper", "claim", "note")}
    columns |= {"evidence": number["evidence"], "metric": claim["measure"]}
    columns["method"] = _INTERVAL_METHODS[claim["measure"]]
    return columns | row | _limits(best, worst)


def _points_per(unit: str) -> int:
    """Factor from a published unit to points."""
    return 1 if unit in ("points", "percent") else 100


def _limits(best: tuple[float, float], worst: tuple[float, float]) -> dict[str, float]:
    return {"best_low": best[0], "best_high": best[1], "ci_low": worst[0], "ci_high": worst[1]}


def _designs(claim: dict, n: float, smallest: float) -> tuple[Interval, Interval, dict]:
    """Intervals under the least and the most noisy compatible design, and columns of the latter.

    Parameters
    ----------
    n : published sample size, used unless the claim has its own.
    smallest : smallest number of the claim (points).
    """
    measure, n = claim["measure"], n if np.isnan(claim["n"]) else claim["n"]
    if measure == "PB":
        least, *_, most = _design_noises(claim["quantity"], smallest)
        row = {"n": _N_IDENTITIES, "floor_low": least[0] ** 0.5, "floor_high": most[0] ** 0.5}
        if not claim["than"]:
            row["detectable"] = _detectable_pb(most)
        # A difference is one of observed PBs; a single PB has the interval of the true PB.
        pb_interval = _observed_pb_interval if claim["than"] else _pb_interval
        return partial(pb_interval, noise=least), partial(pb_interval, noise=most), row
    if measure == "F1":
        error = _f1_error()
        # Possibly only a fifth of the rows was tested: √5 times the error (R19).
        most_error = error * (5**0.5 if np.isnan(n) else 1)
        return partial(_normal, error=error), partial(_normal, error=most_error), {"n": n}
    interval = _wilson if measure == "rate" else _bonett_wright
    fewest = np.nanmin([n, claim["n_worst"]])
    return partial(interval, n=n), partial(interval, n=fewest), {"n": fewest}


def _wilson(value: float, n: float) -> tuple[float, float]:
    low, high = 100 * wilson_interval(value / 100, n, 0.95)
    return low, high


def _normal(value: float, error: float) -> tuple[float, float]:
    return value - _Z * error, value + _Z * error


def _f1_error() -> float:
    """Standard error of F1 (points) over 41 prompts, averaged over the two models with public
    judgments.
    """
    # Derived from published confidence limits.
    limits = load("recentering").query("quantity.str.startswith('f1_ci95')")
    limits = limits.groupby("condition")["value"]
    return 100 * (limits.max() - limits.min()).mean() / (2 * _Z)


def _bonett_wright(value: float, n: float) -> tuple[float, float]:
    """Interval of Spearman's ρ (hundredths) by Bonett & Wright (2000, Psychometrika 65)."""
    # Fisher's z with the variance of rank correlations.
    error = ((1 + (value / 100) ** 2 / 2) / (n - 3)) ** 0.5
    low, high = np.tanh(np.arctanh(value / 100) + np.array([-1, 1]) * _Z * error)
    return 100 * low, 100 * high


def _design_noises(quantity: str, smallest: float) -> list[tuple[float, float]]:
    """Noise of the compatible designs: expected PB² from noise alone (points²), and its df; sorted.

    Designs combine the tasks of the released code (with MMLU in two sizes), items of all
    difficulties or mostly easy and hard ones, and three runs (as for its local models) or one (as
    for models behind an API). A design is not compatible if noise alone would exceed the
    ``smallest`` published PB (points) in 97.5 % of studies.
    """
    sizes = load("safety_utility").query("experiment == 'dataset_sizes' and quantity == 'items'")
    sizes = sizes.set_index("condition")["value"]
    keys = ([f"dataset={name}" for name in names] for names in (_UTILITY_TASKS, _SAFETY_TASKS))
    utility, safety = (sizes[names] for names in keys)
    df_task, designs = _N_IDENTITIES - 1, []
    tasks = itertools.product(utility, safety) if quantity == "pb" else itertools.product(utility)
    for items, answer_variance, runs in itertools.product(tasks, _ANSWER_VARIANCES, (1, 3)):
        # In points²; the joint PB² is a sum over tasks, and so is its expectation from noise.
        variances = 1e4 * answer_variance / (np.array(items) * runs)
        noise = variances.sum() * df_task / _N_IDENTITIES
        df = satterthwaite_df(variances.sum(), *((variance, df_task) for variance in variances))
        if stats.chi2.cdf(smallest**2 / noise * df, df) > 0.025:
            designs.append((noise, df))
    return sorted(designs)


def _pb_interval(pb: float, noise: tuple[float, float]) -> tuple[float, float]:
    """Interval of the true PB: PB² over its noise is noncentral χ² with the true PB² over the noise
    as noncentrality.
    """
    scale, df = noise[0] / noise[1], noise[1]

    def limit(level: float) -> float:
        def excess(true_pb: float) -> float:
            return stats.ncx2.cdf(pb**2 / scale, df, true_pb**2 / scale) - level

        # The limit is 0 if a PB of this size is not unusual without any effect.
        return optimize.brentq(excess, 1e-6, pb + 20) if excess(1e-6) > 0 else 0.0

    return limit(0.975), limit(0.025)


def _observed_pb_interval(pb: float, noise: tuple[float, float]) -> tuple[float, float]:
    """Interval of the expected observed PB, noise included, for differences of published PBs."""
    low, high = _pb_interval(pb, noise)
    return (low**2 + noise[0]) ** 0.5, (high**2 + noise[0]) ** 0.5


def _detectable_pb(noise: tuple[float, float]) -> float:
    """True PB that is significant with 80 % power."""
    scale, df = noise[0] / noise[1], noise[1]
    cutoff = stats.chi2.ppf(0.95, df)
    return optimize.brentq(lambda true: stats.ncx2.sf(cutoff, df, true**2 / scale) - 0.8, 1e-6, 100)
