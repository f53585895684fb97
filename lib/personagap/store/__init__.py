"""Where a model's answers are kept: a folder with an SQLite database.

With its write-ahead log many processes read and write at once, and a kill loses nothing that was
written. What is being asked is claimed there by an owner, whose lock file the system frees when it
dies, so nothing is asked twice.

SQLite is not safe where machines share a file system, or nothing can be locked. There each writer
appends to a file of its own (JSON lines), which all read and ``personagap store merge`` puts into
the database.
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

from personagap.store.files import lines, shard
from personagap.store.folder import DATABASE, is_locked, is_shared, locked, told

#: ``files`` are those of writers and of earlier versions: how many bytes of each have been read.
SCHEMA = """
CREATE TABLE answers (key TEXT PRIMARY KEY, text TEXT, finish_reason TEXT, prompt_tokens INTEGER,
                      output_tokens INTEGER, seconds REAL, reasoning TEXT, outcome TEXT);
CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT) WITHOUT ROWID;
CREATE TABLE files (name TEXT PRIMARY KEY, bytes INTEGER);
PRAGMA user_version = 1;
"""
#: What has been answered, as of a database alone, and of a merged one beside that of this process.
ALONE = """
CREATE TEMP VIEW answered AS SELECT * FROM main.answers;
CREATE TEMP VIEW read AS SELECT * FROM main.files;
"""
BESIDE = """
CREATE TEMP VIEW answered AS SELECT * FROM merged.answers UNION ALL
    SELECT * FROM main.answers AS own
    WHERE NOT EXISTS (SELECT 1 FROM merged.answers WHERE key = own.key);
