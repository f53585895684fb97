"""How the statistics of persona effects are validated."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from personagap import effects
from personagap.effects.anova import mean_squares
from personagap.effects.power import monte_carlo
from personagap.validation.checks import Check


def _wide(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.pivot_table(index="item", columns="persona", values="score", observed=True)


def _anova(table: pd.DataFrame) -> pd.DataFrame:
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    long = table.melt(var_name="persona", value_name="y", ignore_index=False).astype({"persona": "str"}).reset_index()
    anova = anova_lm(ols("y ~ C(persona) + C(item)", long).fit())
    return (anova["sum_sq"] / anova["df"]).set_axis(["identity", "item", "residual"])


def _bias_difference() -> float:
    scores = effects.simulate_scores([-6, 0, 4, 6], n_items=25, n_runs=3, seed=1)
    squares = _anova(_wide(scores)[["p00", "p01", "p02", "p03"]])
    expected = 1e4 * 3 / 4 * (squares["identity"] - squares["residual"]) / 25
    return abs(effects.personalization_bias(scores, n_permutations=9, n_bootstrap=9)["debiased_pb2"][0] - expected)


def _components_difference() -> float:
    scores = effects.simulate_scores([-6, 0, 4, 6], n_items=25, seed=1)
    squares = _anova(_wide(scores)[["p00", "p01", "p02", "p03"]])
    between = (squares["identity"] - squares["residual"]) / 25, (squares["item"] - squares["residual"]) / 4
    ours = effects.variance_components(scores)["variance"]
    return float(np.abs(ours - 1e4 * np.array([*between, squares["residual"]])).max())


def _contrasts_difference() -> float:
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.multitest import multipletests

    scores = effects.simulate_scores([-15, 0, 4, 12], n_items=80, seed=1)
    wide, ours = _wide(scores), effects.contrasts(scores).iloc[:4]
    crossed = [pd.crosstab(wide[f"p{i:02d}"], wide["none"]) for i in range(4)]
    p = [mcnemar(one, exact=True).pvalue for one in crossed]
    expected = [p, multipletests(p, method="holm")[1], multipletests(p, method="fdr_bh")[1]]
    return float(np.abs(ours[["p_value", "p_holm", "p_bh"]].to_numpy().T - expected).max())


def _sign_flip_difference() -> float:
    from scipy.stats import permutation_test

    scores = effects.simulate_scores([15], n_items=12, n_runs=3, seed=4)
    wide = _wide(scores)
    every = permutation_test(
        ((wide["p00"] - wide["none"]).to_numpy(),), lambda x, axis: x.sum(axis=axis).round(9), vectorized=True,
        permutation_type="samples", n_resamples=np.inf,
    )  # fmt: skip
    return abs(effects.contrasts(scores)["p_value"][0] - every.pvalue)


def _q_difference() -> float:
    from statsmodels.stats.contingency_tables import cochrans_q

    scores = effects.simulate_scores([-6, 0, 4, 6], n_items=60, seed=1)
    ours = effects.omnibus(scores).set_index("method").loc["Cochran's Q"]
    other = cochrans_q(_wide(scores)[["p00", "p01", "p02", "p03"]].to_numpy())
    return max(abs(ours["statistic"] - other.statistic), abs(ours["p_value"] - other.pvalue))


def _gee_difference() -> float:
    import statsmodels.api as sm

    scores = effects.simulate_scores([-6, 0, 4, 6], n_items=60, n_runs=2, seed=1)
    ours = effects.omnibus(scores).set_index("method").loc["GEE logistic Wald", "statistic"]
    long = scores[scores["persona"].str.startswith("p")].assign(persona=lambda rows: rows["persona"].astype("str"))
    model = sm.GEE.from_formula("score ~ C(persona)", "item", long, family=sm.families.Binomial()).fit(ctol=1e-12)
    return abs(ours - float(model.wald_test(np.eye(4)[1:], scalar=True).statistic))


def _rates_difference() -> float:
    from statsmodels.stats.proportion import proportion_confint

    scores = effects.simulate_scores([0], n_items=40, seed=0)
    other = proportion_confint(_wide(scores)["none"].sum(), 40, method="wilson")
    return float(np.abs(effects.rates(scores)[["ci_low", "ci_high"]].to_numpy()[0] / 100 - other).max())


def _permutation_difference() -> float:
    """Monte-Carlo p-values of 10,000 draws each."""
    from scipy.stats import permutation_test

    scores = effects.simulate_scores([0, 10], n_items=60, seed=3)
    identities = _wide(scores)[["p00", "p01"]].to_numpy().T
    other = permutation_test(
        identities, lambda x, y, axis: np.abs((x - y).mean(axis=axis)), permutation_type="samples", vectorized=True,
        alternative="greater", rng=0,
    )  # fmt: skip
    return abs(effects.omnibus(scores, n_permutations=9999)["p_value"][0] - other.pvalue)


def _squares_difference() -> float:
    table = pd.DataFrame(np.random.default_rng(0).random((30, 4))).rename_axis("item")
    ours = [square.value for square in mean_squares(table.to_numpy(), "jp").values()]
    return float(np.abs(ours - _anova(table)[["item", "identity", "residual"]].to_numpy()).max())


def _floor_difference() -> float:
    """In points; E[PB] is √E[PB²] times the mean of a χ with k − 1 degrees of freedom over its root mean square."""
    scores = effects.simulate_scores(np.zeros(31), n_items=285, n_runs=3, seed=0)
    row = effects.personalization_bias(scores, n_bootstrap=1).iloc[0]
    return abs(row["noise_floor"] - (row["pb"] ** 2 - row["debiased_pb2"]) ** 0.5 * (1 - 1 / (4 * 30)))


def _power_difference() -> float:
    """A contrast said to be found in 80 % of studies: in what share is it?"""
    size = effects.power(n_items=150, n_runs=3, n_identities=2)["smallest_contrast"][0]
    found = effects.simulated_power([size, 0], n_items=150, n_runs=3, alpha=0.1, replications=200)
    return abs(found["power"][1] - 0.8)  # Holm's first step tests the larger of two contrasts at 0.1 / 2


def _equivalence_difference() -> float:
    """By duality: with the margin at an end of the 1 − 2α interval, p must be α."""
    scores = effects.simulate_scores([4], n_items=100, n_runs=3, seed=0)
    margin = effects.contrasts(scores, level=0.9)[["ci_low", "ci_high"]].abs().max(axis=1)[0]
    return abs(effects.equivalence(scores, margin=margin)["p_value"][0] - 0.05)


def _additivity_difference() -> float:
    scores = effects.simulate_scores([-6, 3, 5], n_items=60, n_runs=2, seed=0)
    mean = 100 * _wide(scores).mean()
    expected = [mean["p02"] - (mean["p00"] + mean["p01"]) / 2, mean["p02"] - (mean["p00"] + mean["p01"] - mean["none"])]
    ours = effects.additivity(scores, {"p02": ["p00", "p01"]})["estimate"]
    return float(np.abs(ours - expected).max())


# --- simulations ---------------------------------------------------------------------------------------


def _bias_trial(rng: np.random.Generator, planted: bool, *, phrasing_sd: float = 0.0) -> tuple:
    effect = 2.0 * planted * np.clip(rng.normal(size=31), -2.5, 2.5)
    phrasings = phrasing_sd * rng.normal(size=(31, 3)).clip(-2, 2) if phrasing_sd else np.zeros((31, 1))
    scores = effects.simulate_scores(effect[:, None] + phrasings, n_items=150, n_runs=2, seed=rng)
    row = effects.personalization_bias(scores, n_permutations=199, n_bootstrap=400, seed=int(rng.integers(2**31))).iloc[
        0
    ]
    return row["p_value"], row["ci_low"] <= effect.var() <= row["ci_high"]


def _contrast_trial(rng: np.random.Generator, planted: bool, *, n_runs: int = 1, phrasing_sd: float = 0.0) -> tuple:
    effect = 10.0 * planted
    phrasings = phrasing_sd * rng.normal(size=(1, 4)).clip(-2, 2) if phrasing_sd else np.zeros((1, 1))
    row = effects.contrasts(effects.simulate_scores(effect + phrasings, n_items=150, n_runs=n_runs, seed=rng)).iloc[0]
    return row["p_value"], row["ci_low"] <= effect <= row["ci_high"]


def _one_phrasing_trial(rng: np.random.Generator, planted: bool) -> tuple:
    """Null: an effect of 14 points in one of four phrasings only. Planted: 10 points in each."""
    effect = [[10.0] * 4] if planted else [[14.0, 0, 0, 0]]
    return effects.contrasts(effects.simulate_scores(effect, n_items=200, n_runs=2, seed=rng))["p_value"][0], None


def one_phrasing(replications: int = 100, seed: int = 0) -> pd.DataFrame:
    """How often an effect of 14 points that lives in one of four phrasings is called an effect of identity.

    A paired t-test over items × phrasings, which takes the phrasings for fixed, beside ``effects.contrasts``
    (Helm & Priebe, arXiv 2605.27463).

    Returns
    -------
    DataFrame ``test rejects mc_low mc_high``: share of data sets with p ≤ 0.05 and its Monte-Carlo interval.
    """
    rejected = []
    for rng in np.random.default_rng(seed).spawn(replications):
        scores = effects.simulate_scores([[14.0, 0, 0, 0]], n_items=200, n_runs=2, seed=rng)
        cells = scores.groupby(["persona", "template", "item"], observed=True)["score"].mean()
        difference = cells["p00"] - cells["none"].droplevel("template")
        rejected.append((stats.ttest_1samp(difference, 0).pvalue, effects.contrasts(scores)["p_value"][0]))
    tests = ["paired t-test, phrasings pooled", "effects.contrasts, phrasing random"]
    return (
        monte_carlo(pd.DataFrame(rejected, columns=tests) <= 0.05)
        .rename_axis("test")
        .reset_index()
        .rename(columns={"power": "rejects"})
    )


def _omnibus_trial(rng: np.random.Generator, planted: bool, *, method: str) -> tuple:
    effect = 5.0 * planted * np.repeat([-1, 1], 4)
    table = effects.omnibus(effects.simulate_scores(effect, n_items=100, seed=rng), n_permutations=199, seed=1)
    return table.set_index("method").loc[method, "p_value"], None


def _equivalence_trial(rng: np.random.Generator, planted: bool) -> tuple:
    """Null: the difference is just the margin. Planted: there is none."""
    scores = effects.simulate_scores([0.0 if planted else 5.0], n_items=400, n_runs=3, seed=rng)
    return effects.equivalence(scores, margin=5)["p_value"][0], None


def _additivity_trial(rng: np.random.Generator, planted: bool) -> tuple:
    excess = 10.0 * planted
    scores = effects.simulate_scores([-3, -3, -6 + excess], n_items=250, n_runs=2, seed=rng)
    row = effects.additivity(scores, {"p02": ["p00", "p01"]}).iloc[1]
    return row["p_value"], row["ci_low"] <= excess <= row["ci_high"]


def _components_trial(rng: np.random.Generator, _: bool, *, component: str, share: float) -> tuple:
    """Identity effects of sd 5 points; items of uniform difficulty, so a third of the variance is theirs."""
    scores = effects.simulate_scores(5 * rng.normal(size=31).clip(-3, 3), n_items=150, n_runs=2, seed=rng)
    table = effects.variance_components(scores, seed=int(rng.integers(2**31))).set_index("component")
    return None, table["ci_low"][component] <= share <= table["ci_high"][component]


def _rates_trial(rng: np.random.Generator, _: bool) -> tuple:
    row = effects.rates(effects.simulate_scores([0], n_items=40, n_runs=3, difficulty=(2, 0.5), seed=rng)).iloc[0]
    return None, row["ci_low"] <= 80 <= row["ci_high"]


def _checks(name: str, reference: str, difference: Callable[[], float], effect: str, **trials: Callable) -> list[Check]:
    """Several simulations of one estimator, each named by what is special about it."""
    return [
        Check(f"{name}: {what.replace('_', ' ')}", reference, difference, effect, trial)
        for what, trial in trials.items()
    ]


EFFECTS = [
    *_checks(
        "personalization_bias", "statsmodels anova_lm", _bias_difference, "PB 2 points",
        one_phrasing=_bias_trial, three_phrasings_that_vary=partial(_bias_trial, phrasing_sd=3.0),
    ),
    *_checks(
        "contrasts", "statsmodels mcnemar, multipletests", _contrasts_difference, "10 points", McNemar=_contrast_trial
    ),
    *_checks(
        "contrasts", "scipy permutation_test, exact", _sign_flip_difference, "10 points",
        sign_flip=partial(_contrast_trial, n_runs=3),
    ),
    *_checks(
        "contrasts", "statsmodels anova_lm", _squares_difference, "10 points",
        phrasings_that_vary=partial(_contrast_trial, phrasing_sd=3.0, n_runs=3),
        effect_in_one_phrasing=_one_phrasing_trial,
    ),
    *_checks(
        "omnibus", "statsmodels cochrans_q", _q_difference, "±5 points",
        Cochran=partial(_omnibus_trial, method="Cochran's Q"),
    ),
    *_checks(
        "omnibus", "scipy permutation_test", _permutation_difference, "±5 points",
        permutation=partial(_omnibus_trial, method="permutation of PB"),
    ),
    *_checks(
        "omnibus", "statsmodels GEE", _gee_difference, "±5 points",
        GEE=partial(_omnibus_trial, method="GEE logistic Wald"),
    ),
    *_checks("equivalence", "interval of contrasts", _equivalence_difference, "0, margin 5", TOST=_equivalence_trial),
    *_checks("additivity", "hand calculation", _additivity_difference, "10 points", sum_of_parts=_additivity_trial),
    *_checks(
        "variance_components", "statsmodels anova_lm", _components_difference, "",
        identity=partial(_components_trial, component="identity", share=4 * 0.05**2),
        item=partial(_components_trial, component="item", share=1 / 3),
    ),
    *_checks("rates", "statsmodels proportion_confint", _rates_difference, "", three_runs=_rates_trial),
    Check("noise_floor", "moment estimator, in points", _floor_difference, "", None),
    Check("power", "simulated_power, 200 data sets", _power_difference, "", None),
]  # fmt: skip
