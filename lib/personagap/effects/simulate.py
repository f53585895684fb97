"""Scores with known persona effects: the ground truth of power analysis and of validation."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from personagap.errors import UserError


def simulate_scores(
    effects: ArrayLike,
    *,
    n_items: int,
    n_runs: int = 1,
    difficulty: tuple[float, float] = (1.0, 1.0),
    task: str = "mmlu",
    seed: int | np.random.Generator = 0,
) -> pd.DataFrame:
    """Binary scores of personas whose true effects are given.

    Item j succeeds with probability q_j ~ Beta(``difficulty``) without an identity (both controls)
    and with q_j + e·q_j(1 − q_j)/E[q(1 − q)] for an identity of effect e. So e is exactly the
    expected difference in score, and the true PB is the population standard deviation of the
    effects.

    Parameters
    ----------
    effects : k effects in points, or a k × T table with a column for each phrasing.
    n_items, n_runs : items, and repetitions of each.
    difficulty : parameters of the Beta distribution of q.

    Returns
    -------
    Rows of ``scores``: ``persona template task item run score valid truncated``; identities ``p00,
    p01, …`` and the controls ``none, assistant``, which no phrasing applies to.

    Examples
    --------
    >>> scores = simulate_scores([0, 10], n_items=4000, seed=1)
    >>> scores.groupby("persona", observed=True)["score"].mean().round(2).to_dict()
    {'none': 0.5, 'assistant': 0.5, 'p00': 0.5, 'p01': 0.61}
    """
    rng = np.random.default_rng(seed)
    effect = np.asarray(effects, dtype=float) / 100
    effect = effect[:, None] if effect.ndim == 1 else effect
    k, n_templates = effect.shape
    a, b = difficulty
    scale = a * b / ((a + b) * (a + b + 1))
    if np.abs(effect).max() > scale:
        raise UserError(
            f"effects above {100 * scale:.1f} points do not fit Beta{difficulty} items: make "
            "them smaller"
        )
    q = rng.beta(a, b, n_items)
    conditions = np.concatenate([np.zeros(2), effect.ravel()])
    p = q + conditions[:, None] * q * (1 - q) / scale
    score = rng.random((len(conditions), n_items, n_runs)) < p[:, :, None]
    cell = np.repeat(np.arange(len(conditions)), n_items * n_runs)
    names = ["none", "assistant", *(f"p{i:02d}" for i in range(k))]
    templates = ["paper", *(f"phrasing{t + 1}" for t in range(1, n_templates))]
    return pd.DataFrame(
        {
            "persona": pd.Categorical.from_codes(
                np.where(cell < 2, cell, 2 + (cell - 2) // n_templates), names
            ),
            "template": pd.Categorical.from_codes(
                np.where(cell < 2, 0, (cell - 2) % n_templates), templates
            ),
            "task": task,
            "item": np.tile(np.repeat(np.arange(n_items), n_runs), len(conditions)),
            "run": np.tile(np.arange(n_runs), len(conditions) * n_items),
            "score": score.ravel().astype(float),
            "valid": True,
            "truncated": False,
        }
    )
