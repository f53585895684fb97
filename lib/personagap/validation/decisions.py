"""Validation of PB equivalence, answer flips, partial pooling and sequential contrasts."""

from functools import partial

import numpy as np
import pandas as pd

from personagap import effects
from personagap.effects.pooling import hierarchical
from personagap.effects.sequential import _sequence
from personagap.validation.cases import Case, binary, covers, scores_of
from personagap.validation.checks import Check
from personagap.validation.heterogeneous import contested, one_noisy, rare_refusals, shared_flips

CATEGORIES = {i: "abcdef"[i % 6] for i in range(31)}

# --- equivalence of PB ----------------------------------------------------------------------------


def _equivalence(scores: pd.DataFrame, margin: float) -> pd.Series:
    return effects.bias_equivalence(scores, margin=margin, n_bootstrap=400).iloc[0]


def _equivalence_trial(rng: np.random.Generator, planted: bool) -> tuple:
    """Null: PB equals the margin. Planted: no PB."""
    # With effects of ±2 points PB is 2, the margin: the least favourable null of a one-sided test.
    effect = 2.0 * (not planted) * np.resize([-1.0, 1.0], 30)
    scores = effects.simulate_scores(effect, n_items=285, n_runs=2, seed=rng)
    return _equivalence(scores, 2.0), None


def _equivalence_false_alarm(rng: np.random.Generator, data, **how) -> bool:
    x, truth = data(rng, **how)
    return _equivalence(scores_of(x), truth**0.5)["p_value"] <= 0.05


def _equivalence_duality() -> tuple:
    """p-value and α: with the margin at the upper end of the 1 − 2α interval the two are equal."""
    scores = effects.simulate_scores([-3, 3] * 4, n_items=200, n_runs=2, seed=0)
    high = effects.bias_equivalence(scores, margin=5)["ci_high"][0]
    return effects.bias_equivalence(scores, margin=high)["p_value"][0], 0.05


# --- flips ----------------------------------------------------------------------------------------


def _runs(rng: np.random.Generator, p: np.ndarray, q: np.ndarray, runs: int = 3) -> pd.DataFrame:
    """Runs of a control and an identity with probabilities ``p`` and ``q`` of a right answer."""
    x = rng.random((2, len(p), runs)) < np.stack([p, q])[:, :, None]
    persona, item, run = np.indices(x.shape).reshape(3, -1)
    columns = {"task": "t", "persona": np.array(["none", "p"])[persona], "item": item, "run": run}
    return pd.DataFrame(columns | {"score": x.ravel() * 1.0})


def _flips_trial(rng: np.random.Generator, planted: bool) -> tuple:
    """Planted: 20 points more on half of the items and 20 less on the others, with equal means."""
    p = rng.uniform(0.2, 0.8, 300)
    q = p + 0.2 * planted * rng.choice([-1, 1], 300)
    return effects.answer_flips(_runs(rng, p, q)).iloc[2], 4.0 * planted


def _flips_false_alarm(rng: np.random.Generator) -> bool:
    """Nearly all answers are certain; a few items are a coin toss."""
    p = np.where(rng.random(120) < 0.05, 0.5, rng.choice([0.005, 0.995], 120))
    return effects.answer_flips(_runs(rng, p, p))["p_value"][2] <= 0.05


def _expected_flips() -> tuple:
    """Expected shares: p(1 − q) + q(1 − p), 2p(1 − p), (p − q)²."""
    # Enough items for a Monte-Carlo error of a few tenths of a percent.
    p, q = np.full(20_000, 0.3), np.full(20_000, 0.6)
    ours = effects.answer_flips(_runs(np.random.default_rng(0), p, q))["estimate"]
    return ours, [54, 42, 9]


# --- partial pooling ------------------------------------------------------------------------------


def _pooled(rng: np.random.Generator, scores: pd.DataFrame, metric: str) -> tuple[pd.Series, int]:
    """Row of an identity drawn at random, and its number."""
    # At random, because intervals of pooled effects cover on average over identities, not for each.
    i = int(rng.integers(31))
    table = effects.partial_pooling(scores, seed=int(rng.integers(2**31)))
    name = f"{scores['persona'].unique()[i]} − mean"
    return table[(table["contrast"] == name) & (table["metric"] == metric)].iloc[0], i


