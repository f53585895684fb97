"""The program that runs inside the sandbox: a candidate's code, then the expressions of its tests.

Standard library only. It is given to a bare interpreter as text, never imported, and nothing it says is trusted: it
holds no expected value and decides nothing (``personagap.sandbox`` does).
"""

import json
import os
import resource
import signal
import sys


def pack(value):
    """A value as JSON: builtin types only, anything derived from them as its base type."""
    if type(value).__module__ == "numpy":
        value = value.tolist()
    if value is None:
        return value
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [pack(element) for element in value]]
    if isinstance(value, dict):
        return ["dict", [[pack(key), pack(element)] for key, element in value.items()]]
    return ["literal", repr(value)]  # bytes and complex numbers; any other object will not parse


def limit(seconds: float, memory: int) -> None:
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: int(seconds) + 1,
        resource.RLIMIT_FSIZE: 1 << 20,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: 64,  # binds ordinary users only; the filter of system calls binds all
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    signal.setitimer(signal.ITIMER_REAL, seconds)  # default action: the process ends


def main() -> None:
    job = json.loads(sys.stdin.buffer.read())
    answers = os.fdopen(os.dup(1), "w")
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    sys.path += job["path"]
    limit(job["timeout"], job["memory"])
    namespace = {"__name__": "candidate"}
    exec(compile(job["code"], "candidate", "exec"), namespace)
    exec(compile(job["setup"], "setup", "exec"), namespace)
    for expressions in job["tests"]:
        try:
            line = json.dumps([pack(eval(expression, namespace)) for expression in expressions])
        except BaseException:  # also exit() and the like: no value, so the test fails
            line = "null"
        answers.write(f"{line if len(line) <= job['line'] else 'null'}\n")
        answers.flush()
    os._exit(0)  # threads the candidate left behind end here


if __name__ == "__main__":
    main()
