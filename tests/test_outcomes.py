"""Outcomes of requests: a server that gives each of them, retries, grading and reports."""

import random

import numpy as np
import pandas as pd
import pytest
from notebook_helpers import run_in_process
from servers import completion, scripted_server

from personagap import ask, datasets, effects, judges, personas, safety_utility, tasks, verdicts
from personagap.models import Generation, Sampling, connection, endpoints, load_model
from personagap.models.answers import parse_answer, split
from personagap.paths import NOTEBOOKS
from personagap.responses import ResponseStore

GREEDY = Sampling(temperature=0, max_tokens=20)


def message(**fields):
    return completion(message={"role": "assistant", "content": "", **fields})


#: The server's reply to the question of each name.
REPLIES = {
    "answered": completion("The answer is (B)."),
    "truncated": completion("The answer is (B) since", finish_reason="length"),
    "thought": completion("<think>A?</think>The answer is (B)."),
    "thought apart": message(content="The answer is (B).", reasoning_content="A?"),
    "unfinished": completion("<think>The answer is (B)?", finish_reason="length"),
    "unfinished apart": {**message(reasoning_content="B?"), "choices": [
        {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": None,
        "reasoning": "B?"}}
    ]},
    "refused": message(content=None, refusal="This I leave."),
    "blocked": completion("", finish_reason="content_filter"),
    "blocked midway": completion("The answer is (B).", finish_reason="content_filter"),
    "empty": completion(" "),
}  # fmt: skip
OUTCOMES = {name: name.split()[0].replace("thought", "answered") for name in REPLIES}


def well_behaved(body):
    return 200, completion(prompt_tokens=sum(len(m["content"].split()) for m in body["messages"]))


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(endpoints, "PAUSE", 0.01)
    monkeypatch.setattr(connection, "RETRIES", 1)


def items_named(names, task="mmlu"):
    more = (
        {"choices": list("1234"), "answer": "B"}
        if task == "mmlu"
        else {"choices": None, "answer": None}
    )
    rows = [{"task": task, "item": name, "question": f"Q: {name}!", **more} for name in names]
    return pd.DataFrame(rows).assign(tests=None, setup="", group="")


def asked_for(body):
    """The name of the question in a request."""
    return body["messages"][-1]["content"].partition("Q: ")[2].partition("!")[0]


def put(url, who, items, folder):
    lm = load_model(f"openai:m@{url}")
    return ask.ask(lm, who, items, runs=1, sampling=GREEDY, store=ResponseStore(lm.id, folder))


def test_each_outcome_is_reported_stored_and_graded(impatient, tmp_path):
    asked = []

    def reply(body):
        name = asked_for(body)
        asked.append(name)
        if not name:
            return well_behaved(body)
        if name == "stopped at the door":  # Azure refuses the prompt
            return 400, {"error": {"message": "filtered", "code": "content_filter"}}
        if name == "aborted":
            return 200, completion("The", finish_reason="abort")
        return 200, REPLIES[name]

    names = [*REPLIES, "stopped at the door", "aborted"]
    items, who = items_named(names), personas.select([], controls=["none"])
    with scripted_server(reply) as url:
        first = put(url, who, items, tmp_path)
        asked.clear()
        again = put(url, who, items, tmp_path)
    answers = first.set_index("item")
    expected = {**OUTCOMES, "stopped at the door": "blocked", "aborted": "failed"}
    assert answers["outcome"].to_dict() == expected
    assert answers.loc["thought", ["text", "reasoning"]].tolist() == ["The answer is (B).", "A?"]
    assert answers.loc["thought apart", ["text", "reasoning"]].tolist() == [
        "The answer is (B).",
        "A?",
    ]
    assert answers.loc["unfinished", ["text", "reasoning"]].tolist() == ["", "The answer is (B)?"]
    assert answers.loc["blocked", "finish_reason"] == "content_filter"  # the server's own reason
    assert {name for name in asked if name} == {"aborted"}
    assert again.attrs["asked"] == again.attrs["unanswered"] == 1
    scores = tasks.grade(first, items).set_index("item")
    assert scores["score"].fillna(-1).to_dict() == {
        "answered": 1, "truncated": 1, "thought": 1, "thought apart": 1, "refused": 0,
        "unfinished": -1, "unfinished apart": -1, "blocked": -1, "blocked midway": -1, "empty": -1,
        "stopped at the door": -1,
    }  # fmt: skip
    assert scores.index[scores["truncated"]].tolist() == [
        "truncated",
        "unfinished",
        "unfinished apart",
    ]
    rates = effects.rates(effects.outcomes(scores.reset_index())).set_index("task")["estimate"]
    assert rates.to_dict() == pytest.approx(
        {
            "mmlu, refused": 100 / 11,
            "mmlu, blocked": 300 / 11,
            "mmlu, empty": 100 / 11,
            "mmlu, unfinished": 200 / 11,
        }
    )
    # Of the five answers with content.
    assert effects.rates(scores.reset_index())["estimate"].item() == 80


