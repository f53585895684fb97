"""Answers that state the text of a choice in place of its letter."""

import re
from collections.abc import Sequence

from personagap.tasks._wording import plain, stating

_STATES = re.compile(stating("answer", "choice"))


def named(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the choice whose text an answer consists of, or states last."""
    text = re.sub(r"[*`$\"]", "", plain(text))
    statements = [*_STATES.finditer(text)]
    stated = text[statements[-1].end() :] if statements else text
    line = stated.strip().split("\n")[0]
    texts = [_bare_words(plain(choice)) for choice in choices]
    for part in (line, re.split(r"[.!;](?: |$)|。|, (?:because|since|as)\b", line)[0]):
        if (words := _bare_words(part)) and texts.count(words) == 1:
            return "ABCDEFGH"[texts.index(words)]
    return None


def _bare_words(text: str) -> str:
    """Return a text in lower case without its article, quotes and markup."""
    text = re.sub(r"[*`$\"'\\{}]", "", text).strip(" .,;:!()[]").casefold()
    return re.sub(r"^(?:the|an?) ", "", text)
