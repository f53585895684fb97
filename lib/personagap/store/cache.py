"""All stores of a cache: what they hold, and how answers travel from one cache to another."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import TextIO

from personagap.errors import UserError, first_line
from personagap.store import Store
from personagap.store.files import COLUMNS, UNREADABLE, values_of

#: Rows that are stored together.
TOGETHER = 5000


def stores(root: Path) -> Iterator[Store]:
    """The store of each model under ``root``; ``UserError`` if there is no such folder."""
    if not root.is_dir():
        reason = "no model was asked yet, or PERSONAGAP_CACHE says where the answers are"
        raise UserError(f"no folder {root}: {reason}")
    yield from (Store(folder) for folder in sorted(root.iterdir()) if folder.is_dir())


def sizes(root: Path) -> list[tuple[str, int, int]]:
    """Of each model: the name of its folder, answers, bytes."""
    return [
        (store.folder.name, len(store), sum(path.stat().st_size for path in store.folder.iterdir()))
        for store in stores(root)
    ]


def export(root: Path, file: TextIO) -> int:
    """Write every answer as a line of JSON; how many there are."""
    number = 0
    for store in stores(root):
        for key, *values in store.rows():
            line = {"store": store.folder.name, "key": key}
            line |= dict(zip(COLUMNS, values, strict=True))
            file.write(json.dumps(line) + "\n")
            number += 1
    return number


def take_in(root: Path, file: TextIO) -> int:
    """Store what `export` wrote, except for what is answered here; how many answers are new.

    ``UserError`` names the first line that is not of `export`; of those before it some may be
    stored.
    """
    return _keep(root, map(_exported, itertools.count(1), file))


def merge(root: Path, others: list[Path]) -> int:
    """Take over the answers of the stores under ``others``, and put what writers left into the
    databases of all.

    How many answers are new.
    """
    found = (store for other in others for store in stores(other))
    rows = ((store.folder.name, row) for store in found for row in store.rows())
    new = _keep(root, rows)
    # Last, so that what was just taken over goes in as well.
    for store in stores(root):
        store.merge()
    return new


def _exported(number: int, line: str) -> tuple[str, tuple]:
    """Folder and row of a line of `export`."""
    try:
        fields = json.loads(line)
        name, row = fields["store"], (fields["key"], *values_of(fields))
        # It becomes a folder's name: "../elsewhere" would write outside the cache.
        if not re.fullmatch(r"\w[\w.-]*", name) or not isinstance(row[0], str):
            raise ValueError("no name")
    except UNREADABLE as error:
        raise UserError(
            f"line {number} is not of `personagap store export` ({first_line(error)})"
        ) from None
    return name, row


def _keep(root: Path, named: Iterable[tuple[str, tuple]]) -> int:
    new = 0
    # Exported store by store, so that each is opened once.
    for name, group in itertools.groupby(named, key=itemgetter(0)):
        store = Store(root / name)
        while rows := [row for _, row in itertools.islice(group, TOGETHER)]:
            new += store.keep(rows)
    return new
