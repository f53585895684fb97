"""Data that are not alike: effects on few items, answers that flip together, cells missing where it
matters.

`simulate_scores` draws identities, items and runs that are exchangeable, and much holds on such
data that does not elsewhere. ``before`` of each case is what the functions gave until these data
were tried.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from personagap import effects
from personagap.validation.cases import Case, binary, covers, scores_of

QUICK: dict[str, Any] = {"n_permutations": 199, "n_bootstrap": 200}

# --- personalization bias -------------------------------------------------------------------------


def contested(rng: np.random.Generator, missing: float, n: int = 285) -> tuple[np.ndarray, float]:
    """Effects, and ``missing`` of all cells, on a quarter of items: scores, true PB² in points²."""
    signs = np.resize([-1.0, 1.0], 31)
    effect = 24**0.5 / 100 * signs / np.std(signs)
    some = np.arange(n) < n // 4
    # Larger there by as much as the others lack, so that the mean over all items is the effect.
    p = np.where(some, 0.5 + effect[:, None] * n / some.sum(), rng.choice([0.05, 0.95], n))
    x = binary(rng, p)
    x[rng.random(x.shape) < missing * some * n / some.sum()] = np.nan
    return x, 24.0


def shared_flips(rng: np.random.Generator, n: int = 60) -> np.ndarray:
    """No effect; identities of a category mostly answer an item alike."""
    # Relabelling identities within items takes their cells for exchangeable, and calls this a bias.
    q = rng.random(n)
    own = binary(rng, np.tile(q, (31, 1)))
    together = binary(rng, np.tile(q, (6, 1)))[np.arange(31) % 6]
    return np.where(rng.random(n) < 0.6, together, own)


def one_noisy(rng: np.random.Generator, n: int = 60) -> np.ndarray:
    """No effect; one identity guesses where the others are sure."""
    q = rng.choice([0.02, 0.98], n)
    p = np.tile(q, (31, 1))
    p[0] = 0.5
    return binary(rng, p)


def unequal_runs(rng: np.random.Generator, n: int = 60) -> np.ndarray:
    """No effect; three identities were asked once, the others ten times."""
    q, runs = rng.random(n), np.where(np.arange(31) < 3, 1, 10)[:, None]
    return rng.binomial(runs, np.tile(q, (31, 1))) / runs


def sparse(rng: np.random.Generator, n: int) -> tuple[np.ndarray, float]:
    """One identity of 31 refuses 2 % of the items, and nobody else any."""
    x = np.ones((31, n))
    x[0] = rng.random(n) >= 0.02
    return x, 4.0 * 30 / 31**2


def subjects(rng: np.random.Generator, sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """No effect; identity × subject of 6 points, subjects of so many items: scores, the subject of
    each item.
    """
    subject, every = np.repeat(np.arange(len(sizes)), sizes), (31, len(sizes))
    p = rng.uniform(0.2, 0.8, len(subject)) + 0.06 * rng.normal(size=every).clip(-3, 3)[:, subject]
    return binary(rng, p.clip(0, 1)), subject


def _bias_covers(rng: np.random.Generator, data: Callable, **how) -> bool:
    x, truth = data(rng, **how)
    return covers(effects.personalization_bias(scores_of(x), **QUICK).iloc[0], truth)


def _bias_alarm(rng: np.random.Generator, data: Callable) -> bool:
    return effects.personalization_bias(scores_of(data(rng)), **QUICK)["p_value"][0] <= 0.05


def _subject_alarm(rng: np.random.Generator, sizes: list[int]) -> bool:
    x, subject = subjects(rng, sizes)
    scores = scores_of(x, subject=subject)
    return effects.personalization_bias(scores, cluster="subject", **QUICK)["p_value"][0] <= 0.05


def _large_task(rng: np.random.Generator) -> bool:
    """Whether the joint test finds an effect on 1,319 items beside two small tasks without one."""
    # As many as GSM8K has. Unweighted, the noise of PB² on 20 items is larger than its effect.
    effect = 0.02 * np.resize([-1.0, 1.0], 31)[:, None]
    tasks = [
        scores_of(binary(rng, rng.uniform(0.1, 0.9, n) + effect * (n > 100)), task=str(n))
        for n in (1319, 20, 60)
    ]
    bias = effects.personalization_bias(pd.concat(tasks), **QUICK).set_index("dimension")
    return bias.loc["joint", "p_value"] <= 0.05


def _five_tasks(rng: np.random.Generator) -> bool:
    """Whether any of five tasks without effect passes for one with."""
    x = [binary(rng, np.tile(rng.random(60), (31, 1))) for _ in range(5)]
    tasks = [scores_of(each, task=str(i)) for i, each in enumerate(x)]
    return effects.personalization_bias(pd.concat(tasks), **QUICK)["p_adjusted"][:5].min() <= 0.05


BIAS = [
    # Before, an item that any identity lacked was left out: those that are contested go first.
    Case("personalization_bias", "0.3 % of cells missing, on contested items", "covered",
         partial(_bias_covers, data=contested, missing=0.003), 0.53),
    Case("personalization_bias", "0.9 % of cells missing, on contested items", "covered",
         partial(_bias_covers, data=contested, missing=0.009), 0.0),
    Case("personalization_bias", "flips shared within categories", "false alarm",
         partial(_bias_alarm, data=shared_flips), 0.18),
    Case("personalization_bias", "one noisy identity", "false alarm",
         partial(_bias_alarm, data=one_noisy), 0.1),
    Case("personalization_bias", "unequal runs", "false alarm",
         partial(_bias_alarm, data=unequal_runs), 0.158),
    # Without pseudo-items a resample that misses the few refusals shows no noise at all.
    *(Case("personalization_bias", f"one identity refuses 2 % of {n} items", "covered",
           partial(_bias_covers, data=sparse, n=n), before)
      for n, before in ((60, 0.37), (100, 0.59), (285, 0.83))),
    Case("personalization_bias, cluster=", "identity × subject, 57 × 5 items", "false alarm",
         partial(_subject_alarm, sizes=[5] * 57), 0.245),
    Case("personalization_bias, cluster=", "one subject of 31 holds 100 of 220 items",
         "false alarm", partial(_subject_alarm, sizes=[100] + [4] * 30), 0.67),
    Case("personalization_bias, joint", "an effect on 1,319 items, none on 20 and 60", "found",
         _large_task, 0.16),
    Case("personalization_bias, p_adjusted", "five tasks without effect", "false alarm",
         _five_tasks, 0.225),
]  # fmt: skip


# --- change between conditions --------------------------------------------------------------------


def _changed(rng: np.random.Generator, data: Callable) -> bool:
    scores = [scores_of(x).assign(condition=name) for x, name in zip(data(rng), "ab", strict=True)]
    change = effects.paired_change(pd.concat(scores), {"b": "a"}, n_bootstrap=399)
    change = change[change["task"] == "t"].set_index("metric")
    return change.loc["pb_corrected", "p_value"] <= 0.05


def refused(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """No effect in either; afterwards everybody refuses nearly everything."""
    q = rng.random((1, 100))
    return binary(rng, np.repeat(q, 31, axis=0)), binary(rng, np.repeat(1 - 0.05 * q, 31, axis=0))


def quieter(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An effect of 3 points that stays, while answers become sure."""
    effect, q = 0.03 * np.resize([-1.0, 1.0], (31, 1)), rng.random(200)
    sure = (rng.random(200) < 0.5) * 0.9 + 0.05
    return binary(rng, 0.1 + 0.8 * q + effect), binary(rng, sure + effect)


