"""`explore`: every finished run, in linked views; `live`: the tables of one; `form`: a run to come.

Each imports what it draws with.
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
from personagap.results import quantities
from personagap.runs import Run, tables


def explore(figures: str | os.PathLike | None = None) -> widgets.Widget:
    """Widgets over all finished runs under ``figures`` (default: the project's)."""
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
    # What computes is at hand when it is asked for, and the first view did not wait for it.
    threading.Thread(
        target=importlib.import_module, args=["personagap.effects.contrasts"], daemon=True
    ).start()
    return explorer


def form(figures: str | os.PathLike | None = None) -> widgets.Widget:
    """Widgets that choose a notebook and its parameters, write the command for the run and say what
    it costs.

    ``figures`` is the folder under which it would live (default: the project's).
    """
    from personagap.explorer.parameters import Form

    return Form(Path(figures or FIGURES).resolve())


def live(what: Run | Path | str | pd.DataFrame, table: str | None = None) -> widgets.Widget:
    """Widgets over a run's tables, or over one table; in a report, the picture they show at first.

    ``what`` is a run that has saved its tables (``runs.open_run``), its folder, or a result table;
    ``table`` the one to show first (default: the first with intervals). `UserError`: no table with
    numbers is there, or none of that name.
    """
    from personagap.explorer.panel import Live

    if isinstance(what, pd.DataFrame):
        held = {"table": what.reset_index(drop=True)}
    else:
        held = tables.read(Path(what.folder if isinstance(what, Run) else what))
    ends = {name: quantities(rows) for name, rows in held.items()}
    # With intervals first: what is most worth a picture.
    values = {name: ends[name] or held[name].select_dtypes("number") for name in held}
    offered = [(name, value) for name in held for value in values[name]]
    offered.sort(key=lambda pair: (pair[0] != table, not ends[pair[0]]))
    if not offered or table not in (None, offered[0][0]):
        known = ", ".join(held) or "none"
        raise UserError(f"no table {table or 'with numbers'} to show; there are: {known}")
    return Live(held, offered)
