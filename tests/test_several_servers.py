"""One model on several servers: requests are distributed, and losing a server loses no answer."""

import threading
import time

import pytest
from servers import RestartableServer, completion, scripted_server

from personagap.errors import UserError
from personagap.models import Sampling, connection, endpoints, load_model

SAMPLING = Sampling(top_k=0, max_tokens=20)
CHATS = [[{"role": "user", "content": f"Question {i}"}] for i in range(128)]
ANSWERS = [f"answer to Question {i}" for i in range(128)]


@pytest.fixture
def two():
    servers = [RestartableServer(max_concurrent=2), RestartableServer(max_concurrent=2)]
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.kill()


def seconds(lm):
    start = time.perf_counter()
    answers = lm.generate(CHATS, SAMPLING, range(128))
    assert [answer.text for answer in answers] == ANSWERS
    return time.perf_counter() - start


@pytest.mark.slow
def test_two_servers_are_nearly_twice_as_fast_as_one(two):
    alone, both = (
        load_model(f"openai:m@{two[0].url}"),
        load_model(f"openai:m@{two[0].url},{two[1].url}"),
    )
    ratios = sorted(seconds(alone) / seconds(both) for _ in range(3))
    assert ratios[1] >= 1.8


def test_lost_server_is_named_and_the_other_takes_over(two, capsys):
    lm = load_model(f"openai:m@{two[0].url}, {two[1].url}", patience=60)
    assert lm.describe()["server"].split(",") == sorted(server.url for server in two)
    kept = []

    def keep(i, answer):
        kept.append(i)
        if kept.index(i) == 29:  # called from several threads
            two[0].kill()
            threading.Timer(2, two[0].start).start()

    answers = lm.generate(CHATS, SAMPLING, range(128), keep)
    assert [answer.text for answer in answers] == ANSWERS
    assert sorted(kept) == [*range(128)]
    assert lm.failure is None
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith(f"server {two[0].url}: does not answer")
    assert "going on with the other" in output[0]
    assert all("answers again" in line for line in output[1:]) and len(output) <= 2
    two[1].kill()
    seconds(lm)  # the lost server is probed again
    two[1].start()


def test_losing_both_servers_is_reported_like_losing_one(two):
    lm = load_model(f"openai:m@{two[0].url},{two[1].url}", patience=2)
    for server in two:
        server.kill()
    with pytest.raises(
        UserError, match=r"has not answered for \d+ s .*patience is 2 s .*run the same again"
    ):
        lm.generate(CHATS, SAMPLING, range(128))
    for server in two:
        server.start()


@pytest.mark.parametrize("status", [429, 503, 401])
def test_requests_refused_by_one_server_go_to_the_other(monkeypatch, status):
    monkeypatch.setattr(endpoints, "PAUSE", 0.05)
    refusing, asked = threading.Event(), []

    def refuses(body):
        asked.append(body)
        return (status, {"error": {"message": "no"}}) if refusing.is_set() else (200, completion())

    with (
        scripted_server(refuses) as first,
        scripted_server(lambda body: (200, completion("fine"))) as second,
    ):
        lm = load_model(f"openai:m@{first},{second}")
        refusing.set()
        asked.clear()
        answers = lm.generate(CHATS, SAMPLING, range(128))
    assert {answer.text for answer in answers} == {"fine"} and lm.failure is None
    assert len(asked) <= 2 * connection.CONCURRENCY


@pytest.mark.parametrize("status", [401, 403, 404])
def test_lost_server_is_waited_for_if_the_other_refuses(monkeypatch, capsys, status):
    """For longer than a request is retried; refusals do not count as its return."""
    monkeypatch.setattr(endpoints, "PAUSE", 0.05)
    monkeypatch.setattr(endpoints, "LONGEST_PAUSE", 0.1)
    begun, free = threading.Event(), []

    def refuses(body):
        return (status, {"error": {"message": "no"}}) if begun.is_set() else (200, completion())

    def stumbles(body):
        busy = begun.is_set() and time.monotonic() < free[0]
        return (503, {"error": {"message": "busy"}}) if busy else (200, completion("fine"))

    with scripted_server(refuses) as first, scripted_server(stumbles) as second:
        lm = load_model(f"openai:m@{first},{second}", patience=30)
        free.append(time.monotonic() + 2)
        begun.set()
        answers = lm.generate(CHATS, SAMPLING, range(128))
    assert {answer.text for answer in answers} == {"fine"} and lm.failure is None
    assert capsys.readouterr().out.count("answers again") <= 2  # the lost one, and then both


def test_late_answer_from_before_the_loss_is_not_a_return(monkeypatch, capsys):
    monkeypatch.setattr(endpoints, "PAUSE", 5)
    gone, late = threading.Event(), threading.Event()

    def answers_once_more(body):
        if not gone.is_set():
            return 200, completion()
        if late.is_set():
            return 503, {"error": {"message": "no"}}
        late.set()
        time.sleep(1)
        return 200, completion("late")

    with (
        scripted_server(answers_once_more) as first,
        scripted_server(lambda body: (200, completion("fine"))) as second,
    ):
        lm = load_model(f"openai:m@{first},{second}")
        gone.set()
        answers = [answer.text for answer in lm.generate(CHATS, SAMPLING, range(128))]
    assert sorted(answers) == ["fine"] * 127 + ["late"]
    assert capsys.readouterr().out.count("\n") == 1


def refuses_seeds(body):
    return (400, {"error": {"message": "no seed"}}) if "seed" in body else (200, completion())


def well_behaved(body):
    return 200, completion()


@pytest.mark.parametrize(
    ("reply", "lists", "line"),
    [
        (refuses_seeds, "m", r"they differ in seed: ask each by itself$"),
        (well_behaved, "n", r"they serve different models \(http.*: [mn]; http.*: [mn]\)$"),
    ],
)
def test_servers_with_different_dialects_are_refused(reply, lists, line):
    with (
        scripted_server(well_behaved) as first,
        scripted_server(reply, lists) as second,
        pytest.raises(UserError, match=line),
    ):
        load_model(f"openai:m@{first},{second}")


def test_unreachable_server_is_named(two):
    two[1].kill()
    with pytest.raises(UserError, match=f"server {two[1].url}: unreachable"):
        load_model(f"openai:m@{two[0].url},{two[1].url}")
    two[1].start()
