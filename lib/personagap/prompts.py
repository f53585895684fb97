"""Texts of ``data/prompts/*.txt``: our wording, replaceable by the authors' own, or one's own in
any language.
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
#: Files in place of the project's, by name.
_replaced: dict[str, Path] = {}
_caches: list[Any] = []


def kept(function: Callable) -> Any:
    """`functools.cache` until the next call of `use`, as files may have been edited since."""
    _caches.append(functools.cache(function))
    return _caches[-1]


_read = kept(read_text)


def use(folder: str | Path | None = None) -> None:
    """Take the prompts of a folder in place of the project's of the same names, from now on; None:
    the project's.

    The folder holds some of ``data/prompts/*.txt``, each with the fields of the original, and if
    wanted ``templates.csv``, like ``data/templates.csv``: the phrasings that state an identity
    (``assistant.txt`` is the control's). `UserError` tells the first file that has another name, or
    lacks or adds a field.
    """
    # A folder that turns out wrong leaves the project's prompts, not those of the folder before.
    _replaced.clear()
    for cache in _caches:
        cache.cache_clear()
    if folder is None:
        return
    if not isinstance(folder, str | Path):
        raise UserError(f"prompts are {folder!r}: give a folder, or None for the project's")
    with explained(f"prompts {folder}: cannot be read", "give a folder"):
        listed = [
            file for file in sorted(Path(folder).glob("*")) if file.suffix in (".txt", ".csv")
        ]
    files = {file.name: file for file in listed}
    if not files:
        remedy = "give a folder with some of data/prompts/*.txt in your wording"
        raise UserError(f"no prompts in {folder}: {remedy}")
    known = {file.name for file in (DATA / "prompts").glob("*.txt")} | {"templates.csv"}
    for name, file in files.items():
        # A name misspelt would be passed over, and the project's wording asked in its place.
        if name not in known:
            raise UserError(f"{file}: no prompt of this name: it may be {', '.join(sorted(known))}")
        if name == "templates.csv":
            _check_templates(file)
        else:
            _check_fields(file)
    _replaced.update(files)


def _check_fields(file: Path) -> None:
    """The same fields as the original's, in each part of one that consists of several."""
    original = (DATA / "prompts" / file.name).read_text(encoding="utf-8")
    ours, given = parts(original), [read_text(file)]
    given = parts(given[0]) if len(ours) > 1 else given
    if len(given) != len(ours):
        problem = f"write {len(ours)} parts between lines of ---, as data/prompts/{file.name} has"
        raise UserError(f"{file}: {problem}")
    for text, wanted in zip(map(_fields, given), map(_fields, ours), strict=True):
        if wrong := text ^ wanted:
            what = "lacks" if wrong - text else "has"
            remedy = f"write the fields of data/prompts/{file.name}"
            raise UserError(f"{file}: {what} the field {{{min(wrong)}}}: {remedy}")


def parts(text: str) -> list[str]:
    """The parts of a prompt that is put together from several, between lines of ---."""
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
        # With a reply the text is an earlier turn of the user, which says a hint.
        field = "hint" if reply else "phrase"
        asked = text.count("{question}")
        if _fields(text) - {"question"} != {field} or asked > (0 if reply else 1):
            remedy = f"the text must have the field {{{field}}} and no other: write it in"
            raise UserError(f"{file}, row {row}: {remedy}")


def folder() -> Path | None:
    """Where prompts are taken from, None for the project's own."""
    return next(iter(_replaced.values())).parent if _replaced else None


def file(name: str) -> Path | None:
    """The file of that name that stands in place of the project's, if any."""
    return _replaced.get(name)


def require_ours(reader: str, *names: str) -> None:
    """`UserError` if a prompt is not the project's: a simulated model reads no other wording."""
    for name in names:
        if other := file(f"{name}.txt"):
            remedy = "choose another model"
            raise UserError(f"{reader} reads the project's prompts only, not {other}: {remedy}")


def template(name: str) -> str:
    """The file of that name, with {fields} to fill."""
    return _read(_replaced.get(f"{name}.txt", DATA / "prompts" / f"{name}.txt"))


def fill(template: str, **fields: str) -> str:
    """Put values in place of fields; any other brace stays, also those in values.

    Examples
    --------
    >>> fill('Answer [{"a": 1}] to {question}', question="What is {b}?")
    'Answer [{"a": 1}] to What is {b}?'
    """
    if unknown := [name for name in _FIELD.findall(template) if name not in fields]:
        of = f"the prompt {template[:40]!r} … in data/prompts"
        known = f"it may have {{{'}, {'.join(fields)}}}"
        raise UserError(f"{of} has the field {{{unknown[0]}}}: {known}")
    # All at once, not `format`: an item may hold braces of its own, or what looks like a field.
    return _FIELD.sub(lambda match: fields[match[1]], template)
