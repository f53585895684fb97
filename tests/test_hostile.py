"""Hostile programs in the sandbox. `pytest tests/test_hostile.py -s` shows what was tried and what
held.
"""

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from personagap import sandbox
from personagap.sandbox import confining, system_calls

pytestmark = pytest.mark.usefixtures("allow_unconfined")
TESTS = ["assert f(2) == 70004", "assert f(3) == 70006", "assert f(4) == sorted([70008])"]

#: Programs that would fake a pass.
CHEATS = {
    "exit": "import sys; sys.exit(0)",
    "os._exit": "import os; os._exit(0)",
    "exit when called": "import os\ndef f(n): os._exit(0)",
    "patched": "import builtins\nclass Never(BaseException): pass\nbuiltins.AssertionError = "
    "Never\n"
    "builtins.eval = lambda *a: True\nimport json\njson.dumps = lambda *a: 'true'\ndef f(n): "
    "return 0",
    "equal to all": "class Any(int):\n  def __eq__(self, other): return True\ndef f(n): return "
    "Any(0)",
    "prints success": "print('[4]')\nprint('[6]')\ndef f(n): return 0",
    "writes to every open file": "import os\nfor fd in range(64):\n  try: os.write(fd, "
    "b'true\\ntrue\\n')\n"
    "  except OSError: pass\nos._exit(0)",
    "searches frames": "import re, sys\ndef f(n):\n  frame, seen = sys._getframe(1), ''\n  "
    "while frame:\n"
    "    seen += repr([frame.f_locals, frame.f_globals])\n    frame = frame.f_back\n"
    "  return int(re.search(r'\\b7000[46]\\b', seen)[0])",
    "searches memory": "import gc, re\ndef f(n):\n  seen = repr(gc.get_objects())\n"
    "  return int(re.search(r'\\b7000[46]\\b', seen)[0])",
    "nested beyond recursion": "def f(n):\n  x = []\n  for _ in range(100_000): x = [x]\n  "
    "return x",
    "literal bomb": "class X:\n  def __repr__(self): return '-' * 30_000 + '70004'\ndef f(n): "
    "return X()",
    "huge value": "def f(n): return 'x' * 10**6",
    "huge number": "def f(n): return 10**10_000",
    "not text": "def f(n): return '\\ud800'",
    "does not compile": "def f(n) return 4",
    "null byte": "\0",
    "patched sorted": "import builtins\nbuiltins.sorted = lambda *a: 0\ndef f(n): return 0",
    "patched _exit, and a thread that outlives it": "import os, threading, time\nos._exit = "
    "lambda code: None\n"
    "threading.Thread(target=time.sleep, args=[99]).start()\ndef f(n): return 0",
    "writes at exit": "import atexit, os\n"
    "atexit.register(lambda: [os.write(n, b'[70000]\\n' * 2) for n in range(3, 9)])\ndef f(n): "
    "raise SystemExit",
    "patched main": "import sys\nsys.modules['__main__'].pack = lambda value: True\ndef f(n): "
    "return 0",
    "traces": "import sys\nseen = []\nsys.settrace(lambda frame, *a: "
    "seen.append(repr(frame.f_locals)))\n"
    "def f(n):\n  import re\n  return int(re.search(r'\\b7000[46]\\b', str(seen))[0])",
    "JSON without end": "import os\nos.write(3, b'[' * 60_000 + b'\\n')\nos._exit(0)",
    "a flood of lines": "import os\nwhile True: os.write(3, b'[70000]\\n' * 9999)",
    "its own time-out": "import os, signal\nos.kill(os.getpid(), signal.SIGPROF)",
    "a power of ten for a fraction": 'import os\nos.write(3, b\'[["Fraction", '
    '["1e999999999"]]]\\n\')\nos._exit(0)',
    "a decimal for a fraction": "import os\n"
    'os.write(3, b\'[["Fraction", [["Decimal", ["1e999999999"]]]]]\\n\')\nos._exit(0)',
    "an iterator without end": "class X(list):\n  def __iter__(self):\n    while True: yield "
    "1\ndef f(n): return X()",
    "a base without end": "class M(type):\n  __mro__ = property(lambda cls: iter(lambda: "
    "object, None))\n"
    "class X(metaclass=M): pass\ndef f(n): return X()",
    "a number without end": "from decimal import Decimal\ndef f(n): return Decimal('1e999999999')",
    "no number": "def f(n): return float('nan')",
    "a mock": "from unittest.mock import MagicMock\nf = MagicMock()",
    "values past JSON": "import os\nos.write(3, "
    "b'[NaN]\\n[Infinity]\\n[-Infinity]\\n')\nos._exit(0)",
    "carriage returns for lines": "import os\nos.write(3, b'[70000]\\r' * 9 + b'\\n')\nos._exit(0)",
    "hashes that collide": "import os\nkeys = b','.join(b'%d' % (n * (2**61 - 1)) for n in "
    "range(1, 1400))\n"
    "os.write(3, (b'[[\"set\", [' + keys + b']]]\\n') * 3)\nos._exit(0)",
    "a class that names another": "class X:\n  __class__ = property(lambda s: int)\n"
    "  __int__ = lambda s: 70000\ndef f(n): return X()",
    "a repr that calls itself": "class X:\n  __repr__ = lambda s: repr(s)\ndef f(n): return X()",
    "a number of millions of digits": "import sys\nsys.set_int_max_str_digits(0)\ndef f(n): "
    "return 1 << 10**7",
    "no modules left": "import sys\nsys.modules['json'] = sys.modules['os'] = None\ndef f(n): "
    "return 0",
    "hash and order of its own": "class X(str):\n  __hash__ = lambda s: 70004\n  __eq__ = "
    "__lt__ = lambda s, o: True\n"
    "def f(n): return X('')",
}

