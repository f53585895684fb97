"""Answers that state the text of a choice in place of its letter."""

import re
import unicodedata
from collections.abc import Sequence

from personagap.tasks._wording import denied, plain, stating, words

_STATES = re.compile(stating("answer", "choice"))
_CONCLUDES = re.compile(rf"(?i:{words('so')})\b")
#: What stands before a choice that a sentence ends in: "The capital is Quito."
_SAYS = r"(?:\b(?:is|are|was|were|be|its|thats)|[=:]) (?:the |an? )?"


def named(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the choice whose text an answer consists of, or states last."""
    text = re.sub(r"[*`$\"]", "", plain(text))
    statements = [*_STATES.finditer(text)]
    stated = text[statements[-1].end() :] if statements else text
    line = stated.strip().split("\n")[0]
    texts = [_bare_words(plain(choice)) for choice in choices]
    sentence = re.split(r"[.!;](?: |$)|。|, (?:because|since|as)\b", line)[0]
    parts = [line, sentence]
    # "Quito, the capital of Ecuador", but not "Quito, Lima"
    part, _, remark = sentence.partition(", ")
    parts += [] if any(_find(choice, _bare_words(remark)) for choice in texts) else [part]
    for given in map(_bare_words, parts):
        if given and texts.count(given) == 1:
            return "ABCDEFGH"[texts.index(given)]
    return None if statements else _concluded(text, texts)


def _concluded(text: str, texts: list[str]) -> str | None:
    """Return the letter of the only choice in a last sentence that ends in it."""
    *above, line = text.split("\n")
    sentence = re.split(r"(?<=[.!?]) +", line)[-1]
    # A last line concludes the lines above only if it says so: it may belong to a list.
    if above and not _CONCLUDES.match(sentence):
        return None
    sentence = _bare_words(sentence)
    ends = [choice for choice in texts if re.search(f"{_SAYS}{re.escape(choice)}$", sentence)]
    found = {choice for choice in texts if _find(choice, sentence)}
    if len(ends) != 1 or any(choice not in ends[0] for choice in found):
        return None
    position = len(sentence) - len(ends[0])
    return None if denied(sentence, position) else "ABCDEFGH"[texts.index(ends[0])]


def _find(given: str, text: str) -> re.Match | None:
    return re.search(rf"(?<!\w){re.escape(given)}(?!\w)", text)


def _bare_words(text: str) -> str:
    """Return a text in lower case without its article, accents, quotes and markup."""
    text = re.sub(r"[*`$\"'’\\{}]", "", text).strip(" .,;:!()[]").casefold()
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = re.sub(r"(?<=\d) ?per ?cent\b", "%", text)
    return re.sub(r"^(?:the|an?) ", "", text)
