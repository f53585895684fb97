"""The one exception a user's mistake raises: a line that says what, where and how to fix it."""


class UserError(Exception):
    """Bad input. The command line prints its message alone; IPython shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]
