"""Progress of requests: a bar in a terminal or in JupyterLab, elsewhere one line per minute.

The kernel of a run and its runner are separate processes, perhaps on different machines. The kernel
therefore writes its progress to a file in the run's folder, and the runner shows it
(``runs.watch``).
"""

import contextlib
import functools
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import auto, tqdm

from personagap.redaction import sanitize

#: The environment variable with the path of the progress file of this process's run.
FILE = "PERSONAGAP_PROGRESS"
#: Seconds between lines where no bar can be shown.
MINUTE = 60.0
LINE = "{n:,} of {total:,} requests{postfix}, {remaining} left · {desc}"


class _LineWriter(io.TextIOBase):
    """A file for tqdm that passes each line to ``write_line``, without the control characters that
    clear a line in a terminal.
    """

    def __init__(self, write_line: Callable[[str], None]):
        self._write_line = write_line

    def write(self, text: str) -> int:
        if line := text.strip():
            self._write_line(line)
        return len(text)


@contextlib.contextmanager
def request_bar(title: str, total: int, answered: int) -> Iterator[Callable[..., None]]:
    """Show how many of ``total`` requests are answered, starting from ``answered``.

    Yields a function ``update(answers, tokens)`` to be called with the number of new answers and of
    the tokens in them; it may be called from any thread.
    """
    file = os.environ.get(FILE)
    kind: type[tqdm] = tqdm
    how: dict[str, Any] = {"bar_format": LINE, "miniters": 1}
    if file:
        how |= {"file": _LineWriter(functools.partial(_write, Path(file))), "mininterval": 1.0}
    # tqdm has detected whether this is a notebook that can show widgets.
    elif auto.notebook_tqdm is not tqdm or sys.stderr.isatty():
        kind, how = auto.tqdm, {}
    else:
        print_line = functools.partial(print, file=sys.stderr, flush=True)
        how |= {"file": _LineWriter(print_line), "mininterval": MINUTE, "delay": MINUTE}
    start, total_tokens = time.monotonic(), 0
    with kind(desc=sanitize(title), total=total, initial=answered, unit="request", **how) as bar:

        def update(answers: int = 1, tokens: int = 0) -> None:
            nonlocal total_tokens
            with bar.get_lock():
                total_tokens += tokens
                if total_tokens:
                    rate = total_tokens / (time.monotonic() - start)
                    bar.set_postfix_str(f"{rate:,.0f} tokens/s", refresh=False)
                bar.update(answers)

        yield update
    if file:
        _write(Path(file), "")


def _write(file: Path, line: str) -> None:
    """Write ``line`` below the first line, the section of the notebook, which the runner writes."""
    with contextlib.suppress(OSError):
        # A progress line that cannot be written must not cost an answer.
        section = file.read_text(encoding="utf-8").partition("\n")[0]
        file.write_text(sanitize(f"{section}\n{line}"), encoding="utf-8")
