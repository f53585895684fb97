"""Validation of the statistics of gaps between raters."""

from collections.abc import Callable
from functools import cache, partial
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from personagap import gap
from personagap.gap.simulate import draw_labels
from personagap.validation.checks import Check, once

# --- simulated judgments --------------------------------------------------------------------------


@cache
def population() -> dict[str, float]:
    """Population values of the metrics of judge a of `simulate_relevance`."""
    # One unit per prompt and user: clustering does not change population values, only the precision
    # of their estimates. With three million units the error is in the fourth decimal.
    rng = np.random.default_rng(0)
    gold = draw_labels(rng, rng.normal(-1.5, 0.8, 3_000_000))
    judge = draw_labels(rng, 2.1 * gold + rng.normal(-0.5, 0.8, len(gold)))
    table = np.bincount(2 * judge + gold).reshape(2, 2)
    metrics = gap.confusion_metrics(table[1, 1], table[1, 0], table[0, 1], table[0, 0])
    return {name: float(value) for name, value in metrics.items()}


def _user_judgments(difference: float, seed: int | np.random.Generator) -> pd.DataFrame:
    """Judgments of 47 real (30 % positive) and 30 synthetic users with beta-binomial rates."""
    rng, parts = np.random.default_rng(seed), []
    for source, n, share in (("real", 47, 0.3), ("synthetic", 30, 0.3 - difference / 100)):
        for user in range(n):
            rate = rng.beta(share * 5, (1 - share) * 5)
            label = rng.random(rng.integers(30, 100)) < rate
            parts.append(pd.DataFrame({"source": source, "user": user, "label": label}))
    return pd.concat(parts, ignore_index=True)


def _judge_a(_: float, seed: int | np.random.Generator) -> pd.DataFrame:
    judgments = gap.simulate_relevance(seed=seed)
    return judgments[judgments["rater"] != "b"]


def _judges(stricter: float, seed: int | np.random.Generator) -> pd.DataFrame:
    return gap.simulate_relevance(stricter=stricter, seed=seed)


_difference_of_judges = partial(gap.paired_difference, a="a", b="b")


def _ratings(_: float, seed: int | np.random.Generator) -> pd.DataFrame:
    return gap.simulate_ratings(seed=seed)


def _rounded(_: float, seed: int) -> pd.DataFrame:
    judgments = gap.simulate_ratings(seed=seed)
    return judgments.assign(label=judgments["label"].round().clip(1, 5))


def _wide(judgments: pd.DataFrame) -> pd.DataFrame:
    return judgments.pivot(index="item", columns="rater", values="label")


def _mean_of_humans(judgments: pd.DataFrame) -> pd.Series:
    return _wide(judgments).drop(columns="judge").mean(axis=1)


def _exact_p(points: pd.DataFrame) -> float:
    """Exact permutation p-value of Spearman's ρ, computed as Pearson's r of ranks."""
    x, y = (stats.rankdata(points[name]) for name in "xy")
    test = stats.permutation_test(
        (x,),
        lambda ranks: abs(np.corrcoef(ranks, y)[0, 1]).round(9),
        permutation_type="pairings",
        n_resamples=np.inf,
        alternative="greater",
    )
    return test.pvalue


def _excess_of_judge(judgments: pd.DataFrame) -> float:
    """Effect of a mention on the judge's mean rating, less its effect on that of people."""
    added = judgments.pivot_table(index="mention", columns="rater", values="label").diff().iloc[1]
    return added["judge"] - added.drop("judge").mean()


