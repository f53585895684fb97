"""Asking: only what is missing, the same answers after a kill, failures never stored."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import pandas as pd
import pytest
from notebooks_for_tests import wait_for

from personagap import ask as asking
from personagap import datasets, personas, tasks
from personagap.ask import ask, plan
from personagap.models import Generation
from personagap.responses import ResponseStore

COMPARED = ["persona", "template", "task", "item", "run", "prompt_hash", "text", "finish_reason", "output_tokens"]


@dataclass
class Counting:
    """The demo model, with a count of the requests put to it, and an optional failure."""

    lm: object
    asked: int = 0
    failing: bool = False

    def __getattr__(self, name):
        return getattr(self.lm, name)

    def generate(self, chats, sampling, seeds):
        self.asked += len(chats)
        answers = self.lm.generate(chats, sampling, seeds)
        return [Generation(None, "error", 0, 0, 0.0), *answers[1:]] if self.failing else answers


@pytest.fixture(scope="module")
def who():
    return personas.select("religion")


@pytest.fixture(scope="module")
def items():
    return datasets.load(["mmlu", "do_not_answer"], items_per_task=5)


def test_plan_holds_every_request_once_with_neighbours_that_share_a_prefix(who, items):
    design = plan(who, items, runs=3, templates=["paper", "profile"])
    assert len(design) == len(who) * len(items) * 3 * 2
    assert not design.duplicated().any()
    changes = (design[["task", "template", "persona"]] != design[["task", "template", "persona"]].shift()).any(axis=1)
    assert changes.sum() == 2 * 2 * len(who)


def test_a_second_call_asks_nothing_and_a_larger_one_only_what_is_new(demo_lm, who, items, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "BATCH", 40)
    lm = Counting(demo_lm)
    first = ask(lm, who, items, runs=2, store=ResponseStore(lm.id, tmp_path))
    assert lm.asked == len(first) == first.attrs["asked"] == len(who) * len(items) * 2
    again = ask(lm, who, items, runs=2, store=ResponseStore(lm.id, tmp_path))
    assert again.attrs["asked"] == 0
    pd.testing.assert_frame_equal(first, again)
    more = ask(lm, who, items, runs=3, store=ResponseStore(lm.id, tmp_path))
    assert more.attrs["asked"] == len(who) * len(items)
    assert len(list(tmp_path.rglob("*.parquet"))) == 2  # each call that asked left one compacted shard


def test_controls_do_not_vary_with_the_phrasing_and_are_asked_once(demo_lm, items, tmp_path):
    lm = Counting(demo_lm)
    who = personas.select(["none", "muslim"], controls=False)
    responses = ask(lm, who, items, runs=1, templates=["paper", "profile"], store=ResponseStore(lm.id, tmp_path))
    assert len(responses) == 2 * 2 * len(items)
    assert lm.asked == 3 * len(items)
    none = responses[responses["persona"] == "none"].pivot(index=["task", "item"], columns="template", values="text")
    assert (none["paper"] == none["profile"]).all()


def test_seed_and_run_change_the_answers_and_nothing_else_does(demo_lm, who, items, tmp_path):
    texts = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        texts[name] = ask(demo_lm, who, items, runs=2, seed=seed, store=ResponseStore(demo_lm.id, tmp_path / name))[
            "text"
        ]
    assert (texts["a"] == texts["b"]).all()
    assert (texts["a"] != texts["c"]).any()


def test_a_failed_request_is_missing_never_wrong_and_asked_again(demo_lm, who, items, tmp_path):
    lm = Counting(demo_lm, failing=True)
    items = items[items["task"] == "mmlu"]
    failed = ask(lm, who, items, runs=1, store=ResponseStore(lm.id, tmp_path))
    assert (failed["finish_reason"] == "error").sum() == 1 and failed["text"].isna().sum() == 1
    assert len(tasks.grade(failed, items)) == len(failed) - 1
    lm.failing = False
    repaired = ask(lm, who, items, runs=1, store=ResponseStore(lm.id, tmp_path))
    assert repaired.attrs["asked"] == 1 and repaired["text"].notna().all()


def test_a_killed_run_resumes_with_the_answers_of_an_undisturbed_one(demo_lm, who, items, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "BATCH", 20)
    code = (
        "from personagap import ask, datasets, models, personas\n"
        "from personagap.responses import ResponseStore\n"
        "ask.BATCH = 20\n"
        "lm = models.load_model('demo', device='cpu')\n"
        "items = datasets.load(['mmlu', 'do_not_answer'], items_per_task=5)\n"
        f"store = ResponseStore(lm.id, {str(tmp_path / 'killed')!r})\n"
        "ask.ask(lm, personas.select('religion'), items, runs=3, store=store)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(tmp_path.rglob("*.parquet"))) >= 3 or process.poll() is not None, 120)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    store = ResponseStore(demo_lm.id, tmp_path / "killed")
    before = len(store)
    assert before >= 60
    lm = Counting(demo_lm)
    resumed = ask(lm, who, items, runs=3, store=store)
    assert lm.asked == len(resumed) - before
    undisturbed = ask(demo_lm, who, items, runs=3, store=ResponseStore(demo_lm.id, tmp_path / "undisturbed"))
    pd.testing.assert_frame_equal(resumed[COMPARED], undisturbed[COMPARED])
