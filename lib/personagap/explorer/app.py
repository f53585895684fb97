"""`explore`: every finished run, in linked views."""

import contextlib
import os
from collections.abc import Iterator
from html import escape
from pathlib import Path

import ipywidgets as widgets
import pandas as pd

from personagap import effects
from personagap.errors import UserError
from personagap.explorer import results, views
from personagap.explorer.panel import live
from personagap.paths import FIGURES

STYLE = "<style>.personagap-rows select, .personagap-head {font: 13px monospace !important}</style>"
COLUMNS = f"{'task':15}{'identity':20}{'points':>7}  {'95% interval':15}{'p':8}equivalent"


def explore(figures: str | os.PathLike | None = None) -> widgets.Widget:
    """Widgets over all finished runs under ``figures`` (default: the project's)."""
    catalog = results.catalog(Path(figures or FIGURES).resolve())
    nothing = f"<p><em>No finished runs under {figures or FIGURES}: <code>make report</code> makes some.</em></p>"
    return Explorer(catalog) if catalog else widgets.HTML(nothing)


class Explorer(widgets.HBox):
    """What is chosen at the left, its views in tabs; a view is drawn when it is looked at."""

    def __init__(self, catalog: dict[str, results.Result]):
        wide = {"layout": widgets.Layout(width="17rem"), "style": {"description_width": "5.5rem"}}
        runs = list(catalog.items())
        first = next((run for _, run in runs if (run.folder / "tables" / "scores.parquet").exists()), runs[0][1])
        self.run = widgets.Dropdown(options=runs, value=first, description="run", **wide)
        self.other = widgets.Dropdown(options=[("–", ""), *runs], value="", description="against", **wide)
        self.tasks = widgets.SelectMultiple(description="tasks", rows=5, **wide)
        self.categories = widgets.SelectMultiple(description="categories", rows=7, **wide)
        self.persona = widgets.Dropdown(description="identity", **wide)
        self.correction = widgets.Dropdown(options=list(views.CORRECTIONS), description="correction", **wide)
        points = {"min": 1, "max": 25, "step": 0.5, "description": "margin (pts)", "continuous_update": False}
        self.margin = widgets.FloatSlider(10, **points, **wide)
        self.search = widgets.Text(description="search", placeholder="e.g. muslim mmlu", continuous_update=False)
        self.rows = widgets.Select(rows=14, layout=widgets.Layout(width="40rem")).add_class("personagap-rows")
        self.item = widgets.Dropdown(description="item")
        self.answers, self.tables = widgets.HTML(), widgets.VBox()
        self.pictures = {name: widgets.HTML() for name in views.VIEWS}
        head = widgets.HTML(f'{STYLE}<pre class="personagap-head">{COLUMNS}</pre>')
        table = widgets.VBox([self.search, head, self.rows, self.item, self.answers])
        self.tabs = widgets.Tab([*self.pictures.values(), table, self.tables])
        self.tabs.titles = [*views.VIEWS, "Answers", "Tables"]
        left = [self.run, self.other, self.tasks, self.categories, self.persona, self.correction, self.margin]
        super().__init__([widgets.VBox(left, layout=widgets.Layout(min_width="18rem")), self.tabs])
        self.run.observe(self._open, "value")
        for widget in (*left[1:], self.search):
            widget.observe(self._draw, "value")
        self.tabs.observe(self._draw, "selected_index")
        self.rows.observe(self._pick, "value")
        self.item.observe(self._answer, "value")
        self._open()

    def _open(self, _=None) -> None:
        """A run was chosen: offer what it holds."""
        try:
            category, tasks = self.run.value.category, self.run.value.scores["task"].unique().tolist()
        except UserError:
            category, tasks = pd.Series(dtype="str"), []
        identities = category[category != "control"]
        with self._setting():
            self.rows.options, self.answers.value = {}, ""
            self.tasks.options = self.tasks.value = tasks
            self.categories.options = self.categories.value = identities.unique().tolist()
            self.persona.options = [(name.replace("_", " "), name) for name in identities.index]
            self.persona.value = next(iter(identities.index), None)
        self._draw()

    @contextlib.contextmanager
    def _setting(self) -> Iterator[None]:
        """Several widgets are set, and nothing is drawn before all of them are."""
        with views.LOCK:
            self._quiet = True
            try:
                yield
            finally:
                self._quiet = False

    def _draw(self, _=None) -> None:
        """Redraw the tab in sight."""
        with views.LOCK:
            title = self.tabs.titles[self.tabs.selected_index or 0]
            if self._quiet:
                return
            if title in views.VIEWS:
                self.pictures[title].value = views.said(views.picture, views.VIEWS[title], self.chosen)
            elif title == "Tables":
                self.tables.children = [self._panel()]
            else:
                self.answers.value = views.said(self._list)

    def _panel(self) -> widgets.Widget:
        try:
            return live(self.run.value.folder)
        except UserError as error:
            return widgets.HTML(f"<p><em>{escape(str(error))}</em></p>")

    @property
    def chosen(self) -> views.Chosen:
        """What the widgets at the left say."""
        several = tuple(self.tasks.value), tuple(self.categories.value)
        single = self.correction.value, self.margin.value, self.persona.value
        return views.Chosen(self.run.value, self.other.value or None, *several, *single)

    def _list(self) -> str:
        """One line for each chosen contrast that holds the words searched for; the answers behind the picked one."""
        chosen, contrasts = self.chosen, self.chosen.run.contrasts
        tested = effects.equivalence(chosen.run.scores, margin=chosen.margin)["equivalent"]  # row by row the same
        contrasts = contrasts.assign(equivalent=tested, p=contrasts[views.CORRECTIONS[chosen.correction]])
        lines = {}
        for row in chosen.shown(contrasts).itertuples():
            persona, interval = row.contrast.split(" − ")[0], f"[{row.ci_low:+.1f}, {row.ci_high:+.1f}]"
            numbers = f"{row.estimate:+7.1f}  {interval:15}{max(row.p, 0.001):<8.3f}"
            line = f"{row.task:15}{persona:20}{numbers}{'yes' if row.equivalent else ''}"
            if views.holds(line, self.search.value):
                lines[line.replace(" ", "\xa0")] = row.task, persona
        wanted = [self.rows.value, *(pair for pair in lines.values() if pair[1] == chosen.persona), *lines.values()]
        with self._setting():
            self.rows.options = lines
            self.rows.value = next((pair for pair in wanted if pair in lines.values()), None)
            self.answers.value = ""
        self._pick()
        return self.answers.value

    def _pick(self, _=None) -> None:
        """A line was picked: its identity is the one marked everywhere, its items can be read."""
        with views.LOCK:
            if self._quiet or self.rows.value is None:
                return
            task, persona = self.rows.value
            rows = self.run.value.by_item(persona)
            rows = rows[rows["task"] == task]
            with self._setting():
                if self.run.value.category[persona] != "control":
                    self.persona.value = persona
                self.item.options = [
                    (f"{row.item} ({row.difference:+.0f} points)", row.item) for row in rows.itertuples()
                ]
                self.item.value = next(iter(rows["item"]), None)
            self._answer()

    def _answer(self, _=None) -> None:
        with views.LOCK:
            if not self._quiet and self.rows.value and self.item.value:
                task, persona = self.rows.value
                self.answers.value = views.said(self.run.value.answers, task, self.item.value, persona)

    def _repr_mimebundle_(self, **how) -> tuple[dict, dict] | dict:
        try:
            return views.with_picture(super()._repr_mimebundle_(**how), *views.forest(self.chosen))
        except UserError:  # the run in sight has no scores
            return super()._repr_mimebundle_(**how)
