"""The one result table: key columns, then the same ten from every estimator, a row for each metric."""

from collections.abc import Iterable, Sequence

import pandas as pd

COLUMNS = ["metric", "estimate", "ci_low", "ci_high", "p_value", "p_adjusted", "family", "n", "unit", "method"]
TEXTS = ["family", "unit", "method"]


def result_table(rows: Iterable[dict], keys: Sequence[str]) -> pd.DataFrame:
    """``rows`` with the columns ``keys`` and ``COLUMNS``; NaN, or "" for a text, where a metric has none.

    Examples
    --------
    >>> table = result_table([{"rater": "judge", "metric": "f1", "estimate": 0.5, "n": 40}], ["rater"])
    >>> table[["rater", "metric", "estimate", "ci_low", "n"]]
       rater metric  estimate  ci_low   n
    0  judge     f1       0.5     NaN  40
    """
    table = pd.DataFrame(rows).reindex(columns=[*keys, *COLUMNS])
    table[TEXTS] = table[TEXTS].astype(object).fillna("").astype(str)
    return table.astype(dict.fromkeys(COLUMNS[1:6], float))
