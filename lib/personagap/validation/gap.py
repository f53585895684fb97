"""How the statistics of gaps between raters are validated."""

from collections.abc import Callable
from functools import cache, partial

import krippendorff
import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from personagap import gap
from personagap.gap.simulate import yes
from personagap.validation.checks import Check

N_BOOTSTRAP = 300


# --- simulated judgments -------------------------------------------------------------------------------


@cache
def _population() -> dict[str, float]:
    """The metrics of judge a over all prompts and users."""
    rng = np.random.default_rng(0)
    gold = yes(rng, rng.normal(-1.5, 0.8, 3_000_000))
    judge = yes(rng, 2.1 * gold + rng.normal(-0.5, 0.8, len(gold)))
    table = pd.crosstab(judge, gold).to_numpy()
    return gap.confusion_metrics(table[1, 1], table[1, 0], table[0, 1], table[0, 0])


def _histories(rng: np.random.Generator, synthetic: float = 0.3) -> pd.DataFrame:
    """Judgments of 47 real (30 % positive) and 30 synthetic users, whose own rates vary (beta-binomial)."""
    rows = []
    for source, n, share in (("real", 47, 0.3), ("synthetic", 30, synthetic)):
        for user in range(n):
            own = rng.beta(share * 5, (1 - share) * 5)
            rows += [(source, user, label) for label in rng.random(rng.integers(30, 100)) < own]
    return pd.DataFrame(rows, columns=["source", "user", "label"])


def _wide(judgments: pd.DataFrame) -> pd.DataFrame:
    return judgments.pivot(index="item", columns="rater", values="label")


# --- references ----------------------------------------------------------------------------------------


def _metric_difference(metric: str, reference: Callable) -> float:
    judgments = gap.simulate_relevance()
    ours = gap.relevance_metrics(judgments, n_bootstrap=2).set_index("rater").loc["a", metric]
    wide = _wide(judgments)
    return abs(ours - reference(wide["human_majority"], wide["a"]))


def _integers() -> pd.DataFrame:
    judgments = gap.simulate_ratings()
    return judgments.assign(label=judgments["label"].round().clip(1, 5))


def _kappa_difference(weights: str | None) -> float:
    judgments = _integers()
    wide = _wide(judgments).astype(int)
    ours = gap.agreement(judgments, weights=weights, n_bootstrap=2)
    pairs = ours[["rater_a", "rater_b"]].to_numpy()
    others = [metrics.cohen_kappa_score(wide[a], wide[b], weights=weights) for a, b in pairs]
    return float(np.abs(ours["kappa"] - others).max())


def _reliability_difference(measure: str) -> float:
    judgments = _integers().query("rater_kind == 'human'")
    wide = _wide(judgments).astype(int).to_numpy()
    ours = gap.reliability(judgments, measurement="ordinal", n_bootstrap=2).set_index("measure")["estimate"][measure]
    if measure == "Fleiss κ":
        return abs(ours - fleiss_kappa(aggregate_raters(wide)[0]))
    return abs(ours - krippendorff.alpha(reliability_data=wide.T, level_of_measurement="ordinal"))


def _spearman_difference() -> float:
    judgments = _integers()
    wide = _wide(judgments)
    humans = wide.drop(columns="judge").mean(axis=1)
    ours = gap.judge_correlation(judgments, n_bootstrap=2)["spearman"].iloc[0]
    return abs(ours - stats.spearmanr(wide["judge"], humans).statistic)


def _inflation_difference() -> float:
    judgments = gap.simulate_ratings(inflation=0.4)
    wide = _wide(judgments)
    ours = gap.judge_inflation(judgments, n_bootstrap=2)["estimate"].iloc[0]
    return abs(ours - (wide["judge"] - wide.drop(columns="judge").mean(axis=1)).mean())


