"""Run tests on a program that a model wrote, with no way for it to hurt or to cheat.

**How a test is decided.** ``assert f(2) == 4`` is taken apart: ``f(2)`` is evaluated in a separate process, the value
comes back as plain data, and the comparison with 4 is made here. The candidate's process never holds an expected value,
so the value itself is the token that a pass needs: leaving early (``exit(0)``, ``os._exit(0)``), patching ``assert``,
``AssertionError`` or builtins, printing success, searching frames, memory or open files, and objects that claim to
equal everything all end in a failed test.

**What confines it.** Under bubblewrap: no network, no other processes, a file system with nothing but the read-only
system libraries and interpreter and a small private ``/tmp``, a cleared environment, an own session, and death with its
parent. A system-call filter forbids new processes (threads are allowed). Limits on CPU and wall time, memory, file
size, open files and output.

**What it does not stop.** Answers learned by heart (the prompt shows the tests); a test whose two sides both call the
candidate's code, or whose truth it computes alone (``assert f(2)``); faults of the kernel. Programs that start
processes fail. Without bubblewrap, and only with PERSONAGAP_UNSAFE_EXEC=1, the limits are all there is.
"""

import ast
import contextlib
import functools
import json
import math
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from personagap.errors import UserError

OPT_IN = "PERSONAGAP_UNSAFE_EXEC"
MEMORY = 1 << 29  # bytes of address space
START = 5.0  # more seconds, for the interpreter to start on a busy machine
LINE = 32_768  # characters that a test's values may take: no expected value is that long
_RUNNER = Path(__file__).with_name("_sandboxed.py").read_text(encoding="utf-8")


def run_tests(code: str, tests: list[str], setup: str = "", *, timeout: float = 5.0) -> list[bool]:
    """Which of a program's tests pass.

    Parameters
    ----------
    code, setup : the program, and code run after it and before the tests.
    tests : ``assert`` statements, one a string.
    timeout : seconds for the program and all its tests together.

    Returns
    -------
    One bool per test. All are False if the program does not run. Values compare as the builtin types they derive from
    (a Counter as a dict, numpy's as Python's); other objects equal nothing. ``UserError`` if a test is not an assert
    statement, or there is no sandbox.

    Examples
    --------
    >>> run_tests("def double(n): return 2 * n", ["assert double(2) == 4", "assert double(2) == 5"])  # doctest: +SKIP
    [True, False]
    """
    taken = [_take_apart(test) for test in tests]
    if not available() and os.environ.get(OPT_IN) != "1":
        raise UserError(
            f"no sandbox for programs that a model wrote ({_fault()}): install bubblewrap, leave mbpp out, "
            f"or set {OPT_IN}=1 to run them unconfined"
        )
    lines = _run(code, [inside for _, inside in taken], setup, timeout, confined=available())
    held = [_holds(outside, line) for (outside, _), line in zip(taken, lines, strict=False)]
    return held + [False] * (len(tests) - len(held))


def run_many(jobs: Iterable[tuple[str, list[str], str]], *, timeout: float = 5.0) -> list[list[bool]]:
    """`run_tests` on many (code, tests, setup), as many at a time as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda job: run_tests(*job, timeout=timeout), jobs))


def available() -> bool:
    """Is there a sandbox: does bubblewrap work on this machine?"""
    return _fault() is None


def describe() -> str:
    """One line for reports: what confines the programs here."""
    if available():
        return f"bubblewrap, {'with' if _filter() else 'without'} a filter of system calls"
    return f"none ({_fault()})" + (f"; programs run unconfined, {OPT_IN}=1" if os.environ.get(OPT_IN) == "1" else "")


# --- taking a test apart -----------------------------------------------------------------------------

_OUTSIDE = {kind.__name__: kind for kind in (bool, int, float, str, list, tuple, set, frozenset, dict)}
_OUTSIDE |= {"abs": abs, "math": math, "__builtins__": {}}


class _Split(ast.NodeTransformer):
    """Replace what needs the candidate's code by names; keep comparisons, logic and constants."""

    def __init__(self):
        self.inside: list[str] = []

    def visit(self, node: ast.AST) -> ast.AST:
        difference = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
        tolerance = isinstance(node, ast.Call) and ast.unparse(node.func) in ("abs", "math.isclose")
        if difference or tolerance or isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.keyword):
            return self.generic_visit(node)
        if not isinstance(node, ast.expr) or all(map(_is_constant, ast.walk(node))):
            return node
        self.inside.append(ast.unparse(node))
        return ast.Name(f"_{len(self.inside) - 1}", ast.Load())


def _is_constant(part: ast.AST) -> bool:
    """Can this part of an expression be evaluated here: only literals, builtin types and ``math``?"""
    if isinstance(part, ast.Attribute):
        return re.fullmatch(r"math\.[a-z]\w*", ast.unparse(part)) is not None
    return not isinstance(part, ast.Name) or part.id in _OUTSIDE


