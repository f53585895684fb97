"""The widgets of `live`: any result table as a picture and a table, to be searched."""

import base64
import contextlib
import gc
import io
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import ipywidgets as widgets
import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from personagap.errors import UserError
from personagap.explorer.shared import LOCK, holds, said_in
from personagap.figures.style import PALETTE, dots
from personagap.runs import readable, tables


@contextlib.contextmanager
def young_garbage_collected() -> Iterator[None]:
    """Free what the block leaves, and nothing else: of a figure some 10,000 objects, in 0.01 s.

    Otherwise they grow old, and now and then a choice waits 0.3 s for a search through all objects
    of the kernel. The block is short: nobody misses the collections that it puts off.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect(0)
        if enabled:
            gc.enable()


#: For speed, titles and margins stay where they are put and the browser draws the letters.
QUICK: dict[Any, Any] = {"axes.titley": 1.0, "savefig.bbox": None, "svg.fonttype": "none"}


class Picture(widgets.HTML):
    """A figure as an image with its text alternative."""

    #: Draws it as "svg" or "png"; None while there is nothing to show.
    image: Callable[[str], tuple[str, str]] | None = None

    def draw(self, make: Callable[..., tuple[Figure, str]], *given) -> None:
        """Show what ``make(*given)`` draws, or the line that says why there is nothing."""

        def image(kind: str) -> tuple[str, str]:
            """Itself, encoded, and its text alternative."""
            with mpl.rc_context(QUICK), io.BytesIO() as buffer:
                fig, alt = make(*given)
                fig.savefig(buffer, format=kind)
                return base64.b64encode(buffer.getvalue()).decode(), alt

        self.image = None
        with said_in(self):
            with young_garbage_collected():
                svg, alt = image("svg")
            source = f'src="data:image/svg+xml;base64,{svg}"'
            self.value = f'<img style="max-width: 100%" {source} alt="{escape(alt)}">'
            self.image = image

    def beside(self, bundle: dict) -> tuple[dict, dict]:
        """What a widget shows, and for a page without a kernel this picture."""
        if self.image is None:
            return bundle, {}
        png, alt = self.image("png")
        return bundle | {"image/png": png}, {"image/png": {"alt": alt}}


class Live(widgets.VBox):
    """A quantity of a table drawn with its intervals, and the table's rows, both narrowed by a search."""

    def __init__(self, held: dict[str, pd.DataFrame], offered: list[tuple[str, str]]):
        self._held = held
        options = [(f"{name}: {value}".replace("_", " "), (name, value)) for name, value in offered]
        self.shown = widgets.Dropdown(options=options, value=offered[0], description="show")
        self.search = widgets.Text(description="search", placeholder="words that a row holds", continuous_update=False)
        self.picture, self.rows = Picture(), widgets.HTML()
        super().__init__([widgets.HBox([self.shown, self.search]), self.picture, self.rows])
        self.shown.observe(self._draw, "value")
        self.search.observe(self._draw, "value")
        self._draw()

    def _draw(self, _=None) -> None:
        with LOCK:
            name, value = self.shown.value
            shown = tables.compact(self._held[name])
            kept = [holds(" ".join(row), self.search.value) for row in shown.values]
            self.picture.draw(_figure, self._held[name], value, shown[kept].head(readable.ROWS))
            table = readable.html(self._held[name][kept])
            self.rows.value = f'<div style="overflow-x: auto; white-space: nowrap">{table}</div>'

    def _repr_mimebundle_(self, **how) -> tuple[dict, dict]:
        return self.picture.beside(super()._repr_mimebundle_(**how))


def axes(width: float, height: float, left: float, right: float = 0.2, bottom: float = 0.8) -> tuple[Figure, Axes]:
    """A figure with fixed margins, all in inches: fitting them to the labels would double the time."""
    fig = Figure(figsize=(width, height))
    return fig, fig.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + 0.4) / height))


def _figure(whole: pd.DataFrame, value: str, shown: pd.DataFrame) -> tuple[Figure, str]:
    """The values of the rows ``shown``, with their intervals where the table has them."""
    if shown.empty:
        raise UserError("No row holds these words.")
    table = whole.loc[shown.index]
    names = tables.labels(table, tables.keys(whole))
    fig, ax = axes(9, 1.4 + 0.24 * len(table), left=min(5, 0.3 + 0.085 * names.str.len().max()))
    columns = [value, *tables.quantities(whole).get(value, (value, value))]
    drawn = table[columns].set_axis(["estimate", "ci_low", "ci_high"], axis=1)
    dots(ax, drawn, range(len(table)), ms=5, capsize=2)
    if table[value].min() < 0 < table[value].max():
        ax.axvline(0, color=PALETTE["noise"], lw=1)
    ax.set_yticks(range(len(table)), names.str.replace("_", " "), fontsize=8)
    ax.set(ylim=(len(table) - 0.4, -0.6), xlabel=value.replace("_", " "))
    return fig, f"{value}: " + "; ".join(names + " " + shown[value])
