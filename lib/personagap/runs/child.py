"""The process in which one run is executed: ``python -m personagap.runs.child TASK``."""

import atexit
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, TextIO

import papermill
import psutil
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import LocalHandler, papermill_io
from traitlets.config import Config

from personagap.leaving import leaving, redacted
from personagap.runs import report
from personagap.runs.folder import LOG, now, record


class Redacting(LocalHandler):
    """Writes a notebook without secrets, which a server may have echoed, each time that papermill saves it."""

    def write(self, buf: str, path: str) -> None:
        super().write(redacted(buf), path)


def die_with_runner(sockets: str) -> None:
    """End this process and its kernel when the runner's end of the pipe closes, however that came about."""
    os.read(0, 1)
    for process in psutil.Process().children(recursive=True):
        process.kill()
    shutil.rmtree(sockets, ignore_errors=True)
    os._exit(1)


def execute(task: dict[str, Any], sockets: str, terminal: TextIO) -> str | None:
    """Execute the notebook; the error in one line, or None."""
    partial = Path(task["folder"], ".partial.ipynb")
    papermill_io.register(task["folder"], Redacting())
    paths = [str(path).replace("{", "{{").replace("}", "}}") for path in (task["notebook"], partial)]
    try:
        papermill.execute_notebook(
            *paths,  # which papermill takes for format strings
            parameters=task["parameters"],
            kernel_name=task["kernel"],
            language="python",
            progress_bar={"file": terminal} if task["progress"] else False,
            # Kernels that start at the same moment have raced for a TCP port; a socket file is the run's own.
            config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
        )
    except PapermillExecutionError as error:
        last = error.evalue.strip().rpartition("\n")[2]
        return last if error.ename == "UserError" else f"{error.ename}: {last} (in cell [{error.exec_count}])"
    except DeadKernelError:
        return "the kernel died: it was killed, it crashed, or memory ran out"
    except RuntimeError as error:
        return f"the kernel did not start: {error}"
    except OSError as error:
        return f"{error.filename or partial}: {error.strerror}".replace(partial.name, "notebook.ipynb")
    finally:
        keep(partial)
    return None


def keep(partial: Path) -> None:
    """Give the notebook its name, unless papermill could not write it whole."""
    try:
        json.loads(partial.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        partial.unlink(missing_ok=True)
    else:
        os.replace(partial, partial.with_name("notebook.ipynb"))


def main() -> None:
    task = json.loads(sys.argv[1])
    folder, sockets = Path(task["folder"]), tempfile.mkdtemp(prefix="personagap-")
    atexit.register(shutil.rmtree, sockets, ignore_errors=True)
    threading.Thread(target=die_with_runner, args=[sockets], daemon=True).start()
    terminal, log = os.fdopen(os.dup(2), "w"), folder / LOG
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)  # what goes wrong is said once, by the runner
    started = time.monotonic()
    error = execute(task, sockets, terminal)
    error = error and leaving(error)
    record(folder, ended=now(), seconds=round(time.monotonic() - started, 2))
    status = {"status": "failed", "error": error} if error else {"status": "finished"}
    if (folder / "notebook.ipynb").exists():
        try:
            report.write(folder, **status)
        except OSError as failure:  # a full disk
            status = {"status": "failed", "error": error or f"{failure.filename}: {failure.strerror}"}
    if status["status"] == "finished" or not log.stat().st_size:
        log.unlink()
    else:
        log.write_text(redacted(log.read_text(encoding="utf-8", errors="replace")), encoding="utf-8")
    record(folder, **status)  # last: a finished run has its report


if __name__ == "__main__":
    try:
        main()
    except OSError:  # run.json could not be written; the runner finds and says so
        sys.exit(1)
