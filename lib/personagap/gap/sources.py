"""Comparison of real and synthetic users: differences of shares between sources of judgments."""

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
from personagap.gap.tables import covariates_of, require_columns, require_labels
from personagap.limits import cluster_df, mover_interval, satterthwaite_df, t_interval
from personagap.results import result

#: Permutations of whole clusters: 2,000 with the observed one, so the smallest p-value is 0.0005.
_N_PERMUTATIONS = 1999


def adjusted_difference(
    judgments: pd.DataFrame, labels: list, covariates: list[str], *, level: float = 0.95
) -> pd.DataFrame:
    """`proportion_difference` of real and synthetic users, adjusted for ``covariates`` (R13).

    Logistic regression by generalized estimating equations, exchangeable within users, with the
    small-sample variance of Mancl & DeRouen (2001, Biometrics 57) and Student's t with Welch's
    degrees of freedom for the users of each source. The estimate is the average marginal effect in
    percentage points: the change if every judgment changed its source and nothing else. The p-value
    permutes the sources of whole users and compares studentized scores (as DiCiccio & Romano 2017,
    Journal of the American Statistical Association 112, do for partial correlations): 47 against 10
    users are too few for a normal approximation. Where labels are rare among few users, the
    interval may cover in 92 % only, like that of `proportion_difference`.

    Parameters
    ----------
    judgments : one row per judgment, ``source user label`` and the covariates.
    labels : labels that count, e.g. ["uncertain", "rejected"].
    covariates : numeric columns on the scale on which they act linearly (for the length of a
        history, its logarithm).
    level : coverage of the interval.

    Returns
    -------
    `results` table of one row with the key ``contrast`` and the ``statistic``.
    """
    require_columns(judgments, "label", "source", "user")
    hit = _indicator(judgments, labels)
    design = covariates_of(judgments, covariates)
    design = design.assign(real=judgments["source"] == "real", constant=1).astype(float)
    # With a singular design the fit would converge, but to an arbitrary split of the effect.
    if np.linalg.matrix_rank(design) < design.shape[1]:
        reason = "the two cannot be told apart"
        raise UserError(f"{', '.join(covariates)}: constant, or settled by source: {reason}")
    users = pd.factorize(pd.MultiIndex.from_frame(judgments[["source", "user"]]))[0]
    _cluster_counts(users, design["real"].to_numpy(), "synthetic", "user")
    contrast = f"real − synthetic, at equal {' and '.join(covariates)}"
    if hit.nunique() < 2:
        # Without variation there is nothing to adjust, and the interval of the fit has no width.
        table = judgments.assign(source=design["real"].map({1: "real", 0: "synthetic"}))
        return proportion_difference(table, labels, level=level).assign(contrast=contrast)
    model = GEE(hit, design, groups=users, family=Binomial(), cov_struct=Exchangeable())
    fit = model.fit(cov_type="bias_reduced")
    estimate, error, statistic, *_ = fit.get_margeff(dummy=True).summary_frame().loc["real"]
    is_real = design["real"].groupby(users).first().to_numpy()
    df = _welch_df(np.bincount(users, weights=fit.resid), np.bincount(users), is_real)
    low, high = t_interval(estimate, error, df, level)
    row: dict[str, Any] = {"contrast": contrast, "estimate": 100 * estimate}
    row |= {"ci_low": 100 * low, "ci_high": 100 * high, "n": len(judgments), "statistic": statistic}
    row["p_value"] = _score_test(hit, design.drop(columns="real"), users, is_real)
    row["method"] = "GEE logit, marginal effect, Student's t; permutation of whole users"
    return result([row], ["contrast"], metric="share", unit="points")


def _cluster_counts(code: np.ndarray, is_real: np.ndarray, other: str, cluster: str) -> list[int]:
    """Numbers of clusters of the real and of the other source; `UserError` if one is below 2."""
    clusters = [len(np.unique(code[is_real == side])) for side in (1, 0)]
    if min(clusters) < 2:
        raise UserError(
            f"source: 'real' and {other!r} need judgments of two or more {cluster}s each, there "
            f"are {clusters}"
        )
    return clusters