#: Programs that would harm the machine or never end.
HARM = {
    "fork bomb": "import os\nwhile True: os.fork()",
    "thread bomb": "import threading, time\nwhile True: threading.Thread(target=time.sleep, "
    "args=[99]).start()",
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
    "memory in pieces": "import mmap\nheld = []\nwhile True:\n  held.append(mmap.mmap(-1, 1 << "
    "20))\n"
    "  held[-1].write(bytes(1 << 20))",
    "shared memory": "import mmap\nx = mmap.mmap(-1, 1 << 30)",
    "a larger limit of memory": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << "
    "40, 1 << 40))",
    "processes of multiprocessing": "import multiprocessing as m\nm.Process(target=print).start()",
    "posix_spawn": "import os\nos.posix_spawn('/bin/true', ['true'], {{}})",
    "another program in its place": "import os, sys\nos.execv(sys.executable, ['x', '-c', "
    "'while True: pass'])",
    "a shell in its place": "import os\nos.execv('/bin/sh', ['sh', '-c', 'echo [70004]; echo "
    "[70006]'])",
    "its first thread leaves, others stay": "import ctypes, threading, time\n"
    "threading.Thread(target=time.sleep, args=[99]).start()\nctypes.CDLL(None).syscall({exit}, 0)",
    "stops itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "stops all": "import os, signal\nos.kill(0, signal.SIGSTOP)",
    "every signal blocked": "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, "
    "64))\nwhile True: pass",
    "timers off and limits raised": "import resource, "
    "signal\nsignal.setitimer(signal.ITIMER_PROF, 0)\n"
    "signal.setitimer(signal.ITIMER_REAL, 0)\nlimit = resource.getrlimit(resource.RLIMIT_CPU)[1]\n"
    "resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))\nwhile True: pass",
    "busy threads": "import hashlib, threading\ndef w():\n  while True: hashlib.sha256(bytes(1 "
    "<< 20)).digest()\n"
    "for _ in range(8): threading.Thread(target=w).start()\nw()",
    "folders without end": "import os\nwhile True: os.mkdir('x'), os.chdir('x')",
    "a file with a hole": "open('/tmp/x', 'w').truncate(1 << 40)",
    "writes to the channel from threads": "import os, threading\ndef w():\n  while True: "
    "os.write(3, b'[70001]\\n')\n"
    "for _ in range(4): threading.Thread(target=w).start()",
    "a drop at a time": "import os, time\nwhile True: os.write(3, b'1'), time.sleep(.01)",
    "/proc": "import os\nos.listdir('/proc')",
    "crashes": "import ctypes\nctypes.string_at(0)",
}

