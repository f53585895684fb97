"""Errors that name the invalid argument of a call, and the type expected."""

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Number, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, Unpack, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
import pandas as pd

from personagap.errors import UserError, brief, first_line, is_internal

#: Columns that hold numbers (or true and false) wherever they occur.
NUMBERS = {
    *("score", "estimate", "ci_low", "ci_high", "n", "debiased_pb2", "pb", "noise_floor"),
    *("valid", "truncated"),
}
#: Larger numbers of items, runs or resamples fit into no memory.
LARGEST = 10**12


def explain_errors_of(package: str) -> None:
    """Make the public functions of a package explain errors due to invalid arguments.

    If a call fails and an argument does not match its annotation, or is a table with values that
    cannot be computed with, the error is replaced by a `UserError` on that argument; other errors
    are unchanged. Calls that succeed are not checked.
    """
    public = vars(sys.modules[package])
    for name, function in list(public.items()):
        if inspect.isfunction(function) and function.__module__.startswith(package):
            public[name] = explain_arguments(function)
            # Pickle looks up functions in the module that defines them.
            setattr(sys.modules[function.__module__], name, public[name])


def explain_arguments(function: Callable) -> Callable:
    """Decorate a function so that its errors name an invalid argument.

    Examples
    --------
    >>> def double(number: float) -> float:
    ...     return 2 * (number + 0)
    >>> explain_arguments(double)("7")
    Traceback (most recent call last):
    personagap.errors.UserError: double: number is '7': give float
    """

    @functools.wraps(function)
    def wrapper(*args, **how):
        try:
            return function(*args, **how)
        except Exception as error:
            problem = _find_error(function, args, how, strict=not isinstance(error, UserError))
            if problem is None and not (isinstance(error, UserError) or is_internal(error)):
                problem = _find_odd_value(error, inspect.signature(function).bind(*args, **how))
            if problem is None:
                raise
        raise UserError(f"{function.__name__}: {problem}")

    return wrapper


def _find_error(function: Callable, args: tuple, how: dict[str, Any], strict: bool) -> str | None:
    """Describe the first invalid argument, or return None if all match their annotations.

    Unless ``strict``, only a string in place of a list is reported: the function has raised a
    `UserError` already, which explains anything else better.
    """
    signature, annotations = inspect.signature(function), get_type_hints(function)
    try:
        arguments = signature.bind(*args, **how).arguments
    except TypeError as error:
        return f"{error}: it takes {', '.join(signature.parameters)}"
    for name, value in arguments.items():
        annotation = annotations.get(name, Any)
        if get_origin(annotation) is Unpack:
            annotation = get_args(annotation)[0]
        if not _matches(value, annotation, strict):
            keys = ", ".join(get_type_hints(annotation)) if is_typeddict(annotation) else ""
            plain = re.sub(r"\w+\.(?=\w)", "", inspect.formatannotation(annotation))
            wanted = f"a dictionary of {keys}" if keys else plain
            return f"{name} is {brief(value)}: give {wanted}"
    return None


def _find_odd_value(error: Exception, bound: inspect.BoundArguments) -> str | None:
    """Describe the first argument that is too large or a table with odd values, and the ``error``
    that it may have caused; None if there is no such argument.
    """
    cause = first_line(error)
    # Columns that are not used may lack values, so these must be what the error speaks of.
    ambiguous = re.search(r"\bnan?\b|NAType|\bNone\b", cause, re.IGNORECASE) is not None
    if isinstance(error, MemoryError):
        return f"out of memory ({cause}): give fewer rows, resamples or runs, or free some memory"
    for name, value in {**bound.arguments, **bound.kwargs}.items():
        if isinstance(value, Integral) and int(value) > LARGEST:
            return f"{name} is {value}: give a smaller number"
        known = isinstance(error, TypeError | ValueError | LookupError | OverflowError)
        if isinstance(value, pd.DataFrame) and known and (problem := _odd_value(value, ambiguous)):
            return f"{name}: {problem} ({cause})"
    return None


def _odd_value(table: pd.DataFrame, report_missing: bool) -> str | None:
    """Describe the first value of a table that statistics may fail on, or None; missing values,
    if they count, come last.
    """
    if twice := [name for name in table.index.names if name in table.columns]:
        return f"{twice[0]!r} is a column and a level of the index: call reset_index(drop=True)"
    if (repeated := table.columns.duplicated()).any():
        return f"two columns {table.columns[repeated][0]!r}: leave one"
    missing = None
    for column, values in table.items():
        if values.dtype.kind in "biuf":
            continue
        if column in NUMBERS and isinstance(values.dtype, pd.CategoricalDtype):
            return f"column {column!r} is categorical: convert it to numbers"
        kind = functools.partial(_kind, must_be_number=column in NUMBERS)
        kinds = [kind(value) for value in values]
        if odd := sorted({*kinds} - {"missing", "text", "number"}):
            row = kinds.index(odd[0])
            return f"column {column!r}, row {row}: {odd[0]}: correct it"
        if report_missing and missing is None and "missing" in kinds:
            missing = f"column {column!r}, row {kinds.index('missing')}: missing: fill it in"
    return missing


def _kind(value: Any, must_be_number: bool) -> str:
    """Return "text", "number", "missing", or what the value is if it is none of them."""
    if not pd.api.types.is_scalar(value):
        return f"a {type(value).__name__}, not one value"
    if pd.isna(value):
        return "missing"
    if isinstance(value, Real | np.bool_):
        # Python's integers may exceed all floats.
        huge = isinstance(value, int) and value.bit_length() > np.finfo(float).maxexp
        return "a number beyond all floats" if huge else "number"
    if isinstance(value, str):
        return f"the text {value[:40]!r}, not a number" if must_be_number else "text"
    return f"a {type(value).__name__}"


def _matches(value: Any, annotation: Any, strict: bool) -> bool:
    """Whether a value matches a type annotation; True if that cannot be checked at run time."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(_matches(value, part, strict) for part in parts)
    if origin is Literal:
        return not strict or value in parts
    fields = get_type_hints(annotation) if is_typeddict(annotation) else {}
    if fields and isinstance(value, Mapping):
        valid = annotation.__required_keys__ <= set(value) <= set(fields)
        return not strict or (valid and all(_matches(value[k], fields[k], True) for k in value))
    # Names may be numbers, and NumPy's numbers are not instances of Python's types.
    types: dict[Any, Any] = {str: (str, Number), float: Real, int: Integral, Any: object}
    expected = Mapping if fields else types.get(annotation, origin or annotation)
    try:
        if isinstance(value, str) and issubclass(expected, Iterable):
            return False
        if not isinstance(value, expected):
            return not strict and expected is not NoneType
    except TypeError:
        return True
    if expected is tuple and Ellipsis not in parts and len(value) != len(parts):
        return False
    elements = value.values() if isinstance(value, Mapping) else value
    checked = elements if parts and isinstance(value, (Mapping, list, tuple)) else ()
    return all(_matches(element, parts[-1], strict) for element in checked)
