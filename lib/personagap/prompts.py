"""Texts of ``data/prompts/*.txt``: our wording, replaceable by the authors' own."""

import functools
import re

from personagap.errors import UserError
from personagap.paths import DATA


@functools.cache
def template(name: str) -> str:
    """The file of that name, with {fields} to fill."""
    return (DATA / "prompts" / f"{name}.txt").read_text(encoding="utf-8")


def fill(template: str, **fields: str) -> str:
    """Put values in place of fields; any other brace stays, also those in values.

    Examples
    --------
    >>> fill('Answer [{"a": 1}] to {question}', question="What is {b}?")
    'Answer [{"a": 1}] to What is {b}?'
    """
    if unknown := [name for name in re.findall(r"\{(\w+)\}", template) if name not in fields]:
        of = f"the prompt {template[:40]!r} … in data/prompts"
        raise UserError(f"{of} has the field {{{unknown[0]}}}: it may have {{{'}, {'.join(fields)}}}")
    return re.sub(r"\{(\w+)\}", lambda match: fields[match[1]], template)
