"""Exact probabilities of the demo models' answers that come with the bundle, so that truths need no
model's time.
"""

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from personagap.paths import DEMO

FILE = DEMO / "exact.parquet"


def known(keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of ``keys`` (``ask.weigh``) that come with the bundle → log-probability of each choice.

    A key holds all that determines an answer: a model trained anew, or another wording, is not
    found here.
    """
    # Sorted keys, not a dictionary: to make one of all takes longer than to find a few.
    stored, starts, values = _bundle()
    wanted = np.array([number(key) for key in keys], dtype=np.uint64)
    at = np.searchsorted(stored, wanted).clip(max=len(stored) - 1)
    found = np.flatnonzero(stored[at] == wanted).tolist()
    return {keys[i]: values[starts[at[i]] : starts[at[i] + 1]] for i in found}


def number(key: str) -> int:
    """What a key is kept by: its first 64 bits."""
    # Of a million keys two would share them once in some 40 million bundles.
    return int(key[:16], 16)


@functools.cache
def _bundle() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys in order, where the values of each begin, and the values of all."""
    table = pq.read_table(FILE).combine_chunks()
    lists = table["log_probabilities"].chunk(0)
    return table["key"].to_numpy(), lists.offsets.to_numpy(), lists.values.to_numpy().astype(float)
