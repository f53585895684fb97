"""The line to a server, or several: what fails is asked again, what is asked too often waits, what is away is waited
for, unless another server takes its place.
"""

import itertools
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import openai
from tqdm import tqdm

from personagap.errors import Unanswered, UserError, first_line
from personagap.models.replies import Failure, choice_of, error_in, failure

#: Requests under way at a time: enough to fill a server's batches.
CONCURRENCY = 16
#: Repetitions of a request that fails, after 0.5, 1, 2 … seconds. One that is lost counts for so many of them, and one
#: that the server puts off for so few.
RETRIES, LOST, PUT_OFF = 5, 2.0, 0.1
PAUSE, LONGEST_PAUSE = 0.5, 30.0
#: Seconds without an answer before a request counts as lost: a busy server queues requests. Once as many answers as are
#: under way at a time have told how long they take, it is so many times the longest, but not less than the second.
TIMEOUT = 600.0
TIMES_LONGEST, SHORTEST_TIMEOUT = 10, 20.0
#: The same of a single token, which tells whether the server is there, and of the connection itself.
PROBE_TIMEOUT, CONNECT_TIMEOUT = 30.0, 10.0
#: Statuses of a server that answers nobody, or not for this model: another may.
GONE = (401, 403, 404)


@dataclass(eq=False)
class Endpoint:
    """A server, with how many requests are under way to it, how often it failed in a row, when it last did, whether
    it answers nobody, and when to try it again.
    """

    url: str
    client: openai.OpenAI
    under_way: int = 0
    failures: int = 0
    failed_at: float = 0.0
    refuses: bool = False
    away_until: float = 0.0

    @property
    def present(self) -> bool:
        """Whether it can be asked; one that failed is tried with a single request."""
        return time.monotonic() >= self.away_until and not (self.failures and self.under_way)