def _exact_difference() -> float:
    """Every pairing of n = 6, in another order of enumeration."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=6), rng.normal(size=6)
    other = stats.permutation_test(
        (x,), lambda a: abs(stats.spearmanr(a, y).statistic).round(9), permutation_type="pairings", n_resamples=np.inf,
        alternative="greater",
    )  # fmt: skip
    return abs(gap.exact_correlation(x, y)["p_exact"].iloc[0] - other.pvalue)


def _proportion_difference() -> float:
    judgments = _histories(np.random.default_rng(0))
    share = 100 * judgments.groupby("source")["label"].mean()
    return abs(gap.proportion_difference(judgments, [True])["estimate"].iloc[0] - (share["real"] - share["synthetic"]))


def _paired_difference(metric: str, reference: Callable) -> float:
    judgments = gap.simulate_relevance()
    ours = gap.paired_difference(judgments, "a", "b", n_bootstrap=2).set_index("metric")["estimate"][metric]
    wide = _wide(judgments)
    one, other = (reference(wide["human_majority"], wide[judge]) for judge in "ab")
    return abs(ours - (one - other))


def _mention_difference() -> float:
    judgments = gap.simulate_ratings(mention=-0.4)
    mean = judgments.query("rater == 'judge'").groupby("mention")["label"].mean()
    return abs(gap.mention_bias(judgments, n_bootstrap=2)["estimate"].iloc[1] - (mean[True] - mean[False]))


# --- simulations ---------------------------------------------------------------------------------------


def _inside(row: pd.Series, value: float, low: str = "ci_low", high: str = "ci_high") -> bool:
    return row[low] <= value <= row[high]


def _metric_trial(rng: np.random.Generator, _: bool, *, metric: str) -> tuple:
    judgments = gap.simulate_relevance(seed=rng).query("rater != 'b'")
    row = gap.relevance_metrics(judgments, n_bootstrap=N_BOOTSTRAP).iloc[0]
    return None, _inside(row, _population()[metric], f"{metric}_low", f"{metric}_high")


def _paired_trial(rng: np.random.Generator, planted: bool, *, metric: str) -> tuple:
    table = gap.paired_difference(
        gap.simulate_relevance(stricter=1.0 * planted, seed=rng), "a", "b", n_bootstrap=N_BOOTSTRAP
    )
    return table.set_index("metric")["p_value"][metric], None


def _inflation_trial(rng: np.random.Generator, planted: bool) -> tuple:
    row = gap.judge_inflation(gap.simulate_ratings(inflation=0.4 * planted, seed=rng), n_bootstrap=N_BOOTSTRAP).iloc[0]
    return row["p_value"], _inside(row, 0.4 * planted)


def _mention_trial(rng: np.random.Generator, planted: bool) -> tuple:
    judgments = gap.simulate_ratings(mention=-0.4 * planted, seed=rng)
    row = gap.mention_bias(judgments, n_bootstrap=N_BOOTSTRAP).iloc[1]
    return row["excess_p"], _inside(row, -0.4 * planted, "excess_low", "excess_high")


def _correlation_trial(rng: np.random.Generator, _: bool, *, disattenuated: bool) -> tuple:
    """Spearman's ρ of normal variables with Pearson's r is (6/π) asin(r/2)."""
    r = 0.7 / (0.7**2 + 0.4**2 + 0.7**2) ** 0.5
    row = gap.judge_correlation(gap.simulate_ratings(seed=rng), n_bootstrap=N_BOOTSTRAP).iloc[0]
    if disattenuated:
        return None, _inside(row, 6 / np.pi * np.arcsin(r / 2), "disattenuated_low", "disattenuated_high")
    with_mean = r * (0.49 / (0.49 + 1 / 3)) ** 0.5
    return None, _inside(row, 6 / np.pi * np.arcsin(with_mean / 2))


def _proportion_trial(rng: np.random.Generator, planted: bool) -> tuple:
    row = gap.proportion_difference(_histories(rng, 0.08 if planted else 0.3), [True]).iloc[0]
    return row["p_value"], _inside(row, 22.0 * planted)


def _exact_trial(rng: np.random.Generator, planted: bool) -> tuple:
    x = rng.normal(size=6)
    return gap.exact_correlation(x, 4 * planted * x + rng.normal(size=6))["p_exact"].iloc[0], None


def _metric(name: str, metric: str, reference: Callable) -> Check:
    return Check(
        name, "scikit-learn", partial(_metric_difference, metric, reference), "", partial(_metric_trial, metric=metric)
    )


def _paired(name: str, metric: str, reference: Callable) -> Check:
    difference, trial = partial(_paired_difference, metric, reference), partial(_paired_trial, metric=metric)
    return Check(name, "scikit-learn", difference, "1 logit stricter", trial)


GAP = [
    _metric("F1", "f1", metrics.f1_score),
    _metric("κ with the majority", "kappa", metrics.cohen_kappa_score),
    _metric("AUPRC", "auprc", metrics.average_precision_score),
    *(
        Check(f"κ, {weights or 'no'} weights", "scikit-learn", partial(_kappa_difference, weights), "", None)
        for weights in (None, "linear", "quadratic")
    ),
    Check("Fleiss κ", "statsmodels", partial(_reliability_difference, "Fleiss κ"), "", None),
    Check("Krippendorff α", "krippendorff", partial(_reliability_difference, "Krippendorff α (ordinal)"), "", None),
    _paired("paired difference of F1", "f1", metrics.f1_score),
    _paired("paired difference of yes rate", "yes_rate", lambda gold, judge: judge.mean()),
    Check("judge inflation", "pandas", _inflation_difference, "0.4 of a rating", _inflation_trial),
    Check("mention bias, excess of the judge", "pandas", _mention_difference, "−0.4 of a rating", _mention_trial),
    Check("Spearman ρ", "scipy", _spearman_difference, "", partial(_correlation_trial, disattenuated=False)),
    Check(
        "Spearman ρ, disattenuated", "scipy, before the correction", _spearman_difference, "",
        partial(_correlation_trial, disattenuated=True),
    ),
    Check("real − synthetic", "pandas", _proportion_difference, "22 points", _proportion_trial),
    Check("exact permutation, n = 6", "scipy permutation_test", _exact_difference, "slope of 4 sd", _exact_trial),
]  # fmt: skip
