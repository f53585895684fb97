"""The answers behind an item: found by words, read side by side, taken along as a table."""

import base64

import ipywidgets as widgets
import pandas as pd

from personagap.explorer.results import Result
from personagap.explorer.shared import holds, said_in
from personagap.leaving import visible


class Answers(widgets.VBox):
    """The chats of an identity and of the control on one item, and a way through the others."""

    def __init__(self):
        self.search = widgets.Text(
            description="search", placeholder="words of an answer", continuous_update=False
        )
        self.item = widgets.Dropdown(description="item")
        self.back, self.on = (widgets.Button(description=text) for text in ("‹ previous", "next ›"))
        self.save = widgets.Button(
            description="export", tooltip="Makes a table of the answers found"
        )
        self.found, self.chats = widgets.HTML(), widgets.HTML()
        for widget in (self.back, self.on, self.save):
            widget.layout.width = "6.5rem"
        flow = widgets.Layout(flex_flow="row wrap")
        bar = widgets.HBox(
            [self.search, self.item, self.back, self.on, self.save, self.found], layout=flow
        )
        super().__init__([bar, self.chats])
        self._of: tuple = ()  # run, identity, tasks
        self._rows = pd.DataFrame()
        self.search.observe(self._find, "value")
        self.item.observe(self._read, "value")
        self.back.on_click(lambda _: self._step(-1))
        self.on.on_click(lambda _: self._step(1))
        self.save.on_click(self._export)

    def show(self, run: Result, persona: str, tasks: tuple[str, ...], item: str) -> None:
        """The chats about ``item`` ("task · item") of an identity."""
        with said_in(self.chats):
            if self._of != (run, persona, tasks):
                rows = run.answered(persona)
                self._rows = rows[rows["task"].isin(tasks)]
                self._of = (run, persona, tasks)
                self._find()
            if item in self.item.options:
                self.item.value = item
            self._read()

    def _find(self, _=None) -> None:
        """Offer the items whose answers hold all words."""
        self.found.value = ""
        told = self._rows["text"].fillna("") + " " + self._rows["label"] + " " + self._rows["item"]
        self._hits = self._rows[[holds(text, self.search.value) for text in told]]
        everything, found = (
            (rows["task"] + " · " + rows["item"]).unique() for rows in (self._rows, self._hits)
        )
        if self.search.value.strip():
            self.found.value = f"{len(found)} of {len(everything)} items"
        self.item.options = found.tolist()
        if not self.item.options:
            self.chats.value = "<p><em>No answer holds these words.</em></p>"

    def _step(self, by: int) -> None:
        if self.item.options:
            self.item.index = (self.item.index + by) % len(self.item.options)

    def _read(self, _=None) -> None:
        if self._of and self.item.value:
            (run, persona, _), (task, _, item) = self._of, self.item.value.partition(" · ")
            self.chats.value = run.chats(task, item, persona, self._rows)

    def _export(self, _=None) -> None:
        """A link to a table of the answers found."""
        table = self._hits.assign(text=self._hits["text"].map(visible, na_action="ignore"))
        data = base64.b64encode(table.to_csv(index=False).encode()).decode()
        href = (
            f'href="data:text/csv;base64,{data}" style="color: inherit; text-decoration: underline"'
        )
        self.found.value = (
            f'<a download="answers.csv" {href}>download answers.csv</a> ({len(table)} answers)'
        )
