"""Mean score, invalid answers and truncation of every persona."""

import numpy as np
import pandas as pd
from scipy import stats

from personagap.effects._table import POINTS, by_task, checked


def rates(scores: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Mean score of each persona in each task, with an interval fit for small samples.

    Parameters
    ----------
    scores : rows ``persona task item score valid truncated``, ``score`` in [0, 1].
    level : confidence level.

    Returns
    -------
    DataFrame, one row per task and persona: ``task persona estimate unit ci_low ci_high invalid_rate
    truncation_rate n_answers n_items``. Everything but the counts is in points (100 × proportion).

    Notes
    -----
    The estimate is the mean over items of the item's mean over its runs and phrasings. The interval is
    Wilson's with an effective sample size, the number of single binary answers that would have the same
    variance as the clustered mean: the number of items at one binary answer each, more with several runs.
    It covers at a few dozen items, where the normal approximation does not (Bowyer et al., arXiv 2503.01747).

    Examples
    --------
    >>> scores = pd.DataFrame({"task": "mmlu", "persona": "none", "item": range(10), "score": [1.0] * 10,
    ...                        "valid": True, "truncated": False})
    >>> rates(scores)[["estimate", "ci_low", "ci_high", "invalid_rate"]].round(1)
       estimate  ci_low  ci_high  invalid_rate
    0     100.0    72.2    100.0           0.0
    """
    scores = checked(scores, ["valid", "truncated"])
    rows = []
    for task, part in by_task(scores):
        for persona, answers in part.groupby("persona", sort=False, observed=True):
            items = answers.groupby("item", observed=True)["score"].mean().to_numpy()
            low, mean, high = _wilson(items, len(answers), level)
            rows.append(
                {
                    "task": task,
                    "persona": persona,
                    "estimate": POINTS * mean,
                    "unit": "points",
                    "ci_low": POINTS * low,
                    "ci_high": POINTS * high,
                    "invalid_rate": POINTS * float(1 - answers["valid"].mean()),
                    "truncation_rate": POINTS * float(answers["truncated"].mean()),
                    "n_answers": len(answers),
                    "n_items": len(items),
                }
            )
    return pd.DataFrame(rows)


def _wilson(item_means: np.ndarray, n_answers: int, level: float) -> tuple[float, float, float]:
    mean, spread, n = item_means.mean(), item_means.var(), len(item_means)
    effective = min(n * mean * (1 - mean) / spread, n_answers) if spread > 0 else n
    z2 = stats.norm.ppf((1 + level) / 2) ** 2
    centre = (mean + z2 / (2 * effective)) / (1 + z2 / effective)
    half = (z2 * (mean * (1 - mean) / effective + z2 / (4 * effective**2))) ** 0.5 / (1 + z2 / effective)
    return max(centre - half, 0.0), mean, min(centre + half, 1.0)
