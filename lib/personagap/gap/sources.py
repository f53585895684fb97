"""Real against synthetic users: shares and means by source, and whether they differ."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.genmod.cov_struct import Exchangeable
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_estimating_equations import GEE
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.stats.proportion import confint_proportions_2indep

from personagap.errors import UserError, expect
from personagap.gap.shares import at_effective_size
from personagap.gap.tables import complete, covariates_of, require
from personagap.limits import cluster_df, mover, satterthwaite, student
from personagap.results import result

#: Permutations of whole users: with the observed one 2,000, so the smallest p-value is 0.0005.
_DRAWS = 1999


def adjusted_difference(
    judgments: pd.DataFrame, labels: list, covariates: list[str], *, level: float = 0.95
) -> pd.DataFrame:
    """`proportion_difference` of real and synthetic users who are alike in ``covariates`` (R13).

    Logistic regression by generalized estimating equations, exchangeable within users, with the
    small-sample variance of Mancl & DeRouen (2001, Biometrics 57) and Student's t, whose degrees of
    freedom are those of Welch for the users of each source. The estimate is the average marginal
    effect in percentage points: what would change if every judgment changed its source and nothing
    else. The p-value permutes the sources of whole users and compares studentized scores (as
    DiCiccio & Romano 2017 do for partial correlations, Journal of the American Statistical
    Association 112): 47 users facing 10 are too few for a normal approximation. Where labels are
    rare among few users the interval may cover in 92 % only, as that of `proportion_difference`.

    Parameters
    ----------
    covariates : numeric columns, on the scale on which they act linearly (a history's length: its
        logarithm).

    Returns
    -------
    `results`, one row, with the key ``contrast`` and the ``statistic``.
    """
    require(judgments, "label", "source", "user")
    hit = _hit(judgments, labels)
    design = covariates_of(judgments, covariates)
    design = design.assign(real=judgments["source"] == "real", constant=1).astype(float)
    # A singular design still converges, to whatever split of the effect the solver ends in.
    if np.linalg.matrix_rank(design) < design.shape[1]:
        reason = "the two cannot be told apart"
        raise UserError(f"{', '.join(covariates)}: constant, or settled by source: {reason}")
    users = pd.factorize(pd.MultiIndex.from_frame(judgments[["source", "user"]]))[0]
    _clusters(users, design["real"].to_numpy(), "synthetic", "user")
    contrast = f"real − synthetic, at equal {' and '.join(covariates)}"
    if hit.nunique() < 2:
        # Nothing for covariates to tell: the fit would have an interval without width.
        table = judgments.assign(source=design["real"].map({1: "real", 0: "synthetic"}))
        return proportion_difference(table, labels, level=level).assign(contrast=contrast)
    model = GEE(hit, design, groups=users, family=Binomial(), cov_struct=Exchangeable())
    fit = model.fit(cov_type="bias_reduced")
    estimate, error, statistic, *_ = fit.get_margeff(dummy=True).summary_frame().loc["real"]
    side = design["real"].groupby(users).first().to_numpy()
    df = _welch(np.bincount(users, weights=fit.resid), np.bincount(users), side)
    low, high = student(estimate, error, df, level)
    row: dict[str, Any] = {"contrast": contrast, "estimate": 100 * estimate}
    row |= {"ci_low": 100 * low, "ci_high": 100 * high}
    row |= {"n": len(judgments), "statistic": statistic}
    row["p_value"] = _score_p(hit, design.drop(columns="real"), users, side)
    row["method"] = "GEE logit, marginal effect, Student's t; permutation of whole users"
    return result([row], ["contrast"], metric="share", unit="points")


def _clusters(code: np.ndarray, first: np.ndarray, b: str, cluster: str) -> list[int]:
    """Numbers of clusters of real users and of the others."""
    clusters = [len(np.unique(code[first == side])) for side in (1, 0)]
    if min(clusters) < 2:
        raise UserError(
            f"source: 'real' and {b!r} need judgments of two or more {cluster}s each, there "
            f"are {clusters}"
        )
    return clusters


def _hit(judgments: pd.DataFrame, labels: list) -> pd.Series:
    """1 for a judgment with one of ``labels``, else 0."""
    expect(pd.api.types.is_list_like(labels), "a list of labels", labels=labels)
    complete(judgments["label"])
    return judgments["label"].isin(labels).astype(float)


def _welch(sums: np.ndarray, sizes: np.ndarray, side: np.ndarray) -> float:
    """Welch's degrees of freedom for the users of two sides, from each user's sum of residuals."""
    sides = [side == s for s in (0, 1)]
    variances = [(sums[one] ** 2).sum() / sizes[one].sum() ** 2 for one in sides]
    free = [cluster_df(sizes[one]) for one in sides]
    return satterthwaite(sum(variances), *zip(variances, free, strict=True))


def _score_p(
    hit: pd.Series, covariates: pd.DataFrame, users: np.ndarray, side: np.ndarray
) -> float:
    """p of the score of the users' ``side`` given the covariates, sides permuted (fixed draws)."""
    x = covariates.to_numpy()
    mean = GLM(hit, covariates, family=Binomial()).fit().fittedvalues.to_numpy()
    residual, weight = hit.to_numpy() - mean, mean * (1 - mean)
    # Of each user: Σ residuals, Σ covariates × residuals, and what the user adds to the side's
    # regression on them.
    own, with_x, towards = (
        np.stack([np.bincount(users, weights=column) for column in columns.T])
        for columns in (residual[:, None], x * residual[:, None], x * weight[:, None])
    )
    slopes = np.linalg.pinv(x.T @ (x * weight[:, None])) @ towards

    def studentized(sides: np.ndarray) -> np.ndarray:
        scores = sides * own - (sides @ slopes.T) @ with_x
        return scores.sum(axis=1) / np.sqrt((scores**2).sum(axis=1).clip(min=1e-30))

    # Studentized, or the test would also find that users of one source vary more.
    return _permuted_p(studentized, side)


