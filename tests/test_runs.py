"""Runs with real processes: papermill, kernels, kills."""

import errno
import functools
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import papermill
import psutil
import pytest
from fontTools.ttLib import TTFont
from notebook_helpers import COMMAND, HANGS_ONCE, has_exited, wait_for, write_notebook

from personagap import figures, parameters
from personagap.errors import UserError
from personagap.paths import NOTEBOOKS
from personagap.runs import execute, files, index, inputs, lock, open_run, system, tables
from personagap.runs.folder import read_facts
from personagap.runs.request import Request
from personagap.runs.values import format_value, parse_value

RESULTS = """
import os
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import personagap as pg
run = pg.runs.open_run(output)
fig, ax = plt.subplots()
ax.plot(range(n))
run.figure(fig, "line", "A line to <n>")
run.save(verdict=pd.DataFrame({"question": ["q"], "answer": [f"n is {n}"]}), truth=None)
run.save(scores=pd.DataFrame({"score": [0.5, 1.0]}))
run.record(model={"id": "demo"}, kernel_cwd=os.getcwd())
"""


def personagap(*arguments, cwd):
    # A shell starts its background jobs with the interrupt ignored, and they pass that on: as from
    # a terminal instead.
    heeding = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*COMMAND, *arguments], cwd=cwd, preexec_fn=heeding, **pipes)


@pytest.fixture
def request_for(tmp_path):
    def make(*code, **given):
        return Request(
            write_notebook(tmp_path / "paper" / "1_trial.ipynb", *code),
            given,
            None,
            tmp_path / "figures",
            tmp_path,
        )

    return make


