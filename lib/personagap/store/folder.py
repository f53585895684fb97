"""The folder of a store: file locks, shared file systems and storage errors."""

import contextlib
import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psutil

from personagap.errors import UserError, first_line

DATABASE = "answers.sqlite"
#: Prefixes of the names of network file systems.
NETWORK = (
    "nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "pvfs",
    "orangefs", "panfs", "wekafs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.rclone",
    "fuse.s3fs", "fuse.gcsfuse",
)  # fmt: skip
KEPT = "the answers stored so far are kept"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on the file ``path``, which is created if necessary."""
    # The operating system frees a file lock when its holder dies, so no lock is ever stale.
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock on a file."""
    # A shared lock is enough, since a colleague's file may be readable only.
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def is_shared(folder: Path) -> bool:
    """Return whether other machines may write to ``folder``, or files there cannot be locked."""
    kind, depth = "", 0
    for mount in psutil.disk_partitions(all=True):
        place = Path(mount.mountpoint)
        # The nearest mount counts; of several at one place, the last, which hides the others.
        if folder.resolve().is_relative_to(place) and len(place.parts) >= depth:
            kind, depth = mount.fstype, len(place.parts)
    if kind.startswith(NETWORK):
        return True
    # Other file systems may lack locks too, so try to take one.
    try:
        with locked(folder / ".lock"):
            return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
            return True
        raise


@contextlib.contextmanager
def build_whole(folder: Path) -> Iterator[Path | None]:
    """Yield a temporary folder that is renamed to ``folder`` when the block succeeds, so that
    ``folder`` is either complete or absent; yield None if it exists already.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    with locked(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            yield None
            return
        # A killed process may have left this.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the disk and of SQLite into a ``UserError`` of one line."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        name, number = getattr(error, "sqlite_errorname", ""), getattr(error, "errno", None)
        if name == "SQLITE_FULL" or number in (errno.ENOSPC, errno.EDQUOT):
            problem = f"the disk is full; {KEPT}, free some space and run again"
        elif name.startswith("SQLITE_IOERR"):
            problem = f"{error}, as of a full disk or quota; {KEPT}, make room and run again"
        elif name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
            problem = f"{error} by another process; {KEPT}, run again when that is done"
        elif name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")) or (
            # Python's sqlite3 module raises this for bytes that are not text.
            isinstance(error, sqlite3.Error) and not name
        ):
            problem = f"damaged ({error}): delete {DATABASE} there, its answers are asked again"
        else:
            why = getattr(error, "strerror", None) or first_line(error)
            remedy = "make it a folder that can be written, or set PERSONAGAP_CACHE"
            problem = f"no answers can be kept there ({why}): {remedy}"
        raise UserError(f"{folder}: {problem}") from error