CREATE TEMP VIEW read AS SELECT * FROM merged.files UNION ALL SELECT * FROM main.files;
"""
AMONG = " WHERE key IN (SELECT value FROM json_each(?))"
INSERT = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
#: Seconds that a process waits for another's write.
PATIENCE = 60
#: Keys looked up at a time.
CHUNK = 5000


class Store:
    """The answers in ``folder``: rows (key, *COLUMNS).

    ``UserError``, here and from every method, if the folder cannot be read or written.
    """

    def __init__(self, folder: Path):
        self.folder, self._guard = folder, threading.RLock()
        self._own: io.FileIO | None = None
        # Without file locks a database of many writers would be damaged: see above.
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.shared = is_shared(folder)
            self._database = self._scratch() if self.shared else self._open()
            weakref.finalize(self, self._database.close)
            self._read_files()

    def __len__(self) -> int:
        with told(self.folder), self._guard:
            return self._database.execute("SELECT COUNT(*) FROM answered").fetchone()[0]

    def find(self, keys: Iterable[str]) -> list[tuple]:
        """The rows of those ``keys`` that are answered."""
        # Neighbours in the index share its pages, of which a million answers have many.
        wanted = sorted(keys)
        rows: list[tuple] = []
        with told(self.folder), self._guard:
            for start in range(0, len(wanted), CHUNK):
                among = json.dumps(wanted[start : start + CHUNK])
                rows += self._database.execute("SELECT * FROM answered" + AMONG, [among])
        return rows

    def rows(self) -> Iterator[tuple]:
        """All rows, one after the other."""
        with told(self.folder), self._guard:
            yield from self._database.execute("SELECT * FROM answered")

    def keep(self, rows: Sequence[tuple]) -> int:
        """Store rows, except for those of stored keys; how many are new."""
        # Claims on them stay until their owner has ended: what is answered nobody claims anew.
        with self._writing() as database:
            new = database.executemany(INSERT, rows).rowcount
            if self.shared:
                self._append(rows)
        return new

    @contextlib.contextmanager
    def asking(self) -> Iterator[str]:
        """An owner of claims, until the block ends or the process dies."""
        owner = uuid.uuid4().hex
        with contextlib.ExitStack() as stack:
            # Where nothing can be locked, machines may ask the same twice, which costs but harms
            # nothing.
            if not self.shared:
                path = self._sign(owner)
                stack.callback(path.unlink, missing_ok=True)
                stack.enter_context(locked(path))
            try:
                yield owner
            finally:
                with self._writing() as database:
                    database.execute("DELETE FROM claims WHERE owner = ?", [owner])

    def claim(self, owner: str, keys: Sequence[str]) -> set[str]:
        """Those of ``keys`` that are neither answered nor claimed by a living process: they are
        ``owner``'s now.
        """
        with self._writing() as database:
            among = [json.dumps(list(keys))]
            rows = database.execute("SELECT key FROM answered" + AMONG, among)
            answered = {key for (key,) in rows}
            held = dict(database.execute("SELECT key, owner FROM claims" + AMONG, among))
            dead = {name for name in set(held.values()) if not is_locked(self._sign(name))}
            database.executemany("DELETE FROM claims WHERE owner = ?", ((name,) for name in dead))
            free = {key for key in keys if key not in held or held[key] in dead} - answered
            database.executemany("INSERT INTO claims VALUES (?, ?)", ((key, owner) for key in free))
        # After the claims are gone: a file without a lock is what shows that its owner is dead.
        for name in dead:
            self._sign(name).unlink(missing_ok=True)
        return free

    def release(self, key: str) -> None:
        """Claim ``key`` no longer: its request failed."""
        with self._writing() as database:
            database.execute("DELETE FROM claims WHERE key = ?", [key])

    def merge(self) -> None:
        """Put into the database what writers without locks left beside it. Only while none of them
        is at work.
        """
        if not self.shared:
            # Opening the store has done so.
            return
        with told(self.folder), self._guard, tempfile.TemporaryDirectory() as place:
            built = Path(place, DATABASE)
            merged = connect(built)
            merged.executescript(SCHEMA + "BEGIN")
            merged.executemany(INSERT, self.rows())
            files = self._database.execute("SELECT name, MAX(bytes) FROM read GROUP BY name")
            merged.executemany("INSERT INTO files VALUES (?, ?)", files)
            merged.execute("COMMIT")
            merged.close()
            # Built elsewhere and renamed: this file system has no locks to build it here, and
            # readers find the old one or the new one whole.
            temporary = self.folder / f".{DATABASE}.tmp"
            shutil.copyfile(built, temporary)
            os.replace(temporary, self.folder / DATABASE)

    def _open(self) -> sqlite3.Connection:
        # SQLite would let nobody else of a group write it, whatever the umask says.
        (self.folder / DATABASE).touch()
        database = connect(self.folder / DATABASE)
        if database.execute("PRAGMA user_version").fetchone()[0] == 0:
            # Changing the journal's mode does not wait for others.
            with locked(self.folder / ".lock"):
                database.execute("PRAGMA journal_mode = WAL")
                if database.execute("PRAGMA user_version").fetchone()[0] == 0:
                    database.executescript("BEGIN;" + SCHEMA + "COMMIT;")
        # A power cut may cost the last answers, no kill does.
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(ALONE)
        return database

    def _scratch(self) -> sqlite3.Connection:
        """A database of this process alone, beside the merged one, which nobody writes."""
        database = connect("")
        database.executescript(SCHEMA)
        merged = self.folder / DATABASE
        if merged.exists():
            # Immutable: SQLite then asks for no locks, of which this file system has none to trust.
            database.execute("ATTACH ? AS merged", [f"{merged.resolve().as_uri()}?immutable=1"])
        database.executescript(BESIDE if merged.exists() else ALONE)
        return database

    def _read_files(self) -> None:
        """Take over what lies beside the database: files of writers without locks, and shards of
        earlier versions.
        """
        if self._unread():
            with self._writing() as database:
                for path, done in self._unread():
                    # Rows and how far was read go in together: a kill between would lose or repeat
                    # them.
                    rows, end = shard(path) if path.suffix == ".parquet" else lines(path, done)
                    database.executemany(INSERT, rows)
                    database.execute("INSERT OR REPLACE INTO files VALUES (?, ?)", [path.name, end])

    def _unread(self) -> list[tuple[Path, int]]:
        known = dict(self._database.execute("SELECT name, MAX(bytes) FROM read GROUP BY name"))
        paths = sorted([*self.folder.glob("*.parquet"), *self.folder.glob("*.jsonl")])
        found = ((path, known.get(path.name, 0)) for path in paths)
        return [(path, done) for path, done in found if path.stat().st_size > done]

    def _append(self, rows: Sequence[tuple]) -> None:
        if self._own is None:
            name = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}.jsonl"
            self._own = (self.folder / name).open("ab", buffering=0)
        try:
            self._own.write("".join(json.dumps(row) + "\n" for row in rows).encode())
        except OSError:
            # The file may end in half a line: go on in another.
            self._own = None
            raise

    def _sign(self, owner: str) -> Path:
        return self.folder / f".{owner}.asking"

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with told(self.folder), self._guard:
            # Takes the lock for writing at once: a reader that wants it later may be refused
            # without a wait.
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                # SQLite itself has rolled back when the disk is full.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


def connect(path: str | Path) -> sqlite3.Connection:
    # Transactions are begun by hand, and `Store` guards the connection that its threads share.
    return sqlite3.connect(
        path, timeout=PATIENCE, isolation_level=None, check_same_thread=False, uri=True
    )


def check(root: Path) -> None:
    """``UserError`` unless answers can be kept in ``root``, told before anybody is asked."""
    with told(root):
        root.mkdir(parents=True, exist_ok=True)
        # Written, since a full disk or quota lets a file be made all the same.
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(bytes(2**16))
