"""A user's mistake in one line, on the command line too, where click takes four and Python many."""

import functools
import os
import signal
import sys
import warnings

import click

from personagap.errors import UserError
from personagap.leaving import leaving


def say(text: str, err: bool = False) -> None:
    """Print what comes from outside: a model, a server, a file."""
    click.echo(leaving(text), err=err)


class OneLine(click.Group):
    """A group whose commands report a user's mistake in one line and exit with status 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            sys.exit(_misused(error, ctx))

    def invoke(self, ctx: click.Context):
        # As an exception, so that what was begun is put away: a lock, a kernel, a half-written
        # file.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        # Who starts it may have closed some of these, whose numbers our files would then get.
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)
        os.close(number)
        sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115
        try:
            with warnings.catch_warnings():
                # Of each thing once.
                warn = functools.cache(lambda text: say(f"personagap: {text}", err=True))
                warnings.showwarning = lambda message, *_, **__: warn(str(message))
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("personagap: interrupted", err=True)
            sys.exit(128 + signal.SIGINT)
        except click.UsageError as error:
            sys.exit(_misused(error, ctx))
        except UserError as error:
            message = str(error)
        except BrokenPipeError:
            # Whoever reads has seen enough, as `head`: click ends quietly.
            raise
        except OSError as error:
            # As where there is no space, or no permission.
            message = f"{error.filename or 'input or output'}: {error.strerror or error}"
        say(f"personagap: {message}", err=True)
        sys.exit(2)


def _misused(error: click.UsageError, ctx: click.Context) -> int:
    """Say in a line how the command line is wrong, where click takes four; the exit status."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
    else:
        # Of an option that lacks its value click does not tell whose it is.
        command = f"{ctx.command_path} {ctx.invoked_subcommand or ''}".rstrip()
        if error.ctx:
            command = error.ctx.command_path
        say(f"personagap: {error.format_message().rstrip('.')}: see {command} --help", err=True)
    return error.exit_code
