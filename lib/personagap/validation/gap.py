"""How the statistics of gaps between raters are validated."""

from collections.abc import Callable
from functools import cache, partial
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from personagap import gap
from personagap.gap.simulate import yes
from personagap.validation.checks import Check, once

# --- simulated judgments --------------------------------------------------------------------------


@cache
def population() -> dict[str, float]:
    """The metrics of judge a over all prompts and users."""
    # Of `simulate_relevance`, each with a prompt and user of its own: what clusters share does not
    # change a share, only how well few clusters tell it. Three millions err in the fourth decimal.
    rng = np.random.default_rng(0)
    gold = yes(rng, rng.normal(-1.5, 0.8, 3_000_000))
    judge = yes(rng, 2.1 * gold + rng.normal(-0.5, 0.8, len(gold)))
    table = np.bincount(2 * judge + gold).reshape(2, 2)
    metrics = gap.confusion_metrics(table[1, 1], table[1, 0], table[0, 1], table[0, 0])
    return {name: float(value) for name, value in metrics.items()}


def _histories(difference: float, seed: int | np.random.Generator) -> pd.DataFrame:
    """Judgments of 47 real (30 % positive) and 30 synthetic users, whose own rates vary
    (beta-binomial).
    """
    rng, parts = np.random.default_rng(seed), []
    for source, n, share in (("real", 47, 0.3), ("synthetic", 30, 0.3 - difference / 100)):
        for user in range(n):
            own = rng.beta(share * 5, (1 - share) * 5)
            label = rng.random(rng.integers(30, 100)) < own
            parts.append(pd.DataFrame({"source": source, "user": user, "label": label}))
    return pd.concat(parts, ignore_index=True)


def _one_judge(_: float, seed: int | np.random.Generator) -> pd.DataFrame:
    judgments = gap.simulate_relevance(seed=seed)
    return judgments[judgments["rater"] != "b"]


def _two_judges(stricter: float, seed: int | np.random.Generator) -> pd.DataFrame:
    return gap.simulate_relevance(stricter=stricter, seed=seed)


def _a_less_b(judgments: pd.DataFrame, **how) -> pd.DataFrame:
    return gap.paired_difference(judgments, "a", "b", **how)


def _ratings(_: float, seed: int | np.random.Generator) -> pd.DataFrame:
    return gap.simulate_ratings(seed=seed)


def _integers(_: float, seed: int) -> pd.DataFrame:
    judgments = gap.simulate_ratings(seed=seed)
    return judgments.assign(label=judgments["label"].round().clip(1, 5))


def _wide(judgments: pd.DataFrame) -> pd.DataFrame:
    return judgments.pivot(index="item", columns="rater", values="label")


def _humans(judgments: pd.DataFrame) -> pd.Series:
    return _wide(judgments).drop(columns="judge").mean(axis=1)


def _every_pairing(points: pd.DataFrame) -> float:
    """Of ρ as Pearson's r of ranks, in another order of enumeration."""
    x, y = (stats.rankdata(points[name]) for name in "xy")
    test = stats.permutation_test(
        (x,),
        lambda ranks: abs(np.corrcoef(ranks, y)[0, 1]).round(9),
        permutation_type="pairings",
        n_resamples=np.inf,
        alternative="greater",
    )
    return test.pvalue


def _excess(judgments: pd.DataFrame) -> float:
    """What a mention adds to the judge's mean rating, less what it adds to that of people."""
    added = judgments.pivot_table(index="mention", columns="rater", values="label").diff().iloc[1]
    return added["judge"] - added.drop("judge").mean()


def _points(size: float, seed: int | np.random.Generator) -> pd.DataFrame:
    """Six, of slope ``size`` standard deviations of the noise."""
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
    """A check whose reference and trials share data and analysis.

    ``ours`` and ``theirs`` analyse ``simulate(size, seed)``; ``value`` is the column of the ``row``
    of ours that both give. ``effect`` says what ``size`` is; the interval must cover the ``truth``
    of a size.
    """

    def compare() -> tuple:
        # The fewest resamples there may be: the value does not rest on them.
        data = simulate(size, 0)
        return row(ours(data, n_bootstrap=20))[value], theirs(data)

    # Simulation and analysis are shared by all checks that differ in the row they look at.
    def trial(rng: np.random.Generator, planted: bool) -> tuple:
        return row(_analysed(rng, simulate, ours, size * planted)), truth and truth(size * planted)

    return Check(estimator, reference, compare, effect, trial if effect or truth else None)


@once
def _analysed(
    rng: np.random.Generator, simulate: Callable, ours: Callable, size: float
) -> pd.DataFrame | pd.Series:
    return ours(simulate(size, rng), n_bootstrap=300)


def _row(table: pd.DataFrame, metric: str) -> pd.Series:
    """Of a metric, the first row."""
    return table[table["metric"] == metric].iloc[0]


def _against_gold(reference: Callable, judgments: pd.DataFrame, judge: str) -> float:
    return reference(*_wide(judgments)[["human_majority", judge]].to_numpy().T)


