"""The lock of a run's folder: one process at a time writes there, and the system frees what a dead
one held.
"""

import fcntl
import os
import socket
import time
from datetime import datetime
from pathlib import Path

import psutil

from personagap.errors import UserError

#: Seconds that the kernel of a killed runner may take to follow it.
DYING = 15


def lock(folder: Path) -> int:
    """Take the run for this process and those that inherit the returned file descriptor.

    The system frees the lock when the last of them ends, however it ends, so none is ever stale.

    `UserError`: another runner, here or on another machine, is at it; or the folder cannot be
    written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Kept open, and handed on to the run's processes: the lock is the file's, and ends with the
        # last.
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        remedy = "name a folder that you may write with --figures"
        raise UserError(f"{error.filename}: {error.strerror}: {remedy}") from None
    asked = time.monotonic()
    while not _take(descriptor):
        owner = os.pread(descriptor, 200, 0).decode()
        # A glance whether it `is_locked` may be in the way, or the kernel of a runner that was
        # killed.
        if time.monotonic() - asked > (0.5 if _alive(owner) else DYING):
            since = datetime.fromtimestamp(os.fstat(descriptor).st_mtime)
            os.close(descriptor)
            runner = f"process {owner}, since {since:%Y-%m-%d %H:%M}"
            remedy = "wait for it or stop it"
            raise UserError(f"{folder.name} is already being run ({runner}): {remedy}")
        time.sleep(0.1)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} on {socket.gethostname()}".encode(), 0)
    except OSError as error:
        # A full disk: say which.
        os.close(descriptor)
        raise OSError(error.errno, error.strerror, str(folder / ".lock")) from None
    return descriptor


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(owner: str) -> bool:
    pid, _, host = owner.partition(" on ")
    if host != socket.gethostname():
        # It is not signed yet, or its process is on a machine out of our sight.
        return host != ""
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
