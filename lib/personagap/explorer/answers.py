"""The answers behind an item: searched by words, shown side by side, exported as a table."""

import base64
import functools
from pathlib import Path

import ipywidgets as widgets
import pandas as pd

from personagap import personas, tasks
from personagap.datasets import load
from personagap.errors import UserError
from personagap.explorer.results import Result
from personagap.explorer.shared import contains_words, show_errors_in
from personagap.formatting import humanize
from personagap.redaction import escaped, visible
from personagap.runs.folder import read_facts

#: Style of a message, and of a chat beside another
TEXT = (
    'dir="auto" style="white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere; '
    'margin: 0"'
)
SIDE = 'style="flex: 1 1 18rem; min-width: 0"'


class Answers(widgets.VBox):
    """The chats of an identity and of the control about one item, with search and navigation."""

    def __init__(self):
        how = {"description": "search", "continuous_update": False}
        self.search = widgets.Text(placeholder="words of an answer", **how)
        self.item = widgets.Dropdown(description="item")
        self.previous = widgets.Button(description="‹ previous")
        self.next = widgets.Button(description="next ›")
        tooltip = "Makes a table of the answers found"
        self.export = widgets.Button(description="export", tooltip=tooltip)
        self.status, self.chats = widgets.HTML(), widgets.HTML()
        for button in (self.previous, self.next, self.export):
            button.layout.width = "6.5rem"
        parts = [self.search, self.item, self.previous, self.next, self.export, self.status]
        bar = widgets.HBox(parts, layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([bar, self.chats])
        self._source: tuple = ()  # run, persona and tasks of the answers
        self._rows = pd.DataFrame()
        self.search.observe(self._search, "value")
        self.item.observe(self._show_chats, "value")
        self.previous.on_click(lambda _: self._step(-1))
        self.next.on_click(lambda _: self._step(1))
        self.export.on_click(self._export)

    def show(self, run: Result, persona: str, tasks: tuple[str, ...], item: str) -> None:
        """Show the chats of an identity about ``item`` ("task · item")."""
        with show_errors_in(self.chats):
            # The answers of an identity are read once for all items, as reading takes longest.
            if self._source != (run, persona, tasks):
                rows = run.answered(persona)
                self._rows = rows[rows["task"].isin(tasks)]
                self._source = (run, persona, tasks)
                self._search()
            if item in dict(self.item.options).values():
                self.item.value = item
            self._show_chats()

    def _search(self, _=None) -> None:
        """Offer the items whose answers contain all words of the search."""
        self.status.value = ""
        rows = self._rows
        # The grader's label ("wrong", "unreadable") is searched too, as this is the main use.
        texts = rows["text"].fillna("") + " " + rows["label"] + " " + rows["item"]
        matches = [contains_words(text, self.search.value) for text in texts]
        items = rows["task"] + " · " + rows["item"]
        self._hits, found = rows[matches], items[matches].unique()
        if self.search.value.strip():
            self.status.value = f"{len(found)} of {items.nunique()} items"
        self.item.options = [(_display_name(item), item) for item in found]
        if not self.item.options:
            self.chats.value = "<p><em>No answer holds these words.</em></p>"

    def _step(self, by: int) -> None:
        # The first item follows the last one.
        if self.item.options:
            self.item.index = (self.item.index + by) % len(self.item.options)

    def _show_chats(self, _=None) -> None:
        if self._source and self.item.value:
            (run, persona, _), (task, _, item) = self._source, self.item.value.partition(" · ")
            self.chats.value = _side_by_side(run, task, item, persona, self._rows)

    def _export(self, _=None) -> None:
        """Offer a link to a table of the answers found."""
        # Without invisible characters, which would reorder text in a spreadsheet as in a terminal
        table = self._hits.assign(text=self._hits["text"].map(visible, na_action="ignore"))
        data = base64.b64encode(table.to_csv(index=False).encode()).decode()
        href = f'href="data:text/csv;base64,{data}"'
        style = 'style="color: inherit; text-decoration: underline"'
        link = f'<a download="answers.csv" {href} {style}>download answers.csv</a>'
        self.status.value = f"{link} ({len(table)} answers)"


def _display_name(item: str) -> str:
    """Return "task · item" with the task in words; item ids come from the user and stay as is."""
    task, *rest = item.partition(" · ")
    return humanize(task) + "".join(rest)


def _side_by_side(run: Result, task: str, item: str, persona: str, answers: pd.DataFrame) -> str:
    """Return the chats of identity and control about one item as HTML, with all texts escaped."""
    rows = answers[(answers["task"] == task) & (answers["item"] == item)]
    # The prompt is rebuilt from the data, because a run only saves answers and the ids of items.
    items = _items(run.folder, task)
    details = items.loc[item] if item in items.index else None
    prompt = "(the run's data are gone)" if details is None else tasks.prompt(details)
    sides = []
    for name in (persona, "none"):
        turns = _turns(run, name, prompt, rows["template"].iloc[0] if len(rows) else "paper")
        for row in rows[rows["persona"] == name].itertuples():
            text = "(none)" if pd.isna(row.text) else row.text
            turns.append((f"answer, {row.template}, run {row.run}: {row.label}", text))
        safe = (map(escaped, turn) for turn in turns)
        chat = "".join(f"<h5>{role}</h5><pre {TEXT}>{text}</pre>" for role, text in safe)
        head = humanize(name) if name != "none" else "no system prompt (the control)"
        sides.append(f"<section {SIDE}><h4>{escaped(head)}</h4>{chat}</section>")
    answer = "" if details is None else _right_answer(details)
    right = f", right: <b>{escaped(answer)}</b>" if answer else ""
    # Defences change the messages, and custom prompts the wording, so that the model did not read
    # exactly what is shown here.
    note = ""
    if run.condition:
        note += f" The chats of “{escaped(run.condition)}” differ as its notebook says."
    if prompts := run.facts["parameters"].get("prompts"):
        note += f" The run asked in the words of {escaped(prompts)}, not in these."
    head = f"<p><b>{escaped(_display_name(f'{task} · {item}'))}</b>{right}.{note}</p>"
    return f'{head}<div style="display: flex; flex-wrap: wrap; gap: 1rem">{"".join(sides)}</div>'


def _turns(run: Result, persona: str, prompt: str, template: str) -> list[tuple[str, str]]:
    """Return role and text of the turns before the answer."""
    wording = run.identities[["phrase", "hint"]].to_dict("index").get(persona, {})
    try:
        chat = personas.chat(persona, prompt, template=template, **wording)
    except UserError:
        # The file that defined the identity no longer exists.
        return [(f"system: {persona}", "(in the words of the run's own file)"), ("user", prompt)]
    return [(turn["role"], turn["content"]) for turn in chat]


def _right_answer(item: pd.Series) -> str:
    """Return the right answer, or the tests that a program must pass; "" for judged answers."""
    parts = [item["answer"], *(item["tests"] if isinstance(item["tests"], list) else [])]
    return ", ".join(str(part) for part in parts if isinstance(part, str))


@functools.cache
def _items(folder: Path, task: str) -> pd.DataFrame:
    """Return the items of a task by id; empty if the run's data are no longer available."""
    facts = read_facts(folder)
    data = facts["parameters"].get("data", "demo")
    if data not in ("demo", "hub"):
        # Relative paths refer to the folder from which the run was started.
        data = Path(facts["cwd"], data)
    try:
        return load([task], data).set_index("item", drop=False)
    except UserError:
        return pd.DataFrame()
