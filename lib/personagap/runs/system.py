"""The operating system around a run: environment, socket folders and kills for lack of memory."""

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
#: Prefix of the folders for kernels' sockets, whose paths have a limited length: the path of a
#: run's folder may be longer.
SOCKETS = "personagap-kernel-"
#: Default environment variables of runs and their kernels.
DEFAULTS = {
    # By default OpenMP threads spin while they wait for each other. With other processes on the
    # machine, this made a real model 2.5 times slower.
    "OMP_WAIT_POLICY": "passive",
    # Without it kernels warn about frozen modules.
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    # By default glibc returns the memory of large arrays to the system and requests it again for
    # the next arrays, which takes a twentieth of the CPU time.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}


def environment(threads: int | None = None) -> dict[str, str]:
    """Return the environment of a run's process and its kernel; see ``execute.start``."""
    variables = DEFAULTS | os.environ
    if threads is None:
        return variables
    # Each library reads its own variable, and by default uses all cores, which the runs share.
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    return dict.fromkeys(names, os.environ.get("OMP_NUM_THREADS", str(threads))) | variables


def socket_folder() -> Path:
    """Create a folder for sockets, and remove those that killed processes left behind.

    A folder in use is locked by its process. It is locked under a hidden name before it is renamed,
    so no other process ever sees it unlocked.
    """
    parent = Path(tempfile.gettempdir())
    for old in parent.glob(f"{SOCKETS}*"):
        with contextlib.suppress(OSError):
            # OSError: it is in use, or another user's.
            descriptor = os.open(old, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old)
            finally:
                os.close(descriptor)
    hidden = tempfile.mkdtemp(prefix=f".{SOCKETS}", dir=parent)
    fcntl.flock(os.open(hidden, os.O_RDONLY), fcntl.LOCK_EX)
    return Path(hidden).rename(parent / Path(hidden).name.removeprefix("."))


def memory_kills() -> dict[str, int]:
    """Return how many processes were killed for lack of memory, in this process's control group and
    on the machine.
    """
    kills = {"group": 0, "machine": 0}
    with contextlib.suppress(OSError):
        kills["machine"] = _kill_count(Path("/proc/vmstat"))
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controller, path = line.split(":", 2)
            if controller in ("", "memory"):
                # "" is the unified hierarchy of cgroup v2, "memory" a hierarchy of v1.
                root = CGROUPS / controller
                name = "memory.oom_control" if controller else "memory.events"
                # Inside a container, the path may be the one on the host, while the container's own
                # group is the root.
                groups = {root, root / path.lstrip("/")}
                kills["group"] += sum(_kill_count(group / name) for group in groups)
    return kills


def out_of_memory(processes: Sequence[int], before: dict[str, int]) -> str:
    """Return the source that reports a kill of one of ``processes`` for lack of memory, "" if there
    is none.

    ``before`` is the result of `memory_kills` when they started.
    """
    after = memory_kills()
    if after["group"] > before["group"]:
        return "the control group"
    if after["machine"] > before["machine"]:
        with contextlib.suppress(OSError):
            # dmesg may be missing, and its output may be empty for ordinary users.
            log = subprocess.run(["dmesg"], capture_output=True, text=True).stdout
            if {*map(int, re.findall(r"Killed process (\d+)", log))} & {*processes}:
                return "the system's log"
    return ""


def _kill_count(file: Path) -> int:
    text = file.read_text() if file.exists() else ""
    match = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return int(match[1]) if match else 0
