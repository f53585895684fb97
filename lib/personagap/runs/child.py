"""The process in which one run is executed: ``python -m personagap.runs.child``, told on stdin what
to do.
"""

import atexit
import contextlib
import json
import os
import re
import shutil
import sys
import threading
import time
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
from personagap.leaving import leaving, redacted
from personagap.runs import forked, report, system
from personagap.runs.folder import LOG, PROGRESS, now, record

HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


class Redacting(LocalHandler):
    """Writes a notebook without secrets, which a server may have echoed, each time that papermill
    saves it.
    """

    def write(self, buf: str, path: str) -> None:
        super().write(redacted(buf), path)


class Position:
    """Where in its notebook a run is, told to who watches it; and how a kernel died there."""

    def __init__(self, folder: Path):
        self.file, self.section, self.number = folder / PROGRESS, "", 0
        self.before = system.memory_kills()
        self.kernels: list[int] = []

    def reach(self, cell: nbformat.NotebookNode, cell_index: int) -> None:
        """A cell's turn has come."""
        if cell.cell_type != "code":
            self.section = (HEADING.findall(cell.source) or [self.section])[-1]
        elif cell.source.strip():
            self.number += 1
            # Known while it lives: once it is dead, nobody can be asked which process it was.
            self.kernels = [process.pid for process in psutil.Process().children()]
            with contextlib.suppress(OSError):
                # A full disk ends a run where it costs a result, not here.
                self.file.write_text(leaving(str(self)), encoding="utf-8")

    def __str__(self) -> str:
        return f"cell [{self.number}]" + (f", {self.section}" if self.section else "")

    def death(self) -> str:
        """What became of the kernel, in a line."""
        witness = system.out_of_memory(self.kernels, self.before)
        # A kernel that is killed says nothing: only the system can tell whether memory ran out.
        how = f"memory ran out, says {witness}"
        if not witness:
            how = "it was killed, it crashed, or memory ran out"
        return f"the kernel died in {self}: {how}"


def die_with_runner(sockets: Path) -> None:
    """End this process and its kernel when the runner's end of the pipe closes, however that came
    about.
    """
    # Nothing is ever written after the task: this returns when the other end is gone.
    os.read(0, 1)
    for process in psutil.Process().children(recursive=True):
        # It went with one that was killed before it.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    shutil.rmtree(sockets, ignore_errors=True)
    os._exit(1)


def execute(task: dict[str, Any], sockets: Path) -> dict[str, Any]:
    """Execute the notebook; ``status``, and of a failed run ``error`` in one line, and whether
    answers are lacking.
    """
    partial = Path(task["folder"], ".partial.ipynb")
    position = Position(partial.parent)
    papermill_io.register(task["folder"], Redacting())
    # papermill takes paths for format strings, hence the doubled braces.
    both = task["notebook"], partial
    paths = [str(path).replace("{", "{{").replace("}", "}}") for path in both]
    lacking = False
    try:
        papermill.execute_notebook(
            *paths,
            parameters=task["parameters"],
            kernel_name=task["kernel"],
            language="python",
            progress_bar=False,
            on_cell_start=position.reach,
            # Kernels that start at the same moment have raced for a TCP port; a socket file is the
            # run's own.
            config=Config(
                KernelManager={
                    "transport": "ipc",
                    "ip": f"{sockets}/kernel",
                    "connection_file": f"{sockets}/kernel.json",
                }
            ),
        )
        return {"status": "finished"}
    except PapermillExecutionError as failure:
        last = failure.evalue.strip().rpartition("\n")[2]
        lacking = failure.ename == "Unanswered"
        users = lacking or failure.ename == "UserError"
        error = last if users else f"{failure.ename}: {last} (in cell [{failure.exec_count}])"
    except DeadKernelError:
        error = position.death()
    except RuntimeError as failure:
        error = f"the kernel did not start: {failure}"
    except OSError as failure:
        error = f"{failure.filename or partial}: {failure.strerror}"
        # The name that the user will find it under.
        error = error.replace(partial.name, "notebook.ipynb")
    finally:
        keep(partial)
        position.file.unlink(missing_ok=True)
    failed: dict[str, Any] = {"status": "failed", "error": leaving(error)}
    return failed | ({"lacks_answers": True} if lacking else {})


def keep(partial: Path) -> None:
    """Give the notebook its name, unless papermill could not write it whole."""
    # papermill writes the notebook anew after each cell, and a full disk leaves half of it.
    try:
        json.loads(partial.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        partial.unlink(missing_ok=True)
    else:
        os.replace(partial, partial.with_name("notebook.ipynb"))


def main(lock: int | None = None) -> None:
    """Execute the run that a line of stdin tells of; a copy (`warm`), which holds ``lock``, copies
    itself.
    """
    task = json.loads(sys.stdin.readline())
    folder, log = Path(task["folder"]), Path(task["folder"], LOG)
    os.chdir(task["cwd"])
    os.environ[progress.FILE] = str(folder / PROGRESS)
    # What goes wrong is said once, by the runner.
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT, 0o666), 2)
    if lock is not None:
        # While there is one thread, and nothing to be done at the end: a copy finds the locks of
        # other threads held for ever, and would do again what is to be done at the end.
        forked.offer(lock)
    sockets = system.socket_folder()
    atexit.register(shutil.rmtree, sockets, ignore_errors=True)
    threading.Thread(target=die_with_runner, args=[sockets], daemon=True).start()
    try:
        run(task, folder, log, sockets)
    except OSError:
        # run.json could not be written, as the runner will find and say.
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
            # A full disk.
            if status["status"] == "finished":
                # Else the first error is the one to tell.
                status = {"status": "failed", "error": f"{failure.filename}: {failure.strerror}"}
    if status["status"] == "finished" or not log.stat().st_size:
        log.unlink()
    else:
        said = redacted(log.read_text(encoding="utf-8", errors="replace"))
        log.write_text(said, encoding="utf-8")
    # Last: a finished run has its report.
    record(folder, **status)


if __name__ == "__main__":
    main()
