"""Outages of a server, rate limits (Retry-After) and slow answers."""

import itertools
import threading
import time

import pytest
from servers import RestartableServer, completion, scripted_server

from personagap.errors import UserError
from personagap.models import Sampling, connection, endpoints, load_model, replies
from personagap.models.connection import Connection
from personagap.models.replies import Failure

SAMPLING = Sampling(top_k=0, max_tokens=20)
CHATS = [[{"role": "user", "content": f"Question {i}"}] for i in range(96)]


@pytest.fixture
def killable():
    server = RestartableServer()
    server.start()
    yield server
    server.kill()


def kept_after(number, then):
    """A ``keep`` that calls ``then`` once ``n`` answers are kept, and the list of kept answers."""
    kept, lock = {}, threading.Lock()

    def keep(i, answer):
        with lock:
            kept[i] = answer.text
            if len(kept) == number:
                then()

    return keep, kept


def test_client_waits_out_an_outage(killable, capsys):
    def outage():
        killable.kill()
        threading.Timer(3, killable.start).start()

    lm = load_model(f"openai:m@http://127.0.0.1:{killable.port}/v1", patience=60)
    keep, kept = kept_after(30, outage)
    answers = lm.generate(CHATS, SAMPLING, range(96), keep)
    assert [answer.text for answer in answers] == [f"answer to Question {i}" for i in range(96)]
    assert len(kept) == 96 and lm.failure is None
    output = capsys.readouterr().out.splitlines()
    assert len(output) == 2 and "does not answer" in output[0] and "waiting up to 60 s" in output[0]
    assert output[1].endswith("answers again")


def test_late_answer_from_before_the_outage_does_not_end_it(monkeypatch, capsys):
    """A server that is shutting down refuses new requests, and finishes those in progress."""
    monkeypatch.setattr(endpoints, "PAUSE", 0.2)
    stopped, late, looks = threading.Event(), threading.Event(), []

    def reply(body):
        if body["max_tokens"] == 1 and stopped.is_set():
            looks.append(body)
            if len(looks) == 3:
                late.set()
            if len(looks) == 6:
                stopped.clear()
        elif stopped.is_set() and body["messages"][-1]["content"] == "Question 0":
            late.wait(60)
            return 200, completion("fine")
        return (
            (503, {"error": {"message": "no"}}) if stopped.is_set() else (200, completion("fine"))
        )

    with scripted_server(reply) as url:
        lm = load_model(f"openai:m@{url}", patience=60)
        stopped.set()
        answers = lm.generate(CHATS, SAMPLING, range(96))
    assert {answer.text for answer in answers} == {"fine"} and lm.failure is None
    output = capsys.readouterr().out.splitlines()
    assert (
        len(output) == 2 and "does not answer" in output[0] and output[1].endswith("answers again")
    )


def test_unreachable_server_ends_the_run_within_the_patience(killable):
    lm = load_model(f"openai:m@http://127.0.0.1:{killable.port}/v1#patience=3")
    # The key is neither sent nor part of the cache key.
    assert lm.revision.endswith("/v1")
    keep, kept = kept_after(30, killable.kill)
    start, message = (
        time.monotonic(),
        r"has not answered for \d+ s .*patience is 3 s .*run the same again.*are kept",
    )
    with pytest.raises(UserError, match=message) as caught:
        lm.generate(CHATS, SAMPLING, range(96), keep)
    assert time.monotonic() - start < 30 and "\n" not in str(caught.value)
    assert 30 <= sum(text is not None for text in kept.values()) < 30 + connection.CONCURRENCY
    killable.start()
    answers = lm.generate(CHATS, SAMPLING, range(96))  # the same model resumes
    assert all(answer.text for answer in answers)


def test_one_request_probes_the_server_while_the_others_wait(monkeypatch):
    monkeypatch.setattr(endpoints, "PAUSE", 0.05)
    down, asked = threading.Event(), []

    def reply(body):
        if not down.is_set():
            return 200, completion("fine")
        asked.append((time.monotonic(), body["messages"][-1]["content"]))
        if [question for _, question in asked].count("Hi") == 7:
            down.clear()
        return 503, b"<html>starting</html>"

    with scripted_server(reply) as url:
        lm = load_model(f"openai:m@{url}", patience=60)
        down.set()
        answers = lm.generate(CHATS, SAMPLING, range(96))
    assert {answer.text for answer in answers} == {"fine"}
    questions = [question for _, question in asked if question != "Hi"]
    looks = [when for when, question in asked if question == "Hi"]
    assert len(questions) <= connection.CONCURRENCY  # those in flight; no other was sent
    gaps = [later - sooner for sooner, later in itertools.pairwise(looks)]
    assert len(gaps) == 6
    assert all(gap >= endpoints.PAUSE * 2**number for number, gap in enumerate(gaps))


