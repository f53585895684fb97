"""The command line: fast help, and one line for each user error."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from notebook_helpers import COMMAND, write_notebook
from servers import completion, scripted_server

from personagap import __version__, datasets, paths
from personagap.cli import main
from personagap.datasets import annotations
from personagap.errors import UserError
from personagap.paths import DATA, NOTEBOOKS
from personagap.runs import execute
from personagap.runs.folder import read_facts
from personagap.runs.request import Request
from personagap.tasks import TASKS

#: Tasks that the demo has no data for.
ADDED = list(TASKS)[5:]


@pytest.fixture
def personagap():
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


COMMANDS = [
    [],
    ["run"],
    ["batch"],
    ["index"],
    ["report"],
    ["cite"],
    ["kernels"],
    ["data"],
    ["doctor"],
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(personagap, command):
    result = personagap(*command, "--help")
    assert result.exit_code == 0 and "Usage:" in result.output


def test_help_imports_nothing_heavy():
    check = (
        "import sys, personagap.cli; print({'torch', 'pandas', 'numpy', 'papermill', "
        "'nbconvert'} & {*sys.modules})"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", check], capture_output=True, text=True, check=True
        ).stdout
        == "set()\n"
    )


@pytest.mark.parametrize("module", ["personagap", "personagap.cli"])
def test_module_form_equals_the_command(module, tmp_path):
    command = [sys.executable, "-m", module, "report", "--figures", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        f"personagap: no folder {tmp_path}/none: give the one that runs went to, or run a "
        "notebook first\n",
    )
    assert (
        "Usage: personagap"
        in subprocess.run([*command[:3], "--help"], capture_output=True, text=True).stdout
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["run", "--nope"],
            "personagap: No such option '--nope'. Did you mean '--force'?: see {} run --help",
        ),
        (["run"], "personagap: Missing argument 'NOTEBOOK': see {} run --help"),
        (["store", "nope"], "personagap: No such command 'nope': see {} store --help"),
        (["--nope"], "personagap: No such option '--nope': see {} --help"),
        (
            ["run", "x", "-p", "n"],
            "personagap: Option '-p' requires 2 arguments: see {} run --help",
        ),
        (
            ["batch", "x", "--jobs"],
            "personagap: Option '--jobs' requires an argument: see {} batch --help",
        ),
        (
            ["data", "--template"],
            "personagap: Option '--template' requires an argument: see {} data --help",
        ),
    ],
)
def test_misused_command_is_a_one_line_error(personagap, arguments, line):
    result = personagap(*arguments)
    assert (result.exit_code, result.stderr) == (2, line.format("main") + "\n")


def test_user_error_is_one_line_and_exit_status_2(personagap, tmp_path):
    notebook = write_notebook(tmp_path / "p" / "1.ipynb")
    for arguments, error in [
        (["run", notebook, "-p", "m", "1"], "1.ipynb has no parameter 'm'; it has: n"),
        (["run", notebook, "-p", "n", "[1"], "cannot read the value [1"),
        (["run", notebook, "-p", "n", "1", "-p", "n", "2"], "-p n is given twice"),
        # A name in Latin-1, as Python reads it.
        (["run", notebook, "-p", "n", "caf\udce9"], "n is 'caf\\udce9': write it in UTF-8"),
        (["run", notebook, "--figures", "caf\udce9"], "is no path"),
        (["run", tmp_path / "none.ipynb"], "no notebook"),
        (["batch", tmp_path / "none.yaml"], "none.yaml: no such file"),
        (["run", "."], "not a notebook"),
        (["run", notebook, "--kernel", "nix"], "no kernel 'nix'"),
        (["data", tmp_path / "none"], f"no folder {tmp_path}/none"),
        (["doctor", tmp_path / "none"], f"no folder {tmp_path}/none"),
        (["report", "--figures", tmp_path / "none" / "x"], f"no folder {tmp_path}/none/x"),
    ]:
        result = personagap(*arguments)
        assert result.exit_code == 2 and error in result.stderr and result.stderr.count("\n") == 1
    dry = personagap("run", notebook, "--kernel", "nix", "--dry-run")
    # On a cluster it may exist only on the workers.
    assert dry.exit_code == 0 and "no kernel 'nix'" in dry.stderr and dry.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "used"), [("", DATA / "cache"), ("~/x", Path.home() / "x"), ("x", Path("x"))]
)
def test_an_empty_cache_variable_is_none_and_a_home_is_expanded(given, used):
    show = "from personagap import paths; print(paths.CACHE)"
    command = [sys.executable, "-c", show]
    environment = {**os.environ, "PERSONAGAP_CACHE": given}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{used}\n"


def test_closed_pipe_is_silent():
    done = subprocess.run(f"{shlex.join(COMMAND)} data | true", shell=True, capture_output=True)
    assert done.stderr == b""


def test_command_needs_no_terminal(tmp_path):
    write_notebook(tmp_path / "p" / "1.ipynb", "import os\nos.write(2, b'told')\n1 / 0")
    command = f"{shlex.join(COMMAND)} run p/1.ipynb --figures f <&- >&- 2>&-"
    assert subprocess.run(command, shell=True, cwd=tmp_path).returncode == 1
    (folder,) = tmp_path.glob("f/p/1/*")
    assert read_facts(folder)["error"].startswith("ZeroDivisionError")
    assert "told" in (folder / "stderr.log").read_text()


@pytest.mark.parametrize("name", ["a" * 300, "a/" * 3000])
def test_overlong_file_name_is_reported_as_such(personagap, tmp_path, name):
    notebook = write_notebook(tmp_path / "p" / "1.ipynb")
    result = personagap("run", notebook, "--figures", tmp_path / name)
    assert result.exit_code == 2 and "File name too long: name a folder" in result.stderr
    assert "damaged" not in result.stderr


def test_report_command_creates_no_folders(personagap, tmp_path):
    personagap("report", "--figures", tmp_path / "none" / "x")
    assert not (tmp_path / "none").exists()


def test_notebook_is_found_by_name(personagap, tmp_path):
    """One of the project; an unknown name lists the known ones, and the shell completes names."""
    for name in ("2_relevance", "2_relevance.ipynb", "recentering/2_relevance"):
        result = personagap("run", name, "-p", "nothing", "1", "--figures", tmp_path)
        assert result.exit_code == 2
        assert "2_relevance.ipynb has no parameter 'nothing'" in result.stderr
    result = personagap("run", "2_relevanc", "--figures", tmp_path)
    assert result.exit_code == 2 and "no notebook" in result.stderr
    assert ", 2_relevance, " in result.stderr
    environment = os.environ | {
        "_PERSONAGAP_COMPLETE": "bash_complete",
        "COMP_WORDS": "personagap run 2_re",
    }
    command = [
        sys.executable,
        "-c",
        "from personagap.cli import main; main(prog_name='personagap')",
    ]
    done = subprocess.run(
        command, env=environment | {"COMP_CWORD": "2"}, capture_output=True, text=True
    )
    assert done.stdout == "plain,2_relevance\n"


def test_paths_are_displayed_relative_to_the_working_directory(personagap, tmp_path, monkeypatch):
    (tmp_path / "figures").mkdir()
    monkeypatch.chdir(tmp_path)
    for command in ("index", "report"):
        assert personagap(command, "--figures", "figures").output == "figures/index.html\n"
    assert paths.display_path("/x") == "/x"


@pytest.mark.parametrize("stage", ["extraction", "relevance", "response"])
def test_example_judgments_are_written_and_readable_under_any_name(
    personagap, tmp_path, monkeypatch, stage
):
    monkeypatch.chdir(tmp_path)
    output = personagap("data", "--template", stage).output.splitlines()
    written = tmp_path / output[-1]
    columns = written.read_text().splitlines()[0].split(",")
    assert [line.split()[0] for line in output[:-2]] == columns
    assert all(len(line.split()) > 2 for line in output[:-2])
    again = personagap("data", "--template", stage)
    assert again.exit_code == 2 and "is there already" in again.stderr
    written.rename(tmp_path / "anything.csv")
    items, judgments = datasets.load_judgments(stage, tmp_path)
    judgments = judgments[judgments["rater"] != "human_majority"]
    assert len(items) == 2
    assert judgments["rater_kind"].value_counts().to_dict() == {
        "human": 4,
        "model": 2,
    }
    assert set(judgments["label"]) <= {*annotations.SCALES[stage].values()}
    if stage == "relevance":
        assert len(datasets.load_relevance(tmp_path)[0]) == 2
        # The name of the wide format.
        (tmp_path / "anything.csv").rename(tmp_path / "relevance_judgments.csv")
        assert len(datasets.load_relevance(tmp_path)[0]) == 2


@pytest.mark.parametrize("name", [None, "relevance_judgments.csv"])
def test_missing_judgments_name_the_command_that_writes_an_example(tmp_path, name):
    if name:
        (tmp_path / name).write_text("prompt,user,answer\np,u,yes\n")
    with pytest.raises(UserError, match="personagap data --template relevance"):
        datasets.load_relevance(tmp_path)


def test_run_prints_how_to_cite_it(personagap, tmp_path):
    save = """
