"""The servers of one model: which server gets a request, and which are avoided for a while."""

import os
import threading
import time
from dataclasses import dataclass
from typing import Any

import openai
from tqdm import tqdm

from personagap.errors import UserError, first_line
from personagap.models.replies import Failure, choice_of, error_in, failure
from personagap.models.streamed import json_or_events

#: Failed requests are retried after 0.5, 1, 2 … seconds.
PAUSE, LONGEST_PAUSE = 0.5, 30.0
CONNECT_TIMEOUT = 10.0
#: Statuses of a server that answers no request, or none for this model. Another server may.
UNUSABLE = (401, 403, 404)


@dataclass(eq=False)
class Endpoint:
    """A server and its state.

    Attributes
    ----------
    under_way : number of its requests under way.
    failures, failed_at : number of failures in a row, and the time of the last.
    refuses : whether it failed with one of the statuses `UNUSABLE`.
    away_until : time before which it is avoided.
    """

    url: str
    client: openai.OpenAI
    under_way: int = 0
    failures: int = 0
    failed_at: float = 0.0
    refuses: bool = False
    away_until: float = 0.0

    @property
    def available(self) -> bool:
        """Whether to send it a request; a server that failed is tried with one at a time."""
        return time.monotonic() >= self.away_until and not (self.failures and self.under_way)


class Endpoints:
    """One or several servers of ``model``, used by many threads at a time.

    Attributes
    ----------
    first : the client of the first server.
    """

    def __init__(self, model: str, url: str):
        self._model, self._lock = model, threading.Lock()
        # The client requires a key; servers that need none ignore it.
        key = os.environ.get("OPENAI_API_KEY") or "none"
        try:
            # No retries by the client, which gives up if a server asks for more than two minutes:
            # `Connection` retries.
            self.first = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
        except Exception as error:
            # The error is the network library's, which differs between versions of openai.
            remedy = "expected http://host:port/v1"
            raise UserError(f"server {url}: no address ({first_line(error)}): {remedy}") from None
        self._endpoints = [Endpoint(url, self.first)]

    def __len__(self) -> int:
        return len(self._endpoints)

    def join(self, other: "Endpoints") -> None:
        """Use the other's servers as well."""
        self._endpoints += other._endpoints

    def retryable(self, error: Failure) -> bool:
        """Return whether to retry a request.

        What one server refuses another may answer, even if it is down at the moment.
        """
        others = len(self) > 1 and not all(endpoint.refuses for endpoint in self._endpoints)
        return error.passes or (error.status in UNUSABLE and others)

    def any_available(self) -> bool:
        """Return whether there are several servers, one of which can get a request now."""
        return len(self) > 1 and any(endpoint.available for endpoint in self._endpoints)

    def post(self, body: dict, seconds: float) -> dict:
        """Return the answer of the server that is chosen, within ``seconds``; `Failure` if it does
        not answer.
        """
        with self._lock:
            # The least busy server; of several, the one whose last failure is the longest ago, or
            # one that is down might be tried every time. If all are down, the next to be tried.
            if available := [endpoint for endpoint in self._endpoints if endpoint.available]:
                chosen = min(available, key=lambda e: (e.under_way, e.failed_at))
            else:
                chosen = min(self._endpoints, key=lambda e: (e.refuses, e.away_until))
            chosen.under_way += 1
        sent = time.monotonic()
        try:
            answer = self._exchange(chosen.client, body, seconds)
        except Failure as error:
            if len(self) > 1 and (error.passes or error.status in UNUSABLE):
                self._avoid(chosen, error)
            raise
        finally:
            with self._lock:
                chosen.under_way -= 1
        with self._lock:
            # A late answer to a request sent before the failure does not show that the server has
            # recovered.
            recovered = chosen.failures and sent > chosen.failed_at
            if recovered:
                chosen.failures, chosen.refuses, chosen.away_until = 0, False, 0.0
        if recovered:
            tqdm.write(f"server {chosen.url}: answers again")
        return answer

    def _avoid(self, endpoint: Endpoint, error: Failure) -> None:
        """Avoid a server for a time that grows with each failure after the first."""
        with self._lock:
            first, now = not endpoint.failures, time.monotonic()
            if now >= endpoint.away_until:
                # Several requests that fail together count as one failure.
                endpoint.failures += 1
            endpoint.failed_at, endpoint.refuses = now, error.status in UNUSABLE
            endpoint.away_until = now + max(pause_after(endpoint.failures), error.wait or 0)
        if first:
            tqdm.write(
                f"server {endpoint.url}: does not answer ({error}); going on with the other servers"
            )

    def _exchange(self, client: openai.OpenAI, body: dict, seconds: float) -> dict:
        """Send a request and return the reply; `Failure` for whatever is not a chat completion."""
        timeout = openai.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT))
        fields = {name: value for name, value in body.items() if name != "messages"}
        try:
            raw = client.chat.completions.with_raw_response.create(
                model=self._model, messages=body["messages"], extra_body=fields, timeout=timeout
            )
            reply = decoded(raw.http_response)
        except openai.APIStatusError as error:
            raise failure(error.status_code, error.response.text, error.response.headers) from error
        except openai.APIConnectionError as error:
            raise Failure(str(error.__cause__ or error) or type(error).__name__) from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            # It may be the page of a proxy, whose beginning tells.
            raise Failure(f"the answer is not JSON: {first_line(error)[:80]}", 200) from None
        if error_in(reply):
            raise failure(raw.http_response.status_code, raw.http_response.text, raw.headers)
        choice_of(reply)
        return reply


def decoded(response: Any) -> Any:
    """Return the JSON of a reply, in its stated encoding, whole or as events; `ValueError` if there
    is none.
    """
    try:
        return response.json()
    except ValueError:
        try:
            return json_or_events(response.text)
        except ValueError:
            raise ValueError(response.text or "empty") from None


def pause_after(attempt: int) -> float:
    """Return the seconds to wait after a failure; ``attempt`` counts from 0."""
    # The exponent is bounded, since it would overflow after days of retries.
    return min(PAUSE * 2.0 ** min(attempt, 10), LONGEST_PAUSE)
