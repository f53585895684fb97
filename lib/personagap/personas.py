"""Identities, their categories and intersections, the controls, and how a chat reveals an identity.

The 31 identities in 7 categories and the default persona line are those of
arXiv 2406.11107 (``data/identities.csv``, ``data/templates.csv``). The controls are stated
explicitly because the released code asked its control as "I am no_persona" (S1).
"""

import functools
import itertools
import re

import pandas as pd

from personagap.errors import UserError
from personagap.paths import DATA

#: Persona names of the controls: no system message at all (chat templates may then put a text of their own), an empty
#: one, and one without an identity; and those that are asked unless others are listed.
CONTROLS = ("none", "empty", "assistant")
DEFAULT_CONTROLS = ("none", "assistant")
ASSISTANT_PROMPT = "You are a helpful assistant."
#: Categories as their words follow each other in a noun phrase: "a middle-aged gay Hindu man".
WORD_ORDER = ("age", "disability", "sexuality", "religion", "race", "gender", "politics")


@functools.cache
def _identities() -> pd.DataFrame:
    return pd.read_csv(DATA / "identities.csv")


@functools.cache
def _templates() -> pd.DataFrame:
    return pd.read_csv(DATA / "templates.csv", index_col="template", keep_default_na=False)


def templates() -> pd.Series:
    """Phrasings that reveal an identity, indexed by template name.

    Each holds ``{phrase}``, stated in the system prompt, or ``{hint}``, said in an earlier turn
    of the user ("indirect", a protocol of our own: the identity is to be inferred).
    """
    return _templates()["text"]


def select(names: str | list[str] = "all", *, controls: bool | list[str] = True) -> pd.DataFrame:
    """Choose identities by name or by category: ``persona category phrase``, one row per persona.

    Controls come first, in category "control", with an empty phrase; intersections last.

    Parameters
    ----------
    names : "all" 31 identities, one name, or a list of names of personas, categories and
        `intersections` ("jewish+woman", "religion+gender").
    controls : also include the default controls, "none" (no system prompt) and "assistant" (one without an identity),
        or those listed; "empty" is an empty system prompt.

    Raises
    ------
    UserError : an unknown name, or controls listed without "none", which identities are compared with.

    Examples
    --------
    >>> select("religion", controls=False)["persona"].tolist()
    ['jewish', 'christian', 'atheist', 'muslim', 'hindu']
    """
    wanted = [names] if isinstance(names, str) else names
    if not isinstance(wanted, (list, tuple)) or not all(isinstance(name, str) for name in wanted):
        raise UserError(f"personas are {names!r}: give 'all' or a list of names, in quotes")
    crossed = [intersections(*name.split("+")) for name in wanted if "+" in name]
    single = [_named(name)["persona"] for name in wanted if "+" not in name and name not in CONTROLS]
    chosen = _identities().drop(columns="hint")
    chosen = chosen[chosen["persona"].isin({persona for part in single for persona in part})]
    listed = [] if controls is False else DEFAULT_CONTROLS if controls is True else controls
    if controls is not False and (not isinstance(listed, (list, tuple)) or "none" not in listed):
        example = list(DEFAULT_CONTROLS)
        raise UserError(f"controls are {controls!r}: identities are compared with 'none', so list it, as in {example}")
    if unknown := [name for name in listed if name not in CONTROLS]:
        raise UserError(f"unknown control {unknown[0]!r}: choose from {', '.join(CONTROLS)}")
    named = [name for name in CONTROLS if name in listed or name in wanted]
    control_rows = pd.DataFrame({"persona": named, "category": "control", "phrase": ""}, dtype="str")
    return pd.concat([control_rows, chosen, *crossed], ignore_index=True).drop_duplicates("persona", ignore_index=True)


def _named(name: str) -> pd.DataFrame:
    """The identities of a persona name, a category or "all"."""
    table = _identities()
    found = table[(table["persona"] == name) | (table["category"] == name) | (name == "all")]
    if found.empty:
        raise UserError(
            f"unknown persona {name!r}: choose from the categories "
            f"{', '.join(table['category'].unique())}, or the personas {', '.join(table['persona'])}"
        )
    return found


