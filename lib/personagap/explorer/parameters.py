"""A form for a notebook's parameters: it shows the command and the cost of the run, and runs it."""

import contextlib
import math
import threading
import warnings
from html import escape
from pathlib import Path

import ipywidgets as widgets
import pandas as pd
import papermill

from personagap.explorer.shared import LOCK, show_errors_in
from personagap.formatting import humanize
from personagap.parameters import describe
from personagap.paths import NOTEBOOKS, ROOT, notebooks
from personagap.runs import batch, execute
from personagap.runs.request import Request
from personagap.runs.values import format_value, parse_value

FIRST = "1_personalization_bias"
STYLE, WIDTH = {"description_width": "8rem"}, "calc(min(100%, 26rem) - 4px)"


class Form(widgets.VBox):
    """Fields for a notebook and its parameters; the command holds those that are not defaults."""

    def __init__(self, figures: Path, folder: Path = NOTEBOOKS):
        self._figures = figures
        paths = notebooks(folder, "*/*.ipynb")
        options = [(humanize(f"{path.parent.name} / {path.stem}"), path) for path in paths]
        first = next((path for path in paths if path.stem == FIRST), paths[0])
        how = {"description": "notebook", "style": STYLE}
        self.notebook = widgets.Dropdown(options=options, value=first, **how)
        self.notebook.layout.width = WIDTH
        self.fields: dict[str, widgets.Text] = {}
        self.parameters, self.message = widgets.VBox(), widgets.HTML()
        tooltip = "Runs here, while the form can be used"
        self.start = widgets.Button(description="run", tooltip=tooltip)
        self.outcome = widgets.HTML()
        super().__init__([self.notebook, self.parameters, self.message, self.start, self.outcome])
        self.notebook.observe(self._make_fields, "value")
        self.start.on_click(self._run)
        self._make_fields()

    @property
    def request(self) -> Request:
        """The requested run; `UserError` for a value of the wrong kind."""
        defaults = Request(self.notebook.value).defaults
        texts = {name: field.value.strip() for name, field in self.fields.items()}
        # Unchanged defaults are not passed on: the name and the command of a run hold changes only,
        # and if a default changes later, the command follows it.
        unchanged = {name: ("", format_value(defaults[name])) for name in texts}
        changed = {name: text for name, text in texts.items() if text not in unchanged[name]}
        values = {name: parse_value(text) for name, text in changed.items()}
        return Request(self.notebook.value, values, figures=self._figures, cwd=ROOT)

    def _make_fields(self, _=None) -> None:
        """Make a field for each parameter, with its default, kind and the notebook's comment."""
        # papermill reads the comments in the cell of parameters, but not their kinds and defaults.
        request = Request(self.notebook.value)
        comments = papermill.inspect_notebook(str(self.notebook.value))
        self.fields, rows = {}, []
        for name, default in request.defaults.items():
            kind = describe(request.kinds[name])
            text = "" if default is None else format_value(default)
            labels = {"description": name, "placeholder": text or "None", "tooltip": kind}
            field = widgets.Text(text, **labels, style=STYLE, continuous_update=False)
            field.layout.width = WIDTH
            field.observe(self._describe, "value")
            comment = comments.get(name, {}).get("help") or kind
            note = widgets.HTML(f"<small>{escape(comment)}</small>")
            self.fields[name] = field
            rows.append(widgets.HBox([field, note], layout=widgets.Layout(flex_flow="row wrap")))
        self.parameters.children = rows
        self._describe()

    def _describe(self, _=None) -> None:
        """Show the command and its cost, or an error message."""
        with LOCK:
            # Disabled until the values turn out to be valid
            self.start.disabled = True
            with show_errors_in(self.message):
                command = f"<pre style='white-space: pre-wrap'>{escape(self.request.command)}</pre>"
                self.message.value = f"{command}<p>{escape(self._cost())}</p>"
                self.start.disabled = False

    def _cost(self) -> str:
        """Return the estimate of `personagap run --dry-run` in words."""
        # The reason for an unknown cost is a warning, which a widget would not show.
        with warnings.catch_warnings(record=True) as caught:
            (row,) = batch.plan([self.request], force=False).to_dict("records")
        if row["state"] == "finished":
            return "This run is finished: the command would ask nothing, and say where it is."
        if not math.isfinite(row["generations"]):
            reasons = ". ".join(str(warning.message) for warning in caught)
            return reasons or "How often it asks a model, if it does, is known while it runs."
        tokens = "" if pd.isna(row["tokens"]) else f" and {row['tokens']:,.0f} tokens"
        text = f"At most {row['generations']:,.0f} requests{tokens}, less what is stored."
        if not pd.isna(row["pace"]):
            text += f" About {max(1, row['seconds'] / 60):,.0f} min, at the pace of {row['pace']}."
        if not pd.isna(row["detectable"]):
            # No two scores differ by more than 100 points.
            least = f"Differences from the control of {row['detectable']:.0f} points"
            what = least if row["detectable"] <= 100 else "No difference from the control"
            text += f" {what} would be seen (80 % power, at worst)."
        return text

    def _run(self, _=None) -> None:
        """Run the notebook in a process of its own, while the form stays usable."""

        def run() -> None:
            # The button is enabled again, whether the run succeeds or fails.
            with show_errors_in(self.outcome), contextlib.ExitStack() as cleanup:
                cleanup.callback(setattr, self.start, "disabled", False)
                facts = execute.run(request)
                self.outcome.value = f"<p>{escape(execute.describe(facts, request.folder))}</p>"

        with show_errors_in(self.outcome):
            request = self.request
            self.start.disabled, self.outcome.value = True, f"<p>{escape(request.id)} runs …</p>"
            threading.Thread(target=run, daemon=True).start()

    def _repr_mimebundle_(self, **how) -> tuple[dict, dict]:
        """Add the command, for pages without a kernel."""
        return super()._repr_mimebundle_(**how) | {"text/html": self.message.value}, {}