@functools.lru_cache(maxsize=4096)
def _take_apart(test: str) -> tuple[object, list[str]]:
    """The comparison to make here (code with the names _0, _1 …), and the expressions behind the names."""
    try:
        (statement,) = ast.parse(test.strip()).body
        expression = statement.test if isinstance(statement, ast.Assert) else None
    except (SyntaxError, ValueError):
        expression = None
    if expression is None:
        raise UserError(f"the test {test[:80]!r} is not one assert statement: correct it in the data")
    split = _Split()
    outside = ast.fix_missing_locations(ast.Expression(split.visit(expression)))
    if isinstance(outside.body, ast.Name):  # the candidate's value itself is the truth: any object may be true
        split.inside = [f"not not ({split.inside[0]})"]
    return compile(outside, "test", "eval"), split.inside


def _plain(packed: object) -> object:
    """What ``_sandboxed.pack`` packed; fails on whatever is malformed."""
    if not isinstance(packed, list):
        return packed
    kind, parts = packed
    if kind == "literal":
        return ast.literal_eval(parts)
    return _OUTSIDE[kind]([map(_plain, pair) for pair in parts] if kind == "dict" else map(_plain, parts))


def _holds(outside: object, line: str) -> bool:
    """Does the test hold for the values sent back? Whatever is malformed does not."""
    try:
        values = {f"_{number}": _plain(packed) for number, packed in enumerate(json.loads(line))}
        return bool(eval(outside, dict(_OUTSIDE), values))
    except Exception:  # the values are the candidate's: a failed comparison is a failed test
        return False


# --- confining the process ---------------------------------------------------------------------------


# String hashes decide the order of sets, and with it some programs' results: fixed, for repeatable grades.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}


def _run(code: str, tests: list[list[str]], setup: str, timeout: float, confined: bool) -> list[str]:
    """Run a program and the expressions of its tests; one line of values for each test it got to."""
    job = {"code": code, "setup": setup, "tests": tests, "timeout": timeout, "memory": MEMORY, "line": LINE}
    job["path"] = [sysconfig.get_path("purelib")]
    command = [os.path.realpath(sys.executable), "-sSP", "-c", _RUNNER]
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as rules, tempfile.TemporaryDirectory() as folder:
        for file, content in [(stdin, json.dumps(job).encode()), (rules, _filter())]:
            file.write(content)
            file.seek(0)
        process = subprocess.Popen(
            [*_bubblewrap(rules.fileno()), *command] if confined else command, stdin=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, cwd=folder, env=_ENVIRONMENT, start_new_session=True,
            pass_fds=[rules.fileno()] if confined else [],
        )  # fmt: skip
        end = threading.Timer(timeout + START, _kill, [process])
        end.start()
        try:
            output = process.stdout.read(len(tests) * (LINE + 1))
        finally:
            end.cancel()
            _kill(process)
            process.stdout.close()
            process.wait()
    return output.decode(errors="replace").split("\n")[:-1]  # what follows the last newline is incomplete


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _bubblewrap(rules: int) -> list[str]:
    """The command that confines; ``rules`` is an open file with the filter of system calls."""
    options = ["--unshare-all", "--die-with-parent", "--new-session", "--dev-bind", "/dev/null", "/dev/null"]
    if "--size" in _help():  # older versions cannot bound a private /tmp, so they get none
        options += ["--size", str(1 << 24), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    # After /tmp, which would hide an environment that lies in it.
    for path in ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", sys.base_prefix, sys.prefix]:
        options += ["--ro-bind-try", path, path]
    return ["bwrap", *options, "--remount-ro", "/", *(["--seccomp", str(rules)] if _filter() else [])]


@functools.cache
def _help() -> str:
    return subprocess.run(["bwrap", "--help"], capture_output=True, text=True).stdout


@functools.cache
def _fault() -> str | None:
    """Why bubblewrap does not work here, or None if it does."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    works = _run("", [["1"]], "", START, confined=True) == ["[1]"]
    return None if works else "bubblewrap is installed but cannot start a process here"


# audit architecture; clone, and system calls that are refused: fork, vfork, ptrace, unshare, setns, io_uring_setup
_SYSTEM_CALLS = {
    "x86_64": (0xC000003E, 56, [57, 58, 101, 272, 308, 425]),
    "aarch64": (0xC00000B7, 220, [117, 97, 268, 425]),
}


@functools.cache
def _filter() -> bytes:
    """A seccomp program (classic BPF) that forbids new processes, b"" on other architectures.

    The usual limit, RLIMIT_NPROC, does not bind the superuser, who runs many containers.
    """
    if platform.machine() not in _SYSTEM_CALLS:
        return b""
    architecture, clone, refused = _SYSTEM_CALLS[platform.machine()]
    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, error, clone3, thread = 0x7FFF0000, 0x80000000, 0x00050000, 435, 0x00010000
    steps = [
        (load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, kill),  # offset 4: architecture
        (load, 0, 0, 0), (at_least, 0, 1, 0x40000000), (answer, 0, 0, kill),  # offset 0: number; the x32 range
        (equal, 0, 1, clone3), (answer, 0, 0, error | 38),  # "not implemented": libc falls back to clone
    ]  # fmt: skip
    for number in refused:
        steps += [(equal, 0, 1, number), (answer, 0, 0, error | 1)]  # "not permitted"
    steps += [
        (equal, 0, 3, clone), (load, 0, 0, 16), (any_bit, 1, 0, thread), (answer, 0, 0, error | 1),  # offset 16: flags
        (answer, 0, 0, allow),
    ]  # fmt: skip
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
