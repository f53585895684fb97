"""The line to a server, or several: what fails is asked again, what is asked too often waits, what
is away is waited for, unless another server takes its place (`endpoints`).
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

#: Requests under way at a time: enough to fill a server's batches.
CONCURRENCY = 16
#: Repetitions of a request that fails. One that is lost counts for so many of them, and one
#: that the server puts off for so few.
RETRIES, LOST, PUT_OFF = 5, 2.0, 0.1
#: Seconds without an answer before a request counts as lost: a busy server queues requests. Once as
#: many answers as are under way at a time have told how long they take, it is so many times the
#: longest, but not less than the second.
TIMEOUT = 600.0
TIMES_LONGEST, SHORTEST_TIMEOUT = 10, 20.0
#: The same of a single token, which tells whether the server is there.
PROBE_TIMEOUT = 30.0


class Connection:
    """One model on one server, or on several (see `join`), asked from many threads at a time.

    Parameters
    ----------
    model, url : of ``ServerModel``.
    patience : seconds for which a server that answers nothing is waited for.

    Attributes
    ----------
    probe : the smallest request that the server answers. Until that is known, nothing is waited
        for.
    """

    def __init__(self, model: str, url: str, patience: float):
        self.model, self.url, self.patience = model, url, patience
        self.endpoints = Endpoints(model, url)
        self.probe: dict | None = None
        self._stopped = threading.Event()
        self._looking = threading.Lock()
        self._answered = self._not_before = 0.0
        # Since when nothing was answered.
        self._failing: float | None = None
        # Requests that failed for good since then.
        self._failed = 0
        # Why all requests under way end.
        self._ends: UserError | None = None
        self._took: dict[object, deque] = defaultdict(lambda: deque(maxlen=4 * CONCURRENCY))

    def served(self) -> list[str]:
        """Names of models the server lists (``transformers serve`` leaves local folders out)."""
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
        except (openai.OpenAIError, ValueError, AttributeError):
            # Not every server lists its models; the first chat tells.
            return []

    def join(self, other: "Connection") -> None:
        """Ask the other's server too: each request goes to the one with the fewest under way."""
        self.url = f"{self.url},{other.url}"
        self.endpoints.join(other.endpoints)

    def complete(self, body: dict, retries: int | None = None) -> dict:
        """One chat completion, asked again so many times, by default `RETRIES`, if it fails.

        `Failure` for a request that fails for good, ``Unanswered`` for a server that stops
        answering.
        """
        retries = RETRIES if retries is None else retries
        spent, timeouts = 0.0, 0
        for attempt in itertools.count():
            with self._looking:
                # While one looks whether the server is back, the others wait.
                pass
            self._hold()
            sent = time.monotonic()
            try:
                answer = self.endpoints.post(body, self._timeout(body) * 2**timeouts)
            except Failure as error:
                lost = _timed_out(error)
                put_off = self.probe is not None and (error.status == 429 or error.wait is not None)
                spent += LOST if lost else PUT_OFF if put_off else 1
                timeouts += lost
                if not self.endpoints.may_pass(error):
                    raise
                self._failing = self._failing or sent
                if spent > retries:
                    self._failed += 1
                    raise
                self._wait(error, sent, pause_after(attempt))
            else:
                self._answered, self._failing, self._failed = time.monotonic(), None, 0
                self._took[_length(body)].append(self._answered - sent)
                return answer
        raise AssertionError("never reached")

    def at_once(
        self, work: Callable, chats: Sequence, more: Sequence, keep: Callable | None
    ) -> list:
        """``work`` on each chat, several at a time. An answer is kept before its thread asks again,
        so that a kill costs no more than what was under way.
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
                except BaseException:
                    # Ctrl-C too: what waits for the server would wait on.
                    self._stopped.set()
                    raise
        finally:
            self._stopped.clear()
            self._ends = None

    def _timeout(self, body: dict) -> float:
        """Seconds to wait for an answer of that length."""
        took = self._took[_length(body)]
        if len(took) < CONCURRENCY:
            return TIMEOUT
        return min(TIMEOUT, max(SHORTEST_TIMEOUT, TIMES_LONGEST * max(took)))

    def _wait(self, error: Failure, sent: float, pause: float) -> None:
        """Before a request that failed is repeated: as long as the server asks for, or until it
        answers again.
        """
        if self.endpoints.another():
            return
        start = self._failing or sent
        if error.wait is not None:
            until = time.monotonic() + max(error.wait, pause_after(0))
            self._not_before = max(self._not_before, until)
            if self._not_before > start + self.patience:
                self._give_up(error, f"asks to be left alone for {error.wait:,.0f} s")
            return
        if self.probe is not None:
            with self._looking:
                if self._answered < sent:
                    self._look(error, max(start, self._answered))
        # One request may be too much for it; so many in a row are not the requests' fault.
        waited = time.monotonic() - start
        if self._failed >= CONCURRENCY and waited > self.patience:
            self._give_up(error, f"answers single tokens, but no request for {waited:,.0f} s")
        self._sleep(pause)

    def _look(self, error: Failure, start: float) -> None:
        """Ask for one token, at growing intervals, until the server answers or the patience with it
        is at an end.
        """
        for attempt in itertools.count():
            self._hold()
            left = start + self.patience - time.monotonic()
            try:
                self.endpoints.post(self.probe or {}, min(PROBE_TIMEOUT, max(left, pause_after(0))))
                break
            except Failure as again:
                error = again
            # It is there: the request hears what it says; or it lets the probe wait and answers
            # others, so it is busy.
            if not self.endpoints.may_pass(error) or (self._failing is None and _timed_out(error)):
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
        self._answered = time.monotonic()
        if attempt:
            tqdm.write(f"server {self.url}: answers again")

    def _give_up(self, error: Failure, what: str) -> None:
        raise Unanswered(
            f"server {self.url}: {what} ({error}), and patience is {self.patience:,.0f} s (for "
            "more, end the model's name in #patience=SECONDS): run the same again when it "
            "answers; the other answers are kept"
        )

    def _hold(self) -> None:
        """Until the time before which the server wants to hear nothing."""
        while (left := self._not_before - time.monotonic()) > 0:
            self._sleep(left)
        self._sleep(0)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(min(max(seconds, 0), threading.TIMEOUT_MAX)):
            raise self._ends or Failure("stopped", passes=False)


def _timed_out(error: Failure) -> bool:
    return isinstance(error.__cause__, openai.APITimeoutError)


def _length(body: dict) -> object:
    """How many tokens a request asks for, whatever the field is called."""
    return body.get("max_tokens") or body.get("max_completion_tokens")
