"""What a notebook's parameters may be: the annotations in its parameters cell.

``runs: AtLeast1 = 3`` takes a whole number of at least 1. The kinds below go with ``str``, ``int``,
``float``, ``bool``, ``list[...]``, ``dict[str, ...]`` and ``Optional[...]``. A list of numbers with
a bound holds one at least; that and a list of texts hold none twice. A parameter without an
annotation takes what is of its default's type.

``papermill --help-notebook`` shows the annotations, as long as they consist of names, brackets and
commas; a parameter with a "|" or a quote in its annotation it does not show at all. Hence a name
for each kind, and ``Optional``.

A kind also tells words from places. A relative ``Folder``, ``Data`` or ``Model`` is another one in
another folder, and a run is repeated when the files there have changed; a ``str`` is a word, though
a file of that name may exist.
"""

import ast
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from numbers import Integral, Real
from operator import or_
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Optional, Union, get_args, get_origin

from personagap.errors import UserError

__all__ = [
    *("AtLeast0", "AtLeast1", "AtLeast2", "AtLeast3", "AtLeast20", "NotNegative", "Names"),
    *("Folder", "Data", "Model", "Judge", "check"),
]


@dataclass(frozen=True)
class _Bound:
    """The least that a number may be."""

    low: int


@dataclass(frozen=True)
class _Place:
    """A text that names a file or folder after one of ``heads``, unless it is one of ``words``."""

    words: str = ""
    heads: str = ""

    def path(self, text: str) -> str:
        """The path that ``text`` would be, "" for a word."""
        return "" if re.fullmatch(self.words, text) else re.sub(f"^({self.heads})", "", text)


AtLeast0 = Annotated[int, _Bound(0)]
AtLeast1 = Annotated[int, _Bound(1)]
AtLeast2 = Annotated[int, _Bound(2)]
AtLeast3 = Annotated[int, _Bound(3)]
#: Resamples: the ends of a 95 % interval are the least and the largest of 20.
AtLeast20 = Annotated[int, _Bound(20)]
NotNegative = Annotated[float, _Bound(0)]
#: A name or a list of names, such as "all" or ["mmlu", "gsm8k"].
Names = str | list[str]
Folder = Annotated[str | os.PathLike, _Place()]
#: Of ``datasets``: a word, or a folder (for preference pairs, a file).
Data = Annotated[str | os.PathLike, _Place("demo|hub")]
#: Of ``models.load_model`` or an embedding, or a notebook's own stand-in for a model.
Model = Annotated[str, _Place("demo(:.*)?|smollm2|random|simulated", "hf:|gguf:")]
_ANY_HEAD = "(llm:)?(hf:|gguf:)?"
#: Of ``judges.load_judge``.
Judge = Annotated[str, _Place("refusal|phrases|llm:(demo(:.*)?|smollm2)", _ANY_HEAD)]
# What a text may be where nothing is declared.
_Text = Annotated[str, _Place(heads=_ANY_HEAD)]

_KNOWN: dict[str, Any] = {
    **{kind.__name__: kind for kind in (bool, int, float, str, list, dict)},
    **{name: globals()[name] for name in __all__ if name != "check"},
    **{"Any": Any, "Optional": Optional},
}
_NOUNS = {int: "whole number", float: "number", str: "text", bool: "Boolean", dict: "dictionary"}


def check(namespace: dict[str, Any]) -> None:
    """Refuse a value that is not of the kind its annotation declares.

    A notebook calls ``check(globals())`` before it loads anything, so that a wrong value is told at
    once, whether it was typed into the parameters cell or injected by papermill.

    Examples
    --------
    >>> check({"__annotations__": {"runs": AtLeast1}, "runs": 0})
    Traceback (most recent call last):
    personagap.errors.UserError: runs is 0: give a whole number of at least 1
    """
    annotations = namespace.get("__annotations__")
    if annotations is None and "__annotate__" in namespace:
        # Python 3.14 evaluates them on demand (PEP 749).
        annotations = namespace["__annotate__"](1)
    for name, kind in (annotations or {}).items():
        if name in namespace and not _usable(value := namespace[name], kind):
            raise UserError(f"{name} is {value!r}: give {_wanted(value, kind)}")


def names_models(kind: Any) -> bool:
    """Whether values of this kind name models, which are asked and whose answers are stored."""
    return kind in (Model, Judge) or any(map(names_models, get_args(kind)))


def _usable(value: Any, kind: Any) -> bool:
    """Of the kind, or a name where many functions take a list of names or one."""
    return matches(value, kind) or (isinstance(value, str) and matches([value], kind))


def declared(annotation: ast.expr | None, default: Any) -> Any:
    """The kind of a parameter, from its annotation, or if that is none of ours from its default."""
    try:
        return _inferred(default) if annotation is None else _read(annotation)
    except (KeyError, TypeError):
        return _inferred(default)


