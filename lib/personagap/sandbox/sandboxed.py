"""The script that runs inside the sandbox: a candidate's code, then the expressions of its tests.

It uses the standard library only, and is passed to a bare interpreter as text instead of being
imported. None of its output is trusted: it holds no expected values and decides nothing, which is
the task of ``personagap.sandbox``.
"""

import json
import os
import resource
import signal
import sys


def parts_of(value, name):
    """Return the parts from which ``personagap.sandbox`` rebuilds a value of the type ``name``.

    None if it is no such type of the standard library.
    """
    if name in LISTS:
        return list(value)
    # A list, because JSON objects only have text as keys, and OrderedDicts compare by their order
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
    """Return a value in a form for JSON.

    Types of the standard library are kept, and their subclasses become the base type.
    """
    if type(value).__module__ == "numpy":
        value = value.tolist()
    if value is None:
        return value
    # bool comes first, because it is a subclass of int.
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return plain(value)
    for kind in type(value).__mro__:
        name = kind.__name__.replace("odict", "dict")
        parts = parts_of(value, name) if kind.__module__ in MODULES else None
        if parts is not None:
            return [name, [pack(part) for part in parts]]
    # Works for bytes and complex numbers; the text of any other object will not parse.
    return ["literal", repr(value)]


def set_limits(seconds: float, wall_clock: float, memory: int) -> None:
    """Limit this process to ``seconds`` of CPU time, ``wall_clock`` seconds and bytes of memory."""
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: 1 << 20,
        resource.RLIMIT_NOFILE: 64,
        # This does not bind the superuser; the filter of system calls does.
        resource.RLIMIT_NPROC: 64,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))
    # The soft limit sends SIGXCPU, which identifies time as the reason; a program that ignores it
    # has one more second.
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
    # Both timers end the process by default. The main limit is CPU time, so that a busy machine
    # changes no result; wall-clock time only stops programs that sleep or wait.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, wall_clock)


def main() -> None:
    job = json.loads(sys.stdin.buffer.read())
    output = os.fdopen(os.dup(1), "w")
    # The standard streams lead nowhere. A candidate that guesses the descriptor of ``output`` can
    # write values there, but it controls these values anyway.
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    sys.path += job["path"]
    set_limits(job["timeout"], job["wall_clock"], job["memory"])
    # This line starts the timer outside, which is needed because a candidate can block an alarm.
    output.write("\n")
    output.flush()
    namespace = {"__name__": "candidate"}
    exec(compile(job["code"], "candidate", "exec"), namespace)
    exec(compile(job["setup"], "setup", "exec"), namespace)
    for expressions in job["tests"]:
        try:
            line = json.dumps([pack(eval(expression, namespace)) for expression in expressions])
        except BaseException:
            # Including exit() and the like: without a value the test fails.
            line = "null"
        output.write(f"{line if len(line) <= job['max_line'] else 'null'}\n")
        output.flush()
    # Ends remaining threads of the candidate, and skips its exit handlers.
    os._exit(0)


if __name__ == "__main__":
    main()