def _points(size: float, seed: int | np.random.Generator) -> pd.DataFrame:
    """Six points with a slope of ``size`` standard deviations of the noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=6)
    return pd.DataFrame({"x": x, "y": size * x + rng.normal(size=6)})


# --- the checks -----------------------------------------------------------------------------------


def _check(
    estimator: str,
    reference: str,
    simulate: Callable,
    ours: Callable,
    theirs: Callable,
    *,
    row: Callable = lambda table: table,
    effect: str = "",
    size: float = 0.0,
    truth: Callable[[float], float] | None = None,
    value: str = "estimate",
) -> Check:
    """Build a check whose reference and trials share the simulation and the analysis.

    Parameters
    ----------
    simulate : ``simulate(size, seed)`` returns the data.
    ours, theirs : analysis of this package, and the reference value.
    row : selects from the table of ``ours`` the row whose column ``value`` is compared.
    effect, size : name and size of the planted effect.
    truth : function of the size that returns the value the interval must cover.
    """

    def compare() -> tuple:
        # The fewest resamples allowed, because the value does not depend on them.
        data = simulate(size, 0)
        return row(ours(data, n_bootstrap=20))[value], theirs(data)

    # The simulation and its analysis are cached for all checks that differ only in their row.
    def trial(rng: np.random.Generator, planted: bool) -> tuple:
        return row(_analysis(rng, simulate, ours, size * planted)), truth and truth(size * planted)

    return Check(estimator, reference, compare, effect, trial if effect or truth else None)


@once
def _analysis(
    rng: np.random.Generator, simulate: Callable, ours: Callable, size: float
) -> pd.DataFrame | pd.Series:
    return ours(simulate(size, rng), n_bootstrap=300)


def _row_of_metric(table: pd.DataFrame, metric: str) -> pd.Series:
    """First row of a metric."""
    return table[table["metric"] == metric].iloc[0]


def _score_against_gold(metric: Callable, judgments: pd.DataFrame, judge: str) -> float:
    return metric(*_wide(judgments)[["human_majority", judge]].to_numpy().T)


def _metric_check(estimator: str, metric: str, reference: Callable) -> Check:
    return _check(
        estimator, "scikit-learn", _judge_a, gap.relevance_metrics,
        lambda judgments: _score_against_gold(reference, judgments, "a"),
        row=partial(_row_of_metric, metric=metric), truth=lambda _: population()[metric],
    )  # fmt: skip


def _paired_check(estimator: str, metric: str, reference: Callable) -> Check:
    return _check(
        estimator, "scikit-learn", _judges, _difference_of_judges,
        lambda judgments: -np.diff([_score_against_gold(reference, judgments, x) for x in "ab"]),
        row=partial(_row_of_metric, metric=metric), effect="1 logit stricter", size=1.0,
    )  # fmt: skip


def _kappa_check(weights: str | None) -> Check:
    def theirs(judgments: pd.DataFrame) -> list[float]:
        pairs = combinations(_wide(judgments).to_numpy().T, 2)
        return [metrics.cohen_kappa_score(*pair, weights=weights) for pair in pairs]

    return _check(
        f"κ, {weights or 'no'} weights", "scikit-learn", _rounded,
        lambda judgments, **how: gap.agreement(judgments, weights=weights, **how), theirs,
    )  # fmt: skip


def _reliability_check(estimator: str, reference: str, row: int, theirs: Callable) -> Check:
    def ours(judgments: pd.DataFrame, **how) -> pd.Series:
        return gap.reliability(judgments, measurement="interval", **how).iloc[row]

    return _check(
        estimator, reference, lambda _, seed: _rounded(0, seed).query("rater_kind == 'human'"),
        ours, lambda judgments: theirs(_wide(judgments).to_numpy()),
    )  # fmt: skip


def _spearman_check(estimator: str, reference: str, r: float, metric: str) -> Check:
    """Check with the truth (6/π) asin(r/2), which is ρ of normal variables with Pearson's ``r``."""

    def theirs(judgments: pd.DataFrame) -> float:
        rho = stats.spearmanr(_wide(judgments)["judge"], _mean_of_humans(judgments)).statistic
        pairs = combinations(_wide(judgments).drop(columns="judge").to_numpy().T, 2)
        mean_rho = np.mean([stats.spearmanr(*pair).statistic for pair in pairs])
        return rho if metric == "spearman" else rho / (3 * mean_rho / (1 + 2 * mean_rho)) ** 0.5

    return _check(
        estimator, reference, _ratings, gap.judge_correlation, theirs,
        row=partial(_row_of_metric, metric=metric), truth=lambda _: 6 / np.pi * np.arcsin(r / 2),
    )  # fmt: skip


#: Pearson's r of the simulated judge with the true value: sd 0.7 of the value, errors with sd 0.4
#: shared by clusters and 0.7 by unit.
_TRUE_R = 0.7 / (0.7**2 + 0.4**2 + 0.7**2) ** 0.5
GAP = [
    _metric_check("F1", "f1", metrics.f1_score),
    _metric_check("κ with the majority", "kappa", metrics.cohen_kappa_score),
    _metric_check("AUPRC", "auprc", metrics.average_precision_score),
    *(_kappa_check(weights) for weights in (None, "linear", "quadratic")),
    _reliability_check("Fleiss κ", "statsmodels", 0,
                 lambda labels: fleiss_kappa(aggregate_raters(labels.astype(int))[0])),
    # α of interval data without gaps: 1 − variance within units over that of all labels.
    _reliability_check("Krippendorff α", "numpy", 1,
                 lambda labels: 1 - labels.var(axis=1, ddof=1).mean() / labels.var(ddof=1)),
    _paired_check("paired difference of F1", "f1", metrics.f1_score),
    _paired_check("paired difference of yes rate", "yes_rate", lambda gold, judge: judge.mean()),
    _check(
        "judge inflation", "pandas",
        lambda size, seed: gap.simulate_ratings(inflation=size, seed=seed),
        lambda judgments, **how: gap.judge_inflation(judgments, **how).iloc[0],
        lambda judgments: (_wide(judgments)["judge"] - _mean_of_humans(judgments)).mean(),
        effect="0.4 of a rating", size=0.4, truth=float,
    ),
    _check(
        "mention bias, excess of the judge", "pandas",
        lambda size, seed: gap.simulate_ratings(mention=size, seed=seed),
        lambda judgments, **how: _row_of_metric(gap.mention_bias(judgments, **how), "excess"),
        _excess_of_judge,
        effect="−0.4 of a rating", size=-0.4, truth=float,
    ),
    # Correlation with the mean of three people, whose errors have sd 1.
    _spearman_check("Spearman ρ", "scipy", _TRUE_R * (0.49 / (0.49 + 1 / 3)) ** 0.5, "spearman"),
    _spearman_check("Spearman ρ, disattenuated", "scipy", _TRUE_R, "disattenuated"),
    _check(
        "real − synthetic", "pandas", _user_judgments,
        lambda judgments, **_: gap.proportion_difference(judgments, [True]).iloc[0],
        lambda judgments: 100 * judgments.groupby("source")["label"].mean().diff(-1).iloc[0],
        effect="22 points", size=22.0, truth=float,
    ),
    _check(
        "exact permutation, n = 6", "scipy permutation_test", _points,
        lambda points, **_: gap.exact_correlation(points["x"], points["y"]).iloc[0],
        _exact_p,
        effect="slope of 4 sd", size=4.0, value="p_value",
    ),
]  # fmt: skip
