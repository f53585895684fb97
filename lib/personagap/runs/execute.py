"""Execution of runs, each in its own process, which its runner watches and which ends with it.

papermill's working directory is not thread-safe (its issues 473, 578), it has hung on a killed
kernel (125) and it cannot resume (824). One process per run, a pipe that closes when the runner
dies, and the response store solve these problems.
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
from personagap.runs.warm import ForkedRun, WarmProcess

PACKAGES = (
    "personagap", "torch", "transformers", "numpy", "pandas", "scipy", "statsmodels", "papermill",
)  # fmt: skip
#: Products of an earlier attempt, which are removed when a run starts; run.json, which has the
#: status, comes first.
PRODUCTS = ["run.json", "report.html", "tables", "figures", "notebook.ipynb", ".partial.ipynb"]
PRODUCTS += [LOG, PROGRESS]
#: Seconds to wait for a stopped run to end, and for killed processes to be reaped.
GRACE, REAPED = 5, 5


@dataclass
class Job:
    """A current run: the process that executes it, and the file descriptor that holds its lock."""

    request: Request
    process: subprocess.Popen | ForkedRun
    lock: int

    def _close_pipe(self) -> None:
        """Close the pipe to the process, which then ends itself."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def stop(self) -> None:
        """End the process and its kernel, wait for them, and record this in ``run.json``."""
        self._close_pipe()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            # The process hangs, so it and all its descendants are killed.
            processes = _process_tree(self.process.pid)
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait()
            # On a busy machine a killed kernel lives on for a while, and could still write. The
            # timeout is for orphans that nobody reaps, which stay zombies.
            psutil.wait_procs(processes, timeout=REAPED)
        with contextlib.suppress(OSError, UserError):
            # A full disk or a deleted folder must not keep other runs from being stopped.
            status = {"status": "interrupted", "error": "stopped before its end"}
            record(self.request.folder, **status, ended=now())
        # Last, since from now on the run may start again.
        os.close(self.lock)

    def result(self) -> dict[str, Any]:
        """Wait for the end, and return the contents of ``run.json``, with ``skipped`` false.

        OSError or UserError is raised if that file cannot be written or read, as on a full disk.
        """
        code = self.process.wait()
        self._close_pipe()
        try:
            facts = read_facts(self.request.folder)
            if "status" not in facts:
                raise UserError(f"{self.request.folder} was deleted during the run: run it again")
            # The process was killed, perhaps for lack of memory, before it could record its end.
            if facts["status"] == "running":
                error = f"its process ended with code {code} (a negative code is a signal)"
                facts = record(self.request.folder, status="failed", error=error, ended=now())
        finally:
            os.close(self.lock)
            # The number may be that of another file afterwards.
            self.lock = -1
        return {**facts, "skipped": False}


