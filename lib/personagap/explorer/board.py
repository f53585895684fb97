"""The explorer's widgets: what is chosen, a chart, its rows, and the answers behind them."""

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
from personagap.explorer.shared import LOCK, said_in
from personagap.readable import html, label, named
from personagap.spelling import words

#: How the grid is sorted, searched and scrolled; every column has a filter of its own.
GRID = {
    "showIndex": False, "maxBytes": 0, "paging": False, "scrollY": "16rem", "scrollX": True,
    "select": True,
    "scrollCollapse": True, "column_filters": "header", "classes": "display compact nowrap",
    "order": [],
    "layout": {"topStart": "search", "topEnd": "info", "bottomStart": None, "bottomEnd": None},
    "allow_html": False,
}  # fmt: skip
MARGINS = [("–", 0), *((f"±{points}", points) for points in (1, 2, 5, 10, 15, 20))]


class Explorer(widgets.VBox):
    """A run is chosen in two steps; what is picked in the chart, the grid or the list is marked in
    all of them.
    """

    def __init__(self, catalog: dict[str, dict[str, Result]]):
        self._catalog, self._quiet = catalog, False
        self.drawn: views.Drawn | None = None
        self._picked: dict[str, str] = {}
        runs = self._runs()
        choices = widgets.HBox(self._choices(), layout=widgets.Layout(flex_flow="row wrap"))
        for widget in choices.children:
            widget.layout.width, widget.style.description_width = "15.5rem", "5rem"
        self.chart, self.said = Chart(), widgets.HTML()
        self.grid = Grid(pd.DataFrame({"–": []}), **GRID)
        self.answers = Answers()
        # In the order in which one reads: which run, which view of it, of what, and what it shows.
        super().__init__([runs, self.view, choices, self.title, self.said])
        self.children += (self.chart, self.grid, self.answers)
        self.chart.on_msg(self._from_chart)
        self.notebook.observe(self._open_notebook, "value")
        self.run.observe(self._open, "value")
        self.other.observe(self._offer, "value")
        self.swap.on_click(self._swap)
        several = self.tasks, self.categories
        for widget in (self.view, *several, self.correction, self.margin, self.table):
            widget.observe(self._draw, "value")
        self.pick.observe(lambda change: self._mark(change["new"]), "value")
        self.grid.observe(self._from_grid, "selected_rows")
        self.answers.item.observe(self._from_answers, "value")
        self._open_notebook()

    def _runs(self) -> widgets.VBox:
        style = {"style": {"description_width": "4.5rem"}}
        names = [(words(name), name) for name in self._catalog]
        # A notebook with scores has most of the views.
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
        return any(run.holds("scores") for run in self._catalog[notebook].values())

    def _choices(self) -> list[widgets.Widget]:
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
        """Several widgets are set, and nothing is drawn before all of them are."""
        # As it was before, since settings can stand inside one another.
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
        """A run was chosen: offer what it holds; what was chosen stays where it applies."""
        if self._quiet:
            return
        run: Result = self.run.value
        # A run without scores has neither, but tables all the same.
        category, tasks = pd.Series(dtype="str"), []
        with contextlib.suppress(UserError):
            category, tasks = run.category, run.scores["task"].unique().tolist()
        identities = category[category != "control"].unique().tolist()
        offered = {self.tasks: tasks, self.categories: identities}
        with self._setting():
            for widget, names in offered.items():
                options = tuple((words(name), name) for name in names)
                if widget.options != options:
                    with widget.hold_sync():
                        # Else the browser would mark what is no longer there.
                        widget.options, widget.value = options, names
            if list(self.table.options) != run.names:
                self.table.options = run.names
                self.table.value = next(iter(run.names), None)
        self._offer()

    def _offer(self, _=None) -> None:
        """Offer the views that apply."""
        if self._quiet:
            return
        with self._setting():
            names = [name for name, view in views.VIEWS.items() if self._applies(view)]
            if list(self.view.options) != names:
                kept = self.view.value if self.view.value in names else names[0]
                self.view.options, self.view.value = names, kept
            # Who chooses a second run wants to see the difference.
            if self.other.value and views.COMPARED in names:
                self.view.value = views.COMPARED
        self._draw()

    def _applies(self, view: views.View) -> bool:
        try:
            return view.applies(self.chosen)
        except UserError:
            # Its table is damaged: the other views can still be had.
            return False

    def _swap(self, _=None) -> None:
        if self.other.value:
            with self._setting():
                self.run.value, self.other.value = self.other.value, self.run.value
            self._open()

    @property
    def chosen(self) -> views.Chosen:
        """What the widgets say."""
        several = tuple(self.tasks.value), tuple(self.categories.value)
        single = self.correction.value, self.margin.value, self.table.value or ""
        # Nothing is learnt from a run less itself.
        same = self.other.value is self.run.value
        other = None if same else self.other.value or None
        return views.Chosen(self.run.value, other, *several, *single, self._picked)

    def _draw(self, _=None) -> None:
        """Draw the view, and list its rows."""
        with LOCK:
            if self._quiet or self.view.value is None:
                return
            view, self.said.value = views.VIEWS[self.view.value], ""
            self._show_what_applies()
            self._first_identity()
            with said_in(self.said):
                # What was drawn before must not stay as if it were of this choice.
                self.drawn = None
                drawn = view.draw(self.chosen)
                if drawn.rows.empty:
                    raise UserError("There is nothing to show here of this run.")
                self.drawn = drawn
            drawn = self.drawn
            for widget in (self.chart, self.grid, self.pick):
                widget.layout.display = "none" if drawn is None else None
            self.title.value = f"<h3 style='margin: 0'>{'' if drawn is None else drawn.title}</h3>"
            if drawn is not None:
                self._show(view, drawn)

    def _first_identity(self) -> None:
        with contextlib.suppress(UserError):
            category = self.run.value.category
            if self._picked.get("identity") not in category:
                # A control stands for itself only where there is nobody else.
                ordered = [*category[category != "control"].index, *category.index]
                self._picked["identity"] = ordered[0]

    def _show_what_applies(self) -> None:
        name = self.view.value
        scored, tested = name in views.SCORED, name in views.TESTED
        applies = {self.tasks: scored, self.categories: scored, self.table: name == views.TABLES}
        applies |= {self.correction: tested, self.margin: tested}
        for widget, yes in applies.items():
            widget.layout.display = None if yes else "none"
        self.answers.layout.display = None if self.view.value == views.ITEMS else "none"

    def _show(self, view: views.View, drawn: views.Drawn) -> None:
        rows = drawn.rows
        keys = list(dict.fromkeys(rows["key"]))
        picked = self._picked.get(view.kind, "")
        # What was picked in another view of the same kind stays picked.
        picked = picked if picked in keys else str(next(iter(keys), ""))
        self._picked[view.kind] = picked
        with self._setting():
            # Together, or the browser would draw the new rows by the old specification first.
            with self.chart.hold_sync():
                self.chart.spec, self.chart.data = charts.linked(drawn.chart)
                self.chart.picked = picked
            self.pick.description = view.kind
            self.pick.options = [(words(key), key) for key in keys]
            marked = _places(rows, picked)
            with self.grid.hold_sync():
                # Else the browser would mark the rows of before in it.
                self.grid.update(_for_the_grid(rows, view.kind), selected_rows=marked)
            self.pick.value = picked
        self._mark(picked)

    def _from_chart(self, _, content: dict, __) -> None:
        # A click may arrive late, about rows that are no longer shown.
        if content.get("clicked") in dict(self.pick.options).values():
            self.pick.value = content["clicked"]

    def _from_grid(self, change) -> None:
        # Of several selected rows the one that was added is what was clicked.
        new = [row for row in change["new"] if row not in change["old"]]
        if new and not self._quiet and self.drawn is not None:
            self.pick.value = self.drawn.rows["key"].iloc[new[0]]

    def _from_answers(self, change) -> None:
        if not self._quiet and change["new"] in dict(self.pick.options).values():
            self.pick.value = change["new"]

    def _mark(self, key: str) -> None:
        """Mark what is picked in the chart, the grid and the answers."""
        with LOCK:
            if self._quiet or self.drawn is None or not key:
                return
            kind = views.VIEWS[self.view.value].kind
            self._picked[kind] = key
            with self._setting():
                self.chart.picked = key
                self.grid.selected_rows = _places(self.drawn.rows, key)
                if kind == "item":
                    who = self._picked["identity"]
                    self.answers.show(self.run.value, who, self.tasks.value, key)

    def _repr_mimebundle_(self, **how) -> tuple[dict, dict]:
        """For a page without a kernel, the rows of the first view."""
        bundle = super()._repr_mimebundle_(**how)
        if self.drawn is not None:
            bundle["text/html"] = html(self.drawn.rows.drop(columns="colour", errors="ignore"))
        return bundle, {}


def _places(rows: pd.DataFrame, key: str) -> list[int]:
    """Which rows of the grid are of a key."""
    return np.flatnonzero(rows["key"] == key).tolist()


def _for_the_grid(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Rows with plain heads and names, and numbers that sort as numbers, with as many digits as are
    read; nothing where nothing is known.
    """
    shown = rows.drop(columns=["colour", *(["key"] if kind in rows else [])], errors="ignore")
    for name in shown.select_dtypes("str").columns.drop("item", errors="ignore"):
        shown[name] = named(shown[name])
    for name in shown.select_dtypes("number"):
        shown[name] = shown[name].round(1 if shown[name].abs().max() >= 10 else 3)
    for name in shown.columns[shown.isna().any()]:
        # The grid would spell what is missing NaN, None or <NA>; numbers must stay such, to be
        # sorted.
        if pd.api.types.is_numeric_dtype(shown[name]):
            shown[name] = shown[name].astype("Float64")
        else:
            shown[name] = shown[name].astype(object).fillna("")
    # Else the grid would show the index.
    shown = shown.reset_index(drop=True)
    return shown.rename(
        columns=lambda name: {"key": kind, "ci_low": "from", "ci_high": "to"}.get(name, label(name))
    )
