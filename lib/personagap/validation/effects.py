"""Validation of the statistics of persona effects."""

from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from personagap import effects
from personagap.effects._table import cells
from personagap.effects.simulate import simulate_scores
from personagap.limits import monte_carlo
from personagap.results import result
from personagap.validation import references
from personagap.validation.checks import Check, once


def _normal(
    rng: np.random.Generator, sd: float, size: tuple[int, ...], limit: float = 2
) -> np.ndarray:
    # Clipped, because probabilities leave [0, 1] with effects beyond some 17 points on items of
    # uniform difficulty.
    return sd * rng.normal(size=size).clip(-limit, limit) if sd else np.zeros(size)


def _bias_trial(rng: np.random.Generator, planted: bool, phrasing_sd: float = 0.0) -> tuple:
    effect = 2.0 * planted * rng.normal(size=31).clip(-2.5, 2.5)
    phrasing = _normal(rng, phrasing_sd, (31, 3 if phrasing_sd else 1))
    scores = simulate_scores(effect[:, None] + phrasing, n_items=150, n_runs=2, seed=rng)
    # The truth is the variance of these 31 identities: they are the population, not a sample.
    bias = effects.personalization_bias(
        scores, n_permutations=199, n_bootstrap=400, seed=int(rng.integers(2**31))
    )
    return bias.iloc[0], effect.var()


def _contrast_trial(
    rng: np.random.Generator, planted: bool, n_runs: int = 1, phrasing_sd: float = 0.0
) -> tuple:
    effect = 10.0 * planted + _normal(rng, phrasing_sd, (1, 4 if phrasing_sd else 1))
    scores = simulate_scores(effect, n_items=150, n_runs=n_runs, seed=rng)
    return effects.contrasts(scores).iloc[0], 10.0 * planted


def _one_phrasing_trial(rng: np.random.Generator, planted: bool) -> tuple:
    """Null: an effect of 14 points in one of four phrasings only. Planted: 10 points in all."""
    effect = [[10.0] * 4] if planted else [[14.0, 0, 0, 0]]
    return effects.contrasts(simulate_scores(effect, n_items=200, n_runs=2, seed=rng)).iloc[0], None


def _omnibus_trial(rng: np.random.Generator, planted: bool, method: str) -> tuple:
    return _omnibus_table(rng, planted).loc[method], None


@once
def _omnibus_table(rng: np.random.Generator, planted: bool) -> pd.DataFrame:
    scores = simulate_scores(5.0 * planted * np.repeat([-1, 1], 4), n_items=200, seed=rng)
    return effects.omnibus(scores, n_permutations=199, seed=1).set_index("method")


def _equivalence_trial(rng: np.random.Generator, planted: bool) -> tuple:
    """Null: the difference equals the margin. Planted: no difference."""
    scores = simulate_scores([0.0 if planted else 5.0], n_items=400, n_runs=3, seed=rng)
    return effects.equivalence(scores, margin=5).iloc[0], None


def _additivity_trial(rng: np.random.Generator, planted: bool) -> tuple:
    scores = simulate_scores([-3, -3, -6 + 10.0 * planted], n_items=250, n_runs=2, seed=rng)
    return effects.additivity(scores, {"p02": ["p00", "p01"]}).iloc[1], 10.0 * planted


def _components_trial(rng: np.random.Generator, _: bool, component: str, share: float) -> tuple:
    """Identity effects of sd 5 points; uniform item difficulty makes a third of the variance."""
    table = _components_table(rng)
    return table[table["metric"] == "share"].set_index("component").loc[component], share


@once
def _components_table(rng: np.random.Generator) -> pd.DataFrame:
    scores = simulate_scores(_normal(rng, 5, (31,), limit=3), n_items=150, n_runs=2, seed=rng)
    return effects.variance_components(scores, seed=int(rng.integers(2**31)))


