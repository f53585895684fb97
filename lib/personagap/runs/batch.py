"""Batches: grids of runs, and their execution here or on Dask."""

import asyncio
import contextlib
import functools
import itertools
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from personagap.errors import UserError, first_line
from personagap.paths import find_notebook, regular
from personagap.runs import execute, system
from personagap.runs.folder import runs
from personagap.runs.request import Request
from personagap.runs.values import Yaml, acyclic, told_apart
from personagap.runs.warm import Warm, possible

#: What an entry may hold besides ``notebook``.
OPTIONS = ("parameters", "grid", "kernel")
COST = ["generations", "tokens", "detectable", "seconds", "pace"]
#: Seconds between looks at whether a cluster has workers.
LOOK = 30
#: Seconds in which a scheduler answers.
ANSWERS = 10


def read(file: Path, figures: Path) -> list[Request]:
    """The runs that a batch file asks for, each once.

    The file holds ``runs:``, a list of entries with ``notebook`` (relative to the file, or one of
    the project's by its name) and, as needed, ``parameters`` (the same in every run), ``grid`` (a
    list of values for each name; every combination is a run) and ``kernel``.

    `UserError`: the file is malformed, or a notebook or parameter in it does not exist.
    """
    try:
        entries = list(acyclic(yaml.load(regular(file).read_text(encoding="utf-8"), Yaml)["runs"]))
    except FileNotFoundError:
        raise UserError(f"no batch file {file}") from None
    except yaml.MarkedYAMLError as fault:
        line = fault.problem_mark.line + 1 if fault.problem_mark else 1
        raise UserError(f"{file}, line {line}: {fault.problem or fault.context}") from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError):
        # ValueError: of another encoding, or an anchor that holds itself.
        raise UserError(f"{file}: not a YAML file with a list under `runs:`") from None
    requests = []
    for number, entry in enumerate(entries, start=1):
        named = isinstance(entry, dict) and "notebook" in entry
        if not named or not entry.keys() <= {"notebook", *OPTIONS}:
            needs = f"needs `notebook`, and may have {', '.join(OPTIONS)}"
            raise UserError(f"{file}, run {number}: {needs}")
        parameters, grid = entry.get("parameters") or {}, entry.get("grid") or {}
        texts = {"notebook": entry["notebook"], "kernel": entry.get("kernel") or ""}
        for name, held in {**texts, "parameters": parameters, "grid": grid}.items():
            kind, wanted = (str, "a text") if name in texts else (dict, "lines NAME: VALUE")
            if not isinstance(held, kind):
                raise UserError(f"{file}, run {number}: `{name}` needs {wanted}, not {held!r}")
        if not all(isinstance(values, list) and values for values in grid.values()):
            raise UserError(f"{file}, run {number}: each name under `grid` needs a list of values")
        if twice := [name for name in grid if name in parameters]:
            problem = f"{twice[0]!r} stands under `parameters` and under `grid`: leave one"
            raise UserError(f"{file}, run {number}: {problem}")
        for values in itertools.product(*grid.values()):
            given = parameters | dict(zip(grid, values, strict=True))
            notebook = find_notebook(file.parent / entry["notebook"], entry["notebook"])
            requests.append(Request(notebook, given, entry.get("kernel"), figures))
    if not requests:
        raise UserError(f"{file}: no entries under `runs:`")
    # Two entries may ask for the same run, whose lock the second would find taken.
    return list({request.id: request for request in requests}.values())


def _cost(request: Request, earlier: Callable[[Path], list[dict]]) -> dict[str, Any]:
    """`costs.cost` and `costs.expected`; where that fails a warning: what only a notebook can judge
    stops no other run.
    """
    # And statistics, which a batch with nothing to do does without.
    from personagap.runs.costs import cost, expected

    try:
        if not (priced := cost(request)):
            return {}
        return priced | expected(request, priced["generations"], earlier(request.figures))
    except Exception as error:
        # Anything can raise of what was given for a list, a name or a number.
        warnings.warn(f"{request.id}: its cost is unknown ({first_line(error)})", stacklevel=3)
        return {"generations": math.inf}


