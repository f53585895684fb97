"""Heterogeneous scores: effects on few items, correlated answers, cells missing not at random.

`simulate_scores` draws exchangeable identities, items and runs, on which estimators can be valid
without being so elsewhere. ``before`` of each case is the result before these data were tried.
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
    """Effects and missing cells (a share ``missing`` of all) on a quarter of the items only.

    Returns
    -------
    Scores, and the true PB² in points².
    """
    signs = np.resize([-1.0, 1.0], 31)
    effect = 24**0.5 / 100 * signs / np.std(signs)
    chosen = np.arange(n) < n // 4
    # Scaled up on these items, so that the mean over all items is the effect.
    p = np.where(chosen, 0.5 + effect[:, None] * n / chosen.sum(), rng.choice([0.05, 0.95], n))
    x = binary(rng, p)
    x[rng.random(x.shape) < missing * chosen * n / chosen.sum()] = np.nan
    return x, 24.0


def shared_flips(rng: np.random.Generator, n: int = 60) -> np.ndarray:
    """No effect; identities of a category mostly give the same answer to an item."""
    # A permutation of identities within items assumes independent cells, and calls this a bias.
    q = rng.random(n)
    individual = binary(rng, np.tile(q, (31, 1)))
    together = binary(rng, np.tile(q, (6, 1)))[np.arange(31) % 6]
    return np.where(rng.random(n) < 0.6, together, individual)


def one_noisy(rng: np.random.Generator, n: int = 60) -> np.ndarray:
    """No effect; one identity guesses where the others are nearly certain."""
    q = rng.choice([0.02, 0.98], n)
    p = np.tile(q, (31, 1))
    p[0] = 0.5
    return binary(rng, p)


def unequal_runs(rng: np.random.Generator, n: int = 60) -> np.ndarray:
    """No effect; three identities have one run, the others ten."""
    q, runs = rng.random(n), np.where(np.arange(31) < 3, 1, 10)[:, None]
    return rng.binomial(runs, np.tile(q, (31, 1))) / runs


def rare_refusals(rng: np.random.Generator, n: int) -> tuple[np.ndarray, float]:
    """One identity of 31 refuses 2 % of the items, the others none: scores, true PB² in points²."""
    x = np.ones((31, n))
    x[0] = rng.random(n) >= 0.02
    return x, 4.0 * 30 / 31**2


def by_subject(rng: np.random.Generator, sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """No effect but an identity × subject interaction of 6 points; ``sizes`` are items per subject.

    Returns
    -------
    Scores, and the subject of each item.
    """
    subject, shape = np.repeat(np.arange(len(sizes)), sizes), (31, len(sizes))
    p = rng.uniform(0.2, 0.8, len(subject)) + 0.06 * rng.normal(size=shape).clip(-3, 3)[:, subject]
    return binary(rng, p.clip(0, 1)), subject


def _bias_covers(rng: np.random.Generator, data: Callable, **how) -> bool:
    x, truth = data(rng, **how)
    return covers(effects.personalization_bias(scores_of(x), **QUICK).iloc[0], truth)


def _bias_false_alarm(rng: np.random.Generator, data: Callable) -> bool:
    return effects.personalization_bias(scores_of(data(rng)), **QUICK)["p_value"][0] <= 0.05


def _subject_false_alarm(rng: np.random.Generator, sizes: list[int]) -> bool:
    x, subject = by_subject(rng, sizes)
    scores = scores_of(x, subject=subject)
    return effects.personalization_bias(scores, cluster="subject", **QUICK)["p_value"][0] <= 0.05


def _joint_test_finds_effect(rng: np.random.Generator) -> bool:
    """Whether the joint test finds an effect on 1,319 items beside two small tasks without one."""
    # GSM8K has 1,319 items. Unweighted, the noise of PB² on 20 items would exceed the effect.
    effect = 0.02 * np.resize([-1.0, 1.0], 31)[:, None]
    tasks = [
        scores_of(binary(rng, rng.uniform(0.1, 0.9, n) + effect * (n > 100)), task=str(n))
        for n in (1319, 20, 60)
    ]
    bias = effects.personalization_bias(pd.concat(tasks), **QUICK).set_index("dimension")
    return bias.loc["joint", "p_value"] <= 0.05


def _five_tasks_false_alarm(rng: np.random.Generator) -> bool:
    """Whether an effect is found in any of five tasks without one."""
    x = [binary(rng, np.tile(rng.random(60), (31, 1))) for _ in range(5)]
    tasks = [scores_of(answers, task=str(i)) for i, answers in enumerate(x)]
    return effects.personalization_bias(pd.concat(tasks), **QUICK)["p_adjusted"][:5].min() <= 0.05


BIAS = [
    # Before, items without an answer of every identity were left out, mostly the contested ones.
    Case("personalization_bias", "0.3 % of cells missing, on contested items", "covered",
         partial(_bias_covers, data=contested, missing=0.003), 0.53),
    Case("personalization_bias", "0.9 % of cells missing, on contested items", "covered",
         partial(_bias_covers, data=contested, missing=0.009), 0.0),
    Case("personalization_bias", "flips shared within categories", "false alarm",
         partial(_bias_false_alarm, data=shared_flips), 0.18),
    Case("personalization_bias", "one noisy identity", "false alarm",
         partial(_bias_false_alarm, data=one_noisy), 0.1),
    Case("personalization_bias", "unequal runs", "false alarm",
         partial(_bias_false_alarm, data=unequal_runs), 0.158),
    # Without pseudo-items, a resample without any of the few refusals has no noise at all.
    *(Case("personalization_bias", f"one identity refuses 2 % of {n} items", "covered",
           partial(_bias_covers, data=rare_refusals, n=n), before)
      for n, before in ((60, 0.37), (100, 0.59), (285, 0.83))),
    Case("personalization_bias, cluster=", "identity × subject, 57 × 5 items", "false alarm",
         partial(_subject_false_alarm, sizes=[5] * 57), 0.245),
    Case("personalization_bias, cluster=", "one subject of 31 holds 100 of 220 items",
         "false alarm", partial(_subject_false_alarm, sizes=[100] + [4] * 30), 0.67),
    Case("personalization_bias, joint", "an effect on 1,319 items, none on 20 and 60", "found",
         _joint_test_finds_effect, 0.16),
    Case("personalization_bias, p_adjusted", "five tasks without effect", "false alarm",
         _five_tasks_false_alarm, 0.225),
]  # fmt: skip


# --- change between conditions --------------------------------------------------------------------


def _change_false_alarm(rng: np.random.Generator, data: Callable) -> bool:
    scores = [scores_of(x).assign(condition=name) for x, name in zip(data(rng), "ab", strict=True)]
    change = effects.paired_change(pd.concat(scores), {"b": "a"}, n_bootstrap=399)
    change = change[change["task"] == "t"].set_index("metric")
    return change.loc["pb_corrected", "p_value"] <= 0.05


def everyone_refuses(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """No effect in either condition; afterwards everyone refuses nearly everything."""
    q = rng.random((1, 100))
    return binary(rng, np.repeat(q, 31, axis=0)), binary(rng, np.repeat(1 - 0.05 * q, 31, axis=0))


def shrinking_noise(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A constant effect of 3 points, while answers become more certain."""
    effect, q = 0.03 * np.resize([-1.0, 1.0], (31, 1)), rng.random(200)
    q_sure = (rng.random(200) < 0.5) * 0.9 + 0.05
    return binary(rng, 0.1 + 0.8 * q + effect), binary(rng, q_sure + effect)


