"""Batches of runs: expansion, cost, failures, resumption, Dask."""

import contextlib
import json
import math
import os
import re
import socket
import subprocess
import sys

import numpy as np
import psutil
import pytest
import yaml
from click.testing import CliRunner
from notebook_helpers import COMMAND, HANGS_ONCE, has_exited, wait_for, write_notebook

from personagap.cli import _print_plan, main
from personagap.errors import UserError
from personagap.paths import FIGURES, NOTEBOOKS, ROOT
from personagap.runs import batch, cluster, execute, inputs
from personagap.runs.costs import cost
from personagap.runs.request import Request

#: Records that it ran and its number of threads; fails for n = 0, and hangs once for n = 2.
VARIED = f"""
import os
with open("log", "a") as log:
    log.write(f"{{n}} {{os.environ['OMP_NUM_THREADS']}};")
assert n, "n is zero"
n == 2 and exec({HANGS_ONCE!r})
"""


def write_batch(folder, *entries):
    path = folder / "batch.yaml"
    path.write_text(yaml.safe_dump({"runs": list(entries)}, sort_keys=False))
    return path


def test_project_notebook_is_found_by_name_from_any_folder(tmp_path):
    write_notebook(tmp_path / "2_mitigation.ipynb")
    entries = [{"notebook": name} for name in ("recentering/3_response", "2_mitigation.ipynb")]
    found = [run.notebook for run in batch.read(write_batch(tmp_path, *entries), tmp_path)]
    ours = NOTEBOOKS / "recentering" / "3_response.ipynb"
    assert found == [ours, tmp_path / "2_mitigation.ipynb"]


def test_grids_expand_to_distinct_runs(tmp_path):
    write_notebook(tmp_path / "p" / "1.ipynb", parameters='model = "demo"\nn = 3')
    entry = {"notebook": "p/1.ipynb", "grid": {"n": [1, 2, 3], "model": ["demo", "x"]}}
    requests = batch.read(
        write_batch(tmp_path, entry, {"notebook": "p/1.ipynb", "parameters": {"n": 3}}), tmp_path
    )
    assert [request.parameters for request in requests] == [
        {"model": model, "n": n} for n in (1, 2, 3) for model in ("demo", "x")
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("- a", "not a YAML file with a list under `runs:`"),
        ("runs: [{}]", "run 1: needs `notebook`"),
        (
            "runs: [{notebook: p/1.ipynb, grids: {}}]",
            "run 1: needs `notebook`, and may have parameters, grid, kernel, not grids",
        ),
        (
            "runs: [{notebook: p/1.ipynb, grid: {n: 3}}]",
            "run 1: each name under `grid` needs a list",
        ),
        ("runs: [{notebook: p/1.ipynb, parameters: {m: 3}}]", "no parameter 'm'"),
        ("runs: [{notebook: p/2.ipynb}]", None),
        ("runs: [{notebook: 3}]", "run 1: `notebook` needs a text, not 3"),
        ("runs: [{notebook: p/1.ipynb, kernel: 3}]", "run 1: `kernel` needs a text, not 3"),
        (
            "runs: [{notebook: p/1.ipynb, parameters: [a]}]",
            "run 1: `parameters` needs lines NAME: VALUE",
        ),
        ("runs: [{notebook: p/1.ipynb, grid: [a]}]", "run 1: `grid` needs lines NAME: VALUE"),
        (
            "runs: [{notebook: p/1.ipynb, grid: {n: []}}]",
            "run 1: each name under `grid` needs a list",
        ),
        (
            "runs: [{notebook: p/1.ipynb, parameters: {n: [1]}}]",
            r"1.ipynb: n is \[1\]: give a whole number",
        ),
        (
            "runs: [{notebook: p/1.ipynb, parameters: {n: 1}, grid: {n: [1, 2]}}]",
            "run 1: 'n' stands under `parameters` and under `grid`: leave one",
        ),
        ("runs: []", "no entries under `runs:`"),
        ("runs:", "not a YAML file with a list under `runs:`"),
        ("runs: [{notebook: p/1.ipynb}]".encode("utf-16"), "save it as UTF-8"),
    ],
)
def test_invalid_batch_file_is_a_user_error(tmp_path, text, error):
    write_notebook(tmp_path / "p" / "1.ipynb")
    (tmp_path / "batch.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=error or "no notebook"):
        batch.plan(batch.read(tmp_path / "batch.yaml", tmp_path), force=False)


def test_empty_grid_is_one_run(tmp_path):
    write_notebook(tmp_path / "p" / "1.ipynb")
    entry = {"notebook": "p/1.ipynb", "grid": None, "parameters": None}
    assert len(batch.read(write_batch(tmp_path, entry), tmp_path)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"personas": ["nobody"]},
        {"data": "nowhere"},
        {"data": "hub", "tasks": ["nonsense"]},
    ],
)
def test_unknown_cost_of_one_run_makes_the_total_unknown(wrong, capsys):
    notebook = NOTEBOOKS / "safety_utility" / "1_personalization_bias.ipynb"
    bad, good = (Request(notebook, given | {"seed": 1}) for given in (wrong, {}))
    with pytest.warns(UserWarning, match=f"{bad.id}: its cost is unknown"):
        plan = batch.plan([bad, good], force=True).set_index("run")
    assert plan.loc[bad.id, "generations"] == math.inf and plan.loc[good.id, "generations"] > 0
    with pytest.warns(UserWarning, match="unknown"):
        _print_plan([bad, good], force=True)
    assert "at most an unknown number of generations" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"items_per_task": "abc"}, "a whole number of at least 1 or None"),
        ({"items_per_task": -1}, "a whole number of at least 1 or None"),
        ({"runs": 0}, "a whole number of at least 1"),
        ({"personas": [5]}, "a text or a list of texts"),
    ],
)
def test_invalid_parameter_is_refused_before_any_run(tmp_path, wrong, expected):
    notebook = str(NOTEBOOKS / "safety_utility" / "1_personalization_bias.ipynb")
    entries = [{"notebook": notebook}, {"notebook": notebook, "parameters": wrong}]
    ((name, value),) = wrong.items()
    message = f"1_personalization_bias.ipynb: {name} is {value!r}: give {expected}"
    with pytest.raises(UserError, match=re.escape(message)):
        batch.read(write_batch(tmp_path, *entries), tmp_path)