@pytest.fixture
def own_place(tmp_path, monkeypatch):
    """A folder of temporary files of this test alone, with a short name, as sockets need; pytest's
    lie elsewhere.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        monkeypatch.setenv("TMPDIR", place)
        monkeypatch.setattr(tempfile, "tempdir", place)
        yield Path(place)


@pytest.fixture
def hanging(tmp_path):
    """A runner whose notebook hangs, with the process number of its kernel."""
    write_notebook(tmp_path / "paper" / "1_trial.ipynb", HANGS_ONCE)
    arguments = ["run", "paper/1_trial.ipynb", "--figures", "figures"]
    runner = personagap(*arguments, cwd=tmp_path)
    kernel = int(wait_for((tmp_path / "kernel").exists) and (tmp_path / "kernel").read_text())
    yield runner, kernel, arguments
    runner.kill()
    runner.communicate()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("finished")
    notebook = write_notebook(place / "paper" / "1_trial.ipynb", RESULTS)
    request = Request(notebook, {"n": 4}, None, place / "figures", place)
    return request, execute.run(request)


def test_a_run_leaves_what_the_design_promises(finished):
    request, facts = finished
    assert request.folder.parts[-4:-1] == ("figures", "paper", "1_trial")
    left = {
        str(path.relative_to(request.folder))
        for path in request.folder.rglob("*")
        if path.is_file()
    }
    assert left == {
        *(
            ".lock",
            "notebook.ipynb",
            "report.html",
            "run.json",
            "tables/verdict.csv",
            "tables/scores.parquet",
        ),
        *("tables/verdict.tex", "figures/line.png", "figures/line.svg", "figures/line.pdf"),
        *("figures/line_column.pdf", "figures/line_column.svg"),
    }
    assert facts == {**json.loads((request.folder / "run.json").read_text()), "skipped": False}
    assert facts["status"] == "finished" and facts["parameters"] == {"n": 4} == facts["changed"]
    assert facts["model"] == {"id": "demo"} and facts["figures"] == {"line": "A line to <n>"}
    # So relative paths mean what they mean to the caller.
    assert facts["kernel_cwd"] == str(request.cwd)
    assert facts["versions"]["pandas"] == pd.__version__ and facts["seconds"] > 0
    assert pd.read_csv(request.folder / "tables" / "verdict.csv")["answer"].tolist() == ["n is 4"]
    assert pd.read_parquet(request.folder / "tables" / "scores.parquet")["score"].tolist() == [
        0.5,
        1.0,
    ]


def test_fonts_of_a_pdf_are_truetype_and_hold_its_glyphs_alone(tmp_path):
    with plt.rc_context():
        figures.use()
        fig, ax = plt.subplots()
        ax.plot(range(4))
        open_run(tmp_path).figure(fig, "line", "A line")
    pdf = (tmp_path / "figures" / "line.pdf").read_bytes()
    streams = re.findall(rb"/Length1 .*?stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    fonts = [TTFont(io.BytesIO(zlib.decompress(stream))) for stream in streams]
    assert b"/CIDFontType2" in pdf and b"/Type3" not in pdf and b"/ToUnicode" in pdf
    assert fonts and all("glyf" in font and not {"GPOS", "GSUB"} & {*font.keys()} for font in fonts)
    assert all(3 <= len(font.getGlyphOrder()) < 20 for font in fonts)  # ticks of a line from 0 to 3


def test_a_table_is_written_alike_whatever_was_asked_for_it(tmp_path):
    for asked, place in ((3, tmp_path / "whole"), (0, tmp_path / "resumed")):
        responses = pd.DataFrame({"item": [1, 2, 3]})
        responses.attrs["asked"] = asked
        open_run(place).save(responses=responses)
        assert responses.attrs["asked"] == asked
    written = [
        (tmp_path / name / "tables" / "responses.parquet").read_bytes()
        for name in ("whole", "resumed")
    ]
    assert written[0] == written[1]


def test_a_kept_table_is_made_again_when_anything_that_decides_it_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "CACHE", tmp_path / "cache")
    made, run = [], open_run(tmp_path / "paper/notebook/run")

    def make():
        made.append(len(made))
        return pd.DataFrame(
            {
                "estimate": [0.1 + 0.2, np.nan],
                "n": [1, 2],
                "covered": [True, False],
                "name": ["α", None],
            }
        )

    run.kept("truths", make)
    run.kept("truths", make)  # nothing is known of the run: by hand, in JupyterLab
    run.record(**{name: {"a": 1} for name in tables.CACHE_KEYS})
    first, again = run.kept("truths", make), run.kept("truths", make)
    pd.testing.assert_frame_equal(first, make())
    pd.testing.assert_frame_equal(again, first)
    assert made == [0, 1, 2, 3]
    for number, name in enumerate(tables.CACHE_KEYS, start=5):
        run.record(**{name: {"a": 2}})
        run.kept("truths", make)
        assert len(made) == number
    file = max((tmp_path / "cache" / "tables").iterdir(), key=os.path.getmtime)
    file.write_bytes(file.read_bytes()[:-9])
    pd.testing.assert_frame_equal(run.kept("truths", make), first)
    # A disk that is full or another's costs time, no result.
    monkeypatch.setattr(tables, "CACHE", file)
    with pytest.warns(UserWarning, match=f"not kept: {file}/tables: Not a directory"):
        pd.testing.assert_frame_equal(run.kept("truths", make), first)


def test_the_report_carries_the_alternative_text(finished):
    assert 'aria-label="A line to &lt;n&gt;"' in (finished[0].folder / "report.html").read_text()


def test_the_same_request_is_skipped_until_its_notebook_changes(finished):
    request, _ = finished
    assert execute.run(Request(request.notebook, {"n": 4}, None, request.figures))["skipped"]
    assert execute.finished(Request(request.notebook, {}, None, request.figures)) is None
    write_notebook(request.notebook, RESULTS + "# edited")
    try:
        assert execute.finished(Request(request.notebook, {"n": 4}, None, request.figures)) is None
        # As on a worker that sees another version of the file than who asks it.
        with pytest.raises(UserError, match="is another here than where the run began"):
            execute.run(request)
    finally:
        write_notebook(request.notebook, RESULTS)


def test_changed_inputs_and_open_questions_are_run_again(tmp_path, monkeypatch):
    prompts = tmp_path / "project"
    for name in ("prompts/mmlu.txt", "identities.csv"):
        (prompts / name).parent.mkdir(parents=True, exist_ok=True)
        (prompts / name).write_text("as it was")  # nine characters
    monkeypatch.setattr(inputs, "DATA", prompts)
    mine = tmp_path / "mine"
    (mine / "figures").mkdir(parents=True)  # runs that go into the folder of the data do not count
    (mine / "mmlu.csv").write_text("a,b")
    code = (
        "from pathlib import Path\nimport personagap as pg\nunanswered = "
        "int(Path('failing').exists()) * n"
    )
    code += "\npg.runs.open_run(output).record(unanswered=unanswered)"
    notebook = write_notebook(
        tmp_path / "1.ipynb", code, parameters='data = "demo"\nn = 3\noutput = None'
    )

    def run():
        request = Request(notebook, {"data": "mine"}, None, mine / "figures", tmp_path)
        facts = execute.run(request)
        said = execute.describe(facts, request.folder)
        index.write(mine / "figures")
        return facts["skipped"], said, (request.folder / "report.html").read_text(), facts

    skipped, said, _, facts = run()
    assert (
        not skipped
        and {"project/prompts/mmlu.txt", "project/identities.csv", "mine"} <= facts["inputs"].keys()
    )
    assert run()[0]
    for edited in (
        [mine / "mmlu.csv"],
        [prompts / "identities.csv", prompts / "prompts" / "mmlu.txt"],
    ):
        for path in edited:
            before = path.stat()
            path.write_text("c,d" if path.parent == mine else "as it is!")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            # Neither size nor time tells that it was edited.
            assert path.stat().st_size == before.st_size
        skipped, said, *_ = run()
        names = [
            "mine" if path.parent == mine else str(path.relative_to(tmp_path)) for path in edited
        ]
        assert not skipped and f"run again, changed since: {', '.join(names)})" in said
        assert run()[0]
    (tmp_path / "failing").touch()
    (mine / "mmlu.csv").write_text("another")
    skipped, said, page, _ = run()
    assert (
        not skipped
        and "3 requests unanswered: run again" in said
        and "3 requests unanswered" in page
    )
    assert "3 requests unanswered: run again" in (mine / "figures" / "index.html").read_text()
    (tmp_path / "failing").unlink()
    skipped, said, page, _ = run()
    assert (
        not skipped
        and "run again, 3 requests unanswered)" in said
        and "unanswered: run" not in page
    )
    assert run()[0]


def test_identity_of_a_run(tmp_path):
    notebook = write_notebook(
        tmp_path / "p" / "1.ipynb",
        parameters='model = "demo"\ndata: Data = "demo"\nk = [1]  # a = b',
    )
    plain = Request(notebook)
    assert plain.defaults == {"model": "demo", "data": "demo", "k": [1]}
    assert plain.id == Request(notebook, {"model": "demo"}).id != Request(notebook, {"k": [2]}).id
    assert plain.id.startswith("demo-") and Request(
        notebook, {"model": "hf:org/Name-7B"}
    ).id.startswith("Name-7B-")
    for place in ("a", "b"):
        (tmp_path / place / "data").mkdir(parents=True)
    here, there = (
        Request(notebook, {"data": "./data"}, cwd=tmp_path / place) for place in ("a", "b")
    )
    assert here.id != there.id  # one text, two folders
    assert here.id == Request(notebook, {"data": "../a/data"}, cwd=tmp_path / "b").id


NAMES = ["data", "my data", "demo", "hub", "demo:base", "llm:demo"]
#: A parameter of each kind, and those of the names below that are words to it.
WORDS = {
    "folder: Folder = 'x'": [],
    "data: Data = 'demo'": ["demo", "hub"],
    "model: Optional[Model] = None": ["demo", "demo:base"],
    "others: list[Judge] = []": ["llm:demo"],
    "stages: dict[str, Model] = {}": ["demo", "demo:base"],
    "bare = 'demo'": ["demo"],  # nothing is declared: the default alone
    "free = None": [],
    "word: str = 'paper'": NAMES,
    "names: Names = 'all'": NAMES,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("declared", WORDS)
def test_a_name_is_another_folder_elsewhere_unless_it_is_a_word(tmp_path, declared, name):
    notebook = write_notebook(tmp_path / "p" / "1.ipynb", parameters=declared)
    for place in ("a", "b"):
        for named in {name, name.removeprefix("llm:")}:
            (tmp_path / place / named).mkdir(parents=True)
    parameter = re.match(r"\w+", declared)[0]
    given = {"others": [name], "stages": {"a": name}}.get(parameter, name)
    here, there = (
        Request(notebook, {parameter: given}, cwd=tmp_path / each) for each in ("a", "b")
    )
    word = name in WORDS[declared]
    assert (here.id == there.id) is word
    assert [*here.paths] == ([] if word else [name])


@pytest.mark.parametrize("name", ["mine", "hf:mine", "gguf:mine", "llm:hf:mine"])
def test_a_file_is_found_after_what_says_how_it_is_loaded(tmp_path, name):
    (tmp_path / "mine").touch()
    notebook = write_notebook(tmp_path / "1.ipynb", parameters="judge: Judge = 'refusal'")
    assert Request(notebook, {"judge": name}, cwd=tmp_path).paths == {name: tmp_path / "mine"}


@pytest.mark.parametrize(
    "value", [3, 0.5, True, None, "demo", "3", "true", "a b", '["x"]', ["mmlu", 1], "'", "none"]
)
def test_values_survive_the_command_line(value):
    assert parse_value(format_value(value)) == value


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise ValueError('first line\\nsecond line')", "ValueError: second line (in cell [4])"),
        (
            "from personagap.errors import UserError\nraise UserError('no file x: add it')",
            "no file x: add it",
        ),
        (
            "import os\nos.kill(os.getpid(), 9)",
            "the kernel died in cell [4], A trial: it was killed",
        ),
    ],
)
def test_failures_are_one_line_and_keep_the_notebook(request_for, code, error):
    started = time.monotonic()
    request = request_for("print('so far')", code)
    facts = execute.run(request)
    assert (
        facts["status"] == "failed"
        and facts["error"].startswith(error)
        and "\n" not in facts["error"]
    )
    assert time.monotonic() - started < 120  # a dead kernel must not hang its run
    assert "so far" in (request.folder / "notebook.ipynb").read_text()
    assert "so far" in (request.folder / "report.html").read_text()
    assert execute.finished(request) is None


@pytest.fixture
def little_memory():
    """What puts a process that is started with it into a control group with 600 MB."""
    version_1, version_2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    root, limit = (
        (version_1, "memory.limit_in_bytes") if version_1.is_dir() else (version_2, "memory.max")
    )
    group = root / f"personagap-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(600 << 20))
    except OSError as error:
        pytest.skip(
            f"makes a control group, which is not allowed here ({error.strerror}): run as root"
        )
    yield lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
    wait_for(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def test_a_kernel_that_ran_out_of_memory_says_so_and_where(request_for, tmp_path, little_memory):
    request = request_for("1", "held = [b'x' * (50 << 20) + bytes([n]) for n in range(40)]")
    run = [*COMMAND, "run", str(request.notebook), "--figures", str(request.figures)]
    ended = subprocess.run(
        run, capture_output=True, text=True, timeout=120, preexec_fn=little_memory
    )
    assert (
        ended.returncode == 1
        and "the kernel died in cell [4], A trial: memory ran out, says the " in ended.stderr
    )


def test_of_another_control_group_the_systems_log_says_that_memory_ran_out(little_memory):
    if subprocess.run(["dmesg"], capture_output=True).returncode:
        pytest.skip("reads the system's log, which is not allowed here: run as root")
    before = system.memory_kills()
    greedy = [sys.executable, "-c", "held = [b'x' * (50 << 20) + bytes([n]) for n in range(40)]"]
    process = subprocess.Popen(greedy, preexec_fn=little_memory)
    assert process.wait(60) == -signal.SIGKILL
    said = system.out_of_memory([process.pid], before)
    within = system.memory_kills()["group"] > before["group"]  # its group may be one of our own
    assert said == ("the control group" if within else "the system's log")
    assert system.out_of_memory([os.getpid()], before | {"group": 10**6}) == ""  # another's end


def test_folders_of_sockets_that_killed_processes_left_are_removed(own_place, hanging):
    runner, kernel, _ = hanging
    (sockets,) = own_place.glob(f"{system.SOCKETS}*")
    assert f"{sockets}/" in _ports(kernel)
    processes = kernel, psutil.Process(kernel).ppid(), runner.pid
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(map(has_exited, processes)))
    assert sockets.is_dir()
    mine = system.socket_folder()
    # Threads of a killed process may hold the folder a moment longer.
    wait_for(lambda: not sockets.exists() or not system.socket_folder())
    assert [*own_place.glob("*.json")] == [] and mine.is_dir()
    other = subprocess.run(
        [sys.executable, "-c", "from personagap.runs import system; print(system.socket_folder())"]
    )
    assert other.returncode == 0 and mine.is_dir()  # in use


def _ports(kernel):
    """The connection file of a kernel, which tells where its sockets are."""
    (file,) = (word for word in psutil.Process(kernel).cmdline() if word.endswith(".json"))
    return Path(file).read_text()


def test_a_full_disk_is_one_line_and_leaves_no_half_notebook(request_for, tmp_path):
    request = request_for("print('x' * 50_000)")
    limited = ["bash", "-c", 'ulimit -f 20 && exec "$@"', "bash", *COMMAND]  # no file above 20 KiB
    run = [*limited, "run", str(request.notebook), "--figures", str(request.figures)]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert (
        ended.returncode == 1 and ended.stderr.count("\n") == 1 and "File too large" in ended.stderr
    )
    assert (
        not (request.folder / "notebook.ipynb").exists()
        and not (request.folder / "report.html").exists()
    )


def test_what_a_dying_kernel_writes_stays_out_of_the_message(request_for, tmp_path):
    request = request_for("import os\nos.write(2, b'Assertion failed\\n')\nos.kill(os.getpid(), 9)")
    run = [*COMMAND, "run", str(request.notebook), "--figures", str(request.figures)]
    ended = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (
        ended.returncode == 1
        and ended.stderr.count("\n") == 1
        and "the kernel died" in ended.stderr
    )
    assert ended.stderr.endswith(
        f"its stderr: {os.path.relpath(request.folder, tmp_path)}/stderr.log\n"
    )
    assert (request.folder / "stderr.log").read_text().startswith("Assertion failed\n")


def test_a_second_runner_steps_back_and_sigkill_of_the_first_is_recovered_from(hanging, tmp_path):
    runner, kernel, arguments = hanging
    second = personagap(*arguments, cwd=tmp_path)
    _, said = second.communicate(timeout=120)
    assert second.returncode == 2 and "already being run" in said and ", since 20" in said
    assert said.count("\n") == 1
    assert [facts["status"] for facts in index.runs(tmp_path / "figures")] == ["running"]
    (folder,) = (each["folder"] for each in index.runs(tmp_path / "figures"))
    assert (folder / "stderr.log").exists()
    error = {"id": folder.name, "status": "failed", "error": said.strip(), "skipped": False}
    assert "stderr" not in execute.describe(error, folder)  # that log is the first one's
    # As of a process that was killed while it wrote.
    (folder / f".{runner.pid}-report.html").write_text("<html>")
    runner.kill()
    wait_for(lambda: has_exited(kernel))
    wait_for(lambda: index.runs(tmp_path / "figures")[0]["status"] == "interrupted")
    third = personagap(*arguments, cwd=tmp_path)
    said, _ = third.communicate(timeout=120)
    assert third.returncode == 0 and "finished in" in said
    assert not [*folder.glob(".*-*")]


#: Without the rights of root, whom no mode of a file stops.
PLAIN = [
    "setpriv",
    *(f"--{each}=-dac_override,-dac_read_search" for each in ("inh-caps", "bounding-set")),
]


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="needs setpriv")
def test_a_run_that_cannot_be_cleared_is_named_and_no_longer_finished(request_for, tmp_path):
    request = request_for(RESULTS)
    execute.run(request)
    locked = request.folder / "tables"
    locked.chmod(0o555)
    command = [*PLAIN, *COMMAND] if os.geteuid() == 0 else COMMAND
    ended = subprocess.run(
        [*command, "run", "paper/1_trial.ipynb", "--figures", "figures", "--force"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    locked.chmod(0o755)
    assert (ended.returncode, ended.stderr) == (2, f"personagap: {locked}: Permission denied\n")
    # Else the next command would skip it, whatever had been removed of it.
    assert execute.finished(request) is None


def test_a_run_of_one_of_a_group_is_for_all_of_it(request_for):
    mask = os.umask(0o002)
    request = request_for(f"{RESULTS}\nos.write(2, b'told')\nassert n < 4", n=4)
    execute.run(request)
    os.umask(mask)
    found = [path for path in request.folder.rglob("*") if path.is_file()]
    assert {"run.json", ".lock", "stderr.log", "scores.parquet"} <= {path.name for path in found}
    assert {oct(path.stat().st_mode & 0o777) for path in found} == {"0o664"}


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="needs setpriv")
def test_who_may_only_read_sees_that_a_run_is_under_way(request_for, tmp_path):
    request = request_for()
    facts = {"id": request.id, "started": "", "parameters": {}, "changed": {}, "status": "running"}
    descriptor = lock.lock(request.folder)
    (request.folder / ".lock").chmod(0o444)
    (request.folder / "run.json").write_text(json.dumps(facts))
    command = [*PLAIN, *COMMAND] if os.geteuid() == 0 else COMMAND
    for state in ("running", "interrupted", ""):
        if not state:
            (request.folder / "run.json").chmod(0)
        said = subprocess.run(
            [*command, "index", "--figures", "figures"],
            cwd=tmp_path, check=True, stderr=subprocess.PIPE, text=True,
        ).stderr  # fmt: skip
        where = f"personagap: {request.folder}/run.json cannot be read: Permission denied\n"
        assert said == ("" if state else where)
        assert not state or f">{state}<" in (tmp_path / "figures" / "index.html").read_text()
        if state == "running":
            os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_runner_takes_its_kernel_with_it(hanging, number, tmp_path):
    runner, kernel, _ = hanging
    runner.send_signal(number)
    assert runner.wait(timeout=120) == 128 + number
    wait_for(lambda: has_exited(kernel))
    assert [facts["status"] for facts in index.runs(tmp_path / "figures")] == ["interrupted"]


def test_a_process_that_hangs_is_gone_with_its_kernel_once_it_was_stopped(
    request_for, tmp_path, monkeypatch
):
    """Its notebook can be run again at once: the lock is free, and nobody writes there."""
    monkeypatch.setattr(execute, "GRACE", 0.2)
    request = request_for(HANGS_ONCE)
    job = execute.start(request)
    wait_for((tmp_path / "kernel").exists)
    kernel = int((tmp_path / "kernel").read_text())
    os.kill(job.process.pid, signal.SIGSTOP)  # it sees no end of its runner
    threads = Path(f"/proc/{job.process.pid}/task")
    # Each stops by itself, and the one that watches the runner must not be awake.
    wait_for(lambda: all(" T " in (each / "stat").read_text() for each in threads.iterdir()))
    job.stop()
    assert job.process.returncode == -signal.SIGKILL and has_exited(kernel)
    assert read_facts(request.folder)["status"] == "interrupted"
    assert execute.run(request)["status"] == "finished"


def test_a_killed_process_of_a_run_fails_it(hanging):
    runner, kernel, _ = hanging
    os.kill(psutil.Process(kernel).ppid(), signal.SIGKILL)
    _, said = runner.communicate(timeout=120)
    assert runner.returncode == 1 and "its process ended with code -9" in said
    wait_for(lambda: has_exited(kernel))


#: A runner's death is told to a process of which one child is gone by the time that it is to be
#: killed.
ONE_IS_GONE = """
import subprocess, sys
from pathlib import Path
import psutil
from personagap.runs import child
quiet = dict.fromkeys(["stdout", "stderr"], subprocess.DEVNULL)
sleeping = [subprocess.Popen(["sleep", "60"], **quiet) for _ in range(2)]
found = [psutil.Process(each.pid) for each in sleeping]
sleeping[0].kill(), sleeping[0].wait()
psutil.Process.children = lambda *_, **__: found
print(sleeping[1].pid, flush=True)
child.die_with_runner(Path(sys.argv[1]))
"""


def test_a_process_that_is_gone_already_keeps_no_other_of_a_run(tmp_path):
    (tmp_path / "sockets").mkdir()
    command = [sys.executable, "-c", ONE_IS_GONE, str(tmp_path / "sockets")]
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert (
        has_exited(int(ended.stdout)) and not (tmp_path / "sockets").exists() and ended.stderr == ""
    )


@pytest.mark.parametrize(
    "cell", ["model = 'demo'", "judges: list[Model] = []", "stages: dict[str, Model] = {}"]
)
def test_a_cache_that_cannot_be_written_is_told_before_a_run_starts(tmp_path, monkeypatch, cell):
    (tmp_path / "cache").write_text("")
    monkeypatch.setattr(execute, "RESPONSES", tmp_path / "cache" / "responses")
    request = Request(write_notebook(tmp_path / "p" / "1.ipynb", parameters=cell), figures=tmp_path)
    with pytest.raises(
        UserError, match=r"cache/responses: no answers can be kept there .*PERSONAGAP_CACHE"
    ):
        execute.start(request)
    assert not request.folder.exists()
    assert not Request(write_notebook(tmp_path / "p" / "2.ipynb"), figures=tmp_path).asks


def test_a_run_that_starts_meanwhile_is_not_told_as_damaged(tmp_path, monkeypatch):
    """It removes its ``run.json``, which was there a moment ago."""
    monkeypatch.setattr(Path, "exists", lambda path: True)
    assert read_facts(tmp_path) == {}


def test_nothing_is_left_half_written(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(OSError), files.atomic_write(path) as temporary:
        temporary.write_text("ne")
        raise OSError("disk full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_and_not_its_temporary_name(tmp_path, monkeypatch):
    with (
        pytest.raises(PermissionError) as caught,
        files.atomic_write(tmp_path / "index.html") as temporary,
    ):
        raise PermissionError(errno.EACCES, "Permission denied", str(temporary))
    assert caught.value.filename == str(tmp_path / "index.html")
    with (
        pytest.raises(OSError, match=r"disk full: '.*index.html'"),
        files.atomic_write(tmp_path / "index.html"),
    ):
        raise OSError("disk full")  # as pyarrow does

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*run/.lock'"):
        lock.lock(tmp_path / "run")


def test_notebooks_executed_by_hand_do_not_share_a_folder(tmp_path):
    code = "import personagap as pg\nprint(pg.runs.open_run().folder)"
    for name in ("one", "two"):
        write_notebook(tmp_path / f"{name}.ipynb", code, parameters=f"which = {name!r}")
    environment = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    for name in ("one", "two"):
        command = [sys.executable, "-m", "jupyter", "execute", "--inplace", f"{name}.ipynb"]
        subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=120
        )
        assert f"figures/interactive/{name}\\n" in (tmp_path / f"{name}.ipynb").read_text()


def test_in_jupyterlab_results_go_to_the_notebooks_own_folder(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "/anywhere/2_relevance.ipynb")
    assert open_run().folder.parts[-3:] == ("figures", "interactive", "2_relevance")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{}", "is not a notebook"),
        (None, "no notebook"),
        ('{"cells": [], "metadata": {}}', "has no parameter 'n'; it has: none"),
    ],
)
def test_a_bad_notebook_is_a_users_mistake(tmp_path, text, error):
    path = tmp_path / "x.ipynb"
    if text:
        path.write_text(text)
    with pytest.raises(UserError, match=error):
        Request(path, {"n": 1})


def test_parameters_are_checked_before_anything_runs(request_for):
    with pytest.raises(UserError, match="no parameter 'm'; it has: n"):
        request_for(m=1)
    with pytest.raises(UserError, match=r"1_trial.ipynb: n is 'many': give a whole number$"):
        request_for(n="many")
    with pytest.raises(UserError, match="the runner sets 'output'"):
        request_for(output="x")
    scores = NOTEBOOKS / "your_own_scores.ipynb"
    with pytest.raises(
        UserError, match=r"control is 0: give a text, in double quotes \(in a shell"
    ):
        Request(scores, {"control": 0})
    assert Request(scores, {"control": parse_value('"0"')}).given == {"control": "0"}


DECLARED = """
from typing import Optional

