"""The program that runs inside the sandbox: a candidate's code, then the expressions of its tests.

Standard library only. It is given to a bare interpreter as text, never imported, and nothing it
says is trusted: it holds no expected value and decides nothing (``personagap.sandbox`` does).
"""

import json
import os
import resource
import signal
import sys


def parts_of(value, name):
    """What makes a value of the standard library's type ``name``, for ``personagap.sandbox`` to
    rebuild it.
    """
    if name in LISTS:
        return list(value)
    # In their order, by which an OrderedDict is compared, and with keys that JSON has no words for.
    if name in ("dict", "OrderedDict", "Counter"):
        return [list(pair) for pair in value.items()]
    if name == "dict_items":
        return [list(pair) for pair in value]
    if name == "range":
        return [value.start, value.stop, value.step]
    if name == "Fraction":
        return [value.numerator, value.denominator]
    if name == "timedelta":
        return [value.days, value.seconds, value.microseconds]
    return [str(value) if name == "Decimal" else value.isoformat()] if name in TEXTS else None


LISTS = ("list", "tuple", "set", "frozenset", "deque", "dict_keys", "dict_values", "bytearray")
TEXTS = ("Decimal", "datetime", "date", "time")
MODULES = ("builtins", "collections", "decimal", "fractions", "datetime")


def pack(value):
    """A value as JSON: types of the standard library, what derives from them as its base."""
    if type(value).__module__ == "numpy":
        value = value.tolist()
    if value is None:
        return value
    # bool first: it is an int as well.
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return plain(value)
    for kind in type(value).__mro__:
        name = kind.__name__.replace("odict", "dict")
        parts = parts_of(value, name) if kind.__module__ in MODULES else None
        if parts is not None:
            return [name, [pack(part) for part in parts]]
    # For bytes and complex numbers; the text of any other object will not parse.
    return ["literal", repr(value)]


def limit(seconds: float, idle: float, memory: int) -> None:
    """``seconds`` of the processor's time, and ``idle`` by the clock."""
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: 1 << 20,
        resource.RLIMIT_NOFILE: 64,
        # Binds ordinary users only; the filter of system calls binds all.
        resource.RLIMIT_NPROC: 64,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    # At the soft limit SIGXCPU, which says that time was the reason; who ignores it has a second
    # more.
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
    # The default action of both: the process ends. Time is the processor's, so that a busy machine
    # changes no result; by the clock only who sleeps or waits is stopped.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, idle)


def main() -> None:
    job = json.loads(sys.stdin.buffer.read())
    answers = os.fdopen(os.dup(1), "w")
    # The usual numbers lead nowhere. A candidate that guesses the channel's can write values there,
    # as it may anyway.
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    sys.path += job["path"]
    limit(job["timeout"], job["idle"], job["memory"])
    # From here on the time outside runs, since a candidate can block an alarm.
    answers.write("\n")
    answers.flush()
    namespace = {"__name__": "candidate"}
    exec(compile(job["code"], "candidate", "exec"), namespace)
    exec(compile(job["setup"], "setup", "exec"), namespace)
    for expressions in job["tests"]:
        try:
            line = json.dumps([pack(eval(expression, namespace)) for expression in expressions])
        except BaseException:
            # Also exit() and the like: there is no value, so the test fails.
            line = "null"
        answers.write(f"{line if len(line) <= job['line'] else 'null'}\n")
        answers.flush()
    # Threads that the candidate left behind end here, and nothing it registered runs.
    os._exit(0)


if __name__ == "__main__":
    main()
