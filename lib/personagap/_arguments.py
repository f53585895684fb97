"""What is wrong with the arguments of a call by hand, told by name and kind."""

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
    """Let the public functions of a package, where one fails, tell of a slip in its arguments.

    An argument that is not of the kind of its annotation is a `UserError` in place of whatever it
    led to; of others the error stays what it was. A call that succeeds is not looked at.
    """
    public = vars(sys.modules[package])
    for name, function in list(public.items()):
        if inspect.isfunction(function) and function.__module__.startswith(package):
            public[name] = telling_slips(function)
            # What is pickled is looked for where it is defined.
            setattr(sys.modules[function.__module__], name, public[name])


def telling_slips(function: Callable) -> Callable:
    """The function, which tells of a slip in its arguments.

    Examples
    --------
    >>> def double(number: float) -> float:
    ...     return 2 * (number + 0)
    >>> telling_slips(double)("7")
    Traceback (most recent call last):
    personagap.errors.UserError: double: number is '7': give float
    """

    @functools.wraps(function)
    def called(*args, **how):
        try:
            return function(*args, **how)
        except Exception as error:
            slip = _slip(function, args, how, isinstance(error, UserError))
            if slip is None:
                raise
        raise UserError(f"{function.__name__}: {slip}")

    return called


def _slip(function: Callable, args: tuple, how: dict[str, Any], was_told: bool) -> str | None:
    """What is wrong with the arguments, if anything; what ``was_told`` is told better only where a
    text stands for a list.
    """
    signature, kinds = inspect.signature(function), get_type_hints(function)
    try:
        given = signature.bind(*args, **how).arguments
    except TypeError as wrong:
        return f"{wrong}: it takes {', '.join(signature.parameters)}"
    for name, value in given.items():
        kind = kinds.get(name, Any)
        kind = get_args(kind)[0] if get_origin(kind) is Unpack else kind
        if not _fits(value, kind, was_told):
            keys = ", ".join(get_type_hints(kind)) if is_typeddict(kind) else ""
            plain = re.sub(r"\w+\.(?=\w)", "", inspect.formatannotation(kind))
            wanted = f"a dictionary of {keys}" if keys else plain
            return f"{name} is {brief(value)}: give {wanted}"
    return None


def _fits(value: Any, kind: Any, lists_only: bool) -> bool:
    """Whether a value is of the kind of an annotation; true of one that cannot be looked up."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, part, lists_only) for part in parts)
    if origin is Literal:
        return lists_only or value in parts
    fields = get_type_hints(kind) if is_typeddict(kind) else {}
    if fields and isinstance(value, Mapping):
        same = kind.__required_keys__ <= set(value) <= set(fields)
        return lists_only or (same and all(_fits(value[key], fields[key], False) for key in value))
    # A name may be a number, and NumPy's numbers are none of Python's.
    kinds = {str: (str, Number), float: Real, int: Integral, Any: object}
    kind = Mapping if fields else kinds.get(kind, origin or kind)
    try:
        if isinstance(value, str) and issubclass(kind, Iterable):
            return False
        if not isinstance(value, kind):
            return lists_only and kind is not NoneType
    except TypeError:
        return True
    within = value.values() if isinstance(value, Mapping) else value
    looked_at = within if parts and isinstance(value, (Mapping, list, tuple)) else ()
    return all(_fits(each, parts[-1], lists_only) for each in looked_at)
