"""Progress of a run: in a terminal, in a batch, in JupyterLab, and as plain lines."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest
from notebook_helpers import write_notebook
from servers import counting_server

from personagap import progress
from personagap.models import Generation
from personagap.responses import ResponseStore, complete
from personagap.runs import watch

#: Asks 40 questions, 16 at a time.
ASKS = """
from personagap import ask, models
prompts = [f"question {n} {number}" for number in range(40)]
texts = ask.texts(models.load_model(model), prompts, 0.0, 0)
assert None not in texts
"""
#: The command line with a shorter reporting interval.
COMMAND = (
    "from personagap.runs import watch\nwatch.MINUTE = 0.3\nfrom personagap.cli import main\nmain()"
)
LINE = (
    r"m-[0-9a-f]{8}: \d+ of 40 requests, [\d,]+ tokens/s, \d\d:\d\d left · asking m · cell "
    r"\[4\], Ask them"
)


def answer_all(rows, keep):
    for i, _ in enumerate(rows):
        keep(i, Generation("text", "stop", 3, 50, 0.1))


def batch_of_two(folder, url):
    """The command and options for a batch of two runs, whose notebook asks in its second
    section.
    """
    parameters = f'model = "openai:m@{url}"\nn = 1\noutput = None'
    write_notebook(
        folder / "p" / "1.ipynb", "1", ASKS, parameters=parameters, text="# A trial\n\n## Ask them"
    )
    (folder / "batch.yaml").write_text("runs: [{notebook: p/1.ipynb, grid: {n: [1, 2]}}]")
    arguments = ["batch", "batch.yaml", "--jobs", "2", "--figures", "figures"]
    environment = os.environ | {"PERSONAGAP_CACHE": str(folder / "cache")}
    return [sys.executable, "-c", COMMAND, *arguments], {"cwd": folder, "env": environment}


@pytest.mark.slow
def test_without_a_terminal_a_batch_prints_a_line_per_run_every_minute(tmp_path):
    with counting_server("question", seconds=0.5) as (url, _):
        command, how = batch_of_two(tmp_path, url)
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, **how)
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stderr.splitlines() if re.fullmatch(LINE, line)]
    assert len({line.split()[0] for line in lines}) == 2, done.stderr
    assert "\r" not in done.stderr and not [*tmp_path.rglob(watch.PROGRESS)]


def test_in_a_terminal_each_run_has_a_line_that_is_updated(tmp_path):
    with counting_server("question", seconds=1.0) as (url, _):  # slow enough for several updates
        command, how = batch_of_two(tmp_path, url)
        ours, theirs = pty.openpty()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, **how)
        os.close(theirs)
        output = b""
        try:
            while part := os.read(ours, 1 << 16):
                output += part
        except OSError:  # the terminal's other end is closed
            os.close(ours)
    assert process.wait(60) == 0
    assert len({*re.findall(r"m-[0-9a-f]{8}: \d+ of 40", output.decode())}) > 2
    assert b"\r" in output and b"\x1b[A" in output  # carriage return, and cursor up


def test_jupyterlab_shows_a_progress_bar(tmp_path):
    code = "import sys\nsys.path.insert(0, PATH)\nfrom test_progress import *\n"
    code = code.replace("PATH", repr(os.path.dirname(__file__)))
    code += "complete(ResponseStore('m', 'stored'), ['a', 'b'], answer_all, title='asking m');"
    path = write_notebook(tmp_path / "1.ipynb", code)
    environment = {name: value for name, value in os.environ.items() if name != progress.FILE}
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", path.name]
    subprocess.run(
        command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=120
    )
    notebook = json.loads(path.read_text())
    (shown,) = notebook["cells"][-1]["outputs"]
    assert "application/vnd.jupyter.widget-view+json" in shown["data"]
    assert re.search(
        r"2/2\s.*tokens/s", json.dumps(notebook["metadata"]["widgets"], ensure_ascii=False)
    )


def test_without_a_terminal_progress_is_printed_every_minute(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv(progress.FILE, raising=False)
    complete(ResponseStore("m", tmp_path / "1"), ["a", "b"], answer_all, title="asking m")
    assert capsys.readouterr().err == ""  # sooner than a minute
    monkeypatch.setattr(progress, "MINUTE", 0.0)
    complete(ResponseStore("m", tmp_path / "2"), ["a", "b"], answer_all, title="asking m")
    assert re.search(
        r"^2 of 2 requests, [\d,]+ tokens/s, 00:00 left · asking m$", capsys.readouterr().err, re.M
    )


@pytest.mark.parametrize("place", ["run", "nowhere"])
def test_progress_file_redacts_secrets_and_is_optional(tmp_path, monkeypatch, place):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-MARKER-0123456789")
    (tmp_path / "run").mkdir()
    file = tmp_path / place / watch.PROGRESS
    monkeypatch.setenv(progress.FILE, str(file))
    seen = []
    if place == "run":
        file.write_text("cell [1]")

    def asked(rows, keep):
        answer_all(rows, keep)
        seen.append(file.read_text() if place == "run" else "")

    store = ResponseStore("m", tmp_path / "stored")
    answers = complete(store, ["a", "b"], asked, title="asking \x1b[2J sk-MARKER-0123456789")
    assert len(answers) == 2
    if place == "run":
        assert seen == ["cell [1]\n0 of 2 requests, ? left · asking [U+001B][2J ***"]
        assert file.read_text() == "cell [1]\n"
        assert watch.state(file.parent) == ""  # that run is not locked


def test_progress_is_shown_only_of_runs_under_way(tmp_path):
    from personagap.runs.lock import lock

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / watch.PROGRESS).write_text("cell [2], Ask\n1 of 2 requests · asking m")
    assert watch.state(tmp_path / "run") == ""  # left behind
    descriptor = lock(tmp_path / "run")
    assert watch.state(tmp_path / "run") == "run: 1 of 2 requests · asking m · cell [2], Ask"
    os.close(descriptor)
