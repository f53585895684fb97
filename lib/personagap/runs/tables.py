"""The tables that runs saved, and those that a run like an earlier one need not make again."""

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from personagap.paths import CACHE
from personagap.responses import digest
from personagap.runs.files import atomic_write, warned_if_damaged

#: What of a run decides a table that no model's answer is in.
DECIDES = ("source_hash", "parameters", "inputs", "library_hash", "versions")


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """Every CSV table of a run folder that has rows, by name."""
    found = {}
    for path in sorted((folder / "tables").glob("*.csv")):
        with warned_if_damaged(path):
            if path.read_text(encoding="utf-8").strip() and len(table := pd.read_csv(path)):
                found[path.stem] = table
    return found


def kept(facts: dict[str, Any], name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table that ``make`` makes for a run, from ``data/cache/tables`` if it was made before.

    ``facts`` are what the run's ``run.json`` holds. The table must depend on nothing but the
    notebook, its parameters and inputs, the library and the versions of packages; a change of any
    makes it anew. A notebook that nobody runs (JupyterLab) makes it each time.
    """
    if not facts.keys() >= {*DECIDES}:
        return make()
    path = CACHE / "tables" / f"{name}-{digest(name, [facts[each] for each in DECIDES])}.parquet"
    with contextlib.suppress(OSError, ValueError):
        # Not there, or damaged: it is made anew.
        return pd.read_parquet(path)
    content = make().to_parquet(index=False)
    try:
        with atomic_write(path) as place:
            place.write_bytes(content)
    except OSError as error:
        # Full, or not ours: that costs time, no result.
        warnings.warn(f"not kept: {error.filename}: {error.strerror}", stacklevel=3)
    # Read back even when it was just made: a Parquet file may change a type, and the first run
    # would differ from the next.
    return pd.read_parquet(io.BytesIO(content))
