"""Batches: grids of runs, and their execution on this machine or on a Dask cluster."""

import functools
import itertools
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from personagap._reading import read_text
from personagap.errors import UserError, first_line
from personagap.paths import find_notebook
from personagap.runs import cluster, execute, system
from personagap.runs.folder import runs
from personagap.runs.request import Request
from personagap.runs.values import StrictYaml, label_changes, limit_size
from personagap.runs.warm import WarmProcess, can_fork

#: Optional keys of an entry, besides ``notebook``.
OPTIONS = ("parameters", "grid", "kernel")
MAX_RUNS = 10_000  # a grid of more is a slip
COST = ["generations", "tokens", "detectable", "seconds", "pace"]
#: Seconds between checks whether a cluster has workers.
POLL_SECONDS = 30


def read(file: Path, figures: Path) -> list[Request]:
    """Return the runs that a batch file requests, without duplicates.

    The file contains ``runs:``, a list of entries with ``notebook`` (relative to the file, or the
    name of one of the project's) and, as needed, ``parameters`` (the same in every run), ``grid``
    (a list of values for each name; every combination is a run) and ``kernel``.

    `UserError` is raised if the file is malformed, or a notebook or parameter in it does not exist.
    """
    try:
        content = yaml.load(read_text(file), StrictYaml)
        entries = list(limit_size(content["runs"]))
    except yaml.MarkedYAMLError as fault:
        line = fault.problem_mark.line + 1 if fault.problem_mark else 1
        raise UserError(f"{file}, line {line}: {fault.problem or fault.context}") from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError):
        # ValueError: for example, an anchor contains itself.
        raise UserError(f"{file}: not a YAML file with a list under `runs:`") from None
    requests = []
    for number, entry in enumerate(entries, start=1):
        is_entry = isinstance(entry, dict) and "notebook" in entry
        if not is_entry or not entry.keys() <= {"notebook", *OPTIONS}:
            unknown = [f", not {key}" for key in entry if key not in OPTIONS] if is_entry else []
            needs = f"needs `notebook`, and may have {', '.join(OPTIONS)}{''.join(unknown[-1:])}"
            raise UserError(f"{file}, run {number}: {needs}")
        parameters, grid = entry.get("parameters") or {}, entry.get("grid") or {}
        texts = {"notebook": entry["notebook"], "kernel": entry.get("kernel") or ""}
        for name, value in {**texts, "parameters": parameters, "grid": grid}.items():
            kind, needs = (str, "a text") if name in texts else (dict, "lines NAME: VALUE")
            if not isinstance(value, kind):
                raise UserError(f"{file}, run {number}: `{name}` needs {needs}, not {value!r}")
        if not all(isinstance(values, list) and values for values in grid.values()):
            raise UserError(f"{file}, run {number}: each name under `grid` needs a list of values")
        if duplicates := [name for name in grid if name in parameters]:
            problem = f"{duplicates[0]!r} stands under `parameters` and under `grid`: leave one"
            raise UserError(f"{file}, run {number}: {problem}")
        if math.prod(map(len, grid.values())) > MAX_RUNS:
            raise UserError(f"{file}, run {number}: over {MAX_RUNS:,} runs: shorten the lists")
        for values in itertools.product(*grid.values()):
            given = parameters | dict(zip(grid, values, strict=True))
            notebook = find_notebook(file.parent / entry["notebook"], entry["notebook"])
            requests.append(Request(notebook, given, entry.get("kernel"), figures))
    if not requests:
        raise UserError(f"{file}: no entries under `runs:`")
    # Two entries may request the same run; the second would find it locked by the first.
    return list({request.id: request for request in requests}.values())


def _cost(request: Request, read_runs: Callable[[Path], list[dict]]) -> dict[str, Any]:
    """Return `costs.cost` and `costs.expected_time`, or unknown costs with a warning if they fail.

    An invalid value that only the notebook itself can detect must not stop the other runs.
    """
    # Imported here, since it loads modules that a batch with nothing to do does not need.
    from personagap.runs.costs import cost, expected_time

    try:
        if not (costs := cost(request)):
            return {}
        return costs | expected_time(request, costs["generations"], read_runs(request.figures))
    except Exception as error:
        # Unsuitable lists, names or numbers can raise any exception.
        warnings.warn(f"{request.id}: its cost is unknown ({first_line(error)})", stacklevel=3)
        return {"generations": math.inf}


def plan(requests: list[Request], force: bool) -> pd.DataFrame:
    """Return what a batch will do: ``run notebook parameters state`` and `COST`, one row per run.

    Infinite ``generations`` mean that the costs are unknown.
    """
    rows: list[dict] = []
    to_do: list[Request] = []
    # The earlier runs are read only once.
    read_runs = functools.cache(runs)
    ids = [request.id for request in requests]
    parameters = dict(
        zip(ids, label_changes([request.changed for request in requests]), strict=True)
    )
    for request in _in_order(requests):
        # A finished run is out of date if it reads the tables of a run that will be repeated.
        done = not force and not request.reads_from_any(to_do) and execute.finished(request)
        if not done:
            to_do.append(request)
            try:
                execute.kernel_of(request)
            except UserError as error:
                # Only a warning, since a worker of a cluster may have the kernel.
                warnings.warn(f"{request.id}: {error}", stacklevel=2)
        notebook = f"{request.folder.parts[-3]}/{request.notebook.stem}"
        row = {"run": request.id, "notebook": notebook, "parameters": parameters[request.id]}
        state = {"state": "finished"} if done else {"state": "to do", **_cost(request, read_runs)}
        rows.append(row | state)
    # Back from the order of dependencies to the order of the file.
    rows.sort(key=lambda row: ids.index(str(row["run"])))
    return pd.DataFrame(rows).reindex(columns=["run", "notebook", "parameters", "state", *COST])


