"""Execution: each run in a process of its own, watched by its runner and gone when that goes.

papermill is not thread-safe in its working directory (its issues 473, 578), has hung on a killed
kernel (125) and cannot resume (824): a process per run, a pipe that tells it of its runner's
death, and the response store see to these.
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.kernelspec import KernelSpecManager

from personagap import sandbox, store
from personagap.errors import UserError
from personagap.paths import RESPONSES
from personagap.runs import inputs, system
from personagap.runs.files import warned_if_damaged
from personagap.runs.folder import LOG, PROGRESS, now, read_facts, record, unanswered
from personagap.runs.lock import lock
from personagap.runs.request import OUTPUT, Request
from personagap.runs.warm import Copy, Warm

PACKAGES = (
    "personagap", "torch", "transformers", "numpy", "pandas", "scipy", "statsmodels", "papermill",
)  # fmt: skip
#: What an earlier attempt left, removed when a run starts; first what says that it is finished.
PRODUCTS = ["run.json", "report.html", "tables", "figures", "notebook.ipynb", ".partial.ipynb"]
PRODUCTS += [LOG, PROGRESS]
#: Seconds in which a stopped run must be gone, and what was killed must be reaped.
GRACE, REAPED = 5, 5


@dataclass
class Job:
    """A run under way: the process that executes it, the file descriptor that holds its lock."""

    request: Request
    process: subprocess.Popen | Copy
    lock: int

    def _let_go(self) -> None:
        """Close the pipe to the process, which takes this for the runner's death."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def stop(self) -> None:
        """End the process and its kernel, gone when this returns, and say so in ``run.json``."""
        self._let_go()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            # It hangs: it ends neither itself nor its kernel, nor what that started.
            family = _family(self.process.pid)
            for each in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            self.process.wait()
            # On a busy machine a kernel outlives its signal a while, and could still write.
            # Not for ever: where nobody reaps what has lost its parent, it stays a zombie.
            psutil.wait_procs(family, timeout=REAPED)
        with contextlib.suppress(OSError):
            # A full disk keeps no other run from being stopped.
            how = {"status": "interrupted", "error": "stopped before its end"}
            record(self.request.folder, **how, ended=now())
        # Last: from here the run may start anew.
        os.close(self.lock)

    def result(self) -> dict[str, Any]:
        """Wait for the end; the contents of ``run.json``, with ``skipped`` false.

        OSError or UserError if that file cannot be written or read, as on a full disk.
        """
        code = self.process.wait()
        self._let_go()
        try:
            facts = read_facts(self.request.folder)
            # It had no chance to say so itself: killed, or out of memory.
            if facts["status"] == "running":
                error = f"its process ended with code {code} (a negative code is a signal)"
                facts = record(self.request.folder, status="failed", error=error, ended=now())
        finally:
            os.close(self.lock)
        return {**facts, "skipped": False}


