"""A notebook killed half-way: run again it asks only what is missing, and finds what it would have
found.
"""

import contextlib
import json
import os
import signal
import subprocess

import pandas as pd
import psutil
import pytest
from notebook_helpers import COMMAND, wait_for

from personagap.paths import NOTEBOOKS
from personagap.store import Store
from personagap.store.files import COLUMNS

NOTEBOOK = str(NOTEBOOKS / "safety_utility" / "1_personalization_bias.ipynb")
#: One of the seven categories and the controls, on half of two tasks: several batches of answers.
SMALL = [
    "-p",
    "personas",
    '["age"]',
    "-p",
    "tasks",
    '["mmlu", "do_not_answer"]',
    "-p",
    "intersections",
    "[]",
]
SMALL += ["-p", "items_per_task", "32"]


def start(folder):
    environment = os.environ | {"PERSONAGAP_CACHE": str(folder / "cache")}
    command = [*COMMAND, "run", NOTEBOOK, *SMALL, "--figures", str(folder / "figures")]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(folder):
    runner = start(folder)
    output, _ = runner.communicate(timeout=300)
    assert runner.returncode == 0, output.decode()
    (record,) = folder.glob("figures/**/run.json")
    scores = pd.read_parquet(record.parent / "tables" / "scores.parquet")
    return json.loads(record.read_text()), scores


def answers(folder):
    """Every generated answer that was ever stored, with its key (likelihoods, asked for later, are
    not generated).
    """
    stored = [row for place in folder.glob("cache/responses/*") for row in Store(place).rows()]
    stored = pd.DataFrame(stored, columns=["key", *COLUMNS]).set_index("key")
    return stored[stored["finish_reason"] != "likelihood"]


@pytest.mark.slow
def test_a_killed_notebook_resumes_and_asks_nothing_twice(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir(), killed.mkdir()
    record, scores = finish(undisturbed)

    runner = start(killed)
    wait_for(lambda: len(answers(killed)) >= 100, seconds=120)
    for process in [
        *psutil.Process(runner.pid).children(recursive=True),
        psutil.Process(runner.pid),
    ]:
        # It went with one that was killed before it.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    runner.communicate()
    before = len(answers(killed))
    assert 0 < before < record["asked"]

    again, resumed = finish(killed)
    assert again["asked"] == record["asked"] - before
    assert len(answers(killed)) == record["asked"] and not answers(killed).index.duplicated().any()
    pd.testing.assert_frame_equal(resumed, scores)
