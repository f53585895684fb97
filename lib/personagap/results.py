"""The one form of a result: every estimator returns a table with these columns, one estimate a row.

The keys come first (``task``, ``contrast``, ``rater``, ``condition`` …), then ``COLUMNS``, then
what only this estimator knows. Units are in the table, so that nothing that shows it needs to know
them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from personagap.errors import UserError

#: ``metric``: what was estimated. ``p_adjusted``: corrected over the tests that ``family`` names;
#: both empty where nothing was tested. ``unit``: "points" are hundredths of a share or score.
#: ``n``: units (items, judgments …) that the estimate rests on. ``method``: how interval and
#: p-value were had.
COLUMNS = [
    "metric", "estimate", "ci_low", "ci_high", "p_value", "p_adjusted", "family", "n", "unit",
    "method",
]  # fmt: skip
_TEXTS = {"family": "", "unit": "", "method": ""}


def require(table: pd.DataFrame, what: str, *columns: str) -> None:
    """A table that is handed to an estimator must have these columns, each once, else `UserError`.

    ``what`` is its name in the plural, such as "scores".
    """
    if not isinstance(table, pd.DataFrame):
        kind = f"{type(table).__module__}.{type(table).__name__}"
        raise UserError(f"{what} are of type {kind}: give a pandas DataFrame")
    for column in columns:
        if isinstance(column, (list, tuple)):
            raise UserError(f"{what} have no column {column!r}: give the name of one")
        if column not in table:
            known = f"the columns needed are {', '.join(map(str, columns))}"
            raise UserError(f"{what} lack the column {column!r}: {known}")
        if (table.columns == column).sum() > 1:
            raise UserError(f"{what} have two columns {column!r}: leave one")


def factorized(column: Any, **how: Any) -> tuple[np.ndarray, Any]:
    """``pandas.factorize``, of an Arrow dictionary without the names that no row has (any more).

    `UserError`: a name is there as a number and as a text, which would be two.
    """
    # Of a category it leaves them out by itself.
    arrow = isinstance(column.dtype, pd.ArrowDtype) and "dictionary" in str(column.dtype)
    codes, names = pd.factorize(column.astype("category") if arrow else column, **how)
    if names.dtype == object and len(set(map(str, names))) < len(names):
        reason = "holds numbers and the same numbers as texts, 1 and '1'"
        raise UserError(f"column {column.name!r} {reason}: give one kind")
    return codes, names


def generator(seed: Any) -> np.random.Generator:
    """``numpy.random.default_rng``; `UserError` for what is no seed."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise UserError(f"seed is {seed!r}: give a whole number of at least 0") from None


def result(
    rows: pd.DataFrame | Mapping[str, Sequence] | Sequence[dict],
    keys: Sequence[str],
    **same: object,
) -> pd.DataFrame:
    """``rows`` in the one form: ``keys``, then ``COLUMNS``, then what else they hold.

    Parameters
    ----------
    rows : a table, its columns as lists, or a dictionary for each row. What it lacks of the columns
        is NaN, or "" where it is a text.
    keys : the columns that say what a row is about.
    **same : columns that have one value in all rows (``metric="accuracy"``, ``unit="share"``).

    Examples
    --------
    >>> row = {"rater": "a", "estimate": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 96}
    >>> rows = pd.DataFrame([row])
    >>> result(rows, ["rater"], metric="accuracy", unit="share").iloc[:, :5]
      rater    metric  estimate  ci_low  ci_high
    0     a  accuracy       0.5     0.4      0.6
    """
    # One table of plain columns: adding, filling and sorting them one by one takes longer than most
    # statistics.
    if isinstance(rows, pd.DataFrame):
        gaps = [name for name in _TEXTS if name in rows and rows[name].isna().any()]
        known = {name: column.array for name, column in rows.items()}
        known |= {name: rows[name].fillna("").array for name in gaps}
    else:
        known = dict(rows) if isinstance(rows, Mapping) else columns_of(rows)
    n = len(next(iter(known.values()), []))
    known |= same
    first = {name: known.pop(name, _TEXTS.get(name, np.nan)) for name in [*keys, *COLUMNS]}
    return pd.DataFrame(first | known, range(n))


def columns_of(rows: Sequence[dict]) -> dict[str, list]:
    """Columns from a dictionary for each row; "" or NaN where one lacks a value."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, _TEXTS.get(name, np.nan)) for row in rows] for name in names}


def wide(table: pd.DataFrame, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """A row for each key, for saving and showing: ``<metric>``, and ``<metric>_low <metric>_high``
    where known.

    Parameters
    ----------
    table : of `result`; the columns before ``metric`` are its keys.
    metrics : those shown, in this order; all without it.

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
        one = by_metric.xs(name, level="metric")
        columns[name] = one["estimate"]
        if one["ci_low"].notna().any():
            columns |= {f"{name}_low": one["ci_low"], f"{name}_high": one["ci_high"]}
    return pd.DataFrame(columns).reindex(columns["n"].index).reset_index()


