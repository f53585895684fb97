"""Defences against personalization bias without training: each changes the messages to the model.

*Prompt defences* add a sentence to the system prompt (``data/safety_utility/defences.csv``; our
wording, since that of arXiv 2406.11107 is not published). *Identity neutralization* removes from
the context what reveals the user's identity, unless the request needs it (an idea of arXiv
2601.09141; the rules and words are our own, ``data/identity_words.csv``).
"""

import functools
import re
from collections.abc import Callable

import pandas as pd

from personagap.errors import require_one_of
from personagap.limits import wilson_interval
from personagap.models.rendering import Messages
from personagap.paths import DATA
from personagap.results import result

#: Matches a sentence about the user; and one that, without its identity words, says nothing.
ABOUT_USER = re.compile(r"\b(I|my|me|user)\b", re.IGNORECASE)
EMPTY = re.compile(
    r"(About me: )?(I am|The user is|User profile:)( an?)?( person)?( who is a person)*[.!]?",
    re.IGNORECASE,
)


def select(names: str | list[str] = "all") -> pd.DataFrame:
    """Select defences by name, or "all": ``defence kind text idea``.

    Those of ``kind`` "control" serve to check the verdict.
    """
    defences = pd.read_csv(DATA / "safety_utility" / "defences.csv")
    idea = "take the identity out of the context unless the request needs it (arXiv 2601.09141)"
    defences.loc[len(defences)] = ["neutralize", "defence", "", idea]
    requested = [names] if isinstance(names, str) else list(names)
    for name in requested:
        require_one_of([*defences["defence"], "all"], "unknown defence", name)
    return defences if "all" in requested else defences[defences["defence"].isin(requested)]


def load_defence(name: str) -> Callable[[Messages], Messages]:
    """Return the defence ``name`` of `select` as a function on messages, for ``ask.ask``.

    It leaves a chat without a system prompt (the control "none") unchanged: that is the undefended
    reference.

    Examples
    --------
    >>> chat = [{"role": "system", "content": "I am gay."}, {"role": "user", "content": "Hi"}]
    >>> load_defence("placebo")(chat)[0]["content"]
    'I am gay. Write in the language in which the question was put.'
    """
    text = select(name)["text"].iloc[0]

    def add(messages: Messages) -> Messages:
        head, *rest = messages
        content = f"{head['content']} {text}".lstrip()
        return [{**head, "content": content}, *rest] if head["role"] == "system" else messages

    return neutralize if name == "neutralize" else add


def neutralize(messages: Messages) -> Messages:
    """Remove from a context the identities that the request, the last message, does not need.

    A category of identity is needed if the request contains one of its words or topics. From
    sentences about the user, the words of all other categories are removed (nouns become "person");
    a sentence that mentions their topics, or then says nothing, is removed entirely. The request
    and the model's own turns stay unchanged.

    Examples
    --------
    >>> chat = [{"role": "system", "content": "You are a helpful assistant. I am a Muslim person."}]
    >>> neutralize([*chat, {"role": "user", "content": "What is 2 + 2?"}])[0]["content"]
    'You are a helpful assistant.'
    >>> neutralize([*chat, {"role": "user", "content": "Where can I pray?"}])[0]["content"]
    'You are a helpful assistant. I am a Muslim person.'
    """
    *context, request = messages
    text = request["content"]
    needed = {category for category, words in _words().items() if words["any"].search(text)}
    # A request about identities in general needs everything known about the user.
    if "any" in needed:
        return messages
    unneeded = [words for category, words in _words().items() if category not in needed]
    # The model's own turns stay: edited, they would be answers that it never gave.
    for place, turn in enumerate(context):
        if turn["role"] != "assistant":
            context[place] = {**turn, "content": _neutralize_text(turn["content"], unneeded)}
    return [*context, request]


def _neutralize_text(text: str, unneeded: list[dict[str, re.Pattern]]) -> str:
    """Remove the words and topics of ``unneeded`` categories from sentences about the user."""
    kept = []
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        # In other sentences an identity is a subject matter, not the user's own.
        if ABOUT_USER.search(sentence):
            for words in unneeded:
                sentence = words["adjectives"].sub("", words["nouns"].sub("person", sentence))
            # Repair what the removal leaves behind (a wrong article, "person person", double
            # spaces), as it would reveal that something was removed.
            sentence = re.sub(r"\ban (?=person\b)", "a ", sentence)
            sentence = re.sub(r"\bperson( person)+\b", "person", sentence)
            sentence = re.sub(r"\s+(?=[.!?]|$)", "", re.sub(r"  +", " ", sentence))
            reveals = any(words["topics"].search(sentence) for words in unneeded)
            if reveals or EMPTY.fullmatch(sentence):
                continue
        kept.append(sentence)
    return " ".join(kept)


@functools.cache
def _words() -> dict[str, dict[str, re.Pattern]]:
    """Return patterns for the "adjectives", "nouns", "topics" of each category, and "any" of them.

    The patterns of adjectives include the space after them.
    """
    lists = pd.read_csv(DATA / "identity_words.csv", index_col="category", keep_default_na=False)

    def pattern(words: list[str], after: str = "") -> re.Pattern:
        # Longest first, so that "transgender man" matches as a whole; no words match nothing.
        either = "|".join(map(re.escape, sorted(filter(None, words), key=len, reverse=True)))
        return re.compile(rf"\b(?:{either})\b{after}" if either else r"(?!)", re.IGNORECASE)

    lists["any"] = lists.agg(";".join, axis=1)
    after = {"adjectives": r"\s*"}
    return {
        category: {
            kind: pattern(text.split(";"), after.get(kind, "")) for kind, text in row.items()
        }
        for category, row in lists.iterrows()
    }


def check_neutralization() -> pd.DataFrame:
    """Measure whether identities survive `neutralize` where the request needs them, and only there.

    Uses our own ``data/safety_utility/neutralization_checks.csv``. An identity survives if the
    context is unchanged.

    Returns the key ``needed`` (yes or no), the ``results.COLUMNS`` (a share with Wilson's interval;
    ``n`` is the number of requests), and ``survived``, the number of identities that did.
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
    low, high = wilson_interval(share, counts["n"], 0.95)
    counts = counts.assign(estimate=share, ci_low=low, ci_high=high)
    return result(counts, ["needed"], metric="identity survives", unit="share", method="Wilson")
