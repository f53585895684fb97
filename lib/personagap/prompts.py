"""The prompts of ``data/prompts/*.txt``.

The wording is ours. Users can replace it by that of the papers' authors, or by their own in any
language.
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from personagap._reading import check, read_csv, read_text, refuse
from personagap.errors import UserError, explained
from personagap.paths import DATA

_FIELD = re.compile(r"\{(\w+)\}")
#: Files that override the project's prompts, by name.
_overrides: dict[str, Path] = {}
_caches: list[Any] = []


def cached(function: Callable) -> Any:
    """Cache a function's results until the next call of `use`; files may have been edited since."""
    _caches.append(functools.cache(function))
    return _caches[-1]


_read = cached(read_text)


def use(folder: str | Path | None = None) -> None:
    """Use the prompts of ``folder`` instead of the project's from now on; None restores the latter.

    The folder holds replacements for some of ``data/prompts/*.txt``, each with the name and fields
    of the original, and optionally a ``templates.csv`` like ``data/templates.csv`` with the
    phrasings that state an identity (``assistant.txt`` is the system prompt of the control).
    `UserError`: names the first file that has an unknown name, or lacks or adds a field.
    """
    # Cleared first: if the new folder is invalid, the project's prompts apply, not the previous
    # folder's.
    _overrides.clear()
    for cache in _caches:
        cache.cache_clear()
    if folder is None:
        return
    if not isinstance(folder, str | Path):
        raise UserError(f"prompts are {folder!r}: give a folder, or None for the project's")
    with explained(f"prompts {folder}: cannot be read", "give a folder"):
        paths = sorted(Path(folder).glob("*"))
    files = {path.name: path for path in paths if path.suffix in (".txt", ".csv")}
    if not files:
        remedy = "give a folder with some of data/prompts/*.txt in your wording"
        raise UserError(f"no prompts in {folder}: {remedy}")
    known = {file.name for file in (DATA / "prompts").glob("*.txt")} | {"templates.csv"}
    for name, file in files.items():
        # Ignoring a misspelt name would silently ask the project's wording instead.
        if name not in known:
            raise UserError(f"{file}: no prompt of this name: it may be {', '.join(sorted(known))}")
        if name == "templates.csv":
            _check_templates(file)
        else:
            _check_fields(file)
    _overrides.update(files)


def _check_fields(file: Path) -> None:
    """Check that each part of a prompt has the same fields as in the original."""
    original = parts((DATA / "prompts" / file.name).read_text(encoding="utf-8"))
    text = read_text(file)
    replacement = parts(text) if len(original) > 1 else [text]
    if len(replacement) != len(original):
        problem = (
            f"write {len(original)} parts between lines of ---, as data/prompts/{file.name} has"
        )
        raise UserError(f"{file}: {problem}")
    for present, required in zip(map(_fields, replacement), map(_fields, original), strict=True):
        if wrong := present ^ required:
            what = "lacks" if wrong - present else "has"
            remedy = f"write the fields of data/prompts/{file.name}"
            raise UserError(f"{file}: {what} the field {{{min(wrong)}}}: {remedy}")


def parts(text: str) -> list[str]:
    """Split a prompt file into its parts, which are separated by lines of ---."""
    return text.split("---\n")


def _fields(text: str) -> set[str]:
    return set(_FIELD.findall(text))


def _check_templates(file: Path) -> None:
    table = read_csv(file)
    check(table, str(file), ["template", "text", "reply"])
    unnamed = table["template"].str.strip() == ""
    refuse(unnamed, str(file), "no name of the template", "fill it in")
    repeated = table["template"].duplicated()
    refuse(repeated, str(file), "this template stands above already", "keep one of the two")
    for row, text, reply in zip(table.index, table["text"], table["reply"], strict=True):
        # If the assistant replies to it, the text is an earlier user turn, which gives a hint.
        field = "hint" if reply else "phrase"
        n_questions = text.count("{question}")
        if _fields(text) - {"question"} != {field} or n_questions > (0 if reply else 1):
            remedy = f"the text must have the field {{{field}}} and no other: write it in"
            raise UserError(f"{file}, row {row}: {remedy}")


def folder() -> Path | None:
    """Return the folder that prompts are taken from, None for the project's own."""
    return next(iter(_overrides.values())).parent if _overrides else None


def file(name: str) -> Path | None:
    """Return the file that overrides the project's prompt file ``name``, None without one."""
    return _overrides.get(name)


def require_ours(reader: str, *names: str) -> None:
    """Raise `UserError` if a prompt is overridden: simulated models parse our wording only."""
    for name in names:
        if other := file(f"{name}.txt"):
            remedy = "choose another model"
            raise UserError(f"{reader} reads the project's prompts only, not {other}: {remedy}")


def template(name: str) -> str:
    """Return the prompt ``name``, with {fields} to fill."""
    return _read(_overrides.get(f"{name}.txt", DATA / "prompts" / f"{name}.txt"))


def fill(template: str, **fields: str) -> str:
    """Replace the fields of a template by values; all other braces stay, in values as well.

    Examples
    --------
    >>> fill('Answer [{"a": 1}] to {question}', question="What is {b}?")
    'Answer [{"a": 1}] to What is {b}?'
    """
    if unknown := [name for name in _FIELD.findall(template) if name not in fields]:
        prompt = f"the prompt {template[:40]!r} … in data/prompts"
        allowed = f"it may have {{{'}, {'.join(fields)}}}"
        raise UserError(f"{prompt} has the field {{{unknown[0]}}}: {allowed}")
    # In one pass, not by `str.format`: values may contain braces, or text that looks like a field.
    return _FIELD.sub(lambda match: fields[match[1]], template)
