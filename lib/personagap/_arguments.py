"""Errors that name the invalid argument of a call, and the type expected."""

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Number, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, Unpack, get_args, get_origin, get_type_hints, is_typeddict

from personagap.errors import UserError, brief


def tell_slips(package: str) -> None:
    """Make the public functions of a package explain errors due to invalid arguments.

    If a call fails and an argument does not match its annotation, the error is replaced by a
    `UserError` on that argument; other errors are unchanged. Calls that succeed are not checked.
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
    elements = value.values() if isinstance(value, Mapping) else value
    checked = elements if parts and isinstance(value, (Mapping, list, tuple)) else ()
    return all(_matches(element, parts[-1], strict) for element in checked)
