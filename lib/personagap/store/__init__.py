"""The store of a model's answers: a folder with an SQLite database.

The write-ahead log lets many processes read and write at the same time, and a killed process loses
nothing that it has written. Before a process sends a request, it claims the request's key in the
database under the name of an owner. The owner holds a file lock, which the operating system frees
when the process dies, so no request is sent twice.

SQLite is not safe on a file system that several machines share, or that has no file locks. There
each writer appends to its own JSON Lines file. All processes read these files, and ``personagap
store merge`` moves them into the database.
"""

import contextlib
import io
import json
import os
import shutil
import socket
import sqlite3
import tempfile
import threading
import uuid
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from personagap.store.files import read_lines, read_shard
from personagap.store.folder import DATABASE, is_locked, is_shared, locked, storage_errors

#: ``files`` counts the bytes read so far from each file of a writer or of an earlier version.
SCHEMA = """
CREATE TABLE answers (key TEXT PRIMARY KEY, text TEXT, finish_reason TEXT, prompt_tokens INTEGER,
                      output_tokens INTEGER, seconds REAL, reasoning TEXT, outcome TEXT);
CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT) WITHOUT ROWID;
CREATE TABLE files (name TEXT PRIMARY KEY, bytes INTEGER);
PRAGMA user_version = 1;
"""
#: Views of all answers: in a single database, or in the merged database (read only) together with
#: the temporary database of this process.
SINGLE_VIEWS = """
CREATE TEMP VIEW answered AS SELECT * FROM main.answers;
CREATE TEMP VIEW read AS SELECT * FROM main.files;
"""
MERGED_VIEWS = """
CREATE TEMP VIEW answered AS SELECT * FROM merged.answers UNION ALL
    SELECT * FROM main.answers AS own
    WHERE NOT EXISTS (SELECT 1 FROM merged.answers WHERE key = own.key);
CREATE TEMP VIEW read AS SELECT * FROM merged.files UNION ALL SELECT * FROM main.files;
"""
WHERE_KEY_IN = " WHERE key IN (SELECT value FROM json_each(?))"
INSERT = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
#: Seconds that a process waits for another process to finish writing.
BUSY_TIMEOUT = 60
#: Number of keys per lookup.
CHUNK = 5000


