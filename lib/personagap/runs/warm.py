"""A warm process, which has imported what the runs of a batch need and is forked for each run.

Imports take most of the time of a short run. A batch has one warm process, which forks a process
for each run (`child`); that forks once more for its kernel (`forked`). Where forking is not
possible, each run does its own imports.
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

#: The packages that are imported in advance: their import starts no thread.
PACKAGES = [
    "matplotlib", "numpy", "pandas", "personagap", "scipy", "sklearn", "statsmodels", "torch",
    "transformers",
]  # fmt: skip


def can_fork() -> bool:
    """Return whether a warm process can be used: on Linux, and without a GPU, since CUDA does not
    survive a fork.
    """
    return hasattr(os, "pidfd_open") and not Path("/proc/driver/nvidia").exists()


class ForkedRun:
    """A run's process, with the part of the interface of ``subprocess.Popen`` that is needed."""

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
                # Nothing arrives if the warm process, which reports the status, was killed too.
                self.returncode = int(self._status.read() or -signal.SIGKILL)
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class WarmProcess:
    """A process that imports ``modules`` and what the notebooks import, to be forked for runs."""

    def __init__(
        self, notebooks: Iterable[Path], modules: Iterable[str], environment: Mapping[str, str]
    ):
        self._socket, server = socket.socketpair()
        arguments = json.dumps([*map(str, notebooks)]), json.dumps([*modules])
        with server:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "personagap.runs.warm", *arguments],
                stdin=server.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                # Ctrl-C in the terminal shall reach only the runner.
                start_new_session=True,
            )

    def fork(self, lock: int) -> ForkedRun | None:
        """Fork a process for a run that holds ``lock``, once everything is imported.

        Return None if the warm process has ended.
        """
        # Pipes are pairs (read end, write end).
        stdin, status = os.pipe(), os.pipe()
        try:
            socket.send_fds(self._socket, [b"."], [stdin[0], lock, status[1]])
            pid = self._socket.recv(16)
        except OSError:
            pid = b""
        # The fork has its own copies of these. While this process held the write end of a pipe, its
        # reader would never see the end of the file.
        for descriptor in (stdin[0], status[1]) if pid else (*stdin, *status):
            os.close(descriptor)
        return ForkedRun(int(pid), stdin[1], status[0]) if pid else None

    def close(self) -> None:
        """End the process, after the runs forked from it."""
        self._process.kill()
        self._process.wait()
        self._socket.close()


def serve(notebooks: list[str], modules: list[str]) -> None:
    """Import, then fork this process for each triple of descriptors that arrives: the run's stdin,
    its lock, and a pipe for its exit status.

    The fork must happen outside any ``with`` or ``try``, since the forked process returns from this
    function too.
    """
    requests = socket.socket(fileno=os.dup(0))
    preload(modules, map(Path, notebooks))
    from personagap.runs import child

    # The process id and status pipe of each run, by the descriptor that shows its end.
    runs: dict[int, tuple[int, int]] = {}
    # Otherwise the first garbage collection in a fork would copy all memory pages.
    gc.freeze()
    # A fork could never get a lock that another thread holds. With several threads, this process
    # therefore ends, and the runs do their own imports.
    while threading.active_count() == 1:
        ready = select.select([requests.fileno(), *runs], [], [])[0]
        for ended in runs.keys() & {*ready}:
            _report_exit(*runs.pop(ended))
            os.close(ended)
        if requests.fileno() not in ready:
            continue
        _, descriptors, *_ = socket.recv_fds(requests, 1, 3)
        if not descriptors:
            # The runner has ended, which its runs detect themselves.
            return
        stdin, lock, status = descriptors
        pid = os.fork()
        if not pid:
            os.setsid()
            os.dup2(stdin, 0)
            for descriptor in (stdin, status, *runs, *(other for _, other in runs.values())):
                os.close(descriptor)
            requests.close()
            return child.main(lock)
        runs[os.pidfd_open(pid)] = pid, status
        os.close(stdin)
        os.close(lock)
        requests.send(str(pid).encode())


def _report_exit(pid: int, status: int) -> None:
    """Write the exit code of a run's process to the pipe ``status``."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError), os.fdopen(status, "wb") as pipe:
        pipe.write(str(code).encode())


def preload(modules: Iterable[str], notebooks: Iterable[Path]) -> None:
    """Import ``modules`` and what the notebooks import; errors are left to the notebooks."""
    # Kernels set this too, but it must be set before matplotlib is imported.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    namespace: dict[str, object] = {}
    sources = (path.read_text(encoding="utf-8") for path in notebooks)
    statements = [statement for source in sources for statement in imports(source)]
    for statement in [*(f"import {name}" for name in modules), *statements]:
        with contextlib.suppress(Exception):
            exec(statement, namespace)


def imports(notebook: str) -> list[str]:
    """Return the statements of a notebook that import from `PACKAGES`, followed by its dotted
    names, since submodules of this package are imported when they are first used.
    """
    statements: list[str] = []
    dotted_names: list[str] = []
    for cell in json.loads(notebook)["cells"]:
        source = "".join(cell["source"]) if cell["cell_type"] == "code" else ""
        # A SyntaxError means that a cell has more than Python, such as a magic command.
        with contextlib.suppress(SyntaxError):
            for node in ast.walk(ast.parse(source)):
                match node:
                    case ast.Import([ast.alias(name), *_]) | ast.ImportFrom(str(name)):
                        if name.partition(".")[0] in PACKAGES:
                            statements.append(ast.unparse(node))
                    case ast.Attribute(ast.Name() | ast.Attribute(ast.Name())):
                        dotted_names.append(ast.unparse(node))
    return [*dict.fromkeys(statements), *dict.fromkeys(dotted_names)]


if __name__ == "__main__":
    serve(*map(json.loads, sys.argv[1:]))
