"""What it is to try an estimator on data that are not alike, and the table of such trials."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from personagap.limits import monte_carlo
from personagap.results import result
from personagap.validation.trials import trials

#: What may happen in a trial, an error or a covered truth, and the share that it is to have. A
#: limit is stated where an estimator is known to fall short, and held to what its docstring says.
NOMINAL = {
    "false alarm": 0.05,
    "false alarm, stated limit": 0.1,
    "covered": 0.95,
    "covered, stated limit": 0.9,
    "found": 1.0,
}


class Case(NamedTuple):
    """``trial(rng)`` says whether the ``event``, one of `NOMINAL`, happened.

    ``before`` is the share before the estimator was repaired (NaN: there was no such estimator).
    """

    estimator: str
    data: str
    event: str
    trial: Callable[[np.random.Generator], bool]
    before: float = np.nan

    def happens(self, rng: np.random.Generator, _: int) -> bool:
        return bool(self.trial(rng))


def table(
    cases: Sequence[Case], *, replications: int = 200, seed: int = 0, n_jobs: int = 1
) -> pd.DataFrame:
    """Run the cases, in ``n_jobs`` processes (-1: one for each processor).

    Returns
    -------
    Keys ``estimator data`` and the ``results.COLUMNS``, one row per case: the share of data sets in
    which the event that ``metric`` names happened, with its 95 % Monte-Carlo interval; then
    ``nominal before kept``, see `NOMINAL`, `Case` and `kept`.
    """
    tables = []
    tried = trials([case.happens for case in cases], replications, seed, n_jobs)
    for case, outcomes in zip(cases, tried, strict=True):
        told = {"estimator": case.estimator, "data": case.data, "before": case.before}
        share = monte_carlo(pd.DataFrame({case.event: outcomes}), "metric")
        tables.append(share.assign(nominal=NOMINAL[case.event], **told))
    found = result(pd.concat(tables), ["estimator", "data"])
    return found.assign(kept=kept(found))


def kept(table: pd.DataFrame) -> pd.Series:
    """Whether a level of at most 6.5 %, coverage of 93 % or power of 80 % is shown, or nominal not
    excluded.
    """
    # Both ways, for few replications exclude little, and many exclude what is as good as nominal.
    alarm, found = table["metric"].str.startswith("false alarm"), table["metric"] == "found"
    shown = table["estimate"] >= np.where(found, 0.8, 0.93)
    return pd.Series(np.where(alarm, table["estimate"] <= 0.065, shown)) | np.where(
        alarm, table["ci_low"] <= table["nominal"], table["ci_high"] >= table["nominal"]
    )


def scores_of(x: np.ndarray, task: str = "t", **item_columns: np.ndarray) -> pd.DataFrame:
    """Scores of identities × items, identities × phrasings × items or, with NaN where there is
    none, a gap.
    """
    x = x[:, None] if x.ndim == 2 else x
    persona, template, item = np.nonzero(np.isfinite(x))
    columns = {"task": task, "persona": persona, "template": template, "item": item}
    columns |= {name: values[item] for name, values in item_columns.items()}
    return pd.DataFrame(columns | {"score": x[np.isfinite(x)]})


def binary(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    return (rng.random(p.shape) < p).astype(float)


def covers(row: pd.Series, truth: float) -> bool:
    return row["ci_low"] <= truth <= row["ci_high"]
