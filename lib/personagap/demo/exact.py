"""Precomputed exact probabilities of the demo models' answers, stored in the bundle."""

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from personagap.paths import DEMO

FILE = DEMO / "exact.parquet"


def known(keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the log-probabilities of choices for those of ``keys`` that the bundle has.

    Keys (``ask.weigh``) hash everything that determines an answer, so a retrained model or another
    wording has keys that are not found here.
    """
    # A binary search in sorted keys: building a dictionary of all takes longer than a few look-ups.
    stored, starts, values = _bundle()
    queries = np.array([number(key) for key in keys], dtype=np.uint64)
    positions = np.searchsorted(stored, queries).clip(max=len(stored) - 1)
    matches = np.flatnonzero(stored[positions] == queries).tolist()
    return {keys[i]: values[starts[positions[i]] : starts[positions[i] + 1]] for i in matches}


def number(key: str) -> int:
    """Return the first 64 bits of a hexadecimal key, which identify it in the bundle."""
    # The chance that any two of a million keys collide is about 1 in 40 million.
    return int(key[:16], 16)


@functools.cache
def _bundle() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sorted keys, the offsets of their values, and the values of all keys."""
    table = pq.read_table(FILE).combine_chunks()
    lists = table["log_probabilities"].chunk(0)
    return table["key"].to_numpy(), lists.offsets.to_numpy(), lists.values.to_numpy().astype(float)