class Connection:
    """One model on one server, or on several (see `join`), asked from many threads at a time.

    Parameters
    ----------
    model, url : of ``ServerModel``.
    patience : seconds for which a server that answers nothing is waited for.

    Attributes
    ----------
    probe : the smallest request that the server answers. Until that is known, nothing is waited for.
    """

    def __init__(self, model: str, url: str, patience: float):
        self.model, self.url, self.patience = model, url, patience
        key = os.environ.get("OPENAI_API_KEY") or "none"
        try:
            # The client gives up where a server asks for more than two minutes, so that repetitions are made here.
            self.endpoints = [Endpoint(url, openai.OpenAI(base_url=url, api_key=key, max_retries=0))]
        except Exception as error:  # of the network library below, whose name depends on the version of openai
            raise UserError(f"server {url}: no address ({first_line(error)}): expected http://host:port/v1") from None
        self.probe: dict | None = None
        self._stopped = threading.Event()
        self._looking, self._choosing = threading.Lock(), threading.Lock()
        self._answered = self._not_before = 0.0
        self._failing: float | None = None  # since when nothing was answered
        self._failed = 0  # requests that failed for good since then
        self._ends: UserError | None = None  # why all requests under way end
        self._took: dict[object, deque] = defaultdict(lambda: deque(maxlen=4 * CONCURRENCY))

    def served(self) -> list[str]:
        """Names of the models the server lists (``transformers serve`` leaves local folders out)."""
        try:
            client = self.endpoints[0].client.with_options(timeout=PROBE_TIMEOUT)
            return [model.id for model in client.models.list().data]
        except openai.APIConnectionError as error:
            reason = error.__cause__ or error
            raise UserError(f"server {self.url}: unreachable ({reason}): start it, or correct the address") from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            reason = failure(error.status_code, error.response.text, error.response.headers)
            raise UserError(f"server {self.url}: refuses OPENAI_API_KEY ({reason})") from error
        except (openai.OpenAIError, ValueError, AttributeError):
            return []  # not every server lists its models; the first chat tells

    def join(self, other: "Connection") -> None:
        """Ask the other's server as well: each request goes to the one with the fewest under way."""
        self.url, self.endpoints = f"{self.url},{other.url}", [*self.endpoints, *other.endpoints]

    def complete(self, body: dict, retries: int | None = None) -> dict:
        """One chat completion, asked again so many times, by default `RETRIES`, if it fails.

        `Failure` for a request that fails for good, ``Unanswered`` for a server that stops answering.
        """
        retries = RETRIES if retries is None else retries
        spent, timeouts = 0.0, 0
        for attempt in itertools.count():
            with self._looking:
                pass  # while one looks whether the server is back, the others wait
            self._hold()
            sent = time.monotonic()
            try:
                answer = self._post(body, self._timeout(body) * 2**timeouts)
            except Failure as error:
                lost = _timed_out(error)
                put_off = self.probe is not None and (error.status == 429 or error.wait is not None)
                spent += LOST if lost else PUT_OFF if put_off else 1
                timeouts += lost
                if not self._may_pass(error):
                    raise
                self._failing = self._failing or sent
                if spent > retries:
                    self._failed += 1
                    raise
                self._wait(error, sent, _pause(attempt))
            else:
                self._answered, self._failing, self._failed = time.monotonic(), None, 0
                self._took[_length(body)].append(self._answered - sent)
                return answer
        raise AssertionError("never reached")

    def at_once(self, work: Callable, chats: Sequence, more: Sequence, keep: Callable | None) -> list:
        """``work`` on each chat, several at a time. An answer is kept before its thread asks again, so that a kill
        costs no more than what was under way.
        """

        def one(i: int, chat: object, argument: object) -> object:
            try:
                answer = work(chat, argument)
            except UserError as error:
                self._ends = self._ends or error
                self._stopped.set()
                raise
            if keep:
                keep(i, answer)
            return answer

        try:
            with ThreadPoolExecutor(CONCURRENCY * len(self.endpoints)) as pool:
                try:
                    return list(pool.map(one, range(len(chats)), chats, more))
                except BaseException:  # Ctrl-C too: what waits for the server must not
                    self._stopped.set()
                    raise
        finally:
            self._stopped.clear()
            self._ends = None

    def _may_pass(self, error: Failure) -> bool:
        """Whether to ask again: one of several servers may answer what another refuses, be it away for the moment."""
        others = len(self.endpoints) > 1 and not all(endpoint.refuses for endpoint in self.endpoints)
        return error.passes or (error.status in GONE and others)

    def _another(self) -> bool:
        """Whether one of several servers can be asked at once."""
        return len(self.endpoints) > 1 and any(endpoint.present for endpoint in self.endpoints)

    def _post(self, body: dict, seconds: float) -> dict:
        with self._choosing:
            present = [endpoint for endpoint in self.endpoints if endpoint.present]
            if present:  # of equally idle ones the last to fail comes last, or it alone might be tried
                chosen = min(present, key=lambda each: (each.under_way, each.failed_at))
            else:
                chosen = min(self.endpoints, key=lambda each: (each.refuses, each.away_until))
            chosen.under_way += 1
        sent = time.monotonic()
        try:
            answer = self._exchange(chosen.client, body, seconds)
        except Failure as error:
            if len(self.endpoints) > 1 and (error.passes or error.status in GONE):
                self._leave(chosen, error)
            raise
        finally:
            with self._choosing:
                chosen.under_way -= 1
        with self._choosing:
            # An answer to what was asked before the failure only arrives late: it does not tell that it is back.
            back = chosen.failures and sent > chosen.failed_at
            if back:
                chosen.failures, chosen.refuses, chosen.away_until = 0, False, 0.0
        if back:
            tqdm.write(f"server {chosen.url}: answers again")
        return answer

    def _leave(self, endpoint: Endpoint, error: Failure) -> None:
        """Let the others answer, for a time that grows with each failure after the first."""
        with self._choosing:
            first, now = not endpoint.failures, time.monotonic()
            if now >= endpoint.away_until:  # else it failed on several requests at a time
                endpoint.failures += 1
            endpoint.failed_at, endpoint.refuses = now, error.status in GONE
            endpoint.away_until = now + max(_pause(endpoint.failures), error.wait or 0)
        if first:
            tqdm.write(f"server {endpoint.url}: does not answer ({error}); going on with the other servers")

    def _exchange(self, client: openai.OpenAI, body: dict, seconds: float) -> dict:
        timeout = openai.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT))
        fields = {name: value for name, value in body.items() if name != "messages"}
        try:
            raw = client.chat.completions.with_raw_response.create(
                model=self.model, messages=body["messages"], extra_body=fields, timeout=timeout
            )
            reply = raw.http_response.json()
        except openai.APIStatusError as error:
            raise failure(error.status_code, error.response.text, error.response.headers) from error
        except openai.APIConnectionError as error:
            raise Failure(str(error.__cause__ or error) or type(error).__name__) from error
        except ValueError:
            raise Failure("the answer is not JSON", 200) from None
        if error_in(reply):
            raise failure(raw.http_response.status_code, raw.http_response.text, raw.headers)
        choice_of(reply)
        return reply

    def _timeout(self, body: dict) -> float:
        """Seconds to wait for an answer of that length."""
        took = self._took[_length(body)]
        if len(took) < CONCURRENCY:
            return TIMEOUT
        return min(TIMEOUT, max(SHORTEST_TIMEOUT, TIMES_LONGEST * max(took)))

    def _wait(self, error: Failure, sent: float, pause: float) -> None:
        """Before a request that failed is repeated: as long as the server asks for, or until it answers again."""
        if self._another():
            return
        start = self._failing or sent
        if error.wait is not None:
            self._not_before = max(self._not_before, time.monotonic() + max(error.wait, PAUSE))
            if self._not_before > start + self.patience:
                self._give_up(error, f"asks to be left alone for {error.wait:,.0f} s")
            return
        if self.probe is not None:
            with self._looking:
                if self._answered < sent:
                    self._look(error, max(start, self._answered))
        if self._failed >= CONCURRENCY and time.monotonic() > start + self.patience:
            self._give_up(error, f"answers single tokens, but no request for {time.monotonic() - start:,.0f} s")
        self._sleep(pause)

    def _look(self, error: Failure, start: float) -> None:
        """Ask for one token, at growing intervals, until the server answers or the patience with it is at an end."""
        for attempt in itertools.count():
            self._hold()
            left = start + self.patience - time.monotonic()
            try:
                self._post(self.probe or {}, min(PROBE_TIMEOUT, max(left, PAUSE)))
                break
            except Failure as again:
                error = again
            # It is there: the request hears what it says; or it lets the probe wait and answers others, so it is busy.
            if not self._may_pass(error) or (self._failing is None and _timed_out(error)):
                break
            left, pause = start + self.patience - time.monotonic(), max(_pause(attempt), error.wait or 0)
            if left <= (error.wait or 0):
                self._give_up(error, f"has not answered for {time.monotonic() - start:,.0f} s")
            if not attempt:
                tqdm.write(f"server {self.url}: does not answer ({error}); waiting up to {self.patience:,.0f} s for it")
            self._sleep(min(pause, left))
        self._answered = time.monotonic()
        if attempt:
            tqdm.write(f"server {self.url}: answers again")

    def _give_up(self, error: Failure, what: str) -> None:
        raise Unanswered(
            f"server {self.url}: {what} ({error}), and patience is {self.patience:,.0f} s (for more, end the model's "
            "name in #patience=SECONDS): run the same again when it answers; the other answers are kept"
        )

    def _hold(self) -> None:
        """Until the time before which the server wants to hear nothing."""
        while (left := self._not_before - time.monotonic()) > 0:
            self._sleep(left)
        self._sleep(0)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(min(max(seconds, 0), threading.TIMEOUT_MAX)):
            raise self._ends or Failure("stopped", passes=False)


def _pause(attempt: int) -> float:
    return min(PAUSE * 2.0 ** min(attempt, 10), LONGEST_PAUSE)


def _timed_out(error: Failure) -> bool:
    return isinstance(error.__cause__, openai.APITimeoutError)


def _length(body: dict) -> object:
    """How many tokens a request asks for, whatever the field is called."""
    return body.get("max_tokens") or body.get("max_completion_tokens")
