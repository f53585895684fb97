"""The widgets of `live`: result tables, each as a picture and a table with a search field."""

import base64
import io
from html import escape
from typing import Any

import ipywidgets as widgets
import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from personagap import readable
from personagap.errors import UserError
from personagap.explorer.shared import LOCK, contains_words, show_errors_in
from personagap.figures.style import PALETTE, errorbars
from personagap.formatting import humanize
from personagap.results import interval_columns, key_columns

#: Settings for speed: fixed titles and margins, and text drawn by the browser
FAST_DRAWING: dict[Any, Any] = {"axes.titley": 1.0, "savefig.bbox": None, "svg.fonttype": "none"}


class Live(widgets.VBox):
    """A quantity of a table drawn with its intervals, above the rows, both filtered by a search."""

    def __init__(self, tables: dict[str, pd.DataFrame], choices: list[tuple[str, str]]):
        self._tables = tables
        # Arguments of the picture; empty if a message says why there is none.
        self._drawn: tuple = ()
        names = [humanize(f"{name}: {readable.label(value)}") for name, value in choices]
        options = list(zip(names, choices, strict=True))
        self.quantity = widgets.Dropdown(options=options, value=choices[0], description="show")
        how = {"description": "search", "continuous_update": False}
        self.search = widgets.Text(placeholder="words that a row holds", **how)
        self.picture, self.rows = widgets.HTML(), widgets.HTML()
        super().__init__([widgets.HBox([self.quantity, self.search]), self.picture, self.rows])
        self.quantity.observe(self._draw, "value")
        self.search.observe(self._draw, "value")
        self._draw()

    def _draw(self, _=None) -> None:
        with LOCK:
            name, value = self.quantity.value
            table = self._tables[name]
            # Searched in the form in which the rows are shown
            texts = readable.compact(table)
            matches = [contains_words(" ".join(row), self.search.value) for row in texts.values]
            rows = readable.html(table[matches])
            self.rows.value = f'<div style="overflow-x: auto; white-space: nowrap">{rows}</div>'
            self._drawn, drawn = (), (table, value, texts[matches].head(readable.ROWS))
            with show_errors_in(self.picture):
                svg, alt = _image("svg", *drawn)
                source = f'src="data:image/svg+xml;base64,{svg}"'
                self.picture.value = f'<img style="max-width: 100%" {source} alt="{escape(alt)}">'
                self._drawn = drawn

    def _repr_mimebundle_(self, **how) -> tuple[dict, dict]:
        """Add the picture, for pages without a kernel."""
        bundle = super()._repr_mimebundle_(**how)
        if not self._drawn:
            return bundle, {}
        png, alt = _image("png", *self._drawn)
        return bundle | {"image/png": png}, {"image/png": {"alt": alt}}


def _image(kind: str, table: pd.DataFrame, value: str, texts: pd.DataFrame) -> tuple[str, str]:
    """Draw a quantity of the rows in ``texts``, with intervals if the table has them.

    Returns the image ("svg" or "png") in base64, and its text alternative.
    """
    if texts.empty:
        raise UserError("No row holds these words.")
    rows = table.loc[texts.index]
    names = readable.row_names(readable.with_names(rows), key_columns(table)).map(humanize)
    width, height, left = 9, 1.4 + 0.24 * len(rows), min(5, 0.3 + 0.085 * names.str.len().max())
    columns = [value, *interval_columns(table).get(value, (value, value))]
    estimates = rows[columns].set_axis(["estimate", "ci_low", "ci_high"], axis=1)
    with mpl.rc_context(FAST_DRAWING), io.BytesIO() as buffer:
        fig = Figure(figsize=(width, height))
        # Margins are fixed, in inches, because fitting them to the labels would double the time.
        ax = fig.add_axes((left / width, 0.8 / height, 1 - (left + 0.2) / width, 1 - 1.2 / height))
        errorbars(ax, estimates, range(len(rows)), ms=5, capsize=2)
        # If all values had the same sign, a line at zero would stretch the axis.
        if rows[value].min() < 0 < rows[value].max():
            ax.axvline(0, color=PALETTE["noise"], lw=1)
        ax.set_yticks(range(len(rows)), names, fontsize=8)
        ax.set(ylim=(len(rows) - 0.4, -0.6), xlabel=readable.column_header(value, rows))
        fig.savefig(buffer, format=kind)
        alt = f"{readable.label(value)}: " + "; ".join(names + " " + texts[value])
        return base64.b64encode(buffer.getvalue()).decode(), alt