@pytest.mark.parametrize("n_blocked", [8, 11, 12])
def test_content_filter_that_blocks_one_identity_is_named(n_blocked, impatient, tmp_path):
    """``n_blocked`` of 12 prompts of one identity are blocked; all other answers are harmless."""
    names = [f"{number:02}" for number in range(12)]
    items = items_named(names, task="strongreject")
    who = personas.select(["muslim", "hindu", "jewish"], controls=["none"])

    def reply(body):
        prompt, name = str(body["messages"]), asked_for(body)
        if not name:
            return well_behaved(body)
        if "Muslim" in prompt and name < f"{n_blocked:02}":
            return 200, completion("", finish_reason="content_filter")
        harmful = "Hindu" in prompt and name == "11"
        return 200, completion("Sure, first take" if harmful else "I cannot help with that.")

    with scripted_server(reply) as url:
        responses = put(url, who, items, tmp_path)
    scores = tasks.grade(responses, items, judge=judges.load_judge("refusal"))
    ended = safety_utility.checks.endings(scores, seed=0)
    shares = ended["rates"].set_index(["task", "persona"])["estimate"]
    assert shares["strongreject, blocked"].to_dict() == pytest.approx(
        {"none": 0, "muslim": 100 * n_blocked / 12, "hindu": 0, "jewish": 0}
    )
    contrasts, harmless = ended["outcomes"], ended["blocked_as_harmless"]
    left_out = effects.personalization_bias(scores, seed=0)
    # Blocked answers drop cells, not the items that others answered.
    estimable = n_blocked < 10  # otherwise its mean has no standard error
    missing = [
        table[["n_identities", "n_items", "n_missing"]].iloc[0].tolist()
        for table in (left_out, harmless)
    ]
    assert missing == [[3, 12, n_blocked] if estimable else [2, 12, 0], [3, 12, 0]]
    # Contrasts of the other identities are computed.
    versus = effects.contrasts(scores).set_index("contrast")
    assert versus["estimate"].notna().to_dict() == {
        "muslim − none": estimable, "hindu − none": True, "jewish − none": True
    }  # fmt: skip
    assert versus.loc["hindu − none", "family"].endswith(f"({2 + estimable} tests)")
    rates, power = effects.rates(scores), effects.detectable(scores)
    identities = verdicts.persona_effects(left_out, versus.reset_index(), rates, power)["answer"]
    assert (
        estimable
        != identities.str.contains(
            "Not compared, for want of answers that say anything: muslim"
        ).any()
    )
    verdict = verdicts.outcomes(contrasts, left_out, harmless, ended["spread"]).set_index(
        "question"
    )["answer"]
    assert verdict.iloc[0].startswith(
        "strongreject, blocked: 1 of 3 after Holm's correction, the largest: muslim − none"
    )
    assert "with them left out" in verdict.iloc[1] and "with them harmless" in verdict.iloc[1]
    assert len(verdicts.outcomes(None, left_out, None)) == 0


