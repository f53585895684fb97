"""The command line: quick help, one line for a mistake."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from notebooks_for_tests import write_notebook

from personagap.cli import main


@pytest.fixture
def personagap():
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", [[], ["run"], ["batch"], ["report"], ["kernels"], ["data"], ["doctor"]])
def test_every_command_has_help(personagap, command):
    result = personagap(*command, "--help")
    assert result.exit_code == 0 and "Usage:" in result.output


def test_help_loads_nothing_heavy():
    check = "import sys, personagap.cli; print({'torch', 'pandas', 'numpy', 'papermill', 'nbconvert'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_mistake_is_one_line_and_exit_status_2(personagap, tmp_path):
    notebook = write_notebook(tmp_path / "p" / "1.ipynb")
    for arguments, error in [
        (["run", notebook, "-p", "m", "1"], "1.ipynb has no parameter 'm'; it has: n"),
        (["run", notebook, "-p", "n", "[1"], "cannot read the value [1"),
        (["run", tmp_path / "none.ipynb"], "no notebook"),
        (["batch", tmp_path / "none.yaml"], "no batch file"),
        (["run", notebook, "--kernel", "nix"], "no kernel 'nix'"),
        (["data", tmp_path / "none"], f"no folder {tmp_path}/none"),
        (["doctor", tmp_path / "none"], f"no folder {tmp_path}/none"),
        (["report", "--figures", tmp_path / "none" / "x"], f"no folder {tmp_path}/none/x"),
    ]:
        result = personagap(*arguments)
        assert result.exit_code == 2 and error in result.stderr and result.stderr.count("\n") == 1


def test_a_report_makes_no_folders(personagap, tmp_path):
    personagap("report", "--figures", tmp_path / "none" / "x")
    assert not (tmp_path / "none").exists()


def test_data_says_where_each_set_is_or_where_to_get_it(personagap, tmp_path):
    lines = personagap("data").output.splitlines()
    assert [line.split()[1] for line in lines if not line.startswith("present")] == ["evaluation"]
    lines = personagap("data", tmp_path).output.splitlines()
    assert len(lines) == 10 and all(line.startswith("absent") for line in lines)
    assert "cais/mmlu" in lines[0]


def test_doctor_reports_the_machine(personagap):
    result = personagap("doctor")
    assert result.exit_code == 0
    names = {line.split()[1] for line in result.output.splitlines()}
    assert {"Python", "PyTorch", "GPU", "disk", "sandbox", "mmlu", "relevance", "dask", "lab"} <= names


def test_a_run_on_an_installed_kernel(personagap, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda number: f"Model {number}")
    assert personagap("kernels", "--prefix", tmp_path).exit_code == 0
    for name, visible in {"cpu": "", "gpu0": "0", "gpu1": "1"}.items():
        spec = json.loads((tmp_path / f"share/jupyter/kernels/personagap-{name}/kernel.json").read_text())
        assert spec["argv"][0] == sys.executable and spec["env"] == {"CUDA_VISIBLE_DEVICES": visible}
    assert spec["display_name"] == "personagap (GPU 1: Model 1)"
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share/jupyter"))
    notebook = write_notebook(tmp_path / "p" / "1.ipynb", "import os; assert os.environ['CUDA_VISIBLE_DEVICES'] == ''")
    result = personagap("run", notebook, "--kernel", "personagap-cpu", "--figures", tmp_path / "figures")
    assert result.exit_code == 0, result.output
