"""Helpers that all widgets of the explorer share."""

import contextlib
import threading
from collections.abc import Iterator
from html import escape

import ipywidgets as widgets

from personagap.errors import UserError
from personagap.formatting import humanize

#: Protects the shared selection, since JupyterLab handles messages of widgets in several threads
LOCK = threading.RLock()


@contextlib.contextmanager
def show_errors_in(widget: widgets.HTML) -> Iterator[None]:
    """Show the message of a `UserError` as plain text in the widget."""
    try:
        yield
    except UserError as error:
        widget.value = f"<p><em>{escape(str(error))}</em></p>"


def contains_words(text: str, search: str) -> bool:
    """Return whether a text contains all words of a search, in any case."""
    text = humanize(text.lower())
    return all(word in text for word in humanize(search.lower()).split())
