"""Result tables by their conventions: what names a row, which columns are values with intervals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from personagap.paths import CACHE
from personagap.responses import digest
from personagap.runs.files import spared, whole
from personagap.runs.spelling import number

#: What of a run decides a table that no model's answer is in.
DECIDES = ("source_hash", "parameters", "inputs", "library_hash", "versions")


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """Every CSV table of a run folder that has rows, by name."""
    found = {}
    for path in sorted((folder / "tables").glob("*.csv")):
        with spared(path):
            if path.read_text(encoding="utf-8").strip() and len(table := pd.read_csv(path)):
                found[path.stem] = table
    return found


def kept(facts: dict[str, Any], name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table that ``make`` makes for a run, from ``data/cache/tables`` if it was made before.

    ``facts`` are what the run's ``run.json`` holds. The table must depend on nothing but the notebook, its parameters
    and inputs, the library and the versions of packages; a change of any makes it anew. A notebook that nobody runs
    (JupyterLab) makes it each time.
    """
    if not facts.keys() >= {*DECIDES}:
        return make()
    path = CACHE / "tables" / f"{name}-{digest(name, [facts[each] for each in DECIDES])}.parquet"
    if not path.exists():
        with whole(path) as place:
            make().to_parquet(place, index=False)
    return pd.read_parquet(path)


def quantities(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Columns that are values with an interval, each with the names of its two ends.

    The ends of ``x`` are ``x_low`` and ``x_high``; ``ci_low`` and ``ci_high`` belong to the last number before.

    Examples
    --------
    >>> quantities(pd.DataFrame(columns=["task", "estimate", "ci_low", "ci_high"], data=[["mmlu", 1.0, 0.5, 1.5]]))
    {'estimate': ('ci_low', 'ci_high')}
    """
    numbers, last, found = set(table.select_dtypes("number")), None, {}
    for low in table.columns:
        name, high = low.removesuffix("_low"), low.removesuffix("_low") + "_high"
        value = name if name in table else last if name == "ci" else None
        if low != name and high in table and value:
            found[value] = low, high
        last = low if low in numbers else last
    return found


def keys(table: pd.DataFrame) -> list[str]:
    """The columns that tell rows apart: the texts before the first value, and numbers there if these do not do."""
    first = min((table.columns.get_loc(name) for name in quantities(table)), default=len(table.columns))
    numbers = table.select_dtypes("number").columns
    chosen = [name for name in table.columns[:first] if name not in numbers]
    for name in table.columns[: max(first, 1)].intersection(numbers):
        if not chosen or table.duplicated(chosen).any():
            chosen.append(name)
    return chosen


def labels(table: pd.DataFrame, key: list[str]) -> pd.Series:
    """A name for every row from its ``key`` columns; a number is said with the name of its column."""
    numbers = table.select_dtypes("number").columns
    parts = ((f"{name} " if name in numbers else "") + table[name].map(number).astype("str") for name in key)
    return pd.Series(map(" · ".join, zip(*parts, strict=True)), table.index, dtype="str")  # also of no rows


def compact(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text to be read: every value with its interval in one column, "0.480 [0.410, 0.550]"."""
    shown, pairs = table.map(number).astype("str"), quantities(table)
    for name in shown.columns[shown.columns.str.startswith("p_")]:
        shown[name] = shown[name].mask(table[name] < 0.001, "< 0.001")
    for name, (low, high) in pairs.items():
        interval = " [" + shown[low] + ", " + shown[high] + "]"
        shown[name] += interval.where(shown[low] != "", "")
    return shown.drop(columns=[end for ends in pairs.values() for end in ends])
