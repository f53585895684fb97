"""What a run's results rest on, as hashes: a run whose hashes differ is run again."""

import contextlib
import functools
import hashlib
import os
import subprocess
from pathlib import Path

from personagap import sandbox
from personagap.paths import CACHE, DATA, DEMO, ROOT
from personagap.runs.folder import latest_run
from personagap.runs.request import Request

#: Files of up to so many bytes, and models of any size, are known by their content.
SMALL, WEIGHTS = 2**26, (".safetensors", ".gguf", ".bin")


def hashes(request: Request) -> dict[str, str]:
    """Of the project's prompts and small tables, and of what the parameters name: name → hash."""
    # Those of the demo come below; what was measured or found, by runs too, is an input of the
    # notebook of that name alone.
    others = {DEMO, CACHE, DATA / "benchmarks", DATA / "findings"} - {DATA / request.notebook.stem}
    folders = [DATA, *(folder for folder in DATA.iterdir() if folder not in others)]
    read = {}
    for path in sorted(path for folder in folders for path in folder.glob("*")):
        if path.suffix in (".csv", ".txt", ".toml"):
            read[path.relative_to(DATA.parent).as_posix()] = _content(path, path.stat())[:16]
    # What runs write is no input, even where it lies in a folder of data: else none would be
    # finished.
    written = {request.figures.resolve(), CACHE.resolve()}
    if request.parameters.get("tasks") == "all" and (reason := sandbox.refusal()):
        # A run that left out programs is run again when there is one.
        read["sandbox"] = _digest(reason.encode())
    for notebook in request.reads:
        facts = latest_run(request.figures, notebook, request.parameters.get("data", "demo"))
        tables = _listing(facts["folder"] / "tables", set()) if facts else "none"
        read[f"tables of {notebook}"] = tables
    return {**read, "data/demo": _listing(DEMO, written)} | {
        name: _listing(path, written) for name, path in sorted(request.paths.items())
    }


def _listing(place: Path, written: set[Path]) -> str:
    """A hash of the names and `_mark`s of files; hidden ones, and what runs have ``written``, do
    not count.
    """
    found = [] if place.is_dir() else [(place.name, _mark(place))]
    for folder, folders, files in os.walk(place):
        if Path(folder) in written:
            folders.clear()
            continue
        folders[:] = [name for name in sorted(folders) if not name.startswith((".", "__"))]
        for path in (Path(folder, name) for name in sorted(files) if not name.startswith(".")):
            with contextlib.suppress(OSError):
                # A link to nowhere is no file of the input.
                found.append((str(path.relative_to(place)), _mark(path)))
    # Paths count as well as contents: a file that was renamed is another input.
    return _digest(repr(found).encode())


def _mark(path: Path) -> str:
    """What tells that a file was changed: its content; of a large one, no model, size and time."""
    told = path.stat()
    if not path.is_file() or (told.st_size > SMALL and path.suffix not in WEIGHTS):
        return f"{told.st_size} {told.st_mtime_ns}"
    return _content(path, told)


def _content(path: Path, told: os.stat_result) -> str:
    """Hash of a file's content, read once while its size and times (of which no program sets the
    last) stay.
    """
    return _read(path, told.st_size, told.st_mtime_ns, told.st_ctime_ns)


@functools.lru_cache(maxsize=2**16)
def _read(path: Path, *unchanged: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def library_hash() -> str:
    """Of all modules: a checkout's revision does not tell what is not committed yet."""
    # Recorded, not compared: an edit of the library would make every run start anew.
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def revision() -> str | None:
    """Git revision of the project, with "-dirty" if there are changes; None outside a checkout."""
    # Without its tags, of which a clone may lack some: the revision reads the same everywhere.
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.check_output(
            command, cwd=ROOT, stderr=subprocess.DEVNULL, text=True
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return None