def served_once(first, **how):
    """The answer of a server whose first reply is ``first``, and the seconds it took."""
    replied = itertools.chain([first], itertools.repeat((200, completion("at last"))))
    with scripted_server(
        lambda body: (200, completion()) if body["max_tokens"] == 1 else next(replied)
    ) as url:
        lm = load_model(f"openai:m@{url}", **how)
        start = time.monotonic()
        (answer,) = lm.generate(CHATS[:1], SAMPLING, [0])
        return answer, time.monotonic() - start, lm.failure


ERROR = {"message": "slow down", "code": "rate_limit_exceeded"}
IN_A_MOMENT = {"Retry_After": "1.5"}


@pytest.mark.parametrize(
    "reply",
    [
        (429, {"error": ERROR}, IN_A_MOMENT),
        (503, b"<html>busy</html>", IN_A_MOMENT),
        (403, {"error": ERROR}, IN_A_MOMENT),
        (429, {"error": ERROR}, {"Retry_After_Ms": "1500"}),
        (200, {"error": ERROR}, IN_A_MOMENT),
        (200, {"error": {**ERROR, "code": 429, "metadata": {"headers": {"Retry-After": "1.5"}}}}),
        (200, {"error": {**ERROR, "retry_after_ms": 1500}}),
        (
            200,
            {"choices": [{"index": 0, "error": ERROR, "message": {"content": "The"}}]},
            IN_A_MOMENT,
        ),
        (200, {"object": "error", **ERROR}, IN_A_MOMENT),
    ],
    ids=str,
)
def test_retry_after_is_respected(reply):
    answer, seconds, _ = served_once(reply)
    assert answer.text == "at last" and 1.5 <= seconds < 30


@pytest.mark.parametrize("asked", ["3600", "1e300", "inf", "Fri, 31 Dec 2099 23:59:59 GMT"])
def test_retry_after_longer_than_the_patience_ends_the_run(asked):
    count = []

    def reply(body):
        count.append(body)
        return (
            (200, completion())
            if body["max_tokens"] == 1
            else (429, {"error": ERROR}, {"Retry_After": asked})
        )

    with scripted_server(reply) as url:
        lm = load_model(f"openai:m@{url}")
        count.clear()
        with pytest.raises(
            UserError, match=r"asks to be left alone for .* s \(429 .*slow down.*patience is 600 s"
        ):
            lm.generate(CHATS[:1], SAMPLING, [0])
        assert len(count) == 1


@pytest.mark.parametrize(
    ("headers", "text", "seconds"),
    [
        ({"retry-after": "150"}, "", 150),  # the openai client would not retry at all
        ({"retry-after": "0"}, "", 0),
        ({"retry-after": "-3"}, "", 0),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "Wed, 21 Oct 99999 07:28:00 GMT"}, "", None),
        ({}, f"Please try again in {'9' * 5000}m1s", None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, "", 0),
        ({}, '{"error": {"Retry-After": "7"}}', 7),
        ({}, "Rate limit reached. Please try again in 1m20.5s.", 80.5),
        ({}, "Please retry after 250 ms", 0.25),
        ({}, '[{"error": {"details": [{"retryDelay": "34s"}]}}]', 34),
        ({}, "Please try again in a while", None),
        ({}, "no", None),
    ],
)
def test_retry_after_formats_are_parsed(headers, text, seconds):
    assert replies.wait_asked(headers, text) == seconds


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"message": "x", "code": 502}, 502),
        ({"message": "x", "code": "400"}, 400),
        ({"message": "x", "code": "9" * 5000}, 500),
        ({"message": "Rate limit reached"}, 429),
        ({"message": "The model is overloaded"}, 503),
        ({"message": "x", "type": "invalid_request_error"}, 400),
        ({"message": "Incorrect API key provided"}, 401),
        ("it broke", 500),
    ],
)
def test_error_inside_a_successful_response_is_an_error(monkeypatch, error, status):
    monkeypatch.setattr(connection, "RETRIES", 0)
    message = error if isinstance(error, str) else error["message"]
    if status < 500 and status != 429:  # every request was refused
        with pytest.raises(UserError, match=f"refuses every request .{status} .*{message}"):
            served_once((200, {"error": error}))
    else:
        answer, _, failure = served_once((200, {"error": error}))
        assert answer.finish_reason == "error"
        assert failure.startswith(f"{status} ")
        assert message in failure


