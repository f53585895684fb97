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
from pathlib import Path

import pandas as pd

from personagap.errors import UserError
from personagap.paths import CACHE

ANSWER_TYPES = {
    "text": "str",
    "finish_reason": "str",
    "prompt_tokens": "int64",
    "output_tokens": "int64",
    "seconds": "float64",
}
ANSWER_COLUMNS = list(ANSWER_TYPES)


def digest(*parts: object) -> str:
    """Hash of any JSON-serialisable parts (32 hexadecimal digits)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class ResponseStore:
    """Answers of one model, by the hash of everything that determines them.

    Parameters
    ----------
    model : the model's id; its answers live in a sub-folder of their own.
    folder : the store (default ``data/cache/responses``).
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
                raise UserError(
                    f"{shard}: unreadable shard ({error}); delete it, its answers are asked again"
                ) from error
        none = pd.DataFrame(columns=ANSWER_COLUMNS, index=pd.Index([], dtype="str", name="key")).astype(ANSWER_TYPES)
        answers = pd.concat(frames) if frames else none
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
                raise UserError(
                    f"{self.folder}: the disk is full; the answers stored so far are kept, "
                    "free some space and run again"
                ) from error
            raise