def _indicator(judgments: pd.DataFrame, labels: list) -> pd.Series:
    """Return 1 for judgments with one of ``labels``, else 0."""
    expect(pd.api.types.is_list_like(labels), "a list of labels", labels=labels)
    require_labels(judgments["label"])
    hit = judgments["label"].isin(labels)
    # The number 1 is not the text "1": the share would be 0 without a word.
    if not hit.any() and judgments["label"].astype("str").isin(map(str, labels)).any():
        found = judgments["label"].iloc[0]
        remedy = "give labels as they stand there"
        raise UserError(f"labels {labels}: judgments have {found!r}, of another type: {remedy}")
    return hit.astype(float)


def _welch_df(sums: np.ndarray, sizes: np.ndarray, is_real: np.ndarray) -> float:
    """Welch's degrees of freedom for the users of two sources.

    ``sums`` are each user's sum of residuals, ``sizes`` each user's number of judgments.
    """
    sources = [is_real == side for side in (0, 1)]
    variances = [(sums[users] ** 2).sum() / sizes[users].sum() ** 2 for users in sources]
    df = [cluster_df(sizes[users]) for users in sources]
    return satterthwaite_df(sum(variances), *zip(variances, df, strict=True))


def _score_test(
    hit: pd.Series, covariates: pd.DataFrame, users: np.ndarray, is_real: np.ndarray
) -> float:
    """p-value of the score test of ``is_real`` given the covariates, permuting whole users."""
    x = covariates.to_numpy()
    fitted = GLM(hit, covariates, family=Binomial()).fit().fittedvalues.to_numpy()
    residual, weight = hit.to_numpy() - fitted, fitted * (1 - fitted)
    # For each user: Σ residuals, Σ covariates × residuals, and Σ covariates × weights, the user's
    # part in the weighted regression of the source on the covariates.
    residuals, x_residuals, x_weights = (
        np.stack([np.bincount(users, weights=column) for column in columns.T])
        for columns in (residual[:, None], x * residual[:, None], x * weight[:, None])
    )
    slopes = np.linalg.pinv(x.T @ (x * weight[:, None])) @ x_weights

    def studentized(sides: np.ndarray) -> np.ndarray:
        scores = sides * residuals - (sides @ slopes.T) @ x_residuals
        return scores.sum(axis=1) / np.sqrt((scores**2).sum(axis=1).clip(min=1e-30))

    # Studentized, or the test would also reject if only the variances of the sources differ.
    return _permutation_p(studentized, is_real)


def _permutation_p(statistic: Callable[[np.ndarray], np.ndarray], is_real: np.ndarray) -> float:
    """Two-sided permutation p-value of a statistic of ``sides`` (permutations, n_clusters).

    ``sides`` is 1 for clusters assigned to the real source. Permutations have a fixed seed, so that
    the same data give the same p-value.
    """
    permuted = np.random.default_rng(0).permuted(np.tile(is_real, (_N_PERMUTATIONS, 1)), axis=1)
    values = np.abs(statistic(np.vstack([is_real, permuted])))
    # The tolerance counts permutations equal to the observed one despite rounding of their sums.
    return float(np.mean(values >= values[0] - 1e-9))


