"""The form for a notebook's parameters: the command it writes,
the cost it says, the run it starts.
"""

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


def test_the_form_writes_the_command_and_says_what_it_costs(tmp_path, monkeypatch):
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
    # Data is as it was.
    assert form.request.given == {"tasks": ["mmlu", "gsm8k"], "runs": 2, "intersections": []}
    words = shlex.split(form.request.command)
    assert {*zip(words[4::3], words[5::3], strict=True)} == given.items() - {("data", "demo")}
    price = cost(form.request)
    assert (
        f"At most {price['generations']:,} requests and {price['tokens']:,} tokens"
        in form.message.value
    )
    monkeypatch.chdir(NOTEBOOKS.parent)
    said = CliRunner().invoke(main, [*words[1:], "--figures", str(tmp_path), "--dry-run"]).output
    # The very run, at the very price.
    assert form.request.id in said and f"{price['generations']:,}" in said


def test_a_value_of_another_kind_is_told_and_not_run(tmp_path):
    form = explorer.form(tmp_path)
    form.fields["runs"].value = "<b>0</b>"
    assert (
        "runs is &#x27;&lt;b&gt;0&lt;/b&gt;&#x27;: give a whole number of at least 1"
        in form.message.value
    )
    assert form.start.disabled and form.fields["runs"].tooltip == "a whole number of at least 1"
    form.fields["runs"].value = ""
    assert not form.start.disabled and form.request.given == {}
    form.fields["personas"].value = "nobody"  # the notebook's own to judge
    assert "its cost is unknown (unknown persona" in form.message.value


def test_a_notebook_is_run_from_the_form(tmp_path):
    write_notebook(tmp_path / "notebooks" / "paper" / "1.ipynb", "print(n)")
    form = Form(tmp_path / "figures", tmp_path / "notebooks")
    assert "is known while it runs" in form.message.value
    form.fields["n"].value = "5"
    form.start.click()
    wait_for(lambda: "finished in" in form.outcome.value, seconds=120)
    assert form.request.folder.joinpath("report.html").exists()
    form.fields["n"].value = "3"
    form.fields["n"].value = "5"
    assert (
        "This run is finished" in form.message.value and "text/html" in form._repr_mimebundle_()[0]
    )


def test_copies_that_jupyter_keeps_are_no_notebooks(tmp_path):
    kept = [tmp_path / name / "1.ipynb" for name in ("", "paper")]
    for notebook in kept:
        write_notebook(notebook)
        write_notebook(notebook.parent / ".ipynb_checkpoints" / "1-checkpoint.ipynb")
    assert notebooks(tmp_path) == kept
    # There the copies of the uppermost notebooks are in a folder as papers are.
    assert notebooks(tmp_path, "*/*.ipynb") == kept[1:]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*/*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_has_a_form(tmp_path, path):
    form = explorer.form(tmp_path)
    form.notebook.value = path
    assert list(form.fields) == list(Request(path).defaults) and not form.start.disabled
    assert all(row.children[1].value != "<small></small>" for row in form.parameters.children)
