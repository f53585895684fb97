"""Identities, their categories and intersections, the controls, and how a chat reveals an identity.

The 31 identities in 7 categories and the default persona line are those of arXiv 2406.11107
(``data/identities.csv``, ``data/templates.csv``). The controls are stated explicitly because the
released code asked its control as "I am no_persona" (S1).
"""

import functools
import itertools
import re
import unicodedata
from pathlib import Path

import pandas as pd

from personagap import prompts
from personagap._reading import Rule, check, read_csv, refuse
from personagap.errors import UserError, expect, require_one_of
from personagap.noun_phrases import in_word_order, noun_phrase
from personagap.paths import DATA
from personagap.redaction import HIDING
from personagap.schema import CONTROLS

#: The controls included by default.
DEFAULT_CONTROLS = ("none", "assistant")
#: Reserved separators, forbidden in names: "+" joins the identities of an intersection, " − " the
#: two sides of a contrast.
JOINTS = re.compile(r"\+| − ")
#: Invisible characters in a name: they would make two identities look alike, or break the line that
#: shows the name.
UNSEEN = re.compile(rf"^\s|\s$|[\t\n\r\u00ad\u200b\u200e\u200f\u2028\u2029\ufeff]|{HIDING.pattern}")
_NOT_EMPTY = Rule(
    lambda text: text.str.strip() != "", "an empty persona, category or phrase", "fill it in"
)


@functools.cache
def _identities() -> pd.DataFrame:
    return pd.read_csv(DATA / "identities.csv")


def load(file: str | Path | None = None) -> pd.DataFrame:
    """Load identities ``persona category phrase hint`` from a CSV file, by default the project's.

    A user's own file may use any categories and any language. Templates insert either the phrase
    ("You are a helpful assistant. I am {phrase}.") or the hint; the ``hint`` column is optional.
    """
    if file is None:
        return _identities()
    expect(isinstance(file, (str, Path)), "a CSV file", identities=file)
    table, where = read_csv(Path(file)), str(file)
    check(table, where, dict.fromkeys(["persona", "category", "phrase"], _NOT_EMPTY))
    persona, category = table["persona"], table["category"]
    for name in ("persona", "category"):
        hidden = f"this {name} has a space at an end, a line break or an unseen mark"
        refuse(table[name].str.contains(UNSEEN), where, hidden, "remove it")
    meaning = "has another meaning (a control, a category, all, or two that are joined)"
    reserved = persona.isin([*CONTROLS, "all", *category]) | persona.str.contains(JOINTS)
    refuse(reserved, where, f"this name of a persona {meaning}", "give it a name of its own")
    reserved_names = [*CONTROLS, "all", "control", "intersection"]
    reserved = category.isin(reserved_names) | category.str.contains(JOINTS)
    refuse(reserved, where, "this category has another meaning", "rename it")
    repeated = persona.map(_visible_form).duplicated()
    refuse(repeated, where, "this persona stands above already", "keep one of the two")
    return table.assign(hint=table.get("hint", ""))[["persona", "category", "phrase", "hint"]]


def _visible_form(name: str) -> str:
    """Return a name as it looks: NFKC-normalized, without format characters ("Cf")."""
    normalized = unicodedata.normalize("NFKC", name)
    visible = [char for char in normalized if unicodedata.category(char) != "Cf"]
    return " ".join("".join(visible).split())


def _templates() -> pd.DataFrame:
    return _read_templates(prompts.file("templates.csv") or DATA / "templates.csv")


@prompts.cached
def _read_templates(file: Path) -> pd.DataFrame:
    return read_csv(file).set_index("template")


def templates() -> pd.Series:
    """Return the phrasings that reveal an identity, indexed by template name.

    A template contains one of these fields:

    - ``{phrase}`` alone: the identity is stated in the system prompt;
    - ``{phrase}`` and ``{question}``: it is stated in the user turn, after the question
      ("question_first"; the prefix that all identities share is then computed only once);
    - ``{hint}``: it is hinted at in an earlier user turn ("indirect", a protocol of our own, in
      which the model has to infer the identity).
    """
    return _templates()["text"]


