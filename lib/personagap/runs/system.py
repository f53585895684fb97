"""What a run is given of its machine and leaves there, and what the system says of its end."""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
#: Folders for sockets of kernels: their paths must be shorter than a run's folder may be.
SOCKETS = "personagap-kernel-"
#: The environment of runs and their kernels, where the user's says nothing else.
DEFAULTS = {
    # OpenMP's threads spin while they wait for each other, unless told to sleep: beside other work
    # on the machine that made a real model 2.5 times slower.
    "OMP_WAIT_POLICY": "passive",
    # Without it kernels warn about frozen modules.
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    # glibc gives large arrays back to the system, and gets the same pages anew for the next ones:
    # a twentieth of the processor's time.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}


def environment(threads: int | None = None) -> dict[str, str]:
    """That of a run's process and its kernel; ``threads`` as of ``execute.start``."""
    chosen = DEFAULTS | os.environ
    if threads is None:
        return chosen
    # Each library has a variable of its own, and would take all cores beside the other runs.
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    return dict.fromkeys(names, os.environ.get("OMP_NUM_THREADS", str(threads))) | chosen


def socket_folder() -> Path:
    """A new folder of this process; those that killed processes left are removed.

    Its lock, which the system frees, tells that it is in use: nobody sees it under its name before
    it is locked.
    """
    place = Path(tempfile.gettempdir())
    for old in place.glob(f"{SOCKETS}*"):
        with contextlib.suppress(OSError):
            # It is in use, or another user's.
            descriptor = os.open(old, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old)
            finally:
                os.close(descriptor)
    hidden = tempfile.mkdtemp(prefix=f".{SOCKETS}", dir=place)
    fcntl.flock(os.open(hidden, os.O_RDONLY), fcntl.LOCK_EX)
    return Path(hidden).rename(place / Path(hidden).name.removeprefix("."))


def memory_kills() -> dict[str, int]:
    """How many processes were ended for want of memory, in this process's control group and on the
    whole machine.
    """
    found = {"group": 0, "machine": 0}
    with contextlib.suppress(OSError):
        found["machine"] = _count(Path("/proc/vmstat"))
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kind, path = line.split(":", 2)
            if kind in ("", "memory"):
                # "" is the one tree of cgroup v2, "memory" that of v1.
                root, name = CGROUPS / kind, "memory.oom_control" if kind else "memory.events"
                # Inside a container the path may be the host's, and the container's own group the
                # root.
                places = {root, root / path.lstrip("/")}
                found["group"] += sum(_count(place / name) for place in places)
    return found


def out_of_memory(processes: Sequence[int], before: dict[str, int]) -> str:
    """Who says that one of ``processes`` was ended for want of memory; "" if nobody does.

    ``before`` is what `memory_kills` gave when they started.
    """
    after = memory_kills()
    if after["group"] > before["group"]:
        return "the control group"
    if after["machine"] > before["machine"]:
        with contextlib.suppress(OSError):
            # No dmesg; and it may tell nothing to an ordinary user.
            log = subprocess.run(["dmesg"], capture_output=True, text=True).stdout
            if {*map(int, re.findall(r"Killed process (\d+)", log))} & {*processes}:
                return "the system's log"
    return ""


def _count(file: Path) -> int:
    text = file.read_text() if file.exists() else ""
    found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0
