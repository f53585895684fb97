"""Small notebooks for the tests of runs, and the processes that run them."""

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
#: Leaves its kernel's process number behind and hangs, the first time; ends at once after that.
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


def run_here(notebook, output, figures=(), **given):
    """Execute the code of a notebook in this process, but for its last cell, which is for
    JupyterLab.

    All figures are drawn; those named ``figures`` are written, which takes most of the time of a
    notebook. For tests of what the code does: that it runs as a user runs it, in a kernel of its
    own, is shown by test_notebooks.py.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parameters, *code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names = {"display": lambda *tables: None}
    exec(parameters, names)
    names |= given | {"output": str(output)}
    write = Run.figure

    def figure(run, fig, name, *said):
        assert_told_apart(fig)
        write(run, fig, name, *said) if name in figures else plt.close(fig)

    # Notebooks set how figures look.
    with mpl.rc_context(), mock.patch.object(Run, "figure", figure):
        try:
            for cell in code[:-1]:
                exec(cell, names)
        finally:
            plt.close("all")


def assert_told_apart(fig):
    """No two series of a panel look alike."""
    for ax in fig.axes:
        looks = {}
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            assert looks.setdefault(look(handle), label) == label, (
                f"{looks[look(handle)]} and {label} look alike"
            )


def look(handle):
    """How what a legend explains is drawn."""
    drawn = handle[0] if isinstance(handle, ErrorbarContainer | BarContainer) else handle
    if isinstance(drawn, Line2D):
        colours = map(to_rgba, (drawn.get_color(), drawn.get_markerfacecolor()))
        return *colours, drawn.get_marker(), drawn.get_linestyle()
    return type(drawn), tuple(np.ravel(drawn.get_facecolor()))


def wait_for(condition, seconds=120):
    """The bound is for a busy machine: what comes is not waited for any longer."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return result


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
