"""What it is to validate an estimator, and the table of those that were."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from personagap.effects.power import monte_carlo
from personagap.errors import at_least


class Check(NamedTuple):
    """How one estimator is validated.

    ``compare()`` returns its value and the reference's. ``trial(rng, planted)`` analyses simulated data with or
    without the planted ``effect``: a row of results, and the truth that the interval in ``columns`` must cover (None:
    there is no interval).
    """

    estimator: str
    reference: str
    compare: Callable[[], tuple[ArrayLike, ArrayLike]]
    effect: str = ""
    trial: Callable[[np.random.Generator, bool], tuple[pd.Series, float | None]] | None = None
    columns: str = "p_value ci_low ci_high"

    def difference(self) -> float:
        """The largest difference from the reference."""
        return float(np.abs(np.subtract(*self.compare())).max())

    def outcome(self, rng: np.random.Generator, planted: bool) -> tuple[float | None, bool | None]:
        """A trial's p-value and whether its interval covers, each None where there is none."""
        if self.trial is None:
            return None, None
        row, truth = self.trial(rng, planted)
        p_value, low, high = self.columns.split()
        return row.get(p_value), None if truth is None else row[low] <= truth <= row[high]


def table(checks: Sequence[Check], *, replications: int = 200, alpha: float = 0.05, seed: int = 0) -> pd.DataFrame:
    """Run the checks.

    Returns
    -------
    DataFrame, one row per check: ``estimator reference largest_difference nominal_error actual_error mc_low
    mc_high coverage coverage_low coverage_high effect power``. ``actual_error`` is the share of null data sets
    with p ≤ ``alpha`` and ``mc_low mc_high`` its 95 % Monte-Carlo interval; ``coverage``, with its own, is over
    null and planted data, ``power`` on the planted effect that ``effect`` states. Empty where an estimator has
    no test or no interval.
    """
    at_least(1, replications=replications)
    rows = []
    for check in checks:
        rngs = np.random.default_rng(seed).spawn(2 * replications)
        trials = pd.DataFrame([check.outcome(rng, i % 2 == 1) for i, rng in enumerate(rngs)], columns=["p", "covered"])
        row = {"estimator": check.estimator, "reference": check.reference, "largest_difference": check.difference()}
        if trials["p"].notna().any():
            found = trials["p"] <= alpha
            row |= {"nominal_error": alpha, "effect": check.effect, "power": found[1::2].mean()}
            row |= zip(["actual_error", "mc_low", "mc_high"], monte_carlo(found[::2].to_frame()).iloc[0], strict=True)
        if trials["covered"].notna().any():
            covered = monte_carlo(trials[["covered"]].astype(bool)).iloc[0]
            row |= zip(["coverage", "coverage_low", "coverage_high"], covered, strict=True)
        rows.append(row)
    columns = ["estimator", "reference", "largest_difference", "nominal_error", "actual_error", "mc_low", "mc_high"]
    return pd.DataFrame(rows, columns=[*columns, "coverage", "coverage_low", "coverage_high", "effect", "power"])
