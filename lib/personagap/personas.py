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
from personagap.errors import UserError, expect, one_of
from personagap.leaving import HIDING
from personagap.noun_phrases import in_word_order, noun_phrase
from personagap.paths import DATA

#: Persona names of the controls: no system message at all (chat templates may then put a text of
#: their own), an empty one, and one without an identity; and those that are asked unless others are
#: listed.
CONTROLS = ("none", "empty", "assistant")
DEFAULT_CONTROLS = ("none", "assistant")
#: What the name of an identity may not hold: "+" joins those of an intersection, " − " those of a
#: contrast.
JOINTS = re.compile(r"\+| − ")
#: What nobody sees in a name, so that two identities would look alike, or one break the line that
#: it stands in.
UNSEEN = re.compile(rf"^\s|\s$|[\t\n\r\u00ad\u200b\u200e\u200f\u2028\u2029\ufeff]|{HIDING.pattern}")
_STATED = Rule(
    lambda text: text.str.strip() != "", "an empty persona, category or phrase", "fill it in"
)


@functools.cache
def _identities() -> pd.DataFrame:
    return pd.read_csv(DATA / "identities.csv")


def load(file: str | Path | None = None) -> pd.DataFrame:
    """Identities of a CSV of one's own, ``persona category phrase hint``, or of the project.

    Categories and language are free; the template states the phrase ("You are a helpful assistant.
    I am {phrase}."), or says the hint, which may be left out.
    """
    if file is None:
        return _identities()
    expect(isinstance(file, (str, Path)), "a CSV file", identities=file)
    table, where = read_csv(Path(file)), str(file)
    check(table, where, dict.fromkeys(["persona", "category", "phrase"], _STATED))
    persona, category = table["persona"], table["category"]
    for name in ("persona", "category"):
        hidden = f"this {name} has a space at an end, a line break or an unseen mark"
        refuse(table[name].str.contains(UNSEEN), where, hidden, "remove it")
    meaning = "has another meaning (a control, a category, all, or two that are joined)"
    taken = persona.isin([*CONTROLS, "all", *category]) | persona.str.contains(JOINTS)
    refuse(taken, where, f"this name of a persona {meaning}", "give it a name of its own")
    others = [*CONTROLS, "all", "control", "intersection"]
    taken = category.isin(others) | category.str.contains(JOINTS)
    refuse(taken, where, "this category has another meaning", "rename it")
    repeated = persona.map(_seen).duplicated()
    refuse(repeated, where, "this persona stands above already", "keep one of the two")
    return table.assign(hint=table.get("hint", ""))[["persona", "category", "phrase", "hint"]]


def _seen(name: str) -> str:
    """A name as a reader sees it: one form of a letter or space, nothing without a shape ("Cf")."""
    letters = unicodedata.normalize("NFKC", name)
    shapes = [letter for letter in letters if unicodedata.category(letter) != "Cf"]
    return " ".join("".join(shapes).split())


def _templates() -> pd.DataFrame:
    return _read_templates(prompts.file("templates.csv") or DATA / "templates.csv")


@prompts.kept
def _read_templates(file: Path) -> pd.DataFrame:
    return read_csv(file).set_index("template")


def templates() -> pd.Series:
    """Phrasings that reveal an identity, indexed by template name.

    Each holds ``{phrase}``, stated in the system prompt, or with ``{question}`` in the turn of the
    user, after it ("question_first": what identities share then comes first, and is computed once),
    or ``{hint}``, said in an earlier turn of the user ("indirect", a protocol of our own: the
    identity is to be inferred).
    """
    return _templates()["text"]


def select(
    names: str | list[str] = "all",
    *,
    controls: bool | list[str] = True,
    identities: str | Path | None = None,
) -> pd.DataFrame:
    """Choose identities by name or by category: ``persona category phrase hint``, a row for each.

    Controls come first, in category "control", with an empty phrase; intersections last.

    Parameters
    ----------
    names : "all" 31 identities, one name, or a list of names of personas, categories and
        `intersections` ("jewish+woman", "religion+gender").
    controls : also include the default controls, "none" (no system prompt) and "assistant" (one
        without an identity), or those listed; "empty" is an empty system prompt.
    identities : the file they are in, of `load`; default: the project's.

    `UserError`: an unknown name, or controls listed without "none", which identities are compared
    with.

    Examples
    --------
    >>> select("religion", controls=False)["persona"].tolist()
    ['jewish', 'christian', 'atheist', 'muslim', 'hindu']
    """
    wanted = [names] if isinstance(names, str) else names
    if not isinstance(wanted, (list, tuple)) or not all(isinstance(name, str) for name in wanted):
        raise UserError(f"personas are {names!r}: give 'all' or a list of names, in quotes")
    chosen = load(identities)
    crossed = [name.split("+") for name in wanted if "+" in name]
    crossed = [intersections(*parts, identities=identities) for parts in crossed]
    single = [name for name in wanted if "+" not in name and name not in CONTROLS]
    found = {persona for name in single for persona in _named(name, chosen)["persona"]}
    chosen = chosen[chosen["persona"].isin(found)]
    listed = [] if controls is False else DEFAULT_CONTROLS if controls is True else controls
    if controls is not False and (not isinstance(listed, (list, tuple)) or "none" not in listed):
        remedy = f"identities are compared with 'none', so list it, as in {list(DEFAULT_CONTROLS)}"
        raise UserError(f"controls are {controls!r}: {remedy}")
    for name in listed:
        one_of(CONTROLS, "unknown control", name)
    named = [name for name in CONTROLS if name in listed or name in wanted]
    row = {"persona": named, "category": "control", "phrase": "", "hint": ""}
    table = pd.concat([pd.DataFrame(row, dtype="str"), chosen, *crossed])
    return table.drop_duplicates("persona", ignore_index=True)