#: System calls that no computation needs: numbers on (x86_64, aarch64).
BY_NUMBER = {
    **{
        "bpf": (321, 280),
        "perf_event_open": (298, 241),
        "userfaultfd": (323, 282),
        "process_vm_readv": (310, 270),
    },
    **{
        "keyctl": (250, 219),
        "request_key": (249, 218),
        "shmat": (30, 196),
        "shmdt": (67, 197),
        "msgsnd": (69, 189),
    },
    **{
        "mq_open": (240, 180),
        "kcmp": (312, 272),
        "syslog": (103, 116),
        "reboot": (169, 142),
        "swapon": (167, 224),
    },
    **{
        "quotactl": (179, 60),
        "personality": (135, 92),
        "acct": (163, 89),
        "settimeofday": (164, 170),
    },
    **{
        "clock_settime": (227, 112),
        "adjtimex": (159, 171),
        "init_module": (175, 105),
        "finit_module": (313, 273),
    },
    **{
        "kexec_load": (246, 104),
        "mbind": (237, 235),
        "move_pages": (279, 239),
        "fanotify_init": (300, 262),
    },
    **{
        "inotify_init1": (294, 26),
        "pidfd_open": (434, 434),
        "pidfd_getfd": (438, 438),
        "landlock": (444, 444),
    },
    **{
        "ptrace": (101, 117),
        "setns": (308, 268),
        "bind": (49, 200),
        "connect": (42, 203),
        "sendmsg": (46, 211),
    },
    **{
        "setuid": (105, 146),
        "capset": (126, 91),
        "seccomp": (317, 277),
        "vhangup": (153, 58),
        "mlock": (149, 228),
    },
}
BY_NUMBER = {name: numbers[platform.machine() == "aarch64"] for name, numbers in BY_NUMBER.items()}
#: Programs that would escape the namespaces. System calls without a Python function go through libc
#: or by number.
REFUSED = {
    "mode of the host's /dev/null": "os.chmod('/dev/null', 0o666)",
    "mode of an open file": "os.fchmod(0, 0o666)",
    "owner of the host's /dev/null": "os.chown('/dev/null', 0, 0)",
    "attributes": "os.setxattr('/dev/null', 'user.x', b'')",
    "another root": "os.chroot('/tmp')",
    "namespaces": "called(libc.unshare(0x10000000))",
    "unmounting": "called(libc.umount2(b'/usr', 2))",
    "a new mount": "called(libc.syscall(430, b'tmpfs', 0))",
    "a copy of a mount": "called(libc.syscall(428, -100, b'/usr', 1))",
    "shared memory": "called(libc.shmget(0, 1 << 20, 0o1600))",
    "semaphores": "called(libc.semget(0, 1, 0o1600))",
    "message queues": "called(libc.msgget(0, 0o1600))",
    "the user's keys": "called(libc.syscall({add_key}, b'user', b'personagap', b'x', 1, -3))",
    "the host of a virtual machine": "socket.socket(40, socket.SOCK_STREAM)",
    "the machine's name": "called(libc.sethostname(b'x', 1))",
    "requests past the filter": "called(libc.syscall(425, 1, bytes(120)))",
    "a pair of sockets of another family": "socket.socketpair(40)",
    "a lock on a file of the host": "import fcntl; fcntl.lockf(os.open('/usr/bin/env', "
    "os.O_RDONLY), fcntl.LOCK_SH)",
    "a lease on a file of the host": "import fcntl; fcntl.fcntl(os.open('/usr/bin/env', "
    "os.O_RDONLY), 1024, 0)",
    "larger pipes": "import fcntl; fcntl.fcntl(os.pipe()[1], 1031, 1 << 20)",
    "signals of an open file": "import fcntl; fcntl.fcntl(0, 10, 9)",
    "notes of what changes in a folder": "import fcntl; fcntl.fcntl(os.open('/usr', "
    "os.O_RDONLY), 1026, 2)",
    "a copy of the process": "called(libc.vfork())",
    "an abstract socket": "socket.socket(socket.AF_UNIX).bind('\\0x')",
    "the routing table": "socket.socket(16, socket.SOCK_RAW, 0)",
    "a new session": "os.setsid()",
    "another group of processes": "os.setpgid(0, 0)",
    "input of the terminal": "import fcntl; fcntl.ioctl(0, 0x5412, b'x')",
    "times of the host's /dev/null": "os.utime('/dev/null')",
    "locks of the host's files": "import fcntl; fcntl.flock(0, fcntl.LOCK_EX)",
    "memory of files": "os.memfd_create('x')",
    "links": "os.symlink('x', 'y')",
    "dumpable": "called(libc.prctl(4, 1))",
    "priority": "os.nice(1)",
    "a call of a later kernel": "called(libc.syscall(999))",
    **{
        name: f"called(libc.syscall({numbers}, 0, 0, 0, 0, 0, 0))"
        for name, numbers in BY_NUMBER.items()
    },
}
#: A system call that the seccomp filter rejects.
CALLED = """
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def called(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
def f():
    try:
        {call}
    except OSError as error:
        return errno.errorcode[error.errno]
"""


