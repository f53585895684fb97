"""What the scripts of this folder share: where they write, and how."""

import json
import sys
from pathlib import Path

import pandas as pd

from personagap.paths import DEMO


def target() -> Path:
    """The folder named on the command line, or the committed bundle itself."""
    return Path(sys.argv[1]) if sys.argv[1:] else DEMO


def write_table(file: Path, table: pd.DataFrame) -> None:
    """A CSV with the same bytes on every system."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(file, index=False, lineterminator="\n")


def write_planted(file: Path, table: pd.DataFrame) -> None:
    """A table of planted values, without the last digits, in which processors differ."""
    write_table(file, table.assign(planted=table["planted"].round(10)))


def write_lines(file: Path, records: list[dict]) -> None:
    """One JSON object a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    file.write_text("".join(lines), encoding="utf-8")
