"""What runs under way are at, shown to who waits: a line for each, that changes in a terminal, or
one a minute.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from personagap.leaving import leaving
from personagap.progress import MINUTE
from personagap.runs.folder import PROGRESS
from personagap.store.folder import is_locked


def state(folder: Path) -> str:
    """What the run in ``folder`` asks, and in which section of its notebook; "" if it is none."""
    with contextlib.suppress(OSError):
        section, *asked = (folder / PROGRESS).read_text(encoding="utf-8").splitlines() or [""]
        # And not left behind by a runner that was killed.
        if section and is_locked(folder / ".lock"):
            return leaving(f"{folder.name}: {' · '.join([*filter(None, asked), section])}")
    return ""


@contextlib.contextmanager
def watching(folders: Sequence[Path]) -> Iterator[None]:
    """Show on stderr what the runs in ``folders`` are at while the block runs."""
    ended = threading.Event()
    # A terminal's line can be written over; a log, as of a cluster's job, only grows.
    show = _bars if sys.stderr.isatty() else _lines
    thread = threading.Thread(target=show, args=[folders, ended], daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _bars(folders: Sequence[Path], ended: threading.Event) -> None:
    bars: dict[Path, tqdm] = {}
    while not ended.wait(0.5):
        # 0 where a terminal does not tell.
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
        for folder in folders:
            if text := state(folder):
                if folder not in bars:
                    size = {"ncols": columns, "nrows": rows or len(folders) + 2}
                    bars[folder] = tqdm(bar_format="{desc}", leave=False, **size)
                # One line, or it would stay.
                bars[folder].set_description_str(text[: (columns or len(text) + 1) - 1])
            elif folder in bars and not (folder / PROGRESS).exists():
                bars.pop(folder).close()
    for bar in bars.values():
        bar.close()


def _lines(folders: Sequence[Path], ended: threading.Event) -> None:
    while not ended.wait(MINUTE):
        for text in filter(None, map(state, folders)):
            print(text, file=sys.stderr, flush=True)
