"""Status lines of current runs: one per run, updated in a terminal, or printed once per minute."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from personagap.progress import MINUTE
from personagap.redaction import sanitize
from personagap.runs.folder import PROGRESS
from personagap.store.folder import is_locked


def state(folder: Path) -> str:
    """Return the status line of the run in ``folder``: its requests and the section of its
    notebook; "" if it is not running.
    """
    with contextlib.suppress(OSError):
        section, *requests = (folder / PROGRESS).read_text(encoding="utf-8").splitlines() or [""]
        # Without the lock, a killed runner has left the file behind.
        if section and is_locked(folder / ".lock"):
            return sanitize(f"{folder.name}: {' · '.join([*filter(None, requests), section])}")
    return ""


@contextlib.contextmanager
def watching(folders: Sequence[Path]) -> Iterator[None]:
    """Show the status lines of the runs in ``folders`` on stderr while the block runs."""
    ended = threading.Event()
    # Lines in a terminal can be overwritten; in a log, such as that of a cluster job, they cannot.
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
        # Both are 0 if the terminal does not report its size.
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
        for folder in folders:
            if text := state(folder):
                if folder not in bars:
                    size = {"ncols": columns, "nrows": rows or len(folders) + 2}
                    bars[folder] = tqdm(bar_format="{desc}", leave=False, **size)
                # Longer text would wrap, and the extra line could not be overwritten.
                bars[folder].set_description_str(text[: (columns or len(text) + 1) - 1])
            elif folder in bars and not (folder / PROGRESS).exists():
                bars.pop(folder).close()
    for bar in bars.values():
        bar.close()


def _lines(folders: Sequence[Path], ended: threading.Event) -> None:
    while not ended.wait(MINUTE):
        for text in filter(None, map(state, folders)):
            print(text, file=sys.stderr, flush=True)
