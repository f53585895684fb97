"""Runs whose process and kernel are copies of one that has imported: as others, also where
something is killed.
"""

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
    not warm.can_fork(), reason="needs Linux, and no GPU: CUDA does not survive a copy"
)

#: What a kernel is like, as a table of its run's folder; a figure is shown as a kernel shows it.
TOLD = """
import json, os, pathlib, random, sys
before = "pandas" in sys.modules and "personagap.effects" in sys.modules
import matplotlib.pyplot as plt
import pandas as pd
import personagap as pg
pg.effects
import psutil
told = {"before": before, "command": psutil.Process().cmdline()}
told |= {"cwd": os.getcwd(), "drawn": random.random()}
told |= {"group": os.getpgid(0) == os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}
told |= {"progress": os.environ["PERSONAGAP_PROGRESS"]}
files = pathlib.Path("/proc/self/fd").iterdir()
told |= {"locks": [os.readlink(path) for path in files if path.is_symlink()]}
pathlib.Path(output, "told.json").write_text(json.dumps(told))
plt.plot([1, 2]);
"""
#: The first run leaves its kernel's number behind and waits; the others end at once.
WAITS = """
import os, pathlib, time
if n == 0:
    pathlib.Path("kernel.part").write_text(str(os.getpid()))
    os.rename("kernel.part", "kernel")
    while not os.path.exists("go"):
        time.sleep(0.05)
"""

ASKS_AND_NOT = ("safety_utility/1_personalization_bias", "instruments", "findings")


def requests_for(folder, code, numbers, kernel=None):
    notebook = write_notebook(folder / "p" / "1.ipynb", code, parameters="n = 9\noutput = None")
    return [Request(notebook, {"n": n}, kernel, folder / "figures", folder) for n in numbers]


def test_the_last_run_that_needs_no_model_does_not_wait_for_the_imports_of_all(tmp_path):
    """It imports for itself meanwhile: not with one job, nor where its tables come from others."""
    asks, free, last = (
        Request(NOTEBOOKS / f"{name}.ipynb", {}, None, tmp_path) for name in ASKS_AND_NOT
    )
    assert asks.asks and not free.asks and not last.asks
    assert batch._cold_start(asks, [free, last, asks], False) is last
    assert batch._cold_start(free, [last, asks], False) is None
    reads = Request(NOTEBOOKS / "recentering" / "3_response.ipynb", {}, None, tmp_path)
    assert batch._cold_start(asks, [asks, reads], False) is None


def test_runs_of_a_batch_begin_with_their_imports_done_and_are_else_as_others(tmp_path):
    requests = requests_for(tmp_path, TOLD, [0, 1])
    done = list(batch.run_here(requests, 1, False))
    assert [facts["status"] for facts in done] == ["finished", "finished"]
    told = [json.loads((one.folder / "told.json").read_text()) for one in requests]
    for one, found in zip(requests, told, strict=True):
        assert found["before"] and "personagap.runs.warm" in found["command"] and found["group"]
        assert (found["cwd"], found["progress"]) == (str(tmp_path), str(one.folder / ".progress"))
        assert found["threads"] == os.environ.get("OMP_NUM_THREADS", str(batch._threads(1)))
        # Held by the runner and the run alone.
        assert not [path for path in found["locks"] if path.endswith(".lock")]
        *_, cell = json.loads((one.folder / "notebook.ipynb").read_text())["cells"]
        assert [output for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert told[0]["drawn"] != told[1]["drawn"]


def following(requests, then):
    """The facts of runs, one at a time, of which the first waits until ``then``, called with its
    kernel, lets it go.
    """
    folder = requests[0].figures.parent
    kernel = folder / "kernel"
    act = threading.Thread(target=lambda: then(int(wait_for(kernel.exists) and kernel.read_text())))
    act.start()
    done = list(batch.run_here(requests, 1, False))
    act.join()
    return done


def test_a_killed_kernel_or_process_of_a_run_fails_that_run_alone(tmp_path):
    requests = requests_for(tmp_path / "kernel", WAITS, [0, 1])
    first, second = following(requests, lambda kernel: os.kill(kernel, signal.SIGKILL))
    assert (
        "the kernel died in cell [3], A trial: it was killed" in first["error"]
        and second["status"] == "finished"
    )
    requests = requests_for(tmp_path / "process", WAITS, [0, 1])
    killed = []

    def kill(kernel):
        killed.append(kernel)
        os.kill(psutil.Process(kernel).ppid(), signal.SIGKILL)

    first, second = following(requests, kill)
    assert "its process ended with code -9" in first["error"] and second["status"] == "finished"
    wait_for(lambda: has_exited(killed[0]))


def test_without_the_process_to_copy_runs_import_for_themselves(tmp_path):
    requests = requests_for(tmp_path, WAITS, [0, 1])

    def kill(kernel):
        psutil.Process(kernel).parent().parent().kill()

    first, second = following(requests, kill)
    assert first["status"] == "failed" and second["status"] == "finished"


def test_a_batch_that_stops_leaves_nobody_behind(tmp_path):
    requests = requests_for(tmp_path, WAITS, [0, 1])
    runs = batch.run_here(requests[::-1], 2, False)
    assert next(runs)["status"] == "finished"  # the other waits
    kernel = int(wait_for((tmp_path / "kernel").exists) and (tmp_path / "kernel").read_text())
    above = [kernel, *(process.pid for process in psutil.Process(kernel).parents()[:2])]
    runs.close()
    wait_for(lambda: all(map(has_exited, above)))
    assert json.loads((requests[0].folder / "run.json").read_text())["status"] == "interrupted"


def test_a_notebook_imports_what_it_names_of_known_packages():
    code = "import numpy as np, os\nimport antigravity\nfrom personagap.runs import index\n"
    code += "pg.effects.contrasts(pg.figures.use().x)\n"
    cells = [{"cell_type": "code", "source": [code]}, {"cell_type": "code", "source": "%magic"}]
    cells += [{"cell_type": "markdown", "source": "import pandas"}]
    found = warm.imports(json.dumps({"cells": cells}))
    assert found[:2] == ["import numpy as np, os", "from personagap.runs import index"]
    assert set(found[2:]) == {"pg.effects.contrasts", "pg.effects", "pg.figures.use", "pg.figures"}