@pytest.mark.parametrize("data", ["demo", "hub"])
def test_single_task_costs_the_same_as_a_list_of_it(data):
    notebook = NOTEBOOKS / "safety_utility" / "1_personalization_bias.ipynb"
    one, listed = (
        cost(Request(notebook, {"data": data, "tasks": tasks})) for tasks in ("mmlu", ["mmlu"])
    )
    assert one["generations"] == listed["generations"] > 0


@pytest.mark.parametrize("file", sorted(NOTEBOOKS.glob("*.yaml")), ids=lambda file: file.name)
def test_project_batches_use_parameters_that_their_notebooks_have(file):
    grids = [entry.get("grid", {}).values() for entry in yaml.safe_load(file.read_text())["runs"]]
    # No item is counted twice.
    assert len(batch.read(file, FIGURES)) == sum(math.prod(map(len, grid)) for grid in grids)


def test_findings_are_an_input_of_their_notebook_only():
    tables = {f"data/findings/{path.name}" for path in (ROOT / "data/findings").glob("*.csv")}
    page = Request(NOTEBOOKS / "findings.ipynb", {}, FIGURES)
    read = [
        {name for name in inputs.hashes(run) if "findings" in name}
        for run in (page, batch.read(NOTEBOOKS / "findings.yaml", FIGURES)[0])
    ]
    assert tables and read == [tables, set()]


def test_full_replication_is_priced_without_its_data():
    plan = batch.plan(batch.read(NOTEBOOKS / "replication.yaml", FIGURES), force=True)
    assert plan["generations"].tolist() == [370_848, 117_504]


def test_plan_shows_costs_and_detectable_effects(tmp_path):
    parameters = (
        'model = "demo"\ndata = "demo"\ntasks = ["mmlu", "gsm8k"]\npersonas = '
        '"religion"\nitems_per_task = 4\nruns = 2'
    )
    asking = Request(
        write_notebook(tmp_path / "p" / "1.ipynb", parameters=parameters), figures=tmp_path
    )
    other = Request(write_notebook(tmp_path / "p" / "2.ipynb"), figures=tmp_path)
    plan = batch.plan([asking, other], force=False).set_index("run")
    row = plan.loc[asking.id]
    assert row["generations"] == (5 + 2) * 2 * 4 * 2  # personas and controls × runs × items × tasks
    assert row["generations"] * 300 < row["tokens"] < row["generations"] * 700
    assert row["detectable"] == pytest.approx(99.1)  # 280.2 sqrt(0.5 / 4)
    assert plan.loc[other.id, batch.COST].isna().all()


