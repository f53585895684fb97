"""The response store: requests that have been answered are never sent again."""

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personagap import progress
from personagap.hashing import digest
from personagap.paths import RESPONSES
from personagap.store import Store
from personagap.store.files import COLUMNS

ANSWER_COLUMNS = list(COLUMNS)
ANSWER_TYPES = dict(zip(COLUMNS, ("str", "str", int, int, float, "str", "str"), strict=True))
TEXT_TYPES = {name: kind for name, kind in ANSWER_TYPES.items() if kind == "str"}
#: Number of requests sent to a model at a time.
BATCH = 256
#: Seconds between checks for answers to requests that other processes have claimed.
POLL_SECONDS = 0.2


def _table(rows: list[tuple]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["key", *ANSWER_COLUMNS]).set_index("key")
    return table.astype(TEXT_TYPES if rows else ANSWER_TYPES)


class ResponseStore(Store):
    """The answers of the model with the id ``model``, by the hash of everything that determines
    them.

    They are stored in a subfolder of ``folder`` (default: ``data/cache/responses``).
    """

    def __init__(self, model: str, folder: str | Path | None = None):
        root = Path(folder or RESPONSES)
        # A readable name of the model, and a hash, since several ids may reduce to the same name.
        name = re.sub(r"[^A-Za-z0-9.]+", "-", model)[-60:].strip("-")
        super().__init__(root / f"{name}-{digest(model)[:8]}")

    def get(self, keys: pd.Index) -> pd.DataFrame:
        """Return the stored answers to ``keys``, indexed by key."""
        return _table(self.find(set(keys)))


def failed(answer) -> bool:
    """Return whether a ``models.Generation`` is a failure, whose request is to be sent again."""
    return answer.outcome == "failed" or answer.finish_reason == "error"


def complete(
    store: ResponseStore,
    keys: Sequence[str],
    make: Callable,
    *,
    title: str,
    batch: int = BATCH,
) -> pd.DataFrame:
    """Return the answers to all ``keys``: those that ``store`` lacks are made and then stored.

    Requests that another process has claimed are waited for, and made here if that process dies or
    fails. Batches are cut from the complete list of keys, so a resumed run computes the same
    batches as an undisturbed one.

    Parameters
    ----------
    keys : one per request; requests with the same key are made once.
    make : called with an array of positions in ``keys`` and a function ``keep(i, generation)``. It
        must call ``keep`` with the ``models.Generation`` of the i-th position as soon as it is
        there, from any thread; a second call for the same position does nothing.

    Returns
    -------
    ``ANSWER_COLUMNS`` by key. A failure is among them (outcome "failed") but not stored: the next
    call makes it again. ``.attrs["asked"]`` counts the requests that this call made, in
    ``.attrs["asking_seconds"]``.
    """
    index, began = pd.Index(keys), time.monotonic()
    stored = store.get(index)
    distinct, missing = np.flatnonzero(~index.duplicated()), ~index.isin(stored.index)
    made: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        update = stack.enter_context(progress.request_bar(title, len(distinct), len(stored)))
        owner = stack.enter_context(store.asking()) if missing.any() else ""

        def make_unclaimed(rows: np.ndarray) -> np.ndarray:
            """Make the requests that no other process has claimed, and return the other rows."""
            claimed = index[rows].isin(store.claim(owner, index[rows]))
            requests = index[rows[claimed]].tolist()

            def keep(i: int, answer) -> None:
                # If an answer comes twice, the store keeps the first: so must the table.
                if (key := requests[i]) not in made:
                    made[key] = answer
                    store.release(key) if failed(answer) else store.keep([(key, *answer)])
                    update(tokens=answer.output_tokens or 0)

            if len(requests):
                make(rows[claimed], keep)
            return rows[~claimed]

        batches = (distinct[start : start + batch] for start in range(0, len(distinct), batch))
        others = [make_unclaimed(rows[missing[rows]]) for rows in batches if missing[rows].any()]
        awaited = np.concatenate([*others, np.array([], int)])
        # Requests of other processes come last: by then most of them are answered.
        while len(awaited):
            head = awaited[:batch]
            answered = store.get(index[head])
            update(len(answered))
            stored = pd.concat([stored, answered]) if len(answered) else stored
            waiting = make_unclaimed(head[~index[head].isin(answered.index)])
            # Nothing was answered or given up in the meantime: check again later.
            if len(waiting) == len(head):
                time.sleep(POLL_SECONDS)
            awaited = np.concatenate([awaited[batch:], waiting])
    answers = stored
    if made:
        answers = pd.concat([stored, _table([(key, *answer) for key, answer in made.items()])])
    answers.attrs |= {"asked": len(made), "asking_seconds": round(time.monotonic() - began, 1)}
    return answers
