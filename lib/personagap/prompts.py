"""Texts of ``data/prompts/*.txt``: our wording, replaceable by the authors' own."""

import functools
import re

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
    return re.sub(r"\{(\w+)\}", lambda match: fields[match[1]], template)