def other_identities(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same PB, with effects on different identities."""
    effect, q = np.where(np.arange(31) < 5, -0.15, 0.0)[:, None], rng.uniform(0.2, 0.8, 200)
    return binary(rng, q + effect), binary(rng, q + effect[::-1])


def vanishing_interaction(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """No effect; an identity × phrasing interaction of 4 points before, 0 after; four phrasings."""
    q, phrasing = rng.uniform(0.15, 0.85, 150), 0.04 * rng.normal(size=(31, 4, 1)).clip(-3, 3)
    return binary(rng, q + phrasing), binary(rng, q + 0 * phrasing)


CHANGE = [
    Case("paired_change", data, "false alarm", partial(_change_false_alarm, data=generate), before)
    for data, before, generate in (
        ("no effect; everyone refuses afterwards", 0.166, everyone_refuses),
        ("the same effect; noise shrinks", 0.1, shrinking_noise),
        ("the same PB; other identities are hit", 0.154, other_identities),
        ("no effect; identity × phrasing of 4 points goes", 0.74, vanishing_interaction),
    )
]

# --- other estimators -----------------------------------------------------------------------------


def _wald_false_alarm(rng: np.random.Generator) -> bool:
    """Whether the Wald test, if reported at all, rejects without an effect."""
    scores = scores_of(binary(rng, np.full((31, 1500), 0.95)))
    table = effects.omnibus(scores, n_permutations=9).set_index("method")
    return "GEE logistic Wald" in table.index and table.loc["GEE logistic Wald", "p_value"] <= 0.05


def _any_interval_excludes_0(rng: np.random.Generator) -> bool:
    x = binary(rng, np.tile(rng.random(100), (32, 1)))
    scores = scores_of(x)
    table = effects.contrasts(scores.assign(persona=scores["persona"].astype(str)), control="31")
    return ((table["simultaneous_low"] > 0) | (table["simultaneous_high"] < 0)).any()


def _components_cover(rng: np.random.Generator) -> bool:
    """Coverage of the share of variance by item, for items answered right in 10 or 90 %."""
    q, identity = rng.choice([0.1, 0.9], 100), 0.03 * rng.normal(size=(31, 1)).clip(-2.5, 2.5)
    runs = [scores_of(binary(rng, q + identity)).assign(run=run) for run in (0, 1)]
    table = effects.variance_components(pd.concat(runs), seed=int(rng.integers(2**31)))
    row = table.set_index(["component", "metric"]).loc[("item", "share")]
    # Variance by item 0.4², by identity 0.03², by run 0.1 × 0.9 less the variance by identity.
    return covers(row, 0.16 / (0.16 + 0.0009 + 0.09 - 0.0009))


def _unequal_subjects_covers(rng: np.random.Generator) -> bool:
    """No effect except by subject; one subject has 60 items, seven have five each."""
    subject = np.repeat(np.arange(8), [60] + [5] * 7)
    q = rng.uniform(0.3, 0.7, (1, 95))
    q_persona = (q + 0.2 * rng.normal(size=8)[subject]).clip(0, 1)
    scores = scores_of(binary(rng, np.concatenate([q, q_persona])), subject=subject)
    scores["persona"] = np.array(["none", "a"])[scores["persona"]]
    return covers(effects.contrasts(scores, cluster="subject").iloc[0], 0.0)


def _few_items_cover(rng: np.random.Generator) -> bool:
    """Five items of very different difficulty with five runs each."""
    runs = effects.simulate_scores([0], n_items=5, n_runs=5, difficulty=(2, 0.5), seed=rng)
    return covers(effects.rates(runs).iloc[0], 80)


MANY = [
    # Before, mean squares of items were resampled as if their effects were normal.
    Case("variance_components, item", "items right in 10 or 90 %", "covered", _components_cover,
         0.36),
    Case("contrasts, cluster=", "one subject of eight holds 60 of 95 items", "covered",
         _unequal_subjects_covers, 0.79),
    Case("rates", "five items, five runs", "covered", _few_items_cover, 0.84),
    Case("omnibus: GEE", "mean score .95, 1,500 items", "false alarm", _wald_false_alarm, 0.2),
    # Before, the intervals had a coverage of 95 % each, not simultaneously.
    Case("contrasts, simultaneous", "31 identities without effect", "false alarm",
         _any_interval_excludes_0, 0.47),
]  # fmt: skip
