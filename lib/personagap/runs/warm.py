"""Runs whose process begins with its imports done: a copy of one process that has imported what all
of them need.

Imports are most of what a short run does. A batch has one such process, which copies itself for
each run (`child`); that copies itself once more for its kernel (`forked`). Where there can be none,
runs import for themselves.
"""

import ast
import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

#: What is imported beforehand of what notebooks import: packages that start no thread when they are
#: imported.
PACKAGES = [
    "matplotlib", "numpy", "pandas", "personagap", "scipy", "sklearn", "statsmodels", "torch",
    "transformers",
]  # fmt: skip


def possible() -> bool:
    """Whether such a process can be copied: on Linux, and not beside a GPU, whose CUDA would not
    survive it.
    """
    return hasattr(os, "pidfd_open") and not Path("/proc/driver/nvidia").exists()


class Copy:
    """A run's process, with what of a ``subprocess.Popen`` the runner uses."""

    def __init__(self, pid: int, stdin: int, status: int):
        self.pid, self.stdin = pid, os.fdopen(stdin, "wb")
        self.returncode: int | None = None
        self._status = os.fdopen(status, "rb")

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a run", timeout or 0)
            with self._status:
                # Nothing comes if the process that would tell was killed too.
                self.returncode = int(self._status.read() or -signal.SIGKILL)
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class Warm:
    """A process that imports what these notebooks do, and ``modules``, to be copied for runs."""

    def __init__(
        self, notebooks: Iterable[Path], modules: Iterable[str], environment: Mapping[str, str]
    ):
        self._socket, theirs = socket.socketpair()
        told = json.dumps([*map(str, notebooks)]), json.dumps([*modules])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "personagap.runs.warm", *told],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                # Ctrl-C in the terminal reaches the runner alone.
                start_new_session=True,
            )

    def copy(self, lock: int) -> Copy | None:
        """A new process, for a run that holds ``lock``, once everything is imported; None if that
        process is gone.
        """
        (reads, writes), (hears, tells) = os.pipe(), os.pipe()
        try:
            socket.send_fds(self._socket, [b"."], [reads, lock, tells])
            pid = self._socket.recv(16)
        except OSError:
            pid = b""
        # The copy has its own of these; who keeps an end open never hears that the other is closed.
        for descriptor in (reads, tells) if pid else (reads, writes, hears, tells):
            os.close(descriptor)
        return Copy(int(pid), writes, hears) if pid else None

    def close(self) -> None:
        """End the process; its copies have ended."""
        self._process.kill()
        self._process.wait()
        self._socket.close()


def serve(notebooks: list[str], modules: list[str]) -> None:
    """Import, and then copy this process for each triple of descriptors that comes: stdin, lock,
    who hears of its end.

    Nothing here is held (``with``, ``try``) while a process is copied: the copy leaves by the same
    way.
    """
    asked = socket.socket(fileno=os.dup(0))
    prepare(modules, map(Path, notebooks))
    from personagap.runs import child

    runs: dict[int, tuple[int, int]] = {}
    # Else the first collection in a copy would copy all pages.
    gc.freeze()
    # With another thread a copy could find a lock held for ever: then runs import for themselves.
    while threading.active_count() == 1:
        ready = select.select([asked.fileno(), *runs], [], [])[0]
        for ended in runs.keys() & {*ready}:
            _tell(*runs.pop(ended))
            os.close(ended)
        if asked.fileno() not in ready:
            continue
        _, descriptors, *_ = socket.recv_fds(asked, 1, 3)
        if not descriptors:
            # The runner is gone, as its runs see for themselves.
            return
        stdin, lock, tells = descriptors
        pid = os.fork()
        if not pid:
            os.setsid()
            os.dup2(stdin, 0)
            for descriptor in (stdin, tells, *runs, *(each for _, each in runs.values())):
                os.close(descriptor)
            asked.close()
            return child.main(lock)
        runs[os.pidfd_open(pid)] = pid, tells
        os.close(stdin)
        os.close(lock)
        asked.send(str(pid).encode())


def _tell(pid: int, tells: int) -> None:
    """Tell how a run's process ended."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError), os.fdopen(tells, "wb") as hears:
        hears.write(str(code).encode())


def prepare(modules: Iterable[str], notebooks: Iterable[Path]) -> None:
    """Import ``modules``, and what these notebooks will; what cannot be imported fails where it is
    needed.
    """
    # As a kernel does; but it must be said before matplotlib is imported.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    names: dict[str, object] = {}
    sources = (path.read_text(encoding="utf-8") for path in notebooks)
    named = [statement for source in sources for statement in imports(source)]
    for statement in [*(f"import {name}" for name in modules), *named]:
        with contextlib.suppress(Exception):
            exec(statement, names)


def imports(notebook: str) -> list[str]:
    """The statements of a notebook that import from `PACKAGES`, and then names with dots, as ours
    import on demand.
    """
    found: tuple[list[str], list[str]] = [], []
    for cell in json.loads(notebook)["cells"]:
        with contextlib.suppress(SyntaxError):
            # A cell may hold more than Python, such as a magic.
            for node in ast.walk(
                ast.parse("".join(cell["source"]) if cell["cell_type"] == "code" else "")
            ):
                match node:
                    case ast.Import([ast.alias(name), *_]) | ast.ImportFrom(str(name)):
                        if name.partition(".")[0] in PACKAGES:
                            found[0].append(ast.unparse(node))
                    case ast.Attribute(ast.Name() | ast.Attribute(ast.Name())):
                        found[1].append(ast.unparse(node))
    return [statement for part in found for statement in dict.fromkeys(part)]


if __name__ == "__main__":
    serve(*map(json.loads, sys.argv[1:]))