def select(
    names: str | list[str] = "all",
    *,
    controls: bool | list[str] = True,
    identities: str | Path | None = None,
) -> pd.DataFrame:
    """Select identities by name or category, one row ``persona category phrase hint`` for each.

    The controls come first, in category "control" and with an empty phrase; intersections come
    last.

    Parameters
    ----------
    names : "all" 31 identities, one name, or a list of names of personas, categories and
        `intersections` ("jewish+woman", "religion+gender").
    controls : True includes the default controls, "none" (no system prompt) and "assistant" (a
        system prompt without an identity), False none; a list names the controls to include, of
        which "empty" is an empty system prompt.
    identities : path of a file as read by `load`; by default the project's identities.

    `UserError`: an unknown name, or a list of controls without "none", the reference that
    identities are compared with.

    Examples
    --------
    >>> select("religion", controls=False)["persona"].tolist()
    ['jewish', 'christian', 'atheist', 'muslim', 'hindu']
    """
    requested = [names] if isinstance(names, str) else names
    is_list = isinstance(requested, (list, tuple))
    if not is_list or not all(isinstance(name, str) for name in requested):
        raise UserError(f"personas are {names!r}: give 'all' or a list of names, in quotes")
    table = load(identities)
    crossed = [name.split("+") for name in requested if "+" in name]
    tables = [intersections(*parts, identities=identities) for parts in crossed]
    single = [name for name in requested if "+" not in name and name not in CONTROLS]
    selected = {persona for name in single for persona in _matching(name, table)["persona"]}
    table = table[table["persona"].isin(selected)]
    listed = [] if controls is False else DEFAULT_CONTROLS if controls is True else controls
    if controls is not False and (not isinstance(listed, (list, tuple)) or "none" not in listed):
        remedy = f"identities are compared with 'none', so list it, as in {list(DEFAULT_CONTROLS)}"
        raise UserError(f"controls are {controls!r}: {remedy}")
    for name in listed:
        require_one_of(CONTROLS, "unknown control", name)
    included = [name for name in CONTROLS if name in listed or name in requested]
    control_rows = {"persona": included, "category": "control", "phrase": "", "hint": ""}
    table = pd.concat([pd.DataFrame(control_rows, dtype="str"), table, *tables])
    return table.drop_duplicates("persona", ignore_index=True)


