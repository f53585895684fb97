"""The servers of one model: which a request goes to, and which are left alone for a while."""

import os
import threading
import time
from dataclasses import dataclass

import openai
from tqdm import tqdm

from personagap.errors import UserError, first_line
from personagap.models.replies import Failure, choice_of, error_in, failure

#: What fails is tried again after 0.5, 1, 2 … seconds.
PAUSE, LONGEST_PAUSE = 0.5, 30.0
CONNECT_TIMEOUT = 10.0
#: Statuses of a server that answers nobody, or not for this model: another may.
GONE = (401, 403, 404)


@dataclass(eq=False)
class Endpoint:
    """A server, with how many requests are under way to it, how often it failed in a row, when it
    last did, whether it answers nobody, and when to try it again.
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


class Endpoints:
    """One or several servers of ``model``, asked from many threads at a time.

    Attributes
    ----------
    first : the client of the server that was named first.
    """

    def __init__(self, model: str, url: str):
        self._model, self._lock = model, threading.Lock()
        # Without a key the client does not start; servers that want none do not look at it.
        key = os.environ.get("OPENAI_API_KEY") or "none"
        try:
            # The client gives up where a server asks for more than two minutes, so that repetitions
            # are made elsewhere.
            self.first = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
        except Exception as error:
            # Of the network library below, whose name depends on the version of openai.
            remedy = "expected http://host:port/v1"
            raise UserError(f"server {url}: no address ({first_line(error)}): {remedy}") from None
        self._endpoints = [Endpoint(url, self.first)]

    def __len__(self) -> int:
        return len(self._endpoints)

    def join(self, other: "Endpoints") -> None:
        """Ask the other's as well: each request goes to the one with the fewest under way."""
        self._endpoints += other._endpoints

    def may_pass(self, error: Failure) -> bool:
        """Whether to ask again: one of several servers may answer what another refuses, be it away
        for the moment.
        """
        others = len(self) > 1 and not all(endpoint.refuses for endpoint in self._endpoints)
        return error.passes or (error.status in GONE and others)

    def another(self) -> bool:
        """Whether one of several servers can be asked at once."""
        return len(self) > 1 and any(endpoint.present for endpoint in self._endpoints)

    def post(self, body: dict, seconds: float) -> dict:
        """What the server that is chosen answers within ``seconds``; `Failure` if it does not."""
        with self._lock:
            present = [endpoint for endpoint in self._endpoints if endpoint.present]
            # Of equally idle ones the last to fail comes last, or it alone might be tried.
            if present:
                chosen = min(present, key=lambda each: (each.under_way, each.failed_at))
            else:
                chosen = min(self._endpoints, key=lambda each: (each.refuses, each.away_until))
            chosen.under_way += 1
        sent = time.monotonic()
        try:
            answer = self._exchange(chosen.client, body, seconds)
        except Failure as error:
            if len(self) > 1 and (error.passes or error.status in GONE):
                self._leave(chosen, error)
            raise
        finally:
            with self._lock:
                chosen.under_way -= 1
        with self._lock:
            # An answer to what was asked before the failure only arrives late: it does not tell
            # that it is back.
            back = chosen.failures and sent > chosen.failed_at
            if back:
                chosen.failures, chosen.refuses, chosen.away_until = 0, False, 0.0
        if back:
            tqdm.write(f"server {chosen.url}: answers again")
        return answer

    def _leave(self, endpoint: Endpoint, error: Failure) -> None:
        """Let the others answer, for a time that grows with each failure after the first."""
        with self._lock:
            first, now = not endpoint.failures, time.monotonic()
            if now >= endpoint.away_until:
                # One that is away already failed on several requests at a time: that counts once.
                endpoint.failures += 1
            endpoint.failed_at, endpoint.refuses = now, error.status in GONE
            endpoint.away_until = now + max(pause_after(endpoint.failures), error.wait or 0)
        if first:
            tqdm.write(
                f"server {endpoint.url}: does not answer ({error}); going on with the other servers"
            )

    def _exchange(self, client: openai.OpenAI, body: dict, seconds: float) -> dict:
        timeout = openai.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT))
        fields = {name: value for name, value in body.items() if name != "messages"}
        try:
            raw = client.chat.completions.with_raw_response.create(
                model=self._model, messages=body["messages"], extra_body=fields, timeout=timeout
            )
            reply = raw.http_response.json()
        except openai.APIStatusError as error:
            raise failure(error.status_code, error.response.text, error.response.headers) from error
        except openai.APIConnectionError as error:
            raise Failure(str(error.__cause__ or error) or type(error).__name__) from error
        except (ValueError, RecursionError):
            raise Failure("the answer is not JSON", 200) from None
        if error_in(reply):
            raise failure(raw.http_response.status_code, raw.http_response.text, raw.headers)
        choice_of(reply)
        return reply


def pause_after(attempt: int) -> float:
    """Seconds before what failed so often, less one, is tried again."""
    # Bounded before it is a power: who waits for days would see it overflow.
    return min(PAUSE * 2.0 ** min(attempt, 10), LONGEST_PAUSE)
