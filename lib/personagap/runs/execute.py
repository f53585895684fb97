"""Execution: each run in a process of its own, watched by its runner and gone when that goes.

papermill is not thread-safe in its working directory (its issues 473, 578), has hung on a killed
kernel (125) and cannot resume (824): a process per run, a pipe that tells it of its runner's
death, and the response store see to these.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.kernelspec import KernelSpecManager

from personagap import sandbox, store
from personagap.errors import UserError
from personagap.paths import CACHE, DATA, DEMO, RESPONSES, ROOT
from personagap.runs.files import warned_if_damaged
from personagap.runs.folder import LOG, PROGRESS, latest_run, now, read_facts, record, unanswered
from personagap.runs.lock import lock
from personagap.runs.request import OUTPUT, Request
from personagap.runs.warm import Copy, Warm

PACKAGES = (
    "personagap",
    "torch",
    "transformers",
    "numpy",
    "pandas",
    "scipy",
    "statsmodels",
    "papermill",
)
#: What an earlier attempt left, removed when a run starts.
PRODUCTS = (
    "tables",
    "figures",
    "report.html",
    "notebook.ipynb",
    ".partial.ipynb",
    "run.json",
    LOG,
    PROGRESS,
)
#: Files of up to so many bytes, and models of any size, are known by their content.
SMALL, WEIGHTS = 2**26, (".safetensors", ".gguf", ".bin")
#: Seconds in which a stopped run must be gone.
GRACE = 5


@dataclass
class Job:
    """A run under way: the process that executes it, and the
    file descriptor that holds its lock.
    """

    request: Request
    process: subprocess.Popen | Copy
    lock: int

    def _let_go(self) -> None:
        """Close the pipe to the process, which takes this for the runner's death."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def stop(self) -> None:
        """End the process and its kernel, which are gone when this
        returns, and say so in ``run.json``.
        """
        self._let_go()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            # It hangs: it ends neither itself nor its kernel, nor what that started.
            for each in _family(self.process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            self.process.wait()
        with contextlib.suppress(OSError):  # a full disk keeps no other run from being stopped
            record(
                self.request.folder,
                status="interrupted",
                error="stopped before its end",
                ended=now(),
            )
        os.close(self.lock)

    def result(self) -> dict[str, Any]:
        """Wait for the end; the contents of ``run.json``, with ``skipped`` false.

        OSError or UserError if that file cannot be written or read, as on a full disk.
        """
        code = self.process.wait()
        self._let_go()
        try:
            facts = read_facts(self.request.folder)
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
    """The facts of a run that is done and has all answers, and
    whose inputs are as they were, else None.
    """
    facts = _done(request)
    return (
        {**facts, "skipped": True}
        if facts and not _again(facts, request, _inputs(request))
        else None
    )


def _done(request: Request) -> dict[str, Any]:
    """The facts of a run that came to its end, else {}."""
    facts = {}
    with warned_if_damaged(request.folder / "run.json"):
        facts = read_facts(request.folder)
    return (
        facts
        if facts.get("status") == "finished" and (request.folder / "report.html").exists()
        else {}
    )


def _again(facts: dict[str, Any], request: Request, after: dict[str, str]) -> str:
    """Why a run that is done should be run again; "" if it need not."""
    if facts.get("source_hash") != request.source_hash:
        return "its notebook was edited"
    if facts.get("unanswered"):
        return unanswered(facts)
    before = facts.get("inputs", {})
    changed = sorted(name for name in before | after if before.get(name) != after.get(name))
    return (
        f"changed since: {', '.join(changed[:3])}{' …' if len(changed) > 3 else ''}"
        if changed
        else ""
    )


def start(request: Request, threads: int | None = None, warm: Warm | None = None) -> Job:
    """Take the run's lock, clear what an earlier attempt left, and start the notebook.

    Parameters
    ----------
    threads : how many threads numerical libraries may use in the kernel, unless OMP_NUM_THREADS is
        set; None leaves that to them.
    warm : whose copy the run's process is, if one can be had.

    `UserError`: the run is under way elsewhere, or its kernel is not installed.
    """
    kernel = request.kernel or request.content["metadata"].get("kernelspec", {}).get(
        "name", "python3"
    )
    if kernel not in (installed := KernelSpecManager().find_kernel_specs()):
        raise UserError(
            f"no kernel {kernel!r}; installed: {', '.join(installed)} (`personagap kernels` "
            "adds ours)"
        )
    if request.asks:
        store.check(RESPONSES)
    descriptor, before, facts = lock(request.folder), _done(request), _facts(request)
    again = (
        {"again": reason} if before and (reason := _again(before, request, facts["inputs"])) else {}
    )
    for path in map(request.folder.joinpath, PRODUCTS):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    record(request.folder, **facts, **again, kernel=kernel)
    process = (warm and warm.copy(descriptor)) or subprocess.Popen(
        # -P: a file in the current folder must not stand in for a module of ours.
        [sys.executable, "-P", "-m", "personagap.runs.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=request.cwd,
        env=environment(threads),
        pass_fds=[descriptor],  # the lock is held until both processes are gone
        start_new_session=True,  # Ctrl-C in the terminal reaches the runner alone
    )
    task = {
        "notebook": str(request.notebook.resolve()),
        "folder": str(request.folder),
        "cwd": str(request.cwd),
        "parameters": {**request.given, OUTPUT: str(request.folder)},
        "kernel": kernel,
    }
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended, as the runner will find
        process.stdin.write(json.dumps(task, default=str).encode() + b"\n")
        process.stdin.flush()
    return Job(request, process, descriptor)


def environment(threads: int | None = None) -> dict[str, str]:
    """That of a run's process and its kernel; ``threads`` as in `start`."""
    # OpenMP's threads spin while they wait for each other, unless told to sleep: beside other work
    # on the machine that made a real model 2.5 times slower. And without the second, kernels warn
    # about frozen modules.
    chosen = {"OMP_WAIT_POLICY": "passive", "PYDEVD_DISABLE_FILE_VALIDATION": "1", **os.environ}
    if threads is None:
        return chosen
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    return dict.fromkeys(names, os.environ.get("OMP_NUM_THREADS", str(threads))) | chosen


def run(request: Request, *, force: bool = False, threads: int | None = None) -> dict[str, Any]:
    """Run a notebook unless it is `finished`; what was answered
    before comes from the response store.

    The contents of ``run.json``: ``status`` "finished" or "failed", ``error`` in one line; and
    ``skipped``.
    """
    if not force and (facts := finished(request)):
        return facts
    job = start(request, threads)
    try:
        return job.result()
    except BaseException:  # Ctrl-C, SIGTERM: leave no process behind
        job.stop()
        raise


def describe(facts: dict[str, Any], folder: Path) -> str:
    """How a run ended, in one line."""
    where = os.path.relpath(folder)
    if facts["status"] != "finished":
        kept = (
            f"; as far as it got: {where}/notebook.ipynb"
            if (folder / "notebook.ipynb").exists()
            else ""
        )
        kept += f"; its stderr: {where}/{LOG}" if (folder / LOG).exists() else ""
        return f"{facts['id']} {facts['status']}: {facts['error']}{kept}"
    if facts["skipped"]:
        edited = (
            ", but the library has changed since"
            if facts.get("library_hash") != _library_hash()
            else ""
        )
        return (
            f"{facts['id']} was finished already{edited} (--force runs it again): "
            f"{where}/report.html"
        )
    again = f" (run again, {facts['again']})" if facts.get("again") else ""
    missing = f", but {unanswered(facts)}: run again" if facts.get("unanswered") else ""
    return (
        f"{facts['id']} finished in {facts['seconds']:.0f} s{again}{missing}: {where}/report.html"
    )


def exit_status(facts: dict[str, Any]) -> int:
    """0: the run finished; 1: it failed; 3: requests are
    unanswered, which a later run asks again.
    """
    if facts["status"] == "finished":
        return 3 if facts.get("unanswered") else 0
    return 3 if facts.get("lacks_answers") else 1


def _facts(request: Request) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        **{
            name: getattr(request, name)
            for name in ("id", "title", "parameters", "changed", "command", "source_hash")
        },
        "paper": request.folder.parts[-3],
        "notebook": os.path.relpath(request.notebook, request.cwd),
        "status": "running",
        "cwd": str(request.cwd),
        "device": request.parameters.get("device"),
        "seed": request.parameters.get("seed"),
        "started": now(),
        **({"sandbox": sandbox.describe()} if "tasks" in request.parameters else {}),
        "inputs": _inputs(request),
        "library_hash": _library_hash(),
        "revision": _revision(),
        "versions": {"python": platform.python_version(), **versions},
    }


def _inputs(request: Request) -> dict[str, str]:
    """Hashes of the project's prompts and small tables, and of what the
    parameters name, whose texts are not read.
    """
    # Those of the demo come below; what was measured or found, by runs too, is no input.
    others = (DEMO, CACHE, DATA / "benchmarks", DATA / "findings")
    folders = [DATA, *(folder for folder in DATA.iterdir() if folder not in others)]
    small = [
        path
        for folder in folders
        for path in folder.glob("*")
        if path.suffix in (".csv", ".txt", ".toml")
    ]
    read = {
        path.relative_to(DATA.parent).as_posix(): _content(path, path.stat())[:16]
        for path in sorted(small)
    }
    written = {request.figures.resolve(), CACHE.resolve()}
    if request.parameters.get("tasks") == "all" and (reason := sandbox.refusal()):
        # A run that left out programs is run again when there is one.
        read["sandbox"] = _digest(reason.encode())
    for notebook in request.reads:
        facts = latest_run(request.figures, notebook, request.parameters.get("data", "demo"))
        read[f"tables of {notebook}"] = (
            _listing(facts["folder"] / "tables", set()) if facts else "none"
        )
    return {**read, "data/demo": _listing(DEMO, written)} | {
        name: _listing(path, written) for name, path in sorted(request.paths.items())
    }


def _listing(place: Path, written: set[Path]) -> str:
    """A hash of the names and `_mark`s of files; hidden ones, and
    what runs have ``written``, do not count.
    """
    found = [] if place.is_dir() else [(place.name, _mark(place))]
    for folder, folders, files in os.walk(place):
        if Path(folder) in written:
            folders.clear()
            continue
        folders[:] = [name for name in sorted(folders) if not name.startswith((".", "__"))]
        for path in (Path(folder, name) for name in sorted(files) if not name.startswith(".")):
            with contextlib.suppress(OSError):  # a link to nowhere
                found.append((str(path.relative_to(place)), _mark(path)))
    return _digest(repr(found).encode())


def _mark(path: Path) -> str:
    """What tells that a file was changed: its content, or of a
    large one that is no model size and time.
    """
    told = path.stat()
    if not path.is_file() or (told.st_size > SMALL and path.suffix not in WEIGHTS):
        return f"{told.st_size} {told.st_mtime_ns}"
    return _content(path, told)


def _content(path: Path, told: os.stat_result) -> str:
    """Hash of a file's content, read once while its size and times
    (of which no program sets the last) stay.
    """
    return _read(path, told.st_size, told.st_mtime_ns, told.st_ctime_ns)


@functools.lru_cache(maxsize=2**16)
def _read(path: Path, *unchanged: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _library_hash() -> str:
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _revision() -> str | None:
    """Git revision of the project, ending in "-dirty" with
    uncommitted changes; None outside a checkout.
    """
    command = [
        "git",
        "-C",
        str(ROOT),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