def _rates_trial(rng: np.random.Generator, _: bool) -> tuple:
    # Beta(2, 0.5) has a mean of 0.8 with mostly easy items.
    scores = simulate_scores([0], n_items=40, n_runs=3, difficulty=(2, 0.5), seed=rng)
    return effects.rates(scores).iloc[0], 80


def one_phrasing(replications: int = 100, seed: int = 0) -> pd.DataFrame:
    """How often an effect in one of four phrasings only is called an effect of the identity.

    Compares a paired t-test over items × phrasings, which treats phrasings as fixed, with
    ``effects.contrasts`` (Helm & Priebe, arXiv 2605.27463), for an effect of 14 points.

    Returns
    -------
    `results` table with the key ``test``: the share of data sets with p ≤ 0.05, with its
    Monte-Carlo interval.
    """
    p_values = []
    for rng in np.random.default_rng(seed).spawn(replications):
        scores = simulate_scores([[14.0, 0, 0, 0]], n_items=200, n_runs=2, seed=rng)
        table = cells(scores, "mmlu")
        identity, control = (table.mean[table.personas.index(name)] for name in ("p00", "none"))
        # The control has a single phrasing.
        difference = (identity - control[0]).ravel()
        p_pooled = stats.ttest_1samp(difference, 0).pvalue
        p_values.append((p_pooled, effects.contrasts(scores)["p_value"][0]))
    tests = ["paired t-test, phrasings pooled", "effects.contrasts, phrasing random"]
    rejected = pd.DataFrame(p_values, columns=tests) <= 0.05
    return result(monte_carlo(rejected, "test"), ["test"], metric="rejects")


ANOVA = "statsmodels anova_lm"
EFFECTS = [
    Check("personalization_bias: one phrasing", ANOVA, references.bias, "PB 2 points", _bias_trial),
    Check(
        "personalization_bias: three phrasings that vary", ANOVA, references.bias, "PB 2 points",
        partial(_bias_trial, phrasing_sd=3.0),
    ),
    Check(
        "contrasts: McNemar", "statsmodels mcnemar, multipletests", references.contrasts,
        "10 points", _contrast_trial,
    ),
    Check(
        "contrasts: sign flip", "scipy permutation_test, exact", references.sign_flip, "10 points",
        partial(_contrast_trial, n_runs=3),
    ),
    Check(
        "contrasts: phrasings that vary", ANOVA, references.squares, "10 points",
        partial(_contrast_trial, phrasing_sd=3.0, n_runs=3),
    ),
    Check(
        "contrasts: effect in one phrasing", ANOVA, references.squares, "10 points",
        _one_phrasing_trial,
    ),
    Check(
        "omnibus: Cochran", "statsmodels cochrans_q", references.cochran, "±5 points",
        partial(_omnibus_trial, method="Cochran's Q"),
    ),
    Check(
        "omnibus: permutation", "scipy permutation_test", references.permutation, "±5 points",
        partial(_omnibus_trial, method="sign flip of PB"),
    ),
    Check(
        "omnibus: GEE", "statsmodels GEE", references.gee, "±5 points",
        partial(_omnibus_trial, method="GEE logistic Wald"),
    ),
    Check(
        "equivalence: TOST", "interval of contrasts", references.equivalence, "0, margin 5",
        _equivalence_trial,
    ),
    Check(
        "additivity: sum of parts", "hand calculation", references.additivity, "10 points",
        _additivity_trial,
    ),
    # Shares of the variance 1/4 of an answer: 0.05² by identity, 1/12 by uniform difficulty.
    *(
        Check(
            f"variance_components: {name}", ANOVA, references.components,
            trial=partial(_components_trial, component=name, share=share),
        )
        for name, share in {"identity": 4 * 0.05**2, "item": 1 / 3}.items()
    ),
    Check(
        "rates: three runs", "statsmodels proportion_confint", references.rates,
        trial=_rates_trial,
    ),
    Check("noise_floor", "moment estimator, in points", references.floor),
    Check("power", "simulated_power, 200 data sets", references.power),
]  # fmt: skip
