"""Do the identities differ at all?"""

import numpy as np
import pandas as pd
from scipy import stats

from personagap.effects._table import Cells, identity_cells
from personagap.effects.anova import mean_squares
from personagap.effects.resampling import Moments, flipped, null_of
from personagap.limits import satterthwaite
from personagap.results import corrected, generator, result

#: Answers of the rarer kind that a robust Wald test needs of each identity.
RAREST = 50


def omnibus(scores: pd.DataFrame, *, n_permutations: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Tests of "all identities have the same mean score", in each task.

    Parameters
    ----------
    scores : rows ``persona task item score``, optionally ``template run``, ``score`` in [0, 1];
        missing cells as in `personalization_bias`.
    n_permutations, seed : of the permutation test.

    Returns
    -------
    Keys ``task``, the ``results.COLUMNS`` (``n`` items), then ``statistic df n_runs``, one row per
    task and method. The metric is "pb", in points; ``df`` are the numerator degrees of freedom. The
    methods, each corrected over tasks:

    - "sign flip of PB": as in `personalization_bias`, valid for any scores and several phrasings.
    - "Cochran's Q": binary scores of one run and one phrasing, none missing; asymptotic χ². Its
      null is that identities are exchangeable within items, which is more than equal means: one
      identity that varies more, or answers that go together within a category, are also found.
    - "GEE logistic Wald": one phrasing, none missing; ``statistic`` is the robust Wald χ² of a
      logistic GEE with items as clusters and working independence, which identity dummies make
      explicit: logits of the means with their sandwich covariance. Its p-value is from Hotelling's
      F, as χ² rejects far too often below thousands of items. Left out when there are no more items
      than identities, or fewer than 50 answers of the rarer kind of some identity: at mean scores
      of .94–.98 it rejects in 15–20 %.
    - "quasi-F": several phrasings; items and phrasings random (Clark 1973), Satterthwaite's df.

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
        null = null_of([moments], [flipped(x, n_permutations, generator(seed))])
        tests = [("sign flip of PB", null["pb"], k - 1, null["p_value"])]
        if n_templates > 1:
            tests.append(("quasi-F", *_quasi_f(x)))
        elif cells.runs.max() == 1 and np.isin(x, [0, 1]).all():
            tests.append(("Cochran's Q", *cochran_q(x[:, 0])))
        if n_templates == 1 and not cells.missing and n > k and _rarest(cells) >= RAREST:
            tests.append(("GEE logistic Wald", *gee_wald(x[:, 0])))
        table = pd.DataFrame(tests, columns=["method", "statistic", "df", "p_value"])
        known = {"task": task, "estimate": null["pb"], "n": n, "n_runs": int(cells.runs.max())}
        tables.append(table.assign(**known))
    # Over the tasks of a method, not over methods: they ask one question of the same data.
    tested = corrected(pd.concat(tables, ignore_index=True), ["method"])
    return result(tested, ["task"], metric="pb", unit="points")


def _rarest(cells: Cells) -> float:
    """Answers of the rarer kind, right or wrong, of the identity that has fewest."""
    right = (cells.mean * cells.runs).sum(axis=(1, 2))
    return float(np.minimum(right, cells.runs.sum(axis=(1, 2)) - right).min())


def cochran_q(x: np.ndarray) -> tuple[float, int, float]:
    """Q, df and p of binary ``x`` (identities × items): identity
    variance over that within items.
    """
    k, n = x.shape
    table = mean_squares(x, "ij")
    between, rest = (table[effect].value * table[effect].df for effect in ("i", "ij"))
    q = n * (k - 1) * between / (between + rest) if between > 0 else 0.0
    return q, k - 1, float(stats.chi2.sf(q, k - 1))


def gee_wald(x: np.ndarray) -> tuple[float, int, float]:
    """Wald χ², df and Hotelling p of equal logits, from cell means ``x`` (identities × items)."""
    n, mean = x.shape[1], x.mean(axis=1)
    # Of items on the logits (delta method).
    influence = (x - mean[:, None]) / (mean * (1 - mean))[:, None] / n
    logits = np.log(mean / (1 - mean))
    influence, logits = influence[1:] - influence[0], logits[1:] - logits[0]
    covariance = influence @ influence.T
    # Identities that always answer alike have no covariance of their own: the rank counts those
    # that do.
    df = int(np.linalg.matrix_rank(covariance, hermitian=True))
    wald = float(logits @ np.linalg.pinv(covariance, hermitian=True) @ logits)
    return wald, df, float(stats.f.sf(wald * (n - df) / (n * df), df, n - df)) if df else 1.0


def _quasi_f(x: np.ndarray) -> tuple[float, int, float]:
    table = mean_squares(x, "ipj")
    phrasing, item, rest = (table[effect] for effect in ("ip", "ij", "ipj"))
    # Each interaction brings `rest` along; taken off once, the sum may fall below either.
    noise = max(phrasing.value + item.value - rest.value, phrasing.value, item.value)
    if noise == 0:
        return 0.0, table["i"].df, 1.0
    df = satterthwaite(noise, phrasing, item, rest)
    f = table["i"].value / noise
    return f, table["i"].df, float(stats.f.sf(f, table["i"].df, df))