def _permuted_p(statistic: Callable[[np.ndarray], np.ndarray], side: np.ndarray) -> float:
    """Two-sided p of a statistic of the sides (draws × clusters) that whole clusters are on.

    Draws are fixed, so that the same data have the same p.
    """
    drawn = np.random.default_rng(0).permuted(np.tile(side, (_DRAWS, 1)), axis=1)
    values = np.abs(statistic(np.vstack([side, drawn])))
    # Sides dealt as they are count, though their sums be rounded otherwise.
    return float(np.mean(values >= values[0] - 1e-9))


def proportion_difference(
    judgments: pd.DataFrame,
    labels: list,
    *,
    b: str = "synthetic",
    cluster: str = "user",
    level: float = 0.95,
) -> pd.DataFrame:
    """Real users less another source: the share of judgments with one of ``labels``.

    Each share has its Wilson interval at its effective sample size, and the difference theirs
    (MOVER, Zou & Donner 2008). With few clusters of rare labels that still covers in 90 % only, as
    ``method`` says below 20 clusters; the p-value permutes whole clusters. A common cluster-robust
    variance and t cover in 83–90 % where 47 users face 10. Test and interval respect that a user's
    judgments go together. Each cluster belongs to one source. Where clusters do not vary (as at 0 %
    or 100 %) each counts as one observation: Newcombe's interval and Fisher's exact test.

    Parameters
    ----------
    judgments : one row per judgment, ``source label`` and the clusters.
    labels : labels that count, e.g. ["uncertain", "rejected"].
    b : the other source.
    cluster : column of the clusters.

    Returns
    -------
    `results`, one row, with the key ``contrast`` and ``value_a value_b statistic n_a n_b clusters_a
    clusters_b``: the shares and their difference a − b in percentage points.

    Examples
    --------
    >>> judgments = pd.DataFrame({"source": ["real"] * 6 + ["synthetic"] * 6})
    >>> judgments["user"] = list("aabbccddeeff")
    >>> judgments["label"] = ["ok", "bad", "bad", "bad", "ok", "ok"] + ["ok"] * 5 + ["bad"]
    >>> found = proportion_difference(judgments, ["bad"])
    >>> found[["contrast", "value_a", "value_b", "estimate"]].round(1)
               contrast  value_a  value_b  estimate
    0  real − synthetic     50.0     16.7      33.3
    """
    require(judgments, "label", "source", cluster)
    table = judgments[judgments["source"].isin(["real", b])]
    hit = 100 * _hit(table, labels).to_numpy()
    first = (table["source"] == "real").to_numpy(dtype=float)
    code = pd.factorize(pd.MultiIndex.from_frame(table[["source", cluster]]))[0]
    clusters = _clusters(code, first, b, cluster)
    shares = [hit[first == side].mean() for side in (1, 0)]
    groups = [_share(hit[first == side] / 100, code[first == side], level) for side in (1, 0)]
    error = 100 * sum(group[0] ** 2 for group in groups) ** 0.5
    (_, low_a, high_a), (_, low_b, high_b) = 100 * np.array(groups)
    estimate = shares[0] - shares[1]
    if error < 1e-9:
        # Every cluster has its group's share, mostly 0 % or 100 %: dealt anew all would be ties.
        low, high, p_value = _without_variation(np.array(shares), np.array(clusters), level)
        statistic, exact = np.nan, "Newcombe interval and Fisher's exact test"
        method = f"no variation: {exact}, one observation per {cluster}"
    else:
        low, high = mover(shares[0], (low_a, high_a), shares[1], (low_b, high_b))
        statistic, p_value = estimate / error, _difference_p(hit, code, first)
        method = f"clusters of {cluster}: Wilson intervals by MOVER, permutation of whole clusters"
        if min(clusters) < 20:
            method += f"; few {cluster}s: where labels are rare the interval may cover in 90 % only"
    row = {"contrast": f"real − {b}", "estimate": estimate, "ci_low": low, "ci_high": high}
    row |= {"p_value": p_value, "n": len(table), "method": method}
    row |= {"value_a": shares[0], "value_b": shares[1], "statistic": statistic}
    row |= {"n_a": int(first.sum()), "n_b": int((1 - first).sum())}
    row |= {"clusters_a": clusters[0], "clusters_b": clusters[1]}
    return result([row], ["contrast"], metric="share", unit="points")


