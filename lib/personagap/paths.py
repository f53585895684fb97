"""Where the project keeps its committed inputs and what it produces."""

import contextlib
import errno
import os
import stat
from pathlib import Path

from personagap.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
DEMO = DATA / "demo"
#: Answers of models, and what is downloaded. ``PERSONAGAP_CACHE`` moves it, e.g. to a larger disk.
CACHE = Path(os.environ.get("PERSONAGAP_CACHE", DATA / "cache"))
RESPONSES = CACHE / "responses"
FIGURES = ROOT / "figures"
NOTEBOOKS = ROOT / "notebooks"


def notebooks(folder: Path = NOTEBOOKS, pattern: str = "**/[!.]*.ipynb") -> list[Path]:
    """The notebooks in a folder that match, without the copies that Jupyter keeps beside them."""
    found = sorted(folder.glob(pattern))
    return [path for path in found if ".ipynb_checkpoints" not in path.parts]


def find_notebook(file: Path, name: str) -> Path:
    """The ``file`` that a ``name`` is of, or else the one of the project's notebooks of that name;
    `UserError` if there is none.
    """
    wanted, known = name.removesuffix(".ipynb"), notebooks()
    named = [each for each in known if wanted and each.with_suffix("").match(wanted)]
    # A file of that name is what was meant, wherever it lies.
    if file.exists() or (len(named) != 1 and "/" in name):
        return file
    if len(named) != 1:
        project = ", ".join(each.stem for each in known)
        raise UserError(f"no notebook {file}; the project's: {project}")
    return named[0]


def shown(path: str | Path) -> str:
    """A path as people read it: from the current folder, if that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)


def from_home(path: str | Path) -> str:
    """A path for whoever is sent a report: "~" in place of a home, which has its user's name."""
    home, path = Path(os.path.expanduser("~")), Path(path)
    return str("~" / path.relative_to(home) if path.is_relative_to(home) else path)


def regular(file: Path) -> Path:
    """The file itself; `OSError` if it is a pipe or a device, which would be waited for, or read
    without an end.
    """
    # As whoever opens it will find.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        mode = file.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "a pipe or a device, not a file", str(file))
    return file
