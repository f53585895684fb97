"""Output functions shared by the scripts of this folder."""

import json
import sys
from pathlib import Path

import pandas as pd

from personagap.paths import DEMO


def target() -> Path:
    """Return the folder given on the command line, by default the committed bundle."""
    return Path(sys.argv[1]) if sys.argv[1:] else DEMO


def write_table(file: Path, table: pd.DataFrame) -> None:
    """Write a CSV with the same bytes on every system."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(file, index=False, lineterminator="\n")


def write_planted(file: Path, table: pd.DataFrame) -> None:
    """Write planted values, rounded since their last digits differ between processors."""
    write_table(file, table.assign(planted=table["planted"].round(10)))


def write_lines(file: Path, records: list[dict]) -> None:
    """Write one JSON object per line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    file.write_text("".join(lines), encoding="utf-8")