def test_timeout_adapts_to_earlier_answers(monkeypatch):
    monkeypatch.setattr(connection, "SHORTEST_TIMEOUT", 0.4)
    hung = []

    def reply(body):
        question = body["messages"][-1]["content"]
        if question == "Question 95" and len(hung) < 2:
            hung.append(time.monotonic())
            return "hang"
        return 200, completion("fine")

    with scripted_server(reply) as url:
        lm = load_model(f"openai:m@{url}")
        # No answer time is known yet.
        assert lm._connection._timeout({"max_tokens": 20}) == connection.TIMEOUT
        answers = lm.generate(CHATS, SAMPLING, range(96))
    assert {answer.text for answer in answers} == {"fine"}
    assert 0.4 < hung[1] - hung[0] < 120  # the time-out is 600 s


def test_slow_answers_get_a_longer_timeout():
    line = Connection("m", "http://127.0.0.1:1/v1", 60)
    line._seconds[300].extend([30.0] * connection.CONCURRENCY)
    line._seconds[1].extend([0.01] * connection.CONCURRENCY)
    assert line._timeout({"max_tokens": 300}) == 300
    assert line._timeout({"max_completion_tokens": 300}) == 300
    assert line._timeout({"max_tokens": 1}) == connection.SHORTEST_TIMEOUT
    assert line._timeout({"max_tokens": 5}) == connection.TIMEOUT


def test_server_that_answers_only_probes_counts_as_down(monkeypatch):
    monkeypatch.setattr(endpoints, "PAUSE", 0.01)
    with scripted_server(
        lambda body: (200, completion()) if body["max_tokens"] == 1 else (500, {})
    ) as url:
        lm = load_model(f"openai:m@{url}", patience=2)
        start = time.monotonic()
        with pytest.raises(UserError, match="answers single tokens, but no request for"):
            lm.generate(CHATS * 20, SAMPLING, range(96 * 20))
    assert time.monotonic() - start < 60


def test_few_permanent_failures_do_not_end_a_run(monkeypatch):
    monkeypatch.setattr(endpoints, "PAUSE", 0.01)
    poison = {f"Question {i}" for i in (3, 90, 95)}

    def reply(body):
        return (500, {}) if body["messages"][-1]["content"] in poison else (200, completion("fine"))

    with scripted_server(reply) as url:
        lm = load_model(f"openai:m@{url}", patience=0.1)  # a probe may take as long
        answers = lm.generate(CHATS, SAMPLING, range(96))
    assert [i for i, answer in enumerate(answers) if answer.text is None] == [3, 90, 95]


def test_invalid_patience_is_refused():
    with pytest.raises(UserError, match="patience is -1: give a number of at least 0"):
        load_model("openai:m@http://127.0.0.1:1/v1", patience=-1)
    with pytest.raises(UserError, match="#patience=SECONDS"):
        load_model("openai:m@http://127.0.0.1:1/v1#patience=long")


def test_failure_is_reported_in_one_line():
    assert str(Failure("a\nb" + "x" * 400)) == "a b" + "x" * 297


def test_answer_that_is_not_json_is_quoted(monkeypatch):
    monkeypatch.setattr(connection, "RETRIES", 0)
    with (
        scripted_server(lambda _: (200, b"<html><title>Sign in</title>")) as url,
        pytest.raises(UserError, match=r"the answer is not JSON: <html><title>Sign in"),
    ):
        load_model(f"openai:m@{url}", patience=1)


@pytest.mark.parametrize("reply", [(200, b"not JSON"), (429, {}), (503, b"<html>busy</html>")])
@pytest.mark.parametrize("asked", ["system", "continue_final_message"])
def test_transient_error_does_not_change_the_recorded_dialect(monkeypatch, reply, asked):
    """Otherwise the identity would move to the user turn, and a resumed run would repeat every
    request.
    """
    monkeypatch.setattr(endpoints, "PAUSE", 0.01)

    def answer(body):
        if asked in body or body["messages"][0]["role"] == asked:
            return reply
        return 200, completion()

    with scripted_server(answer) as url, pytest.raises(UserError, match=r"server http.*: .*"):
        assert load_model(f"openai:m@{url}", patience=3).continues is None