def _answers(
    rng: np.random.Generator, effect: np.ndarray, n: int = 150, n_templates: int = 1
) -> np.ndarray:
    """Answers (identities, phrasings, items) with effects in points by identity (and phrasing)."""
    p = rng.uniform(0.2, 0.8, n) + effect.reshape(31, -1, 1) / 100
    return binary(rng, np.broadcast_to(p, (31, n_templates, n)))


def _shrunken_effect(rng: np.random.Generator, true: np.ndarray) -> tuple[pd.Series, float]:
    row, i = _pooled(rng, scores_of(_answers(rng, true)), "shrunken effect")
    return row, true[i] - true.mean()


def _pooling_covers(rng: np.random.Generator, true: np.ndarray) -> bool:
    return covers(*_shrunken_effect(rng, true))


def _pooling_trial(rng: np.random.Generator, planted: bool) -> tuple:
    return _shrunken_effect(rng, 2.0 * planted * rng.normal(size=31))


def _category_covers(rng: np.random.Generator) -> bool:
    """No effect, but identities of a category mostly give the same answer to an item."""
    scores = scores_of(shared_flips(rng))
    table = effects.partial_pooling(scores, CATEGORIES, seed=int(rng.integers(2**31)))
    rows = table[(table["level"] == "category") & (table["metric"] == "shrunken effect")]
    return covers(rows.iloc[int(rng.integers(6))], 0.0)


def _noisy_covers(rng: np.random.Generator) -> bool:
    return covers(_pooled(rng, scores_of(one_noisy(rng)), "shrunken effect")[0], 0.0)


def _item_covers(rng: np.random.Generator) -> bool:
    """Identity × item interaction of 15 points: whether the interval covers a new item."""
    # The last item is held out: its difference is what the interval predicts.
    interaction = rng.choice([-0.15, 0.15], (31, 151))
    x = binary(rng, rng.uniform(0.2, 0.8, 151) + interaction)
    row, i = _pooled(rng, scores_of(x[:, :150]), "new item")
    return covers(row, 100 * (x[i, 150] - x[:, 150].mean()))


def _phrasing_covers(rng: np.random.Generator) -> bool:
    """Effects of 2 points, identity × phrasing of 3: whether the interval covers a new phrasing."""
    effect = 2 * rng.normal(size=(31, 1)) + 3 * rng.normal(size=(31, 5))
    scores = scores_of(_answers(rng, effect[:, :4], n_templates=4))
    row, i = _pooled(rng, scores, "new phrasing")
    return covers(row, effect[i, 4] - effect[:, 4].mean())


def _likelihood_covers(rng: np.random.Generator) -> bool:
    """Likelihoods with sd 0.1 points by identity, 1 by identity × item and some 20 by item."""
    effect = 0.1 * rng.normal(size=31)
    x = rng.uniform(0.2, 0.8, 80) + effect[:, None] / 100 + 0.01 * rng.normal(size=(31, 80))
    row, i = _pooled(rng, scores_of(x), "raw effect")
    return covers(row, effect[i] - effect.mean())


def _subject_covers(rng: np.random.Generator) -> bool:
    """Identity × subject interaction of 15 points, items of 14 subjects, two of which are large."""
    subject = np.repeat(np.arange(14), [30] * 2 + [5] * 12)
    interaction = 0.15 * rng.normal(size=(12, 14))[:, subject]
    x = binary(rng, (rng.uniform(0.3, 0.7, 120) + interaction).clip(0, 1))
    table = effects.partial_pooling(scores_of(x, subject=subject), cluster="subject")
    return covers(table.query("metric == 'raw effect'").iloc[0], 0.0)


def _eight_schools() -> tuple:
    """Posterior medians of Bayesian Data Analysis (3rd ed.), table 5.3: whole points, 200 draws."""
    y, se = np.array([28, 8, -3, 7, -1, 1, 18, 12.0]), np.array([15, 10, 16, 11, 9, 11, 10, 18.0])
    draws = hierarchical(y, np.diag(se**2)).draws(np.eye(8), np.random.default_rng(0))
    return np.median(draws, axis=1), [10, 8, 7, 8, 5, 6, 10, 8]


