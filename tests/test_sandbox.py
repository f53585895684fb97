"""The sandbox: honest programs pass, and neither cheating nor harm gets anywhere."""

import socket
import time

import pytest

from personagap import sandbox
from personagap.errors import UserError

DOUBLE = "def f(n): return 2 * n\n"
TESTS = ["assert f(2) == 4", "assert f(3) == 6"]

pytestmark = pytest.mark.usefixtures("unconfined")
confined = pytest.mark.skipif(not sandbox.available(), reason=f"needs bubblewrap: {sandbox._fault()}")


@pytest.mark.parametrize(
    ("code", "tests", "setup"),
    [
        (DOUBLE, TESTS, ""),
        ("from collections import Counter\ndef f(s): return Counter(s)", ["assert f('aab') == {'a': 2, 'b': 1}"], ""),
        ("def f(n):\n  for i in range(n): yield i", ["assert list(f(3)) == [0, 1, 2]"], ""),
        ("def f(n): return n, {n}, frozenset([n]), None", ["assert f(1) == (1, {1}, frozenset([1]), None)"], ""),
        ("def f(n): return b'x', 1j, float('inf')", ["assert f(1) == (b'x', 1j, float('inf'))"], ""),
        ("def f(n): return n / 3", ["assert abs(f(1) - 0.333) < 1e-3", "assert math.isclose(f(3), 1)"], ""),
        ("def f(n): return n > 0", ["assert f(1)", "assert not f(0)", "assert f(1) and not f(-1), 'text'"], ""),
        ("def sum(a, b): return a - b", ["assert sum(10, 15) == -5"], ""),  # a function named like a builtin
        ("class Node:\n  def __init__(s, v): s.v = v\ndef f(n): return n.v", ["assert f(root) == 7"], "root = Node(7)"),
        ("import numpy as np\ndef f(n): return [np.int64(n), np.bool_(n)]", ["assert f(1) == [1, True]"], ""),
        ("if __name__ == '__main__':\n  input()\n" + DOUBLE, TESTS, ""),
    ],
)
def test_honest_programs_pass(code, tests, setup):
    assert sandbox.run_tests(code, tests, setup) == [True] * len(tests)


def test_each_assert_is_judged():
    tests = ["assert f(2) == 4", "assert f(2) == 5", "assert g(2) == 4", "assert f(0) == 0"]
    assert sandbox.run_tests(DOUBLE, tests) == [True, False, False, True]


