"""The one exception a user's mistake raises: a line that says what, where and how to fix it."""

import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from types import ModuleType
from typing import Any

from personagap.leaving import leaving

#: Characters of a line that says what is wrong, and of one word in it, such as a number of
#: thousands of digits.
LONGEST, LONGEST_WORD = 2000, 160


class UserError(Exception):
    """Bad input. The command line prints its message; IPython shows it without a traceback."""

    def __init__(self, message: object = ""):
        text = re.sub(rf"[^\s/]{{{LONGEST_WORD + 1},}}", _middle_left_out, leaving(message))
        # A list of lists, a text of pages: what is wrong and the remedy stay.
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
        super().__init__(text)

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def _middle_left_out(word: re.Match) -> str:
    return f"{word[0][: LONGEST_WORD // 2]}…{word[0][-LONGEST_WORD // 2 :]}"


class Unanswered(UserError):
    """Too many requests got no answer to go on with; those that did are kept, and a later run asks
    the others.
    """


def first_line(error: Exception) -> str:
    """What an error says, in a line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Whatever cannot be loaded here is the user's mistake, "what (cause): remedy"; a fault of our
    code stays one.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of a damaged file the libraries raise errors of every kind
        if _is_ours(error):
            raise
        # Torch's, of a GPU.
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            remedy = "free some memory"
        raise UserError(f"{what} ({first_line(error)}): {remedy}") from None


def _is_ours(error: Exception) -> bool:
    """Whether it tells of a fault in our own code, which no input has: a name that nothing has, a
    failed assert.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if not frame.f_globals.get("__name__", "").startswith("personagap."):
        return False
    # What lacks an attribute: a value may have come with the input.
    named = getattr(error, "obj", None)
    of_code = isinstance(named, ModuleType) or type(named).__module__.startswith("personagap.")
    return isinstance(error, NameError | AssertionError) or (
        isinstance(error, AttributeError) and of_code
    )


def one_of(known: Iterable[str], what: str, value: object) -> None:
    """A name must be among those known, else `UserError`: "unknown protocol 'x': choose from …"."""
    if value not in (names := list(known)):
        raise UserError(f"{what} {value!r}: choose from {', '.join(map(str, names))}")


def expect(good: object, wanted: str, **given: object) -> None:
    """`UserError` with the argument's name, its value and what is ``wanted``, unless ``good``.

    Examples
    --------
    >>> expect(False, "a file or folder", place=3)
    Traceback (most recent call last):
    personagap.errors.UserError: place is 3: give a file or folder
    """
    for name, value in given.items() if not good else ():
        raise UserError(f"{name} is {brief(value)}: give {wanted}")


def brief(value: object) -> str:
    """A value in a line; of a table, which fills pages, what it is."""
    plain = value is None or isinstance(value, (str, Real, list, tuple, set, dict))
    return repr(value) if plain else f"a {type(value).__name__}"


def shares(**given: object) -> None:
    """Parameters such as a level must lie between 0 and 1, else `UserError`.

    Examples
    --------
    >>> shares(level=95)
    Traceback (most recent call last):
    personagap.errors.UserError: level is 95: give a number between 0 and 1, as 0.95
    """
    number: Any = Real
    for name, value in given.items():
        if not (isinstance(value, number) and 0 < value < 1):
            example = 0.05 if name == "alpha" else 0.95
            raise UserError(f"{name} is {value!r}: give a number between 0 and 1, as {example}")


def at_least(low: float, *, each: bool = False, whole: bool = True, **given: object) -> None:
    """Parameters must be (``whole``) numbers of at least ``low``, or with ``each`` lists of such.

    Examples
    --------
    >>> at_least(1, users=400)
    >>> at_least(1, users=0)
    Traceback (most recent call last):
    personagap.errors.UserError: users is 0: give a whole number of at least 1
    """
    kind: Any = Integral if whole else Real
    name_of_kind = "a whole number" if whole else "a number"
    for name, value in given.items():
        # True is an int to Python: refused below by its very type.
        values = value if each and isinstance(value, (list, tuple)) else [] if each else [value]
        if not values or not all(
            isinstance(one, kind) and type(one) is not bool and one >= low for one in values
        ):
            wanted = f"a list of {name_of_kind.removeprefix('a ')}s" if each else name_of_kind
            raise UserError(f"{name} is {value!r}: give {wanted} of at least {low}")
