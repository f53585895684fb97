"""Small notebooks for the tests of runs, and the processes that run them."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

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


@contextlib.contextmanager
def warm_kernels():
    """An environment with a kernel ``warm``, which has imported already what most of the time goes into (`warm`)."""
    with tempfile.TemporaryDirectory() as place:  # a short name, as sockets need
        kernel, warm = Path(place, "kernels", "warm"), [sys.executable, "-P", str(Path(__file__).with_name("warm.py"))]
        kernel.mkdir(parents=True)
        warm.append(f"{place}/socket")
        spec = {"argv": [*warm, "{connection_file}"], "display_name": "warm", "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps(spec))
        with subprocess.Popen(warm, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            try:
                yield os.environ | {"JUPYTER_PATH": place}
            finally:
                process.kill()


def wait_for(condition, seconds=120):
    """The bound is for a busy machine: what comes is not waited for any longer."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return result


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
