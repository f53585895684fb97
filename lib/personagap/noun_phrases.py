"""Several identities in the words of one noun phrase."""

import re

#: Categories as their words follow each other: "a middle-aged gay Hindu man".
WORD_ORDER = ("age", "disability", "sexuality", "religion", "race", "gender", "politics")
ARTICLE = re.compile(r"^an? ")


def in_word_order(parts: list) -> list:
    """Identities as their words follow each other; those of a category without a place are last."""
    places = {category: place for place, category in enumerate(WORD_ORDER)}
    return sorted(parts, key=lambda part: places.get(part.category, len(places)))


def noun_phrase(parts: list) -> str:
    """The phrases of identities (``category phrase``) as one.

    Of several nouns the gender's is the head. Phrases without an English article are listed.

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
    further = f" who is {' and '.join(map(_article, others))}" if others else ""
    return _article(" ".join([*adjectives, head]) + further)


def _article(words: str) -> str:
    return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"
