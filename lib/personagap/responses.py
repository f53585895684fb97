"""The response store: what has been answered is never asked again."""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personagap import progress
from personagap.paths import RESPONSES
from personagap.store import Store
from personagap.store.files import COLUMNS

ANSWER_COLUMNS = list(COLUMNS)
ANSWER_TYPES = dict(zip(COLUMNS, ("str", "str", int, int, float, "str", "str"), strict=True))
WORDS = {name: kind for name, kind in ANSWER_TYPES.items() if kind == "str"}
#: Requests put to a model at a time.
BATCH = 256
#: Seconds between looks at what other runs are asking.
LOOK = 0.2


def digest(*parts: object) -> str:
    """Hash of JSON-serialisable parts, 32 hexadecimal digits."""
    return _hash(_json(parts))


def digests(known: object, others: Iterable[Sequence]) -> list[str]:
    """``digest(known, *each)`` of each of ``others``, with ``known`` put into words once."""
    begun = f"[{_json(known)}, "
    return [_hash(begun + _json(each)[1:]) for each in others]


_json = json.JSONEncoder(sort_keys=True).encode


def _hash(text: str) -> str:
    # 128 bits: among a billion keys no two are alike by chance.
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _table(rows: list[tuple]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["key", *ANSWER_COLUMNS]).set_index("key")
    return table.astype(WORDS if rows else ANSWER_TYPES)


class ResponseStore(Store):
    """Answers of the model of that id, by the hash of everything that determines them.

    They live in a sub-folder of ``folder`` (default: ``data/cache/responses``).
    """

    def __init__(self, model: str, folder: str | Path | None = None):
        root = Path(folder or RESPONSES)
        # A name that people know their model by, and a hash, as several ids may shrink to one name.
        name = re.sub(r"[^A-Za-z0-9.]+", "-", model)[-60:].strip("-")
        super().__init__(root / f"{name}-{digest(model)[:8]}")

    def get(self, keys: pd.Index) -> pd.DataFrame:
        """The stored answers among ``keys``, indexed by key."""
        return _table(self.find(set(keys)))


def failed(answer) -> bool:
    """Whether a ``models.Generation`` is none, and to be asked again."""
    return answer.outcome == "failed" or answer.finish_reason == "error"


def complete(
    store: ResponseStore | None,
    keys: Sequence[str],
    make: Callable,
    *,
    title: str,
    batch: int = BATCH,
) -> pd.DataFrame:
    """Answers to all ``keys``: what ``store`` lacks is made, and stored as it comes.

    What another process is asking is waited for, and made here if that dies or fails. Batches are
    cut from the whole plan, so a resumed run computes those of an undisturbed one.

    Parameters
    ----------
    store : None keeps nothing.
    keys : one per request; those of one key are made once.
    make : called with an array of positions in ``keys`` and a function ``keep(i, generation)``,
        which it tells of the ``models.Generation`` of the i-th of them, at once and from any
        thread; telling it again does nothing.

    Returns
    -------
    ``ANSWER_COLUMNS`` by key. A failure is among them (outcome "failed") but not stored: the next
    call makes it again. ``.attrs["asked"]`` counts what this call made, in
    ``.attrs["asking_seconds"]``.
    """
    wanted, began = pd.Index(keys), time.monotonic()
    stored = _table([]) if store is None else store.get(wanted)
    distinct, missing = np.flatnonzero(~wanted.duplicated()), ~wanted.isin(stored.index)
    made: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        told = stack.enter_context(progress.asking(title, len(distinct), len(stored)))
        owner = stack.enter_context(store.asking()) if store is not None and missing.any() else None

        def ask(rows: np.ndarray) -> np.ndarray:
            """Make those of ``rows`` that no other process is making, and return the others."""
            mine = np.ones(len(rows), bool)
            if store is not None and owner is not None:
                mine = wanted[rows].isin(store.claim(owner, wanted[rows]))
            asked = wanted[rows[mine]].tolist()

            def keep(i: int, answer) -> None:
                # Of an answer that is told twice the first is stored: the table must hold the same.
                if (key := asked[i]) not in made:
                    made[key] = answer
                    if store is not None:
                        store.release(key) if failed(answer) else store.keep([(key, *answer)])
                    told(tokens=answer.output_tokens or 0)

            if len(asked):
                make(rows[mine], keep)
            return rows[~mine]

        batches = (distinct[start : start + batch] for start in range(0, len(distinct), batch))
        others = [ask(rows[missing[rows]]) for rows in batches if missing[rows].any()]
        awaited = np.concatenate([*others, np.array([], int)])
        # What others are asking comes last: by then most of it is answered.
        while store is not None and len(awaited):
            head = awaited[:batch]
            found = store.get(wanted[head])
            told(len(found))
            stored = pd.concat([stored, found]) if len(found) else stored
            waiting = ask(head[~wanted[head].isin(found.index)])
            # Neither answered nor given up in the meantime: look again later.
            if len(waiting) == len(head):
                time.sleep(LOOK)
            awaited = np.concatenate([awaited[batch:], waiting])
    answers = stored
    if made:
        answers = pd.concat([stored, _table([(key, *answer) for key, answer in made.items()])])
    answers.attrs |= {"asked": len(made), "asking_seconds": round(time.monotonic() - began, 1)}
    return answers
