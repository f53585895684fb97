"""A run's kernel as a fork of the run's process, which has done the slow imports already.

The fork is made while that process has no other thread, whose locks would stay held in the fork for
ever. The fork then waits until a kernel is needed.
"""

import json
import os
import signal
import socket
import sys
from importlib.metadata import EntryPoint
from typing import Any

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

#: The command of the kernels that a fork can replace.
COMMAND = [sys.executable, "-m", "ipykernel_launcher"]


class Fork:
    """A fork of this process that becomes a kernel on request, and ends when this process ends.

    It has the part of the interface of ``subprocess.Popen`` that jupyter_client uses. ``lock`` is a
    descriptor that the fork closes.
    """

    stdin = stdout = stderr = None

    def __init__(self, lock: int):
        self.returncode: int | None = None
        self._sender, receiver = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            self._sender.close()
            os.close(lock)
            _wait_and_become_kernel(receiver)
        receiver.close()

    def start(self, arguments: list[str], cwd: str, environment: dict[str, str]) -> None:
        """Make the fork a kernel with these arguments."""
        with self._sender:
            self._sender.sendall(json.dumps([arguments, cwd, environment]).encode())

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


def _wait_and_become_kernel(receiver: socket.socket) -> None:
    """Wait for the message of `Fork.start` and become that kernel; this never returns."""
    # In its own session, interrupts reach only the kernel and the processes that it starts.
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Reads until the sender is closed: by `Fork.start`, or without a message when its process ends.
    message = receiver.makefile("rb").read()
    receiver.close()
    if not message:
        os._exit(0)
    arguments, cwd, environment = json.loads(message)
    os.chdir(cwd)
    # Only the variables that jupyter_client gives a kernel, and none of the run's own.
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["ipykernel_launcher", *arguments]

    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=arguments)
    sys.exit()


class Provisioner(LocalProvisioner):
    """Starts kernels as usual, except for the first one that ``fork`` can replace."""

    fork: Fork | None = None
    process: Any = None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        fork, Provisioner.fork = Provisioner.fork, None
        size = len(COMMAND)
        # A fork cannot replace another Python, nor a kernel with environment variables, which must
        # be set before anything is imported.
        if fork is None or cmd[:size] != COMMAND or self.kernel_spec.env:
            return await super().launch_kernel(cmd, **kwargs)
        environment = kwargs["env"] | {"JPY_PARENT_PID": str(os.getpid())}
        self.cwd = kwargs.get("cwd") or os.getcwd()
        fork.start(cmd[size:], self.cwd, environment)
        self.process, self.pid, self.pgid = fork, fork.pid, fork.pid
        return self.connection_info


def prepare_fork(lock: int) -> None:
    """Fork this process for the first kernel that is started."""
    Provisioner.fork = Fork(lock)
    factory = KernelProvisionerFactory.instance()
    name = factory.default_provisioner_name = "personagap"
    factory.provisioners[name] = EntryPoint(name, f"{__name__}:Provisioner", factory.GROUP_NAME)
