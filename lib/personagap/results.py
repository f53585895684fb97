"""The common form of results: estimators return tables with these columns, one estimate per row.

The keys come first (``task``, ``contrast``, ``rater``, ``condition`` …), then ``COLUMNS``, then
columns specific to the estimator. The table contains its units, so that figures and reports need no
knowledge of the estimator.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from personagap.errors import UserError, alike

#: ``metric``: the quantity estimated. ``p_adjusted``: p-value corrected over the tests that
#: ``family`` names; both are empty where nothing was tested. ``unit``: "points" are hundredths of a
#: share or score. ``n``: number of units (items, judgments …) behind the estimate. ``method``: how
#: interval and p-value were computed.
COLUMNS = [
    "metric", "estimate", "ci_low", "ci_high", "p_value", "p_adjusted", "family", "n", "unit",
    "method",
]  # fmt: skip
#: Text columns, which are "" rather than NaN where a row has no value.
_DEFAULTS = {"family": "", "unit": "", "method": ""}


def require_columns(table: pd.DataFrame, what: str, *columns: str) -> None:
    """Raise `UserError` unless ``table`` is a DataFrame with each of these columns exactly once.

    ``what`` is the name of the table in the plural, such as "scores".
    """
    if not isinstance(table, pd.DataFrame):
        kind = f"{type(table).__module__}.{type(table).__name__}"
        raise UserError(f"{what} are of type {kind}: give a pandas DataFrame")
    for column in columns:
        if isinstance(column, (list, tuple)):
            raise UserError(f"{what} have no column {column!r}: give the name of one")
        if column not in table:
            needed = f"the columns needed are {', '.join(map(str, columns))}"
            raise UserError(f"{what} lack the column {column!r}{alike(column, table)}: {needed}")
        if (table.columns == column).sum() > 1:
            raise UserError(f"{what} have two columns {column!r}: leave one")


def factorized(column: Any, **how: Any) -> tuple[np.ndarray, Any]:
    """``pandas.factorize``, without the unused categories of an Arrow dictionary.

    Raises
    ------
    UserError : a name occurs both as a number and as a text, which would count as two.
    """
    # Conversion to a categorical drops unused categories, which pandas keeps for Arrow only.
    arrow = isinstance(column.dtype, pd.ArrowDtype) and "dictionary" in str(column.dtype)
    codes, names = pd.factorize(column.astype("category") if arrow else column, **how)
    if names.dtype == object and len(set(map(str, names))) < len(names):
        reason = "holds numbers and the same numbers as texts, 1 and '1'"
        raise UserError(f"column {column.name!r} {reason}: give one kind")
    return codes, names


def random_generator(seed: Any) -> np.random.Generator:
    """``numpy.random.default_rng``, with a `UserError` for an invalid seed."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise UserError(f"seed is {seed!r}: give a whole number of at least 0") from None


def result(
    rows: pd.DataFrame | Mapping[str, Sequence] | Sequence[dict],
    keys: Sequence[str],
    **same: object,
) -> pd.DataFrame:
    """Return ``rows`` in the common form: ``keys``, then ``COLUMNS``, then any other columns.

    Parameters
    ----------
    rows : a table, a mapping from columns to lists, or one dictionary per row. Missing columns are
        filled with NaN, or with "" if they hold text.
    keys : columns that identify a row.
    **same : columns with the same value in all rows (``metric="accuracy"``, ``unit="share"``).

    Examples
    --------
    >>> row = {"rater": "a", "estimate": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 96}
    >>> rows = pd.DataFrame([row])
    >>> result(rows, ["rater"], metric="accuracy", unit="share").iloc[:, :5]
      rater    metric  estimate  ci_low  ci_high
    0     a  accuracy       0.5     0.4      0.6
    """
    # The table is built from a dictionary of columns in one step: adding, filling and sorting
    # columns of a DataFrame one by one takes longer than most statistics.
    if isinstance(rows, pd.DataFrame):
        gaps = [name for name in _DEFAULTS if name in rows and rows[name].isna().any()]
        columns = {name: column.array for name, column in rows.items()}
        columns |= {name: rows[name].fillna("").array for name in gaps}
    else:
        columns = dict(rows) if isinstance(rows, Mapping) else columns_from_rows(rows)
    n = len(next(iter(columns.values()), []))
    columns |= same
    first = {name: columns.pop(name, _DEFAULTS.get(name, np.nan)) for name in [*keys, *COLUMNS]}
    return pd.DataFrame(first | columns, range(n))


