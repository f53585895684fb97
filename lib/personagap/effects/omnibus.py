"""Omnibus tests of whether the identities differ at all."""

import numpy as np
import pandas as pd
from scipy import stats

from personagap.effects._table import Cells, identity_cells
from personagap.effects.anova import mean_squares
from personagap.effects.resampling import Moments, flipped, pb_test
from personagap.limits import satterthwaite_df
from personagap.results import add_holm, random_generator, result

#: Smallest number of answers of the rarer kind, per identity, for the robust Wald test.
MIN_RARER = 50


def omnibus(scores: pd.DataFrame, *, n_permutations: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Test in each task whether all identities have the same mean score.

    Parameters
    ----------
    scores : rows ``persona task item score``, optionally ``template run``, ``score`` in [0, 1].
        Missing cells are imputed as in `personalization_bias`.
    n_permutations, seed : number of draws of the sign-flip test, and their seed.

    Returns
    -------
    Keys ``task``, the ``results.COLUMNS`` (``n`` items), then ``statistic df n_runs``, one row per
    task and method. The metric is "pb", in points; ``df`` is the numerator degrees of freedom. Each
    method is corrected over tasks:

    - "sign flip of PB": as in `personalization_bias`, valid for any scores and several phrasings.
    - "Cochran's Q": binary scores of one run and one phrasing, none missing; asymptotic χ². Its
      null hypothesis is that identities are exchangeable within items, which is stronger than equal
      means: it is also rejected for an identity with more variable answers, or for correlated
      answers within a category.
    - "GEE logistic Wald": one phrasing, none missing. ``statistic`` is the robust Wald χ² of a
      logistic GEE with items as clusters and working independence. With identity dummies it has a
      closed form: the logits of the means and their sandwich covariance. The p-value is from
      Hotelling's F, as χ² rejects far too often below thousands of items. Omitted unless there are
      more items than identities, or if an identity has fewer than 50 answers of the rarer kind: at
      mean scores of .94–.98 it rejects in 15–20 %.
    - "quasi-F": several phrasings; items and phrasings are random (Clark 1973), with
      Satterthwaite's df.

    Raises
    ------
    UserError : as `personalization_bias`.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> scores = simulate_scores([-8, 0, 8], n_items=200, seed=3)
    >>> omnibus(scores)[["method", "statistic", "df", "p_value"]].round(3)
                  method  statistic  df  p_value
    0    sign flip of PB     10.157   2      0.0
    1        Cochran's Q     34.073   2      0.0
    2  GEE logistic Wald     38.157   2      0.0
    """
    tables = []
    for task, cells in identity_cells(scores).items():
        x = cells.mean
        k, n_templates, n = x.shape
        moments = Moments.of(x)
        pb = pb_test([moments], [flipped(x, n_permutations, random_generator(seed))])
        tests = [("sign flip of PB", pb["pb"], k - 1, pb["p_value"])]
        if n_templates > 1:
            tests.append(("quasi-F", *_quasi_f(x)))
        elif cells.runs.max() == 1 and np.isin(x, [0, 1]).all():
            tests.append(("Cochran's Q", *cochran_q(x[:, 0])))
        if n_templates == 1 and not cells.n_missing and n > k and _n_rarer(cells) >= MIN_RARER:
            tests.append(("GEE logistic Wald", *gee_wald(x[:, 0])))
        table = pd.DataFrame(tests, columns=["method", "statistic", "df", "p_value"])
        same = {"task": task, "estimate": pb["pb"], "n": n, "n_runs": int(cells.runs.max())}
        tables.append(table.assign(**same))
    # Corrected over tasks and not over methods, which test one hypothesis on the same data.
    tested = add_holm(pd.concat(tables, ignore_index=True), ["method"])
    return result(tested, ["task"], metric="pb", unit="points")


def _n_rarer(cells: Cells) -> float:
    """Smallest number, over identities, of answers of the rarer kind (right or wrong)."""
    right = (cells.mean * cells.runs).sum(axis=(1, 2))
    return float(np.minimum(right, cells.runs.sum(axis=(1, 2)) - right).min())


def cochran_q(x: np.ndarray) -> tuple[float, int, float]:
    """Cochran's Q, its df and p-value for binary ``x`` (identities × items)."""
    # Q is the variance between identities relative to that within items.
    k, n = x.shape
    table = mean_squares(x, "ij")
    between, rest = (table[effect].value * table[effect].df for effect in ("i", "ij"))
    q = n * (k - 1) * between / (between + rest) if between > 0 else 0.0
    return q, k - 1, float(stats.chi2.sf(q, k - 1))


def gee_wald(x: np.ndarray) -> tuple[float, int, float]:
    """Wald χ², df and Hotelling p of equal logits, from cell means ``x`` (identities × items)."""
    n, mean = x.shape[1], x.mean(axis=1)
    # Influence of each item on the logits (delta method).
    influence = (x - mean[:, None]) / (mean * (1 - mean))[:, None] / n
    logits = np.log(mean / (1 - mean))
    influence, logits = influence[1:] - influence[0], logits[1:] - logits[0]
    covariance = influence @ influence.T
    # Identities whose answers never differ make the covariance singular; its rank is the df.
    df = int(np.linalg.matrix_rank(covariance, hermitian=True))
    wald = float(logits @ np.linalg.pinv(covariance, hermitian=True) @ logits)
    return wald, df, float(stats.f.sf(wald * (n - df) / (n * df), df, n - df)) if df else 1.0


def _quasi_f(x: np.ndarray) -> tuple[float, int, float]:
    """Quasi-F, its numerator df and p-value for identities, from cell means ``x`` (k × T × n)."""
    table = mean_squares(x, "ipj")
    phrasing, item, residual = (table[effect] for effect in ("ip", "ij", "ipj"))
    # Both interactions include the residual variance, so it is subtracted once; the sum may fall
    # below either.
    noise = max(phrasing.value + item.value - residual.value, phrasing.value, item.value)
    if noise == 0:
        return 0.0, table["i"].df, 1.0
    df = satterthwaite_df(noise, phrasing, item, residual)
    f = table["i"].value / noise
    return f, table["i"].df, float(stats.f.sf(f, table["i"].df, df))
