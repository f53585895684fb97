"""Files of a run: written whole or not at all, and told of where they are damaged."""

import contextlib
import csv
import errno
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from personagap.errors import UserError, first_line

#: What values of another kind than they should be make their reader raise.
ODD = (LookupError, TypeError, AttributeError, OverflowError, RecursionError, StopIteration)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it only when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside it, as a file is renamed in one step only within a file system; hidden, so that no
    # listing takes it for a result; and by process, so that two do not write into one.
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        # The error may name no file, or the temporary one, which tells a user nothing.
        place = str(path) if str(error.filename) in ("None", str(temporary)) else error.filename
        why = error.strerror or first_line(error)
        raise OSError(error.errno or errno.EIO, why, place) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A file of text, by `atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def warned_if_damaged(path: Path) -> Iterator[None]:
    """A damaged file costs what it holds, and a warning that names it, not the page or the other
    runs.
    """
    try:
        yield
    except (OSError, ValueError, SyntaxError, csv.Error, *ODD) as error:
        # The second and third, of parsers.
        told = f"{path} is damaged ({first_line(error)}): run its notebook again"
        warnings.warn(told, stacklevel=4)
    except UserError as error:
        warnings.warn(str(error), stacklevel=4)
