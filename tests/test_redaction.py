"""What leaves the process: no key, no password, nothing that commands a terminal."""

import json
import os
import subprocess
import time
from base64 import b64encode

import pytest
from click.testing import CliRunner
from notebook_helpers import COMMAND, write_notebook
from servers import QuietHandler, completion, serve

from personagap.cli import main
from personagap.errors import UserError
from personagap.models import load_model
from personagap.redaction import sanitize, visible

KEY = "sk-MARKER-0123456789"
#: Asks, and reports what it is told in each way that a notebook can.
TELLS = """
import sys, warnings
import personagap as pg
from personagap import ask, models
run = pg.runs.open_run(output)
lm = models.load_model(model)
if how != "refuses every request":
    answers = ask.texts(lm, ["question 1", "question 2"], 0.0, 0)
    print(lm.failure, file=sys.stderr if how == "stderr" else sys.stdout)
    run.record(model=lm.describe(), failure=lm.failure)
    warnings.warn(lm.failure)
    assert how != "assert", lm._connection.endpoints.first.api_key
ask.texts(lm, ["question 3"], 0.0, 0)
"""


class Echoes(QuietHandler):
    """Answers the probes of a model, and refuses every question with the request's own headers."""

    def do_GET(self):
        self.reply(
            200,
            {
                "object": "list",
                "data": [{"id": "m", "object": "model", "created": 0, "owned_by": ""}],
            },
        )

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][-1]["content"]
        if question in ("question 1", "question 3"):
            padding = "x" * 250  # the key stands where long texts are cut
            return self.reply(
                400, {"error": {"message": f"{padding} bad header {self.headers['Authorization']}"}}
            )
        self.reply(
            200, completion("fine", sum(len(each["content"].split()) for each in body["messages"]))
        )

    def reply(self, status, content):
        self.send(status, json.dumps(content).encode(), Content_Type="application/json")


@pytest.mark.parametrize("how", ["prints", "stderr", "assert", "refuses every request"])
def test_a_key_that_a_server_echoes_is_in_no_file_and_on_no_terminal(tmp_path, how):
    with serve(Echoes) as address:
        parameters = f'model = "openai:m@{address}/v1"\nhow = "prints"\noutput = None'
        write_notebook(tmp_path / "p" / "1.ipynb", TELLS, parameters=parameters)
        environment = {"PERSONAGAP_CACHE": str(tmp_path / "cache"), "OPENAI_API_KEY": KEY}
        command = [*COMMAND, "run", "p/1.ipynb", "-p", "how", how, "--figures", "figures"]
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | environment, capture_output=True
        )
    reported = CliRunner().invoke(
        main, ["report", "--figures", str(tmp_path / "figures")], env=environment
    )
    assert reported.exit_code == 0
    told = done.stdout + done.stderr + reported.output_bytes
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.json", "report.html", "index.html", "notebook.ipynb"} <= {
        path.name for path in left
    }
    assert b"***" in told + b"".join(path.read_bytes() for path in left)
    for piece in (KEY, KEY[:14]):
        assert piece.encode() not in told
        assert not [path for path in left if piece.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "model",
    [
        "openai:m@http://me:PASSWORD@host/v1",
        "http://me:PASSWORD@host",
        "openai:m@http://host/v1?key=PASSWORD",
        KEY,
        "openai:m@http://me:a PASSWORD@host/v1",
        "openai:m@http://me:a'PASSWORD@host/v1",
        "openai:m@me:PASSWORD@host/v1",
        "openai:m@http:/me:PASSWORD@host/v1",
        "openai:m@http://host/v1#key=PASSWORD",
        "openai:m@http://host/v1;api_key=PASSWORD",
        "openai:m@http://host/v1;v=1#key=PASSWORD#patience=60",
        "openai:m@http://host/v1#patience=60&key=PASSWORD",
        "http://host/v1#a?PASSWORD",
    ],
)
def test_a_secret_in_a_parameter_is_refused_without_saying_it(tmp_path, model):
    notebook = write_notebook(
        tmp_path / "p" / "1.ipynb", parameters='model = "demo"\noutput = None'
    )
    command = ["run", str(notebook), "-p", "model", model, "--figures", str(tmp_path / "figures")]
    done = CliRunner().invoke(main, command, env={"OPENAI_API_KEY": KEY})
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and "***" in done.stderr
    assert "PASSWORD" not in done.output and KEY not in done.output
    assert not (tmp_path / "figures").exists()
    if model != KEY:
        with pytest.raises(UserError) as refused:
            load_model(model)
        assert "PASSWORD" not in str(refused.value)


def test_what_commands_a_terminal_or_is_no_character_is_spelt_out(capsys, tmp_path):
    evil = "a\x1b[2Jb\0c\u202ed\x9b\ud800"
    assert visible(evil) == sanitize(evil) == "a[U+001B][2Jb[U+0000]c[U+202E]d[U+009B]\\ud800"
    with pytest.raises(SystemExit):
        main(["run", str(tmp_path / "\x1b[2J.ipynb")])
    said = capsys.readouterr().err
    assert said == f"personagap: no notebook {tmp_path}/[U+001B][2J.ipynb\n"


def test_a_key_is_known_as_json_and_addresses_write_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", 'MARK+ER/12"34=')
    assert sanitize(r'MARK+ER/12"34= MARK+ER/12\"34= MARK%2BER%2F12%2234%3D') == "*** *** ***"


@pytest.mark.parametrize("how", ["Basic", "Bearer"])
def test_a_header_with_a_password_or_a_key_in_base64(monkeypatch, how):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert (
        sanitize(f"Proxy-Authorization: {how} bWU6UFJPWFlQVw==")
        == f"Proxy-Authorization: {how} ***"
    )
    assert (
        sanitize(str({"authorization": f"{how} other.key-1"}))
        == f"{{'authorization': '{how} ***'}}"
    )
    assert sanitize(b64encode(KEY.encode()).decode()) == "***"
    assert sanitize(f"{how} questions") == f"{how} questions"


@pytest.mark.parametrize("text", ["a://", "a://b:", "openai:", "openai:m@"])
def test_what_leaves_is_read_in_a_time_that_grows_with_its_length(text):
    start = time.process_time()
    sanitize(text * (1_000_000 // len(text)))
    assert time.process_time() - start < 20  # quadratic, it took minutes


@pytest.mark.parametrize(
    "text",
    [
        "openai:claude@2024@http://host/v1",
        str(["openai:a@http://g", "openai:b@http://h"]),
        str(["openai:a@http://g/v1,http://h/v1#patience=60"]),
        "no server at http://host/v1#patience=60: start it",
        "see https://host/page.html#section; x=1",
    ],
)
def test_an_address_without_secrets_is_left_alone(text):
    assert sanitize(text) == text


@pytest.mark.parametrize("word", ["none", "EMPTY"])
def test_a_word_that_stands_for_no_key_is_left_alone(monkeypatch, word):
    monkeypatch.setenv("OPENAI_API_KEY", word)
    assert sanitize(f"{word} of it") == f"{word} of it"