def proportion_difference(
    judgments: pd.DataFrame,
    labels: list,
    *,
    b: str = "synthetic",
    cluster: str = "user",
    level: float = 0.95,
) -> pd.DataFrame:
    """Difference in the share of judgments with one of ``labels``: real users − another source.

    Each share has the Wilson interval at its effective sample size, and the interval of the
    difference combines the two (MOVER, Zou & Donner 2008). The p-value permutes whole clusters and
    compares differences in units of their standard error: users of one source may vary more, or
    judge more, than those of the other (Chung & Romano 2013, Annals of Statistics 41, 484–507).
    Where ten users vary far more than the 47 of the other source, the test at 5 % still rejects a
    true null in about 10 %.
    Test and interval account for the correlation of judgments of the same user. With few clusters
    and rare labels the interval covers in 90 % only, as ``method`` says below 20 clusters; a common
    cluster-robust variance with Student's t covers in 83–90 % for 47 against 10 users. If clusters
    do not vary (all at 0 % or 100 %), each counts as one observation: Newcombe's interval and
    Fisher's exact test.

    Parameters
    ----------
    judgments : one row per judgment, ``source label`` and the clusters.
    labels : labels that count, e.g. ["uncertain", "rejected"].
    b : the other source.
    cluster : column of the clusters, each of which belongs to one source.
    level : coverage of the interval.

    Returns
    -------
    `results` table of one row with the key ``contrast`` and ``value_a value_b statistic n_a n_b
    clusters_a clusters_b``: the shares and their difference a − b in percentage points.

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
    require_columns(judgments, "label", "source", cluster)
    table = judgments[judgments["source"].isin(["real", b])]
    hit = 100 * _indicator(table, labels).to_numpy()
    is_real = (table["source"] == "real").to_numpy(dtype=float)
    code = pd.factorize(pd.MultiIndex.from_frame(table[["source", cluster]]))[0]
    clusters = _cluster_counts(code, is_real, b, cluster)
    sources = [is_real == side for side in (1, 0)]
    value_a, value_b = (hit[source].mean() for source in sources)
    groups = [_share_limits(hit[source] / 100, code[source], level) for source in sources]
    error = 100 * sum(group[0] ** 2 for group in groups) ** 0.5
    (_, low_a, high_a), (_, low_b, high_b) = 100 * np.array(groups)
    estimate = value_a - value_b
    if error < 1e-9:
        # All clusters have the share of their source, mostly 0 % or 100 %: permutations would tie.
        low, high, p_value = _without_variation((value_a, value_b), np.array(clusters), level)
        statistic, exact = np.nan, "Newcombe interval and Fisher's exact test"
        method = f"no variation: {exact}, one observation per {cluster}"
    else:
        low, high = mover_interval(value_a, (low_a, high_a), value_b, (low_b, high_b))
        statistic, p_value = estimate / error, _difference_test(hit, code, is_real)
        method = f"clusters of {cluster}: Wilson intervals by MOVER, permutation of whole clusters"
        if min(clusters) < 20:
            method += f"; few {cluster}s: where labels are rare the interval may cover in 90 % only"
    row = {"contrast": f"real − {b}", "estimate": estimate, "ci_low": low, "ci_high": high}
    row |= {"p_value": p_value, "n": len(table), "method": method}
    row |= {"value_a": value_a, "value_b": value_b, "statistic": statistic}
    row |= {"n_a": int(is_real.sum()), "n_b": int((1 - is_real).sum())}
    row |= {"clusters_a": clusters[0], "clusters_b": clusters[1]}
    return result([row], ["contrast"], metric="share", unit="points")


def _share_limits(hit: np.ndarray, code: np.ndarray, level: float) -> tuple[float, float, float]:
    """Clustered standard error of a share and its Wilson limits, as in `means`."""
    share, (code, clusters) = hit.mean(), pd.factorize(code)
    sums, n = np.bincount(code, weights=hit - share), len(clusters)
    error = (n / (n - 1) * (sums**2).sum()) ** 0.5 / len(hit)
    return error, *at_effective_size(share, error, cluster_df(np.bincount(code)), n, level)


def _difference_test(hit: np.ndarray, code: np.ndarray, is_real: np.ndarray) -> float:
    """p-value of the studentized difference of shares, permuting the sources of whole clusters."""
    hits, sizes = np.bincount(code, weights=hit), np.bincount(code).astype(float)
    side = np.zeros(len(sizes))
    side[code] = is_real

    def studentized(sides: np.ndarray) -> np.ndarray:
        shares, variances = [], []
        for members in (sides, 1 - sides):
            n, clusters = members @ sizes, members.sum(axis=1)
            share = members @ hits / n
            squares = (members * (hits - share[:, None] * sizes) ** 2).sum(axis=1)
            variances.append(clusters / (clusters - 1) * squares / n**2)
            shares.append(share)
        return (shares[0] - shares[1]) / np.sqrt(sum(variances).clip(min=1e-30))

    return _permutation_p(studentized, side)


def _without_variation(
    shares: tuple[float, float], n: np.ndarray, level: float
) -> tuple[float, float, float]:
    """Limits and p-value of the difference with each of the n clusters as one observation."""
    hits = np.rint(np.array(shares) / 100 * n).astype(int)
    (a, b), (n_a, n_b) = hits, n
    low, high = confint_proportions_2indep(a, n_a, b, n_b, method="newcomb", alpha=1 - level)
    return 100 * low, 100 * high, stats.fisher_exact([hits, n - hits]).pvalue
