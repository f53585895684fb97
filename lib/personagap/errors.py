"""The exception for mistakes in the input, with one line on what is wrong, where, and the remedy.

The other functions check arguments and raise it.
"""

import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from types import ModuleType
from typing import Any

from personagap.redaction import sanitize

#: Largest length of a message, and of a word in it (such as a number of thousands of digits), in
#: characters.
MAX_LENGTH, MAX_WORD_LENGTH = 2000, 160


class UserError(Exception):
    """Invalid input. The command line prints the message; IPython shows it without a traceback."""

    def __init__(self, message: object = ""):
        # In one line, also where a value is shown that takes several, such as a table.
        text = re.sub(r"\s*\n\s*", " ", sanitize(message).strip())
        text = re.sub(rf"[^\s/]{{{MAX_WORD_LENGTH + 1},}}", _shortened, text)
        # The value may be pages long; the problem at the start and the remedy at the end are kept.
        if len(text) > MAX_LENGTH:
            text = f"{text[: MAX_LENGTH // 2]} … {text[-MAX_LENGTH // 2 :]}"
        super().__init__(text)

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def _shortened(word: re.Match) -> str:
    return f"{word[0][: MAX_WORD_LENGTH // 2]}…{word[0][-MAX_WORD_LENGTH // 2 :]}"


class Unanswered(UserError):
    """Too many requests remained without an answer to continue.

    The answers received are kept, and a later run sends the other requests again.
    """


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Turn errors of the block into a `UserError` "what (cause): remedy".

    Faults in the code of this package are raised unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # libraries raise errors of any type for a damaged file
        if is_internal(error):
            raise
        # Torch raises an OutOfMemoryError of its own for GPUs.
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            remedy = "free some memory"
        raise UserError(f"{what} ({first_line(error)}): {remedy}") from None


def is_internal(error: Exception) -> bool:
    """Whether an error reveals a fault in the package, such as an undefined name, and not in input.

    It must be raised in the package, by an undefined name, a failed assertion or a missing
    attribute of a module or object of the package.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if not frame.f_globals.get("__name__", "").startswith("personagap."):
        return False
    # An object that lacks an attribute may also be a value from the input.
    owner = getattr(error, "obj", None)
    internal = isinstance(owner, ModuleType) or type(owner).__module__.startswith("personagap.")
    return isinstance(error, NameError | AssertionError) or (
        isinstance(error, AttributeError) and internal
    )


def require_one_of(known: Iterable[str], what: str, value: object) -> None:
    """Raise `UserError` ("unknown protocol 'x': choose from …") unless ``value`` is ``known``."""
    if value not in (names := list(known)):
        raise UserError(f"{what} {brief(value)}: choose from {', '.join(map(str, names))}")


def expect(good: object, wanted: str, **given: object) -> None:
    """Raise `UserError` with an argument's name, value and what is ``wanted``, unless ``good``.

    Examples
    --------
    >>> expect(False, "a file or folder", place=3)
    Traceback (most recent call last):
    personagap.errors.UserError: place is 3: give a file or folder
    """
    for name, value in given.items() if not good else ():
        raise UserError(f"{name} is {brief(value)}: give {wanted}")


def brief(value: object) -> str:
    """Return the value as text, or its type if the text could fill pages, as that of a table."""
    plain = value is None or isinstance(value, (str, Real, list, tuple, set, dict))
    return repr(value) if plain else f"a {type(value).__name__}"


def alike(column: object, table: Iterable[object]) -> str:
    """Return ", but 'x'" for a name in ``table`` that differs from ``column`` in its writing only.

    Examples
    --------
    >>> alike("prompt_id", ["user", " Prompt ID"])
    ", but ' Prompt ID'"
    """
    names = [name for name in table if _plain(name) == _plain(column)]
    return f", but {names[0]!r}" if names else ""


def _plain(name: object) -> str:
    return re.sub(r"[\W_]", "", str(name)).lower()


def require_fraction(**given: object) -> None:
    """Raise `UserError` unless parameters such as a level lie between 0 and 1.

    Examples
    --------
    >>> require_fraction(level=95)
    Traceback (most recent call last):
    personagap.errors.UserError: level is 95: give a number between 0 and 1, as 0.95
    """
    number: Any = Real
    for name, value in given.items():
        if not (isinstance(value, number) and 0 < value < 1):
            example = 0.05 if name == "alpha" else 0.95
            raise UserError(
                f"{name} is {brief(value)}: give a number between 0 and 1, as {example}"
            )


def require_at_least(
    low: float, *, each: bool = False, whole: bool = True, **given: object
) -> None:
    """Raise `UserError` unless parameters are (``whole``) numbers of at least ``low``.

    With ``each`` they must be non-empty lists of such numbers.

    Examples
    --------
    >>> require_at_least(1, users=400)
    >>> require_at_least(1, users=0)
    Traceback (most recent call last):
    personagap.errors.UserError: users is 0: give a whole number of at least 1
    """
    kind: Any = Integral if whole else Real
    name_of_kind = "a whole number" if whole else "a number"
    for name, value in given.items():
        values = value if each else [value]
        # A bool is an int in Python, but True is no number of items.
        if not (isinstance(values, (list, tuple)) and values) or not all(
            isinstance(x, kind) and type(x) is not bool and x >= low for x in values
        ):
            wanted = f"a list of {name_of_kind.removeprefix('a ')}s" if each else name_of_kind
            raise UserError(f"{name} is {brief(value)}: give {wanted} of at least {low}")