def _named(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """The identities of a persona name, a category or "all"."""
    found = table[(table["persona"] == name) | (table["category"] == name) | (name == "all")]
    if found.empty:
        raise UserError(
            f"unknown persona {name!r}: choose from the categories "
            f"{', '.join(table['category'].unique())}, or the personas "
            f"{', '.join(table['persona'])}"
        )
    return found


def intersections(*parts: str, identities: str | Path | None = None) -> pd.DataFrame:
    """Identities of several categories at once, in one phrase: ``persona category phrase hint``.

    ``parts`` are personas or categories, and the rows every combination of one identity from each;
    ``persona`` joins their names by "+" in the order of their file, ``category`` is "intersection".
    Of ``identities`` of one's own the words follow in the file's order too, and phrases in another
    language ("une infirmière") are listed.

    Examples
    --------
    >>> intersections("woman", "jewish")[["persona", "phrase"]].to_numpy().tolist()
    [['jewish+woman', 'a Jewish woman']]
    >>> intersections("age", "republican", "gay", "man")["phrase"].iloc[-2]
    'a middle-aged gay man who is a Republican voter'
    """
    rows = []
    table = load(identities)
    for drawn in itertools.product(*(_named(part, table).itertuples() for part in parts)):
        # By their place in the table: one name, in whatever order the parts are given.
        together = sorted(drawn)
        if len({part.category for part in together}) < len(parts):
            problem = "an intersection takes one identity from each of several categories"
            raise UserError(f"{'+'.join(parts)}: {problem}")
        name = "+".join(part.persona for part in together)
        ordered = in_word_order(together) if identities is None else together
        # Half of a hint would reveal half of the identity: without one of them there is none.
        hints = [part.hint for part in together]
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
    """The messages that put ``prompt`` to a model on behalf of ``persona``.

    The identity goes into the system message, with the template "question_first" to the end of the
    user's turn, or, with "indirect", into an earlier turn of the user (which the control
    "assistant" takes without a hint). ``models`` moves a system message to the head of the user
    turn where a chat template has no system role; there "empty" is asked as "none" is.

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
    opening, before, after = _around(persona, template, phrase, hint)
    turns = [*opening, ("user", f"{before}{prompt}{after}")]
    return [{"role": role, "content": content} for role, content in turns]


@prompts.kept
def _around(
    persona: str, template: str, phrase: str | None, hint: str | None
) -> tuple[list[tuple[str, str]], str, str]:
    """What all items of a persona share: the turns before the prompt's, and what is around it."""
    opening = _opening(persona, template, phrase, hint)
    if not asks_first(template) or persona in CONTROLS:
        return opening, "", ""
    before, _, after = templates()[template].partition("{question}")
    stated = _phrase(persona, phrase)
    return opening, prompts.fill(before, phrase=stated), prompts.fill(after, phrase=stated)


def _opening(
    persona: str, template: str, phrase: str | None, hint: str | None
) -> list[tuple[str, str]]:
    """Role and content of the turns before that of the prompt."""
    if persona == "none":
        return []
    system = ("system", system_prompt(persona, template=template, phrase=phrase))
    # The same in every phrasing, since it states nothing.
    if persona == "empty":
        return [system]
    text, reply = _templates().loc[template, ["text", "reply"]]
    if not reply:
        return [system]
    if hint is None:
        known = _identities().set_index("persona")["hint"]
        hint = " ".join(known.get(part, "") for part in persona.split("+"))
    if not hint.strip() and persona != "assistant":
        reason = f"template {template!r} needs one"
        raise UserError(f"no hint at the identity {persona!r} beside its phrase: {reason}")
    earlier = prompts.fill(text, hint=hint).strip()
    return [system, ("user", earlier), ("assistant", reply)]


def system_prompt(persona: str, *, template: str = "paper", phrase: str | None = None) -> str:
    """The system prompt of ``persona``: "" of "none" and "empty", no identity if said elsewhere."""
    if persona in ("none", "empty"):
        return ""
    if asks_first(template) or persona == "assistant" or _templates().loc[template, "reply"]:
        return prompts.template("assistant").strip()
    return prompts.fill(templates()[template], phrase=_phrase(persona, phrase))


def asks_first(template: str) -> bool:
    """Whether this phrasing puts the question before the identity."""
    one_of(templates().index, "unknown template", template)
    return "{question}" in templates()[template]


def _phrase(persona: str, given: str | None) -> str:
    return select(persona, controls=False)["phrase"].iloc[0] if given is None else given
