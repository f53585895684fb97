"""Errors in one line on the command line, where click prints four lines and Python a traceback."""

import functools
import os
import signal
import sys
import warnings

import click

from personagap.errors import UserError
from personagap.redaction import sanitize


def echo_safely(text: str, err: bool = False) -> None:
    """Print text that may come from a model, a server or a file: without secrets and with control
    characters spelled out.
    """
    click.echo(sanitize(text), err=err)


class OneLine(click.Group):
    """A command group that reports a user's mistake in one line and exits with status 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            sys.exit(_report_usage_error(error, ctx))

    def invoke(self, ctx: click.Context):
        # SIGTERM raises an exception, so that locks, kernels and half-written files are cleaned up.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        # The parent process may have closed stdin, stdout or stderr; files opened later would then
        # get their descriptors.
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)
        os.close(number)
        sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115
        try:
            with warnings.catch_warnings():
                # The cache prints each warning once.
                warn = functools.cache(lambda text: echo_safely(f"personagap: {text}", err=True))
                warnings.showwarning = lambda message, *_, **__: warn(str(message))
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("personagap: interrupted", err=True)
            sys.exit(128 + signal.SIGINT)
        except click.UsageError as error:
            sys.exit(_report_usage_error(error, ctx))
        except UserError as error:
            message = str(error)
        except BrokenPipeError:
            # The reader, such as `head`, has closed the pipe: click exits quietly.
            raise
        except OSError as error:
            # For example a full disk or a lack of permission.
            message = f"{error.filename or 'input or output'}: {error.strerror or error}"
        echo_safely(f"personagap: {message}", err=True)
        sys.exit(2)


def _report_usage_error(error: click.UsageError, ctx: click.Context) -> int:
    """Print in one line what is wrong with the command line, and return the exit status."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
    else:
        # For an option without its value, click does not say which command it belongs to.
        command = f"{ctx.command_path} {ctx.invoked_subcommand or ''}".rstrip()
        if error.ctx:
            command = error.ctx.command_path
        problem = error.format_message().rstrip(".")
        echo_safely(f"personagap: {problem}: see {command} --help", err=True)
    return error.exit_code