CHEATS = {
    "exit": "import sys; sys.exit(0)",
    "os._exit": "import os; os._exit(0)",
    "exit when called": "import os\ndef f(n): os._exit(0)",
    "patched": "import builtins\nclass Never(BaseException): pass\nbuiltins.AssertionError = Never\n"
    "builtins.eval = lambda *a: True\nimport json\njson.dumps = lambda *a: 'true'\ndef f(n): return 0",
    "equal to all": "class Any(int):\n  def __eq__(self, other): return True\ndef f(n): return Any(0)",
    "prints success": "print('[4]')\nprint('[6]')\ndef f(n): return 0",
    "writes to every open file": "import os\nfor fd in range(64):\n  try: os.write(fd, b'true\\ntrue\\n')\n"
    "  except OSError: pass\nos._exit(0)",
    "searches frames": "import re, sys\ndef f(n):\n  frame, seen = sys._getframe(1), ''\n  while frame:\n"
    "    seen += repr([frame.f_locals, frame.f_globals])\n    frame = frame.f_back\n"
    "  return int(re.search(r'\\b7000[46]\\b', seen)[0])",
    "searches memory": "import gc, re\ndef f(n):\n  seen = repr(gc.get_objects())\n"
    "  return int(re.search(r'\\b7000[46]\\b', seen)[0])",
    "nested beyond recursion": "def f(n):\n  x = []\n  for _ in range(100_000): x = [x]\n  return x",
    "literal bomb": "class X:\n  def __repr__(self): return '-' * 30_000 + '70004'\ndef f(n): return X()",
    "huge value": "def f(n): return 'x' * 10**6",
    "huge number": "def f(n): return 10**10_000",
    "not text": "def f(n): return '\\ud800'",
    "does not compile": "def f(n) return 4",
    "null byte": "\0",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheats_fail(cheat):
    tests = ["assert f(2) == 70004", "assert f(3) == 70006"]
    assert sandbox.run_tests(CHEATS[cheat], tests, timeout=3) == [False, False]


def test_the_candidate_never_holds_what_is_expected():
    taken = [
        sandbox._take_apart(test)[1] for test in ["assert f(2) == 41", "assert 41 == set(f(2))", "assert 41 > f(2)"]
    ]
    assert taken == [["f(2)"], ["set(f(2))"], ["f(2)"]]
    # Nor does it compare: a constant side is evaluated outside, with builtins it cannot patch.
    patched = "import builtins\nbuiltins.set = lambda *a: 0\nbuiltins.abs = lambda x: 0\ndef f(n): return 9"
    assert sandbox.run_tests(patched, ["assert f(1) == set([1])", "assert abs(f(1) - 1) < 0.1"]) == [False, False]


HARM = {
    "fork bomb": "import os\nwhile True: os.fork()",
    "thread bomb": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=[99]).start()",
    "starts a program": "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'true'], check=True)",
    "network": "import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)",
    "reads the home": "import os\nassert os.listdir(os.path.expanduser('~root')) is None",
    "reads the tests": "open({file!r})",
    "writes to the system": "open('/usr/personagap', 'w')",
    "writes to the root": "open('/personagap', 'w')",
    "fills the disk": "i = 0\nwhile True:\n  i += 1\n  open(f'/tmp/{{i}}', 'w').write('x' * 10**6)",
    "memory": "x = bytearray(10**9)",
    "kills": "import os\nos.kill(-1, 9)",
    "sees the environment": "import os\nassert 'HOME' not in os.environ and 1 / 0",
}


@confined
@pytest.mark.parametrize("harm", HARM)
def test_harm_is_stopped(harm):
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = HARM[harm].format(port=server.getsockname()[1], file=__file__)
        assert sandbox.run_tests(f"{code}\n{DOUBLE}", TESTS, timeout=2) == [False, False]
    assert sandbox.run_tests(DOUBLE, TESTS) == [True, True]


@confined
def test_private_folder_and_threads_are_allowed_and_nothing_remains():
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
def test_time_is_limited(code):
    start = time.perf_counter()
    assert sandbox.run_tests(code, TESTS, timeout=0.5) == [False, False]
    assert time.perf_counter() - start < 5


def test_ignoring_the_alarm_ends_at_the_wall_limit(monkeypatch):
    monkeypatch.setattr(sandbox, "START", 0.5)
    start = time.perf_counter()
    code = "import signal, time\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\ntime.sleep(60)"
    assert sandbox.run_tests(code, TESTS, timeout=0.5) == [False, False]
    assert time.perf_counter() - start < 5


def test_many_keep_their_order():
    jobs = [(f"def f(n): return {k}", ["assert f(0) == 3"], "") for k in range(6)]
    assert sandbox.run_many(jobs) == [[k == 3] for k in range(6)]


@pytest.mark.parametrize("test", ["f(2) == 4", "assert f(2) ==", "x = 1", "assert f(1)\nassert f(2)"])
def test_a_test_that_is_no_assert_is_a_user_error(test):
    with pytest.raises(UserError, match="not one assert"):
        sandbox.run_tests(DOUBLE, [test])


def test_without_bubblewrap_one_must_opt_in(monkeypatch):
    sandbox._fault.cache_clear()
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    assert not sandbox.available() and sandbox.OPT_IN in sandbox.describe()
    assert sandbox.run_tests(DOUBLE, TESTS) == [True, True]
    monkeypatch.delenv(sandbox.OPT_IN)
    with pytest.raises(UserError, match=f"install bubblewrap.*{sandbox.OPT_IN}=1"):
        sandbox.run_tests(DOUBLE, TESTS)
    sandbox._fault.cache_clear()
