"""Identities, their categories, the two controls, and how a chat states an identity.

The 31 identities in 7 categories and the default persona line are those of
arXiv 2406.11107 (``data/identities.csv``, ``data/templates.csv``). The controls are stated
explicitly because the released code asked its control as "I am no_persona" (T1).
"""

import functools

import pandas as pd

from personagap.errors import UserError
from personagap.paths import DATA

#: Persona names of the two controls: no system prompt at all, and one without an identity.
CONTROLS = ("none", "assistant")
ASSISTANT_PROMPT = "You are a helpful assistant."


@functools.cache
def _identities() -> pd.DataFrame:
    return pd.read_csv(DATA / "identities.csv")


@functools.cache
def templates() -> pd.Series:
    """Phrasings that state an identity, indexed by template name; each holds ``{phrase}``."""
    table = pd.read_csv(DATA / "templates.csv")
    return table.set_index("template")["text"]


def select(names: str | list[str] = "all", *, controls: bool = True) -> pd.DataFrame:
    """Choose identities by name or by category.

    Parameters
    ----------
    names : "all", one name, or a list of persona names and category names.
    controls : also include the two controls ("none": no system prompt, "assistant": a system
        prompt without an identity).

    Returns
    -------
    DataFrame with one row per persona: ``persona category phrase``. Controls come first, in
    category "control", with an empty phrase.

    Examples
    --------
    >>> select("religion", controls=False)["persona"].tolist()
    ['jewish', 'christian', 'atheist', 'muslim', 'hindu']
    """
    table = _identities()
    wanted = [names] if isinstance(names, str) else list(names)
    if wanted == ["all"]:
        chosen = table
    else:
        known = {*table["persona"], *table["category"], *CONTROLS}
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise UserError(
                f"unknown persona {unknown[0]!r}: choose from the categories "
                f"{', '.join(table['category'].unique())}, or the personas {', '.join(table['persona'])}"
            )
        chosen = table[table["persona"].isin(wanted) | table["category"].isin(wanted)]
    named = [name for name in CONTROLS if controls or name in wanted]
    control_rows = pd.DataFrame({"persona": named, "category": "control", "phrase": ""}, dtype="str")
    return pd.concat([control_rows, chosen], ignore_index=True)


def chat(persona: str, prompt: str, *, template: str = "paper", phrase: str | None = None) -> list[dict[str, str]]:
    """The messages that put ``prompt`` to a model on behalf of ``persona``.

    The identity goes into the system message; a model whose chat template has no system role
    gets it at the head of the user turn (``models`` sees to that).

    Examples
    --------
    >>> chat("muslim", "Hello")[0]["content"]
    'You are a helpful assistant. I am a Muslim person.'
    >>> chat("none", "Hello")
    [{'role': 'user', 'content': 'Hello'}]
    """
    user = {"role": "user", "content": prompt}
    if persona == "none":
        return [user]
    return [{"role": "system", "content": system_prompt(persona, template=template, phrase=phrase)}, user]


def system_prompt(persona: str, *, template: str = "paper", phrase: str | None = None) -> str:
    """The system prompt that states ``persona`` ("" for the control "none")."""
    if persona == "none":
        return ""
    if persona == "assistant":
        return ASSISTANT_PROMPT
    if template not in templates().index:
        raise UserError(f"unknown template {template!r}: choose from {', '.join(templates().index)}")
    if phrase is None:
        phrase = select(persona, controls=False)["phrase"].iloc[0]
    return templates()[template].format(phrase=phrase)
