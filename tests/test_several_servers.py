"""One model on several servers: requests are spread over them,
and the loss of one costs nothing.
"""

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
def test_two_servers_answer_nearly_twice_as_fast_as_one(two):
    alone, both = (
        load_model(f"openai:m@{two[0].url}"),
        load_model(f"openai:m@{two[0].url},{two[1].url}"),
    )
    ratios = sorted(seconds(alone) / seconds(both) for _ in range(3))
    assert ratios[1] >= 1.8


def test_a_server_that_is_lost_is_named_and_the_other_goes_on(two, capsys):
    lm = load_model(f"openai:m@{two[0].url}, {two[1].url}", patience=60)
    assert lm.describe()["server"].split(",") == sorted(server.url for server in two)
    kept = []

    def keep(i, answer):
        kept.append(i)
        if kept.index(i) == 29:  # told from several threads at a time
            two[0].kill()
            threading.Timer(2, two[0].start).start()

    answers = lm.generate(CHATS, SAMPLING, range(128), keep)
    assert (
        [answer.text for answer in answers] == ANSWERS
        and sorted(kept) == [*range(128)]
        and lm.failure is None
    )
    said = capsys.readouterr().out.splitlines()
    assert (
        said[0].startswith(f"server {two[0].url}: does not answer")
        and "going on with the other" in said[0]
    )
    assert all("answers again" in line for line in said[1:]) and len(said) <= 2
    two[1].kill()
    seconds(lm)  # the one that was lost is asked again, and asked alone
    two[1].start()


def test_both_gone_is_as_one_that_is_gone(two):
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
def test_a_server_that_refuses_leaves_the_requests_to_the_other(monkeypatch, status):
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
def test_where_one_refuses_the_other_is_waited_for(monkeypatch, capsys, status):
    """Longer than a request is repeated, and not told to answer again because the one that refuses
    does.
    """
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
    assert capsys.readouterr().out.count("answers again") <= 2  # the one, and so both


def test_an_answer_from_before_the_loss_is_no_return(monkeypatch, capsys):
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
def test_servers_that_differ_are_not_mixed(reply, lists, line):
    with (
        scripted_server(well_behaved) as first,
        scripted_server(reply, lists) as second,
        pytest.raises(UserError, match=line),
    ):
        load_model(f"openai:m@{first},{second}")


def test_one_that_is_unreachable_is_named(two):
    two[1].kill()
    with pytest.raises(UserError, match=f"server {two[1].url}: unreachable"):
        load_model(f"openai:m@{two[0].url},{two[1].url}")
    two[1].start()
