"""Servers on the loopback interface: real ones, and fakes with scripted behaviour."""

import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
from notebook_helpers import wait_for
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from personagap.paths import NOTEBOOKS

#: Bound sockets of `free_port`, which never listen.
RESERVED_SOCKETS: list[socket.socket] = []
#: A server in its own process; arguments: port, requests at a time. It imports little, to start
#: fast.
SERVER_SCRIPT = """
import json, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        model = {"id": "m", "object": "model", "created": 0, "owned_by": ""}
        self.answer({"object": "list", "data": [model]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with slots:
            time.sleep(0.05 if body["max_tokens"] > 1 else 0)
        message = {"role": "assistant", "content": "answer to " + body["messages"][-1]["content"]}
        self.answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    def answer(self, content):
        content = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass

slots = threading.BoundedSemaphore(int(sys.argv[2]))
ThreadingHTTPServer.request_queue_size = 128
server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
"""


def free_port() -> int:
    """Reserve a port that only a server with SO_REUSEADDR can bind until the tests end."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    RESERVED_SOCKETS.append(reserved)
    return reserved.getsockname()[1]


@contextlib.contextmanager
def transformers_serve(folder: Path, logs: Path, seconds: float = 120) -> Iterator[str]:
    """Run ``transformers serve`` on a model folder; yields its base address."""
    port = free_port()
    command = [
        Path(sys.executable).with_name("transformers"),
        "serve",
        folder,
        "--host",
        "127.0.0.1",
    ]
    command += ["--port", port, "--device", "cpu", "--dtype", "float32"]
    with run_server(command, f"http://127.0.0.1:{port}/health", logs / "serve.log", seconds):
        yield f"http://127.0.0.1:{port}/v1"


@contextlib.contextmanager
def run_server(command: list, health: str, log: Path, seconds: float = 120) -> Iterator[None]:
    """Run a server; enters the block once the address ``health`` answers."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=output, stderr=output, env=environment
        )
    try:
        deadline = time.monotonic() + seconds
        while not _answers(health):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(timeout=120)


def _answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except OSError:
        return False


@contextlib.contextmanager
def jupyter_lab(root: Path, figures: Path) -> Iterator[str]:
    """Run JupyterLab in an empty folder; yields the address of ``explore.ipynb``, which reads
    ``figures``.

    The folder also has ``start_here.ipynb``. The theme follows the browser's colour scheme, and
    news notifications are off.
    """
    user_settings = {
        "themes": {"adaptive-theme": True},
        "notification": {"fetchNews": "false", "checkForUpdates": False},
    }
    settings = root / "CONFIG" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    for name, values in user_settings.items():
        (settings / f"{name}.jupyterlab-settings").write_text(json.dumps(values))
    for name in ("explore.ipynb", "start_here.ipynb"):
        notebook = load_notebook_node(str(NOTEBOOKS / name))
        nbformat.write(parameterize_notebook(notebook, {"figures": str(figures)}), root / name)
    options = {"ServerApp.root_dir": root, "ServerApp.ip": "127.0.0.1", "ServerApp.port": 0}
    options |= {"IdentityProvider.token": "secret", "LabApp.open_browser": False}
    command = [sys.executable, "-m", "jupyter", "lab", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    homes = {f"JUPYTER_{name}_DIR": str(root / name) for name in ("CONFIG", "DATA", "RUNTIME")} | {
        "HOME": str(root)
    }
    with (root / "log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | homes, stdout=log, stderr=log)
    try:
        found = wait_for(
            lambda: re.search(r"http://127.0.0.1:\d+/", (root / "log").read_text()), seconds=120
        )
        yield f"{found[0]}lab/tree/explore.ipynb?token=secret"
    finally:
        server.terminate()
        server.wait(timeout=120)


def completion(text: str = "fine", prompt_tokens: int = 5, **choice) -> dict:
    """A chat completion in OpenAI's format."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": 1,
            "total_tokens": prompt_tokens + 1,
        },
    }


class QuietHandler(BaseHTTPRequestHandler):
    """A request handler with a `send` method and no log."""

    def send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


class BacklogServer(ThreadingHTTPServer):
    """A server with a longer backlog: with Python's default of five, connections are refused."""

    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # the client was killed
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serve(handler: type[QuietHandler]) -> Iterator[str]:
    """Run a server with ``handler``; yields its address."""
    server = BacklogServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def scripted_server(reply: Callable[[dict], tuple | str], lists: str = "m") -> Iterator[str]:
    """Run a server that answers a chat request with ``reply(body)``; yields its base address.

    A reply is a tuple (status, JSON value or raw bytes[, headers]), "drop" (close the connection)
    or "hang" (never answer). GET /models lists the model ``lists``.
    """
    closing = threading.Event()

    class Handler(QuietHandler):
        def do_GET(self):
            model = {"id": lists, "object": "model", "created": 0, "owned_by": ""}
            self.answer(200, {"object": "list", "data": [model]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = reply(body)
            if answer == "hang":
                closing.wait(20)
            elif answer != "drop":
                self.answer(*answer)

        def answer(self, status: int, content: object, headers: dict | None = None) -> None:
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send(status, content, Content_Type="application/json", **(headers or {}))

    with serve(Handler) as address:
        try:
            yield f"{address}/v1"
        finally:
            closing.set()


@contextlib.contextmanager
def hub_server(name: str, folder: Path) -> Iterator[str]:
    """Run a fake Hugging Face Hub with one model, the files of ``folder``; yields its address."""

    class Handler(QuietHandler):
        def do_GET(self):
            file = folder / self.path.removeprefix(f"/{name}/resolve/main/")
            if self.path.startswith(f"/{name}/resolve/main/") and file.is_file():
                content = file.read_bytes()
                tag = f'"{hashlib.sha1(content).hexdigest()}"'
                self.send(200, content, X_Repo_Commit="0" * 40, ETag=tag)
            else:
                self.send(404, b"{}", X_Repo_Commit="0" * 40, X_Error_Code="EntryNotFound")

        do_HEAD = do_GET

    with serve(Handler) as address:
        yield address


@contextlib.contextmanager
def recording_server() -> Iterator[tuple[str, list[str]]]:
    """Run a server that answers 404; yields its address and the list of requested paths."""
    asked = []

    class Handler(QuietHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send(404, b"")

    with serve(Handler) as address:
        yield address, asked


@contextlib.contextmanager
def counting_server(word: str, seconds: float = 0.0) -> Iterator[tuple[str, list[str]]]:
    """Run a server that answers each chat after ``seconds``; yields its address and the list of
    requests whose question contains ``word``, in order of arrival.
    """
    asked = []

    def reply(body: dict) -> tuple[int, dict]:
        question = body["messages"][-1]["content"]
        if word in question:
            asked.append(json.dumps(body, sort_keys=True))
            time.sleep(seconds)
        return 200, completion(
            f"answer to {question}", sum(len(each["content"].split()) for each in body["messages"])
        )

    with scripted_server(reply) as url:
        yield url, asked


class RestartableServer:
    """A server that can be killed and started again; it takes 0.05 s for each request."""

    def __init__(self, max_concurrent: int = 1000):
        self.port, self.max_concurrent, self.process = free_port(), max_concurrent, None
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def start(self):
        command = [sys.executable, "-c", SERVER_SCRIPT, str(self.port), str(self.max_concurrent)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
