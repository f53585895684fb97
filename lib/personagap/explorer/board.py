"""The explorer's widgets: selection, chart, grid of its rows, and the answers behind them."""

import contextlib
from collections.abc import Iterator

import ipywidgets as widgets
import numpy as np
import pandas as pd

from personagap.errors import UserError
from personagap.explorer import charts, views
from personagap.explorer.answers import Answers
from personagap.explorer.browser import Chart, Grid
from personagap.explorer.results import Result
from personagap.explorer.shared import LOCK, show_errors_in
from personagap.formatting import humanize
from personagap.readable import display_names, html, label

#: Options of the grid: sorting, search, scrolling, and a filter for every column
GRID = {
    "showIndex": False, "maxBytes": 0, "paging": False, "scrollY": "16rem", "scrollX": True,
    "select": True, "scrollCollapse": True, "column_filters": "header", "order": [],
    "classes": "display compact nowrap",
    "layout": {"topStart": "search", "topEnd": "info", "bottomStart": None, "bottomEnd": None},
    "allow_html": False,
}  # fmt: skip
MARGINS = [("–", 0), *((f"±{points}", points) for points in (1, 2, 5, 10, 15, 20))]


class Explorer(widgets.VBox):
    """Linked views of a selected run.

    A key that is picked in the chart, the grid or the dropdown is marked in all of them.
    """

    def __init__(self, catalog: dict[str, dict[str, Result]]):
        self._catalog, self._quiet = catalog, False
        self.drawing: views.Drawing | None = None
        self._picked: dict[str, str] = {}
        runs = self._runs()
        options = widgets.HBox(self._options(), layout=widgets.Layout(flex_flow="row wrap"))
        for widget in options.children:
            widget.layout.width, widget.style.description_width = "15.5rem", "5rem"
        self.chart, self.message = Chart(), widgets.HTML()
        self.grid = Grid(pd.DataFrame({"–": []}), **GRID)
        self.answers = Answers()
        # In reading order: which run, which view, of what, and the result
        super().__init__([runs, self.view, options, self.title, self.message])
        self.children += (self.chart, self.grid, self.answers)
        self.chart.on_msg(self._from_chart)
        self.notebook.observe(self._open_notebook, "value")
        self.run.observe(self._open, "value")
        self.other.observe(self._offer_views, "value")
        self.swap.on_click(self._swap)
        filters = self.tasks, self.categories
        for widget in (self.view, *filters, self.correction, self.margin, self.table):
            widget.observe(self._draw, "value")
        self.pick.observe(lambda change: self._mark(change["new"]), "value")
        self.grid.observe(self._from_grid, "selected_rows")
        self.answers.item.observe(self._from_answers, "value")
        self._open_notebook()

    def _runs(self) -> widgets.VBox:
        style = {"style": {"description_width": "4.5rem"}}
        names = [(humanize(name), name) for name in self._catalog]
        # A notebook with scores comes first, as it has the most views.
        first = max(self._catalog, key=self._scored)
        how = {"description": "notebook", **style}
        self.notebook = widgets.Dropdown(options=names, value=first, **how)
        self.run = widgets.Dropdown(description="run (A)", **style)
        self.other = widgets.Dropdown(description="less (B)", **style)
        self.run.layout.width = self.other.layout.width = "min(100%, 34rem)"
        narrow = widgets.Layout(width="5.5rem")
        self.swap = widgets.Button(description="⇄ swap", tooltip="B − A", layout=narrow)
        return widgets.VBox([self.notebook, self.run, widgets.HBox([self.other, self.swap])])

    def _scored(self, notebook: str) -> bool:
        return any(run.has("scores") for run in self._catalog[notebook].values())

    def _options(self) -> list[widgets.Widget]:
        self.view = widgets.ToggleButtons(style={"button_width": "auto"})
        self.tasks = widgets.SelectMultiple(description="tasks", rows=4)
        self.categories = widgets.SelectMultiple(description="categories", rows=4)
        corrections = list(views.CORRECTIONS)
        self.correction = widgets.Dropdown(options=corrections, description="correction")
        self.margin = widgets.Dropdown(options=MARGINS, value=0, description="margin")
        self.table = widgets.Dropdown(description="table")
        self.pick = widgets.Dropdown(description="picked")
        self.title = widgets.HTML()
        return [self.tasks, self.categories, self.correction, self.margin, self.table, self.pick]

    @contextlib.contextmanager
    def _setting(self) -> Iterator[None]:
        """Suspend drawing while several widgets are set."""
        # The state before is restored, since such blocks may be nested.
        with LOCK:
            before, self._quiet = self._quiet, True
            try:
                yield
            finally:
                self._quiet = before

    def _open_notebook(self, _=None) -> None:
        runs = self._catalog[self.notebook.value]
        with self._setting():
            self.other.options = [("–", ""), *runs.items()]
            self.other.value = ""
            self.run.options = list(runs.items())
            self.run.value = next(iter(runs.values()))
            self.other.layout.display = self.swap.layout.display = None if len(runs) > 1 else "none"
        self._open()

    def _open(self, _=None) -> None:
        """Offer the content of the selected run, keeping the selection where possible."""
        if self._quiet:
            return
        run: Result = self.run.value
        # A run without scores has no categories or tasks, but may have tables.
        category, tasks = pd.Series(dtype="str"), []
        with contextlib.suppress(UserError):
            category, tasks = run.category, run.scores["task"].unique().tolist()
        identities = category[category != "control"].unique().tolist()
        with self._setting():
            for widget, names in [(self.tasks, tasks), (self.categories, identities)]:
                options = tuple((humanize(name), name) for name in names)
                if widget.options != options:
                    with widget.hold_sync():
                        # Both at once, or the browser would mark options that no longer exist.
                        widget.options, widget.value = options, names
            if list(self.table.options) != run.names:
                self.table.options = run.names
                self.table.value = next(iter(run.names), None)
        self._offer_views()

    def _offer_views(self, _=None) -> None:
        """Offer the views that apply."""
        if self._quiet:
            return
        with self._setting():
            names = [name for name, view in views.VIEWS.items() if self._applies(view)]
            if list(self.view.options) != names:
                current = self.view.value if self.view.value in names else names[0]
                self.view.options, self.view.value = names, current
            # Selecting a second run is a request for the difference.
            if self.other.value and views.COMPARED in names:
                self.view.value = views.COMPARED
        self._draw()

    def _applies(self, view: views.View) -> bool:
        try:
            return view.applies(self.selection)
        except UserError:
            # Its table is damaged, but the other views still work.
            return False

    def _swap(self, _=None) -> None:
        if self.other.value:
            with self._setting():
                self.run.value, self.other.value = self.other.value, self.run.value
            self._open()

    @property
    def selection(self) -> views.Selection:
        """The current values of the widgets."""
        filters = tuple(self.tasks.value), tuple(self.categories.value)
        settings = self.correction.value, self.margin.value, self.table.value or ""
        # A run is not compared with itself.
        same = self.other.value is self.run.value
        other = None if same else self.other.value or None
        return views.Selection(self.run.value, other, *filters, *settings, self._picked)

    def _draw(self, _=None) -> None:
        """Draw the view, and list its rows."""
        with LOCK:
            if self._quiet or self.view.value is None:
                return
            view, self.message.value = views.VIEWS[self.view.value], ""
            self._show_applicable_widgets()
            self._pick_default_identity()
            # Reset first, so that after an error no drawing of an earlier selection remains.
            self.drawing = None
            with show_errors_in(self.message):
                drawing = view.draw(self.selection)
                if drawing.rows.empty:
                    raise UserError("There is nothing to show here of this run.")
                self.drawing = drawing
            shown = self.drawing is not None
            for widget in (self.grid, self.pick):
                widget.layout.display = None if shown else "none"
            drawn = self.drawing and self.drawing.chart
            self.chart.layout.display = None if drawn else "none"
            title = self.drawing.title if self.drawing else ""
            self.title.value = f"<h3 style='margin: 0'>{title}</h3>"
            if self.drawing:
                self._show(view, self.drawing)

    def _pick_default_identity(self) -> None:
        with contextlib.suppress(UserError):
            category = self.run.value.category
            if self._picked.get("identity") not in category:
                # Controls come last, as they are only picked if there are no identities.
                ordered = [*category[category != "control"].index, *category.index]
                self._picked["identity"] = ordered[0]

    def _show_applicable_widgets(self) -> None:
        name = self.view.value
        scored, tested = name in views.SCORED, name in views.TESTED
        applies = {self.tasks: scored, self.categories: scored, self.table: name == views.TABLES}
        applies |= {self.correction: tested, self.margin: tested}
        for widget, visible in applies.items():
            widget.layout.display = None if visible else "none"
        self.answers.layout.display = None if self.view.value == views.ITEMS else "none"

    def _show(self, view: views.View, drawing: views.Drawing) -> None:
        rows = drawing.rows
        keys = list(dict.fromkeys(rows["key"]))
        picked = self._picked.get(view.kind, "")
        # A key picked in another view of the same kind stays picked.
        picked = picked if picked in keys else str(next(iter(keys), ""))
        self._picked[view.kind] = picked
        with self._setting():
            # Both at once, or the browser would first draw the new rows by the old specification.
            with self.chart.hold_sync():
                if drawing.chart:
                    self.chart.spec, self.chart.data = charts.linked(drawing.chart)
                self.chart.picked = picked
            self.pick.description = view.kind
            self.pick.options = [(humanize(key), key) for key in keys]
            marked = _row_numbers(rows, picked)
            with self.grid.hold_sync():
                # Both at once, or the browser would mark the rows selected before.
                self.grid.update(_grid_table(rows, view.kind), selected_rows=marked)
            self.pick.value = picked
        self._mark(picked)

    def _from_chart(self, _, content: dict, __) -> None:
        # A click may arrive late, on rows that are no longer shown.
        if content.get("clicked") in dict(self.pick.options).values():
            self.pick.value = content["clicked"]

    def _from_grid(self, change) -> None:
        # The clicked row is the one that was added to the selection.
        new = [row for row in change["new"] if row not in change["old"]]
        if new and not self._quiet and self.drawing is not None:
            self.pick.value = self.drawing.rows["key"].iloc[new[0]]

    def _from_answers(self, change) -> None:
        if not self._quiet and change["new"] in dict(self.pick.options).values():
            self.pick.value = change["new"]

    def _mark(self, key: str) -> None:
        """Mark the picked key in the chart, the grid and the answers."""
        with LOCK:
            if self._quiet or self.drawing is None or not key:
                return
            kind = views.VIEWS[self.view.value].kind
            self._picked[kind] = key
            with self._setting():
                self.chart.picked = key
                self.grid.selected_rows = _row_numbers(self.drawing.rows, key)
                if kind == "item":
                    persona = self._picked["identity"]
                    self.answers.show(self.run.value, persona, self.tasks.value, key)

    def _repr_mimebundle_(self, **how) -> tuple[dict, dict]:
        """Add the rows of the first view, for pages without a kernel."""
        bundle = super()._repr_mimebundle_(**how)
        if self.drawing is not None:
            bundle["text/html"] = html(self.drawing.rows.drop(columns="colour", errors="ignore"))
        return bundle, {}


def _row_numbers(rows: pd.DataFrame, key: str) -> list[int]:
    """Return the positions of the rows with a key."""
    return np.flatnonzero(rows["key"] == key).tolist()


def _grid_table(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return rows for the grid: readable headers and names, rounded numbers, blank missing values.

    Numbers stay numeric, so that they sort as numbers.
    """
    shown = rows.drop(columns=["colour", *(["key"] if kind in rows else [])], errors="ignore")
    for name in shown.select_dtypes("str").columns.drop("item", errors="ignore"):
        shown[name] = display_names(shown[name])
    for name in shown.select_dtypes("number"):
        shown[name] = shown[name].round(1 if shown[name].abs().max() >= 10 else 3)
    for name in shown.columns[shown.isna().any()]:
        # Else missing values would show as NaN, None or <NA>.
        if pd.api.types.is_numeric_dtype(shown[name]):
            shown[name] = shown[name].astype("Float64")
        else:
            shown[name] = shown[name].astype(object).fillna("")
    # With another index the grid would show it.
    shown = shown.reset_index(drop=True)
    return shown.rename(
        columns=lambda name: {"key": kind, "ci_low": "from", "ci_high": "to"}.get(name, label(name))
    )