def run_here(requests: list[Request], jobs: int, force: bool) -> Iterator[dict[str, Any]]:
    """Run on this machine, ``jobs`` at a time, and yield the facts of each run as it ends.

    A run that reads the tables of others starts when these have ended, whether or not they failed.
    Numerical libraries get the cores divided by ``jobs``, or by the number of runs if that is less,
    unless OMP_NUM_THREADS is set. If the caller stops early, so do the runs.
    """
    # More threads than cores would slow down all runs.
    threads = _threads(min(jobs, max(len(requests), 1)))
    waiting = list(requests)
    active: list[execute.Job] = []
    warm = None
    try:
        while waiting or active:
            while len(active) < jobs and (
                request := _pop_ready(waiting, [job.request for job in active])
            ):
                if not force and (facts := execute.finished(request)):
                    yield facts
                    continue
                parent = warm
                # A single run gains nothing from a warm process.
                if warm is None and waiting and can_fork():
                    parent = warm = _start_warm([request, *waiting], threads)
                    if jobs > 1 and (first := _cold_start(request, waiting, force)):
                        waiting.insert(0, request)
                        waiting.remove(first)
                        request, parent = first, None
                try:
                    active.append(execute.start(request, threads, parent))
                except (UserError, OSError) as error:
                    yield _failure(request, error)
            for job in [job for job in active if job.process.poll() is not None]:
                active.remove(job)
                yield _result(job)
            time.sleep(0.05)
    finally:
        for job in active:
            job.stop()
        if warm:
            warm.close()


def _cold_start(request: Request, waiting: list[Request], force: bool) -> Request | None:
    """Return the last run that asks no model and reads no tables, to be started while the warm
    process is still importing; otherwise it would run alone at the end.
    """
    # Without a model the imports are short.
    if not request.asks:
        return None
    independent = (other for other in reversed(waiting) if not (other.asks or other.reads))
    return next((other for other in independent if force or not execute.finished(other)), None)


def _start_warm(requests: list[Request], threads: int) -> WarmProcess:
    modules = ["personagap.models.local"] if any(request.asks for request in requests) else []
    notebooks = [request.notebook for request in requests]
    return WarmProcess(notebooks, modules, system.environment(threads))


def run_on_dask(
    requests: list[Request], address: str, jobs: int, force: bool
) -> Iterator[dict[str, Any]]:
    """Run on a Dask cluster and yield the facts of each run as it ends.

    Parameters
    ----------
    address : address of a scheduler whose workers see the same files and have this package, or
        "local" for ``jobs`` worker processes on this machine. A run whose worker is lost is moved
        to another worker.

    `UserError` is raised if there is no scheduler, or if it is lost. Its workers then stop their
    runs, which resume when they are requested again.
    """
    try:
        from dask.distributed import CancelledError, wait
    except ModuleNotFoundError:
        raise UserError('Dask is not installed: pip install "personagap[dask]"') from None
    options = {"force": force, "threads": _threads(jobs) if address == "local" else None}
    with cluster.connected(address, jobs) as client:
        waiting = list(requests)
        active: dict = {}  # future → request
        while waiting or active:
            while request := _pop_ready(waiting, list(active.values())):
                try:
                    request.folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    yield _failure(request, error)
                    continue
                task = {**options, "key": request.id, "pure": False}
                active[client.submit(execute.run_on_worker, request, **task)] = request
            # A scheduler without workers accepts runs and waits for ever without a message.
            if not client.scheduler_info()["workers"]:
                warning = f"the Dask scheduler at {address} has no workers: runs wait for one"
                warnings.warn(warning, stacklevel=2)
            try:
                ended = wait([*active], timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            except CancelledError:
                problem = f"lost the Dask scheduler at {address}"
                raise UserError(f"{problem}: start it and run the batch again to go on") from None
            for future in ended:
                # From the runner, or from Dask if a run has cost it several workers.
                failure = future.exception()
                yield _failure(active[future], failure) if failure else future.result()
                del active[future]


def _pop_ready(waiting: list[Request], active: list[Request]) -> Request | None:
    """Remove and return the first of ``waiting`` that reads no tables of a pending run."""
    pending = [*waiting, *active]
    ready = (request for request in waiting if not request.reads_from_any(pending))
    # Runs that read each other's tables would wait for ever, so the first one starts anyway.
    request = next(ready, waiting[0] if waiting and not active else None)
    if request:
        waiting.remove(request)
    return request


def _in_order(requests: list[Request]) -> list[Request]:
    """Return the requests in an order in which each follows those whose tables it reads."""
    waiting = list(requests)
    return [request for _ in requests if (request := _pop_ready(waiting, []))]


def _threads(jobs: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # The number of cores may be unknown.
    return max(1, (cores or 1) // jobs)


def _result(job: execute.Job) -> dict[str, Any]:
    """Return a run's facts, or a failure if they cannot be read, as on a full disk."""
    try:
        return job.result()
    except (UserError, OSError) as error:
        return _failure(job.request, error)


def _failure(request: Request, error: Exception) -> dict[str, Any]:
    # Python would add the error number and quotes to the message of the operating system.
    text = first_line(error)
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    return {"id": request.id, "status": "failed", "error": text, "skipped": False}