def test_plan_names_runs_by_the_parameters_that_differ(tmp_path):
    write_notebook(tmp_path / "p" / "1.ipynb", parameters='model = "demo"\ndata = "demo"\nn = 1')
    same = {"model": "m", "data": "d"}
    entries = [{"notebook": "p/1.ipynb", "parameters": same | {"n": n}} for n in (2, 3)]
    plan = batch.plan(batch.read(write_batch(tmp_path, *entries), tmp_path), force=False)
    assert plan["parameters"].tolist() == ["n=2 model=m data=d", "n=3 model=m data=d"]


@pytest.mark.parametrize(
    ("name", "given", "conditions"),
    [
        ("2_mitigation", {"defences": ["placebo", "neutralize"], "dpo": ["dpo"]}, 4),
        (
            "3_origin",
            {"checkpoints": {"base": "demo:base", "sft": "demo"}, "runs": 4, "items_per_task": 40},
            2,
        ),
    ],
)
def test_every_condition_of_a_run_is_priced(name, given, conditions):
    request = Request(NOTEBOOKS / "safety_utility" / f"{name}.ipynb", given)
    # conditions × personas and controls × tasks × items × runs
    assert cost(request)["generations"] == conditions * 33 * 2 * 40 * 4


def test_failed_run_stops_no_other_and_a_killed_batch_resumes(tmp_path):
    write_notebook(tmp_path / "p" / "1.ipynb", VARIED)
    write_batch(tmp_path, {"notebook": "p/1.ipynb", "grid": {"n": [0, 1, 2]}})
    command = [*COMMAND, "batch", "batch.yaml", "--figures", "figures", "--jobs", "2"]
    unset = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, env=unset)
    one = batch.read(tmp_path / "batch.yaml", tmp_path / "figures")[1]
    wait_for(lambda: (tmp_path / "kernel").exists() and execute.finished(one))
    # The first two may finish in either order.
    wait_for(lambda: (tmp_path / "log").read_text().count(";") == 3)
    running.kill()
    running.wait()
    wait_for(lambda: has_exited(int((tmp_path / "kernel").read_text())))
    limited = unset | {"OMP_NUM_THREADS": "7"}
    again = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=limited
    )
    assert again.returncode == 1 and "AssertionError: n is zero" in again.stdout
    assert "was finished already" in again.stdout
    assert "2 of 3 runs finished, 1 failed" in again.stdout
    first, second = (
        {f"{n} {threads}" for n in ran}
        for ran, threads in (([0, 1, 2], batch._threads(2)), ([0, 2], 7))
    )
    assert sorted((tmp_path / "log").read_text().split(";")) == sorted(["", *first, *second])


