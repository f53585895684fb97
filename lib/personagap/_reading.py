"""How every raw file is found, read and checked.

Tables are indexed by row of the file, so that one line can say what is wrong, and where.
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

from personagap.errors import UserError, explained
from personagap.paths import DEMO, regular, shown

#: How a file that gzip packed begins.
GZIP = b"\x1f\x8b"
SIMULATED = "Apache-2.0 (simulated, written for this project)"


class Rule(NamedTuple):
    """What holds of every value of a column; where it does not, what is wrong and the remedy."""

    good: Callable[[pd.Series], pd.Series]
    wrong: str
    remedy: str = "correct it"


def check(table: pd.DataFrame, where: str, schema: dict[str, Rule | None] | Iterable[str]) -> None:
    """Hold a table against its schema.

    It has rows, and each column is there, has no gap and keeps its rule, if any.
    """
    # The whole file first, then each column: what a row lacks is told only of columns that are
    # there.
    if table.empty:
        raise UserError(f"{where}: no rows: replace it with the full file, or remove it")
    if len(twice := table.columns[table.columns.duplicated()]):
        raise UserError(f"{where}: two columns {twice[0]!r}, perhaps under two names: leave one")
    for column in schema:
        if column not in table:
            remedy = f"the columns should be {' '.join(schema)}"
            raise UserError(f"{where}: no column {column!r}: {remedy}")
    for column in schema:
        refuse(table[column].isna(), where, f"no {column!r}", "fill it in or drop the row")
        if isinstance(schema, dict) and (rule := schema[column]):
            refuse(~rule.good(table[column]).astype(bool), where, rule.wrong, rule.remedy)


def refuse(bad: pd.Series, where: str, wrong: str, remedy: str = "correct it") -> None:
    """One line about the first bad row, if any; ``bad`` is indexed by row of the file."""
    if bad.any():
        raise UserError(f"{where}, row {bad.idxmax()}: {wrong}: {remedy}")


def are_texts(column: pd.Series) -> pd.Series:
    return column.map(lambda value: isinstance(value, str))


def sum_to_one(arrays: pd.Series) -> pd.Series:
    """Whether each value is a list of numbers of at least 0, that sum to one, as no text or nested
    list is.
    """
    return arrays.map(lambda each: pd.api.types.is_list_like(each) and _sums_to_one([*each]))


def _sums_to_one(numbers: list) -> bool:
    # Shares are rounded where they are written.
    known = all(isinstance(number, Real) for number in numbers)
    return known and min(numbers, default=0) >= 0 and abs(sum(numbers) - 1) <= 1e-3


def find_folder(data: str | Path, demo: Path = DEMO) -> Path:
    """The folder that ``data`` means."""
    folder = demo if str(data) == "demo" else Path(data)
    if not folder.is_dir():
        known = "'demo', 'hub' (benchmarks and PersonalLLM) or a folder"
        raise UserError(f"no folder {folder}: data is {known}")
    return folder


def from_hub(what: str) -> AbstractContextManager:
    """Whatever fails while the block fetches from the Hugging Face Hub is told in one line."""
    return explained(f"cannot {what}", "check the network and your access, or use a folder")


def read_text(file: Path) -> str:
    try:
        text = regular(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        remedy = "unpack it" if error.object[:2] == GZIP else "save it as UTF-8"
        raise UserError(f"{file}: not UTF-8 text (byte {error.start}): {remedy}") from None
    except FileNotFoundError:
        raise UserError(f"{file}: no such file: correct the path, or put it there") from None
    except (OSError, ValueError) as error:
        # A folder of that name, no permission; no name at all.
        remedy = "replace it with the full file, or remove it"
        cause = getattr(error, "strerror", None) or error
        raise UserError(f"{file}: cannot be read ({cause}): {remedy}") from None
    if not text.strip():
        raise UserError(f"{file}: the file is empty: replace it with the full file, or remove it")
    return text


def read_csv(file: Path, header: list[str] | None = None) -> pd.DataFrame:
    """All fields as text; a header is row 1.

    A file whose first row is data has the columns ``header``.
    """
    try:
        # Not by pandas, which fills up a row with too few fields without a word.
        told = enumerate(csv.reader(io.StringIO(read_text(file))), start=1)
        # As a spreadsheet counts them: empty rows are left out, and keep their number.
        numbers, rows = zip(*((number, row) for number, row in told if row), strict=True)
    except csv.Error as error:
        raise UserError(f"{file}: not a well-formed CSV ({error}): close every quote") from None
    if len(rows[0]) == 1 and (other := re.search("[;\t|]", rows[0][0])):
        # As spreadsheets save it where the comma is the decimal mark.
        raise UserError(f"{file}: fields are separated by {other[0]!r}: save it with commas")
    for number, row in zip(numbers, rows, strict=True):
        if len(row) != len(rows[0]):
            wrong = f"{len(row)} fields instead of {len(rows[0])}"
            raise UserError(f"{file}, row {number}: {wrong}: quote texts that hold commas")
    first = 0 if header else 1
    return pd.DataFrame(rows[first:], numbers[first:], header or rows[0], dtype="str")


def labels(column: pd.Series) -> pd.Series:
    """Labels as words; a whole number is "1" also where pandas, in a column with gaps, wrote "1.0".

    Examples
    --------
    >>> labels(pd.Series([" Yes", "1.0", "1.5"])).tolist()
    ['yes', '1', '1.5']
    """
    words = column.astype("str").str.strip().str.lower()
    return words.str.replace(r"^(\d+)\.0$", r"\1", regex=True)


def read_jsonl(file: Path) -> pd.DataFrame:
    # Not splitlines, which also cuts at U+2028 inside a text.
    lines = dict(enumerate(read_text(file).split("\n"), start=1))
    filled = {number: line for number, line in lines.items() if line.strip()}
    records = {number: _record(f"{file}, row {number}", line) for number, line in filled.items()}
    return pd.DataFrame(list(records.values()), index=list(records))


def _record(where: str, line: str) -> dict[str, Any]:
    wrong = "not a JSON object"
    try:
        record = json.loads(line)
        # JSON may hold half of a surrogate pair, which no file and no server takes.
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
    """The files of one table; rows are counted from 1 through all of them."""
    with explained(f"{files[0].parent}: not whole Parquet files", "download them again"):
        table = pd.concat([pd.read_parquet(regular(file)) for file in files], ignore_index=True)
    return table.set_index(pd.RangeIndex(1, len(table) + 1))


def anonymous(names: pd.Series, prefix: str = "u") -> pd.Series:
    """Names replaced by u01, u02 … in order of appearance, unless they have that form already."""
    # Else names would be given anew to what was made anonymous before, and no longer match.
    if names.str.fullmatch(rf"{prefix}\d+").all():
        return names
    numbers = pd.Series(pd.factorize(names)[0], index=names.index) + 1
    return numbers.map(lambda number: f"{prefix}{number:02d}")


def source(
    task: str, file: str | Path, rows: int, licence: str = "licence not stated in the files"
) -> dict[str, Any]:
    """What a report says of a table that was read: ``task source licence file rows``."""
    place, name = "folder", shown(file)
    if Path(file).resolve().is_relative_to(DEMO):
        place, licence = "demo", SIMULATED
    elif str(file).startswith("hub:"):
        place, name = str(file).rpartition("/")[0], str(file)
    return {"task": task, "source": place, "licence": licence, "file": name, "rows": rows}
