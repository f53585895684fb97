"""Operations on all stores of a cache: sizes, export, import and merging."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import TextIO

from personagap.errors import UserError, first_line
from personagap.store import Store
from personagap.store.files import COLUMNS, MALFORMED, validated_values

#: Number of rows per transaction.
BATCH = 5000


def stores(root: Path) -> Iterator[Store]:
    """Iterate over the stores under ``root``, one per model.

    ``UserError`` is raised if there is no such folder.
    """
    if not root.is_dir():
        reason = "no model was asked yet, or PERSONAGAP_CACHE says where the answers are"
        raise UserError(f"no folder {root}: {reason}")
    yield from (Store(folder) for folder in sorted(root.iterdir()) if folder.is_dir())


def sizes(root: Path) -> list[tuple[str, int, int]]:
    """Return the folder name, number of answers and bytes of each model's store."""
    return [
        (store.folder.name, len(store), sum(path.stat().st_size for path in store.folder.iterdir()))
        for store in stores(root)
    ]


def export(root: Path, file: TextIO) -> int:
    """Write every answer to ``file`` as a line of JSON, and return their number."""
    number = 0
    for store in stores(root):
        for key, *values in store.rows():
            line = {"store": store.folder.name, "key": key}
            line |= dict(zip(COLUMNS, values, strict=True))
            file.write(json.dumps(line) + "\n")
            number += 1
    return number


def import_answers(root: Path, file: TextIO) -> int:
    """Store the answers that `export` wrote to ``file``, and return how many are new.

    Answers that are stored already stay as they are. ``UserError`` names the first line that
    `export` cannot have written; lines before it may have been stored.
    """
    return _keep(root, map(_parse_exported, itertools.count(1), file))


def merge(root: Path, others: list[Path]) -> int:
    """Add the answers of the stores under ``others``, then move the files of writers without locks
    into the databases of all stores under ``root``.

    Return how many answers are new.
    """
    sources = (store for other in others for store in stores(other))
    rows = ((store.folder.name, row) for store in sources for row in store.rows())
    new = _keep(root, rows)
    # Last, so that the answers just added are merged as well.
    for store in stores(root):
        store.merge()
    return new


def _parse_exported(number: int, line: str) -> tuple[str, tuple]:
    """Return the store's folder name and the row in line ``number`` of an export."""
    try:
        fields = json.loads(line)
        name, row = fields["store"], (fields["key"], *validated_values(fields))
        # The name becomes a folder's: "../elsewhere" would write outside the cache.
        if not re.fullmatch(r"\w[\w.-]*", name) or not isinstance(row[0], str):
            raise ValueError("no name")
    except MALFORMED as error:
        problem = f"is not of `personagap store export` ({first_line(error)})"
        raise UserError(f"line {number} {problem}") from None
    return name, row


def _keep(root: Path, named_rows: Iterable[tuple[str, tuple]]) -> int:
    new = 0
    # Exports list one store after the other, so each store is opened once.
    for name, group in itertools.groupby(named_rows, key=itemgetter(0)):
        store = Store(root / name)
        while rows := [row for _, row in itertools.islice(group, BATCH)]:
            new += store.keep(rows)
    return new
