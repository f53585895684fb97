"""Models behind a server: a real one, and fakes with every failure that the client must survive."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from servers import QuietHandler, completion, free_port, scripted_server, serve

from personagap import ask, datasets, judges, personas, tasks
from personagap.errors import UserError
from personagap.models import Sampling, connection, endpoints, load_model
from personagap.recentering import classifiers
from personagap.responses import ResponseStore

GREEDY = Sampling(temperature=0, max_tokens=20)
SYSTEM = {"role": "system", "content": "You are a helpful assistant. I am a man."}
CHATS = [
    [SYSTEM, {"role": "user", "content": "What is the " + "capital of " * i + "it?"}]
    for i in range(6)
]


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(endpoints, "PAUSE", 0.01)


def well_behaved(body):
    """Count words as tokens, system message included."""
    return 200, completion(prompt_tokens=sum(len(m["content"].split()) for m in body["messages"]))


def after_load(reply):
    """Behave well while the model is loaded, then answer as ``reply`` does."""
    return lambda body: (
        well_behaved(body) if body["max_tokens"] == 1 and "logprobs" not in body else reply(body)
    )


def test_both_backends_answer_and_grade_the_same(served_demo_model, tmp_path):
    who, items = personas.select(["muslim", "gay"]), datasets.load("all", items_per_task=3)
    scores = {}
    for spec in (served_demo_model, "demo"):
        lm = load_model(spec, device="cpu")
        responses = ask.ask(
            lm,
            who,
            items,
            runs=1,
            sampling=replace(GREEDY, max_tokens=100),
            store=ResponseStore(lm.id, tmp_path),
        )
        scores[spec] = tasks.grade(responses, items, judge=judges.load_judge("refusal"))
    pd.testing.assert_frame_equal(*(table.drop(columns="model") for table in scores.values()))
    assert 0 < scores["demo"]["score"].mean() < 1 and scores["demo"]["valid"].all()


def test_server_samples_unless_greedy(served_demo_model):
    lm = load_model(served_demo_model)
    greedy, again = (lm.generate(CHATS, GREEDY, range(6)) for _ in range(2))
    assert [answer.text for answer in greedy] == [answer.text for answer in again]
    hot = Sampling(temperature=5.0, top_k=0, max_tokens=20)  # the demo model is sure of its answers
    drawn = lm.generate(CHATS, hot, range(6))
    assert [answer.text for answer in drawn] != [answer.text for answer in greedy]


def test_server_without_log_probabilities_is_refused(served_demo_model):
    with pytest.raises(UserError, match=r"gives no log-probabilities.*extract"):
        load_model(served_demo_model).choose(CHATS, ["A", "B"])


def test_hidden_states_of_a_server_are_unavailable(served_demo_model):
    pairs, folds = [("Tell me.", f"The user likes {i}.") for i in range(9)], np.arange(9) % 3
    with pytest.raises(UserError, match="shows no hidden states; give encoder= a model in process"):
        classifiers.cross_validate(
            pairs, [0, 0, 0, 1, 1, 1, 0, 1, 0], folds, "states", served_demo_model
        )


def test_unknown_model_of_a_server_is_refused(served_demo_model):
    with pytest.raises(UserError, match="'other' does not answer"):
        load_model("openai:other@" + served_demo_model.rpartition("@")[2])


def test_unreachable_server_is_refused():
    with pytest.raises(UserError, match="unreachable") as caught:
        load_model(f"openai:m@http://127.0.0.1:{free_port()}/v1")
    assert "\n" not in str(caught.value)


FAILURES = [
    "drop",
    "hang",
    (429, {"error": {"message": "slow down"}}),
    (500, {"error": {"message": "oops"}}),
    (503, b"<html>busy</html>"),
    (200, b"not json"),
    (200, {"choices": []}),
    (200, b'"text"'),
    (200, b"[" * 100_000),  # nested deeper than Python's JSON parser allows
    (200, completion("half an ans", finish_reason="ERROR")),
]


@pytest.mark.parametrize("lists", [None, [], "m", {"models": [{"name": "m"}]}])
def test_a_list_of_models_in_another_form_is_no_list(lists):
    class Handler(QuietHandler):
        def do_GET(self):
            self.send(200, json.dumps({"data": lists}).encode(), Content_Type="application/json")

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send(200, json.dumps(completion()).encode(), Content_Type="application/json")

    with serve(Handler) as address:
        assert load_model(f"openai:m@{address}/v1").id == "m"


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: str(failure)[:20])
def test_transient_failure_is_retried(impatient, monkeypatch, failure):
    replies = itertools.chain([failure, failure], itertools.repeat((200, completion("at last"))))
    with scripted_server(after_load(lambda body: next(replies))) as url:
        lm = load_model(f"openai:m@{url}")
        if failure == "hang":
            monkeypatch.setattr(connection, "TIMEOUT", 0.5)
        (answer,) = lm.generate(CHATS[:1], GREEDY, [0])
    assert (answer.text, answer.finish_reason) == ("at last", "stop")


def test_permanent_failure_is_missing_not_wrong(impatient, monkeypatch):
    monkeypatch.setattr(connection, "RETRIES", 1)
    asked = []

    def reply(body):
        long = len(body["messages"][1]["content"])
        asked.append(long)
        if long == len(CHATS[0][1]["content"]):
            return 500, {}
        if long == len(CHATS[1][1]["content"]):
            return 400, {"error": {"message": "too long"}}
        if long == len(CHATS[2][1]["content"]):
            return 200, b"not json"
        return 200, completion("fine", finish_reason="length")

    with scripted_server(after_load(reply)) as url:
        answers = load_model(f"openai:m@{url}").generate(CHATS, GREEDY, range(6))
    assert [answer.finish_reason for answer in answers] == ["error"] * 3 + ["length"] * 3
    assert [answer.text for answer in answers] == [None] * 3 + ["fine"] * 3
    assert len(asked) == 2 + 6  # failing and garbled ones twice, refused ones once


def test_server_that_refuses_every_request_is_an_error(impatient):
    with scripted_server(
        after_load(lambda body: (401, {"error": {"message": "key revoked"}}))
    ) as url:
        lm = load_model(f"openai:m@{url}")
        with pytest.raises(UserError, match=r"refuses every request.*key revoked"):
            lm.generate(CHATS, GREEDY, range(6))


def test_requests_contain_seed_and_sampling_parameters():
    bodies = []
    with scripted_server(lambda body: bodies.append(body) or well_behaved(body)) as url:
        load_model(f"openai:m@{url}").generate(CHATS[:1], Sampling(top_p=0.9, max_tokens=7), [42])
    sent = {
        name: bodies[-1].get(name)
        for name in ("seed", "top_k", "top_p", "temperature", "max_tokens", "stop")
    }
    # S8.
    assert sent == {
        "seed": 42,
        "top_k": 10,
        "top_p": 0.9,
        "temperature": 1.0,
        "max_tokens": 7,
        "stop": None,
    }


def test_server_without_top_k_is_supported_or_refused(impatient):
    def reply(body):
        return (400, {}) if {"top_k", "generation_config"} & set(body) else well_behaved(body)

    with scripted_server(reply) as url:
        lm = load_model(f"openai:m@{url}")
        with pytest.raises(UserError, match="top_k=0"):
            lm.generate(CHATS, Sampling(), range(6))
        assert lm.generate(CHATS[:1], Sampling(top_k=0), [0])[0].text == "fine"


@pytest.mark.parametrize("how", ["refuses", "drops"])
def test_persona_reaches_a_server_without_system_role(impatient, how):
    """S9: a system message that is rejected, or not counted in tokens, moves to the user turn."""

    def reply(body):
        roles = [message["role"] for message in body["messages"]]
        if "system" in roles and how == "refuses":
            return 400, {"error": {"message": "System role not supported"}}
        texts = [message["content"] for message in body["messages"] if message["role"] != "system"]
        return 200, completion(texts[-1], prompt_tokens=len(texts[-1].split()))

    with scripted_server(reply) as url:
        lm = load_model(f"openai:m@{url}")
        (answer,) = lm.generate(CHATS[:1], GREEDY, [0])
    assert answer.text == SYSTEM["content"] + "\n\n" + CHATS[0][1]["content"]
    assert json.loads(lm.render(CHATS[0])) == [{"role": "user", "content": answer.text}]


def test_choose_reads_log_probabilities():
    def reply(body):
        top = [
            {"token": letter, "logprob": -0.5 - i, "bytes": None} for i, letter in enumerate("ABCD")
        ]
        return 200, completion("A", logprobs={"content": [{**top[0], "top_logprobs": top}]})

    with scripted_server(after_load(reply)) as url:
        lm = load_model(f"openai:m@{url}")
        scores = lm.choose(CHATS, ["D", "A"])
        with pytest.raises(UserError, match="'E' is not among the 4 likeliest"):
            lm.choose(CHATS, ["A", "E"])
    np.testing.assert_allclose(scores, [[-3.5, -0.5]] * 6)
