"""Benchmarks with targets: prints each measurement beside its target, and fails if one is missed.

Run ``make bench`` on an idle machine; ``python tests/bench.py servers dask batch engine`` selects
parts. Ratios are medians of five pairs, timed alternately; the seconds of the default batch are of
one run each.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import pandas as pd
import yaml
from notebook_helpers import COMMAND, write_notebook
from servers import RestartableServer

from personagap.models import Sampling, load_model
from personagap.paths import ROOT
from personagap.performance import paired
from personagap.runs.tables import read

PAIRS = 5
#: Minimum speed relative to a peer at the peer's best batch size, with a real model on a CPU.
ENGINE = {
    ("choose, zero-shot", "lm-evaluation-harness"): 1.25,
    ("choose, zero-shot, in bfloat16", "float32"): 1.5,
    ("choose, shared five-shot prefix", "lm-evaluation-harness"): 4.0,
    ("generate, answers of mixed length", "transformers pipeline"): 1.8,
    ("PB without any effect, 31 × 1,000 items", "scipy permutation_test"): 1.0,
}
#: Minimum share of the speed that the machine's matrix products allow.
SHARES = {"choose, zero-shot": 0.85}
BATCH_SIZES = (8, 32)


class Row(NamedTuple):
    """A measurement and its target: a minimum for "times" (ratios), a maximum for "s" (seconds)."""

    work: str
    value: float
    unit: str
    target: float

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.unit == "times" else self.value <= self.target


def personagap(folder: Path, *arguments: str, cache: Path | None = None) -> float:
    """Run the command line; return the seconds that it takes."""
    environment = os.environ | {"PERSONAGAP_CACHE": str(cache or folder / "cache")}
    command, start = [*COMMAND, *arguments], time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def ratio(work: str, peer: str, ours: Callable, theirs: Callable, target: float) -> Row:
    """Measure the speed of ``ours`` relative to ``theirs``."""
    speedup = paired(work, peer, "pieces", ours, theirs, PAIRS)["estimate"].iloc[0]
    return Row(f"{work} over {peer}", speedup, "times", target)


def engine(folder: Path) -> Iterator[Row]:
    """A real model and the statistics, compared with peers at their best batch size."""
    small = {"questions": 16, "texts": 2, "repeats": PAIRS}
    tables = {}
    for size in BATCH_SIZES:
        figures = folder / f"figures-{size}"
        parameters = small | {"batch_size": size}
        options = [word for name, value in parameters.items() for word in ("-p", name, str(value))]
        personagap(folder, "run", "performance", *options, "--figures", str(figures))
        (run,) = (figures / "notebooks" / "performance").iterdir()
        tables[size] = read(run)
    timed = pd.concat(run_tables["benchmarks"] for run_tables in tables.values())
    for (work, peer), value in timed.groupby(["work", "peer"])["estimate"].min().items():
        yield Row(f"{work} over {peer}", value, "times", ENGINE[work, peer])
    for work, target in SHARES.items():
        share = timed.loc[timed["work"] == work, "share_of_limit"].median()
        yield Row(f"{work}, of what matrix products allow", share, "times", target)
    for job in tables[BATCH_SIZES[0]]["jobs"].itertuples():
        yield Row(job.work, job.seconds, "s", job.target)


def servers(folder: Path) -> Iterator[Row]:
    """Two servers of limited concurrency, compared with one of them."""
    both = [RestartableServer(max_concurrent=2), RestartableServer(max_concurrent=2)]
    for server in both:
        server.start()
    alone = load_model(f"openai:m@{both[0].url}")
    spread = load_model(f"openai:m@{both[0].url},{both[1].url}")
    chats = [[{"role": "user", "content": f"Question {i}"}] for i in range(256)]

    def ask(lm) -> Callable:
        return lambda repeat: len(
            lm.generate(chats, Sampling(top_k=0, max_tokens=20), range(len(chats)))
        )

    try:
        yield ratio("requests to two servers", "one", ask(spread), ask(alone), 1.8)
    finally:
        for server in both:
            server.kill()


def dask(folder: Path) -> Iterator[Row]:
    """Six runs of about ten seconds of one core, on two worker processes compared with one."""
    busy = "import time\nwhile time.process_time() < 10: pass"
    write_notebook(folder / "busy" / "busy.ipynb", busy)
    entries = {"runs": [{"notebook": "busy/busy.ipynb", "grid": {"n": [*range(6)]}}]}
    (folder / "busy.yaml").write_text(yaml.safe_dump(entries))

    def on(workers: int) -> Callable:
        command = ["batch", str(folder / "busy.yaml"), "--force", "--dask", "local"]
        command += ["--jobs", str(workers), "--figures", str(folder / "figures")]
        # `paired` expects the number of pieces of work done.
        return lambda repeat: bool(personagap(folder, *command)) * 6

    yield ratio("runs on two Dask workers", "one", on(2), on(1), 1.6)


def batch(folder: Path) -> Iterator[Row]:
    """The default batch: with empty caches, with all answers stored, and with nothing to do."""
    command = ["batch", "notebooks/batch.yaml", "--figures", str(folder / "figures")]
    yield Row("default batch, cold", personagap(folder, *command), "s", 180)
    slowest(folder / "figures")
    yield Row("default batch, all answers stored", personagap(folder, *command, "--force"), "s", 90)
    slowest(folder / "figures")
    yield Row("default batch, nothing to do", personagap(folder, *command), "s", 3)


def slowest(figures: Path, n: int = 10) -> None:
    """Print the sections of a batch's notebooks that took most time."""
    seconds: Counter[tuple[str, str]] = Counter()
    for path in figures.rglob("notebook.ipynb"):
        section = "start"
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                section = [section, *re.findall("^#+ (.+)", cell.source, re.MULTILINE)][-1]
            else:
                seconds[path.parent.parent.name, section] += cell.metadata["papermill"]["duration"]
    print(f"{seconds.total():9.2f} s     in the cells of all runs, of which")
    for (notebook, section), value in seconds.most_common(n):
        print(f"{value:9.2f} s       {notebook}: {section}")


PARTS = {"servers": servers, "dask": dask, "batch": batch, "engine": engine}


def main(names: list[str]) -> int:
    """Run the benchmarks ``names``, by default all; return 1 if a target was missed."""
    missed = 0
    for name in names or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            for row in PARTS[name](Path(folder)):
                bound = "at least" if row.unit == "times" else "at most"
                verdict = "" if row.met else "  MISSED"
                print(
                    f"{row.value:9.2f} {row.unit:6}{bound:>9} {row.target:6g}  {row.work}{verdict}",
                    flush=True,
                )
                missed += not row.met
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
