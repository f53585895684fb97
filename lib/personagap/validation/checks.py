"""What it is to validate an estimator, and the table of those that were."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from personagap.effects.power import monte_carlo

COVERAGE = ["coverage", "coverage_low", "coverage_high"]


class Check(NamedTuple):
    """How one estimator is validated.

    ``difference()`` is the largest difference from the reference; ``trial(rng, planted)`` simulates data
    with or without the planted effect and returns a p-value and whether the 95 % interval covers, either
    of them None where the estimator has none.
    """

    estimator: str
    reference: str
    difference: Callable[[], float]
    effect: str
    trial: Callable[[np.random.Generator, bool], tuple[float | None, bool | None]] | None


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
    rows = []
    for check in checks:
        rngs = np.random.default_rng(seed).spawn(2 * replications)
        trials = [check.trial(rng, index % 2 == 1) for index, rng in enumerate(rngs)] if check.trial else [(None, None)]
        row = {"estimator": check.estimator, "reference": check.reference, "largest_difference": check.difference()}
        if trials[0][0] is not None:
            null, planted = (pd.Series([p for p, _ in trials[start::2]]) <= alpha for start in (0, 1))
            error, low, high = monte_carlo(null.to_frame()).iloc[0]
            row |= {"nominal_error": alpha, "actual_error": error, "mc_low": low, "mc_high": high}
            row |= {"effect": check.effect, "power": planted.mean()}
        if trials[0][1] is not None:
            covered = monte_carlo(pd.DataFrame({"covered": [covered for _, covered in trials]})).iloc[0]
            row |= dict(zip(COVERAGE, covered, strict=True))
        rows.append(row)
    columns = ["estimator", "reference", "largest_difference", "nominal_error", "actual_error"]
    return pd.DataFrame(rows, columns=[*columns, "mc_low", "mc_high", *COVERAGE, "effect", "power"])
