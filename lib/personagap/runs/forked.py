"""A run's kernel as a copy of the run's process, with what takes seconds to import.

The copy is made while that process has no other thread, whose locks it would find held for ever.
Then it waits.
"""

import json
import os
import signal
import socket
import sys
from importlib.metadata import EntryPoint
from typing import Any

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

#: The kernels that a copy can stand for: those of this Python, with nothing said of their
#: environment.
COMMAND = [sys.executable, "-m", "ipykernel_launcher"]


class Fork:
    """A copy of this process that becomes a kernel when it is told to, and ends with this process.

    With what of a ``subprocess.Popen`` jupyter_client uses. ``lock`` is a descriptor that the copy
    closes.
    """

    stdin = stdout = stderr = None

    def __init__(self, lock: int):
        self.returncode: int | None = None
        self._tells, hears = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            self._tells.close()
            os.close(lock)
            _wait_and_become_kernel(hears)
        hears.close()

    def start(self, arguments: list[str], cwd: str, environment: dict[str, str]) -> None:
        with self._tells:
            self._tells.sendall(json.dumps([arguments, cwd, environment]).encode())

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _wait_and_become_kernel(hears: socket.socket) -> None:
    """Become the kernel that `Fork.start` tells of; this never returns."""
    # An interrupt is for the kernel and what it started.
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Until the other end is closed: by `Fork.start`, which has told, or as that process ends.
    told = hears.makefile("rb").read()
    hears.close()
    if not told:
        os._exit(0)
    arguments, cwd, environment = json.loads(told)
    os.chdir(cwd)
    # What jupyter_client gives a kernel, and nothing of the run's own.
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["ipykernel_launcher", *arguments]

    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=arguments)
    sys.exit()


class Provisioner(LocalProvisioner):
    """Starts a kernel as usual, or the first that ``fork`` can be, as that."""

    fork: Fork | None = None
    process: Any = None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        fork, Provisioner.fork = Provisioner.fork, None
        size = len(COMMAND)
        # Another Python, or variables that must be there before anything is imported: no copy will
        # do.
        if fork is None or cmd[:size] != COMMAND or self.kernel_spec.env:
            return await super().launch_kernel(cmd, **kwargs)
        environment = kwargs["env"] | {"JPY_PARENT_PID": str(os.getpid())}
        self.cwd = kwargs.get("cwd") or os.getcwd()
        fork.start(cmd[size:], self.cwd, environment)
        self.process, self.pid, self.pgid = fork, fork.pid, fork.pid
        return self.connection_info


def offer(lock: int) -> None:
    """Copy this process for the first kernel that is asked for."""
    Provisioner.fork = Fork(lock)
    factory = KernelProvisionerFactory.instance()
    name = factory.default_provisioner_name = "personagap"
    factory.provisioners[name] = EntryPoint(name, f"{__name__}:Provisioner", factory.GROUP_NAME)