def _read(annotation: ast.expr) -> Any:
    match annotation:
        case ast.Constant(value=None):
            return None
        case ast.Name(name):
            return _KNOWN[name]
        case ast.BinOp(left, ast.BitOr(), right):
            return _read(left) | _read(right)
        case ast.Subscript(ast.Name(name), ast.Tuple(parts)):
            return _KNOWN[name][tuple(map(_read, parts))]
        case ast.Subscript(ast.Name(name), part):
            return _KNOWN[name][_read(part)]
    raise KeyError(ast.unparse(annotation))


def _inferred(default: Any) -> Any:
    """By its default: None says nothing, and a text may also be None, or another place."""
    if default is None:
        return Any
    if isinstance(default, str):
        # "all" stands for a list of names wherever it is a default.
        if default == "all":
            return Names
        return Annotated[str, _Place(re.escape(default), _ANY_HEAD)] | None
    if not isinstance(default, (list, tuple)):
        return type(default)
    parts = dict.fromkeys(map(_kind_of_part, default))
    return GenericAlias(list, (reduce(or_, parts),)) if parts else list


def _kind_of_part(part: Any) -> Any:
    return float if _number(part) else _Text if isinstance(part, str) else type(part)


def _number(value: Any) -> bool:
    # True is a number to Python, and would pass as one run.
    return isinstance(value, Real) and not isinstance(value, bool)


def matches(value: Any, kind: Any) -> bool:
    """Whether ``value`` is of a kind."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        low = getattr(parts[1], "low", None)
        return matches(value, parts[0]) and (low is None or value >= low)
    if origin in (Union, UnionType):
        return any(matches(value, part) for part in parts)
    if list in (kind, origin):
        bounds = [each for part in parts for each in get_args(part) if isinstance(each, _Bound)]
        if not isinstance(value, (list, tuple)) or (bounds and not value):
            return False
        # Twice the same design, judge or task would be a row of each table twice.
        once = bounds or all(isinstance(part, str) for part in value)
        return _all_match(value, parts) and not (once and _repeats(value))
    if dict in (kind, origin):
        return isinstance(value, dict) and _all_match(value.values(), parts[1:])
    if kind in (int, float):
        return _number(value) and (kind is float or isinstance(value, Integral))
    if kind in (None, NoneType):
        return value is None
    if kind is Any or not isinstance(kind, type):
        # An annotation that is not ours binds nobody.
        return True
    return isinstance(value, kind)


def _all_match(values: Iterable[Any], kinds: Sequence[Any]) -> bool:
    return all(matches(value, kind) for value in values for kind in kinds)


def _repeats(value: Sequence[Any]) -> bool:
    return len(set(map(str, value))) < len(value)


def _wanted(value: Any, kind: Any) -> str:
    """What to give in place of a value that is not of a kind."""
    once = isinstance(value, (list, tuple)) and _repeats(value)
    return describe(kind) + (", each once" if once else "")


def fit(value: Any, kind: Any) -> Any:
    """``value``, or a list of it where a list is due.

    Raises
    ------
    ValueError : it is not of the kind; says what is.
    """
    if matches(value, kind):
        return value
    single = not isinstance(value, (list, tuple, dict, bool, NoneType))
    if single and matches([value], kind):
        return [value]
    raise ValueError(_wanted(value, kind))


def describe(kind: Any, plural: bool = False) -> str:
    """What is of a kind, in words.

    Examples
    --------
    >>> [describe(kind) for kind in (Optional[AtLeast1], list[NotNegative])]
    ['a whole number of at least 1 or None', 'a list of numbers of at least 0']
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        low = getattr(parts[1], "low", None)
        if low is None:
            return describe(str, plural)
        return f"{describe(parts[0], plural)} of at least {low}"
    if origin in (Union, UnionType):
        return " or ".join(describe(part, plural) for part in parts)
    if list in (kind, origin):
        return "a list" + (f" of {describe(parts[0], plural=True)}" if parts else "")
    if origin is dict:
        return f"a dictionary of {describe(parts[1], plural=True)}"
    if kind in (None, NoneType, Any):
        return "anything" if kind is Any else "None"
    noun = _NOUNS.get(kind, getattr(kind, "__name__", str(kind)))
    return f"{noun}s" if plural else f"a {noun}"


def paths(value: Any, kind: Any) -> Iterator[tuple[str, str]]:
    """The texts in ``value`` that are of a kind for places, each with the path that it would be."""
    if place := _place(kind):
        for text in _texts(value):
            if path := place.path(text):
                yield text, path


def _place(kind: Any) -> _Place | None:
    if kind in (Any, list, dict):
        # What is in it is not told, so any text may be a place.
        return _place(_Text)
    found = (part if isinstance(part, _Place) else _place(part) for part in get_args(kind))
    return next(filter(None, found), None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, (str, os.PathLike)):
        yield str(value)
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
