"""Types of a notebook's parameters: the annotations in its parameters cell.

``runs: AtLeast1 = 3`` accepts a whole number of at least 1. The types below can be combined with
``str``, ``int``, ``float``, ``bool``, ``list[...]``, ``dict[str, ...]`` and ``Optional[...]``. A
list of bounded numbers must not be empty; neither such a list nor a list of texts may repeat a
value. A parameter without an annotation accepts values of its default's type.

``papermill --help-notebook`` shows annotations that consist of names, brackets and commas, but
omits a parameter whose annotation has a "|" or a quote. Hence each type has a name, and
``Optional`` is used.

The types also tell paths from other texts. A relative ``Folder``, ``Data`` or ``Model`` depends on
the current folder, and a run is repeated when the files there have changed; a ``str`` is never a
path, even if a file of that name exists.
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
    """The smallest value that a number may have."""

    low: int


@dataclass(frozen=True)
class _PathPattern:
    """A text that is a path behind one of the ``prefixes``, unless it is one of the ``keywords``.

    Both are regular expressions.
    """

    keywords: str = ""
    prefixes: str = ""

    def path(self, text: str) -> str:
        """Return the path in ``text``, "" for a keyword."""
        return "" if re.fullmatch(self.keywords, text) else re.sub(f"^({self.prefixes})", "", text)


AtLeast0 = Annotated[int, _Bound(0)]
AtLeast1 = Annotated[int, _Bound(1)]
AtLeast2 = Annotated[int, _Bound(2)]
AtLeast3 = Annotated[int, _Bound(3)]
#: Resamples: the ends of a 95 % interval are the smallest and the largest of 20.
AtLeast20 = Annotated[int, _Bound(20)]
NotNegative = Annotated[float, _Bound(0)]
#: A name or a list of names, such as "all" or ["mmlu", "gsm8k"].
Names = str | list[str]
Folder = Annotated[str | os.PathLike, _PathPattern()]
#: The argument of ``datasets.load``: "demo", "hub" or a folder (for preference pairs, a file).
Data = Annotated[str | os.PathLike, _PathPattern("demo|hub")]
#: The argument of ``models.load_model``, an embedding, or a notebook's simulated model.
Model = Annotated[str, _PathPattern("demo(:.*)?|smollm2|random|simulated", "hf:|gguf:")]
_ANY_PREFIX = "(llm:)?(hf:|gguf:)?"
#: The argument of ``judges.load_judge``.
Judge = Annotated[str, _PathPattern("refusal|phrases|llm:(demo(:.*)?|smollm2)", _ANY_PREFIX)]
# A text without a declared type may be a path, with or without a prefix.
_Text = Annotated[str, _PathPattern(prefixes=_ANY_PREFIX)]

_TYPES: dict[str, Any] = {
    **{kind.__name__: kind for kind in (bool, int, float, str, list, dict)},
    **{name: globals()[name] for name in __all__ if name != "check"},
    **{"Any": Any, "Optional": Optional},
}
_NOUNS = {int: "whole number", float: "number", str: "text", bool: "Boolean", dict: "dictionary"}


def check(namespace: dict[str, Any]) -> None:
    """Raise `UserError` if a value is not of the type that its annotation declares.

    A notebook calls ``check(globals())`` before it loads anything, so that a wrong value is
    reported at once, whether it was typed into the parameters cell or injected by papermill.

    Examples
    --------
    >>> check({"__annotations__": {"runs": AtLeast1}, "runs": 0})
    Traceback (most recent call last):
    personagap.errors.UserError: runs is 0: give a whole number of at least 1
    """
    annotations = namespace.get("__annotations__")
    if annotations is None and "__annotate__" in namespace:
        # Python 3.14 evaluates annotations on demand (PEP 749).
        annotations = namespace["__annotate__"](1)
    for name, kind in (annotations or {}).items():
        if name in namespace and not _accepts(kind, value := namespace[name]):
            raise UserError(f"{name} is {value!r}: give {_requirement(value, kind)}")


def names_models(kind: Any) -> bool:
    """Return whether values of a type name models, to which requests are sent."""
    return kind in (Model, Judge) or any(map(names_models, get_args(kind)))


def _accepts(kind: Any, value: Any) -> bool:
    # For a list of names a single name is accepted too, as many functions do.
    return matches(value, kind) or (isinstance(value, str) and matches([value], kind))


def declared(annotation: ast.expr | None, default: Any) -> Any:
    """Return the type of a parameter: from its annotation, or from its default if the annotation
    is missing or not of this module.
    """
    try:
        return _infer_type(default) if annotation is None else _parse_annotation(annotation)
    except (KeyError, TypeError):
        return _infer_type(default)


def _parse_annotation(annotation: ast.expr) -> Any:
    match annotation:
        case ast.Constant(value=None):
            return None
        case ast.Name(name):
            return _TYPES[name]
        case ast.BinOp(left, ast.BitOr(), right):
            return _parse_annotation(left) | _parse_annotation(right)
        case ast.Subscript(ast.Name(name), ast.Tuple(parts)):
            return _TYPES[name][tuple(map(_parse_annotation, parts))]
        case ast.Subscript(ast.Name(name), part):
            return _TYPES[name][_parse_annotation(part)]
    raise KeyError(ast.unparse(annotation))


def _infer_type(default: Any) -> Any:
    """Infer a type from a default: anything from None; None or another path from a text."""
    if default is None:
        return Any
    if isinstance(default, str):
        # The default "all" always stands for a list of names.
        if default == "all":
            return Names
        return Annotated[str, _PathPattern(re.escape(default), _ANY_PREFIX)] | None
    if not isinstance(default, (list, tuple)):
        return type(default)
    types = dict.fromkeys(map(_infer_element_type, default))
    return GenericAlias(list, (reduce(or_, types),)) if types else list


def _infer_element_type(element: Any) -> Any:
    return float if _is_number(element) else _Text if isinstance(element, str) else type(element)


def _is_number(value: Any) -> bool:
    # Python takes True for a number, so it would be accepted as one run.
    return isinstance(value, Real) and not isinstance(value, bool)


def matches(value: Any, kind: Any) -> bool:
    """Return whether ``value`` is of the type ``kind``."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        low = getattr(parts[1], "low", None)
        return matches(value, parts[0]) and (low is None or value >= low)
    if origin in (Union, UnionType):
        return any(matches(value, part) for part in parts)
    if list in (kind, origin):
        bounded = any(isinstance(bound, _Bound) for part in parts for bound in get_args(part))
        if not isinstance(value, (list, tuple)) or (bounded and not value):
            return False
        # A repeated design, judge or task would duplicate a row of each table.
        unique = bounded or all(isinstance(element, str) for element in value)
        return _all_match(value, parts) and not (unique and _has_duplicates(value))
    if dict in (kind, origin):
        return isinstance(value, dict) and _all_match(value.values(), parts[1:])
    if kind in (int, float):
        return _is_number(value) and (kind is float or isinstance(value, Integral))
    if kind in (None, NoneType):
        return value is None
    if kind is Any or not isinstance(kind, type):
        # Annotations that this module does not know are not checked.
        return True
    return isinstance(value, kind)


