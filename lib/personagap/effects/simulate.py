"""Simulated scores with known persona effects, for validation, and power by simulation."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from personagap.effects._table import identity_cells
from personagap.effects.contrasts import contrasts
from personagap.effects.resampling import Moments, flipped, pb_test
from personagap.errors import UserError, expect, explained, require_at_least
from personagap.limits import monte_carlo
from personagap.results import random_generator, result


def simulate_scores(
    effects: ArrayLike,
    *,
    n_items: int,
    n_runs: int = 1,
    difficulty: tuple[float, float] = (1.0, 1.0),
    task: str = "mmlu",
    seed: int | np.random.Generator = 0,
) -> pd.DataFrame:
    """Simulate binary scores of personas with known effects.

    Item j is answered correctly with probability q_j ~ Beta(``difficulty``) without an identity
    (both controls), and with q_j + e·q_j(1 − q_j)/E[q(1 − q)] for an identity of effect e. The
    expected difference in score is therefore exactly e, and the true PB is the population standard
    deviation of the effects.

    Parameters
    ----------
    effects : k effects in points, or a k × T table with one column per phrasing.
    n_items, n_runs : number of items, and of runs of each.
    difficulty : parameters of the Beta distribution of q.
    task : name of the task.
    seed : seed or generator of the draws.

    Returns
    -------
    Rows of ``scores``: ``persona template task item run score valid truncated``; identities ``p00,
    p01, …`` and the controls ``none, assistant``, which have no phrasings.

    Raises
    ------
    UserError : an effect too large for the difficulty of the items.

    Examples
    --------
    >>> scores = simulate_scores([0, 10], n_items=4000, seed=1)
    >>> scores.groupby("persona", observed=True)["score"].mean().round(2).to_dict()
    {'none': 0.5, 'assistant': 0.5, 'p00': 0.5, 'p01': 0.61}
    """
    rng = random_generator(seed)
    require_at_least(1, n_items=n_items, n_runs=n_runs)
    with explained("effects", "give one or more numbers, in points"):
        effect = np.asarray(effects, dtype=float) / 100
    usable = effect.ndim in (1, 2) and effect.size and np.isfinite(effect).all()
    expect(usable, "one effect or more, in points", effects=effects)
    effect = effect[:, None] if effect.ndim == 1 else effect
    k, n_templates = effect.shape
    a, b = difficulty
    expect(min(a, b) > 0, "two numbers above 0", difficulty=difficulty)
    # E[q(1 − q)]. A larger effect would move probabilities of easy or hard items outside [0, 1].
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
    # Categorical columns save memory: a million rows have few distinct names.
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


def simulated_power(
    effects: ArrayLike,
    *,
    n_items: int,
    n_runs: int = 1,
    alpha: float = 0.05,
    replications: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Power by simulation of the whole analysis.

    It checks the formula of `power` where its approximations are in doubt.

    Parameters
    ----------
    effects : true effects in points, per identity or identity × phrasing, as in `simulate_scores`.
    n_items, n_runs : size of the design.
    alpha : level of the tests.
    replications, seed : number of simulated data sets, and their seed.

    Returns
    -------
    Key ``test`` and the ``results.COLUMNS``, one row for PB and one per identity: the share of data
    sets with p ≤ alpha (contrasts: after Holm's correction) and its 95 % Monte-Carlo interval.

    Examples
    --------
    >>> found = simulated_power([-9, 9], n_items=100, n_runs=3, replications=20)
    >>> found[["test", "metric", "estimate", "ci_low", "ci_high"]].round(2)
                       test metric  estimate  ci_low  ci_high
    0  personalization bias  power      1.00    0.83     1.00
    1            p00 − none  power      0.60    0.36     0.81
    2            p01 − none  power      0.85    0.62     0.97
    """
    require_at_least(1, replications=replications)
    tests = []
    for rng in random_generator(seed).spawn(replications):
        scores = simulate_scores(effects, n_items=n_items, n_runs=n_runs, seed=rng)
        (table,) = identity_cells(scores).values()
        # The test of `personalization_bias` with the same draws, without the interval, which takes
        # most of the time.
        signs = np.random.default_rng(int(rng.integers(2**31))).spawn(1)[0]
        bias = pb_test([Moments.of(table.mean)], [flipped(table.mean, 399, signs)])
        # The second control has no effect to be detected.
        compared = contrasts(scores[scores["persona"] != "assistant"]).set_index("contrast")
        p_value = pd.Series({"personalization bias": bias["p_value"]})
        tests.append(pd.concat([p_value, compared["p_adjusted"]]) <= alpha)
    return result(monte_carlo(pd.DataFrame(tests), "test"), ["test"], metric="power")