def columns_from_rows(rows: Sequence[dict]) -> dict[str, list]:
    """Return the columns of dictionaries of rows, with "" or NaN for missing values."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, _DEFAULTS.get(name, np.nan)) for row in rows] for name in names}


def wide(table: pd.DataFrame, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """Reshape a result to one row per key, for display and export.

    Parameters
    ----------
    table : table of `result`; the columns before ``metric`` are its keys.
    metrics : metrics to include, in this order; by default all.

    Returns
    -------
    The keys, ``n``, and for each metric ``<metric>`` and, if it has intervals, ``<metric>_low
    <metric>_high``.

    Examples
    --------
    >>> rows = pd.DataFrame({"rater": "a", "metric": ["f1", "kappa"], "estimate": [0.5, 0.2]})
    >>> rows["n"] = 9
    >>> wide(result(rows, ["rater"]))
      rater  n   f1  kappa
    0     a  9  0.5    0.2
    """
    keys = list(table.columns[: table.columns.get_loc("metric")])
    names = list(metrics or table["metric"].unique())
    by_metric = table.set_index([*keys, "metric"])
    columns = {"n": by_metric["n"].groupby(level=keys, sort=False).max()}
    for name in names:
        rows = by_metric.xs(name, level="metric")
        columns[name] = rows["estimate"]
        if rows["ci_low"].notna().any():
            columns |= {f"{name}_low": rows["ci_low"], f"{name}_high": rows["ci_high"]}
    return pd.DataFrame(columns).reindex(columns["n"].index).reset_index()


def interval_columns(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Map columns of estimates to the names of their two interval columns.

    The limits of ``x`` are ``x_low`` and ``x_high``; ``ci_low`` and ``ci_high`` belong to the last
    numeric column before them.

    Examples
    --------
    >>> row = {"task": "mmlu", "estimate": 1.0, "ci_low": 0.5, "ci_high": 1.5}
    >>> interval_columns(pd.DataFrame([row]))
    {'estimate': ('ci_low', 'ci_high')}
    """
    numeric, previous, limits = set(table.select_dtypes("number")), None, {}
    for low in table.columns:
        name, high = low.removesuffix("_low"), low.removesuffix("_low") + "_high"
        estimate = name if name in numeric else previous if name == "ci" else None
        if low != name and {low, high} <= numeric and estimate:
            limits[estimate] = low, high
        previous = low if low in numeric else previous
    return limits


def key_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns that identify a row.

    These are the text columns before the first estimate, and numeric ones if rows are not unique
    otherwise.
    """
    first = min(map(table.columns.get_loc, interval_columns(table)), default=len(table.columns))
    numeric = table.select_dtypes("number").columns
    names = [name for name in table.columns[:first] if name not in numeric]
    for name in table.columns[: max(first, 1)].intersection(numeric):
        if not names or table.duplicated(names).any():
            names.append(name)
    return names


def with_reference(
    measured: pd.DataFrame, reference: pd.DataFrame, on: Sequence[str], name: str = "estimated"
) -> pd.DataFrame:
    """Compare estimates with reference values: published, planted or true ones.

    Parameters
    ----------
    measured : table of `result`; rows without a reference are left out.
    reference : table with the columns ``on`` and others, the last numeric one being the value.
        Where its ``unit`` is a percentage, estimated shares are converted to percent.
    on : columns by which the tables are merged.
    name : name of the column of estimates.

    Returns
    -------
    DataFrame in the order of ``reference``: its columns except the unit, then ``<name> ci_low
    ci_high difference covered``, where ``difference`` is the estimate minus the value and
    ``covered`` whether the interval contains the value.

    Examples
    --------
    >>> rows = pd.DataFrame({"rater": ["a", "b"], "estimate": 0.5, "ci_low": 0.4, "ci_high": 0.6})
    >>> measured = result(rows, ["rater"], metric="accuracy", unit="share")
    >>> planted = pd.DataFrame({"rater": ["a"], "planted": [62.0], "unit": "percent"})
    >>> with_reference(measured, planted, ["rater"])
      rater  planted  estimated  ci_low  ci_high  difference  covered
    0     a     62.0       50.0    40.0     60.0       -12.0    False
    """
    numbers = ["estimate", "ci_low", "ci_high"]
    estimates = measured[[*on, *numbers, "unit"]].rename(columns={"unit": "measured_unit"})
    both = reference.reindex(columns=dict.fromkeys([*reference, "unit"]))
    both = both.merge(estimates, on=on, validate="m:1")
    value = both[reference.columns].select_dtypes("number").iloc[:, -1]
    percent = both.pop("unit").astype("str").str.startswith("percent").eq(True)
    percent &= both.pop("measured_unit").eq("share")
    both[numbers] = both[numbers].mul(percent.map({True: 100, False: 1}), axis=0)
    # A limit may be exactly 0 or 1, where the value differs by rounding errors.
    covered = value.between(both["ci_low"] - 1e-9, both["ci_high"] + 1e-9)
    both = both.assign(difference=both["estimate"] - value, covered=covered)
    return both.rename(columns={"estimate": name})


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted by Holm's step-down method.

    statsmodels takes 0.2 s per call, as it runs a garbage collection.
    """
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)).clip(max=1.0)
    return stepped[np.argsort(order)]