def test_answers_of_older_versions_are_read_unchanged_and_marked(impatient, tmp_path):
    items, who = items_named(["answered", "thought"]), personas.select([], controls=["none"])

    def reply(body):
        return (200, REPLIES[asked_for(body)]) if asked_for(body) else well_behaved(body)

    with scripted_server(reply) as url:
        put(url, who, items, tmp_path / "new")
        store = ResponseStore("m", tmp_path / "new")
        old = store.get([key for key, *_ in store.rows()]).drop(columns=["reasoning", "outcome"])
        old["text"] = ["<think>A?</think>The answer is (B)."] * 2
        folder = tmp_path / "old" / store.folder.name
        folder.mkdir(parents=True)
        old.to_parquet(folder / "shard.parquet")
        responses = put(url, who, items, tmp_path / "old")
    assert responses.attrs.items() >= {"asked": 0, "unanswered": 0, "older": 2}.items()
    assert responses["text"].tolist() == ["<think>A?</think>The answer is (B)."] * 2
    assert responses["outcome"].isna().all()
    assert tasks.grade(responses, items)["score"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("content", "reasoning", "text"),
    [
        ("B", "", "B"),
        ("<think>A?</think>\n\nB", "A?", "B"),
        ("A?</think>B", "A?", "B"),
        ("<think>A?</think>C?<think>D?</think>B", "A?\nC?\nD?", "B"),
        ("<thinking>A?</thinking>B", "A?", "B"),
        ("[THINK]A?[/THINK]B", "A?", "B"),
        ("<|channel|>analysis<|message|>A?<|channel|>final<|message|>B", "A?", "B"),
        ("◁think▷A?◁/think▷B", "A?", "B"),
        ("<seed:think>A?</seed:think>B", "A?", "B"),
        ("B<think>A?", "A?", "B"),
        ("B\n<think>sure?</think>", "sure?", "B"),
        ("<think>A?", "A?", ""),
        ("<think>A?</think>B<think>C?</think>", "A?\nC?", "B"),
        ("<antThinking>A?</antThinking>B", "A?", "B"),
        ("<cot>A?</cot>B", "A?", "B"),
        ("<rationale>\nA?\n</rationale>\nB", "A?", "B"),
        ("<inner_thoughts>A?</inner_thoughts>B", "A?", "B"),
        ("<thinking_process>A?</thinking_process>B", "A?", "B"),
        ('<think type="long">A?</think>B', "A?", "B"),
        ("[Thinking]A?[/Thinking]B", "A?", "B"),
        ("<|START_THINKING|>A?<|END_THINKING|><|START_RESPONSE|>B<|END_RESPONSE|>", "A?", "B"),
        (
            "<|channel|>analysis<|message|>A?<|end|><|start|>assistant<|channel|>final<|message|>B"
            "<|return|>",
            "A?",
            "B",
        ),
        # The same without special tokens.
        ("analysisSo A?assistantfinalB", "So A?", "B"),
        ("analysisSo A?", "So A?", ""),
        ("<unused94>thought\nA?<unused95>B", "A?", "B"),
        # The formats of Granite and Apriel.
        ("Here is my thought process:\n\nA?\n\nHere is my response:\n\nB", "A?", "B"),
        ("Here's my thought process:\nA?\n", "", "Here's my thought process:\nA?\n"),
        ("Sure. Here is my response: B", "", "Sure. Here is my response: B"),
        ("A?\n[BEGIN FINAL RESPONSE]\nB\n[END FINAL RESPONSE]", "A?", "B"),
        ("B<|im_end|>", "", "B"),
        ("B</s>", "", "B"),
        ("<s>B<｜end▁of▁sentence｜>", "", "B"),
        ("<bos>B", "", "B"),
        ("analysis of B", "", "analysis of B"),
        ("a <|b|> c", "", "a <|b|> c"),
        ("a < b > c", "", "a < b > c"),
    ],
)
def test_reasoning_is_separated_from_the_text(content, reasoning, text):
    found, shown = split(content)
    assert (found.replace("\n\n", "\n"), shown) == (reasoning, text)
    assert split(shown)[1] == shown  # idempotent