def _share(hit: np.ndarray, code: np.ndarray, level: float) -> tuple[float, float, float]:
    """Clustered standard error of a share and its Wilson limits, as in `means`."""
    share, (code, clusters) = hit.mean(), pd.factorize(code)
    sums, n = np.bincount(code, weights=hit - share), len(clusters)
    error = (n / (n - 1) * (sums**2).sum()) ** 0.5 / len(hit)
    return error, *at_effective_size(share, error, cluster_df(np.bincount(code)), n, level)


def _difference_p(hit: np.ndarray, code: np.ndarray, first: np.ndarray) -> float:
    """p of the difference of shares when whole clusters change sides at random."""
    totals = np.stack([np.bincount(code, weights=values) for values in (hit, np.ones(len(hit)))])
    side = np.zeros(totals.shape[1])
    side[code] = first

    def difference(sides: np.ndarray) -> np.ndarray:
        a, b = sides @ totals.T, (1 - sides) @ totals.T
        return a[:, 0] / a[:, 1] - b[:, 0] / b[:, 1]

    return _permuted_p(difference, side)


def _without_variation(
    shares: np.ndarray, n: np.ndarray, level: float
) -> tuple[float, float, float]:
    """Limits and p-value of the difference where each of the n clusters is one observation."""
    hits = np.rint(shares / 100 * n).astype(int)
    (a, b), (n_a, n_b) = hits, n
    low, high = confint_proportions_2indep(a, n_a, b, n_b, method="newcomb", alpha=1 - level)
    return 100 * low, 100 * high, stats.fisher_exact([hits, n - hits]).pvalue
