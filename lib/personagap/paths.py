"""Locations of the project's committed inputs and of its outputs."""

import contextlib
import errno
import os
import stat
from pathlib import Path

from personagap.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
DEMO = DATA / "demo"
#: Answers of models, and downloads. ``PERSONAGAP_CACHE`` moves them, for example to a larger disk.
CACHE = Path(os.path.expanduser(os.environ.get("PERSONAGAP_CACHE") or DATA / "cache"))
RESPONSES = CACHE / "responses"
FIGURES = ROOT / "figures"
NOTEBOOKS = ROOT / "notebooks"


def notebooks(folder: Path = NOTEBOOKS, pattern: str = "**/[!.]*.ipynb") -> list[Path]:
    """Return the notebooks in ``folder`` that match ``pattern``, without Jupyter's checkpoints."""
    paths = sorted(folder.glob(pattern))
    return [path for path in paths if ".ipynb_checkpoints" not in path.parts]


def find_notebook(file: Path, name: str) -> Path:
    """Return ``file`` if it exists, or else the one notebook of the project that matches ``name``.

    `UserError` is raised if there is none.
    """
    stem, known = name.removesuffix(".ipynb"), notebooks()
    # "." has no name to match.
    matching = [path for path in known if Path(stem).name and path.with_suffix("").match(stem)]
    # An existing file takes precedence over the project's notebooks.
    if file.exists() or (len(matching) != 1 and "/" in name):
        return file
    if len(matching) != 1:
        project = ", ".join(path.stem for path in known)
        raise UserError(f"no notebook {file}; the project's: {project}")
    return matching[0]


def absolute(name: str) -> Path:
    """Return an absolute path; ValueError for a name that is not UTF-8, as run.json has to be."""
    path = Path(name).resolve()
    str(path).encode()
    return path


def display_path(path: str | Path) -> str:
    """Return a path for display: relative to the current folder, if that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)


def abbreviate_home(path: str | Path) -> str:
    """Return a path with "~" for the home folder, whose name would reveal who wrote a report."""
    home, path = Path(os.path.expanduser("~")), Path(path)
    return str("~" / path.relative_to(home) if path.is_relative_to(home) else path)


def regular_file(file: Path) -> Path:
    """Return ``file``; raise `OSError` if it is a pipe or a device, whose reading might block or
    never end.
    """
    # A missing file is left to the caller, who gets the usual error on opening it.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        mode = file.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "a pipe or a device, not a file", str(file))
    return file