def intersections(*parts: str) -> pd.DataFrame:
    """Identities of several categories at once, worded as one noun phrase: ``persona category phrase``.

    ``parts`` are personas or categories, and the rows every combination of one identity from each; ``persona`` joins
    their names by "+" in the order of ``data/identities.csv``, ``category`` is "intersection".

    Examples
    --------
    >>> intersections("woman", "jewish")[["persona", "phrase"]].to_numpy().tolist()
    [['jewish+woman', 'a Jewish woman']]
    >>> intersections("age", "republican", "gay", "man")["phrase"].iloc[-2]
    'a middle-aged gay man who is a Republican voter'
    """
    rows = []
    for drawn in itertools.product(*(_named(part).itertuples() for part in parts)):
        together = sorted(drawn)  # by their place in the table
        if len({part.category for part in together}) < len(parts):
            raise UserError(f"{'+'.join(parts)}: an intersection takes one identity from each of several categories")
        rows.append(("+".join(part.persona for part in together), "intersection", _noun_phrase(together)))
    return pd.DataFrame(rows, columns=["persona", "category", "phrase"], dtype="str")


def _noun_phrase(parts: list) -> str:
    """ "a Hindu person" and "a man" → "a Hindu man"; of several nouns, the gender's is the head."""
    adjectives: list[str] = []
    nouns: list[str] = []
    for part in sorted(parts, key=_place):
        words = re.sub(r"^an? ", "", part.phrase)
        if words == part.phrase or words.endswith(" person"):
            adjectives.append(words.removesuffix(" person"))
        else:
            nouns.insert(0 if part.category == "gender" else len(nouns), words)
    head, *others = nouns or ["person"]
    further = f" who is {' and '.join(map(_article, others))}" if others else ""
    return _article(" ".join([*adjectives, head]) + further)


def _place(part) -> int:
    """Where the word of an identity stands; one of a category that the order does not name comes last."""
    return WORD_ORDER.index(part.category) if part.category in WORD_ORDER else len(WORD_ORDER)


def _article(words: str) -> str:
    return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"


def chat(persona: str, prompt: str, *, template: str = "paper", phrase: str | None = None) -> list[dict[str, str]]:
    """The messages that put ``prompt`` to a model on behalf of ``persona``.

    The identity goes into the system message, or, with the template "indirect", into an earlier turn of the user
    (which the control "assistant" takes without a hint). ``models`` moves a system message to the head of the user
    turn where a chat template has no system role; there "empty" is asked as "none" is.

    Examples
    --------
    >>> chat("empty", "Hello")
    [{'role': 'system', 'content': ''}, {'role': 'user', 'content': 'Hello'}]
    >>> chat("muslim", "Hello")[0]["content"]
    'You are a helpful assistant. I am a Muslim person.'
    >>> chat("none", "Hello")
    [{'role': 'user', 'content': 'Hello'}]
    >>> chat("muslim", "Hello", template="indirect")[1]["content"]
    'I am fasting for Ramadan this month. Do you have an idea for my free evening?'
    """
    turns = [*_opening(persona, template, phrase), ("user", prompt)]
    return [{"role": role, "content": content} for role, content in turns]


@functools.cache
def _opening(persona: str, template: str, phrase: str | None) -> list[tuple[str, str]]:
    """Role and content of what comes before the prompt, which all items of a persona share."""
    if persona == "none":
        return []
    system = ("system", system_prompt(persona, template=template, phrase=phrase))
    if persona == "empty":  # in every phrasing
        return [system]
    text, reply = _templates().loc[template, ["text", "reply"]]
    if not reply:
        return [system]
    hints = _identities().set_index("persona")["hint"]
    parts = [part for part in persona.split("+") if part != "assistant"]
    if unknown := [part for part in parts if part not in hints]:
        raise UserError(
            f"no hint at the identity {unknown[0]!r} in data/identities.csv: template {template!r} needs one"
        )
    earlier = text.format(hint=" ".join(hints[parts])).strip()
    return [system, ("user", earlier), ("assistant", reply)]


def system_prompt(persona: str, *, template: str = "paper", phrase: str | None = None) -> str:
    """The system prompt of ``persona`` ("" for "none" and "empty"); an indirect one states no identity."""
    if persona in ("none", "empty"):
        return ""
    if template not in templates().index:
        raise UserError(f"unknown template {template!r}: choose from {', '.join(templates().index)}")
    if persona == "assistant" or _templates().loc[template, "reply"]:
        return ASSISTANT_PROMPT
    if phrase is None:
        phrase = select(persona, controls=False)["phrase"].iloc[0]
    return templates()[template].format(phrase=phrase)
