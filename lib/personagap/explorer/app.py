"""`explore`: all finished runs in linked views; `live`: the tables of one run; `form`: a new run.

Each function imports its own widgets, because their libraries take time to load.
"""

import importlib
import os
import threading
from html import escape
from pathlib import Path

import ipywidgets as widgets
import pandas as pd

from personagap.errors import UserError
from personagap.paths import FIGURES
from personagap.results import interval_columns
from personagap.runs import Run, tables


def explore(figures: str | os.PathLike | None = None) -> widgets.Widget:
    """Return widgets that show all finished runs under ``figures`` (default: the project's)."""
    from personagap.explorer import results

    if figures and not Path(figures).is_dir():
        raise UserError(f"no folder {figures}: give the one that runs went to")
    catalog = results.catalog(Path(figures or FIGURES).resolve())
    if not catalog:
        place = escape(str(figures or FIGURES))
        return widgets.HTML(
            f"<p><em>No finished runs under {place}: <code>make report</code> makes some.</em></p>"
        )
    from personagap.explorer.board import Explorer

    explorer = Explorer(catalog)
    # Statistics load in the background, so that the first view need not wait for them.
    threading.Thread(
        target=importlib.import_module, args=["personagap.effects.contrasts"], daemon=True
    ).start()
    return explorer


def form(figures: str | os.PathLike | None = None) -> widgets.Widget:
    """Return a form for a notebook's parameters that shows the command for the run and its cost.

    ``figures`` is the folder under which the run would be saved (default: the project's).
    """
    from personagap.explorer.parameters import Form

    return Form(Path(figures or FIGURES).resolve())


def live(what: Run | Path | str | pd.DataFrame, table: str | None = None) -> widgets.Widget:
    """Return widgets that show a run's tables, or a single table; in a report, their first picture.

    ``what`` is a run that has saved its tables (``runs.open_run``), its folder, or a result table;
    ``table`` is the name of the table to show first (default: the first one with intervals).
    `UserError` if there is no table of that name, or none with numbers.
    """
    from personagap.explorer.panel import Live

    if isinstance(what, pd.DataFrame):
        named = {"table": what.reset_index(drop=True)}
    else:
        named = tables.read(Path(what.folder if isinstance(what, Run) else what))
    intervals = {name: interval_columns(rows) for name, rows in named.items()}
    values = {name: intervals[name] or named[name].select_dtypes("number") for name in named}
    choices = [(name, value) for name in named for value in values[name]]
    # The requested table comes first, then those with intervals, which gain most from a picture.
    choices.sort(key=lambda choice: (choice[0] != table, not intervals[choice[0]]))
    if not choices or table not in (None, choices[0][0]):
        known = ", ".join(named) or "none"
        raise UserError(f"no table {table or 'with numbers'} to show; there are: {known}")
    return Live(named, choices)