# --- watched contrasts ----------------------------------------------------------------------------


def _watched_trial(rng: np.random.Generator, planted: bool) -> tuple:
    scores = effects.simulate_scores([12.0 * planted], n_items=400, n_runs=2, seed=rng)
    return effects.sequential_contrasts(scores).iloc[0], 12.0 * planted


def _peeking_false_alarm(rng: np.random.Generator) -> bool:
    """Whether an effect is found at any of 300 looks: no effect, and only a few items uncertain."""
    # Most differences are 0, which makes variances smallest and the stakes of bets largest.
    q = np.where(rng.random(300) < 0.1, 0.5, 1.0)
    scores = scores_of(binary(rng, np.tile(q, (6, 1))))
    scores["persona"] = np.array(["none", *"abcde"])[scores["persona"]]
    return effects.sequential_contrasts(scores)["p_adjusted"].min() <= 0.05


def _every_look_covers(rng: np.random.Generator) -> bool:
    """Whether the interval of every look covers a difference of 2 points, from one item in 50."""
    scores = _runs(rng, np.ones(400), np.where(rng.random(400) < 0.02, 0.0, 1.0), runs=1)
    return covers(effects.sequential_contrasts(scores).iloc[0], -2.0)


def _watched_duality() -> tuple:
    """p-value and 1 − level: with the null at an end of the interval the two are equal."""
    x = np.random.default_rng(0).beta(2, 3, 200)
    low, _, _ = _sequence(x, 0.05)
    shifted = x - low + 0.5
    return 1 / _sequence(shifted, 0.05)[2].max(), 0.05


DECISIONS = [
    Check("bias_equivalence", "interval of PB, by duality", _equivalence_duality, "PB 0, margin 2",
          _equivalence_trial),
    Check("answer_flips", "expected shares, 20,000 items", _expected_flips, "±20 points by item",
          _flips_trial),
    Check("partial_pooling", "eight schools, in whole points", _eight_schools,
          trial=_pooling_trial),
    Check("sequential_contrasts", "interval, by duality", _watched_duality, "12 points",
          _watched_trial),
]  # fmt: skip
UNEVEN_DECISIONS = [
    Case("bias_equivalence", "PB at the margin, on a quarter of the items", "false alarm",
         partial(_equivalence_false_alarm, data=contested, missing=0.003)),
    Case("bias_equivalence", "PB at the margin, one identity refuses 2 % of 285",
         "false alarm, stated limit", partial(_equivalence_false_alarm, data=rare_refusals, n=285)),
    Case("answer_flips", "few items unsure", "false alarm", _flips_false_alarm),
    Case("partial_pooling", "no effect", "covered", partial(_pooling_covers, true=np.zeros(31))),
    Case("partial_pooling", "one of 31 differs by 10 points", "covered",
         partial(_pooling_covers, true=-10.0 * (np.arange(31) == 3))),
    Case("partial_pooling", "one noisy identity", "covered", _noisy_covers),
    Case("partial_pooling, category", "flips shared within categories", "covered",
         _category_covers),
    Case("partial_pooling, new item", "identity × item of 15 points", "covered", _item_covers),
    Case("partial_pooling, new phrasing", "identity × phrasing of 3 points", "covered",
         _phrasing_covers),
    # Before, item difficulty and pseudo-items of a whole answer hid differences of a point.
    Case("partial_pooling, raw", "likelihoods, 0.1 points of identity beside 20 of item", "covered",
         _likelihood_covers),
    # Before, pseudo-items were as large as clusters, and intervals twice as long as they should be.
    Case("partial_pooling, cluster=", "identity × subject, two of 14 subjects hold half", "covered",
         _subject_covers, 1.0),
    Case("sequential_contrasts", "300 looks at five identities, few items unsure", "false alarm",
         _peeking_false_alarm),
    Case("sequential_contrasts", "2 % of items flip, every look", "covered", _every_look_covers),
]  # fmt: skip
