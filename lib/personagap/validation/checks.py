"""What it is to validate an estimator, and the table of those that were."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from statsmodels.stats.proportion import proportion_confint

from personagap.errors import at_least
from personagap.limits import monte_carlo
from personagap.results import result
from personagap.validation.cases import covers
from personagap.validation.trials import trials


class Check(NamedTuple):
    """How one estimator is validated.

    ``compare()`` returns its value and the reference's. ``trial(rng, planted)`` analyses simulated
    data with or without the planted ``effect``: a row of `results`, and the truth that its interval
    must cover (None: there is no interval).
    """

    estimator: str
    reference: str
    compare: Callable[[], tuple[ArrayLike, ArrayLike]]
    effect: str = ""
    trial: Callable[[np.random.Generator, bool], tuple[pd.Series, float | None]] | None = None

    def difference(self) -> float:
        """The largest difference from the reference."""
        return float(np.abs(np.subtract(*self.compare())).max())

    def outcome(self, rng: np.random.Generator, i: int) -> tuple[float | None, bool | None]:
        """A trial's p-value and whether its interval covers (None: has none); odd trials have the
        effect.
        """
        if self.trial is None:
            return None, None
        row, truth = self.trial(rng, i % 2 == 1)
        return row.get("p_value"), None if truth is None else covers(row, truth)


def once(analysis: Callable) -> Callable:
    """An ``analysis(rng, …)`` of data drawn by a fresh generator, kept for all checks that look at
    the same.
    """
    kept: dict[tuple, object] = {}

    @wraps(analysis)
    def analysed(rng: np.random.Generator, *how: object) -> object:
        # By where the generator was spawned, for its state moves on; its data are the same.
        source: Any = rng.bit_generator.seed_seq
        key = (source.entropy, source.spawn_key, *how)
        if key not in kept:
            kept[key] = analysis(rng, *how)
        return kept[key]

    return analysed


def table(
    checks: Sequence[Check],
    *,
    replications: int = 200,
    alpha: float = 0.05,
    seed: int = 0,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Run the checks, in ``n_jobs`` processes (-1: one for each processor).

    Returns
    -------
    Keys ``estimator reference effect`` and the ``results.COLUMNS``, several rows for each check.
    The metrics are "largest_difference", from the reference, in the estimator's unit;
    "actual_error", the share of ``n`` null data sets with p ≤ ``alpha``; "power", that of data sets
    with the planted ``effect``; "coverage", over null and planted data: with 95 % Monte-Carlo
    intervals, and left out where an estimator has no test or no interval.
    """
    at_least(1, replications=replications)
    tables = []
    # Twice as many, for every other data set has the effect.
    tried = trials([check.outcome for check in checks], 2 * replications, seed, n_jobs)
    differences = Parallel(n_jobs)(delayed(check.difference)() for check in checks)
    for check, difference, outcomes in zip(checks, differences, tried, strict=True):
        told = pd.DataFrame(outcomes, columns=["p", "covered"])
        events: dict[str, pd.Series] = {}
        if told["p"].notna().any():
            found = told["p"] <= alpha
            events = {"actual_error": found[::2], "power": found[1::2]}
        if told["covered"].notna().any():
            events["coverage"] = told["covered"].astype(bool)
        rows = [monte_carlo(event.to_frame(metric), "metric") for metric, event in events.items()]
        rows.insert(0, pd.DataFrame({"metric": ["largest_difference"], "estimate": difference}))
        known = {"estimator": check.estimator, "reference": check.reference, "effect": check.effect}
        tables.append(pd.concat(rows).assign(**known))
    return result(pd.concat(tables), list(known))


def false_alarms(validated: pd.DataFrame) -> pd.Series:
    """All null data sets of `table` together: the share ``estimate`` called significant,
    ``ci_low ci_high n``.
    """
    # As if all were independent, though checks of one analysis look at the same data.
    tested = validated[validated["metric"] == "actual_error"]
    n, found = tested["n"].sum(), (tested["estimate"] * tested["n"]).sum()
    low, high = proportion_confint(round(found), n, method="beta")
    return pd.Series({"estimate": found / n, "ci_low": low, "ci_high": high, "n": n})
