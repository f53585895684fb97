"""Validation of estimators against references and on simulated data, and the table of results."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from statsmodels.stats.proportion import proportion_confint

from personagap.errors import require_at_least
from personagap.limits import monte_carlo
from personagap.results import result
from personagap.validation.cases import covers
from personagap.validation.trials import trials


class Check(NamedTuple):
    """How one estimator is validated.

    Attributes
    ----------
    estimator, reference, effect : names for the table; ``effect`` is the one planted in trials.
    compare : function that returns the value of the estimator and that of the reference.
    trial : function ``trial(rng, planted)`` that analyses simulated data with or without the
        planted effect and returns a row of `results` and the truth that its interval must cover
        (None: there is no interval).
    """

    estimator: str
    reference: str
    compare: Callable[[], tuple[ArrayLike, ArrayLike]]
    effect: str = ""
    trial: Callable[[np.random.Generator, bool], tuple[pd.Series, float | None]] | None = None

    def difference(self) -> float:
        """Return the largest absolute difference from the reference."""
        return float(np.abs(np.subtract(*self.compare())).max())

    def outcome(self, rng: np.random.Generator, i: int) -> tuple[float | None, bool | None]:
        """Run trial ``i``; return its p-value and whether its interval covers (None: it has none).

        The effect is planted in odd trials.
        """
        if self.trial is None:
            return None, None
        row, truth = self.trial(rng, i % 2 == 1)
        return row.get("p_value"), None if truth is None else covers(row, truth)


def once(analysis: Callable) -> Callable:
    """Cache an ``analysis(rng, …)`` of data drawn with a fresh generator, which checks share."""
    cache: dict[tuple, object] = {}

    @wraps(analysis)
    def cached(rng: np.random.Generator, *arguments: object) -> object:
        # Keyed by the seed of the generator, because its state changes while its data do not.
        seed: Any = rng.bit_generator.seed_seq
        key = (seed.entropy, seed.spawn_key, *arguments)
        if key not in cache:
            cache[key] = analysis(rng, *arguments)
        return cache[key]

    return cached


def run_checks(
    checks: Sequence[Check],
    *,
    replications: int = 200,
    alpha: float = 0.05,
    seed: int = 0,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Run the checks in ``n_jobs`` processes (-1: one per processor).

    Returns
    -------
    `results` table with the keys ``estimator reference effect`` and several rows per check. The
    metrics are "largest_difference" from the reference, in the estimator's unit; "actual_error",
    the share of ``n`` null data sets with p ≤ ``alpha``; "power", the same share of data sets with
    the planted ``effect``; and "coverage" over null and planted data. Shares have 95 % Monte-Carlo
    intervals, and are left out where an estimator has no test or no interval.
    """
    require_at_least(1, replications=replications)
    tables = []
    # Twice as many data sets, because every other one has the effect.
    outcomes_of_checks = trials([check.outcome for check in checks], 2 * replications, seed, n_jobs)
    differences = Parallel(n_jobs)(delayed(check.difference)() for check in checks)
    for check, difference, outcomes in zip(checks, differences, outcomes_of_checks, strict=True):
        outcome_table = pd.DataFrame(outcomes, columns=["p", "covered"])
        events: dict[str, pd.Series] = {}
        if outcome_table["p"].notna().any():
            rejected = outcome_table["p"] <= alpha
            events = {"actual_error": rejected[::2], "power": rejected[1::2]}
        if outcome_table["covered"].notna().any():
            events["coverage"] = outcome_table["covered"].astype(bool)
        rows = [monte_carlo(event.to_frame(metric), "metric") for metric, event in events.items()]
        rows.insert(0, pd.DataFrame({"metric": ["largest_difference"], "estimate": difference}))
        keys = {"estimator": check.estimator, "reference": check.reference, "effect": check.effect}
        tables.append(pd.concat(rows).assign(**keys))
    return result(pd.concat(tables), list(keys))


def false_alarms(validated: pd.DataFrame) -> pd.Series:
    """Share of all null data sets of `run_checks` that were called significant.

    Returns
    -------
    Series ``estimate ci_low ci_high n``.
    """
    # Treats all as independent, although checks of the same analysis use the same data.
    tested = validated[validated["metric"] == "actual_error"]
    n, rejected = tested["n"].sum(), (tested["estimate"] * tested["n"]).sum()
    low, high = proportion_confint(round(rejected), n, method="beta")
    return pd.Series({"estimate": rejected / n, "ci_low": low, "ci_high": high, "n": n})