def quantities(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Columns that are values with an interval, each with the names of its two ends.

    The ends of ``x`` are ``x_low`` and ``x_high``; ``ci_low`` and ``ci_high`` belong to the last
    number before.

    Examples
    --------
    >>> row = {"task": "mmlu", "estimate": 1.0, "ci_low": 0.5, "ci_high": 1.5}
    >>> quantities(pd.DataFrame([row]))
    {'estimate': ('ci_low', 'ci_high')}
    """
    numbers, last, found = set(table.select_dtypes("number")), None, {}
    for low in table.columns:
        name, high = low.removesuffix("_low"), low.removesuffix("_low") + "_high"
        value = name if name in numbers else last if name == "ci" else None
        if low != name and {low, high} <= numbers and value:
            found[value] = low, high
        last = low if low in numbers else last
    return found


def keys(table: pd.DataFrame) -> list[str]:
    """The columns that tell rows apart: the texts before the first value, and numbers there if
    these do not do.
    """
    places = map(table.columns.get_loc, quantities(table))
    first = min(places, default=len(table.columns))
    numbers = table.select_dtypes("number").columns
    chosen = [name for name in table.columns[:first] if name not in numbers]
    for name in table.columns[: max(first, 1)].intersection(numbers):
        if not chosen or table.duplicated(chosen).any():
            chosen.append(name)
    return chosen


def beside(
    measured: pd.DataFrame, reference: pd.DataFrame, on: Sequence[str], name: str = "estimated"
) -> pd.DataFrame:
    """Estimates beside what they are held against: published numbers, planted or true values.

    Parameters
    ----------
    measured : of `result`; rows without a reference are left out.
    reference : the columns ``on`` and others, of which the last number is the value; where its
        ``unit`` is a percentage, shares are told in percent.
    name : of the column of estimates.

    Returns
    -------
    DataFrame, in the order of ``reference``: its columns but for the unit, then ``<name> ci_low
    ci_high difference covered``: the estimate less the value, and whether its interval holds it.

    Examples
    --------
    >>> rows = pd.DataFrame({"rater": ["a", "b"], "estimate": 0.5, "ci_low": 0.4, "ci_high": 0.6})
    >>> measured = result(rows, ["rater"], metric="accuracy", unit="share")
    >>> planted = pd.DataFrame({"rater": ["a"], "planted": [62.0], "unit": "percent"})
    >>> beside(measured, planted, ["rater"])
      rater  planted  estimated  ci_low  ci_high  difference  covered
    0     a     62.0       50.0    40.0     60.0       -12.0    False
    """
    numbers = ["estimate", "ci_low", "ci_high"]
    found = measured[[*on, *numbers, "unit"]].rename(columns={"unit": "unit_here"})
    both = reference.reindex(columns=dict.fromkeys([*reference, "unit"]))
    both = both.merge(found, on=on, validate="m:1")
    value = both[reference.columns].select_dtypes("number").iloc[:, -1]
    percent = both.pop("unit").astype("str").str.startswith("percent").eq(True)
    percent &= both.pop("unit_here").eq("share")
    both[numbers] = both[numbers].mul(percent.map({True: 100, False: 1}), axis=0)
    # An interval may end at 0 or 1 exactly, and the value there differ by rounding.
    covered = value.between(both["ci_low"] - 1e-9, both["ci_high"] + 1e-9)
    both = both.assign(difference=both["estimate"] - value, covered=covered)
    return both.rename(columns={"estimate": name})


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down p-values (statsmodels' take 0.2 s a call: it collects garbage)."""
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)).clip(max=1.0)
    return stepped[np.argsort(order)]


def corrected(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """With Holm's p-values over each family of tests, and the family's name: ``p_adjusted family``.

    Parameters
    ----------
    table : one row per test, with ``p_value``; a row without one is in no family.
    by : the columns whose values the tests of one family share.

    Examples
    --------
    >>> table = pd.DataFrame({"metric": ["f1", "f1", "kappa"], "p_value": [0.01, 0.04, 0.04]})
    >>> corrected(table, ["metric"])
      metric  p_value  p_adjusted          family
    0     f1     0.01        0.02    f1 (2 tests)
    1     f1     0.04        0.04    f1 (2 tests)
    2  kappa     0.04        0.04  kappa (1 test)
    >>> corrected(table.assign(top_k=5), ["metric", "top_k"])["family"].iloc[2]
    'kappa, top_k 5 (1 test)'
    """
    return table.assign(**adjusted(table, by))


def adjusted(columns: pd.DataFrame | Mapping[str, Sequence], by: Sequence[str]) -> dict[str, Any]:
    """What `corrected` adds, also to columns that are no table as yet."""
    p_values = np.asarray(columns["p_value"], dtype=float)
    p_adjusted, names = np.full(len(p_values), np.nan), [""] * len(p_values)
    for values, places in families(columns, by).items():
        p_adjusted[places] = holm(p_values[places])
        # A number says nothing without the name of its column.
        told = (v if isinstance(v, str) else f"{k} {v}" for k, v in zip(by, values, strict=True))
        name = f"{', '.join(told)} ({len(places)} test{'s' if len(places) > 1 else ''})"
        for place in places:
            names[place] = name
    # Texts also where nothing was tested.
    return {"p_adjusted": p_adjusted, "family": pd.Series(names, dtype="str").array}


def correction(family: str) -> str:
    """What was done to a p-value of this ``family``, in words.

    Examples
    --------
    >>> [correction(family) for family in ("f1 (6 tests)", "joint (1 test)", "")]
    ['Holm over 6 tests of f1', 'one test', 'not corrected']
    """
    # Read from a file, "" is NaN.
    if not isinstance(family, str) or not family:
        return "not corrected"
    counted = re.fullmatch(r"(.*) \((\d+) tests?\)", family)
    if counted is None or counted[2] == "1":
        return "one test" if counted else family
    return f"Holm over {counted[2]} tests of {counted[1]}"


def families(
    columns: pd.DataFrame | Mapping[str, Sequence], by: Sequence[str]
) -> dict[tuple, list[int]]:
    """Values of ``by`` → the rows that share them and have a ``p_value``; loops of a few rows beat
    any groupby.
    """
    found: dict[tuple, list[int]] = {}
    values = list(zip(*(list(columns[name]) for name in by), strict=True))
    for place in np.flatnonzero(~np.isnan(np.asarray(columns["p_value"], dtype=float))).tolist():
        found.setdefault(values[place], []).append(place)
    return found
