"""Files of a run: atomic writing, and warnings about damaged files."""

import contextlib
import csv
import errno
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from personagap.errors import UserError, first_line

#: Exceptions that values of a wrong type or structure can cause in code that reads them.
MALFORMED = (LookupError, TypeError, AttributeError, OverflowError, RecursionError, StopIteration)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to ``path`` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since renaming is atomic only within a file system; hidden, so that no
    # listing takes it for a result; and with the process id, so that two processes do not collide.
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        # The error may name no file, or the temporary one, which would not help the user.
        name = str(path) if str(error.filename) in ("None", str(temporary)) else error.filename
        reason = error.strerror or first_line(error)
        raise OSError(error.errno or errno.EIO, reason, name) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file with `atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def warned_if_damaged(path: Path) -> Iterator[None]:
    """Turn the errors of reading a damaged file into a warning that names it, so that the rest of a
    page and the other runs are still shown.
    """
    try:
        yield
    except (OSError, ValueError, SyntaxError, csv.Error, *MALFORMED) as error:
        # Parsers raise ValueError (JSON) and SyntaxError (XML).
        warning = f"{path} is damaged ({first_line(error)}): run its notebook again"
        warnings.warn(warning, stacklevel=4)
    except UserError as error:
        warnings.warn(str(error), stacklevel=4)