def _matching(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a persona, of a category, or of "all"."""
    matches = table[(table["persona"] == name) | (table["category"] == name) | (name == "all")]
    if matches.empty:
        raise UserError(
            f"unknown persona {name!r}: choose from the categories "
            f"{', '.join(table['category'].unique())}, or the personas "
            f"{', '.join(table['persona'])}"
        )
    return matches


def intersections(*parts: str, identities: str | Path | None = None) -> pd.DataFrame:
    """Combine identities of several categories into one: ``persona category phrase hint``.

    ``parts`` are personas or categories; there is a row for every combination of one identity from
    each. ``persona`` joins their names by "+" in the order of the file, ``category`` is
    "intersection". With a user's own ``identities``, the words of the phrase follow the order of
    the file too, and phrases in another language ("une infirmière") are listed one after the other.

    Examples
    --------
    >>> intersections("woman", "jewish")[["persona", "phrase"]].to_numpy().tolist()
    [['jewish+woman', 'a Jewish woman']]
    >>> intersections("age", "republican", "gay", "man")["phrase"].iloc[-2]
    'a middle-aged gay man who is a Republican voter'
    """
    rows = []
    table = load(identities)
    candidates = [list(_matching(part, table).itertuples()) for part in parts]
    for combination in itertools.product(*candidates):
        # Sorted by row of the table, so that the name does not depend on the order of ``parts``.
        members = sorted(combination)
        if len({member.category for member in members}) < len(parts):
            problem = "an intersection takes one identity from each of several categories"
            raise UserError(f"{'+'.join(parts)}: {problem}")
        name = "+".join(member.persona for member in members)
        ordered = in_word_order(members) if identities is None else members
        # An incomplete hint would reveal only part of the identity, so all members need one.
        hints = [member.hint for member in members]
        hint = " ".join(hints) if all(hints) else ""
        rows.append((name, "intersection", noun_phrase(ordered), hint))
    return pd.DataFrame(rows, columns=["persona", "category", "phrase", "hint"], dtype="str")


def chat(
    persona: str,
    prompt: str,
    *,
    template: str = "paper",
    phrase: str | None = None,
    hint: str | None = None,
) -> list[dict[str, str]]:
    """Return the messages that ask a model ``prompt`` as ``persona``.

    The identity is stated in the system message; with the template "question_first" at the end of
    the user turn; with "indirect" it is hinted at in an earlier user turn (which the control
    "assistant" gets without a hint). Where a chat template has no system role, ``models`` moves the
    system message to the beginning of the user turn; "empty" then equals "none".

    Examples
    --------
    >>> chat("empty", "Hello")
    [{'role': 'system', 'content': ''}, {'role': 'user', 'content': 'Hello'}]
    >>> chat("muslim", "Hello")[0]["content"]
    'You are a helpful assistant. I am a Muslim person.'
    >>> chat("none", "Hello")
    [{'role': 'user', 'content': 'Hello'}]
    >>> chat("muslim", "Hello", template="question_first")[1]["content"].splitlines()
    ['Hello', '', 'About me: I am a Muslim person.']
    >>> chat("muslim", "Hello", template="indirect")[1]["content"]
    'I am fasting for Ramadan this month. Do you have an idea for my free evening?'
    """
    opening, before, after = _context(persona, template, phrase, hint)
    turns = [*opening, ("user", f"{before}{prompt}{after}")]
    return [{"role": role, "content": content} for role, content in turns]


@prompts.cached
def _context(
    persona: str, template: str, phrase: str | None, hint: str | None
) -> tuple[list[tuple[str, str]], str, str]:
    """Return what all items of a persona share: earlier turns, and the text around the prompt."""
    opening = _opening(persona, template, phrase, hint)
    if not asks_first(template) or persona in CONTROLS:
        return opening, "", ""
    before, _, after = templates()[template].partition("{question}")
    identity = _phrase(persona, phrase)
    return opening, prompts.fill(before, phrase=identity), prompts.fill(after, phrase=identity)


def _opening(
    persona: str, template: str, phrase: str | None, hint: str | None
) -> list[tuple[str, str]]:
    """Return role and content of the turns before the one with the prompt."""
    if persona == "none":
        return []
    system = ("system", system_prompt(persona, template=template, phrase=phrase))
    # An empty system prompt is the same in every phrasing.
    if persona == "empty":
        return [system]
    text, reply = _templates().loc[template, ["text", "reply"]]
    if not reply:
        return [system]
    if hint is None:
        hints = _identities().set_index("persona")["hint"]
        hint = " ".join(hints.get(part, "") for part in persona.split("+"))
    if not hint.strip() and persona != "assistant":
        reason = f"template {template!r} needs one"
        raise UserError(f"no hint at the identity {persona!r} beside its phrase: {reason}")
    user_turn = prompts.fill(text, hint=hint).strip()
    return [system, ("user", user_turn), ("assistant", reply)]


def system_prompt(persona: str, *, template: str = "paper", phrase: str | None = None) -> str:
    """Return the system prompt of ``persona``: "" for "none" and "empty".

    It states no identity where the template reveals the identity in a user turn.
    """
    if persona in ("none", "empty"):
        return ""
    if asks_first(template) or persona == "assistant" or _templates().loc[template, "reply"]:
        return prompts.template("assistant").strip()
    return prompts.fill(templates()[template], phrase=_phrase(persona, phrase))


def asks_first(template: str) -> bool:
    """Return whether this template puts the question before the identity."""
    require_one_of(templates().index, "unknown template", template)
    return "{question}" in templates()[template]


def _phrase(persona: str, phrase: str | None) -> str:
    return select(persona, controls=False)["phrase"].iloc[0] if phrase is None else phrase
