"""Tables that runs have saved, and a cache of tables that take long to compute."""

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from personagap.hashing import digest
from personagap.paths import CACHE
from personagap.runs.files import atomic_write, warned_if_damaged

#: The facts that determine a table which depends on no model's answers.
CACHE_KEYS = ("source_hash", "parameters", "inputs", "library_hash", "versions")


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the CSV tables in a run's folder that have rows, by name."""
    tables = {}
    for path in sorted((folder / "tables").glob("*.csv")):
        with warned_if_damaged(path):
            if path.read_text(encoding="utf-8").strip() and len(table := pd.read_csv(path)):
                tables[path.stem] = table
    return tables


def cached(facts: dict[str, Any], name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return the table ``make()`` of a run, from ``data/cache/tables`` if it is there.

    ``facts`` are the contents of the run's ``run.json``. The table must depend only on the
    notebook, its parameters and inputs, the library and the versions of packages; it is computed
    again when any of them changes, and always in JupyterLab, which records none of them.
    """
    if not facts.keys() >= {*CACHE_KEYS}:
        return make()
    path = CACHE / "tables" / f"{name}-{digest(name, [facts[key] for key in CACHE_KEYS])}.parquet"
    with contextlib.suppress(OSError, ValueError):
        # A missing or damaged file is written again below.
        return pd.read_parquet(path)
    content = make().to_parquet(index=False)
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        # A full disk or missing permission costs time but no result.
        warnings.warn(f"not kept: {error.filename}: {error.strerror}", stacklevel=3)
    # Read back even in the run that computes it: Parquet may change a type, and the first run must
    # not differ from the following ones.
    return pd.read_parquet(io.BytesIO(content))