def plan(requests: list[Request], force: bool) -> pd.DataFrame:
    """What a batch will do: ``run notebook parameters state`` and `COST`, one row per run.

    Infinite ``generations`` are unknown ones.
    """
    rows: list[dict] = []
    to_do: list[Request] = []
    # What all of them look at is read once.
    earlier = functools.cache(runs)
    ids = [request.id for request in requests]
    parameters = dict(zip(ids, told_apart([one.changed for one in requests]), strict=True))
    for request in _ordered(requests):
        # A run that reads the tables of one to come will find others than it was made from.
        done = not force and not any(map(request.reads_from, to_do)) and execute.finished(request)
        if not done:
            to_do.append(request)
            try:
                execute.kernel_of(request)
            except UserError as error:
                # No more than told: a worker of a cluster may have it.
                warnings.warn(f"{request.id}: {error}", stacklevel=2)
        notebook = f"{request.folder.parts[-3]}/{request.notebook.stem}"
        row = {"run": request.id, "notebook": notebook, "parameters": parameters[request.id]}
        state = {"state": "finished"} if done else {"state": "to do", **_cost(request, earlier)}
        rows.append(row | state)
    # Told in the order of the file, though looked at after those whose tables they read.
    rows.sort(key=lambda row: ids.index(str(row["run"])))
    return pd.DataFrame(rows).reindex(columns=["run", "notebook", "parameters", "state", *COST])


def run_here(requests: list[Request], jobs: int, force: bool) -> Iterator[dict[str, Any]]:
    """Run on this machine, ``jobs`` at a time, and yield the facts of each as it ends.

    A run that reads the tables of others starts when these have ended, well or not. Numerical
    libraries get the cores divided by ``jobs``, or by the number of runs if that is less, unless
    OMP_NUM_THREADS is set. If the caller stops early, so do the runs.
    """
    # More threads than cores slow all of them down.
    threads = _threads(min(jobs, max(len(requests), 1)))
    waiting = list(requests)
    under_way: list[execute.Job] = []
    warm = None
    try:
        while waiting or under_way:
            while len(under_way) < jobs and (
                request := _next(waiting, [job.request for job in under_way])
            ):
                if not force and (facts := execute.finished(request)):
                    yield facts
                    continue
                copied = warm
                # One run alone would wait for imports all the same.
                if warm is None and waiting and possible():
                    copied = warm = _warm([request, *waiting], threads)
                    if jobs > 1 and (early := _early(request, waiting, force)):
                        waiting.insert(0, request)
                        waiting.remove(early)
                        request, copied = early, None
                try:
                    under_way.append(execute.start(request, threads, copied))
                except (UserError, OSError) as error:
                    yield _failure(request, error)
            for job in [job for job in under_way if job.process.poll() is not None]:
                under_way.remove(job)
                yield _result(job)
            time.sleep(0.05)
    finally:
        for job in under_way:
            job.stop()
        if warm:
            warm.close()


def _early(request: Request, waiting: list[Request], force: bool) -> Request | None:
    """Who imports for itself while `Warm` does for all: of those that need no model and nobody's
    tables the last, which would else be under way alone at the end.
    """
    if not request.asks:
        return None
    alone = (one for one in reversed(waiting) if not (one.asks or one.reads))
    return next((one for one in alone if force or not execute.finished(one)), None)


def _warm(requests: list[Request], threads: int) -> Warm:
    """A process that has imported what these runs will, for the most part."""
    modules = ["personagap.models.local"] if any(request.asks for request in requests) else []
    return Warm([request.notebook for request in requests], modules, system.environment(threads))


