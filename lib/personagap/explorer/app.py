"""`explore`: every finished run, in linked views."""

import contextlib
import os
from collections.abc import Iterator
from html import escape
from pathlib import Path

import ipywidgets as widgets
import pandas as pd

from personagap.errors import UserError
from personagap.explorer import results, views
from personagap.explorer.panel import LOCK, Picture, holds, live, said_in
from personagap.paths import FIGURES

STYLE = "<style>.personagap-rows select, .personagap-head {font: 13px monospace !important}</style>"
COLUMNS = f"{'task':15}{'identity':20}{'points':>7}  {'95% interval':15}{'p':8}equivalent"


def explore(figures: str | os.PathLike | None = None) -> widgets.Widget:
    """Widgets over all finished runs under ``figures`` (default: the project's)."""
    if figures and not Path(figures).is_dir():
        raise UserError(f"no folder {figures}: give the one that runs went to")
    catalog = results.catalog(Path(figures or FIGURES).resolve())
    if not catalog:
        place = escape(str(figures or FIGURES))
        return widgets.HTML(f"<p><em>No finished runs under {place}: <code>make report</code> makes some.</em></p>")
    return Explorer(catalog)


class Explorer(widgets.HBox):
    """What is chosen at the left, its views in tabs; a view is drawn when it is looked at."""

    def __init__(self, catalog: dict[str, results.Result]):
        self.pictures = {name: Picture() for name in views.VIEWS}
        self._drawn: dict[str, views.Chosen] = {}
        self._offered: tuple[list[str], dict[str, str]] | None = None
        choices, table, self.tables = self._choices(catalog), self._table(), widgets.VBox()
        titles = [*views.VIEWS, "Answers", "Tables"]
        self.tabs = widgets.Tab([*self.pictures.values(), table, self.tables], titles=titles)
        super().__init__([choices, self.tabs])
        for widget in (*choices.children[1:], self.search):
            widget.observe(self._draw, "value")
        self.other.observe(self._pair, "value")
        self.tabs.observe(self._draw, "selected_index")
        self.run.observe(self._open, "value")
        self.rows.observe(self._pick, "value")
        self.item.observe(self._answer, "value")
        self._open()

    def _choices(self, catalog: dict[str, results.Result]) -> widgets.VBox:
        wide = {"layout": widgets.Layout(width="17rem"), "style": {"description_width": "5.5rem"}}
        scored = [run for run in catalog.values() if (run.folder / "tables" / "scores.parquet").exists()]
        first = next(iter([*scored, *catalog.values()]))
        self.run = widgets.Dropdown(options=list(catalog.items()), value=first, description="run", **wide)
        self.other = widgets.Dropdown(options=[("–", ""), *catalog.items()], value="", description="against", **wide)
        self.tasks = widgets.SelectMultiple(description="tasks", rows=5, **wide)
        self.categories = widgets.SelectMultiple(description="categories", rows=7, **wide)
        self.persona = widgets.Dropdown(description="identity", **wide)
        self.correction = widgets.Dropdown(options=list(views.CORRECTIONS), description="correction", **wide)
        points = {"min": 1, "max": 25, "step": 0.5, "description": "margin (pts)", "continuous_update": False}
        self.margin = widgets.FloatSlider(10, **points, **wide)
        held = [self.run, self.other, self.tasks, self.categories, self.persona, self.correction, self.margin]
        return widgets.VBox(held, layout=widgets.Layout(min_width="18rem"))

    def _table(self) -> widgets.VBox:
        self.search = widgets.Text(description="search", placeholder="e.g. muslim mmlu", continuous_update=False)
        head = widgets.HTML(f'{STYLE}<pre class="personagap-head">{COLUMNS}</pre>')
        self.rows = widgets.Select(rows=14, layout=widgets.Layout(width="40rem")).add_class("personagap-rows")
        self.item, self.answers = widgets.Dropdown(description="item"), widgets.HTML()
        return widgets.VBox([self.search, head, self.rows, self.item, self.answers])

    def _open(self, _=None) -> None:
        """A run was chosen: offer what it holds."""
        try:
            category, tasks = self.run.value.category, self.run.value.scores["task"].unique().tolist()
        except UserError:
            category, tasks = pd.Series(dtype="str"), []
        identities = category[category != "control"]
        offered = tasks, identities.to_dict()
        with self._setting():
            self.rows.options, self.answers.value = {}, ""
            if offered != self._offered:  # else what was chosen in the last run stays chosen
                self._offered = offered
                self.tasks.options = self.tasks.value = tasks
                self.categories.options = self.categories.value = identities.unique().tolist()
                self.persona.options = [(name.replace("_", " "), name) for name in identities.index]
                self.persona.value = next(iter(identities.index), None)
        self._draw()

    def _pair(self, _=None) -> None:
        """A second run was chosen: pair it with the first now, so that the comparison is quick to look at."""
        if self.other.value:
            with contextlib.suppress(UserError):  # said where the comparison is shown
                self.other.value.after(self.run.value)

    @contextlib.contextmanager
    def _setting(self) -> Iterator[None]:
        """Several widgets are set, and nothing is drawn before all of them are."""
        with LOCK:
            self._quiet = True
            try:
                yield
            finally:
                self._quiet = False

    def _draw(self, _=None) -> None:
        """Redraw the tab in sight."""
        with LOCK:
            title = self.tabs.titles[self.tabs.selected_index or 0]
            if self._quiet:
                return
            if title in views.VIEWS:
                chosen = self.chosen if title == "Compared" else self.chosen._replace(other=None)
                if self._drawn.get(title) != chosen:
                    self._drawn[title] = chosen
                    self.pictures[title].draw(views.VIEWS[title], chosen)
            elif title == "Tables":
                self.tables.children = [line := widgets.HTML()]
                with said_in(line):
                    self.tables.children = [live(self.run.value.folder)]
            else:
                with said_in(self.answers):
                    self._list()

    @property
    def chosen(self) -> views.Chosen:
        """What the widgets at the left say."""
        several = tuple(self.tasks.value), tuple(self.categories.value)
        single = self.correction.value, self.margin.value, self.persona.value
        return views.Chosen(self.run.value, self.other.value or None, *several, *single)

    def _list(self) -> None:
        """One line for each chosen contrast that holds the words searched for; the answers behind the picked one."""
        chosen, run = self.chosen, self.chosen.run
        contrasts = run.contrasts.merge(run.equivalent(chosen.margin), how="left", on=["task", "contrast"])
        contrasts["p"] = contrasts[views.CORRECTIONS[chosen.correction]]
        lines = {}
        for row in chosen.shown(contrasts).itertuples():
            persona, interval = row.contrast.split(" − ")[0], f"[{row.ci_low:+.1f}, {row.ci_high:+.1f}]"
            numbers = f"{row.estimate:+7.1f}  {interval:15}{max(row.p, 0.001):<8.3f}"
            line = f"{row.task:15}{persona:20}{numbers}{'yes' if row.equivalent else ''}"
            if holds(line, self.search.value):
                lines[line.replace(" ", "\xa0")] = row.task, persona
        wanted = [self.rows.value, *(pair for pair in lines.values() if pair[1] == chosen.persona), *lines.values()]
        with self._setting():
            self.rows.options = lines
            self.rows.value = next((pair for pair in wanted if pair in lines.values()), None)
        if not lines:
            self.answers.value = ""
        self._pick()

    def _pick(self, _=None) -> None:
        """A line was picked: its identity is the one marked everywhere, its items can be read."""
        with LOCK:
            if self._quiet or self.rows.value is None:
                return
            task, persona = self.rows.value
            rows = self.run.value.by_item(persona).loc[lambda table: table["task"] == task]
            labels = rows["item"] + rows["difference"].map(" ({:+.0f} points)".format)
            with self._setting():
                if self.run.value.category[persona] != "control":
                    self.persona.value = persona
                self.item.options = list(zip(labels, rows["item"], strict=True))
                self.item.value = next(iter(rows["item"]), None)
            self._answer()

    def _answer(self, _=None) -> None:
        with LOCK:
            if not self._quiet and self.rows.value and self.item.value:
                task, persona = self.rows.value
                with said_in(self.answers):
                    self.answers.value = self.run.value.answers(task, self.item.value, persona)

    def _repr_mimebundle_(self, **how) -> tuple[dict, dict]:
        first, forest = (self.pictures[title] for title in ("Trade-off", "Forest"))
        if first.image is None:  # the run has tasks of utility alone, or of safety
            forest.draw(views.forest, self.chosen)
        return (first if first.image else forest).beside(super()._repr_mimebundle_(**how))
