"""Simulated scores of two conditions whose identity effects are known."""

import numpy as np
import pandas as pd
from scipy import stats

from personagap import effects


def unit_effects(rng: np.random.Generator, k: int = 31) -> np.ndarray:
    """Draw identity effects of mean 0 and PB 1."""
    return stats.zscore(np.clip(rng.normal(size=k), -2, 2))


def simulate_conditions(
    before, after, n_items=64, n_runs=2, seed=0, names=("before", "after")
) -> pd.DataFrame:
    """Simulate scores of the same items in two conditions, with identity effects in points."""
    scores = effects.simulate_scores(
        np.r_[before, after], n_items=n_items, n_runs=n_runs, seed=seed
    )
    scores = scores[scores["persona"].str.startswith("p")]
    number = scores["persona"].astype("str").str[1:].astype(int)
    condition = np.where(number < len(before), *names)
    return scores.assign(condition=condition, persona=(number % len(before)).astype("str"))
