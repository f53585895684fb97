"""Sanitization of text that leaves the process for a terminal, a file or a page.

Secrets are removed, and characters that hide or reorder other text are spelled out.
"""

import json
import os
import re
from base64 import b64encode
from html import escape
from urllib.parse import quote

#: Environment variables whose values are secret.
SECRETS = ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
#: Shorter values are not secrets but placeholders for servers without keys, such as "none" and
#: "EMPTY".
MIN_SECRET_LENGTH = 8
#: User and password of a URL, also if the password has spaces or quotes, or if the URL after the
#: name of a model lacks its "http://". The repetitions are bounded, so that the search does not
#: take quadratic time in a text of many URL schemes.
USERINFO = re.compile(
    r"(\w://|\bopenai:[^\s@]{1,200}@(?!\w+://)(?=[^\s@]{0,300}@(?!https?://)))"
    r"(?:[^\s\"'<>\\]{0,300}|[^\s\"'<>\\/?#,@:]{1,99}:(?!\d+\b)[^/?#,@\n]{0,300})@"
)
#: A URL, and what follows its "?", "#" or ";"; and the fragment that is an option of this library.
QUERY = re.compile(r"(\w://[^\s\"'<>\\?#;]{0,300})([?#;][^\s\"'<>\\)]+)")
PATIENCE = re.compile(r"#patience=\d+[.,:;\]]*")
#: A header that a server or a proxy echoes: its password is in base64, and its token may differ
#: from those of the environment.
AUTHORIZATION = re.compile(r"(?i)(authorization\W{1,6}(?:basic|bearer) +)[\w+/=.~-]+")
#: Characters that control a terminal, or reorder the text around them so that it seems to say
#: something else.
HIDING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def redact(text: str) -> str:
    """Return the text without the keys in the environment, and without passwords and query strings
    in URLs.

    Examples
    --------
    >>> redact("openai:m@http://me:secret@host/v1 and http://host/v1?key=secret")
    'openai:m@http://***@host/v1 and http://host/v1?***'
    """
    for value in map(os.environ.get, SECRETS):
        if value and len(value) >= MIN_SECRET_LENGTH:
            for encoded in (
                value,
                json.dumps(value)[1:-1],
                quote(value, safe=""),
                b64encode(value.encode()).decode(),
            ):
                text = text.replace(encoded, "***")
    # Line by line: no URL extends over several lines, and few of a notebook's many lines have one.
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if "://" in line or "openai:" in line:
            lines[number] = QUERY.sub(_redact_query, USERINFO.sub(r"\1***@", line))
    return AUTHORIZATION.sub(r"\1***", "\n".join(lines))


def _redact_query(match: re.Match) -> str:
    address, rest = match.groups()
    # Without "?" or "=" it is a harmless fragment, the name of a section.
    secret = re.search("[?=]", rest) and not PATIENCE.fullmatch(rest)
    return f"{address}{rest[0]}***" if secret else match[0]


def visible(text: str) -> str:
    """Return ``text`` with `HIDING` characters spelled out, as "[U+202E]", and lone surrogates as
    "\ud800".
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    return HIDING.sub(lambda match: f"[U+{ord(match[0]):04X}]", text)


def escaped(text: object) -> str:
    """Return ``text`` for an HTML page: `visible`, and with markup escaped."""
    return escape(visible(str(text)))


def sanitize(text: object) -> str:
    """Return ``text`` as it may leave the process: `redact` and `visible`."""
    return visible(redact(str(text)))