def add_holm(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Add Holm's p-values over each family of tests, and its name: ``p_adjusted family``.

    Parameters
    ----------
    table : one row per test, with ``p_value``; a row without a p-value belongs to no family.
    by : columns whose values the tests of a family share.

    Examples
    --------
    >>> table = pd.DataFrame({"metric": ["f1", "f1", "kappa"], "p_value": [0.01, 0.04, 0.04]})
    >>> add_holm(table, ["metric"])
      metric  p_value  p_adjusted          family
    0     f1     0.01        0.02    f1 (2 tests)
    1     f1     0.04        0.04    f1 (2 tests)
    2  kappa     0.04        0.04  kappa (1 test)
    >>> add_holm(table.assign(top_k=5), ["metric", "top_k"])["family"].iloc[2]
    'kappa, top_k 5 (1 test)'
    """
    return table.assign(**holm_columns(table, by))


def holm_columns(columns: pd.DataFrame | Mapping[str, Sequence], by: Sequence[str]) -> dict:
    """Return the columns that `add_holm` adds, for a table or a mapping of columns."""
    p_values = np.asarray(columns["p_value"], dtype=float)
    p_adjusted, names = np.full(len(p_values), np.nan), [""] * len(p_values)
    for values, rows in rows_by_family(columns, by).items():
        p_adjusted[rows] = holm(p_values[rows])
        # A number is meaningless without the name of its column.
        parts = (v if isinstance(v, str) else f"{k} {v}" for k, v in zip(by, values, strict=True))
        name = f"{', '.join(parts)} ({len(rows)} test{'s' if len(rows) > 1 else ''})"
        for row in rows:
            names[row] = name
    # The column holds texts even if nothing was tested.
    return {"p_adjusted": p_adjusted, "family": pd.Series(names, dtype="str").array}


def correction(family: str) -> str:
    """Describe how the p-values of a ``family`` were corrected.

    Examples
    --------
    >>> [correction(family) for family in ("f1 (6 tests)", "joint (1 test)", "")]
    ['Holm over 6 tests of f1', 'one test', 'not corrected']
    """
    # In a table read from a file, "" has become NaN.
    if not isinstance(family, str) or not family:
        return "not corrected"
    counted = re.fullmatch(r"(.*) \((\d+) tests?\)", family)
    if counted is None or counted[2] == "1":
        return "one test" if counted else family
    return f"Holm over {counted[2]} tests of {counted[1]}"


def rows_by_family(
    columns: pd.DataFrame | Mapping[str, Sequence], by: Sequence[str]
) -> dict[tuple, list[int]]:
    """Values of ``by`` → positions of the rows that share them and have a ``p_value``.

    For the few rows of a result, a loop is faster than a groupby.
    """
    families: dict[tuple, list[int]] = {}
    values = list(zip(*(list(columns[name]) for name in by), strict=True))
    for row in np.flatnonzero(~np.isnan(np.asarray(columns["p_value"], dtype=float))).tolist():
        families.setdefault(values[row], []).append(row)
    return families
