"""The one exception a user's mistake raises: a line that says what, where and how to fix it."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Bad input. The command line prints its message alone; IPython shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def first_line(error: Exception) -> str:
    """What an error says, in a line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Whatever cannot be loaded here is the user's mistake: "what (cause): remedy"."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise UserError(f"{what} ({first_line(error)}): {remedy}") from None
