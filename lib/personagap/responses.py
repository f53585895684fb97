"""The response store: what has been answered is never asked again.

A store is a folder of append-only Parquet shards, one sub-folder per model. Each batch of
answers is written whole under a temporary name and then renamed, and no two writers share a
shard, so nothing is locked, a network file system serves, and a kill loses at most the batch
in flight.
"""

import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from personagap.errors import UserError
from personagap.paths import CACHE

ANSWER_TYPES = {"text": "str", "finish_reason": "str", "prompt_tokens": int, "output_tokens": int, "seconds": float}
ANSWER_COLUMNS = list(ANSWER_TYPES)
#: Requests per stored batch: what a kill can lose.
BATCH = 256


def digest(*parts: object) -> str:
    """Hash of JSON-serialisable parts, 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _none() -> pd.DataFrame:
    return pd.DataFrame(columns=ANSWER_COLUMNS, index=pd.Index([], dtype="str", name="key")).astype(ANSWER_TYPES)


class ResponseStore:
    """Answers of the model of that id, by the hash of everything that determines them.

    They live in a sub-folder of ``folder`` (default: ``data/cache/responses``).
    """

    def __init__(self, model: str, folder: str | Path | None = None):
        root = Path(folder) if folder else CACHE / "responses"
        self.folder = root / f"{re.sub(r'[^A-Za-z0-9.]+', '-', model)[-60:].strip('-')}-{digest(model)[:8]}"
        self._written: list[Path] = []
        self._answers = self._read()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, keys: pd.Index) -> pd.DataFrame:
        """The stored answers among ``keys``, indexed by key."""
        return self._answers.loc[self._answers.index.intersection(keys)]

    def add(self, answers: pd.DataFrame) -> None:
        """Store ``answers`` (index: key; columns: ``ANSWER_COLUMNS``) as one shard."""
        self._written.append(self._write(answers))
        self._answers = pd.concat([self._answers, answers[ANSWER_COLUMNS]])

    def compact(self) -> None:
        """Merge the shards this object wrote into one."""
        if len(self._written) > 1:
            merged = self._write(pd.concat(map(pd.read_parquet, self._written)))
            for shard in self._written:
                shard.unlink(missing_ok=True)
            self._written = [merged]

    def _read(self) -> pd.DataFrame:
        frames = []
        for shard in sorted(self.folder.glob("*.parquet")):
            try:
                frames.append(pd.read_parquet(shard))
            except FileNotFoundError:  # another run compacted it since the listing: read the result
                return self._read()
            except (OSError, ValueError) as error:
                problem = f"{shard}: unreadable shard ({error}); delete it, its answers are asked again"
                raise UserError(problem) from error
        answers = pd.concat(frames or [_none()])
        return answers[~answers.index.duplicated()]

    def _write(self, answers: pd.DataFrame) -> Path:
        name = f"{uuid.uuid4().hex}.parquet"
        temporary = self.folder / f".{name}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                answers[ANSWER_COLUMNS].rename_axis("key").to_parquet(file)
                file.flush()
                os.fsync(file.fileno())
            return temporary.rename(self.folder / name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                kept = "the answers stored so far are kept, free some space and run again"
                raise UserError(f"{self.folder}: the disk is full; {kept}") from error
            raise


def complete(
    store: ResponseStore | None, keys: Sequence[str], make: Callable, *, title: str, batch: int = BATCH
) -> pd.DataFrame:
    """Answers to all ``keys``: what ``store`` lacks is made, and stored batch by batch.

    Batches are cut from the whole plan, so a resumed run computes those of an undisturbed one.

    Parameters
    ----------
    store : None keeps nothing.
    keys : one per request; those of one key are made once.
    make : array of positions in ``keys`` → one ``models.Generation`` each.

    Returns
    -------
    ``ANSWER_COLUMNS`` by key. A failure ("error") is among them but not stored, so the next call makes it again.
    ``.attrs["asked"]`` counts what this call made.
    """
    keys = pd.Index(keys)
    stored = _none() if store is None else store.get(keys)
    distinct, missing, made = np.flatnonzero(~keys.duplicated()), ~keys.isin(stored.index), [stored]
    for start in tqdm(range(0, len(distinct), batch), desc=title, unit="batch", disable=None):
        rows = distinct[start : start + batch]
        rows = rows[missing[rows]]
        if len(rows):
            answers = pd.DataFrame(make(rows), index=keys[rows], columns=ANSWER_COLUMNS)
            made.append(answers.astype({"text": "str", "finish_reason": "str"}))  # as the store reads them back
            whole = made[-1][answers["finish_reason"] != "error"]
            if store is not None and len(whole):
                store.add(whole)
    if store is not None:
        store.compact()
    answers = pd.concat(made)
    answers.attrs["asked"] = len(answers) - len(stored)
    return answers