import pandas as pd
from personagap.runs import open_run
run = open_run(output)
source = {"task": "mmlu", "rows": 64, "source": "folder", "licence": "MIT"}
run.record(model={"model": "org/name", "revision": "abc123"}, data=[source])
sizes = {"dimension": ["mmlu", "joint"], "n_items": 64, "n_identities": 31, "n_runs": 3}
sizes["p_adjusted"] = 0.5
run.save(personalization_bias=pd.DataFrame(sizes))
"""
    parameters = "seed = 7\nprotocol = 'paper'\noutput = None"
    text = "# A trial\n\nAs in arXiv 2406.11107."
    notebook = write_notebook(
        tmp_path / "p" / "1_trial.ipynb", save, parameters=parameters, text=text
    )
    assert personagap("run", notebook, "--figures", tmp_path / "f").exit_code == 0
    (folder,) = tmp_path.glob("f/p/1_trial/*")
    output = personagap("cite", folder).output
    revision = json.loads((folder / "run.json").read_text())["revision"] or "unknown"
    for part in (
        f"org/name (revision abc123) was asked with 1_trial of personagap {__version__} (git "
        f"{revision[:12]}",
        "mmlu (64 rows)",
        "64 items, 31 identities, 3 independent",
        "Random seed: 7. Grading protocol: paper. P-values are adjusted by Holm's method",
        "@software{personagap,",
        "@misc{arxiv:2406.11107,\n  title = {{Exploring Safety-Utility Trade-Offs",
        "author = {Vijjini and Basu Roy Chowdhury and Chaturvedi}",
    ):
        assert part in output
    assert "2606.06614" not in output
    result = personagap("cite", tmp_path)
    assert result.exit_code == 2 and "is no finished run" in result.stderr
    facts = json.loads((folder / "run.json").read_text())
    for damaged in ({**facts, "notebook": 3}, {**facts, "versions": None}, {**facts, "model": 3}):
        (folder / "run.json").write_text(json.dumps(damaged))
        result = personagap("cite", folder)
        assert result.exit_code == 2
        assert "cannot be cited" in result.stderr
        assert "Traceback" not in result.stderr
    table = (folder / "tables" / "personalization_bias.tex").read_text()
    caption = (
        "Personalization bias (items: 64; identities: 31; answers per item: 3; p (Holm): 0.500)."
    )
    assert rf"\caption{{{caption}}}" in table and r"\label{tab:personalization_bias}" in table
    assert [line.strip() for line in table.splitlines() if line.endswith(r"\\")] == [
        r"dimension \\", r"mmlu \\", r"joint \\"
    ]  # fmt: skip


def test_data_command_shows_where_each_data_set_is_or_comes_from(personagap, tmp_path):
    lines = personagap("data").output.splitlines()
    assert [line.split()[1] for line in lines if not line.startswith("present")] == [
        *ADDED,
        "evaluation",
    ]
    lines = personagap("data", tmp_path).output.splitlines()
    assert len(lines) == 10 + len(ADDED) and all(line.startswith("absent") for line in lines)
    assert "cais/mmlu" in lines[0]


def test_doctor_describes_the_machine(personagap):
    result = personagap("doctor")
    assert result.exit_code == 0
    names = {line.split()[1] for line in result.output.splitlines()}
    assert {
        "Python",
        "PyTorch",
        "GPU",
        "disk",
        "sandbox",
        "mmlu",
        "relevance",
        "dask",
        "lab",
        "smollm2",
    } <= names


def test_without_a_sandbox_doctor_and_data_say_what_is_missing(no_sandbox, personagap):
    lines = {line.split()[1]: line for line in personagap("doctor").output.splitlines()}
    assert lines["sandbox"].startswith("absent") and "cannot start" in lines["sandbox"]
    assert "leave mbpp out, or set PERSONAGAP_UNSAFE_EXEC=1" in lines["sandbox"]
    assert lines["mbpp"].startswith("present")


def test_without_a_sandbox_the_first_notebook_reports_the_tasks_it_left_out(
    no_sandbox, tmp_path, monkeypatch
):
    """In its output, its report and run.json; with a sandbox the run is repeated."""
    notebook = nbformat.read(
        NOTEBOOKS / "safety_utility" / "1_personalization_bias.ipynb", as_version=4
    )
    (loads,) = (place for place, cell in enumerate(notebook.cells) if "left_out=" in cell.source)
    notebook.cells = notebook.cells[: loads + 1]  # no requests needed
    nbformat.write(notebook, tmp_path / "1_personalization_bias.ipynb")
    # A served model needs no torch.
    with scripted_server(lambda body: (200, completion())) as url:
        given = {"items_per_task": 4, "model": f"openai:m@{url}"}
        request = Request(
            tmp_path / "1_personalization_bias.ipynb", given, None, tmp_path / "figures"
        )
        facts = execute.run(request)
    assert facts["status"] == "finished", facts["error"]
    line, *others = facts["left_out"]
    assert len(others) == len(ADDED)
    assert re.match(r"mbpp: no sandbox .*cannot start: Creating new namespace failed", line)
    assert f"{line}, task skipped" in (request.folder / "notebook.ipynb").read_text()
    row = f'<th scope="row">Left out</th><td>{"; ".join([line, *others])}</td>'
    page = (request.folder / "report.html").read_text()
    assert row in page and '<th scope="row">Sandbox</th><td>no sandbox' in page
    assert facts["sandbox"].startswith("no sandbox")
    assert execute.finished(request)
    monkeypatch.setenv("PERSONAGAP_UNSAFE_EXEC", "1")
    assert not execute.finished(request)


def test_run_uses_an_installed_kernel(personagap, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda number: f"Model {number}")
    assert personagap("kernels", "--prefix", tmp_path).exit_code == 0
    for name, visible in {"cpu": "", "gpu0": "0", "gpu1": "1"}.items():
        spec = json.loads(
            (tmp_path / f"share/jupyter/kernels/personagap-{name}/kernel.json").read_text()
        )
        assert spec["argv"][0] == sys.executable
        assert spec["env"] == {"CUDA_VISIBLE_DEVICES": visible}
    assert spec["display_name"] == "personagap (GPU 1: Model 1)"
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share/jupyter"))
    notebook = write_notebook(
        tmp_path / "p" / "1.ipynb", "import os; assert os.environ['CUDA_VISIBLE_DEVICES'] == ''"
    )
    result = personagap(
        "run", notebook, "--kernel", "personagap-cpu", "--figures", tmp_path / "figures"
    )
    assert result.exit_code == 0, result.output
