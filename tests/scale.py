"""Measure how time and memory grow with the amount of data, each amount in a separate process.

``python tests/scale.py FILE`` writes the table of `data/benchmarks/scale.csv` and prints it. Times
are processor seconds, which other load hardly affects; ``order`` is the exponent of their growth
when the amount grows tenfold.
"""

import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import personagap as pg
from personagap.cli import main as command
from personagap.paths import NOTEBOOKS
from personagap.store import Store

#: Items per task of arXiv 2406.11107; for 31 identities and a control in three runs these are
#: 370,848 requests.
PAPER = {"mmlu": 285, "gsm8k": 1319, "mbpp": 974, "do_not_answer": 939, "strongreject": 346}


def scores(n_identities: int, sizes: dict[str, int], n_runs: int = 3) -> pd.DataFrame:
    """Simulate scores; ``sizes`` are the items of each task."""
    effects = np.resize([-2.0, 2.0], n_identities)
    parts = (
        pg.effects.simulate_scores(effects, n_items=n, n_runs=n_runs, task=task)
        for task, n in sizes.items()
    )
    return pd.concat(parts, ignore_index=True)


def statistics(table: pd.DataFrame) -> None:
    pg.effects.personalization_bias(table)
    pg.effects.contrasts(table, control="none")
    pg.effects.rates(table)


def items(n: int):
    table = scores(31, {"mmlu": n})
    return lambda: statistics(table)


def identities(n: int):
    table = scores(n, {"mmlu": 300})
    return lambda: statistics(table)


def users(n: int):
    from personagap.personalllm.adaptation.icl import nearest

    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(940, 8, 10))
    weights = pg.personalllm.users.dirichlet(n, 0.05, 0, [*"abcdefghij"])
    embeddings = rng.normal(size=(n, 64)).astype("float32")

    def job() -> None:
        pg.personalllm.users.vote_shares(pg.personalllm.users.winners(weights, rewards))
        nearest(embeddings[:1000], embeddings, 20)

    return job


def answers(n: int):
    folder = tempfile.TemporaryDirectory()
    store = Store(Path(folder.name))

    def key(i: int) -> str:
        return f"{i * 2654435761 % 2**32:032x}"

    def rows(first: int, last: int) -> list[tuple]:
        return [(key(i), "text", "stop", 1, 1, 0.0, "", "answered") for i in range(first, last)]

    for start in range(0, n, 100_000):
        store.keep(rows(start, min(start + 100_000, n)))
    queries, new = [key(i) for i in range(33_600)], rows(n, n + 32)

    def job() -> None:
        reopened = Store(Path(folder.name))
        assert len(reopened.find(queries)) == min(n, 33_600)
        reopened.keep(new)
        folder.cleanup()

    return job


def planned(n: int):
    """The grid of the paper: every request as a row, and the estimated cost of the batch."""
    who = pg.personas.select("all", controls=["none"])
    tables = [pd.DataFrame({"task": task, "item": range(size)}) for task, size in PAPER.items()]
    table = pd.concat(tables)

    def job() -> None:
        assert len(pg.ask.plan(who, table)) == n
        command(["batch", str(NOTEBOOKS / "replication.yaml"), "--dry-run"], standalone_mode=False)

    return job


def judged(n: int):
    table = scores(31, PAPER)
    table = table[table["persona"] != "assistant"]
    assert len(table) == n
    return lambda: statistics(table)


JOBS = {
    "items: PB, contrasts and rates of 31 identities × 3 runs": (items, [1_000, 10_000]),
    "identities: the same on 300 items × 3 runs": (identities, [31, 310]),
    "users: votes on 940 × 8 × 10, 20 neighbours of 1,000 of them": (users, [1_000, 10_000]),
    "stored answers: open, look up 33,600, add 32": (answers, [100_000, 1_000_000]),
    "requests of the first paper: planned and dry-run": (planned, [370_848]),
    "scores of the first paper: PB, contrasts, rates": (judged, [370_848]),
}


def measure(work: str, amount: int) -> dict[str, float]:
    """Return processor seconds of a job in this process, and the peak memory of the process."""
    job = JOBS[work][0](amount)
    start = time.process_time()
    job()
    seconds = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"seconds": round(seconds, 2), "mb": memory}


def main(file: str) -> None:
    """Measure all jobs, print them and write the table."""
    rows = []
    for work, (_, amounts) in JOBS.items():
        for amount in amounts:
            child = [sys.executable, __file__, work, str(amount)]
            process = subprocess.run(child, capture_output=True, text=True, check=True)
            measured = json.loads(process.stdout.splitlines()[-1])
            rows.append({"work": work, "amount": amount, **measured})
            if amount != amounts[0]:
                growth = rows[-1]["seconds"] / rows[-2]["seconds"]
                rows[-1]["order"] = round(float(np.log10(growth)), 2)
            print(rows[-1], flush=True)
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    table = pd.DataFrame(rows).assign(date=datetime.date.today(), hardware=machine)
    columns = ["date", "hardware", "work", "amount", "seconds", "mb", "order"]
    table[columns].to_csv(file, index=False)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main(sys.argv[1])
    else:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
