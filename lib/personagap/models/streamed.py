"""Replies that a server streams although nobody asked it to."""

import json
import re
from typing import Any


def json_or_events(text: str) -> Any:
    """Return the JSON of a reply, or what its events add up to; `ValueError` if it is neither."""
    try:
        return json.loads(text)
    except ValueError:
        return assembled(text)


def assembled(text: str) -> Any:
    """Return the chat completion that server-sent events add up to; `ValueError` if they are none.

    A stream without a finish reason was broken off, and has the reason "error".

    Examples
    --------
    >>> event = 'data: {"choices": [{"delta": {"content": "%s"}, "finish_reason": %s}]}'
    >>> assembled("\\n\\n".join([event % ("Hel", "null"), event % ("lo", '"stop"')]))
    {'choices': [{'finish_reason': 'stop', 'message': {'content': 'Hello'}}]}
    """
    lines = re.findall(r"^data: ?(.*?)\r?$", text, re.MULTILINE)
    events = [json.loads(line) for line in lines if line.strip() not in ("", "[DONE]")]
    if not events or not all(isinstance(event, dict) for event in events):
        raise ValueError("no stream of events")
    reply: dict[str, Any] = {}
    choice: dict[str, Any] = {"finish_reason": "error", "message": {}}
    for event in events:
        reply |= {name: value for name, value in event.items() if value and name != "choices"}
        for part in (event.get("choices") or [])[:1]:
            _extend(choice, part)
    return reply | ({} if "error" in reply else {"choices": [choice]})


def _extend(choice: dict[str, Any], part: dict[str, Any]) -> None:
    """Add a part of an answer to what came before."""
    choice |= {name: value for name, value in part.items() if value and name != "delta"}
    message = choice["message"]
    for name, value in (part.get("delta") or {}).items():
        joined = isinstance(value, str | list) and name in message and name != "role"
        if value:
            message[name] = message[name] + value if joined else value
