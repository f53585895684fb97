"""A killed notebook resumes: it asks only what is missing, and its results are the same."""

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
#: One category and the controls on half of two tasks: several batches of requests.
SMALL = ["-p", "personas", '["age"]', "-p", "tasks", '["mmlu", "do_not_answer"]']
SMALL += ["-p", "intersections", "[]", "-p", "items_per_task", "32"]


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


def stored_answers(folder):
    """All generated answers in the cache, by key (likelihoods are not generated)."""
    stored = [row for store in folder.glob("cache/responses/*") for row in Store(store).rows()]
    stored = pd.DataFrame(stored, columns=["key", *COLUMNS]).set_index("key")
    return stored[stored["finish_reason"] != "likelihood"]


@pytest.mark.slow
def test_killed_notebook_resumes_without_repeating_requests(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir(), killed.mkdir()
    record, scores = finish(undisturbed)

    runner = start(killed)
    wait_for(lambda: len(stored_answers(killed)) >= 100, seconds=120)
    for process in [
        *psutil.Process(runner.pid).children(recursive=True),
        psutil.Process(runner.pid),
    ]:
        # It may have ended with a process killed before it.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    runner.communicate()
    before = len(stored_answers(killed))
    assert 0 < before < record["asked"]

    again, resumed = finish(killed)
    assert again["asked"] == record["asked"] - before
    assert (
        len(stored_answers(killed)) == record["asked"]
        and not stored_answers(killed).index.duplicated().any()
    )
    pd.testing.assert_frame_equal(resumed, scores)
