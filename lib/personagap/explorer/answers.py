"""The answers behind an item: found by words, read side by side, taken along as a table."""

import base64
import functools
from pathlib import Path

import ipywidgets as widgets
import pandas as pd

from personagap import personas, tasks
from personagap.datasets import load
from personagap.errors import UserError
from personagap.explorer.results import Result
from personagap.explorer.shared import holds, said_in
from personagap.leaving import escaped, visible
from personagap.runs.folder import read_facts
from personagap.spelling import words

#: How a text of a chat stands, and a chat beside another.
TEXT = (
    'dir="auto" style="white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere; '
    'margin: 0"'
)
SIDE = 'style="flex: 1 1 18rem; min-width: 0"'


class Answers(widgets.VBox):
    """The chats of an identity and of the control on one item, and a way through the others."""

    def __init__(self):
        how = {"description": "search", "continuous_update": False}
        self.search = widgets.Text(placeholder="words of an answer", **how)
        self.item = widgets.Dropdown(description="item")
        self.back, self.on = (widgets.Button(description=text) for text in ("‹ previous", "next ›"))
        makes = "Makes a table of the answers found"
        self.save = widgets.Button(description="export", tooltip=makes)
        self.found, self.chats = widgets.HTML(), widgets.HTML()
        for widget in (self.back, self.on, self.save):
            widget.layout.width = "6.5rem"
        flow = widgets.Layout(flex_flow="row wrap")
        parts = [self.search, self.item, self.back, self.on, self.save, self.found]
        bar = widgets.HBox(parts, layout=flow)
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
            # Reading the answers of an identity takes longest: once, not for each item of it.
            if self._of != (run, persona, tasks):
                rows = run.answered(persona)
                self._rows = rows[rows["task"].isin(tasks)]
                self._of = (run, persona, tasks)
                self._find()
            if item in dict(self.item.options).values():
                self.item.value = item
            self._read()

    def _find(self, _=None) -> None:
        """Offer the items whose answers hold all words."""
        self.found.value = ""
        # Also by what the grader said ("wrong", "unreadable"), which is what one looks for most.
        told = self._rows["text"].fillna("") + " " + self._rows["label"] + " " + self._rows["item"]
        self._hits = self._rows[[holds(text, self.search.value) for text in told]]
        both = self._rows, self._hits
        everything, found = ((rows["task"] + " · " + rows["item"]).unique() for rows in both)
        if self.search.value.strip():
            self.found.value = f"{len(found)} of {len(everything)} items"
        self.item.options = [(_named(item), item) for item in found]
        if not self.item.options:
            self.chats.value = "<p><em>No answer holds these words.</em></p>"

    def _step(self, by: int) -> None:
        # Round and round: from the last on to the first.
        if self.item.options:
            self.item.index = (self.item.index + by) % len(self.item.options)

    def _read(self, _=None) -> None:
        if self._of and self.item.value:
            (run, persona, _), (task, _, item) = self._of, self.item.value.partition(" · ")
            self.chats.value = _side_by_side(run, task, item, persona, self._rows)

    def _export(self, _=None) -> None:
        """A link to a table of the answers found."""
        # A spreadsheet would reorder text around marks that nobody sees, as a terminal does.
        table = self._hits.assign(text=self._hits["text"].map(visible, na_action="ignore"))
        data = base64.b64encode(table.to_csv(index=False).encode()).decode()
        href = f'href="data:text/csv;base64,{data}"'
        style = 'style="color: inherit; text-decoration: underline"'
        link = f'<a download="answers.csv" {href} {style}>download answers.csv</a>'
        self.found.value = f"{link} ({len(table)} answers)"


def _named(item: str) -> str:
    """ "task · item" with the task in words; the item's name is the user's."""
    task, *rest = item.partition(" · ")
    return words(task) + "".join(rest)


def _side_by_side(run: Result, task: str, item: str, persona: str, answers: pd.DataFrame) -> str:
    """The chats behind one item, identity and control, as HTML in which every text is escaped."""
    rows = answers[(answers["task"] == task) & (answers["item"] == item)]
    # The prompt is made anew: a run keeps what was answered, and its items by name.
    asked = _items(run.folder, task)
    about = asked.loc[item] if item in asked.index else None
    prompt = "(the run's data are gone)" if about is None else tasks.prompt(about)
    sides = []
    for who in (persona, "none"):
        turns = _turns(run, who, prompt, rows["template"].iloc[0] if len(rows) else "paper")
        for row in rows[rows["persona"] == who].itertuples():
            text = "(none)" if pd.isna(row.text) else row.text
            turns.append((f"answer, {row.template}, run {row.run}: {row.label}", text))
        shown = (map(escaped, turn) for turn in turns)
        said = "".join(f"<h5>{role}</h5><pre {TEXT}>{text}</pre>" for role, text in shown)
        head = words(who) if who != "none" else "no system prompt (the control)"
        sides.append(f"<section {SIDE}><h4>{escaped(head)}</h4>{said}</section>")
    answer = "" if about is None else _right(about)
    right = f", right: <b>{escaped(answer)}</b>" if answer else ""
    # A defence changes the messages, and prompts of one's own the words: what is shown here is then
    # not what the model read.
    changed = ""
    if run.condition:
        changed += f" The chats of “{escaped(run.condition)}” differ as its notebook says."
    if own := run.facts["parameters"].get("prompts"):
        changed += f" The run asked in the words of {escaped(own)}, not in these."
    head = f"<p><b>{escaped(_named(f'{task} · {item}'))}</b>{right}.{changed}</p>"
    return f'{head}<div style="display: flex; flex-wrap: wrap; gap: 1rem">{"".join(sides)}</div>'


def _turns(run: Result, persona: str, prompt: str, template: str) -> list[tuple[str, str]]:
    """Who says what before the answer."""
    known = run.stated[["phrase", "hint"]].to_dict("index").get(persona, {})
    try:
        chat = personas.chat(persona, prompt, template=template, **known)
    except UserError:
        # The identity is of a file that is gone since.
        return [(f"system: {persona}", "(in the words of the run's own file)"), ("user", prompt)]
    return [(turn["role"], turn["content"]) for turn in chat]


def _right(item: pd.Series) -> str:
    """The right answer, or the tests that a program must pass; "" where answers are judged."""
    parts = [item["answer"], *(item["tests"] if isinstance(item["tests"], list) else [])]
    return ", ".join(str(part) for part in parts if isinstance(part, str))


@functools.cache
def _items(folder: Path, task: str) -> pd.DataFrame:
    """The items of a task by their names; empty where the run's data are no longer to be had."""
    facts = read_facts(folder)
    data = facts["parameters"].get("data", "demo")
    if data not in ("demo", "hub"):
        # A relative path starts where the run did.
        data = Path(facts["cwd"], data)
    try:
        return load([task], data).set_index("item", drop=False)
    except UserError:
        return pd.DataFrame()
