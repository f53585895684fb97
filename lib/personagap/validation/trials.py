"""Trials of many estimators on simulated data, on several processors."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs


def trials(
    tried: Sequence[Callable[[np.random.Generator, int], Any]], n: int, seed: int, n_jobs: int
) -> list[list]:
    """What each of ``tried`` says of n data sets, of the same n generators each: the same on
    however many processors.

    ``n_jobs`` as of joblib: -1 is all of them. One process sees a data set in all that is tried,
    which may share work.
    """
    parts = effective_n_jobs(n_jobs)

    def some(start: int) -> list[list]:
        said = []
        for each in tried:
            # Spawned anew for each that is tried: a generator that was used draws other data.
            rngs = np.random.default_rng(seed).spawn(n)[start::parts]
            said.append([each(rng, start + parts * k) for k, rng in enumerate(rngs)])
        return said

    outcomes: list[list] = [[None] * n for _ in tried]
    found = Parallel(n_jobs=n_jobs)(delayed(some)(start) for start in range(parts))
    for start, share in enumerate(found):
        for whole, part in zip(outcomes, share, strict=True):
            whole[start::parts] = part
    return outcomes