@pytest.mark.parametrize("full", ["before", "by the run"])
def test_full_disk_fails_one_run_and_not_the_batch(tmp_path, small_disk, full):
    """The folder of one run is on a small disk that is full, or that its table fills."""
    code = "import pandas as pd\nimport personagap as pg\nrun = pg.runs.open_run(output)\n"
    code += "run.save(scores=pd.DataFrame({'x': range(n * 100_000)}))"
    write_notebook(tmp_path / "p" / "1.ipynb", code, parameters="n = 0\noutput = None")
    file = write_batch(tmp_path, {"notebook": "p/1.ipynb", "grid": {"n": [3, 1]}})
    one = batch.read(file, tmp_path / "figures")[0]
    one.folder.parent.mkdir(parents=True)
    one.folder.symlink_to(small_disk)
    if full == "before":
        with (
            (small_disk / "filler").open("wb", buffering=0) as filler,
            pytest.raises(OSError, match="No space"),
        ):
            while True:
                filler.write(bytes(4096))
    command = [*COMMAND, "batch", "batch.yaml", "--figures", "figures", "--jobs", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stdout.endswith("\n1 of 2 runs finished, 1 failed\n"), done
    assert done.stdout.count("No space left on device") == 1
    assert "Traceback" not in done.stdout + done.stderr


def _address(file):
    """Address of a scheduler once its file is complete; None before."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return json.loads(file.read_text())["address"]


def test_lost_scheduler_is_one_error_line_and_a_summary(tmp_path):
    pytest.importorskip("distributed", reason='needs pip install "personagap[dask]"')
    write_notebook(tmp_path / "p" / "1.ipynb", HANGS_ONCE)
    write_batch(tmp_path, {"notebook": "p/1.ipynb", "grid": {"n": [1, 2]}})
    options = [
        "--no-dashboard",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--scheduler-file",
        "address.json",
    ]
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", *options]
    quiet = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(dask, **quiet)
    address = wait_for(lambda: _address(tmp_path / "address.json"))
    command = [*COMMAND, "batch", "batch.yaml", "--figures", "figures", "--dask", address]
    batch = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    dask[2] = "distributed.cli.dask_worker"
    worker = subprocess.Popen([*dask[:3], address, "--no-dashboard", "--nthreads", "1"], **quiet)
    wait_for((tmp_path / "kernel").exists)
    scheduler.kill()
    output, problem = batch.communicate(timeout=180)
    for process in (scheduler, worker):
        process.terminate()
        process.wait(120)
    assert batch.returncode == 1
    assert output.endswith("0 of 2 runs finished, 0 failed, 2 did not come to an end\n")
    lines = problem.splitlines()
    assert lines[-1].startswith(f"personagap: lost the Dask scheduler at {address}: start it")
    assert len(lines) < 3


def test_unanswered_requests_have_their_own_exit_status(tmp_path, monkeypatch):
    code = "import personagap as pg\nfrom personagap.errors import Unanswered\n"
    code += "pg.runs.open_run(output).record(unanswered=n % 3)\n"
    code += "if n > 3: raise Unanswered('5 of 6 requests failed')\nassert n != 3"
    notebook = write_notebook(tmp_path / "p" / "1.ipynb", code, parameters="n = 0\noutput = None")

    monkeypatch.chdir(tmp_path)

    def status(*given):
        done = CliRunner().invoke(main, [*given, "--figures", "figures"])
        return done.exit_code, (done.stdout.splitlines() or [""])[-1]

    assert status("run", str(notebook), "-p", "n", "1")[0] == 3
    write_batch(tmp_path, {"notebook": "p/1.ipynb", "grid": {"n": [0, 1, 4]}})
    message = "2 of 3 runs finished, 1 failed; 2 with unanswered requests: run again"
    assert status("batch", "batch.yaml", "--jobs", "2") == (3, message)
    write_batch(tmp_path, {"notebook": "p/1.ipynb", "grid": {"n": [0, 1, 3]}})
    message = "2 of 3 runs finished, 1 failed; 1 with unanswered requests: run again"
    assert status("batch", "batch.yaml", "--jobs", "2") == (1, message)


def test_single_run_uses_all_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    notebook = write_notebook(
        tmp_path / "p" / "1.ipynb", "import os; print(os.environ['OMP_NUM_THREADS'])"
    )
    request = Request(notebook, {}, None, tmp_path / "figures")
    (facts,) = batch.run_here([request], 4, False)
    assert facts["status"] == "finished"
    *_, cell = json.loads((request.folder / "notebook.ipynb").read_text())["cells"]
    assert cell["outputs"][0]["text"] == [f"{batch._threads(1)}\n"]


def test_dask_batch_survives_a_killed_worker(tmp_path):
    pytest.importorskip("distributed", reason='needs pip install "personagap[dask]"')
    write_notebook(tmp_path / "p" / "1.ipynb", HANGS_ONCE)
    write_batch(tmp_path, {"notebook": "p/1.ipynb"})
    command = [
        *COMMAND,
        "batch",
        "batch.yaml",
        "--figures",
        "figures",
        "--jobs",
        "2",
        "--dask",
        "local",
    ]
    running = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for((tmp_path / "kernel").exists)
    worker = psutil.Process(int((tmp_path / "kernel").read_text())).parent().parent()
    assert worker.pid != running.pid
    worker.kill()
    output, problem = running.communicate(timeout=120)
    assert running.returncode == 0 and "1 of 1 runs finished" in output
    assert "Traceback" not in problem


def test_worker_on_another_file_system_is_an_error(tmp_path):
    """Otherwise its figures would stay on its own disk, though the run is reported as finished."""
    distributed = pytest.importorskip("distributed", reason='needs pip install "personagap[dask]"')
    file = write_batch(tmp_path, {"notebook": str(write_notebook(tmp_path / "p" / "1.ipynb"))})
    figures = tmp_path / "figures"
    figures.mkdir()
    here = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs tmpfs {figures} && exec $0 $*"]
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        address = cluster.scheduler_address
        arguments = ["-m", "distributed.cli.dask_worker", address, "--nthreads=1", "--no-dashboard"]
        worker = subprocess.Popen([*here, sys.executable, *arguments], cwd=tmp_path)
        try:
            wait_for(lambda: cluster.scheduler.workers or worker.poll() is not None)
            if worker.poll() is not None:
                pytest.skip("mounts a file system for one process: run as root, allow mounts")
            (facts,) = batch.run_on_dask(batch.read(file, figures), address, 1, False)
        finally:
            worker.terminate()
            worker.wait()
    assert facts["status"] == "failed" and f"does not see {figures}" in facts["error"]


def test_batch_ignores_another_dask_cluster_on_this_machine(recwarn):
    pytest.importorskip("distributed", reason='needs pip install "personagap[dask]"')
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # if a cluster does run there
            stack.enter_context(socket.create_server(("127.0.0.1", 8787)))
        assert list(batch.run_on_dask([], "local", 1, False)) == []
    assert [
        str(warning.message) for warning in recwarn if "already in use" in str(warning.message)
    ] == []


def test_unreachable_scheduler_is_one_error_line(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason='needs pip install "personagap[dask]"')
    with pytest.raises(UserError, match="no Dask scheduler at nonsense://x"):
        list(batch.run_on_dask([], "nonsense://x", 1, False))
    # For example the port of a dashboard or a model server.
    monkeypatch.setattr(cluster, "SCHEDULER_TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(UserError, match=f"no Dask scheduler at {address}"):
            list(batch.run_on_dask([], address, 1, False))


def test_the_default_batch_runs_on_the_demo():
    requests = batch.read(NOTEBOOKS / "batch.yaml", FIGURES)
    assert requests and {request.parameters.get("data", "demo") for request in requests} == {"demo"}


def test_real_model_batch_is_priced_by_forward_passes(tmp_path, monkeypatch):
    """31 identities and two controls on 64 questions, once each; no text is generated."""
    monkeypatch.chdir(ROOT)  # as make does
    (request,) = batch.read(NOTEBOOKS / "real.yaml", tmp_path)
    found = cost(request)
    assert found["generations"] == 33 * 64
    assert found["tokens"] < 33 * 64 * 150
    assert np.isnan(found["detectable"])


@pytest.mark.parametrize("dask", [None, "local"])
def test_run_that_reads_tables_follows_their_runs_and_repeats_when_they_change(tmp_path, dask):
    first = """
import pathlib
import pandas as pd
import personagap as pg
pathlib.Path("broken").exists() and 1 / 0
pg.runs.open_run(output).save(table=pd.DataFrame({"n": [n]}))
"""
    second = """
import pandas as pd
import personagap as pg
run = pg.runs.open_run(output)
found = run.latest_tables("1", data).get("table")
run.save(read=pd.DataFrame({"rows": [0 if found is None else len(found)]}))
"""
    for name, code in (("1", first), ("2", second)):
        write_notebook(
            tmp_path / "p" / f"{name}.ipynb", code, parameters='data = "demo"\nn = 1\noutput = None'
        )
    file = write_batch(tmp_path, {"notebook": "p/2.ipynb"}, {"notebook": "p/1.ipynb"})
    requests = [
        Request(one.notebook, one.given, None, tmp_path / "figures", tmp_path)
        for one in batch.read(file, tmp_path)
    ]

    def run():
        plan = batch.plan(requests, force=False)
        done = (
            batch.run_on_dask(requests, dask, 2, False)
            if dask
            else batch.run_here(requests, 2, False)
        )
        done = [(facts["status"], facts["skipped"]) for facts in done]
        read = (requests[0].folder / "tables" / "read.csv").read_text().split()[1]
        return plan["state"].tolist(), done, read

    (tmp_path / "broken").touch()
    assert run() == (["to do", "to do"], [("failed", False), ("finished", False)], "0")
    (tmp_path / "broken").unlink()
    assert run() == (["to do", "to do"], [("finished", False), ("finished", False)], "1")
    assert run() == (["finished", "finished"], [("finished", True), ("finished", True)], "1")
