"""Real against synthetic users: does a share differ between two sources?"""

import numpy as np
import pandas as pd
from statsmodels.regression.linear_model import OLS

from personagap.errors import UserError


def proportion_difference(
    judgments: pd.DataFrame,
    labels: list,
    *,
    by: str = "source",
    a: str = "real",
    b: str = "synthetic",
    cluster: str = "user",
    level: float = 0.95,
) -> pd.DataFrame:
    """Difference between two groups in the share of judgments with one of ``labels``.

    A linear probability model with cluster-robust variance (CR1) and t with clusters − 1 degrees of
    freedom: exactly the difference of the two shares, with an interval that respects that a
    user's judgments go together. Each cluster belongs to one group.

    Parameters
    ----------
    judgments : one row per judgment, with ``label`` and the columns named below.
    labels : labels that count, e.g. ["uncertain", "rejected"].
    by, a, b : column of the groups, and the two of them.
    cluster : column of the clusters.

    Returns
    -------
    One row ``contrast value_a value_b estimate unit ci_low ci_high statistic p_value n_a n_b clusters_a
    clusters_b method``, the shares and their difference a − b in percentage points.

    Examples
    --------
    >>> judgments = pd.DataFrame({"source": ["real"] * 6 + ["synthetic"] * 6, "user": list("aabbccddeeff"),
    ...                           "label": ["ok", "bad", "bad", "bad", "ok", "ok"] + ["ok"] * 5 + ["bad"]})
    >>> proportion_difference(judgments, ["bad"])[["contrast", "value_a", "value_b", "estimate"]].round(1)
               contrast  value_a  value_b  estimate
    0  real − synthetic     50.0     16.7      33.3
    """
    table = judgments[judgments[by].isin([a, b])]
    hit = 100 * table["label"].isin(labels).to_numpy(dtype=float)
    first = (table[by] == a).to_numpy(dtype=float)
    code = pd.factorize(pd.MultiIndex.from_frame(table[[by, cluster]]))[0]
    clusters = [len(np.unique(code[first == side])) for side in (1, 0)]
    if min(clusters) < 2:
        raise UserError(f"{by}: {a!r} and {b!r} need judgments of two or more {cluster}s each, there are {clusters}")
    shares = [hit[first == side].mean() for side in (1, 0)]
    design = np.column_stack([np.ones(len(first)), first])
    fit = OLS(hit, design).fit(cov_type="cluster", cov_kwds={"groups": code}, use_t=True)
    low, high = fit.conf_int(1 - level)[1]
    defined = fit.bse[1] > 1e-9  # both shares are 0 % or 100 %: nothing varies, nothing to test
    return pd.DataFrame(
        {
            "contrast": f"{a} − {b}",
            "value_a": shares[:1],
            "value_b": shares[1:],
            "estimate": shares[0] - shares[1],
            "unit": "points",
            "ci_low": low,
            "ci_high": high,
            "statistic": fit.tvalues[1] if defined else 0.0,
            "p_value": fit.pvalues[1] if defined else 1.0,
            "n_a": int(first.sum()),
            "n_b": int((1 - first).sum()),
            "clusters_a": clusters[0],
            "clusters_b": clusters[1],
            "method": f"linear probability, cluster-robust by {cluster}",
        }
    )