def _all_match(values: Iterable[Any], kinds: Sequence[Any]) -> bool:
    return all(matches(value, kind) for value in values for kind in kinds)


def _has_duplicates(value: Sequence[Any]) -> bool:
    return len(set(map(str, value))) < len(value)


def _requirement(value: Any, kind: Any) -> str:
    """Describe what to give in place of ``value``, which is not of the type ``kind``."""
    duplicates = isinstance(value, (list, tuple)) and _has_duplicates(value)
    return describe(kind) + (", each once" if duplicates else "")


def coerce(value: Any, kind: Any) -> Any:
    """Return ``value``, or a list of it if ``kind`` requires a list.

    Raises
    ------
    ValueError : ``value`` is not of the type; the message says what is required.
    """
    if matches(value, kind):
        return value
    single = not isinstance(value, (list, tuple, dict, bool, NoneType))
    if single and matches([value], kind):
        return [value]
    raise ValueError(_requirement(value, kind))


def describe(kind: Any, plural: bool = False) -> str:
    """Describe the values of a type in words.

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
    """Yield each text in ``value`` that may be a path according to ``kind``, with that path."""
    if pattern := _path_pattern(kind):
        for text in _texts(value):
            if path := pattern.path(text):
                yield text, path


def _path_pattern(kind: Any) -> _PathPattern | None:
    """Return the first path pattern in a type, None if there is none."""
    if isinstance(kind, _PathPattern):
        return kind
    if kind in (Any, list, dict):
        # The type of the elements is unknown, so any text may be a path.
        return _path_pattern(_Text)
    return next(filter(None, map(_path_pattern, get_args(kind))), None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, (str, os.PathLike)):
        yield str(value)
    elif isinstance(value, (list, tuple, dict)):
        for element in value.values() if isinstance(value, dict) else value:
            yield from _texts(element)
