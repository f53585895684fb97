"""How many requests are answered: a bar in a terminal or JupyterLab, elsewhere a line a minute.

The kernel of a run is another process than its runner, perhaps on another machine. It writes to a
file in the run's folder, which the runner shows (``runs.watch``).
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

from personagap.leaving import leaving

#: The environment variable that names the file of the run which this process belongs to.
FILE = "PERSONAGAP_PROGRESS"
#: Seconds between lines where nobody sees a bar move.
MINUTE = 60.0
LINE = "{n:,} of {total:,} requests{postfix}, {remaining} left · {desc}"


class _Lines(io.TextIOBase):
    """Hands on the lines that tqdm writes, without what clears them from a terminal."""

    def __init__(self, hand_on: Callable[[str], None]):
        self._hand_on = hand_on

    def write(self, text: str) -> int:
        if line := text.strip():
            self._hand_on(line)
        return len(text)


@contextlib.contextmanager
def asking(title: str, total: int, answered: int) -> Iterator[Callable[..., None]]:
    """Show how many of ``total`` requests are answered, ``answered`` of them before.

    Yields a function to be told of ``answers`` and the ``tokens`` in them, from any thread.
    """
    place = os.environ.get(FILE)
    kind: type[tqdm] = tqdm
    how: dict[str, Any] = {"bar_format": LINE, "miniters": 1}
    if place:
        how |= {"file": _Lines(functools.partial(_write, Path(place))), "mininterval": 1.0}
    # tqdm itself has found out whether this is a notebook that shows widgets.
    elif auto.notebook_tqdm is not tqdm or sys.stderr.isatty():
        kind, how = auto.tqdm, {}
    else:
        print_line = functools.partial(print, file=sys.stderr, flush=True)
        how |= {"file": _Lines(print_line), "mininterval": MINUTE, "delay": MINUTE}
    start, written = time.monotonic(), 0
    with kind(desc=leaving(title), total=total, initial=answered, unit="request", **how) as bar:

        def told(answers: int = 1, tokens: int = 0) -> None:
            nonlocal written
            with bar.get_lock():
                written += tokens
                if written:
                    rate = written / (time.monotonic() - start)
                    bar.set_postfix_str(f"{rate:,.0f} tokens/s", refresh=False)
                bar.update(answers)

        yield told
    if place:
        _write(Path(place), "")


def _write(place: Path, line: str) -> None:
    """Put what is asked below the section of the notebook, which the runner wrote."""
    with contextlib.suppress(OSError):
        # No answer is lost for a line that cannot be shown.
        section = place.read_text(encoding="utf-8").partition("\n")[0]
        place.write_text(leaving(f"{section}\n{line}"), encoding="utf-8")
