"""Looking as results come in: intervals and tests that hold at every look, so a run may stop when
it is decided.
"""

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
from scipy import optimize

from personagap.effects._table import POINTS, by_task, checked, grouped
from personagap.effects.paired import Task
from personagap.errors import UserError, expect, shares
from personagap.results import corrected, result

#: Of the capital that is staked against the worst outcome, so that no single item ruins a bet.
_MOST = 0.5


def watched_contrasts(
    scores: pd.DataFrame,
    control: str = "none",
    *,
    by: Mapping[str, str] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """`contrasts` that may be looked at after every item: stop when p ≤ 1 − ``level``, or the
    interval is short enough.

    An ordinary p-value or interval looked at again and again finds an effect sooner or later where
    there is none; these hold for all looks together, whenever the run is stopped.

    Parameters
    ----------
    scores : as of `contrasts`, so far, in the order the items were asked, which must be random (as
        drawn by ``datasets``). Items are taken in as all personas compared have answered them; runs
        and phrasings are averaged.
    control, by : as in `contrasts`.
    level : of the intervals, over all looks together.

    Returns
    -------
    DataFrame ``task contrast metric …``, metric "difference" in points, ``n`` items so far: one row
    for each identity (or group), and "any − control" without an estimate, whose p-value says that
    some identity differs. ``p_value`` is 1 / the largest capital so far of a bet against no
    difference; ``p_adjusted`` Holm's.

    Notes
    -----
    Confidence sequence by betting (Waudby-Smith & Ramdas 2024, JRSS B 86, 1–27: the hedged capital
    process, Theorem 3, with predictable plug-in stakes). For a candidate difference m, Π(1 + λᵢ(xᵢ
    − m)) is the capital of one who stakes λᵢ, chosen from the items before i, against it; if m is
    true it exceeds 1/α with a probability of at most α, ever (Ville). The interval holds all m
    whose capital never did: NaN where none is left, as of items in an order that is not random. It
    needs no distribution and no planned number of items, at the price of some 1.6 times the width
    of an interval that is looked at once. The mean of the identities' capitals bets against all of
    them at once.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> scores = simulate_scores([0, -12], n_items=600, n_runs=3, seed=1)
    >>> so_far = scores[scores["item"] < 300]  # a first look
    >>> watched = watched_contrasts(so_far)
    >>> watched[["contrast", "estimate", "ci_low", "ci_high", "p_value", "n"]].round(3)
         contrast  estimate  ci_low  ci_high  p_value    n
    0  p00 − none    -2.111  -9.413    2.245    0.131  300
    1  p01 − none   -14.444 -20.483   -8.568    0.000  300
    2  any − none       NaN     NaN      NaN    0.000  300
    """
    shares(level=level)
    expect(isinstance(control, Hashable), "one persona's name", control=control)
    rows = []
    for task, part in by_task(checked(scores)):
        capitals = []
        for name, x in _differences(Task(task, part, None), control, by):
            there = np.isfinite(x)
            x = x[there]
            # A difference of scores lies in [−1, 1], what is bet on in [0, 1].
            low, high, capital = _sequence((x + 1) / 2, 1 - level)
            row = {"contrast": f"{name} − {control}", "tests": "contrasts", "n": len(x)}
            row |= {"ci_low": POINTS * (2 * low - 1), "ci_high": POINTS * (2 * high - 1)}
            row |= {"estimate": POINTS * x.mean() if len(x) else np.nan, "p_value": _p(capital)}
            rows.append(row | {"task": task})
            # After each item, asked or not.
            capitals.append(capital[np.append(0, np.cumsum(there))])
        # A mean of martingales is one, however the identities' answers go together; their product,
        # or the largest, is none.
        together = np.mean(capitals, axis=0)
        row = {"contrast": f"any − {control}", "tests": "any", "n": len(together) - 1}
        rows.append(row | {"task": task, "p_value": _p(together)})
    table = corrected(pd.DataFrame(rows), ["task", "tests"]).drop(columns="tests")
    method = "confidence sequence by betting, valid at every look"
    return result(table, ["task", "contrast"], metric="difference", unit="points", method=method)


def _differences(task: Task, control: str, by: Mapping[str, str] | None):
    """Name and paired differences of each identity or group, item by item; NaN where one of them
    has no answer.
    """
    table = task.table
    of_item = dict(zip(table.personas, _over_phrasings(table.mean), strict=True))
    groups = grouped(table.personas, control, by)
    if not groups:
        remedy = "are there identities, and does `by` name them?"
        raise UserError(f"{task.name}: nothing to compare: {remedy}")
    if control not in of_item:
        known = f"there are {', '.join(map(str, table.personas))}"
        raise UserError(f"{task.name}: no scores of {control!r}; {known}")
    for name, members in groups.items():
        yield name, np.mean([of_item[persona] for persona in members], axis=0) - of_item[control]


def _over_phrasings(mean: np.ndarray) -> np.ndarray:
    """Persona × item, the mean over those phrasings that were asked at all of the persona."""
    asked = np.isfinite(mean).any(axis=2, keepdims=True)
    return np.where(asked, mean, 0.0).sum(axis=1) / asked.sum(axis=1)


def _sequence(x: np.ndarray, alpha: float) -> tuple[float, float, np.ndarray]:
    """Ends of the confidence sequence of the mean of ``x`` in [0, 1] at its end, and the capital
    (n + 1,) against ½.
    """
    if not len(x):
        return 0.0, 1.0, np.ones(1)
    n = np.arange(1, len(x) + 1)
    # As if one item at ½ with a standard deviation of ½ had come before: there is something to bet
    # on from the first.
    mean = (0.5 + np.cumsum(x)) / (n + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (n + 1)
    # A stake may use nothing but the items before: the capital is a martingale only if it is chosen
    # unseen.
    before = np.concatenate([[0.25], variance[:-1]])
    stake = np.sqrt(2 * np.log(2 / alpha) / (before * n * np.log(1 + n)))

    def log_capital(m: float) -> np.ndarray:
        up, down = (np.minimum(stake, _MOST / max(side, 1e-9)) for side in (m, 1 - m))
        bets = np.log1p(np.stack([up * (x - m), down * (m - x)])).cumsum(axis=1)
        return np.logaddexp(*bets) - np.log(2)

    def refuted(m: float) -> float:
        return float(log_capital(m).max() + np.log(alpha))

    # The capital falls towards a middle and rises beyond it, so the candidates that are left are an
    # interval. Mostly the mean is in it, but not where the answers drift.
    middle = float(mean[-1])
    if refuted(middle) >= 0:
        middle = optimize.minimize_scalar(refuted, bounds=(0, 1), method="bounded").x
    ends = [0.0, 1.0] if refuted(middle) < 0 else [np.nan, np.nan]
    for side, end in enumerate((0.0, 1.0)):
        if refuted(middle) < 0 < refuted(end):
            ends[side] = optimize.brentq(refuted, end, middle, xtol=1e-5)
    return *ends, np.exp(np.minimum(np.append(0.0, log_capital(0.5)), 700))


def _p(capital: np.ndarray) -> float:
    return float(1 / capital.max())
