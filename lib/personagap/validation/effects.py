"""How the statistics of persona effects are validated."""

from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import cochrans_q, mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from personagap import effects
from personagap.effects._table import cells
from personagap.effects.anova import mean_squares
from personagap.effects.simulate import simulate_scores
from personagap.limits import monte_carlo
from personagap.results import result
from personagap.validation.checks import Check, once


def _wide(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.pivot_table(index="item", columns="persona", values="score", observed=True)


def _four(**design: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of four identities and the controls; item × identity means of the four."""
    scores = simulate_scores([-6, 0, 4, 6], seed=1, **design)
    return scores, _wide(scores)[["p00", "p01", "p02", "p03"]]


def _anova(table: pd.DataFrame) -> pd.Series:
    # Texts, for a category that is not used would have a coefficient in the formula.
    table = table.set_axis(table.columns.astype("str"), axis=1)
    long = table.melt(var_name="persona", value_name="y", ignore_index=False).reset_index()
    anova = anova_lm(ols("y ~ C(persona) + C(item)", long).fit())
    return (anova["sum_sq"] / anova["df"]).set_axis(["identity", "item", "residual"])


# --- references: what we say and what another says


# Kept, for checks of several designs have one reference.
@cache
def _bias() -> tuple:
    scores, wide = _four(n_items=25, n_runs=3)
    squares = _anova(wide)
    ours = effects.personalization_bias(scores, n_permutations=9, n_bootstrap=20)["debiased_pb2"][0]
    return ours, 1e4 * 3 / 4 * (squares["identity"] - squares["residual"]) / 25


@cache
def _components() -> tuple:
    scores, wide = _four(n_items=25)
    identity, item, residual = _anova(wide)
    theirs = 1e4 * np.array([(identity - residual) / 25, (item - residual) / 4, residual])
    return effects.variance_components(scores).query("metric == 'variance'")["estimate"], theirs


def _contrasts() -> tuple:
    scores = simulate_scores([-15, 0, 4, 12], n_items=80, seed=1)
    wide, ours = _wide(scores), effects.contrasts(scores).iloc[:4]
    p = [mcnemar(pd.crosstab(wide[f"p{i:02d}"], wide["none"]), exact=True).pvalue for i in range(4)]
    theirs = [p, multipletests(p, method="holm")[1], multipletests(p, method="fdr_bh")[1]]
    return ours[["p_value", "p_adjusted", "p_bh"]].to_numpy().T, theirs


def _sign_flip() -> tuple:
    scores = simulate_scores([15], n_items=12, n_runs=3, seed=4)
    wide = _wide(scores)
    difference = (wide["p00"] - wide["none"]).to_numpy()
    # Rounded, so that equal sums are equal. Twelve items: scipy tries all 2¹² signs.
    every = stats.permutation_test(
        (difference,),
        lambda x, axis: x.sum(axis=axis).round(9),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    return effects.contrasts(scores)["p_value"][0], every.pvalue


def _cochran() -> tuple:
    scores, wide = _four(n_items=60)
    theirs = cochrans_q(wide.to_numpy())
    ours = effects.omnibus(scores).set_index("method").loc["Cochran's Q", ["statistic", "p_value"]]
    return ours.to_numpy(dtype=float), [theirs.statistic, theirs.pvalue]


def _gee() -> tuple:
    scores, _ = _four(n_items=100, n_runs=2)
    long = scores[scores["persona"].str.startswith("p")].astype({"persona": "str"})
    gee = sm.GEE.from_formula("score ~ C(persona)", "item", long, family=sm.families.Binomial())
    # Ours has no iterations: with identity dummies the estimates are the logits of the means.
    model = gee.fit(ctol=1e-12)
    ours = effects.omnibus(scores).set_index("method").loc["GEE logistic Wald", "statistic"]
    return ours, float(model.wald_test(np.eye(4)[1:], scalar=True).statistic)


def _rates() -> tuple:
    scores = simulate_scores([0], n_items=40, seed=0)
    theirs = proportion_confint(_wide(scores)["none"].sum(), 40, method="wilson")
    return effects.rates(scores)[["ci_low", "ci_high"]].to_numpy()[0] / 100, theirs


def _permutation() -> tuple:
    """Monte-Carlo p-values of 10,000 draws each."""
    # Of two identities PB is half their difference, so a paired permutation test is the same test.
    scores = simulate_scores([0, 10], n_items=60, seed=3)
    theirs = stats.permutation_test(
        _wide(scores)[["p00", "p01"]].to_numpy().T,
        lambda x, y, axis: np.abs((x - y).mean(axis=axis)),
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        rng=0,
    )
    return effects.omnibus(scores, n_permutations=9999)["p_value"][0], theirs.pvalue


@cache
def _squares() -> tuple:
    table = pd.DataFrame(np.random.default_rng(0).random((30, 4))).rename_axis("item")
    ours = [square.value for square in mean_squares(table.to_numpy(), "jp").values()]
    return ours, _anova(table)[["item", "identity", "residual"]]


def _floor() -> tuple:
    """In points; E[PB] is √E[PB²] times the mean of a χ, k − 1 df, over its root mean square."""
    scores = simulate_scores(np.zeros(31), n_items=285, n_runs=3, seed=0)
    row = effects.personalization_bias(scores, n_bootstrap=20).iloc[0]
    return row["noise_floor"], (row["pb"] ** 2 - row["debiased_pb2"]) ** 0.5 * (1 - 1 / (4 * 30))


def _power() -> tuple:
    """A contrast said to be found in 80 % of studies: in what share is it?"""
    size = effects.power(n_items=150, n_runs=3, n_identities=2)["smallest_contrast"][0]
    found = effects.simulated_power([size, 0], n_items=150, n_runs=3, alpha=0.1, replications=200)
    # Holm's first step tests the larger of two contrasts at 0.1 / 2.
    return 0.8, found["estimate"][1]


def _equivalence() -> tuple:
    """By duality: with the margin at an end of the 1 − 2α interval, p must be α."""
    scores = simulate_scores([4], n_items=100, n_runs=3, seed=0)
    margin = effects.contrasts(scores, level=0.9)[["ci_low", "ci_high"]].abs().max(axis=1)[0]
    return effects.equivalence(scores, margin=margin)["p_value"][0], 0.05


def _additivity() -> tuple:
    scores = simulate_scores([-6, 3, 5], n_items=60, n_runs=2, seed=0)
    mean = 100 * _wide(scores).mean()
    parts = mean["p00"] + mean["p01"]
    theirs = [mean["p02"] - parts / 2, mean["p02"] - (parts - mean["none"])]
    return effects.additivity(scores, {"p02": ["p00", "p01"]})["estimate"], theirs


# --- simulations


def _spread(
    rng: np.random.Generator, sd: float, size: tuple[int, ...], limit: float = 2
) -> np.ndarray:
    # Clipped, for effects beyond some 17 points would not fit items of uniform difficulty.
    return sd * rng.normal(size=size).clip(-limit, limit) if sd else np.zeros(size)


def _bias_trial(rng: np.random.Generator, planted: bool, phrasing_sd: float = 0.0) -> tuple:
    effect = 2.0 * planted * rng.normal(size=31).clip(-2.5, 2.5)
    phrasing = _spread(rng, phrasing_sd, (31, 3 if phrasing_sd else 1))
    scores = simulate_scores(effect[:, None] + phrasing, n_items=150, n_runs=2, seed=rng)
    # The truth is the variance of these 31: they are all that PB is of, not a sample.
    bias = effects.personalization_bias(
        scores, n_permutations=199, n_bootstrap=400, seed=int(rng.integers(2**31))
    )
    return bias.iloc[0], effect.var()


def _contrast_trial(
    rng: np.random.Generator, planted: bool, n_runs: int = 1, phrasing_sd: float = 0.0
) -> tuple:
    effect = 10.0 * planted + _spread(rng, phrasing_sd, (1, 4 if phrasing_sd else 1))
    scores = simulate_scores(effect, n_items=150, n_runs=n_runs, seed=rng)
    return effects.contrasts(scores).iloc[0], 10.0 * planted


def _one_phrasing_trial(rng: np.random.Generator, planted: bool) -> tuple:
    """Null: an effect of 14 points in one of four phrasings only. Planted: 10 points in each."""
    effect = [[10.0] * 4] if planted else [[14.0, 0, 0, 0]]
    return effects.contrasts(simulate_scores(effect, n_items=200, n_runs=2, seed=rng)).iloc[0], None


def _omnibus_trial(rng: np.random.Generator, planted: bool, method: str) -> tuple:
    return _omnibus_table(rng, planted).loc[method], None


@once
def _omnibus_table(rng: np.random.Generator, planted: bool) -> pd.DataFrame:
    scores = simulate_scores(5.0 * planted * np.repeat([-1, 1], 4), n_items=200, seed=rng)
    return effects.omnibus(scores, n_permutations=199, seed=1).set_index("method")


def _equivalence_trial(rng: np.random.Generator, planted: bool) -> tuple:
    """Null: the difference is just the margin. Planted: there is none."""
    scores = simulate_scores([0.0 if planted else 5.0], n_items=400, n_runs=3, seed=rng)
    return effects.equivalence(scores, margin=5).iloc[0], None


def _additivity_trial(rng: np.random.Generator, planted: bool) -> tuple:
    scores = simulate_scores([-3, -3, -6 + 10.0 * planted], n_items=250, n_runs=2, seed=rng)
    return effects.additivity(scores, {"p02": ["p00", "p01"]}).iloc[1], 10.0 * planted


def _components_trial(rng: np.random.Generator, _: bool, component: str, share: float) -> tuple:
    """Identity effects of sd 5 points; of items of uniform difficulty a third of the variance."""
    table = _components_table(rng)
    return table[table["metric"] == "share"].set_index("component").loc[component], share


@once
def _components_table(rng: np.random.Generator) -> pd.DataFrame:
    scores = simulate_scores(_spread(rng, 5, (31,), limit=3), n_items=150, n_runs=2, seed=rng)
    return effects.variance_components(scores, seed=int(rng.integers(2**31)))


def _rates_trial(rng: np.random.Generator, _: bool) -> tuple:
    # Beta(2, 0.5) has a mean of 0.8, and most items are easy.
    scores = simulate_scores([0], n_items=40, n_runs=3, difficulty=(2, 0.5), seed=rng)
    return effects.rates(scores).iloc[0], 80


def one_phrasing(replications: int = 100, seed: int = 0) -> pd.DataFrame:
    """How often 14 points in one of four phrasings are called an effect of the identity.

    A paired t-test over items × phrasings, which takes the phrasings for fixed, beside
    ``effects.contrasts`` (Helm & Priebe, arXiv 2605.27463).

    Returns
    -------
    Key ``test`` and the ``results.COLUMNS``: the share of data sets with p ≤ 0.05, with its
    Monte-Carlo interval.
    """
    p_values = []
    for rng in np.random.default_rng(seed).spawn(replications):
        scores = simulate_scores([[14.0, 0, 0, 0]], n_items=200, n_runs=2, seed=rng)
        table = cells(scores, "mmlu")
        identity, control = (table.mean[table.personas.index(name)] for name in ("p00", "none"))
        # A control has no phrasing.
        difference = (identity - control[0]).ravel()
        pooled = stats.ttest_1samp(difference, 0).pvalue
        p_values.append((pooled, effects.contrasts(scores)["p_value"][0]))
    tests = ["paired t-test, phrasings pooled", "effects.contrasts, phrasing random"]
    rejected = pd.DataFrame(p_values, columns=tests) <= 0.05
    return result(monte_carlo(rejected, "test"), ["test"], metric="rejects")


ANOVA = "statsmodels anova_lm"
EFFECTS = [
    Check("personalization_bias: one phrasing", ANOVA, _bias, "PB 2 points", _bias_trial),
    Check(
        "personalization_bias: three phrasings that vary", ANOVA, _bias, "PB 2 points",
        partial(_bias_trial, phrasing_sd=3.0),
    ),
    Check(
        "contrasts: McNemar", "statsmodels mcnemar, multipletests", _contrasts, "10 points",
        _contrast_trial,
    ),
    Check(
        "contrasts: sign flip", "scipy permutation_test, exact", _sign_flip, "10 points",
        partial(_contrast_trial, n_runs=3),
    ),
    Check(
        "contrasts: phrasings that vary", ANOVA, _squares, "10 points",
        partial(_contrast_trial, phrasing_sd=3.0, n_runs=3),
    ),
    Check("contrasts: effect in one phrasing", ANOVA, _squares, "10 points", _one_phrasing_trial),
    Check(
        "omnibus: Cochran", "statsmodels cochrans_q", _cochran, "±5 points",
        partial(_omnibus_trial, method="Cochran's Q"),
    ),
    Check(
        "omnibus: permutation", "scipy permutation_test", _permutation, "±5 points",
        partial(_omnibus_trial, method="sign flip of PB"),
    ),
    Check(
        "omnibus: GEE", "statsmodels GEE", _gee, "±5 points",
        partial(_omnibus_trial, method="GEE logistic Wald"),
    ),
    Check(
        "equivalence: TOST", "interval of contrasts", _equivalence, "0, margin 5",
        _equivalence_trial,
    ),
    Check(
        "additivity: sum of parts", "hand calculation", _additivity, "10 points",
        _additivity_trial,
    ),
    # Of the variance 1/4 of an answer: 0.05² is that of identities, 1/12 of uniform difficulty.
    *(
        Check(
            f"variance_components: {name}", ANOVA, _components,
            trial=partial(_components_trial, component=name, share=share),
        )
        for name, share in {"identity": 4 * 0.05**2, "item": 1 / 3}.items()
    ),
    Check("rates: three runs", "statsmodels proportion_confint", _rates, trial=_rates_trial),
    Check("noise_floor", "moment estimator, in points", _floor),
    Check("power", "simulated_power, 200 data sets", _power),
]  # fmt: skip
