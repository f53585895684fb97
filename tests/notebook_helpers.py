"""Small notebooks for tests of runs, and helpers for the processes that run them."""

import json
import sys
import time
from unittest import mock

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import psutil
from matplotlib.colors import to_rgba
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.lines import Line2D
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from personagap.runs import Run

COMMAND = [sys.executable, "-c", "from personagap.cli import main; main()"]
#: Writes its kernel's process id and hangs the first time; ends at once after that.
HANGS_ONCE = """
import os, pathlib, time
seen = pathlib.Path("kernel")
if not seen.exists():
    pathlib.Path("kernel.part").write_text(str(os.getpid()))
    os.rename("kernel.part", "kernel")
    time.sleep(300)
"""
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def write_notebook(path, *code, parameters="n = 3  # how many\noutput = None", text="# A trial"):
    """A notebook at ``path`` with a text cell, a parameters cell and code cells."""
    cells = [new_markdown_cell(text), new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[*cells, *map(new_code_cell, code)], metadata=KERNEL), path)
    return path


def run_in_process(notebook, output, figures=(), **given):
    """Execute a notebook's code in this process, except its last cell, which is for JupyterLab.

    All figures are drawn, but only those named in ``figures`` are written, as writing takes most of
    the time. This tests what the code does; test_notebooks.py runs notebooks in kernels.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parameters, *code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    namespace = {"display": lambda *tables: None}
    exec(parameters, namespace)
    namespace |= given | {"output": str(output)}
    write = Run.figure

    def figure(run, fig, name, *alt_text):
        assert_series_distinguishable(fig)
        write(run, fig, name, *alt_text) if name in figures else plt.close(fig)

    # Notebooks change matplotlib's rcParams.
    with mpl.rc_context(), mock.patch.object(Run, "figure", figure):
        try:
            for cell in code[:-1]:
                exec(cell, namespace)
        finally:
            plt.close("all")


def assert_series_distinguishable(fig):
    """Assert that no two series of a panel look the same in its legend."""
    for ax in fig.axes:
        labels_by_appearance = {}
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            assert labels_by_appearance.setdefault(_appearance(handle), label) == label, (
                f"{labels_by_appearance[_appearance(handle)]} and {label} look the same"
            )


def _appearance(handle):
    """Colours, marker and line style of a legend handle."""
    drawn = handle[0] if isinstance(handle, ErrorbarContainer | BarContainer) else handle
    if isinstance(drawn, Line2D):
        colours = map(to_rgba, (drawn.get_color(), drawn.get_markerfacecolor()))
        return *colours, drawn.get_marker(), drawn.get_linestyle()
    return type(drawn), tuple(np.ravel(drawn.get_facecolor()))


def wait_for(condition, seconds=120):
    """Poll until ``condition()`` is true and return its value; the limit allows for a busy
    machine.
    """
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.05)
    return result


def has_exited(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
