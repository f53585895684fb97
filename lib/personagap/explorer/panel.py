"""`live`: any result table as a picture and a table, to be searched; a picture where no kernel runs."""

from pathlib import Path

import ipywidgets as widgets
import pandas as pd
from matplotlib.figure import Figure

from personagap.errors import UserError
from personagap.explorer import views
from personagap.figures.style import PALETTE
from personagap.runs import Run, tables

#: Rows drawn at once; a search finds the others.
ROWS = 30


def live(what: "Run | Path | str | pd.DataFrame", table: str | None = None) -> "Live":
    """Widgets over the tables of a run, or over one table; in a report, the picture they show at first.

    Parameters
    ----------
    what : a run that has saved its tables (``runs.open_run``), its folder, or a result table.
    table : the table to show first; the default is the first that has intervals.

    Raises
    ------
    UserError : no table with numbers is there, or none of that name.
    """
    held = {"table": what} if isinstance(what, pd.DataFrame) else tables.read(Path(getattr(what, "folder", what)))
    values = {name: list(tables.quantities(rows)) or list(rows.select_dtypes("number")) for name, rows in held.items()}
    offered = [(name, value) for name in held for value in values[name]]
    offered.sort(key=lambda pair: (pair[0] != table, not tables.quantities(held[pair[0]])))
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
        self.picture, self.rows = widgets.HTML(), widgets.HTML()
        super().__init__([widgets.HBox([self.shown, self.search]), self.picture, self.rows])
        self.shown.observe(self._draw, "value")
        self.search.observe(self._draw, "value")
        self._draw()

    def _draw(self, _=None) -> None:
        with views.LOCK:
            shown = tables.compact(self._held[self.shown.value[0]])
            kept = [views.holds(" ".join(row), self.search.value) for row in shown.values]
            self.picture.value = views.said(views.picture, self._figure, kept)
            rest = f"<p>{ROWS} of {sum(kept)} rows; search to see others.</p>" if sum(kept) > ROWS else ""
            html = shown[kept].head(ROWS).map(tables.visible).to_html(index=False, border=0)
            self.rows.value = f'{rest}<div style="overflow-x: auto; white-space: nowrap">{html}</div>'

    def _figure(self, kept: list[bool] | slice) -> tuple[Figure, str]:
        name, value = self.shown.value
        whole = self._held[name]
        table, ends = whole[kept].head(ROWS), tables.quantities(whole).get(value, (value, value))
        if table.empty:
            raise UserError("No row holds these words.")
        names = tables.labels(table, tables.keys(whole))
        fig, ax = views.axes(9, 1.4 + 0.24 * len(table), left=min(5, 0.3 + 0.085 * names.str.len().max()))
        low, high = ((table[value] - table[ends[0]]).clip(lower=0), (table[ends[1]] - table[value]).clip(lower=0))
        ax.errorbar(table[value], range(len(table)), xerr=[low, high], fmt="o", ms=5, capsize=2, color=PALETTE["data"])
        if table[value].min() < 0 < table[value].max():
            ax.axvline(0, color=PALETTE["noise"], lw=1)
        ax.set_yticks(range(len(table)), names.str.replace("_", " "), fontsize=8)
        ax.set(ylim=(len(table) - 0.4, -0.6), xlabel=value.replace("_", " "))
        ax.grid(axis="y", visible=False)
        return fig, f"{value}: " + "; ".join(names + " " + tables.compact(table)[value])

    def _repr_mimebundle_(self, **how) -> tuple[dict, dict]:
        return views.with_picture(super()._repr_mimebundle_(**how), *self._figure(slice(None)))
