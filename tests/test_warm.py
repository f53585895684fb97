"""Runs of a batch that are forked from a process with warm imports."""

import json
import os
import signal
import threading

import psutil
import pytest
from notebook_helpers import has_exited, wait_for, write_notebook

from personagap.paths import NOTEBOOKS
from personagap.runs import batch, warm
from personagap.runs.request import Request

pytestmark = pytest.mark.skipif(
    not warm.can_fork(), reason="needs Linux, and no GPU: CUDA does not survive a fork"
)

#: Writes the kernel's environment to the folder of its run, and shows a figure.
REPORT_ENVIRONMENT = """
import json, os, pathlib, random, sys
warm = "pandas" in sys.modules and "personagap.effects" in sys.modules
import matplotlib.pyplot as plt
import pandas as pd
import personagap as pg
pg.effects
import psutil
report = {"warm": warm, "command": psutil.Process().cmdline()}
report |= {"cwd": os.getcwd(), "random": random.random()}
report |= {"group_leader": os.getpgid(0) == os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}
report |= {"progress": os.environ["PERSONAGAP_PROGRESS"]}
files = pathlib.Path("/proc/self/fd").iterdir()
report |= {"open_files": [os.readlink(path) for path in files if path.is_symlink()]}
pathlib.Path(output, "environment.json").write_text(json.dumps(report))
plt.plot([1, 2]);
"""
#: The first run writes its kernel's process id and waits; the others end at once.
WAIT_IN_FIRST_RUN = """
import os, pathlib, time
if n == 0:
    pathlib.Path("kernel.part").write_text(str(os.getpid()))
    os.rename("kernel.part", "kernel")
    while not os.path.exists("go"):
        time.sleep(0.05)
"""

WITH_MODEL_AND_WITHOUT = ("safety_utility/1_personalization_bias", "instruments", "findings")


def requests_for(folder, code, numbers, kernel=None):
    notebook = write_notebook(folder / "p" / "1.ipynb", code, parameters="n = 9\noutput = None")
    return [Request(notebook, {"n": n}, kernel, folder / "figures", folder) for n in numbers]


def test_cold_start_takes_the_last_run_without_a_model(tmp_path):
    """It does its own imports while the warm process starts; not with one job, nor if it reads
    tables of other runs.
    """
    asks, free, last = (
        Request(NOTEBOOKS / f"{name}.ipynb", {}, None, tmp_path) for name in WITH_MODEL_AND_WITHOUT
    )
    assert asks.asks and not free.asks and not last.asks
    assert batch._cold_start(asks, [free, last, asks], False) is last
    assert batch._cold_start(free, [last, asks], False) is None
    reads = Request(NOTEBOOKS / "recentering" / "3_response.ipynb", {}, None, tmp_path)
    assert batch._cold_start(asks, [asks, reads], False) is None


def test_forked_runs_have_warm_imports_and_their_own_environment(tmp_path):
    requests = requests_for(tmp_path, REPORT_ENVIRONMENT, [0, 1])
    done = list(batch.run_here(requests, 1, False))
    assert [facts["status"] for facts in done] == ["finished", "finished"]
    reports = [json.loads((one.folder / "environment.json").read_text()) for one in requests]
    for request, found in zip(requests, reports, strict=True):
        assert found["warm"] and "personagap.runs.warm" in found["command"]
        assert found["group_leader"] and found["cwd"] == str(tmp_path)
        assert found["progress"] == str(request.folder / ".progress")
        assert found["threads"] == os.environ.get("OMP_NUM_THREADS", str(batch._threads(1)))
        # Only the runner and the process of the run hold the lock, not the kernel.
        assert not [path for path in found["open_files"] if path.endswith(".lock")]
        *_, cell = json.loads((request.folder / "notebook.ipynb").read_text())["cells"]
        assert [output for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert reports[0]["random"] != reports[1]["random"]


def run_and_kill(requests, kill):
    """Run one request at a time, call ``kill`` with the first one's kernel id; return the facts."""
    folder = requests[0].figures.parent
    kernel = folder / "kernel"
    killer = threading.Thread(
        target=lambda: kill(int(wait_for(kernel.exists) and kernel.read_text()))
    )
    killer.start()
    done = list(batch.run_here(requests, 1, False))
    killer.join()
    return done


def test_killed_kernel_or_process_fails_only_its_own_run(tmp_path):
    requests = requests_for(tmp_path / "kernel", WAIT_IN_FIRST_RUN, [0, 1])
    first, second = run_and_kill(requests, lambda kernel: os.kill(kernel, signal.SIGKILL))
    assert "the kernel died in cell [3], A trial: it was killed" in first["error"]
    assert second["status"] == "finished"
    requests = requests_for(tmp_path / "process", WAIT_IN_FIRST_RUN, [0, 1])
    killed = []

    def kill(kernel):
        killed.append(kernel)
        os.kill(psutil.Process(kernel).ppid(), signal.SIGKILL)

    first, second = run_and_kill(requests, kill)
    assert "its process ended with code -9" in first["error"] and second["status"] == "finished"
    wait_for(lambda: has_exited(killed[0]))


def test_runs_start_cold_after_the_warm_process_was_killed(tmp_path):
    requests = requests_for(tmp_path, WAIT_IN_FIRST_RUN, [0, 1])

    def kill(kernel):
        psutil.Process(kernel).parent().parent().kill()

    first, second = run_and_kill(requests, kill)
    assert first["status"] == "failed" and second["status"] == "finished"


def test_closing_a_batch_stops_all_its_processes(tmp_path):
    requests = requests_for(tmp_path, WAIT_IN_FIRST_RUN, [0, 1])
    runs = batch.run_here(requests[::-1], 2, False)
    assert next(runs)["status"] == "finished"  # the other waits
    kernel = int(wait_for((tmp_path / "kernel").exists) and (tmp_path / "kernel").read_text())
    above = [kernel, *(process.pid for process in psutil.Process(kernel).parents()[:2])]
    runs.close()
    wait_for(lambda: all(map(has_exited, above)))
    assert json.loads((requests[0].folder / "run.json").read_text())["status"] == "interrupted"


def test_imports_of_a_notebook_are_found_for_known_packages():
    code = "import numpy as np, os\nimport antigravity\nfrom personagap.runs import index\n"
    code += "pg.effects.contrasts(pg.figures.use().x)\n"
    cells = [{"cell_type": "code", "source": [code]}, {"cell_type": "code", "source": "%magic"}]
    cells += [{"cell_type": "markdown", "source": "import pandas"}]
    found = warm.imports(json.dumps({"cells": cells}))
    assert found[:2] == ["import numpy as np, os", "from personagap.runs import index"]
    assert set(found[2:]) == {"pg.effects.contrasts", "pg.effects", "pg.figures.use", "pg.figures"}
