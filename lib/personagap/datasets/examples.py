"""Templates for users' own judgments in the long format: ``personagap data --template STAGE``."""

import csv
import shutil
from pathlib import Path

from personagap.errors import UserError
from personagap.paths import DATA

FOLDER = DATA / "recentering"


def write(stage: str, folder: str | Path) -> tuple[Path, str]:
    """Write ``judgments_<stage>.csv`` into a folder; return its path and a line on each column."""
    example = FOLDER / f"judgments_{stage}.csv"
    path = Path(folder) / example.name
    # An existing file may hold judgments already.
    if path.exists():
        raise UserError(f"{path} is there already: move it, or name another folder")
    shutil.copyfile(example, path)
    with (FOLDER / "judgments_columns.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["stage"] in ("", stage)]
    meanings = {row["column"]: row["meaning"] for row in rows}
    columns = example.read_text(encoding="utf-8").partition("\n")[0].split(",")
    text = "a text, the same wherever its item stands"
    return path, "\n".join(f"{name:13}{meanings.get(name, text)}" for name in columns)
