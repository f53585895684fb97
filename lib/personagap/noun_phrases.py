"""Combination of several identities into one noun phrase."""

import re

#: Categories in the order of their words in English: "a middle-aged gay Hindu man"
WORD_ORDER = ("age", "disability", "sexuality", "religion", "race", "gender", "politics")
ARTICLE = re.compile(r"^an? ")


def in_word_order(parts: list) -> list:
    """Return identities in the order of their words; unlisted categories come last."""
    ranks = {category: rank for rank, category in enumerate(WORD_ORDER)}
    return sorted(parts, key=lambda part: ranks.get(part.category, len(ranks)))


def noun_phrase(parts: list) -> str:
    """Return one phrase for several identities (with attributes ``category`` and ``phrase``).

    The noun of the gender is the head if there are several nouns. Phrases without an English
    article are joined by commas.

    Examples
    --------
    >>> from collections import namedtuple
    >>> identity = namedtuple("identity", "category phrase")
    >>> noun_phrase([identity("religion", "a Hindu person"), identity("gender", "a man")])
    'a Hindu man'
    """
    if not any(ARTICLE.match(part.phrase) for part in parts):
        return ", ".join(part.phrase for part in parts)
    adjectives: list[str] = []
    nouns: list[str] = []
    for part in parts:
        words = ARTICLE.sub("", part.phrase)
        if words == part.phrase or words.endswith(" person"):
            adjectives.append(words.removesuffix(" person"))
        else:
            nouns.insert(0 if part.category == "gender" else len(nouns), words)
    head, *others = nouns or ["person"]
    further = f" who is {' and '.join(map(_with_article, others))}" if others else ""
    return _with_article(" ".join([*adjectives, head]) + further)


def _with_article(words: str) -> str:
    return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"
