"""Output contains no key, no password, and no terminal control characters."""

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
#: Sends a request, and outputs the error in every way that a notebook can.
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
            padding = "x" * 250  # puts the key where long texts are cut
            return self.reply(
                400, {"error": {"message": f"{padding} bad header {self.headers['Authorization']}"}}
            )
        self.reply(
            200, completion("fine", sum(len(each["content"].split()) for each in body["messages"]))
        )

    def reply(self, status, content):
        self.send(status, json.dumps(content).encode(), Content_Type="application/json")


@pytest.mark.parametrize("how", ["prints", "stderr", "assert", "refuses every request"])
def test_key_echoed_by_a_server_is_in_no_file_or_output(tmp_path, how):
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
    output = done.stdout + done.stderr + reported.output_bytes
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.json", "report.html", "index.html", "notebook.ipynb"} <= {
        path.name for path in left
    }
    assert b"***" in output + b"".join(path.read_bytes() for path in left)
    for piece in (KEY, KEY[:14]):
        assert piece.encode() not in output
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
def test_secret_in_a_parameter_is_refused_without_printing_it(tmp_path, model):
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


def test_control_and_invalid_characters_are_escaped(capsys, tmp_path):
    evil = "a\x1b[2Jb\0c\u202ed\x9b\ud800"
    assert visible(evil) == sanitize(evil) == "a[U+001B][2Jb[U+0000]c[U+202E]d[U+009B]\\ud800"
    with pytest.raises(SystemExit):
        main(["run", str(tmp_path / "\x1b[2J.ipynb")])
    output = capsys.readouterr().err
    assert output == f"personagap: no notebook {tmp_path}/[U+001B][2J.ipynb\n"


def test_key_is_redacted_in_json_and_url_encoding(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", 'MARK+ER/12"34=')
    assert sanitize(r'MARK+ER/12"34= MARK+ER/12\"34= MARK%2BER%2F12%2234%3D') == "*** *** ***"


@pytest.mark.parametrize("how", ["Basic", "Bearer"])
def test_password_header_and_base64_key_are_redacted(monkeypatch, how):
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
def test_redaction_takes_linear_time(text):
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
def test_address_without_secrets_is_unchanged(text):
    assert sanitize(text) == text


@pytest.mark.parametrize("word", ["none", "EMPTY"])
def test_placeholder_key_is_not_redacted(monkeypatch, word):
    monkeypatch.setenv("OPENAI_API_KEY", word)
    assert sanitize(f"{word} of it") == f"{word} of it"