tasks: Names = "all"
few: Names = ["mmlu"]  # "all", or others
templates: list[str] = ["paper"]
shots: list[AtLeast0] = [0, 1]
n: AtLeast1 = 1
limit: Optional[AtLeast1] = 40
either: int | None = None
rate: NotNegative = 1.0
flag: bool = True
judges: list[Model] = []
stages: dict[str, Model] = {"base": "demo"}
model: Optional[Model] = None
"""
UNDECLARED = """
tasks = "all"
templates = ["paper"]
shots = [0, 1]
n: "of no kind" = 1
rate = 1.0
flag = True
judges = []
stages = {"base": "demo"}
model = "demo"
free = None
"""
FITS = [
    ({"templates": "paper"}, ["paper"]),
    ({"shots": 3}, [3]),
    ({"tasks": "all"}, "all"),
    ({"tasks": ["mmlu"]}, ["mmlu"]),
    ({"model": None}, None),
    ({"rate": 1}, 1),
    ({"judges": "x"}, ["x"]),
    ({"judges": []}, []),
]
WRONG = [
    ({"templates": 5}, "a list of texts"),
    ({"templates": True}, "a list of texts"),
    ({"templates": {"a": 1}}, "a list of texts"),
    ({"tasks": 3}, "a text or a list of texts"),
    ({"n": True}, "a whole number"),
    ({"n": 1.5}, "a whole number"),
    ({"n": None}, "a whole number"),
    ({"rate": [1]}, "a number"),
    ({"flag": 1}, "a Boolean"),
    ({"stages": "demo"}, "a dictionary"),
]


@pytest.mark.parametrize(
    ("cell", "given", "expected"),
    [(cell, *pair) for cell in (DECLARED, UNDECLARED) for pair in FITS]
    + [
        (DECLARED, {"few": "all"}, "all"),
        (DECLARED, {"limit": None}, None),
        (DECLARED, {"either": 3}, 3),
        (UNDECLARED, {"shots": [0.5, 0.5]}, [0.5, 0.5]),
        (UNDECLARED, {"judges": ["x", 1]}, ["x", 1]),
        (UNDECLARED, {"free": {"a": 1}}, {"a": 1}),
    ],
)
def test_a_value_of_a_parameters_kind_is_taken(tmp_path, cell, given, expected):
    notebook, (name,) = write_notebook(tmp_path / "1.ipynb", parameters=cell), given
    assert Request(notebook, given).parameters[name] == expected


@pytest.mark.parametrize(
    ("cell", "given", "expected"),
    [(cell, *pair) for cell in (DECLARED, UNDECLARED) for pair in WRONG]
    + [
        (DECLARED, {"n": 0}, "a whole number of at least 1"),
        (DECLARED, {"rate": -1}, "a number of at least 0"),
        (DECLARED, {"rate": math.nan}, "a number of at least 0"),
        (DECLARED, {"limit": "abc"}, "a whole number of at least 1 or None"),
        (DECLARED, {"either": "abc"}, "a whole number or None"),
        (DECLARED, {"shots": [0.5]}, "a list of whole numbers of at least 0"),
        (DECLARED, {"shots": []}, "a list of whole numbers of at least 0"),
        (DECLARED, {"shots": [1, 1]}, "a list of whole numbers of at least 0, each once"),
        (DECLARED, {"tasks": ["a", "a"]}, "a text or a list of texts, each once"),
        (UNDECLARED, {"judges": ["x", "x"]}, "a list, each once"),
        (DECLARED, {"stages": {"base": 3}}, "a dictionary of texts"),
        (UNDECLARED, {"shots": ["x"]}, "a list of numbers"),
        (UNDECLARED, {"model": ["a"]}, "a text or None"),
    ],
)
def test_a_value_of_another_kind_is_a_users_mistake(tmp_path, cell, given, expected):
    notebook, ((name, value),) = (
        write_notebook(tmp_path / "1.ipynb", parameters=cell),
        given.items(),
    )
    with pytest.raises(
        UserError, match=re.escape(f"1.ipynb: {name} is {value!r}: give {expected}")
    ):
        Request(notebook, given)


@pytest.mark.parametrize("cell", ["n = m = 3", "n, m = 3, 4", "n: int", "print(3)"])
def test_a_parameters_cell_of_other_lines_is_a_users_mistake(tmp_path, cell):
    notebook = write_notebook(tmp_path / "1.ipynb", parameters=cell)
    with pytest.raises(UserError, match="only imports and lines NAME = VALUE"):
        assert Request(notebook, {}).parameters


@pytest.mark.parametrize("given", [{"n": 0}, {"stages": {"base": 3}}])
def test_a_kernel_checks_parameters_too(tmp_path, given):
    """For JupyterLab, and for papermill alone."""
    cell = "from personagap.parameters import *\n" + DECLARED
    notebook = write_notebook(tmp_path / "1.ipynb", "parameters.check(globals())", parameters=cell)
    names = {"parameters": parameters}
    exec(cell, names)
    parameters.check(names | {"templates": "paper"})  # many functions take a list of names or one
    with pytest.raises(UserError) as here:
        parameters.check(names | given)
    with pytest.raises(UserError) as there:
        Request(notebook, given)
    assert str(there.value) == f"1.ipynb: {here.value}"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("[!.]*.ipynb")), ids=lambda path: path.stem)
def test_every_parameter_of_a_notebook_declares_its_kind(path):
    """As papermill's help shows it; and what the annotations say holds of the defaults."""
    shown = papermill.inspect_notebook(str(path))
    assert {name: each["help"] for name, each in shown.items() if not each["help"]} == {}
    request = Request(path)
    tagged = [
        cell
        for cell in request.content["cells"]
        if "parameters" in cell["metadata"].get("tags", [])
    ]
    names = {}
    exec("".join(tagged[0]["source"]), names)
    parameters.check(names)
    assert {*names["__annotations__"]} == {*shown} == {*request.defaults, *({"output"} & {*shown})}
    assert "None" not in {each["inferred_type_name"] for each in shown.values()}
    fitted = Request(path, request.defaults)
    assert fitted.id == request.id and not fitted.changed


def test_new_weights_in_a_folder_are_noticed(tmp_path):
    weights = tmp_path / "tuned" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"old")
    notebook = write_notebook(
        tmp_path / "p" / "1.ipynb", parameters='model: Model = "demo"\njudges = {}\nn = 1'
    )
    for given in ({"model": "hf:tuned"}, {"model": "tuned"}, {"judges": {"a": "llm:hf:tuned"}}):
        found = []
        for content in (b"old", b"new", b"old"):
            weights.write_bytes(content)
            os.utime(weights, ns=(0, 0))
            found.append(
                inputs.hashes(Request(notebook, given, None, tmp_path / "figures", tmp_path))
            )
        assert found[0] == found[2] != found[1]
