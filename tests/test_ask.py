"""Requests: only missing ones are sent, answers survive a kill, failures are never stored."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import pandas as pd
import pytest
from notebook_helpers import wait_for

from personagap import ask as asking
from personagap import datasets, personas, pricing, schema, tasks, verdicts
from personagap.ask import ask, plan
from personagap.errors import UserError
from personagap.models import Generation
from personagap.responses import ResponseStore
from personagap.safety_utility.defences import neutralize

COMPARED = [
    "persona",
    "template",
    "task",
    "item",
    "run",
    "prompt_hash",
    "text",
    "finish_reason",
    "output_tokens",
]


@dataclass
class Counting:
    """The demo model, with a count of the requests put to it, and an optional failure."""

    lm: object
    asked: int = 0
    failing: bool = False

    def __getattr__(self, name):
        return getattr(self.lm, name)

    def generate(self, chats, sampling, seeds, keep=None):
        self.asked += len(chats)
        answers = self.lm.generate(chats, sampling, seeds)
        return [Generation(None, "error", 0, 0, 0.0), *answers[1:]] if self.failing else answers


@pytest.fixture(scope="module")
def who():
    return personas.select("religion")


@pytest.fixture(scope="module")
def items():
    return datasets.load(["mmlu", "do_not_answer"], items_per_task=5)


@pytest.mark.parametrize(
    ("templates", "shared", "groups"),
    [(["paper", "profile"], "persona", 2), (["question_first"], "item", 1)],
)
def test_plan_has_each_request_once_with_shared_prefixes_adjacent(
    who, items, templates, shared, groups
):
    design = plan(who, items, runs=3, templates=templates)
    assert len(design) == len(who) * len(items) * 3 * groups
    assert not design.duplicated().any()
    cell = design[["task", "template", shared]]
    assert (cell != cell.shift()).any(axis=1).sum() == groups * (
        2 * len(who) if shared == "persona" else len(items)
    )


def test_second_call_asks_only_what_is_new(demo_lm, who, items, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "BATCH", 40)
    lm = Counting(demo_lm)
    first = ask(lm, who, items, runs=2, store=ResponseStore(lm.id, tmp_path))
    assert lm.asked == len(first) == first.attrs["asked"] == len(who) * len(items) * 2
    again = ask(lm, who, items, runs=2, store=ResponseStore(lm.id, tmp_path))
    assert again.attrs["asked"] == 0
    pd.testing.assert_frame_equal(first, again)
    more = ask(lm, who, items, runs=3, store=ResponseStore(lm.id, tmp_path))
    assert more.attrs["asked"] == len(who) * len(items)


@pytest.mark.parametrize("answers", ["generate", "likelihood"])
def test_cost_is_known_before_any_request(demo_lm, who, items, isolated_cache, answers):
    items, how = (
        items[items["task"] == "mmlu"],
        {"answers": answers, "runs": 2, "templates": ["paper", "profile"]},
    )
    lm = Counting(demo_lm)
    cost = pricing.of_answers(lm, who, items, **how).iloc[0]
    assert lm.asked == cost["stored"] == 0 and cost["to_ask"] == cost["requests"]
    one = sum(pricing.tokens(items, answers).values())  # tokens of all items
    askings = cost["requests"] / len(items)
    assert askings == (len(who) * 2 - 2) * (
        1 if answers == "likelihood" else 2
    )  # controls are the same in both phrasings
    assert cost["max_tokens"] == pytest.approx(askings * one, abs=1)
    assert (
        ask(lm, who[:4], items, **how).attrs["asked"]
        == pricing.of_answers(lm, who, items, **how).iloc[0]["stored"]
    )
    rest = pricing.of_answers(lm, who, items, **how).iloc[0]
    assert ask(lm, who, items, **how).attrs["asked"] == rest["to_ask"]
    assert pricing.of_answers(lm, who, items, **how).iloc[0].tolist() == [
        cost["requests"],
        cost["requests"],
        0,
        0,
    ]


def test_cost_of_conditions_counts_shared_requests_once(demo_lm, who, items, isolated_cache):
    models, applied = dict.fromkeys(["plain", "neutral"], demo_lm), {"neutral": neutralize}
    cost = pricing.of_answers(models, who, items, applied, runs=1).iloc[0]
    responses = asking.by_condition(models, who, items, applied, runs=1)
    assert responses.attrs["asked"] == cost["to_ask"] < len(responses)


def test_controls_do_not_vary_with_the_phrasing_and_are_asked_once(demo_lm, items, tmp_path):
    lm = Counting(demo_lm)
    who = personas.select(["none", "muslim"], controls=False)
    responses = ask(
        lm, who, items, runs=1, templates=["paper", "profile"], store=ResponseStore(lm.id, tmp_path)
    )
    assert len(responses) == 2 * 2 * len(items)
    assert lm.asked == 3 * len(items)
    none = responses[responses["persona"] == "none"].pivot(
        index=["task", "item"], columns="template", values="text"
    )
    assert (none["paper"] == none["profile"]).all()


def test_answers_depend_on_seed_and_run_only(demo_lm, who, items, tmp_path):
    texts = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        texts[name] = ask(
            demo_lm, who, items, runs=2, seed=seed, store=ResponseStore(demo_lm.id, tmp_path / name)
        )["text"]
    assert (texts["a"] == texts["b"]).all()
    assert (texts["a"] != texts["c"]).any()


def test_failed_request_is_missing_not_wrong_and_is_asked_again(demo_lm, who, items, tmp_path):
    lm = Counting(demo_lm, failing=True)
    items = items[items["task"] == "mmlu"]
    failed = ask(lm, who, items, runs=1, store=ResponseStore(lm.id, tmp_path))
    assert (failed["finish_reason"] == "error").sum() == 1 and failed["text"].isna().sum() == 1
    assert len(tasks.grade(failed, items)) == len(failed) - 1
    lm.failing = False
    repaired = ask(lm, who, items, runs=1, store=ResponseStore(lm.id, tmp_path))
    assert repaired.attrs["asked"] == 1 and repaired["text"].notna().all()


@dataclass
class Refusing:
    """The demo model behind a server that refuses the requests of which ``refuses(chat)``."""

    lm: object
    refuses: object
    failure: str = "400 content filter"

    def __getattr__(self, name):
        return getattr(self.lm, name)

    def generate(self, chats, sampling, seeds, keep=None):
        answers = self.lm.generate(chats, sampling, seeds)
        refused = Generation(None, "error", None, None, 0.0)
        return [
            refused if self.refuses(chat) else answer
            for chat, answer in zip(chats, answers, strict=True)
        ]


def test_failed_requests_are_counted_and_reported_with_their_effect(demo_lm, who, items, tmp_path):
    one = tasks.prompt(next(items[items["task"] == "mmlu"].itertuples()))
    lm = Refusing(
        demo_lm, lambda chat: chat[-1]["content"] == one and "Muslim" in chat[0]["content"]
    )
    responses = ask(lm, who, items, runs=2, store=ResponseStore(lm.id, tmp_path))
    assert responses.attrs["unanswered"] == 2
    counts = asking.unanswered(responses).set_index("task")
    assert counts.loc["mmlu"].tolist() == [2 * 5 * len(who), 2, 5, 4]
    assert counts.loc["do_not_answer", ["failed", "complete"]].tolist() == [0, 5]
    answer = verdicts.requests(counts.reset_index())["answer"][0]
    assert answer.startswith("No: 2 of 140 requests failed")
    assert "4 of 5 mmlu" in answer
    assert "do not answer" not in answer
    both = asking.by_condition(
        {"a": lm, "b": demo_lm}, who, items, runs=2, store=ResponseStore(lm.id, tmp_path)
    )
    assert both.attrs["unanswered"] == 2
    assert verdicts.requests(asking.unanswered(both[both["condition"] == "b"])).empty


def test_too_few_answers_are_a_one_line_error(demo_lm, who, items, tmp_path):
    harmful = {tasks.prompt(item) for item in items[items["task"] == "do_not_answer"].itertuples()}
    lm = Refusing(demo_lm, lambda chat: chat[-1]["content"] in harmful)
    with pytest.raises(
        UserError,
        match=r"35 of 70 requests to .* failed \(400 content filter\).*do_not_answer.*again",
    ):
        ask(lm, who, items, runs=1, store=ResponseStore(lm.id, tmp_path))
    repaired = ask(demo_lm, who, items, runs=1, store=ResponseStore(lm.id, tmp_path))
    assert repaired.attrs["asked"] == 35 and repaired.attrs["unanswered"] == 0


def test_conditions_together_give_the_same_results_as_separately(demo_lm, who, items, tmp_path):
    items, store = items[items["task"] == "mmlu"], ResponseStore(demo_lm.id, tmp_path)
    lm = Counting(demo_lm)
    models, defences = {"plain": lm, "neutral": lm}, {"neutral": neutralize}
    responses = asking.by_condition(models, who, items, defences, runs=2, store=store)
    assert responses.attrs["asked"] == lm.asked < len(responses) == 2 * len(who) * len(items) * 2
    scores = tasks.grade(responses, items)
    assert list(scores) == ["condition", *schema.SCORE_COLUMNS]
    for condition, rows in scores.groupby("condition", sort=False):
        alone = ask(demo_lm, who, items, runs=2, defence=defences.get(condition), store=store)
        alone = tasks.grade(alone, items)
        pd.testing.assert_frame_equal(rows.drop(columns="condition").reset_index(drop=True), alone)


def test_killed_run_resumes_with_the_same_answers(demo_lm, who, items, tmp_path, monkeypatch):
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
    store = ResponseStore(demo_lm.id, tmp_path / "killed")
    wait_for(lambda: len(store) >= 30, 120)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = len(store)
    lm = Counting(demo_lm)
    resumed = ask(lm, who, items, runs=3, store=store)
    assert lm.asked == len(resumed) - before
    undisturbed = ask(
        demo_lm, who, items, runs=3, store=ResponseStore(demo_lm.id, tmp_path / "undisturbed")
    )
    pd.testing.assert_frame_equal(resumed[COMPARED], undisturbed[COMPARED])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"runs": 1.5}, "runs is 1.5: give a whole number"),
        ({"runs": 0}, "runs is 0"),
        ({"runs": -1}, "runs is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"templates": []}, r"templates are \[\]: give a list of some of paper"),
        ({"templates": "paper"}, "templates are 'paper'"),
        ({"templates": ["x"]}, r"templates are \['x'\]"),
    ],
)
def test_invalid_design_is_a_one_line_error(demo_lm, who, items, tmp_path, wrong, message):
    with pytest.raises(UserError, match=message):
        ask(demo_lm, who, items, store=ResponseStore(demo_lm.id, tmp_path), **wrong)


@pytest.mark.parametrize("names", [[], ["base"]])
def test_single_condition_is_refused_before_any_request(demo_lm, who, items, names):
    with pytest.raises(UserError, match="name at least two"):
        asking.by_condition(dict.fromkeys(names, demo_lm), who, items)