def _family(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def finished(request: Request) -> dict[str, Any] | None:
    """The facts of a run that is done and has all answers, and whose inputs are as they were, else
    None.
    """
    facts = _done(request)
    # Inputs are hashed only then: that reads all the data a run names.
    if not facts or _again(facts, request, inputs.hashes(request)):
        return None
    return {**facts, "skipped": True}


def _done(request: Request) -> dict[str, Any]:
    """The facts of a run that came to its end, else {}."""
    facts = {}
    with warned_if_damaged(request.folder / "run.json"):
        facts = read_facts(request.folder)
    if facts.get("status") != "finished":
        return {}
    # The report was there before that status; somebody may have deleted it since.
    return facts if (request.folder / "report.html").exists() else {}


def _again(facts: dict[str, Any], request: Request, after: dict[str, str]) -> str:
    """Why a run that is done should be run again; "" if it need not."""
    if facts.get("source_hash") != request.source_hash:
        return "its notebook was edited"
    if facts.get("unanswered"):
        return unanswered(facts)
    before = facts.get("inputs", {})
    changed = sorted(name for name in before | after if before.get(name) != after.get(name))
    more = " …" if len(changed) > 3 else ""
    return f"changed since: {', '.join(changed[:3])}{more}" if changed else ""


def start(request: Request, threads: int | None = None, warm: Warm | None = None) -> Job:
    """Take the run's lock, clear what an earlier attempt left, and start the notebook.

    Parameters
    ----------
    threads : how many threads numerical libraries may use in the kernel, unless OMP_NUM_THREADS is
        set; None leaves that to them.
    warm : whose copy the run's process is, if one can be had.

    `UserError`: the run is under way elsewhere, or its kernel is not installed.
    """
    # Before its folder is touched: what cannot start leaves the last attempt's results as they are.
    kernel = kernel_of(request)
    if request.asks:
        store.check(RESPONSES)
    # Why it is run again is known until the last attempt is cleared.
    descriptor, before, facts = lock(request.folder), _done(request), _facts(request)
    if before and (reason := _again(before, request, facts["inputs"])):
        facts["again"] = reason
    # All of it: a table of the last attempt beside those of this one would pass for its own.
    # The last, of `atomic_write`, stay where a process was killed.
    half_written = request.folder.glob(".[0-9]*-*")
    for path in [*map(request.folder.joinpath, PRODUCTS), *half_written]:
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except OSError as error:
            # Of what is in a folder the error has the name alone.
            raise OSError(error.errno, error.strerror, str(path)) from None
    record(request.folder, **facts, kernel=kernel)
    process = (warm and warm.copy(descriptor)) or subprocess.Popen(
        # -P: a file in the current folder must not stand in for a module of ours.
        [sys.executable, "-P", "-m", "personagap.runs.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=request.cwd,
        env=system.environment(threads),
        # The lock is held until both processes are gone.
        pass_fds=[descriptor],
        # Ctrl-C in the terminal reaches the runner alone.
        start_new_session=True,
    )
    task = {
        "notebook": str(request.notebook.resolve()),
        "folder": str(request.folder),
        "cwd": str(request.cwd),
        "parameters": {**request.given, OUTPUT: str(request.folder)},
        "kernel": kernel,
    }
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        # The process has ended already, as the runner will find.
        process.stdin.write(json.dumps(task, default=str).encode() + b"\n")
        process.stdin.flush()
    return Job(request, process, descriptor)


def kernel_of(request: Request) -> str:
    """The kernel that a run wants; `UserError` if it is not installed."""
    wanted = request.content["metadata"].get("kernelspec", {})
    kernel = request.kernel or wanted.get("name", "python3")
    if kernel not in (installed := KernelSpecManager().find_kernel_specs()):
        known = f"{', '.join(installed)} (`personagap kernels` adds ours)"
        raise UserError(f"no kernel {kernel!r}; installed: {known}")
    return kernel


def run(request: Request, *, force: bool = False, threads: int | None = None) -> dict[str, Any]:
    """Run a notebook unless it is `finished`; what was answered comes from the response store.

    The contents of ``run.json``: ``status`` "finished" or "failed", ``error`` in one line; and
    ``skipped``.

    `UserError`: the notebook here is another than where it was asked for, as on a worker of a
    cluster that sees other files.
    """
    # Read again: the request came with what was read there.
    if replace(request).source_hash != request.source_hash:
        remedy = "let all see the same files"
        raise UserError(f"{request.notebook} is another here than where the run began: {remedy}")
    if not force and (facts := finished(request)):
        return facts
    job = start(request, threads)
    try:
        return job.result()
    except BaseException:
        # Ctrl-C, SIGTERM: leave no process behind.
        job.stop()
        raise


def run_on_worker(request: Request, **how: Any) -> dict[str, Any]:
    """`run` on a machine of a cluster; `UserError` if it does not see the run's folder."""
    if not request.folder.is_dir():
        # The results would stay where nobody looks.
        place = f"{socket.gethostname()} does not see {request.folder}"
        raise UserError(f"{place}: let all machines of the cluster see the same files")
    return run(request, **how)


def describe(facts: dict[str, Any], folder: Path) -> str:
    """How a run ended, in one line."""
    name, where = facts["id"], os.path.relpath(folder)
    if facts["status"] != "finished":
        # What did not start has left nothing: that is another's, or the last attempt's.
        own = folder if "started" in facts else Path(os.devnull)
        left = {"as far as it got": "notebook.ipynb", "its stderr": LOG}
        kept = {what: file for what, file in left.items() if (own / file).exists()}
        places = "".join(f"; {what}: {where}/{file}" for what, file in kept.items())
        return f"{name} {facts['status']}: {facts['error']}{places}"
    report = f"{where}/report.html"
    if facts["skipped"]:
        same = facts.get("library_hash") == inputs.library_hash()
        edited = "" if same else ", but the library has changed since"
        return f"{name} was finished already{edited} (--force runs it again): {report}"
    again = f" (run again, {facts['again']})" if facts.get("again") else ""
    missing = f", but {unanswered(facts)}: run again" if facts.get("unanswered") else ""
    return f"{name} finished in {facts['seconds']:.0f} s{again}{missing}: {report}"


def exit_status(facts: dict[str, Any]) -> int:
    """0: the run finished; 1: it failed; 3: requests are unanswered, to be asked again."""
    if facts["status"] == "finished":
        return 3 if facts.get("unanswered") else 0
    return 3 if facts.get("lacks_answers") else 1


def _facts(request: Request) -> dict[str, Any]:
    """What ``run.json`` says of a run that starts."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    asked = ("id", "title", "parameters", "changed", "command", "source_hash")
    return {
        **{name: getattr(request, name) for name in asked},
        "paper": request.folder.parts[-3],
        "notebook": os.path.relpath(request.notebook, request.cwd),
        "status": "running",
        "cwd": str(request.cwd),
        "device": request.parameters.get("device"),
        "seed": request.parameters.get("seed"),
        "started": now(),
        # Only notebooks with tasks run programs; finding out what confines them starts one.
        **({"sandbox": sandbox.describe()} if "tasks" in request.parameters else {}),
        "inputs": inputs.hashes(request),
        "library_hash": inputs.library_hash(),
        "revision": inputs.revision(),
        "versions": {"python": platform.python_version(), **versions},
    }
