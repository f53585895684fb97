"""The widgets of `live`: any result table as a picture and a table, to be searched."""

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
from personagap.explorer.shared import LOCK, holds, said_in
from personagap.figures.style import PALETTE, dots
from personagap.results import keys, quantities
from personagap.spelling import words

#: For speed, titles and margins stay where they are put and the browser draws the letters.
QUICK: dict[Any, Any] = {"axes.titley": 1.0, "savefig.bbox": None, "svg.fonttype": "none"}


class Live(widgets.VBox):
    """A quantity of a table drawn with its intervals, and the rows, both narrowed by a search."""

    def __init__(self, held: dict[str, pd.DataFrame], offered: list[tuple[str, str]]):
        self._held = held
        # What the picture is of; empty where a line says why there is none.
        self._drawn: tuple = ()
        names = [words(f"{name}: {readable.label(value)}") for name, value in offered]
        options = list(zip(names, offered, strict=True))
        self.shown = widgets.Dropdown(options=options, value=offered[0], description="show")
        how = {"description": "search", "continuous_update": False}
        self.search = widgets.Text(placeholder="words that a row holds", **how)
        self.picture, self.rows = widgets.HTML(), widgets.HTML()
        super().__init__([widgets.HBox([self.shown, self.search]), self.picture, self.rows])
        self.shown.observe(self._draw, "value")
        self.search.observe(self._draw, "value")
        self._draw()

    def _draw(self, _=None) -> None:
        with LOCK:
            # By the words as they are shown, which is what one can search for.
            name, value = self.shown.value
            shown = readable.compact(self._held[name])
            kept = [holds(" ".join(row), self.search.value) for row in shown.values]
            table = readable.html(self._held[name][kept])
            self.rows.value = f'<div style="overflow-x: auto; white-space: nowrap">{table}</div>'
            self._drawn, drawn = (), (self._held[name], value, shown[kept].head(readable.ROWS))
            with said_in(self.picture):
                svg, alt = _image("svg", *drawn)
                source = f'src="data:image/svg+xml;base64,{svg}"'
                self.picture.value = f'<img style="max-width: 100%" {source} alt="{escape(alt)}">'
                self._drawn = drawn

    def _repr_mimebundle_(self, **how) -> tuple[dict, dict]:
        """For a page without a kernel, the picture."""
        bundle = super()._repr_mimebundle_(**how)
        if not self._drawn:
            return bundle, {}
        png, alt = _image("png", *self._drawn)
        return bundle | {"image/png": png}, {"image/png": {"alt": alt}}


def _image(kind: str, whole: pd.DataFrame, value: str, shown: pd.DataFrame) -> tuple[str, str]:
    """The values of the rows ``shown``, with their intervals where the table has them: an "svg" or
    "png", encoded, and its text alternative.
    """
    if shown.empty:
        raise UserError("No row holds these words.")
    table = whole.loc[shown.index]
    names = readable.row_names(readable.with_names(table), keys(whole)).map(words)
    width, height, left = 9, 1.4 + 0.24 * len(table), min(5, 0.3 + 0.085 * names.str.len().max())
    columns = [value, *quantities(whole).get(value, (value, value))]
    drawn = table[columns].set_axis(["estimate", "ci_low", "ci_high"], axis=1)
    with mpl.rc_context(QUICK), io.BytesIO() as buffer:
        fig = Figure(figsize=(width, height))
        # Margins in inches: fitting them to the labels would double the time.
        ax = fig.add_axes((left / width, 0.8 / height, 1 - (left + 0.2) / width, 1 - 1.2 / height))
        dots(ax, drawn, range(len(table)), ms=5, capsize=2)
        # Where all values are on one side, the line would draw the scale out to zero.
        if table[value].min() < 0 < table[value].max():
            ax.axvline(0, color=PALETTE["noise"], lw=1)
        ax.set_yticks(range(len(table)), names, fontsize=8)
        ax.set(ylim=(len(table) - 0.4, -0.6), xlabel=readable.head(value, table))
        fig.savefig(buffer, format=kind)
        told = f"{readable.label(value)}: " + "; ".join(names + " " + shown[value])
        return base64.b64encode(buffer.getvalue()).decode(), told
