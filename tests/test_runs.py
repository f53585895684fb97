"""Runs of notebooks with real processes: papermill, kernels, kills."""

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
import zmq
from fontTools.ttLib import TTFont
from notebook_helpers import COMMAND, HANGS_ONCE, has_exited, wait_for, write_notebook

from personagap import figures, parameters
from personagap.errors import UserError
from personagap.paths import NOTEBOOKS
from personagap.runs import child, execute, files, index, inputs, lock, open_run, system, tables
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


def start_command(*arguments, cwd):
    # Background jobs of a shell ignore SIGINT, and their children inherit that: restore the
    # default.
    restore = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*COMMAND, *arguments], cwd=cwd, preexec_fn=restore, **pipes)


@pytest.fixture
def make_request(tmp_path):
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
def short_tempdir(tmp_path, monkeypatch):
    """A temporary folder with a path short enough for sockets, which pytest's is not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture
def hanging_run(tmp_path):
    """A runner whose notebook hangs, its kernel's process id, and the arguments of the command."""
    write_notebook(tmp_path / "paper" / "1_trial.ipynb", HANGS_ONCE)
    arguments = ["run", "paper/1_trial.ipynb", "--figures", "figures"]
    runner = start_command(*arguments, cwd=tmp_path)
    kernel = int(wait_for((tmp_path / "kernel").exists) and (tmp_path / "kernel").read_text())
    yield runner, kernel, arguments
    runner.kill()
    runner.communicate()


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    notebook = write_notebook(folder / "paper" / "1_trial.ipynb", RESULTS)
    request = Request(notebook, {"n": 4}, None, folder / "figures", folder)
    return request, execute.run(request)


def test_a_run_writes_its_figures_tables_and_metadata(finished_run):
    request, facts = finished_run
    assert request.folder.parts[-4:-1] == ("figures", "paper", "1_trial")
    written = {
        str(path.relative_to(request.folder))
        for path in request.folder.rglob("*")
        if path.is_file()
    }
    assert written == {
        *(".lock", "notebook.ipynb", "report.html", "run.json"),
        *("tables/verdict.csv", "tables/verdict.tex", "tables/scores.parquet"),
        *("figures/line.png", "figures/line.svg", "figures/line.pdf"),
        *("figures/line_column.pdf", "figures/line_column.svg"),
    }
    assert facts == {**json.loads((request.folder / "run.json").read_text()), "skipped": False}
    assert facts["status"] == "finished" and facts["parameters"] == {"n": 4} == facts["changed"]
    assert facts["model"] == {"id": "demo"} and facts["figures"] == {"line": "A line to <n>"}
    # Relative paths in a notebook resolve as they do for the caller.
    assert facts["kernel_cwd"] == str(request.cwd)
    assert facts["versions"]["pandas"] == pd.__version__ and facts["seconds"] > 0
    assert pd.read_csv(request.folder / "tables" / "verdict.csv")["answer"].tolist() == ["n is 4"]
    scores = pd.read_parquet(request.folder / "tables" / "scores.parquet")
    assert scores["score"].tolist() == [0.5, 1.0]


def test_pdf_figures_embed_truetype_subsets(tmp_path):
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
    assert all(3 <= len(font.getGlyphOrder()) < 20 for font in fonts)  # tick labels from 0 to 3


def test_parquet_bytes_do_not_depend_on_table_attributes(tmp_path):
    for asked, folder in ((3, tmp_path / "whole"), (0, tmp_path / "resumed")):
        responses = pd.DataFrame({"item": [1, 2, 3]})
        responses.attrs["asked"] = asked
        open_run(folder).save(responses=responses)
        assert responses.attrs["asked"] == asked
    written = [
        (tmp_path / name / "tables" / "responses.parquet").read_bytes()
        for name in ("whole", "resumed")
    ]
    assert written[0] == written[1]


