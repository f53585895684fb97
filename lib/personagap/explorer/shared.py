"""What all widgets of the explorer share."""

import contextlib
import threading
from collections.abc import Iterator
from html import escape

import ipywidgets as widgets

from personagap.errors import UserError
from personagap.spelling import words

#: JupyterLab handles the messages of widgets in several threads, while what is chosen is shared.
LOCK = threading.RLock()


@contextlib.contextmanager
def said_in(widget: widgets.HTML) -> Iterator[None]:
    """What is missing is a plain line in the widget."""
    try:
        yield
    except UserError as error:
        widget.value = f"<p><em>{escape(str(error))}</em></p>"


def holds(line: str, search: str) -> bool:
    """Whether a line of a table holds all the words of a search."""
    line = words(line.lower())
    return all(word in line for word in words(search.lower()).split())