class Store:
    """The answers in ``folder``, as rows (key, *COLUMNS).

    The constructor and every method raise ``UserError`` if the folder cannot be read or written.
    """

    def __init__(self, folder: Path):
        self.folder, self._lock = folder, threading.RLock()
        self._lines_file: io.FileIO | None = None
        # Without file locks, several writers would damage a database (see the module's docstring).
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.shared = is_shared(folder)
            self._database = self._open_temporary() if self.shared else self._open()
            weakref.finalize(self, self._database.close)
            self._read_files()

    def __len__(self) -> int:
        with storage_errors(self.folder), self._lock:
            return self._database.execute("SELECT COUNT(*) FROM answered").fetchone()[0]

    def find(self, keys: Iterable[str]) -> list[tuple]:
        """Return the rows of those ``keys`` that have been answered."""
        # Sorted keys are close together in the index, so a lookup reads fewer of its pages.
        ordered = sorted(keys)
        rows: list[tuple] = []
        with storage_errors(self.folder), self._lock:
            for start in range(0, len(ordered), CHUNK):
                chunk = json.dumps(ordered[start : start + CHUNK])
                rows += self._database.execute("SELECT * FROM answered" + WHERE_KEY_IN, [chunk])
        return rows

    def rows(self) -> Iterator[tuple]:
        """Iterate over all rows."""
        with storage_errors(self.folder), self._lock:
            yield from self._database.execute("SELECT * FROM answered")

    def keep(self, rows: Sequence[tuple]) -> int:
        """Store the rows whose keys are not stored yet, and return their number."""
        # Claims on these keys stay until their owner ends: nobody claims an answered key again.
        with self._transaction() as database:
            new = database.executemany(INSERT, rows).rowcount
            if self.shared:
                self._append(rows)
        return new

    @contextlib.contextmanager
    def asking(self) -> Iterator[str]:
        """Yield an owner for claims, valid until the block ends or the process dies."""
        owner = uuid.uuid4().hex
        with contextlib.ExitStack() as stack:
            # Without file locks two machines may send the same request, which costs time but does
            # no harm.
            if not self.shared:
                path = self._owner_file(owner)
                stack.callback(path.unlink, missing_ok=True)
                stack.enter_context(locked(path))
            try:
                yield owner
            finally:
                with self._transaction() as database:
                    database.execute("DELETE FROM claims WHERE owner = ?", [owner])

    def claim(self, owner: str, keys: Sequence[str]) -> set[str]:
        """Claim for ``owner`` those of ``keys`` that are neither answered nor claimed by a living
        process, and return them.
        """
        with self._transaction() as database:
            values = [json.dumps(list(keys))]
            rows = database.execute("SELECT key FROM answered" + WHERE_KEY_IN, values)
            answered = {key for (key,) in rows}
            owners = dict(database.execute("SELECT key, owner FROM claims" + WHERE_KEY_IN, values))
            dead = {name for name in {*owners.values()} if not is_locked(self._owner_file(name))}
            database.executemany("DELETE FROM claims WHERE owner = ?", ((name,) for name in dead))
            free = {key for key in keys if key not in owners or owners[key] in dead} - answered
            database.executemany("INSERT INTO claims VALUES (?, ?)", ((key, owner) for key in free))
        # Only after the claims are deleted: an unlocked file is the sign that its owner is dead.
        for name in dead:
            self._owner_file(name).unlink(missing_ok=True)
        return free

    def release(self, key: str) -> None:
        """Delete the claim on ``key``, whose request failed."""
        with self._transaction() as database:
            database.execute("DELETE FROM claims WHERE key = ?", [key])

    def merge(self) -> None:
        """Move the files of writers without locks into the database.

        Call this only while none of these writers is running.
        """
        if not self.shared:
            # Opening the store has merged them already.
            return
        with storage_errors(self.folder), self._lock, tempfile.TemporaryDirectory() as scratch:
            built = Path(scratch, DATABASE)
            merged = connect(built)
            merged.executescript(SCHEMA + "BEGIN")
            merged.executemany(INSERT, self.rows())
            files = self._database.execute("SELECT name, MAX(bytes) FROM read GROUP BY name")
            merged.executemany("INSERT INTO files VALUES (?, ?)", files)
            merged.execute("COMMIT")
            merged.close()
            # Built elsewhere, since this file system has no locks, and then renamed, so that
            # readers find either the complete old database or the complete new one.
            temporary = self.folder / f".{DATABASE}.tmp"
            shutil.copyfile(built, temporary)
            os.replace(temporary, self.folder / DATABASE)

    def _open(self) -> sqlite3.Connection:
        # A file that SQLite creates is not writable by the group, whatever the umask says.
        (self.folder / DATABASE).touch()
        database = connect(self.folder / DATABASE)
        if database.execute("PRAGMA user_version").fetchone()[0] == 0:
            # Changing the journal mode does not wait for other processes.
            with locked(self.folder / ".lock"):
                database.execute("PRAGMA journal_mode = WAL")
                if database.execute("PRAGMA user_version").fetchone()[0] == 0:
                    database.executescript("BEGIN;" + SCHEMA + "COMMIT;")
        # A power cut may lose the last answers, but a killed process loses none.
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(SINGLE_VIEWS)
        return database

    def _open_temporary(self) -> sqlite3.Connection:
        """Open a temporary database of this process, with the merged one attached read-only."""
        database = connect("")
        database.executescript(SCHEMA)
        merged = self.folder / DATABASE
        if merged.exists():
            # Immutable: SQLite then takes no locks, which this file system does not have.
            database.execute("ATTACH ? AS merged", [f"{merged.resolve().as_uri()}?immutable=1"])
        database.executescript(MERGED_VIEWS if merged.exists() else SINGLE_VIEWS)
        return database

    def _read_files(self) -> None:
        """Load the files beside the database: JSON Lines of writers without locks, and Parquet
        shards of earlier versions.
        """
        if self._unread_files():
            with self._transaction() as database:
                for path, start in self._unread_files():
                    # Rows and the position reached are stored in one transaction: a kill between
                    # the two would lose rows or read them twice.
                    parquet = path.suffix == ".parquet"
                    rows, end = read_shard(path) if parquet else read_lines(path, start)
                    database.executemany(INSERT, rows)
                    database.execute("INSERT OR REPLACE INTO files VALUES (?, ?)", [path.name, end])

    def _unread_files(self) -> list[tuple[Path, int]]:
        """Return the files that have unread bytes, each with the number of bytes read so far."""
        done = dict(self._database.execute("SELECT name, MAX(bytes) FROM read GROUP BY name"))
        paths = sorted([*self.folder.glob("*.parquet"), *self.folder.glob("*.jsonl")])
        positions = ((path, done.get(path.name, 0)) for path in paths)
        return [(path, start) for path, start in positions if path.stat().st_size > start]

    def _append(self, rows: Sequence[tuple]) -> None:
        if self._lines_file is None:
            name = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}.jsonl"
            self._lines_file = (self.folder / name).open("ab", buffering=0)
        try:
            self._lines_file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
        except OSError:
            # The file may end with half a line, so the next rows go to a new file.
            self._lines_file = None
            raise

    def _owner_file(self, owner: str) -> Path:
        return self.folder / f".{owner}.asking"

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with storage_errors(self.folder), self._lock:
            # IMMEDIATE takes the write lock at once: a reader that needs it later may be refused
            # without waiting.
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                # When the disk is full, SQLite has rolled back by then.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


def connect(path: str | Path) -> sqlite3.Connection:
    # `Store` begins its transactions explicitly, and locks the connection that its threads share.
    return sqlite3.connect(
        path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, uri=True
    )


def check(root: Path) -> None:
    """Raise ``UserError``, before any request is sent, if answers cannot be stored in ``root``."""
    with storage_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        # Bytes are written, since creating an empty file succeeds even on a full disk.
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(bytes(2**16))
