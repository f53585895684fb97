"""Sequential contrasts: intervals and tests that are valid at every look, for optional stopping."""

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
from scipy import optimize

from personagap.effects._table import POINTS, by_task, make_groups, validate_scores
from personagap.effects.paired import Task
from personagap.errors import UserError, expect, require_fraction
from personagap.results import add_holm, result

#: Largest share of the capital that a single item can lose, so that none ruins the bettor.
_MAX_STAKE = 0.5


def sequential_contrasts(
    scores: pd.DataFrame,
    control: str = "none",
    *,
    by: Mapping[str, str] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Contrasts that remain valid when results are inspected after every item.

    A run may be stopped as soon as p ≤ 1 − ``level`` or the interval is short enough. Ordinary
    p-values and intervals that are inspected repeatedly will sooner or later show an effect where
    there is none; these are valid at all looks simultaneously, whenever the run is stopped.

    Parameters
    ----------
    scores : scores so far, as in `contrasts`, in the order in which the items were asked, which
        must be random (as drawn by ``datasets``). Items enter when all compared personas have
        answered them; runs and phrasings are averaged.
    control, by : as in `contrasts`.
    level : confidence level of the intervals, simultaneously over all looks.

    Returns
    -------
    DataFrame ``task contrast metric …``, metric "difference" in points, ``n`` items so far: one row
    for each identity (or group), and "any − control" without an estimate, whose p-value tests
    whether any identity differs. ``p_value`` is 1 / the largest capital so far of a bet against no
    difference; ``p_adjusted`` is Holm's.

    Notes
    -----
    Confidence sequence by betting (Waudby-Smith & Ramdas 2024, JRSS B 86, 1–27: the hedged capital
    process, Theorem 3, with predictable plug-in stakes). For a candidate difference m, Π(1 + λᵢ(xᵢ
    − m)) is the capital of a bettor against m, whose stakes λᵢ depend on the items before i only.
    If m is true, the probability that the capital ever exceeds 1/α is at most α (Ville). The
    interval contains all m whose capital never did; it is NaN if there are none, as may happen with
    items in an order that is not random. The method assumes no distribution and no planned number
    of items, at the cost of intervals some 1.6 times as wide as those inspected once. The mean of
    the identities' capitals bets against all null hypotheses at once.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> scores = simulate_scores([0, -12], n_items=600, n_runs=3, seed=1)
    >>> so_far = scores[scores["item"] < 300]  # a first look
    >>> watched = sequential_contrasts(so_far)
    >>> watched[["contrast", "estimate", "ci_low", "ci_high", "p_value", "n"]].round(3)
         contrast  estimate  ci_low  ci_high  p_value    n
    0  p00 − none    -2.111  -9.413    2.245    0.131  300
    1  p01 − none   -14.444 -20.483   -8.568    0.000  300
    2  any − none       NaN     NaN      NaN    0.000  300
    """
    require_fraction(level=level)
    expect(isinstance(control, Hashable), "one persona's name", control=control)
    rows = []
    for task, part in by_task(validate_scores(scores)):
        capitals = []
        for name, x in _differences(Task(task, part, None), control, by):
            answered = np.isfinite(x)
            x = x[answered]
            # Differences in [−1, 1] are rescaled to [0, 1] for the bets.
            low, high, capital = _sequence((x + 1) / 2, 1 - level)
            row = {"contrast": f"{name} − {control}", "tests": "contrasts", "n": len(x)}
            row |= {"ci_low": POINTS * (2 * low - 1), "ci_high": POINTS * (2 * high - 1)}
            row |= {"estimate": POINTS * x.mean() if len(x) else np.nan}
            rows.append(row | {"p_value": _p_value(capital), "task": task})
            # The capital after each item of the task, unchanged where there was no answer.
            capitals.append(capital[np.append(0, np.cumsum(answered))])
        # The mean of martingales is a martingale under any dependence between the identities;
        # their product or maximum is not.
        pooled = np.mean(capitals, axis=0)
        row = {"contrast": f"any − {control}", "tests": "any", "n": len(pooled) - 1}
        rows.append(row | {"task": task, "p_value": _p_value(pooled)})
    table = add_holm(pd.DataFrame(rows), ["task", "tests"]).drop(columns="tests")
    method = "confidence sequence by betting, valid at every look"
    return result(table, ["task", "contrast"], metric="difference", unit="points", method=method)


def _differences(task: Task, control: str, by: Mapping[str, str] | None):
    """Yield the name and paired item differences of each identity or group (NaN if unanswered)."""
    table = task.table
    scores = dict(zip(table.personas, _average_phrasings(table.mean), strict=True))
    groups = make_groups(table.personas, control, by)
    if not groups:
        remedy = "are there identities, and does `by` name them?"
        raise UserError(f"{task.name}: nothing to compare: {remedy}")
    if control not in scores:
        choices = f"there are {', '.join(map(str, table.personas))}"
        raise UserError(f"{task.name}: no scores of {control!r}; {choices}")
    for name, members in groups.items():
        yield name, np.mean([scores[persona] for persona in members], axis=0) - scores[control]


def _average_phrasings(mean: np.ndarray) -> np.ndarray:
    """Mean over the phrasings in which a persona has any answers (persona × item)."""
    used = np.isfinite(mean).any(axis=2, keepdims=True)
    return np.where(used, mean, 0.0).sum(axis=1) / used.sum(axis=1)


def _sequence(x: np.ndarray, alpha: float) -> tuple[float, float, np.ndarray]:
    """Confidence sequence of the mean of ``x`` in [0, 1], after the last item.

    Returns its two limits, and the capital (n + 1,) of the bet against a mean of ½.
    """
    if not len(x):
        return 0.0, 1.0, np.ones(1)
    n = np.arange(1, len(x) + 1)
    # A prior item of mean ½ and standard deviation ½, so that the first stake is defined.
    mean = (0.5 + np.cumsum(x)) / (n + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (n + 1)
    # A stake may depend on previous items only, or the capital would not be a martingale.
    before = np.concatenate([[0.25], variance[:-1]])
    stake = np.sqrt(2 * np.log(2 / alpha) / (before * n * np.log(1 + n)))

    def log_capital(m: float) -> np.ndarray:
        # Hedged: half of the capital bets that the mean is above m, half that it is below.
        up, down = (np.minimum(stake, _MAX_STAKE / max(loss, 1e-9)) for loss in (m, 1 - m))
        bets = np.log1p(np.stack([up * (x - m), down * (m - x)])).cumsum(axis=1)
        return np.logaddexp(*bets) - np.log(2)

    def excess(m: float) -> float:
        """Largest log capital against m, over that at which m is rejected."""
        return float(log_capital(m).max() + np.log(alpha))

    # The capital decreases towards a minimum and increases beyond it, so the candidates that are
    # not rejected form an interval. It usually contains the mean, but not if the answers drift.
    middle = float(mean[-1])
    if excess(middle) >= 0:
        middle = optimize.minimize_scalar(excess, bounds=(0, 1), method="bounded").x
    limits = [0.0, 1.0] if excess(middle) < 0 else [np.nan, np.nan]
    for side, bound in enumerate((0.0, 1.0)):
        if excess(middle) < 0 < excess(bound):
            limits[side] = optimize.brentq(excess, bound, middle, xtol=1e-5)
    return *limits, np.exp(np.minimum(np.append(0.0, log_capital(0.5)), 700))


def _p_value(capital: np.ndarray) -> float:
    return float(1 / capital.max())
