"""Kernels that begin with what notebooks import: copies of one process that has imported it, for most of their time.

``python warm.py SOCKET`` is that process; ``python warm.py SOCKET CONNECTION_FILE`` stands for a kernel of it, and ends
with it. Nothing of the project is imported beforehand: it reads the environment of its run.
"""

# ruff: noqa: E401, F401, I001

import contextlib
import json
import os
import signal
import socket
import sys
import threading


def import_much() -> None:
    """What the notebooks import of others, by way of the project or not."""
    import accelerate, ipykernel.kernelapp, ipywidgets, itables.widget, matplotlib.pyplot, openai, peft
    import matplotlib.backends.backend_agg, matplotlib.backends.backend_pdf, matplotlib.backends.backend_svg
    import pyarrow.parquet, scipy.optimize, scipy.stats, seaborn, statsmodels.api, statsmodels.formula.api, torch
    from sklearn import decomposition, feature_extraction, linear_model, metrics, model_selection, neighbors, svm
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast, pipeline
    from trl import DPOConfig, DPOTrainer

    # TrueType in a PDF takes half the time of a figure; that a run's figures have it is shown in test_personas.py.
    matplotlib.rcParams.validate["pdf.fonttype"] = lambda wanted: 3


def serve(place: str) -> None:
    """Import, say so, and become a kernel in a copy of this process for each that is asked for."""
    import_much()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(place)
    listening.listen()
    signal.signal(signal.SIGCHLD, reap)
    print("ready", flush=True)
    while True:
        asked, _ = listening.accept()
        if not os.fork():
            listening.close()
            return become_kernel(asked)
        asked.close()


def reap(*_: object) -> None:
    with contextlib.suppress(ChildProcessError):  # none is left
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def become_kernel(asked: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, descriptors, *_ = socket.recv_fds(asked, 1 << 20, 3)
    task = json.loads(text)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.chdir(task["cwd"])
    os.environ.clear()
    os.environ.update(task["environment"])
    threading.Thread(target=lambda: os._exit(len(asked.recv(1))), daemon=True).start()  # it ends with who asked

    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=["-f", task["file"]])


def ask(place: str, file: str) -> None:
    """Ask for a kernel, with the streams, folder and environment of this process, and stay as long as it does."""
    # The kernel's parent is another process, which it must not watch.
    environment = {name: value for name, value in os.environ.items() if name != "JPY_PARENT_PID"}
    task = {"file": file, "cwd": os.getcwd(), "environment": environment}
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(place)
        socket.send_fds(asked, [json.dumps(task).encode()], [0, 1, 2])
        asked.recv(1)


if __name__ == "__main__":
    serve(*sys.argv[1:]) if len(sys.argv) == 2 else ask(*sys.argv[1:])
