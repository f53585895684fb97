"""Text that leaves the process, for a terminal, a file or a page: without secrets, and with nothing
that hides.
"""

import json
import os
import re
from base64 import b64encode
from html import escape
from urllib.parse import quote

#: Environment variables whose values nobody else may read.
SECRETS = ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
#: Shorter values are no secrets but words that servers without keys are given, such as "none" and
#: "EMPTY".
LONG = 8
#: User and password of an address, also where a password has spaces or quotes, or where the address
#: after the name of a model lacks its "http://". Bounded, so that a text of many beginnings takes
#: no square of its length.
USERINFO = re.compile(
    r"(\w://|\bopenai:[^\s@]{1,200}@(?!\w+://)(?=[^\s@]{0,300}@(?!https?://)))"
    r"(?:[^\s\"'<>\\]{0,300}|[^\s\"'<>\\/?#,@:]{1,99}:(?!\d+\b)[^/?#,@\n]{0,300})@"
)
#: An address, and what follows its "?", "#" or ";"; and what of that is ours, for a server.
QUERY = re.compile(r"(\w://[^\s\"'<>\\?#;]{0,300})([?#;][^\s\"'<>\\)]+)")
PATIENCE = re.compile(r"#patience=\d+[.,:;\]]*")
#: A header that a server or a proxy echoes: its password is in base64, its token may be another
#: than ours.
AUTHORIZATION = re.compile(r"(?i)(authorization\W{1,6}(?:basic|bearer) +)[\w+/=.~-]+")
#: Characters that command a terminal, or reorder the text around them, so that it reads as
#: something else than it is.
HIDING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def redacted(text: str) -> str:
    """The text without keys of the environment, and without passwords and values of addresses.

    Examples
    --------
    >>> redacted("openai:m@http://me:secret@host/v1 and http://host/v1?key=secret")
    'openai:m@http://***@host/v1 and http://host/v1?***'
    """
    for value in map(os.environ.get, SECRETS):
        if value and len(value) >= LONG:
            for written in (
                value,
                json.dumps(value)[1:-1],
                quote(value, safe=""),
                b64encode(value.encode()).decode(),
            ):
                text = text.replace(written, "***")
    # Line by line, since few of a notebook's megabytes hold an address, and none of these reaches
    # over a line's end.
    lines = text.split("\n")
    lines = [_without_secrets(one) if "://" in one or "openai:" in one else one for one in lines]
    return AUTHORIZATION.sub(r"\1***", "\n".join(lines))


def _without_secrets(line: str) -> str:
    return QUERY.sub(_without_values, USERINFO.sub(r"\1***@", line))


def _without_values(address: re.Match) -> str:
    place, rest = address.groups()
    # Else it is the name of a section.
    named = re.search("[?=]", rest) and not PATIENCE.fullmatch(rest)
    return f"{place}{rest[0]}***" if named else address[0]


def visible(text: str) -> str:
    """``text`` with `HIDING` characters spelt out, as "[U+202E]"; half a character as "\ud800"."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return HIDING.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def escaped(text: object) -> str:
    """``text`` in a page: `visible`, and no markup."""
    return escape(visible(str(text)))


def leaving(text: object) -> str:
    """What of a text may leave: `redacted` and `visible`."""
    return visible(redacted(str(text)))
