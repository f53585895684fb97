"""Requests to one or several servers: failed requests are retried, rate limits respected, and
servers that are down waited for, unless another server takes over (`endpoints`).
"""

import itertools
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import openai
from tqdm import tqdm

from personagap.errors import Unanswered, UserError
from personagap.models.endpoints import Endpoints, pause_after
from personagap.models.replies import Failure, failure

#: Requests under way at a time, per server: enough to fill its batches.
CONCURRENCY = 16
#: Retries of a failed request, and how many of them a time-out and a rate limit use up.
RETRIES, TIMEOUT_COST, RATE_LIMIT_COST = 5, 2.0, 0.1
#: Seconds without an answer before a request counts as lost. It is long at first, since a busy
#: server queues requests. After `CONCURRENCY` answers it is `TIMES_LONGEST` times the longest time
#: that one took, but at least `SHORTEST_TIMEOUT`.
TIMEOUT = 600.0
TIMES_LONGEST, SHORTEST_TIMEOUT = 10, 20.0
#: The same for the single token with which a server's availability is tested.
PROBE_TIMEOUT = 30.0


class Connection:
    """One model on one server, or on several (see `join`), used by many threads at a time.

    Parameters
    ----------
    model, url : as in ``ServerModel``.
    patience : seconds to wait for a server that answers nothing.

    Attributes
    ----------
    probe : the smallest request that the server answers. Until it is known, servers that are down
        are not waited for.
    """

    def __init__(self, model: str, url: str, patience: float):
        self.model, self.url, self.patience = model, url, patience
        self.endpoints = Endpoints(model, url)
        self.probe: dict | None = None
        self._stopped = threading.Event()
        # Held by the one thread that waits for a server to recover.
        self._recovering = threading.Lock()
        self._last_answer = self._not_before = 0.0
        # When the first request since the last answer failed, and how many have failed for good.
        self._failing_since: float | None = None
        self._failed = 0
        # The error that ends all requests under way.
        self._error: UserError | None = None
        # The latest answer times, by the length of the answers.
        self._seconds: dict[object, deque] = defaultdict(lambda: deque(maxlen=4 * CONCURRENCY))

    def served(self) -> list[str]:
        """Return the names of the models that the server lists.

        ``transformers serve`` does not list local folders.
        """
        try:
            client = self.endpoints.first.with_options(timeout=PROBE_TIMEOUT)
            return [model.id for model in client.models.list().data]
        except openai.APIConnectionError as error:
            reason = error.__cause__ or error
            remedy = "start it, or correct the address"
            raise UserError(f"server {self.url}: unreachable ({reason}): {remedy}") from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            reason = failure(error.status_code, error.response.text, error.response.headers)
            raise UserError(f"server {self.url}: refuses OPENAI_API_KEY ({reason})") from error
        except (openai.OpenAIError, ValueError, AttributeError, TypeError):
            # Not every server lists its models; the first chat shows whether it has this one.
            return []

    def join(self, other: "Connection") -> None:
        """Use the other's server too; each request goes to the one with the fewest under way."""
        self.url = f"{self.url},{other.url}"
        self.endpoints.join(other.endpoints)

    def complete(self, body: dict, retries: int | None = None) -> dict:
        """Return one chat completion; failed requests are retried (`RETRIES` times by default).

        `Failure` for a request that fails for good, ``Unanswered`` for a server that stops
        answering.
        """
        retries = RETRIES if retries is None else retries
        spent, timeouts = 0.0, 0
        for attempt in itertools.count():
            with self._recovering:
                # Wait here while another thread waits for the server to recover.
                pass
            self._wait_until_allowed()
            sent = time.monotonic()
            try:
                answer = self.endpoints.post(body, self._timeout(body) * 2**timeouts)
            except Failure as error:
                timed_out = _timed_out(error)
                limited = self.probe is not None and (error.status == 429 or error.wait is not None)
                spent += TIMEOUT_COST if timed_out else RATE_LIMIT_COST if limited else 1
                timeouts += timed_out
                if not self.endpoints.retryable(error):
                    raise
                self._failing_since = self._failing_since or sent
                if spent > retries:
                    self._failed += 1
                    raise
                self._wait_before_retry(error, sent, pause_after(attempt))
            else:
                self._last_answer, self._failing_since, self._failed = time.monotonic(), None, 0
                self._seconds[_max_tokens(body)].append(self._last_answer - sent)
                return answer
        raise AssertionError("never reached")

    def run_all(
        self, work: Callable, chats: Sequence, arguments: Sequence, keep: Callable | None
    ) -> list:
        """Return ``work(chat, argument)`` of each chat, computed in several threads.

        A thread calls ``keep(i, answer)`` before its next request, so that a kill loses only the
        requests under way.
        """

        def run(i: int, chat: object, argument: object) -> object:
            try:
                answer = work(chat, argument)
            except UserError as error:
                self._error = self._error or error
                self._stopped.set()
                raise
            if keep:
                keep(i, answer)
            return answer

        try:
            with ThreadPoolExecutor(CONCURRENCY * len(self.endpoints)) as pool:
                try:
                    return list(pool.map(run, range(len(chats)), chats, arguments))
                except BaseException:
                    # Also on Ctrl-C: threads that wait for the server would otherwise go on.
                    self._stopped.set()
                    raise
        finally:
            self._stopped.clear()
            self._error = None

    def _timeout(self, body: dict) -> float:
        """Return the seconds to wait for the answer to a request."""
        seconds = self._seconds[_max_tokens(body)]
        if len(seconds) < CONCURRENCY:
            return TIMEOUT
        return min(TIMEOUT, max(SHORTEST_TIMEOUT, TIMES_LONGEST * max(seconds)))

    def _wait_before_retry(self, error: Failure, sent: float, pause: float) -> None:
        """Wait as long as the server demands, or until it answers again, and then for ``pause``.

        ``sent`` is the time of the request that failed. Nothing is waited for if another server is
        available.
        """
        if self.endpoints.any_available():
            return
        start = self._failing_since or sent
        if error.wait is not None:
            until = time.monotonic() + max(error.wait, pause_after(0))
            self._not_before = max(self._not_before, until)
            if self._not_before > start + self.patience:
                self._give_up(error, f"asks to be left alone for {error.wait:,.0f} s")
            return
        if self.probe is not None:
            with self._recovering:
                if self._last_answer < sent:
                    self._wait_for_recovery(error, max(start, self._last_answer))
        # A single request may be too large for the server. If this many fail in a row, it is the
        # server's fault.
        waited = time.monotonic() - start
        if self._failed >= CONCURRENCY and waited > self.patience:
            self._give_up(error, f"answers single tokens, but no request for {waited:,.0f} s")
        self._sleep(pause)

    def _wait_for_recovery(self, error: Failure, start: float) -> None:
        """Send the probe at growing intervals until the server answers; give up ``patience``
        seconds after ``start``.
        """
        for attempt in itertools.count():
            self._wait_until_allowed()
            left = start + self.patience - time.monotonic()
            try:
                self.endpoints.post(self.probe or {}, min(PROBE_TIMEOUT, max(left, pause_after(0))))
                break
            except Failure as latest:
                error = latest
            # The server is up if it rejects the probe, or if it answers others while the probe
            # times out (then it is busy). The request itself finds out more.
            busy = self._failing_since is None and _timed_out(error)
            if busy or not self.endpoints.retryable(error):
                break
            left = start + self.patience - time.monotonic()
            pause = max(pause_after(attempt), error.wait or 0)
            if left <= (error.wait or 0):
                self._give_up(error, f"has not answered for {time.monotonic() - start:,.0f} s")
            if not attempt:
                tqdm.write(
                    f"server {self.url}: does not answer ({error}); waiting up to "
                    f"{self.patience:,.0f} s for it"
                )
            self._sleep(min(pause, left))
        self._last_answer = time.monotonic()
        if attempt:
            tqdm.write(f"server {self.url}: answers again")

    def _give_up(self, error: Failure, problem: str) -> None:
        raise Unanswered(
            f"server {self.url}: {problem} ({error}), and patience is {self.patience:,.0f} s (for "
            "more, end the model's name in #patience=SECONDS): run the same again when it "
            "answers; the other answers are kept"
        )

    def _wait_until_allowed(self) -> None:
        """Wait until the time before which the server asked for no further request."""
        while (left := self._not_before - time.monotonic()) > 0:
            self._sleep(left)
        self._sleep(0)

    def _sleep(self, seconds: float) -> None:
        """Sleep, or raise as soon as all requests are stopped."""
        if self._stopped.wait(min(max(seconds, 0), threading.TIMEOUT_MAX)):
            raise self._error or Failure("stopped", passes=False)


def _timed_out(error: Failure) -> bool:
    return isinstance(error.__cause__, openai.APITimeoutError)


def _max_tokens(body: dict) -> object:
    """Return the token limit of a request, under either name of the field."""
    return body.get("max_tokens") or body.get("max_completion_tokens")
