"""Readers of answers outside the database: JSON Lines of writers without locks, Parquet shards of
earlier versions, and exports of other stores.
"""

import json
import mmap
import warnings
from collections.abc import Iterator
from pathlib import Path

from personagap.errors import UserError, first_line

COLUMNS = (
    "text", "finish_reason", "prompt_tokens", "output_tokens", "seconds", "reasoning", "outcome",
)  # fmt: skip
#: Exceptions that a malformed line can cause.
MALFORMED = (ValueError, TypeError, KeyError, RecursionError)


def read_lines(path: Path, start: int) -> tuple[Iterator[tuple], int]:
    """Return an iterator over the rows of a JSON Lines file from byte ``start`` on, and the
    position where its last complete line ends.
    """
    # Another process may be writing: whatever follows the last newline is incomplete.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = max(start, content.rfind(b"\n") + 1)
    return _parse_lines(path, start, end), end


def _parse_lines(path: Path, start: int, end: int) -> Iterator[tuple]:
    damaged = 0
    with path.open("rb") as file:
        file.seek(start)
        while file.tell() < end:
            try:
                key, *values = json.loads(file.readline())
                yield key, *validated_values(dict(zip(COLUMNS, values, strict=True)))
            except MALFORMED:
                damaged += 1
    if damaged:
        message = f"{path}: {damaged} damaged lines, whose answers are asked again"
        warnings.warn(message, stacklevel=2)


def read_shard(path: Path) -> tuple[list[tuple], int]:
    """Return the rows of a Parquet file of an earlier version, and its size in bytes."""
    import pandas as pd

    try:
        table = pd.read_parquet(path)
        # Earlier versions stored neither reasoning nor outcome.
        table = table[list(COLUMNS[:5])].reindex(columns=list(COLUMNS)).astype(object)
    except (OSError, ValueError, KeyError) as error:
        remedy = "delete it, its answers are asked again"
        raise UserError(f"{path}: unreadable shard ({first_line(error)}); {remedy}") from error
    return list(table.where(table.notna(), None).itertuples(name=None)), path.stat().st_size


def validated_values(fields: dict) -> tuple:
    """Return the values of a row in the order of ``COLUMNS``.

    ValueError, TypeError or KeyError is raised for fields that are not those of an answer.
    """
    text, reason, *numbers, reasoning, outcome = (fields[name] for name in COLUMNS)
    texts = [text, reason, *(value for value in (reasoning, outcome) if value is not None)]
    # Encoding raises ValueError for a lone surrogate.
    if not all(isinstance(value, str) and value.encode() is not None for value in texts):
        raise ValueError("no text")
    # Larger integers are inexact in a table of floats, and SQLite accepts none beyond 2**63.
    if not all(number is None or abs(number) < 2**53 for number in numbers):
        raise ValueError("no number")
    return (text, reason, *numbers, reasoning, outcome)