def tried(programs: dict[str, str], tests: list[str]) -> dict[str, str]:
    """Run every program and return what became of its tests."""
    results = sandbox.run_many(((code, tests, "") for code in programs.values()), timeout=1)
    words = {
        name: f"{sum(each)} of {len(tests)} passed"
        for name, each in zip(programs, results, strict=True)
    }
    stopped = (name for name, each in zip(programs, results, strict=True) if each.timed_out)
    return words | {name: f"{words[name]}, stopped for its time" for name in stopped}


def show(kind: str, held: dict[str, str]) -> None:
    print(f"\n{kind}: {len(held)} programs")
    for name, word in held.items():
        print(f"  {name:45} {word}")


def test_no_hostile_program_passes_or_does_harm():
    """The harm would be to a server, a process and a file outside the sandbox."""
    held = tried(CHEATS, TESTS)
    show("cheats", held)
    assert {name for name, word in held.items() if not word.startswith("0 of")} == set()
    if not sandbox.available():
        pytest.skip(f"the rest needs bubblewrap and user namespaces: {confining.sandbox().text}")
    add_key, leave = {"x86_64": (248, 60), "aarch64": (217, 93)}[platform.machine()]
    before = Path(__file__).read_bytes(), os.stat("/dev/null").st_mode, {*os.listdir("/usr")}
    bystander = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = {"port": server.getsockname()[1], "file": __file__, "exit": leave}
        held = tried({name: code.format(**place) for name, code in HARM.items()}, TESTS)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    show("harm", held)
    assert {name for name, word in held.items() if not word.startswith("0 of")} == set()
    assert bystander.poll() is None
    bystander.communicate()
    assert before == (
        Path(__file__).read_bytes(),
        os.stat("/dev/null").st_mode,
        {*os.listdir("/usr")},
    )
    if not system_calls.program():
        pytest.skip(
            "the rest needs an x86_64 or aarch64 processor: the filter of system calls is for these"
        )
    calls = {
        name: CALLED.format(call=call.format(add_key=add_key)) for name, call in REFUSED.items()
    }
    held = tried(calls, ["assert f() == 'EPERM'"])
    held = {
        name: "refused (EPERM)" if word == "1 of 1 passed" else "not refused"
        for name, word in held.items()
    }
    show("calls that reach past the namespaces", held)
    assert {*held.values()} == {"refused (EPERM)"}
    assert sandbox.run_tests("def f(n): return 2 * n", ["assert f(2) == 4"]) == [True]
