"""`live`: any result table as a picture and a table, to be searched; a picture where no kernel runs."""

import base64
import contextlib
import gc
import io
import threading
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from personagap.errors import UserError
from personagap.explorer.views import axes
from personagap.figures.style import PALETTE, dots
from personagap.leaving import visible
from personagap.runs import Run, tables

#: Rows drawn at once; a search finds the others.
ROWS = 30
#: JupyterLab handles the messages of widgets in several threads, while what is chosen is shared.
LOCK = threading.RLock()


@contextlib.contextmanager
def said_in(widget: widgets.HTML) -> Iterator[None]:
    """What is missing is a plain line in the widget."""
    try:
        yield
    except UserError as error:
        widget.value = f"<p><em>{escape(str(error))}</em></p>"


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


def holds(line: str, words: str) -> bool:
    """Whether a line of a table holds all the words of a search."""
    line, words = (text.lower().replace("_", " ") for text in (line, words))
    return all(word in line for word in words.split())


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


def live(what: Run | Path | str | pd.DataFrame, table: str | None = None) -> "Live":
    """Widgets over the tables of a run, or over one table; in a report, the picture they show at first.

    ``what`` is a run that has saved its tables (``runs.open_run``), its folder, or a result table; ``table`` the one to
    show first (default: the first with intervals). `UserError`: no table with numbers is there, or none of that name.
    """
    if isinstance(what, pd.DataFrame):
        held = {"table": what.reset_index(drop=True)}
    else:
        held = tables.read(Path(what.folder if isinstance(what, Run) else what))
    ends = {name: tables.quantities(rows) for name, rows in held.items()}
    offered = [(name, value) for name in held for value in ends[name] or held[name].select_dtypes("number")]
    offered.sort(key=lambda pair: (pair[0] != table, not ends[pair[0]]))
    if not offered or table not in (None, offered[0][0]):
        raise UserError(f"no table {table or 'with numbers'} to show; there are: {', '.join(held) or 'none'}")
    return Live(held, offered)


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
            shown = shown[kept].head(ROWS)
            self.picture.draw(_figure, self._held[name], value, shown)
            rest = f"<p>{ROWS} of {sum(kept)} rows; search to see others.</p>" if sum(kept) > ROWS else ""
            html = shown.map(visible).to_html(index=False, border=0)
            self.rows.value = f'{rest}<div style="overflow-x: auto; white-space: nowrap">{html}</div>'

    def _repr_mimebundle_(self, **how) -> tuple[dict, dict]:
        return self.picture.beside(super()._repr_mimebundle_(**how))


def _figure(whole: pd.DataFrame, value: str, shown: pd.DataFrame) -> tuple[Figure, str]:
    """The values of the rows ``shown``, with their intervals where the table has them."""
    if shown.empty:
        raise UserError("No row holds these words.")
    table = whole.loc[shown.index]
    names = tables.labels(table, tables.keys(whole))
    fig, ax = axes(9, 1.4 + 0.24 * len(table), left=min(5, 0.3 + 0.085 * names.str.len().max()))
    dots(ax, table, range(len(table)), value, tables.quantities(whole).get(value, (value, value)), ms=5, capsize=2)
    if table[value].min() < 0 < table[value].max():
        ax.axvline(0, color=PALETTE["noise"], lw=1)
    ax.set_yticks(range(len(table)), names.str.replace("_", " "), fontsize=8)
    ax.set(ylim=(len(table) - 0.4, -0.6), xlabel=value.replace("_", " "))
    return fig, f"{value}: " + "; ".join(names + " " + shown[value])
