"""Validation of statistics that decide: equivalence of PB, flips, pooling, watched contrasts."""

from functools import partial

import numpy as np
import pandas as pd

from personagap import effects
from personagap.effects.pooling import hierarchical
from personagap.effects.sequential import _sequence
from personagap.validation.cases import Case, binary, covers, scores_of
from personagap.validation.checks import Check
from personagap.validation.heterogeneous import contested, one_noisy, shared_flips, sparse

CATEGORIES = {i: "abcdef"[i % 6] for i in range(31)}

# --- equivalence of PB ----------------------------------------------------------------------------


def _equivalent(scores: pd.DataFrame, margin: float) -> pd.Series:
    return effects.bias_equivalence(scores, margin=margin, n_bootstrap=400).iloc[0]


def _equivalence_trial(rng: np.random.Generator, planted: bool) -> tuple:
    """Null: PB is just the margin. Planted: there is none."""
    # Of ±2 points PB is 2, the margin itself: the least favourable null of a one-sided test.
    effect = 2.0 * (not planted) * np.resize([-1.0, 1.0], 30)
    return _equivalent(effects.simulate_scores(effect, n_items=285, n_runs=2, seed=rng), 2.0), None


def _equivalence_alarm(rng: np.random.Generator, data, **how) -> bool:
    x, truth = data(rng, **how)
    return _equivalent(scores_of(x), truth**0.5)["p_value"] <= 0.05


def _equivalence() -> tuple:
    """By duality: with the margin at the upper end of the 1 − 2α interval, p must be α."""
    scores = effects.simulate_scores([-3, 3] * 4, n_items=200, n_runs=2, seed=0)
    high = effects.bias_equivalence(scores, margin=5)["ci_high"][0]
    return effects.bias_equivalence(scores, margin=high)["p_value"][0], 0.05


# --- flips ----------------------------------------------------------------------------------------


def _asked(rng: np.random.Generator, q: np.ndarray, own: np.ndarray, runs: int = 3) -> pd.DataFrame:
    """Runs of a control and of one identity that are right on an item with probabilities ``q`` and
    ``own``.
    """
    x = rng.random((2, len(q), runs)) < np.stack([q, own])[:, :, None]
    persona, item, run = np.indices(x.shape).reshape(3, -1)
    columns = {"task": "t", "persona": np.array(["none", "p"])[persona], "item": item, "run": run}
    return pd.DataFrame(columns | {"score": x.ravel() * 1.0})


def _flips_trial(rng: np.random.Generator, planted: bool) -> tuple:
    """Planted: 20 points more on half of the items, 20 less on the others; means are equal."""
    q = rng.uniform(0.2, 0.8, 300)
    own = q + 0.2 * planted * rng.choice([-1, 1], 300)
    return effects.answer_flips(_asked(rng, q, own)).iloc[2], 4.0 * planted


def _flips_alarm(rng: np.random.Generator) -> bool:
    """Nearly all answers are sure; a few items are a toss."""
    q = np.where(rng.random(120) < 0.05, 0.5, rng.choice([0.005, 0.995], 120))
    return effects.answer_flips(_asked(rng, q, q))["p_value"][2] <= 0.05


def _flips() -> tuple:
    """The shares in expectation: p(1 − q) + q(1 − p), 2p(1 − p), (p − q)²."""
    # So many items that the Monte-Carlo error is a few tenths of a percent.
    p, q = np.full(20_000, 0.3), np.full(20_000, 0.6)
    ours = effects.answer_flips(_asked(np.random.default_rng(0), p, q))["estimate"]
    return ours, [54, 42, 9]


# --- partial pooling ------------------------------------------------------------------------------


def _pooled(rng: np.random.Generator, scores: pd.DataFrame, metric: str) -> tuple[pd.Series, int]:
    """The row of an identity drawn at random, with its number."""
    # Any of them: intervals of pooled effects hold the truth of so many identities, not of each.
    place = int(rng.integers(31))
    table = effects.partial_pooling(scores, seed=int(rng.integers(2**31)))
    name = f"{scores['persona'].unique()[place]} − mean"
    return table[(table["contrast"] == name) & (table["metric"] == metric)].iloc[0], place


def _difficult(
    rng: np.random.Generator, effect: np.ndarray, n: int = 150, n_templates: int = 1
) -> np.ndarray:
    """Identities (× phrasings) × items, of effects in points."""
    p = rng.uniform(0.2, 0.8, n) + effect.reshape(31, -1, 1) / 100
    return binary(rng, np.broadcast_to(p, (31, n_templates, n)))


def _shrunken(rng: np.random.Generator, true: np.ndarray) -> tuple[pd.Series, float]:
    row, place = _pooled(rng, scores_of(_difficult(rng, true)), "shrunken effect")
    return row, true[place] - true.mean()


def _pooling_covers(rng: np.random.Generator, true: np.ndarray) -> bool:
    return covers(*_shrunken(rng, true))


def _pooling_trial(rng: np.random.Generator, planted: bool) -> tuple:
    return _shrunken(rng, 2.0 * planted * rng.normal(size=31))


def _category_covers(rng: np.random.Generator) -> bool:
    """No effect, but identities of a category mostly answer an item alike."""
    scores = scores_of(shared_flips(rng))
    table = effects.partial_pooling(scores, CATEGORIES, seed=int(rng.integers(2**31)))
    shown = table[(table["level"] == "category") & (table["metric"] == "shrunken effect")]
    return covers(shown.iloc[int(rng.integers(6))], 0.0)


def _noisy_covers(rng: np.random.Generator) -> bool:
    return covers(_pooled(rng, scores_of(one_noisy(rng)), "shrunken effect")[0], 0.0)


