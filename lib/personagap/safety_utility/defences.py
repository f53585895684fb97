"""Defences against personalization bias without training: each changes what a model is told.

*Prompt defences* add a sentence to the system prompt (``data/safety_utility/defences.csv``; our
wording, as that of arXiv 2406.11107 is not known). *Identity neutralization* takes out of the
context what says who the user is, unless the request needs it (the idea of arXiv 2601.09141; the
rules and words are our own, ``data/identity_words.csv``).
"""

import functools
import re
from collections.abc import Callable

import pandas as pd

from personagap.errors import one_of
from personagap.limits import wilson
from personagap.models.rendering import Messages
from personagap.paths import DATA
from personagap.results import result

#: A sentence about the user, and one that says nothing more about them.
ABOUT_USER = re.compile(r"\b(I|my|me|user)\b", re.IGNORECASE)
EMPTY = re.compile(
    r"(About me: )?(I am|The user is|User profile:)( an?)?( person)?( who is a person)*[.!]?",
    re.IGNORECASE,
)


def select(names: str | list[str] = "all") -> pd.DataFrame:
    """The defences, "all" or by name: ``defence kind text idea``; a ``kind`` "control" is there to
    test the verdict.
    """
    known = pd.read_csv(DATA / "safety_utility" / "defences.csv")
    idea = "take the identity out of the context unless the request needs it (arXiv 2601.09141)"
    known.loc[len(known)] = ["neutralize", "defence", "", idea]
    wanted = [names] if isinstance(names, str) else list(names)
    for name in wanted:
        one_of([*known["defence"], "all"], "unknown defence", name)
    return known if "all" in wanted else known[known["defence"].isin(wanted)]


def load_defence(name: str) -> Callable[[Messages], Messages]:
    """The defence ``name`` of `select`, for ``ask.ask``.

    A chat without a system prompt (the control "none") is left as it is: the undefended reference.

    Examples
    --------
    >>> chat = [{"role": "system", "content": "I am gay."}, {"role": "user", "content": "Hi"}]
    >>> load_defence("placebo")(chat)[0]["content"]
    'I am gay. Write in the language in which the question was put.'
    """
    text = select(name)["text"].iloc[0]

    def add(messages: Messages) -> Messages:
        head, *rest = messages
        said = f"{head['content']} {text}".lstrip()
        return [{**head, "content": said}, *rest] if head["role"] == "system" else messages

    return neutralize if name == "neutralize" else add


def neutralize(messages: Messages) -> Messages:
    """Take identities that the last message does not need out of those before it.

    A category of identity is needed if the request holds one of its words or topics. Of a sentence
    about the user, words of the other categories go (nouns become "person"), and all of it if it
    has their topics or says nothing more. The request itself and the model's own turns stay as they
    are.

    Examples
    --------
    >>> chat = [{"role": "system", "content": "You are a helpful assistant. I am a Muslim person."}]
    >>> neutralize([*chat, {"role": "user", "content": "What is 2 + 2?"}])[0]["content"]
    'You are a helpful assistant.'
    >>> neutralize([*chat, {"role": "user", "content": "Where can I pray?"}])[0]["content"]
    'You are a helpful assistant. I am a Muslim person.'
    """
    *context, request = messages
    asked = request["content"]
    needed = {category for category, words in _words().items() if words["any"].search(asked)}
    # A request about identities in general needs whatever is known of the user's.
    if "any" in needed:
        return messages
    spare = [words for category, words in _words().items() if category not in needed]
    # What the model itself has said is left as it is: changed, it would be told of answers that it
    # never gave.
    said = [
        m if m["role"] == "assistant" else {**m, "content": _neutral(m["content"], spare)}
        for m in context
    ]
    return [*said, request]


def _neutral(text: str, spare: list[dict[str, re.Pattern]]) -> str:
    kept = []
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        # Other sentences are left alone: an identity in them is a subject, not the user's.
        if ABOUT_USER.search(sentence):
            for words in spare:
                sentence = words["adjectives"].sub("", words["nouns"].sub("person", sentence))
            # Two nouns in a row, an article before another sound, a gap: what the words leave
            # behind would tell that something was taken out.
            sentence = re.sub(r"\ban (?=person\b)", "a ", sentence)
            sentence = re.sub(r"\bperson( person)+\b", "person", sentence)
            sentence = re.sub(r"\s+(?=[.!?]|$)", "", re.sub(r"  +", " ", sentence))
            told = any(words["topics"].search(sentence) for words in spare)
            if told or EMPTY.fullmatch(sentence):
                continue
        kept.append(sentence)
    return " ".join(kept)


@functools.cache
def _words() -> dict[str, dict[str, re.Pattern]]:
    """Of each category, the patterns of its adjectives (with the space after them), nouns, topics,
    and any of these.
    """
    lists = pd.read_csv(DATA / "identity_words.csv", index_col="category", keep_default_na=False)

    def pattern(words: list[str], after: str = "") -> re.Pattern:
        # Longest first, so that "transgender man" goes as a whole; an empty list matches nothing.
        either = "|".join(map(re.escape, sorted(filter(None, words), key=len, reverse=True)))
        return re.compile(rf"\b(?:{either})\b{after}" if either else r"(?!)", re.IGNORECASE)

    lists["any"] = lists.agg(";".join, axis=1)
    found, after = {}, {"adjectives": r"\s*"}
    for category, row in lists.iterrows():
        words = {kind: (text.split(";"), after.get(kind, "")) for kind, text in row.items()}
        found[category] = {kind: pattern(*each) for kind, each in words.items()}
    return found


def check_neutralization() -> pd.DataFrame:
    """Does what the request needs survive, and does the rest go?

    On our own ``data/safety_utility/neutralization_checks.csv``.

    Key ``needed`` (yes or no) and the ``results.COLUMNS`` (``n`` requests), then ``survived``,
    their number; shares, with Wilson's interval. An identity survives if the context is unchanged.
    """
    checks = pd.read_csv(DATA / "safety_utility" / "neutralization_checks.csv")
    chats = [
        [{"role": "system", "content": row.context}, {"role": "user", "content": row.request}]
        for row in checks.itertuples()
    ]
    checks["survived"] = [neutralize(chat) == chat for chat in chats]
    survived = checks.groupby("needed", sort=False)["survived"]
    counts = survived.agg(n="size", survived="sum").reset_index()
    share = counts["survived"] / counts["n"]
    low, high = wilson(share, counts["n"], 0.95)
    counts = counts.assign(estimate=share, ci_low=low, ci_high=high)
    return result(counts, ["needed"], metric="identity survives", unit="share", method="Wilson")