def test_cached_table_is_recomputed_when_a_key_changed(tmp_path, monkeypatch):
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

    run.cached("truths", make)
    run.cached("truths", make)  # without run metadata (by hand, in JupyterLab) nothing is cached
    run.record(**{name: {"a": 1} for name in tables.CACHE_KEYS})
    first, again = run.cached("truths", make), run.cached("truths", make)
    pd.testing.assert_frame_equal(first, make())
    pd.testing.assert_frame_equal(again, first)
    assert made == [0, 1, 2, 3]
    for number, name in enumerate(tables.CACHE_KEYS, start=5):
        run.record(**{name: {"a": 2}})
        run.cached("truths", make)
        assert len(made) == number
    file = max((tmp_path / "cache" / "tables").iterdir(), key=os.path.getmtime)
    file.write_bytes(file.read_bytes()[:-9])
    pd.testing.assert_frame_equal(run.cached("truths", make), first)
    # A cache that cannot be written costs time, but no result.
    monkeypatch.setattr(tables, "CACHE", file)
    with pytest.warns(UserWarning, match=f"not kept: {file}/tables: Not a directory"):
        pd.testing.assert_frame_equal(run.cached("truths", make), first)


def test_report_contains_the_alternative_text(finished_run):
    report = (finished_run[0].folder / "report.html").read_text()
    assert 'aria-label="A line to &lt;n&gt;"' in report


def test_same_request_is_skipped_until_its_notebook_changes(finished_run):
    request, _ = finished_run
    assert execute.run(Request(request.notebook, {"n": 4}, None, request.figures))["skipped"]
    assert execute.finished(Request(request.notebook, {}, None, request.figures)) is None
    write_notebook(request.notebook, RESULTS + "# edited")
    try:
        assert execute.finished(Request(request.notebook, {"n": 4}, None, request.figures)) is None
        # A remote worker may see another version of the file than the client.
        with pytest.raises(UserError, match="is another here than where the run began"):
            execute.run(request)
    finally:
        write_notebook(request.notebook, RESULTS)