def _item_covers(rng: np.random.Generator) -> bool:
    """Identity × item of 15 points; is what one more item shows in the interval?"""
    # The last item is kept from the analysis: it is what the interval foretells.
    interaction = rng.choice([-0.15, 0.15], (31, 151))
    x = binary(rng, rng.uniform(0.2, 0.8, 151) + interaction)
    row, place = _pooled(rng, scores_of(x[:, :150]), "new item")
    return covers(row, 100 * (x[place, 150] - x[:, 150].mean()))


def _phrasing_covers(rng: np.random.Generator) -> bool:
    """Effects of 2 points, identity × phrasing of 3; does the interval hold the effect in one more
    phrasing?
    """
    effect = 2 * rng.normal(size=(31, 1)) + 3 * rng.normal(size=(31, 5))
    scores = scores_of(_difficult(rng, effect[:, :4], n_templates=4))
    row, place = _pooled(rng, scores, "new phrasing")
    return covers(row, effect[place, 4] - effect[:, 4].mean())


def _likelihood_covers(rng: np.random.Generator) -> bool:
    """Probabilities that move by a tenth of a point with the identity, a point with both, twenty
    with the item.
    """
    effect = 0.1 * rng.normal(size=31)
    x = rng.uniform(0.2, 0.8, 80) + effect[:, None] / 100 + 0.01 * rng.normal(size=(31, 80))
    row, place = _pooled(rng, scores_of(x), "raw effect")
    return covers(row, effect[place] - effect.mean())


def _eight_schools() -> tuple:
    """Medians of table 5.3 of Bayesian Data Analysis (3rd ed.), in whole points, of 200 draws."""
    y, se = np.array([28, 8, -3, 7, -1, 1, 18, 12.0]), np.array([15, 10, 16, 11, 9, 11, 10, 18.0])
    drawn = hierarchical(y, np.diag(se**2)).draws(np.eye(8), np.random.default_rng(0))
    return np.median(drawn, axis=1), [10, 8, 7, 8, 5, 6, 10, 8]


# --- watched contrasts ----------------------------------------------------------------------------


def _watched_trial(rng: np.random.Generator, planted: bool) -> tuple:
    scores = effects.simulate_scores([12.0 * planted], n_items=400, n_runs=2, seed=rng)
    return effects.watched_contrasts(scores).iloc[0], 12.0 * planted


def _peeking_alarm(rng: np.random.Generator) -> bool:
    """Whether an effect is found at any of 300 looks: nobody differs, but on a few items everybody
    is unsure.
    """
    # Most differences are 0: variances come to next to nothing, and stakes are at their largest.
    q = np.where(rng.random(300) < 0.1, 0.5, 1.0)
    scores = scores_of(binary(rng, np.tile(q, (6, 1))))
    scores["persona"] = np.array(["none", *"abcde"])[scores["persona"]]
    return effects.watched_contrasts(scores)["p_adjusted"].min() <= 0.05


def _peeked_covers(rng: np.random.Generator) -> bool:
    """Whether every look's interval holds a difference of 2 points that one item in fifty shows."""
    scores = _asked(rng, np.ones(400), np.where(rng.random(400) < 0.02, 0.0, 1.0), runs=1)
    return covers(effects.watched_contrasts(scores).iloc[0], -2.0)


def _watched() -> tuple:
    """The least capital is the greatest p: at an end of the interval p is 1 − level."""
    x = np.random.default_rng(0).beta(2, 3, 200)
    low, _, _ = _sequence(x, 0.05)
    shifted = x - low + 0.5
    return 1 / _sequence(shifted, 0.05)[2].max(), 0.05


DECISIONS = [
    Check("bias_equivalence", "interval of PB, by duality", _equivalence, "PB 0, margin 2",
          _equivalence_trial),
    Check("answer_flips", "expected shares, 20,000 items", _flips, "±20 points by item",
          _flips_trial),
    Check("partial_pooling", "eight schools, in whole points", _eight_schools,
          trial=_pooling_trial),
    Check("watched_contrasts", "interval, by duality", _watched, "12 points", _watched_trial),
]  # fmt: skip
UNEVEN_DECISIONS = [
    Case("bias_equivalence", "PB at the margin, on a quarter of the items", "false alarm",
         partial(_equivalence_alarm, data=contested, missing=0.003)),
    Case("bias_equivalence", "PB at the margin, one identity refuses 2 % of 285",
         "false alarm, stated limit", partial(_equivalence_alarm, data=sparse, n=285)),
    Case("answer_flips", "few items unsure", "false alarm", _flips_alarm),
    Case("partial_pooling", "no effect", "covered", partial(_pooling_covers, true=np.zeros(31))),
    Case("partial_pooling", "one of 31 differs by 10 points", "covered",
         partial(_pooling_covers, true=-10.0 * (np.arange(31) == 3))),
    Case("partial_pooling", "one noisy identity", "covered", _noisy_covers),
    Case("partial_pooling, category", "flips shared within categories", "covered",
         _category_covers),
    Case("partial_pooling, new item", "identity × item of 15 points", "covered", _item_covers),
    Case("partial_pooling, new phrasing", "identity × phrasing of 3 points", "covered",
         _phrasing_covers),
    # Item difficulty and a whole answer's pseudo-items once drowned differences of a point.
    Case("partial_pooling, raw", "likelihoods, 0.1 points of identity beside 20 of item", "covered",
         _likelihood_covers),
    Case("watched_contrasts", "300 looks at five identities, few items unsure", "false alarm",
         _peeking_alarm),
    Case("watched_contrasts", "2 % of items flip, every look", "covered", _peeked_covers),
]  # fmt: skip
