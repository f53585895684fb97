"""Functions that find, read and check raw files.

Tables are indexed by row of the file, so that an error message can name the row.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from personagap.errors import UserError, alike, explained
from personagap.paths import DEMO, display_path, regular_file

#: How files begin that are not the text expected → what they are, and the remedy.
NO_TEXTS = {
    rb"\x1f\x8b|BZh\d|\xfd7zXZ\0|\x28\xb5\x2f\xfd": ("a compressed file", "unpack it"),
    rb"PK\x03\x04|\xd0\xcf\x11\xe0": (
        "an archive or a spreadsheet",
        "unpack it, or save the sheet as CSV (UTF-8)",
    ),
    rb"version https://git-lfs": ("a pointer of Git LFS", "fetch its content by `git lfs pull`"),
    rb"(?i:\s*<(!doctype html|html))": ("a web page", "download the file itself"),
}
SIMULATED = "Apache-2.0 (simulated, written for this project)"


class Rule(NamedTuple):
    """A condition on every value of a column, with the message and remedy where it fails."""

    good: Callable[[pd.Series], pd.Series]
    wrong: str
    remedy: str = "correct it"


def check(table: pd.DataFrame, where: str, schema: dict[str, Rule | None] | Iterable[str]) -> None:
    """Raise `UserError` unless a table conforms to its schema.

    It must have rows, and each column must be present, have no gaps and follow its rule, if any.
    """
    # All columns must exist before the values of any are checked.
    if table.empty:
        raise UserError(f"{where}: no rows: replace it with the full file, or remove it")
    if len(repeated := table.columns[table.columns.duplicated()]):
        raise UserError(f"{where}: two columns {repeated[0]!r}, perhaps under two names: leave one")
    for column in schema:
        if column not in table:
            remedy = f"the columns should be {' '.join(schema)}"
            raise UserError(f"{where}: no column {column!r}{alike(column, table)}: {remedy}")
    for column in schema:
        refuse(table[column].isna(), where, f"no {column!r}", "fill it in or drop the row")
        if isinstance(schema, dict) and (rule := schema[column]):
            refuse(~rule.good(table[column]).astype(bool), where, rule.wrong, rule.remedy)


def refuse(bad: pd.Series, where: str, wrong: str, remedy: str = "correct it") -> None:
    """Raise `UserError` on the first ``bad`` row, if any; ``bad`` is indexed by row of the file."""
    if bad.any():
        raise UserError(f"{where}, row {bad.idxmax()}: {wrong}: {remedy}")


def are_texts(column: pd.Series) -> pd.Series:
    """Whether each value is a string."""
    return column.map(lambda value: isinstance(value, str))


def sum_to_one(arrays: pd.Series) -> pd.Series:
    """Whether each value is a flat list of non-negative numbers that sum to one."""
    return arrays.map(lambda value: pd.api.types.is_list_like(value) and _sums_to_one([*value]))


def _sums_to_one(numbers: list) -> bool:
    # The tolerance allows for shares that are rounded in the file.
    numeric = all(isinstance(number, Real) for number in numbers)
    return numeric and min(numbers, default=0) >= 0 and abs(sum(numbers) - 1) <= 1e-3


def find_folder(data: str | Path, demo: Path = DEMO) -> Path:
    """Return the folder of the argument ``data``; "demo" is the demo data."""
    folder = demo if str(data) == "demo" else Path(data)
    if not folder.is_dir():
        choices = "'demo', 'hub' (benchmarks and PersonalLLM) or a folder"
        raise UserError(f"no folder {folder}: data is {choices}")
    return folder


def from_hub(what: str) -> AbstractContextManager:
    """Turn errors of a download from the Hugging Face Hub into a `UserError`."""
    return explained(f"cannot {what}", "check the network and your access, or use a folder")


def read_text(file: Path) -> str:
    """Return the text of a UTF-8 file that is not empty."""
    try:
        content = regular_file(file).read_bytes()
        for beginning, (kind, remedy) in NO_TEXTS.items():
            if re.match(beginning, content):
                raise UserError(f"{file}: {kind}, not text: {remedy}")
        text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig").read()
    except UnicodeDecodeError as error:
        wrong = f"not UTF-8 text (byte {error.start})"
        raise UserError(f"{file}: {wrong}: save it as UTF-8") from None
    except FileNotFoundError:
        raise UserError(f"{file}: no such file: correct the path, or put it there") from None
    except (OSError, ValueError) as error:
        # For example a folder of that name, no permission, or an invalid name.
        remedy = "replace it with the full file, or remove it"
        cause = getattr(error, "strerror", None) or error
        raise UserError(f"{file}: cannot be read ({cause}): {remedy}") from None
    if not text.strip():
        raise UserError(f"{file}: the file is empty: replace it with the full file, or remove it")
    # Of a damaged file, or UTF-16 without its mark; in a name it would pass unseen.
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{file}, line {line}: a NUL character: save it as UTF-8, without any")
    return text


def read_csv(file: Path, header: list[str] | None = None) -> pd.DataFrame:
    """Read a CSV with all fields as text, indexed by row of the file (the header is row 1).

    ``header`` names the columns of a file without a header.
    """
    try:
        # pandas.read_csv would silently fill up rows with too few fields.
        numbered = enumerate(_rows(read_text(file)), start=1)
        # Empty rows are dropped but counted, as in a spreadsheet.
        numbers, rows = zip(*((number, row) for number, row in numbered if row), strict=True)
    except csv.Error as error:
        raise UserError(f"{file}: not a well-formed CSV ({error}): close every quote") from None
    if len(rows[0]) == 1 and (separator := re.search("[;\t|]", rows[0][0])):
        # Spreadsheets use other separators where the comma is the decimal mark.
        raise UserError(f"{file}: fields are separated by {separator[0]!r}: save it with commas")
    for number, row in zip(numbers, rows, strict=True):
        if len(row) != len(rows[0]):
            wrong = f"{len(row)} fields instead of {len(rows[0])}"
            remedy = "quote texts that hold commas"
            # Where all rows agree, the header is at fault, such as a comment above it.
            if len(rows) > 2 and len(set(map(len, rows[1:]))) == 1:
                remedy = f"correct the first row ({numbers[0]}), with which none agrees"
            raise UserError(f"{file}, row {number}: {wrong}: {remedy}")
        # Files that were joined have one header each, which would be read as an item.
        if row == rows[0] and number > numbers[0] and not header:
            raise UserError(f"{file}, row {number}: repeats the header: drop it")
    first = 0 if header else 1
    return pd.DataFrame(rows[first:], numbers[first:], header or rows[0], dtype="str")


def _rows(text: str) -> list[list[str]]:
    """Return the rows of a CSV; `csv.Error` for a quote that is never closed, which would swallow
    all rows after it.
    """
    try:
        return list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise
        # Quotes inside a field are not strictly allowed, but do no harm.
        return list(csv.reader(io.StringIO(text)))


def normalize_labels(column: pd.Series) -> pd.Series:
    """Normalize labels to lower-case words, and whole numbers to digits.

    A column of whole numbers with gaps is written by pandas as "1.0", which becomes "1".

    Examples
    --------
    >>> normalize_labels(pd.Series([" Yes", "1.0", "1.5"])).tolist()
    ['yes', '1', '1.5']
    """
    words = column.astype("str").str.strip().str.lower()
    return words.str.replace(r"^(\d+)\.0$", r"\1", regex=True)


def read_jsonl(file: Path) -> pd.DataFrame:
    """Read a file of one JSON object per line, indexed by line; empty lines are skipped."""
    # splitlines would also split at U+2028 inside a text.
    lines = enumerate(read_text(file).split("\n"), start=1)
    records = {i: _parse_object(f"{file}, row {i}", line) for i, line in lines if line.strip()}
    return pd.DataFrame(list(records.values()), index=list(records))


def _parse_object(where: str, line: str) -> dict[str, Any]:
    wrong = "not a JSON object"
    try:
        record = json.loads(line)
        # JSON may contain a lone surrogate, which can neither be written to a file nor sent.
        if "\\ud" in line.lower():
            json.dumps(record, ensure_ascii=False).encode()
        if isinstance(record, dict):
            return record
    except json.JSONDecodeError as error:
        wrong = f"not JSON ({error.msg})"
    except RecursionError:
        wrong = "nested too deeply"
    except UnicodeEncodeError:
        wrong = "half of a character (a lone surrogate)"
    except ValueError:
        wrong = "a number of thousands of digits"
    raise UserError(f"{where}: {wrong}: one JSON object a line")


def read_parquet(files: list[Path]) -> pd.DataFrame:
    """Read a table from one or more Parquet files; rows are numbered from 1 across the files."""
    with explained(f"{files[0].parent}: not whole Parquet files", "download them again"):
        table = pd.concat(
            [pd.read_parquet(regular_file(file)) for file in files], ignore_index=True
        )
    return table.set_index(pd.RangeIndex(1, len(table) + 1))


def pseudonymize(names: pd.Series, prefix: str = "u") -> pd.Series:
    """Replace names by u01, u02 … in order of appearance, unless they have that form already."""
    # Pseudonyms are kept: new ones would not match those of other files.
    if names.str.fullmatch(rf"{prefix}\d+").all():
        return names
    numbers = pd.Series(pd.factorize(names)[0], index=names.index) + 1
    return numbers.map(lambda number: f"{prefix}{number:02d}")


def source(
    task: str, file: str | Path, rows: int, licence: str = "licence not stated in the files"
) -> dict[str, Any]:
    """Describe a table that was read, for reports: ``task source licence file rows``."""
    place, name = "folder", display_path(file)
    if Path(file).resolve().is_relative_to(DEMO):
        place, licence = "demo", SIMULATED
    elif str(file).startswith("hub:"):
        place, name = str(file).rpartition("/")[0], str(file)
    return {"task": task, "source": place, "licence": licence, "file": name, "rows": rows}
