"""What every reader of raw files shares: tables indexed by row of the file, and one line about a bad row."""

import csv
import io
import json
from pathlib import Path

import pandas as pd

from personagap.errors import UserError


def require(table: pd.DataFrame, where: str, columns: list[str]) -> None:
    """Columns that must be there, without a gap."""
    for column in columns:
        if column not in table:
            raise UserError(f"{where}: no column {column!r}: the columns should be {' '.join(columns)}")
        refuse(table, where, table[column].isna(), f"no {column!r}", "fill it in or drop the row")


def refuse(table: pd.DataFrame, where: str, bad: pd.Series, what: str, remedy: str) -> None:
    """One line about the first bad row. Readers index their tables by row of the file."""
    if bad.any():
        row = table.index[bad.to_numpy().argmax()]
        raise UserError(f"{where}, row {row}: {what}: {remedy}")


def read_text(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    if not text.strip():
        raise UserError(f"{file}: the file is empty: replace it with the full file, or remove it")
    return text


def read_rows(file: Path) -> list[list[str]]:
    try:
        rows = [row for row in csv.reader(io.StringIO(read_text(file))) if row]
    except csv.Error as error:
        raise UserError(f"{file}: not a well-formed CSV ({error}): close every quote") from None
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise UserError(
                f"{file}, row {number}: {len(row)} fields instead of {len(rows[0])}: quote texts that hold commas"
            )
    return rows


def read_csv(file: Path) -> pd.DataFrame:
    header, *rows = read_rows(file)
    return pd.DataFrame(rows, columns=header, index=range(2, len(rows) + 2), dtype="str")


def read_jsonl(file: Path) -> pd.DataFrame:
    records = {}
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records[number] = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{file}, row {number}: not JSON ({error.msg}): one JSON object a line") from None
        if not isinstance(records[number], dict):
            raise UserError(f"{file}, row {number}: not a JSON object: one JSON object a line")
    return pd.DataFrame(list(records.values()), index=list(records))


def anonymous(names: pd.Series, prefix: str = "u") -> pd.Series:
    """Names replaced by u01, u02 … in order of appearance, unless they have that form already."""
    if names.str.fullmatch(rf"{prefix}\d+").all():
        return names
    return (pd.Series(pd.factorize(names)[0], index=names.index) + 1).map(lambda number: f"{prefix}{number:02d}")


def described(items: pd.DataFrame, task: str, data: str | Path, files: str) -> pd.DataFrame:
    """``items`` with what a report says of their source in ``attrs["sources"]``."""
    demo = str(data) == "demo"
    licence = "Apache-2.0" if demo else "not stated in the files"
    source = {"task": task, "source": "simulated for this project" if demo else str(data), "licence": licence}
    items.attrs["sources"] = [source | {"file": files, "rows": len(items)}]
    return items
