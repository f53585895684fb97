"""The folder of a store: its locks, and what its disk, or whoever else uses it, can do to it."""

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
#: File systems that machines share.
NETWORK = (
    "nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "pvfs",
    "orangefs", "panfs", "wekafs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.rclone",
    "fuse.s3fs", "fuse.gcsfuse",
)  # fmt: skip
KEPT = "the answers stored so far are kept"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made for it."""
    # Of a file: the system frees it when its holder dies, so that no lock is ever stale.
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of a file."""
    # Shared, since of a colleague's file only reading may be allowed.
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def is_shared(folder: Path) -> bool:
    """Whether other machines may write there as well, or nothing can be locked."""
    mounts = [(Path(mount.mountpoint), mount.fstype) for mount in psutil.disk_partitions(all=True)]
    above = [mount for mount in mounts if folder.resolve().is_relative_to(mount[0])]
    # The nearest mount counts, and of several on one folder the last, which hides the others.
    kind = ""
    if above:
        kind = max(enumerate(above), key=lambda found: (len(found[1][0].parts), found[0]))[1][1]
    if kind.startswith(NETWORK):
        return True
    # A file system of another name may lack locks as well: trying one tells.
    try:
        with locked(folder / ".lock"):
            return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
            return True
        raise


@contextlib.contextmanager
def whole(folder: Path) -> Iterator[Path | None]:
    """Where to build ``folder``, whose name it gets when the block ends well, so that it is whole
    or not there; None if it is there already.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    with locked(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            yield None
            return
        # What a process that was killed has left.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def told(folder: Path) -> Iterator[None]:
    """One line for what the disk, or whoever else uses it, can do to a store."""
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
            # Python's own, of bytes that are no text.
            isinstance(error, sqlite3.Error) and not name
        ):
            problem = f"damaged ({error}): delete {DATABASE} there, its answers are asked again"
        else:
            why = getattr(error, "strerror", None) or first_line(error)
            remedy = "make it a folder that can be written, or set PERSONAGAP_CACHE"
            problem = f"no answers can be kept there ({why}): {remedy}"
        raise UserError(f"{folder}: {problem}") from error