def test_run_is_repeated_after_changed_inputs_or_unanswered_requests(tmp_path, monkeypatch):
    project = tmp_path / "project"
    for name in ("prompts/mmlu.txt", "identities.csv"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("old bytes")
    monkeypatch.setattr(inputs, "DATA", project)
    mine = tmp_path / "mine"
    (mine / "figures").mkdir(parents=True)  # runs written into the data folder are not inputs
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
        summary = execute.describe(facts, request.folder)
        index.write(mine / "figures")
        return facts["skipped"], summary, (request.folder / "report.html").read_text(), facts

    skipped, _, _, facts = run()
    assert not skipped
    assert {"project/prompts/mmlu.txt", "project/identities.csv", "mine"} <= facts["inputs"].keys()
    assert run()[0]
    for edited in (
        [mine / "mmlu.csv"],
        [project / "identities.csv", project / "prompts" / "mmlu.txt"],
    ):
        for path in edited:
            before = path.stat()
            path.write_text("c,d" if path.parent == mine else "new bytes")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            # Same size and modification time: only the content differs.
            assert path.stat().st_size == before.st_size
        skipped, summary, *_ = run()
        names = [
            "mine" if path.parent == mine else str(path.relative_to(tmp_path)) for path in edited
        ]
        assert not skipped and f"run again, changed since: {', '.join(names)})" in summary
        assert run()[0]
    (tmp_path / "failing").touch()
    (mine / "mmlu.csv").write_text("another")
    skipped, summary, page, _ = run()
    assert not skipped
    assert "3 requests unanswered: run again" in summary
    assert "3 requests unanswered" in page
    assert "3 requests unanswered: run again" in (mine / "figures" / "index.html").read_text()
    (tmp_path / "failing").unlink()
    skipped, summary, page, _ = run()
    assert not skipped
    assert "run again, 3 requests unanswered)" in summary
    assert "unanswered: run" not in page
    assert run()[0]


def test_run_id_depends_on_parameters_and_resolved_folders(tmp_path):
    notebook = write_notebook(
        tmp_path / "p" / "1.ipynb",
        parameters='model = "demo"\ndata: Data = "demo"\nk = [1]  # a = b',
    )
    plain = Request(notebook)
    assert plain.defaults == {"model": "demo", "data": "demo", "k": [1]}
    assert plain.id == Request(notebook, {"model": "demo"}).id != Request(notebook, {"k": [2]}).id
    assert plain.id.startswith("demo-")
    assert Request(notebook, {"model": "hf:org/Name-7B"}).id.startswith("Name-7B-")
    for folder in ("a", "b"):
        (tmp_path / folder / "data").mkdir(parents=True)
    in_a, in_b = (
        Request(notebook, {"data": "./data"}, cwd=tmp_path / folder) for folder in ("a", "b")
    )
    assert in_a.id != in_b.id  # the same relative path in two folders
    assert in_a.id == Request(notebook, {"data": "../a/data"}, cwd=tmp_path / "b").id


NAMES = ["data", "my data", "demo", "hub", "demo:base", "llm:demo"]
#: A parameter of each kind, and which of `NAMES` are keywords to it rather than paths.
KEYWORDS = {
    "folder: Folder = 'x'": [],
    "data: Data = 'demo'": ["demo", "hub"],
    "model: Optional[Model] = None": ["demo", "demo:base"],
    "others: list[Judge] = []": ["llm:demo"],
    "stages: dict[str, Model] = {}": ["demo", "demo:base"],
    "bare = 'demo'": ["demo"],  # without an annotation: the default only
    "free = None": [],
    "word: str = 'paper'": NAMES,
    "names: Names = 'all'": NAMES,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("declared", KEYWORDS)
def test_a_name_is_a_path_unless_it_is_a_keyword_of_the_parameter(tmp_path, declared, name):
    notebook = write_notebook(tmp_path / "p" / "1.ipynb", parameters=declared)
    for folder in ("a", "b"):
        for path in {name, name.removeprefix("llm:")}:
            (tmp_path / folder / path).mkdir(parents=True)
    parameter = re.match(r"\w+", declared)[0]
    given = {"others": [name], "stages": {"a": name}}.get(parameter, name)
    in_a, in_b = (
        Request(notebook, {parameter: given}, cwd=tmp_path / folder) for folder in ("a", "b")
    )
    is_keyword = name in KEYWORDS[declared]
    assert (in_a.id == in_b.id) is is_keyword
    assert [*in_a.paths] == ([] if is_keyword else [name])


@pytest.mark.parametrize("name", ["mine", "hf:mine", "gguf:mine", "llm:hf:mine"])
def test_path_is_found_after_the_loader_prefix(tmp_path, name):
    (tmp_path / "mine").touch()
    notebook = write_notebook(tmp_path / "1.ipynb", parameters="judge: Judge = 'refusal'")
    assert Request(notebook, {"judge": name}, cwd=tmp_path).paths == {name: tmp_path / "mine"}


@pytest.mark.parametrize(
    "value", [3, 0.5, True, None, "demo", "3", "true", "a b", '["x"]', ["mmlu", 1], "'", "none"]
)
def test_parameter_values_round_trip_through_the_command_line(value):
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
def test_failed_run_reports_one_line_and_keeps_its_notebook(make_request, code, error):
    started = time.monotonic()
    request = make_request("print('so far')", code)
    facts = execute.run(request)
    assert facts["status"] == "failed"
    assert facts["error"].startswith(error)
    assert "\n" not in facts["error"]
    assert time.monotonic() - started < 120  # a dead kernel must not hang its run
    assert "so far" in (request.folder / "notebook.ipynb").read_text()
    assert "so far" in (request.folder / "report.html").read_text()
    assert execute.finished(request) is None


#: Allocates 2 GB.
ALLOCATE = "held = [b'x' * (50 << 20) + bytes([n]) for n in range(40)]"


@pytest.fixture
def memory_limit():
    """A ``preexec_fn`` that puts the process into a control group with 600 MB."""
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


def test_out_of_memory_is_reported_with_its_cell(make_request, tmp_path, memory_limit):
    request = make_request("1", ALLOCATE)
    run = [*COMMAND, "run", str(request.notebook), "--figures", str(request.figures)]
    ended = subprocess.run(
        run, capture_output=True, text=True, timeout=120, preexec_fn=memory_limit
    )
    assert ended.returncode == 1
    assert "the kernel died in cell [4], A trial: memory ran out, says the " in ended.stderr


def test_out_of_memory_in_another_control_group_is_read_from_the_system_log(memory_limit):
    if subprocess.run(["dmesg"], capture_output=True).returncode:
        pytest.skip("reads the system's log, which is not allowed here: run as root")
    before = system.memory_kills()
    process = subprocess.Popen([sys.executable, "-c", ALLOCATE], preexec_fn=memory_limit)
    assert process.wait(60) == -signal.SIGKILL
    source = system.out_of_memory([process.pid], before)
    nested = system.memory_kills()["group"] > before["group"]  # the group may be below our own
    assert source == ("the control group" if nested else "the system's log")
    # Another process was killed, not this one.
    assert system.out_of_memory([os.getpid()], before | {"group": 10**6}) == ""


def test_socket_folders_of_killed_processes_are_removed(short_tempdir, hanging_run):
    runner, kernel, _ = hanging_run
    (sockets,) = short_tempdir.glob(f"{system.SOCKETS}*")
    assert f"{sockets}/" in _connection_file(kernel)
    processes = kernel, psutil.Process(kernel).ppid(), runner.pid
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(map(has_exited, processes)))
    assert sockets.is_dir()
    mine = system.socket_folder()
    # Threads of a killed process may keep the folder in use a moment longer.
    wait_for(lambda: not sockets.exists() or not system.socket_folder())
    assert [*short_tempdir.glob("*.json")] == [] and mine.is_dir()
    other = subprocess.run(
        [sys.executable, "-c", "from personagap.runs import system; print(system.socket_folder())"]
    )
    assert other.returncode == 0 and mine.is_dir()  # in use


def _connection_file(kernel):
    """The content of a kernel's connection file, which says where its sockets are."""
    (file,) = (word for word in psutil.Process(kernel).cmdline() if word.endswith(".json"))
    return Path(file).read_text()


def test_full_disk_is_one_error_line_and_leaves_no_partial_notebook(make_request, tmp_path):
    request = make_request("print('x' * 50_000)")
    limited = ["bash", "-c", 'ulimit -f 20 && exec "$@"', "bash", *COMMAND]  # no file above 20 KiB
    run = [*limited, "run", str(request.notebook), "--figures", str(request.figures)]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "File too large" in ended.stderr
    assert not (request.folder / "notebook.ipynb").exists()
    assert not (request.folder / "report.html").exists()


def test_folder_deleted_during_its_run_is_one_line(make_request):
    request = make_request("import shutil\nshutil.rmtree(output)")
    with pytest.raises(UserError, match=r"was deleted during the run: run it again"):
        execute.run(request)
    assert "status" not in read_facts(request.folder)  # so that nothing takes it for a run


def test_error_of_the_system_beneath_papermill_is_told(make_request, monkeypatch, capsys):
    """Such as a limit of open files that leaves the kernel no socket."""

    def fail(*_, **__):
        raise zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr("papermill.execute_notebook", fail)
    request = make_request()
    request.folder.mkdir(parents=True)
    task = {"notebook": str(request.notebook), "folder": str(request.folder)}
    ended = child.execute({**task, "parameters": {}, "kernel": "python3"}, request.folder)
    assert ended == {"status": "failed", "error": "ZMQError: Too many open files"}
    assert "in fail" in capsys.readouterr().err


def test_stderr_of_a_dying_kernel_goes_to_a_log_and_not_into_the_message(make_request, tmp_path):
    request = make_request(
        "import os\nos.write(2, b'Assertion failed\\n')\nos.kill(os.getpid(), 9)"
    )
    run = [*COMMAND, "run", str(request.notebook), "--figures", str(request.figures)]
    ended = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "the kernel died" in ended.stderr
    assert ended.stderr.endswith(
        f"its stderr: {os.path.relpath(request.folder, tmp_path)}/stderr.log\n"
    )
    assert (request.folder / "stderr.log").read_text().startswith("Assertion failed\n")


def test_second_runner_exits_and_a_killed_first_one_can_be_rerun(hanging_run, tmp_path):
    runner, kernel, arguments = hanging_run
    second = start_command(*arguments, cwd=tmp_path)
    _, message = second.communicate(timeout=120)
    assert second.returncode == 2 and "already being run" in message and ", since 20" in message
    assert message.count("\n") == 1
    assert [facts["status"] for facts in index.runs(tmp_path / "figures")] == ["running"]
    (folder,) = (each["folder"] for each in index.runs(tmp_path / "figures"))
    assert (folder / "stderr.log").exists()
    error = {"id": folder.name, "status": "failed", "error": message.strip(), "skipped": False}
    assert "stderr" not in execute.describe(error, folder)  # that log belongs to the first runner
    # A temporary file, as left by a process that was killed while writing.
    (folder / f".{runner.pid}-report.html").write_text("<html>")
    runner.kill()
    wait_for(lambda: has_exited(kernel))
    wait_for(lambda: index.runs(tmp_path / "figures")[0]["status"] == "interrupted")
    third = start_command(*arguments, cwd=tmp_path)
    output, _ = third.communicate(timeout=120)
    assert third.returncode == 0 and "finished in" in output
    assert not [*folder.glob(".*-*")]


#: Drops root's capability to ignore file permissions.
WITHOUT_ROOT_ACCESS = [
    "setpriv",
    *(f"--{each}=-dac_override,-dac_read_search" for each in ("inh-caps", "bounding-set")),
]


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="needs setpriv")
def test_run_folder_that_cannot_be_cleared_is_an_error_and_not_finished(make_request, tmp_path):
    request = make_request(RESULTS)
    execute.run(request)
    locked = request.folder / "tables"
    locked.chmod(0o555)
    command = [*WITHOUT_ROOT_ACCESS, *COMMAND] if os.geteuid() == 0 else COMMAND
    ended = subprocess.run(
        [*command, "run", "paper/1_trial.ipynb", "--figures", "figures", "--force"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    locked.chmod(0o755)
    assert (ended.returncode, ended.stderr) == (2, f"personagap: {locked}: Permission denied\n")
    # Otherwise the next command would skip a run whose files were partly removed.
    assert execute.finished(request) is None


def test_run_files_follow_a_group_writable_umask(make_request):
    mask = os.umask(0o002)
    request = make_request(f"{RESULTS}\nos.write(2, b'told')\nassert n < 4", n=4)
    execute.run(request)
    os.umask(mask)
    found = [path for path in request.folder.rglob("*") if path.is_file()]
    assert {"run.json", ".lock", "stderr.log", "scores.parquet"} <= {path.name for path in found}
    assert {oct(path.stat().st_mode & 0o777) for path in found} == {"0o664"}


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="needs setpriv")
def test_index_reads_the_state_of_runs_without_write_permission(make_request, tmp_path):
    request = make_request()
    facts = {"id": request.id, "started": "", "parameters": {}, "changed": {}, "status": "running"}
    descriptor = lock.lock(request.folder)
    (request.folder / ".lock").chmod(0o444)
    (request.folder / "run.json").write_text(json.dumps(facts))
    command = [*WITHOUT_ROOT_ACCESS, *COMMAND] if os.geteuid() == 0 else COMMAND
    for state in ("running", "interrupted", ""):
        if not state:
            (request.folder / "run.json").chmod(0)
        error = subprocess.run(
            [*command, "index", "--figures", "figures"],
            cwd=tmp_path, check=True, stderr=subprocess.PIPE, text=True,
        ).stderr  # fmt: skip
        expected = f"personagap: {request.folder}/run.json cannot be read: Permission denied\n"
        assert error == ("" if state else expected)
        assert not state or f">{state}<" in (tmp_path / "figures" / "index.html").read_text()
        if state == "running":
            os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_runner_stops_its_kernel(hanging_run, number, tmp_path):
    runner, kernel, _ = hanging_run
    runner.send_signal(number)
    assert runner.wait(timeout=120) == 128 + number
    wait_for(lambda: has_exited(kernel))
    assert [facts["status"] for facts in index.runs(tmp_path / "figures")] == ["interrupted"]


def test_stop_kills_an_unresponsive_process_and_its_kernel(make_request, tmp_path, monkeypatch):
    """Its notebook can be run again at once: the lock is free, and nothing writes there any
    more.
    """
    monkeypatch.setattr(execute, "GRACE", 0.2)
    request = make_request(HANGS_ONCE)
    job = execute.start(request)
    wait_for((tmp_path / "kernel").exists)
    kernel = int((tmp_path / "kernel").read_text())
    os.kill(job.process.pid, signal.SIGSTOP)  # so it cannot notice that its runner ended
    threads = Path(f"/proc/{job.process.pid}/task")
    # Threads stop one by one; wait also for the one that watches the runner.
    wait_for(lambda: all(" T " in (each / "stat").read_text() for each in threads.iterdir()))
    job.stop()
    assert job.process.returncode == -signal.SIGKILL and has_exited(kernel)
    assert read_facts(request.folder)["status"] == "interrupted"
    assert execute.run(request)["status"] == "finished"


def test_killed_process_fails_its_run(hanging_run):
    runner, kernel, _ = hanging_run
    os.kill(psutil.Process(kernel).ppid(), signal.SIGKILL)
    _, message = runner.communicate(timeout=120)
    assert runner.returncode == 1 and "its process ended with code -9" in message
    wait_for(lambda: has_exited(kernel))


#: A process ends with its runner, when one of its two children has exited already.
ONE_CHILD_EXITED = """
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


def test_an_exited_child_does_not_keep_the_others_alive(tmp_path):
    (tmp_path / "sockets").mkdir()
    command = [sys.executable, "-c", ONE_CHILD_EXITED, str(tmp_path / "sockets")]
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert has_exited(int(ended.stdout))
    assert not (tmp_path / "sockets").exists()
    assert ended.stderr == ""


@pytest.mark.parametrize(
    "cell", ["model = 'demo'", "judges: list[Model] = []", "stages: dict[str, Model] = {}"]
)
def test_unwritable_cache_is_an_error_before_the_run_starts(tmp_path, monkeypatch, cell):
    (tmp_path / "cache").write_text("")
    monkeypatch.setattr(execute, "RESPONSES", tmp_path / "cache" / "responses")
    request = Request(write_notebook(tmp_path / "p" / "1.ipynb", parameters=cell), figures=tmp_path)
    with pytest.raises(
        UserError, match=r"cache/responses: no answers can be kept there .*PERSONAGAP_CACHE"
    ):
        execute.start(request)
    assert not request.folder.exists()
    assert not Request(write_notebook(tmp_path / "p" / "2.ipynb"), figures=tmp_path).asks


def test_run_json_removed_by_a_starting_run_is_not_reported_as_damaged(tmp_path, monkeypatch):
    """A starting run removes ``run.json`` between the check that it is a file and the read."""
    (tmp_path / "run.json").write_text("{}")
    read_text = Path.read_text

    def remove_and_read(path, **options):
        path.unlink()
        return read_text(path, **options)

    monkeypatch.setattr(Path, "read_text", remove_and_read)
    assert read_facts(tmp_path) == {}


def test_failed_write_keeps_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(OSError), files.atomic_write(path) as temporary:
        temporary.write_text("ne")
        raise OSError("disk full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_write_errors_name_the_file_and_not_its_temporary_name(tmp_path, monkeypatch):
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


def test_notebooks_executed_by_hand_write_to_separate_folders(tmp_path):
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


def test_results_in_jupyterlab_go_to_the_notebooks_own_folder(monkeypatch):
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
def test_invalid_notebook_is_a_user_error(tmp_path, text, error):
    path = tmp_path / "x.ipynb"
    if text:
        path.write_text(text)
    with pytest.raises(UserError, match=error):
        Request(path, {"n": 1})


def test_parameters_are_checked_before_the_run_starts(make_request):
    with pytest.raises(UserError, match="no parameter 'm'; it has: n"):
        make_request(m=1)
    with pytest.raises(UserError, match=r"1_trial.ipynb: n is 'many': give a whole number$"):
        make_request(n="many")
    with pytest.raises(UserError, match="the runner sets 'output'"):
        make_request(output="x")
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
VALID = [
    ({"templates": "paper"}, ["paper"]),
    ({"shots": 3}, [3]),
    ({"tasks": "all"}, "all"),
    ({"tasks": ["mmlu"]}, ["mmlu"]),
    ({"model": None}, None),
    ({"rate": 1}, 1),
    ({"judges": "x"}, ["x"]),
    ({"judges": []}, []),
]
INVALID = [
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
    [(cell, *pair) for cell in (DECLARED, UNDECLARED) for pair in VALID]
    + [
        (DECLARED, {"few": "all"}, "all"),
        (DECLARED, {"limit": None}, None),
        (DECLARED, {"either": 3}, 3),
        (UNDECLARED, {"shots": [0.5, 0.5]}, [0.5, 0.5]),
        (UNDECLARED, {"judges": ["x", 1]}, ["x", 1]),
        (UNDECLARED, {"free": {"a": 1}}, {"a": 1}),
    ],
)
def test_valid_parameter_value_is_accepted(tmp_path, cell, given, expected):
    notebook, (name,) = write_notebook(tmp_path / "1.ipynb", parameters=cell), given
    assert Request(notebook, given).parameters[name] == expected


@pytest.mark.parametrize(
    ("cell", "given", "expected"),
    [(cell, *pair) for cell in (DECLARED, UNDECLARED) for pair in INVALID]
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
def test_parameter_value_of_the_wrong_type_is_a_user_error(tmp_path, cell, given, expected):
    notebook, ((name, value),) = (
        write_notebook(tmp_path / "1.ipynb", parameters=cell),
        given.items(),
    )
    with pytest.raises(
        UserError, match=re.escape(f"1.ipynb: {name} is {value!r}: give {expected}")
    ):
        Request(notebook, given)


@pytest.mark.parametrize("cell", ["n = m = 3", "n, m = 3, 4", "n: int", "print(3)"])
def test_parameters_cell_with_other_statements_is_a_user_error(tmp_path, cell):
    notebook = write_notebook(tmp_path / "1.ipynb", parameters=cell)
    with pytest.raises(UserError, match="only imports and lines NAME = VALUE"):
        assert Request(notebook, {}).parameters


@pytest.mark.parametrize("given", [{"n": 0}, {"stages": {"base": 3}}])
def test_kernel_checks_parameters_too(tmp_path, given):
    """For JupyterLab and plain papermill, which do not check a request."""
    cell = "from personagap.parameters import *\n" + DECLARED
    notebook = write_notebook(tmp_path / "1.ipynb", "parameters.check(globals())", parameters=cell)
    names = {"parameters": parameters}
    exec(cell, names)
    parameters.check(names | {"templates": "paper"})  # one name is accepted for a list of names
    with pytest.raises(UserError) as in_kernel:
        parameters.check(names | given)
    with pytest.raises(UserError) as in_request:
        Request(notebook, given)
    assert str(in_request.value) == f"1.ipynb: {in_kernel.value}"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("[!.]*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_parameter_has_a_type_annotation_and_help(path):
    """Papermill's help shows both, and the defaults satisfy their annotations."""
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


def test_changed_weights_in_a_model_folder_change_the_input_hash(tmp_path):
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
