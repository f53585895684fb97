"""A form for a notebook's parameters, which writes the command for the run, says what that costs,
and runs it.
"""

import contextlib
import math
import threading
import warnings
from html import escape
from pathlib import Path

import ipywidgets as widgets
import pandas as pd
import papermill

from personagap.explorer.shared import LOCK, said_in
from personagap.parameters import describe
from personagap.paths import NOTEBOOKS, ROOT, notebooks
from personagap.runs import batch, execute
from personagap.runs.request import Request
from personagap.runs.values import format_value, parse_value
from personagap.spelling import words

FIRST = "1_personalization_bias"
STYLE, WIDTH = {"description_width": "8rem"}, "calc(min(100%, 26rem) - 4px)"


class Form(widgets.VBox):
    """A notebook is chosen, and its parameters; what differs from defaults is in the command."""

    def __init__(self, figures: Path, folder: Path = NOTEBOOKS):
        self._figures = figures
        paths = notebooks(folder, "*/*.ipynb")
        options = [(words(f"{path.parent.name} / {path.stem}"), path) for path in paths]
        first = next((path for path in paths if path.stem == FIRST), paths[0])
        how = {"description": "notebook", "style": STYLE}
        self.notebook = widgets.Dropdown(options=options, value=first, **how)
        self.notebook.layout.width = WIDTH
        self.fields: dict[str, widgets.Text] = {}
        self.parameters, self.said = widgets.VBox(), widgets.HTML()
        told = "Runs here, while the form can be used"
        self.start = widgets.Button(description="run", tooltip=told)
        self.ended = widgets.HTML()
        super().__init__([self.notebook, self.parameters, self.said, self.start, self.ended])
        self.notebook.observe(self._offer, "value")
        self.start.on_click(self._run)
        self._offer()

    @property
    def request(self) -> Request:
        """The run that the form asks for; `UserError` for a value not of its parameter's kind."""
        defaults = Request(self.notebook.value).defaults
        texts = {name: field.value.strip() for name, field in self.fields.items()}
        # What stands in the field as the default is not given: the run's name and its command hold
        # what was changed, and a default that changes later applies to it.
        same = {name: ("", format_value(defaults[name])) for name in texts}
        given = {name: text for name, text in texts.items() if text not in same[name]}
        values = {name: parse_value(text) for name, text in given.items()}
        return Request(self.notebook.value, values, figures=self._figures, cwd=ROOT)

    def _offer(self, _=None) -> None:
        """A field for each parameter, with its default, kind and what the notebook says."""
        # papermill reads what stands behind each line of the cell; kinds and defaults it would
        # lose.
        request = Request(self.notebook.value)
        told = papermill.inspect_notebook(str(self.notebook.value))
        self.fields, rows = {}, []
        for name, default in request.defaults.items():
            kind = describe(request.kinds[name])
            text = "" if default is None else format_value(default)
            about = {"description": name, "placeholder": text or "None", "tooltip": kind}
            field = widgets.Text(text, **about, style=STYLE, continuous_update=False)
            field.layout.width = WIDTH
            field.observe(self._say, "value")
            help_text = told.get(name, {}).get("help") or kind
            told_of = widgets.HTML(f"<small>{escape(help_text)}</small>")
            self.fields[name] = field
            rows.append(widgets.HBox([field, told_of], layout=widgets.Layout(flex_flow="row wrap")))
        self.parameters.children = rows
        self._say()

    def _say(self, _=None) -> None:
        """The command and its cost, or what is wrong."""
        with LOCK:
            # Until the values are known to be sound.
            self.start.disabled = True
            with said_in(self.said):
                command = f"<pre style='white-space: pre-wrap'>{escape(self.request.command)}</pre>"
                self.said.value = f"{command}<p>{escape(self._cost())}</p>"
                self.start.disabled = False

    def _cost(self) -> str:
        """What `personagap run --dry-run` says, in words."""
        # Why a cost is unknown is a warning, which a widget would not show.
        with warnings.catch_warnings(record=True) as unknown:
            (row,) = batch.plan([self.request], force=False).to_dict("records")
        if row["state"] == "finished":
            return "This run is finished: the command would ask nothing, and say where it is."
        if not math.isfinite(row["generations"]):
            reasons = ". ".join(str(warning.message) for warning in unknown)
            return reasons or "How often it asks a model, if it does, is known while it runs."
        tokens = "" if pd.isna(row["tokens"]) else f" and {row['tokens']:,.0f} tokens"
        text = f"At most {row['generations']:,.0f} requests{tokens}, less what is stored."
        if not pd.isna(row["pace"]):
            text += f" About {max(1, row['seconds'] / 60):,.0f} min, at the pace of {row['pace']}."
        seen = (
            f" Differences from the control of {row['detectable']:.0f} points would be seen "
            "(80 % power, at worst)."
        )
        return text if pd.isna(row["detectable"]) else text + seen

    def _run(self, _=None) -> None:
        """Run the notebook in a process of its own, while the form can be used."""

        def run() -> None:
            # However it ends, the form can be used again.
            with said_in(self.ended), contextlib.ExitStack() as after:
                after.callback(setattr, self.start, "disabled", False)
                facts = execute.run(request)
                self.ended.value = f"<p>{escape(execute.describe(facts, request.folder))}</p>"

        with said_in(self.ended):
            request = self.request
            self.start.disabled, self.ended.value = True, f"<p>{escape(request.id)} runs …</p>"
            threading.Thread(target=run, daemon=True).start()

    def _repr_mimebundle_(self, **how) -> tuple[dict, dict]:
        """For a page without a kernel, the command."""
        return super()._repr_mimebundle_(**how) | {"text/html": self.said.value}, {}
