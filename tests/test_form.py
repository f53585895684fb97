"""The form for a notebook's parameters: its command, its cost estimate and the run it starts."""

import shlex

import pytest
from click.testing import CliRunner
from notebook_helpers import wait_for, write_notebook

from personagap import explorer
from personagap.cli import main
from personagap.explorer.parameters import Form
from personagap.paths import NOTEBOOKS, notebooks
from personagap.runs.costs import cost
from personagap.runs.request import Request

BIAS = NOTEBOOKS / "safety_utility" / "1_personalization_bias.ipynb"


def test_form_promises_no_difference_beyond_all_scores(tmp_path):
    form = explorer.form(tmp_path)
    form.fields["items_per_task"].value = "1"
    assert " No difference from the control would be seen" in form.message.value
    form.fields["items_per_task"].value = "8"
    assert " Differences from the control of 70 points would be seen" in form.message.value


def test_form_shows_the_command_and_its_cost(tmp_path, monkeypatch):
    form = explorer.form(tmp_path)
    assert form.notebook.value == BIAS and list(form.fields) == list(Request(BIAS).defaults)
    assert (
        "personagap run notebooks/safety_utility/1_personalization_bias.ipynb</pre>"
        in form.message.value
    )
    assert (form.fields["identities"].value, form.fields["identities"].placeholder) == ("", "None")
    given = {"tasks": '["mmlu", "gsm8k"]', "runs": "2", "data": "demo", "intersections": "[]"}
    for name, text in given.items():
        form.fields[name].value = text
    # "data" has its default value and is left out.
    assert form.request.given == {"tasks": ["mmlu", "gsm8k"], "runs": 2, "intersections": []}
    words = shlex.split(form.request.command)
    assert {*zip(words[4::3], words[5::3], strict=True)} == given.items() - {("data", "demo")}
    price = cost(form.request)
    assert (
        f"At most {price['generations']:,} requests and {price['tokens']:,} tokens"
        in form.message.value
    )
    monkeypatch.chdir(NOTEBOOKS.parent)
    output = CliRunner().invoke(main, [*words[1:], "--figures", str(tmp_path), "--dry-run"]).output
    # The command plans the same run at the same cost.
    assert form.request.id in output and f"{price['generations']:,}" in output


def test_invalid_value_is_reported_and_disables_the_start_button(tmp_path):
    form = explorer.form(tmp_path)
    form.fields["runs"].value = "<b>0</b>"
    assert (
        "runs is &#x27;&lt;b&gt;0&lt;/b&gt;&#x27;: give a whole number of at least 1"
        in form.message.value
    )
    assert form.start.disabled and form.fields["runs"].tooltip == "a whole number of at least 1"
    form.fields["runs"].value = ""
    assert not form.start.disabled and form.request.given == {}
    form.fields["personas"].value = "nobody"  # only the notebook checks this value
    assert "its cost is unknown (unknown persona" in form.message.value


def test_form_runs_a_notebook(tmp_path):
    write_notebook(tmp_path / "notebooks" / "paper" / "1.ipynb", "print(n)")
    form = Form(tmp_path / "figures", tmp_path / "notebooks")
    assert "is known while it runs" in form.message.value
    form.fields["n"].value = "5"
    form.start.click()
    wait_for(lambda: "finished in" in form.outcome.value, seconds=120)
    assert form.request.folder.joinpath("report.html").exists()
    form.fields["n"].value = "3"
    form.fields["n"].value = "5"
    assert "This run is finished" in form.message.value
    assert "text/html" in form._repr_mimebundle_()[0]


def test_jupyter_checkpoints_are_not_listed_as_notebooks(tmp_path):
    originals = [tmp_path / name / "1.ipynb" for name in ("", "paper")]
    for notebook in originals:
        write_notebook(notebook)
        write_notebook(notebook.parent / ".ipynb_checkpoints" / "1-checkpoint.ipynb")
    assert notebooks(tmp_path) == originals
    # For this pattern .ipynb_checkpoints looks like the folder of a paper.
    assert notebooks(tmp_path, "*/*.ipynb") == originals[1:]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*/*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_has_a_form(tmp_path, path):
    form = explorer.form(tmp_path)
    form.notebook.value = path
    assert list(form.fields) == list(Request(path).defaults) and not form.start.disabled
    assert all(row.children[1].value != "<small></small>" for row in form.parameters.children)
