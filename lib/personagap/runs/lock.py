"""The lock of a run's folder, so that one process at a time writes to it.

The operating system frees the lock when its holder dies.
"""

import fcntl
import os
import socket
import time
from datetime import datetime
from pathlib import Path

import psutil

from personagap.errors import UserError

#: Seconds that the kernel of a killed runner may take to end.
KERNEL_EXIT_SECONDS = 15


def lock(folder: Path) -> int:
    """Lock a run for this process and all that inherit the returned file descriptor.

    The operating system frees the lock when the last of these processes ends, in whatever way, so
    it is never stale.

    Raises
    ------
    UserError : another runner, on this or another machine, holds the lock, or the folder cannot be
        written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The descriptor stays open and is inherited by the run's processes: the lock belongs to the
        # open file, and ends when the last of them closes it.
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        remedy = "name a folder that you may write with --figures"
        raise UserError(f"{error.filename}: {error.strerror}: {remedy}") from None
    start = time.monotonic()
    while not _try_lock(descriptor):
        owner = os.pread(descriptor, 200, 0).decode()
        # The lock may be held for a moment only: by a process that calls `is_locked`, or by the
        # kernel of a runner that was killed.
        if time.monotonic() - start > (0.5 if _is_alive(owner) else KERNEL_EXIT_SECONDS):
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
        # The disk is full: name the file, which tells the user which disk.
        os.close(descriptor)
        raise OSError(error.errno, error.strerror, str(folder / ".lock")) from None
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(owner: str) -> bool:
    pid, _, host = owner.partition(" on ")
    if host != socket.gethostname():
        # Processes on other machines cannot be checked; without a host, none has signed yet.
        return host != ""
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
