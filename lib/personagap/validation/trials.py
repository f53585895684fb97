"""Trials of many estimators on simulated data, in parallel."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs


def trials(
    functions: Sequence[Callable[[np.random.Generator, int], Any]], n: int, seed: int, n_jobs: int
) -> list[list]:
    """Outcomes of n trials of each function, which takes a generator and the number of the trial.

    All functions see the same n generators, so outcomes do not depend on ``n_jobs``, the number of
    processes as in joblib (-1: all processors). All trials of one data set run in the same process,
    so that functions can share work.
    """
    n_parts = effective_n_jobs(n_jobs)

    def run_part(start: int) -> list[list]:
        outcomes = []
        for function in functions:
            # Spawned anew for each function, because a used generator would draw other data.
            rngs = np.random.default_rng(seed).spawn(n)[start::n_parts]
            outcomes.append([function(rng, start + n_parts * k) for k, rng in enumerate(rngs)])
        return outcomes

    outcomes: list[list] = [[None] * n for _ in functions]
    parts = Parallel(n_jobs=n_jobs)(delayed(run_part)(start) for start in range(n_parts))
    for start, part in enumerate(parts):
        for of_function, of_part in zip(outcomes, part, strict=True):
            of_function[start::n_parts] = of_part
    return outcomes