def _metric(estimator: str, metric: str, reference: Callable) -> Check:
    return _check(
        estimator, "scikit-learn", _one_judge, gap.relevance_metrics,
        lambda judgments: _against_gold(reference, judgments, "a"),
        row=partial(_row, metric=metric), truth=lambda _: population()[metric],
    )  # fmt: skip


def _paired(estimator: str, metric: str, reference: Callable) -> Check:
    return _check(
        estimator, "scikit-learn", _two_judges, _a_less_b,
        lambda judgments: -np.diff([_against_gold(reference, judgments, x) for x in "ab"]),
        row=partial(_row, metric=metric), effect="1 logit stricter", size=1.0,
    )  # fmt: skip


def _kappa(weights: str | None) -> Check:
    def theirs(judgments: pd.DataFrame) -> list[float]:
        pairs = combinations(_wide(judgments).to_numpy().T, 2)
        return [metrics.cohen_kappa_score(*pair, weights=weights) for pair in pairs]

    return _check(
        f"κ, {weights or 'no'} weights", "scikit-learn", _integers,
        lambda judgments, **how: gap.agreement(judgments, weights=weights, **how), theirs,
    )  # fmt: skip


def _reliability(estimator: str, reference: str, place: int, theirs: Callable) -> Check:
    def ours(judgments: pd.DataFrame, **how) -> pd.Series:
        return gap.reliability(judgments, measurement="interval", **how).iloc[place]

    return _check(
        estimator, reference, lambda _, seed: _integers(0, seed).query("rater_kind == 'human'"),
        ours, lambda judgments: theirs(_wide(judgments).to_numpy()),
    )  # fmt: skip


def _spearman(estimator: str, reference: str, r: float, metric: str) -> Check:
    """The ρ of normal variables with Pearson's ``r`` is (6/π) asin(r/2)."""

    def theirs(judgments: pd.DataFrame) -> float:
        rho = stats.spearmanr(_wide(judgments)["judge"], _humans(judgments)).statistic
        pairs = combinations(_wide(judgments).drop(columns="judge").to_numpy().T, 2)
        between = np.mean([stats.spearmanr(*pair).statistic for pair in pairs])
        return rho if metric == "spearman" else rho / (3 * between / (1 + 2 * between)) ** 0.5

    return _check(
        estimator, reference, _ratings, gap.judge_correlation, theirs,
        row=partial(_row, metric=metric), truth=lambda _: 6 / np.pi * np.arcsin(r / 2),
    )  # fmt: skip


#: Of the simulated judge with the true value: sd 0.7 of the value, 0.4 shared and 0.7 own errors.
_TRUE_R = 0.7 / (0.7**2 + 0.4**2 + 0.7**2) ** 0.5
GAP = [
    _metric("F1", "f1", metrics.f1_score),
    _metric("κ with the majority", "kappa", metrics.cohen_kappa_score),
    _metric("AUPRC", "auprc", metrics.average_precision_score),
    *(_kappa(weights) for weights in (None, "linear", "quadratic")),
    _reliability("Fleiss κ", "statsmodels", 0,
                 lambda labels: fleiss_kappa(aggregate_raters(labels.astype(int))[0])),
    # Of intervals, where all rated all: variance within units over that of all labels.
    _reliability("Krippendorff α", "numpy", 1,
                 lambda labels: 1 - labels.var(axis=1, ddof=1).mean() / labels.var(ddof=1)),
    _paired("paired difference of F1", "f1", metrics.f1_score),
    _paired("paired difference of yes rate", "yes_rate", lambda gold, judge: judge.mean()),
    _check(
        "judge inflation", "pandas",
        lambda size, seed: gap.simulate_ratings(inflation=size, seed=seed),
        lambda judgments, **how: gap.judge_inflation(judgments, **how).iloc[0],
        lambda judgments: (_wide(judgments)["judge"] - _humans(judgments)).mean(),
        effect="0.4 of a rating", size=0.4, truth=float,
    ),
    _check(
        "mention bias, excess of the judge", "pandas",
        lambda size, seed: gap.simulate_ratings(mention=size, seed=seed),
        lambda judgments, **how: _row(gap.mention_bias(judgments, **how), "excess"),
        _excess,
        effect="−0.4 of a rating", size=-0.4, truth=float,
    ),
    # With the mean of three people, whose own errors have sd 1.
    _spearman("Spearman ρ", "scipy", _TRUE_R * (0.49 / (0.49 + 1 / 3)) ** 0.5, "spearman"),
    _spearman("Spearman ρ, disattenuated", "scipy", _TRUE_R, "disattenuated"),
    _check(
        "real − synthetic", "pandas", _histories,
        lambda judgments, **_: gap.proportion_difference(judgments, [True]).iloc[0],
        lambda judgments: 100 * judgments.groupby("source")["label"].mean().diff(-1).iloc[0],
        effect="22 points", size=22.0, truth=float,
    ),
    _check(
        "exact permutation, n = 6", "scipy permutation_test", _points,
        lambda points, **_: gap.exact_correlation(points["x"], points["y"]).iloc[0],
        _every_pairing,
        effect="slope of 4 sd", size=4.0, value="p_value",
    ),
]  # fmt: skip