def others_hit(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same PB, of other identities."""
    effect, q = np.where(np.arange(31) < 5, -0.15, 0.0)[:, None], rng.uniform(0.2, 0.8, 200)
    return binary(rng, q + effect), binary(rng, q + effect[::-1])


def phrased(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """No effect; identity × phrasing of 4 points before, 0 after; four phrasings."""
    q, phrasing = rng.uniform(0.15, 0.85, 150), 0.04 * rng.normal(size=(31, 4, 1)).clip(-3, 3)
    return binary(rng, q + phrasing), binary(rng, q + 0 * phrasing)


CHANGE = [
    Case("paired_change", data, "false alarm", partial(_changed, data=generate), before)
    for data, before, generate in (
        ("no effect; everyone refuses afterwards", 0.166, refused),
        ("the same effect; noise shrinks", 0.1, quieter),
        ("the same PB; other identities are hit", 0.154, others_hit),
        ("no effect; identity × phrasing of 4 points goes", 0.74, phrased),
    )
]

# --- the others -----------------------------------------------------------------------------------


def _sure(rng: np.random.Generator) -> bool:
    """Whether the Wald test, where it is given at all, rejects without effect."""
    scores = scores_of(binary(rng, np.full((31, 1500), 0.95)))
    table = effects.omnibus(scores, n_permutations=9).set_index("method")
    return "GEE logistic Wald" in table.index and table.loc["GEE logistic Wald", "p_value"] <= 0.05


def _any_excludes(rng: np.random.Generator) -> bool:
    x = binary(rng, np.tile(rng.random(100), (32, 1)))
    scores = scores_of(x)
    table = effects.contrasts(scores.assign(persona=scores["persona"].astype(str)), control="31")
    return ((table["simultaneous_low"] > 0) | (table["simultaneous_high"] < 0)).any()


def _components_cover(rng: np.random.Generator) -> bool:
    """The share of runs in the variance of right and wrong answers, of which one item in two is
    nearly always right.
    """
    q, identity = rng.choice([0.1, 0.9], 100), 0.03 * rng.normal(size=(31, 1)).clip(-2.5, 2.5)
    runs = [scores_of(binary(rng, q + identity)).assign(run=run) for run in (0, 1)]
    table = effects.variance_components(pd.concat(runs), seed=int(rng.integers(2**31)))
    row = table.set_index(["component", "metric"]).loc[("item", "share")]
    # Of items ±0.4 about 0.5; of identities 0.03²; of runs 0.1 × 0.9, less what identities take.
    return covers(row, 0.16 / (0.16 + 0.0009 + 0.09 - 0.0009))


def _unequal_covers(rng: np.random.Generator) -> bool:
    """No effect, but for subjects; one of them holds 60 items, seven hold five each."""
    subject = np.repeat(np.arange(8), [60] + [5] * 7)
    q = rng.uniform(0.3, 0.7, (1, 95))
    apart = (q + 0.2 * rng.normal(size=8)[subject]).clip(0, 1)
    scores = scores_of(binary(rng, np.concatenate([q, apart])), subject=subject)
    scores["persona"] = np.array(["none", "a"])[scores["persona"]]
    return covers(effects.contrasts(scores, cluster="subject").iloc[0], 0.0)


def _hardly_any_items(rng: np.random.Generator) -> bool:
    """Five items of very different difficulty, five runs of each."""
    runs = effects.simulate_scores([0], n_items=5, n_runs=5, difficulty=(2, 0.5), seed=rng)
    return covers(effects.rates(runs).iloc[0], 80)


MANY = [
    # Before, mean squares of items were redrawn as of normal effects.
    Case("variance_components, item", "items right in 10 or 90 %", "covered", _components_cover,
         0.36),
    Case("contrasts, cluster=", "one subject of eight holds 60 of 95 items", "covered",
         _unequal_covers, 0.79),
    Case("rates", "five items, five runs", "covered", _hardly_any_items, 0.84),
    Case("omnibus: GEE", "mean score .95, 1,500 items", "false alarm", _sure, 0.2),
    # Before, one interval of 95 % each.
    Case("contrasts, simultaneous", "31 identities without effect", "false alarm", _any_excludes,
         0.47),
]  # fmt: skip