def run_on_dask(
    requests: list[Request], address: str, jobs: int, force: bool
) -> Iterator[dict[str, Any]]:
    """Run on a Dask cluster and yield the facts of each run as it ends.

    Parameters
    ----------
    address : of a scheduler whose workers see the same files and this package, or "local" for
        ``jobs`` worker processes on this machine. A run whose worker is lost goes to another.

    `UserError`: there is no scheduler, or it was lost; what its workers were at is broken off, and
    resumes when asked for again.
    """
    try:
        from dask.distributed import CancelledError, Client, LocalCluster, wait
        from distributed.comm import connect
    except ModuleNotFoundError:
        raise UserError('Dask is not installed: pip install "personagap[dask]"') from None
    options = {"force": force, "threads": _threads(jobs) if address == "local" else None}
    with contextlib.ExitStack() as stack:
        # What Dask says in pages is said here in a line.
        logging.disable()
        stack.callback(logging.disable, logging.NOTSET)
        try:
            if address == "local":
                size = {"n_workers": jobs, "threads_per_worker": 1, "processes": True}
                # Any port: without a dashboard too Dask serves pages, and warns where another
                # cluster does at its own.
                served = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
                how = {"scheduler_kwargs": served, "silence_logs": logging.CRITICAL}
                cluster = LocalCluster(**size, **how)
                client = stack.enter_context(Client(stack.enter_context(cluster)))
            else:
                # Its own timeout does not end the wait for a server that is none, as a dashboard.
                met = asyncio.run(asyncio.wait_for(connect(address, timeout=ANSWERS), ANSWERS + 5))
                met.abort()
                client = stack.enter_context(Client(address, timeout=ANSWERS))
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"no Dask scheduler at {address}: {first_line(error)}") from None
        waiting = list(requests)
        under_way: dict = {}  # future → request
        while waiting or under_way:
            while request := _next(waiting, list(under_way.values())):
                try:
                    request.folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    yield _failure(request, error)
                    continue
                how = {**options, "key": request.id, "pure": False}
                under_way[client.submit(execute.run_on_worker, request, **how)] = request
            # A scheduler without workers takes runs and says nothing, for ever.
            if not client.scheduler_info()["workers"]:
                told = f"the Dask scheduler at {address} has no workers: runs wait for one"
                warnings.warn(told, stacklevel=2)
            try:
                ended = wait([*under_way], timeout=LOOK, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            except CancelledError:
                problem = f"lost the Dask scheduler at {address}"
                raise UserError(f"{problem}: start it and run the batch again to go on") from None
            for future in ended:
                # The runner's, or Dask's own when a run has cost it several workers.
                failed = future.exception()
                yield _failure(under_way[future], failed) if failed else future.result()
                del under_way[future]


def _next(waiting: list[Request], under_way: list[Request]) -> Request | None:
    """Take the first of ``waiting`` that reads no tables of a run to come; None if none is."""
    to_come = [*waiting, *under_way]
    ready = (one for one in waiting if not (one.reads and any(map(one.reads_from, to_come))))
    # The second: they read each other's.
    request = next(ready, waiting[0] if waiting and not under_way else None)
    if request:
        waiting.remove(request)
    return request


def _ordered(requests: list[Request]) -> list[Request]:
    """The requests, each after those whose tables it reads."""
    waiting = list(requests)
    return [request for _ in requests if (request := _next(waiting, []))]


def _threads(jobs: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # A system may not tell how many it has.
    return max(1, (cores or 1) // jobs)


def _result(job: execute.Job) -> dict[str, Any]:
    """A run's facts, though its disk may be full, which ends that run alone."""
    try:
        return job.result()
    except (UserError, OSError) as error:
        return _failure(job.request, error)


def _failure(request: Request, error: Exception) -> dict[str, Any]:
    # Without the number and quotes that Python puts around what the system says.
    text = first_line(error)
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    return {"id": request.id, "status": "failed", "error": text, "skipped": False}