def test_template_that_opens_the_reasoning_is_recognised():
    cut, done = (parse_answer(Generation(text, reason, 1, 1, 0.0), "<|assistant|><think>\n")
                 for text, reason in [("The answer is B?", "length"), ("A?</think>B",
                 "stop")])  # fmt: skip
    assert (cut.text, cut.outcome, done.text, done.outcome) == ("", "unfinished", "B", "answered")
    skipped = parse_answer(
        Generation("B", "stop", 1, 1, 0.0), "<|assistant|><think>\n\n</think>\n\n"
    )
    assert (skipped.text, skipped.outcome) == ("B", "answered")


def test_timed_out_programs_are_counted_separately(allow_unconfined, monkeypatch):
    short = tasks.find("mbpp").graders["corrected"]._replace(seconds=0.5)
    monkeypatch.setitem(tasks.find("mbpp").graders, "corrected", short)
    items = items_named(["1"], "mbpp").assign(tests=[["assert f(2) == 4"]])
    codes = ["def f(n): return 2 * n", "def f(n): return 0", "def f(n):\n    while True: pass"]
    cell = {
        "model": "m",
        "template": "paper",
        "task": "mbpp",
        "item": "1",
        "run": 0,
        "finish_reason": "stop",
    }
    answers = [
        {**cell, "persona": name, "text": f"```\n{code}\n```"}
        for name, code in zip("abc", codes, strict=True)
    ]
    scores = tasks.grade(pd.DataFrame(answers), items)
    assert scores["score"].tolist() == [1, 0, 0]
    assert scores["outcome"].tolist() == ["answered", "answered", "timed out"]
    rates = effects.rates(effects.outcomes(scores))
    np.testing.assert_array_equal(rates["estimate"], [0, 0, 100])
    assert set(rates["task"]) == {"mbpp, timed out"}


@pytest.mark.parametrize("n_blocked", [pytest.param(8, marks=pytest.mark.slow), 12])
def test_notebook_continues_if_a_filter_blocks_one_identity(n_blocked, tmp_path, isolated_cache):
    """It names the identity; a task without blocked prompts keeps it."""
    questions = datasets.load("strongreject", items_per_task=12)["question"].tolist()[:n_blocked]

    def reply(body):
        prompt = str(body["messages"])
        if "Muslim" in prompt and any(
            question in body["messages"][-1]["content"] for question in questions
        ):
            return 200, completion("", finish_reason="content_filter")
        if "random" in prompt:
            return 200, completion(f"{random.random()}")
        safe = "(A)" not in prompt
        return 200, completion(
            "I cannot help with that." if safe else "The answer is (B).", len(prompt.split())
        )

    given = {
        "tasks": ["strongreject", "mmlu"],
        "personas": ["muslim", "hindu", "jewish"],
        "intersections": [],
    }
    given |= {"runs": 1, "items_per_task": 12, "top_k": 0}
    with scripted_server(reply) as url:
        run_in_process(
            NOTEBOOKS / "safety_utility" / "1_personalization_bias.ipynb",
            tmp_path,
            **given,
            model=f"openai:m@{url}",
        )
    (file,) = tmp_path.rglob("verdict.csv")
    verdict = pd.read_csv(file).set_index("question")["answer"]
    (ended,) = verdict[
        verdict.index.str.startswith("Do the answers to some identities end otherwise")
    ]
    assert ended.startswith("strongreject, blocked: ")
    assert f"the largest: muslim − none +{100 * n_blocked / 12:.1f}" in ended
