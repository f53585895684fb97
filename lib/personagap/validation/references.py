"""Reference values of the statistics of persona effects, from other packages or by hand.

Each function returns the value of this package and the reference value on the same data.
"""

from functools import cache
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
from personagap.effects.anova import mean_squares
from personagap.effects.simulate import simulate_scores


def _wide(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.pivot_table(index="item", columns="persona", values="score", observed=True)


def _simulated_scores(**design: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of four identities and the controls, and the item × identity means of the four."""
    scores = simulate_scores([-6, 0, 4, 6], seed=1, **design)
    return scores, _wide(scores)[["p00", "p01", "p02", "p03"]]


def _mean_squares(table: pd.DataFrame) -> pd.Series:
    # As texts, because the formula would give an unused category a coefficient.
    table = table.set_axis(table.columns.astype("str"), axis=1)
    long = table.melt(var_name="persona", value_name="y", ignore_index=False).reset_index()
    anova = anova_lm(ols("y ~ C(persona) + C(item)", long).fit())
    return (anova["sum_sq"] / anova["df"]).set_axis(["identity", "item", "residual"])


# Cached, because checks of several designs share a reference.
@cache
def bias() -> tuple:
    scores, wide = _simulated_scores(n_items=25, n_runs=3)
    squares = _mean_squares(wide)
    ours = effects.personalization_bias(scores, n_permutations=9, n_bootstrap=20)["debiased_pb2"][0]
    return ours, 1e4 * 3 / 4 * (squares["identity"] - squares["residual"]) / 25


@cache
def components() -> tuple:
    scores, wide = _simulated_scores(n_items=25)
    identity, item, residual = _mean_squares(wide)
    theirs = 1e4 * np.array([(identity - residual) / 25, (item - residual) / 4, residual])
    return effects.variance_components(scores).query("metric == 'variance'")["estimate"], theirs


def contrasts() -> tuple:
    scores = simulate_scores([-15, 0, 4, 12], n_items=80, seed=1)
    wide, ours = _wide(scores), effects.contrasts(scores).iloc[:4]
    p = [mcnemar(pd.crosstab(wide[f"p{i:02d}"], wide["none"]), exact=True).pvalue for i in range(4)]
    theirs = [p, multipletests(p, method="holm")[1], multipletests(p, method="fdr_bh")[1]]
    return ours[["p_value", "p_adjusted", "p_bh"]].to_numpy().T, theirs


def sign_flip() -> tuple:
    scores = simulate_scores([15], n_items=12, n_runs=3, seed=4)
    wide = _wide(scores)
    difference = (wide["p00"] - wide["none"]).to_numpy()
    # Rounded, so that equal sums compare as equal. With 12 items scipy tries all 2¹² signs.
    how = {"permutation_type": "samples", "n_resamples": np.inf, "vectorized": True}
    theirs = stats.permutation_test((difference,), lambda x, axis: x.sum(axis).round(9), **how)
    return effects.contrasts(scores)["p_value"][0], theirs.pvalue


def cochran() -> tuple:
    scores, wide = _simulated_scores(n_items=60)
    theirs = cochrans_q(wide.to_numpy())
    ours = effects.omnibus(scores).set_index("method").loc["Cochran's Q", ["statistic", "p_value"]]
    return ours.to_numpy(dtype=float), [theirs.statistic, theirs.pvalue]


def gee() -> tuple:
    scores, _ = _simulated_scores(n_items=100, n_runs=2)
    long = scores[scores["persona"].str.startswith("p")].astype({"persona": "str"})
    gee = sm.GEE.from_formula("score ~ C(persona)", "item", long, family=sm.families.Binomial())
    # Ours needs no iterations: with identity dummies the estimates are the logits of the means.
    model = gee.fit(ctol=1e-12)
    ours = effects.omnibus(scores).set_index("method").loc["GEE logistic Wald", "statistic"]
    return ours, float(model.wald_test(np.eye(4)[1:], scalar=True).statistic)


def rates() -> tuple:
    scores = simulate_scores([0], n_items=40, seed=0)
    theirs = proportion_confint(_wide(scores)["none"].sum(), 40, method="wilson")
    return effects.rates(scores)[["ci_low", "ci_high"]].to_numpy()[0] / 100, theirs


def permutation() -> tuple:
    """Monte-Carlo p-values from 10,000 permutations each."""
    # PB of two identities is half their difference, so a paired permutation test is equivalent.
    scores = simulate_scores([0, 10], n_items=60, seed=3)
    both = _wide(scores)[["p00", "p01"]].to_numpy().T
    how = {"permutation_type": "samples", "alternative": "greater", "vectorized": True}
    theirs = stats.permutation_test(both, lambda x, y, axis: abs((x - y).mean(axis)), rng=0, **how)
    return effects.omnibus(scores, n_permutations=9999)["p_value"][0], theirs.pvalue


@cache
def squares() -> tuple:
    table = pd.DataFrame(np.random.default_rng(0).random((30, 4))).rename_axis("item")
    ours = [square.value for square in mean_squares(table.to_numpy(), "jp").values()]
    return ours, _mean_squares(table)[["item", "identity", "residual"]]


def floor() -> tuple:
    """In points; E[PB] is √E[PB²] times E[χ] / √E[χ²] of a χ variable with k − 1 df."""
    scores = simulate_scores(np.zeros(31), n_items=285, n_runs=3, seed=0)
    row = effects.personalization_bias(scores, n_bootstrap=20).iloc[0]
    return row["noise_floor"], (row["pb"] ** 2 - row["debiased_pb2"]) ** 0.5 * (1 - 1 / (4 * 30))


def power() -> tuple:
    """Nominal power of 80 %, and the simulated power for the contrast it is stated for."""
    size = effects.power(n_items=150, n_runs=3, n_identities=2)["smallest_contrast"][0]
    table = effects.simulated_power([size, 0], n_items=150, n_runs=3, alpha=0.1, replications=200)
    # Holm's first step tests the larger of two contrasts at 0.1 / 2.
    return 0.8, table["estimate"][1]


def equivalence() -> tuple:
    """By duality of test and interval: with the margin at an end of the 1 − 2α interval, p is α."""
    scores = simulate_scores([4], n_items=100, n_runs=3, seed=0)
    margin = effects.contrasts(scores, level=0.9)[["ci_low", "ci_high"]].abs().max(axis=1)[0]
    return effects.equivalence(scores, margin=margin)["p_value"][0], 0.05


def additivity() -> tuple:
    scores = simulate_scores([-6, 3, 5], n_items=60, n_runs=2, seed=0)
    mean = 100 * _wide(scores).mean()
    parts = mean["p00"] + mean["p01"]
    theirs = [mean["p02"] - parts / 2, mean["p02"] - (parts - mean["none"])]
    return effects.additivity(scores, {"p02": ["p00", "p01"]})["estimate"], theirs
