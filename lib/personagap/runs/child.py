"""The process of one run: ``python -m personagap.runs.child``, which reads its task from stdin."""

import atexit
import contextlib
import json
import os
import re
import shutil
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import LocalHandler, papermill_io
from traitlets.config import Config

from personagap import progress
from personagap.errors import first_line
from personagap.redaction import redact, sanitize
from personagap.runs import forked, report, system
from personagap.runs.folder import LOG, PROGRESS, now, record

HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


class RedactingHandler(LocalHandler):
    """Removes secrets, which a server may have echoed, whenever papermill saves the notebook."""

    def write(self, buf: str, path: str) -> None:
        super().write(redact(buf), path)


class Position:
    """The current position in the notebook, which is written to the progress file, and the kernel
    there.
    """

    def __init__(self, folder: Path):
        self.file, self.section, self.number = folder / PROGRESS, "", 0
        self.memory_kills_before = system.memory_kills()
        self.kernels: list[int] = []

    def on_cell_start(self, cell: nbformat.NotebookNode, cell_index: int) -> None:
        """Update the position; papermill calls this before each cell."""
        if cell.cell_type != "code":
            self.section = (HEADING.findall(cell.source) or [self.section])[-1]
        elif cell.source.strip():
            self.number += 1
            # The kernel's process id must be read while it lives, to identify it after its death.
            self.kernels = [process.pid for process in psutil.Process().children()]
            with contextlib.suppress(OSError):
                # A full disk shall end a run only where it costs a result.
                self.file.write_text(sanitize(str(self)), encoding="utf-8")

    def __str__(self) -> str:
        return f"cell [{self.number}]" + (f", {self.section}" if self.section else "")

    def describe_death(self) -> str:
        """Return where and why the kernel died, in one line."""
        # A killed kernel leaves no message, so the system is asked whether memory ran out.
        source = system.out_of_memory(self.kernels, self.memory_kills_before)
        reason = f"memory ran out, says {source}"
        if not source:
            reason = "it was killed, it crashed, or memory ran out"
        return f"the kernel died in {self}: {reason}"


def die_with_runner(sockets: Path) -> None:
    """End this process and its kernel when the runner ends in any way, which closes the pipe."""
    # Nothing is ever written after the task, so this returns when the other end is closed.
    os.read(0, 1)
    for process in psutil.Process().children(recursive=True):
        # It may have ended together with a process killed before.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    shutil.rmtree(sockets, ignore_errors=True)
    os._exit(1)


def execute(task: dict[str, Any], sockets: Path) -> dict[str, Any]:
    """Execute the notebook and return its ``status``; for a failed run also ``error`` in one line,
    and ``lacks_answers`` if that is the reason.
    """
    partial = Path(task["folder"], ".partial.ipynb")
    position = Position(partial.parent)
    papermill_io.register(task["folder"], RedactingHandler())
    # papermill treats paths as format strings, hence the doubled braces.
    source_and_output = task["notebook"], partial
    paths = [str(path).replace("{", "{{").replace("}", "}}") for path in source_and_output]
    # Socket files, since kernels that start at the same time may race for a TCP port.
    socket = f"{sockets}/kernel"
    manager = {"transport": "ipc", "ip": socket, "connection_file": f"{socket}.json"}
    lacking = False
    try:
        papermill.execute_notebook(
            *paths,
            parameters=task["parameters"],
            kernel_name=task["kernel"],
            language="python",
            progress_bar=False,
            on_cell_start=position.on_cell_start,
            config=Config(KernelManager=manager),
        )
        return {"status": "finished"}
    except PapermillExecutionError as failure:
        last = failure.evalue.strip().rpartition("\n")[2]
        lacking = failure.ename == "Unanswered"
        error = last
        if not lacking and failure.ename != "UserError":
            error = f"{failure.ename}: {last} (in cell [{failure.exec_count}])"
    except DeadKernelError:
        error = position.describe_death()
    except RuntimeError as failure:
        error = f"the kernel did not start: {failure}"
    except OSError as failure:
        error = f"{failure.filename or partial}: {failure.strerror}"
        # The file will have this name when the user reads the message.
        error = error.replace(partial.name, "notebook.ipynb")
    except Exception as failure:
        # From papermill or the kernel's sockets, such as too many open files; the log tells where.
        traceback.print_exc()
        error = f"{type(failure).__name__}: {first_line(failure)}"
    finally:
        rename_partial(partial)
        position.file.unlink(missing_ok=True)
    failed: dict[str, Any] = {"status": "failed", "error": sanitize(error)}
    return failed | ({"lacks_answers": True} if lacking else {})


def rename_partial(partial: Path) -> None:
    """Give the notebook its final name, or delete it if papermill could not write all of it."""
    # papermill rewrites the notebook after each cell, and on a full disk only in part.
    try:
        json.loads(partial.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        partial.unlink(missing_ok=True)
    else:
        os.replace(partial, partial.with_name("notebook.ipynb"))


def main(lock: int | None = None) -> None:
    """Execute the run described by a line of JSON on stdin.

    ``lock`` is given in a fork (`warm`), which then forks again for its kernel.
    """
    task = json.loads(sys.stdin.readline())
    folder, log = Path(task["folder"]), Path(task["folder"], LOG)
    os.chdir(task["cwd"])
    os.environ[progress.FILE] = str(folder / PROGRESS)
    # The runner reports errors, so stderr goes to a log file.
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT, 0o666), 2)
    if lock is not None:
        # Before any thread is started or exit handler registered: in a fork, locks of other threads
        # stay held for ever, and exit handlers would run twice.
        forked.prepare_fork(lock)
    sockets = system.socket_folder()
    atexit.register(shutil.rmtree, sockets, ignore_errors=True)
    threading.Thread(target=die_with_runner, args=[sockets], daemon=True).start()
    try:
        run(task, folder, log, sockets)
    except OSError:
        # run.json could not be written; the runner detects and reports this.
        sys.exit(1)


def run(task: dict[str, Any], folder: Path, log: Path, sockets: Path) -> None:
    """Execute the notebook, write its report, and record how it ended."""
    started = time.monotonic()
    status = execute(task, sockets)
    record(folder, ended=now(), seconds=round(time.monotonic() - started, 2))
    if (folder / "notebook.ipynb").exists():
        try:
            report.write(folder, **status)
        except OSError as failure:
            # For example a full disk. An earlier error of the notebook takes precedence.
            if status["status"] == "finished":
                status = {"status": "failed", "error": f"{failure.filename}: {failure.strerror}"}
    if status["status"] == "finished" or not log.stat().st_size:
        log.unlink()
    else:
        text = redact(log.read_text(encoding="utf-8", errors="replace"))
        log.write_text(text, encoding="utf-8")
    # Last, so that every finished run has its report.
    record(folder, **status)


if __name__ == "__main__":
    main()