def _process_tree(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def finished(request: Request) -> dict[str, Any] | None:
    """Return the facts of a run that is finished with all answers and whose inputs are unchanged,
    else None.
    """
    facts = _finished_facts(request)
    # Inputs are hashed only for a finished run, since that reads all data the run names.
    if not facts or _rerun_reason(facts, request, inputs.hashes(request)):
        return None
    return {**facts, "skipped": True}


def _finished_facts(request: Request) -> dict[str, Any]:
    """Return the facts of a finished run, else {}."""
    facts = {}
    with warned_if_damaged(request.folder / "run.json"):
        facts = read_facts(request.folder)
    if facts.get("status") != "finished":
        return {}
    # The report was written before that status, but may have been deleted since.
    return facts if (request.folder / "report.html").exists() else {}


def _rerun_reason(facts: dict[str, Any], request: Request, after: dict[str, str]) -> str:
    """Return why a finished run has to be repeated, "" if it does not."""
    if facts.get("source_hash") != request.source_hash:
        return "its notebook was edited"
    if facts.get("unanswered"):
        return unanswered(facts)
    before = facts.get("inputs", {})
    changed = sorted(name for name in before | after if before.get(name) != after.get(name))
    more = " …" if len(changed) > 3 else ""
    return f"changed since: {', '.join(changed[:3])}{more}" if changed else ""


def start(request: Request, threads: int | None = None, warm: WarmProcess | None = None) -> Job:
    """Lock the run, remove the products of an earlier attempt, and start the notebook.

    Parameters
    ----------
    threads : how many threads numerical libraries may use in the kernel, unless OMP_NUM_THREADS is
        set; None leaves that to them.
    warm : the process from which the run's process is forked, if possible.

    Raises
    ------
    UserError : the run is executed elsewhere at the moment, or its kernel is not installed.
    """
    # Checked before the folder is changed, so that the results of the last attempt are kept if the
    # run cannot start.
    kernel = kernel_of(request)
    if request.asks:
        store.check(RESPONSES)
    # The reason for the repetition must be found before the last attempt is removed.
    descriptor, before = lock(request.folder), _finished_facts(request)
    facts = _initial_facts(request)
    if before and (reason := _rerun_reason(before, request, facts["inputs"])):
        facts["again"] = reason
    # All products are removed: a remaining table would be taken for one of this attempt. Killed
    # processes may also have left temporary files of `atomic_write`.
    temporary = request.folder.glob(".[0-9]*-*")
    for path in [*map(request.folder.joinpath, PRODUCTS), *temporary]:
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except OSError as error:
            # The error may have only a bare file name from inside a folder, without its path.
            raise OSError(error.errno, error.strerror, str(path)) from None
    record(request.folder, **facts, kernel=kernel)
    process = (warm and warm.fork(descriptor)) or subprocess.Popen(
        # -P: a file in the current folder must not shadow a module.
        [sys.executable, "-P", "-m", "personagap.runs.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=request.cwd,
        env=system.environment(threads),
        # The lock is held until this process and the run's process have ended.
        pass_fds=[descriptor],
        # Ctrl-C in the terminal shall reach only the runner.
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
        # The process has ended already, which the runner will detect.
        process.stdin.write(json.dumps(task, default=str).encode() + b"\n")
        process.stdin.flush()
    return Job(request, process, descriptor)


def kernel_of(request: Request) -> str:
    """Return the name of a run's kernel; raise `UserError` if it is not installed."""
    kernelspec = request.content["metadata"].get("kernelspec", {})
    kernel = request.kernel or kernelspec.get("name", "python3")
    if kernel not in (installed := KernelSpecManager().find_kernel_specs()):
        known = f"{', '.join(installed)} (`personagap kernels` adds ours)"
        raise UserError(f"no kernel {kernel!r}; installed: {known}")
    return kernel


def run(request: Request, *, force: bool = False, threads: int | None = None) -> dict[str, Any]:
    """Run a notebook unless it is `finished`; stored answers are reused.

    Return the contents of ``run.json`` (``status`` is "finished" or "failed", ``error`` one line)
    and ``skipped``.

    `UserError` is raised if the notebook differs from the one that was requested, as on a worker of
    a cluster that sees other files.
    """
    # The copy reads the notebook again, as the request may come from another machine.
    if replace(request).source_hash != request.source_hash:
        remedy = "let all see the same files"
        raise UserError(f"{request.notebook} is another here than where the run began: {remedy}")
    if not force and (facts := finished(request)):
        return facts
    job = start(request, threads)
    try:
        return job.result()
    except BaseException:
        # On Ctrl-C or SIGTERM, leave no process behind. Without a lock it has ended already.
        if job.lock >= 0:
            job.stop()
        raise


def run_on_worker(request: Request, **how: Any) -> dict[str, Any]:
    """`run` on a machine of a cluster; `UserError` if it does not see the run's folder."""
    if not request.folder.is_dir():
        # The results would stay on this machine, where nobody looks for them.
        problem = f"{socket.gethostname()} does not see {request.folder}"
        raise UserError(f"{problem}: let all machines of the cluster see the same files")
    return run(request, **how)


def describe(facts: dict[str, Any], folder: Path) -> str:
    """Describe in one line how a run ended."""
    name, place = facts["id"], os.path.relpath(folder)
    if facts["status"] != "finished":
        labels = {"notebook.ipynb": "as far as it got", LOG: "its stderr"}
        # If this run did not start, files in its folder belong to another run or attempt.
        files = [file for file in labels if "started" in facts and (folder / file).exists()]
        hints = "".join(f"; {labels[file]}: {place}/{file}" for file in files)
        return f"{name} {facts['status']}: {facts['error']}{hints}"
    report = f"{place}/report.html"
    if facts["skipped"]:
        same = facts.get("library_hash") == inputs.library_hash()
        edited = "" if same else ", but the library has changed since"
        return f"{name} was finished already{edited} (--force runs it again): {report}"
    again = f" (run again, {facts['again']})" if facts.get("again") else ""
    missing = f", but {unanswered(facts)}: run again" if facts.get("unanswered") else ""
    return f"{name} finished in {facts['seconds']:.0f} s{again}{missing}: {report}"


def exit_status(facts: dict[str, Any]) -> int:
    """Return 0 if the run finished, 1 if it failed, and 3 if it has unanswered requests, which the
    same command sends again.
    """
    if facts["status"] == "finished":
        return 3 if facts.get("unanswered") else 0
    return 3 if facts.get("lacks_answers") else 1


def _initial_facts(request: Request) -> dict[str, Any]:
    """Return the contents of ``run.json`` at the start of a run."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    properties = ("id", "title", "parameters", "changed", "command", "source_hash")
    return {
        **{name: getattr(request, name) for name in properties},
        "paper": request.folder.parts[-3],
        "notebook": os.path.relpath(request.notebook, request.cwd),
        "status": "running",
        "cwd": str(request.cwd),
        "device": request.parameters.get("device"),
        "seed": request.parameters.get("seed"),
        "started": now(),
        # Only notebooks with tasks run programs, and describing the sandbox starts one.
        **({"sandbox": sandbox.describe()} if "tasks" in request.parameters else {}),
        "inputs": inputs.hashes(request),
        "library_hash": inputs.library_hash(),
        "revision": inputs.revision(),
        "versions": {"python": platform.python_version(), **versions},
    }
