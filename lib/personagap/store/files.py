"""Answers in other files than the database: of writers without locks, of earlier versions, of other
stores.
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
#: What a line that is not of ours makes a reader raise.
UNREADABLE = (ValueError, TypeError, KeyError, RecursionError)


def lines(path: Path, start: int) -> tuple[Iterator[tuple], int]:
    """The rows of a writer's file from byte ``start`` on, one after the other, and where its last
    whole line ends.
    """
    # Another process may be writing: what stands after the last newline is not whole yet.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = max(start, content.rfind(b"\n") + 1)
    return _rows(path, start, end), end


def _rows(path: Path, start: int, end: int) -> Iterator[tuple]:
    damaged = 0
    with path.open("rb") as file:
        file.seek(start)
        while file.tell() < end:
            try:
                key, *values = json.loads(file.readline())
                yield key, *values_of(dict(zip(COLUMNS, values, strict=True)))
            except UNREADABLE:
                damaged += 1
    if damaged:
        told = f"{path}: {damaged} damaged lines, whose answers are asked again"
        warnings.warn(told, stacklevel=2)


def shard(path: Path) -> tuple[list[tuple], int]:
    """The rows of a Parquet file of an earlier version, and its size."""
    import pandas as pd

    try:
        table = pd.read_parquet(path)
        # An earlier version told neither reasoning nor outcome apart from the text.
        table = table[list(COLUMNS[:5])].reindex(columns=list(COLUMNS)).astype(object)
    except (OSError, ValueError, KeyError) as error:
        problem = (
            f"{path}: unreadable shard ({first_line(error)}); delete it, its answers are "
            "asked again"
        )
        raise UserError(problem) from error
    return list(table.where(table.notna(), None).itertuples(name=None)), path.stat().st_size


def values_of(fields: dict) -> tuple:
    """The values of a row. ValueError, TypeError, KeyError: they are not what an answer holds."""
    text, reason, *numbers, reasoning, outcome = (fields[name] for name in COLUMNS)
    words = [text, reason, *(word for word in (reasoning, outcome) if word is not None)]
    # No lone surrogate.
    if not all(isinstance(word, str) and word.encode() is not None for word in words):
        raise ValueError("no text")
    # Larger ones are not exact in a table of floats, and SQLite takes none beyond 2**63.
    if not all(number is None or abs(number) < 2**53 for number in numbers):
        raise ValueError("no number")
    return (text, reason, *numbers, reasoning, outcome)
