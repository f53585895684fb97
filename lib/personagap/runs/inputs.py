"""Hashes of the inputs of a run, which is repeated when they change."""

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

#: Files of up to this many bytes, and model weights of any size, are identified by their content.
SMALL, WEIGHTS = 2**26, (".safetensors", ".gguf", ".bin")


def hashes(request: Request) -> dict[str, str]:
    """Return the hashes of the project's prompts and small tables, and of the files and folders
    that the parameters name, by name.
    """
    # The demo is added below. Benchmarks and findings, which runs themselves produce, are inputs
    # only of the notebooks with these names.
    others = {DEMO, CACHE, DATA / "benchmarks", DATA / "findings"} - {DATA / request.notebook.stem}
    folders = [DATA, *(folder for folder in DATA.iterdir() if folder not in others)]
    hash_of = {}
    for path in sorted(path for folder in folders for path in folder.glob("*")):
        if path.suffix in (".csv", ".txt", ".toml"):
            hash_of[path.relative_to(DATA.parent).as_posix()] = _content(path, path.stat())[:16]
    # The outputs of runs are not inputs, even inside a folder of data: otherwise each run would
    # change its own inputs.
    outputs = {request.figures.resolve(), CACHE.resolve()}
    if request.parameters.get("tasks") == "all" and (reason := sandbox.refusal()):
        # A run that left out program tasks for lack of a sandbox is repeated once there is one.
        hash_of["sandbox"] = _digest(reason.encode())
    for notebook in request.reads:
        facts = latest_run(request.figures, notebook, request.parameters.get("data", "demo"))
        tables = _listing(facts["folder"] / "tables", set()) if facts else "none"
        hash_of[f"tables of {notebook}"] = tables
    hash_of["data/demo"] = _listing(DEMO, outputs)
    return hash_of | {name: _listing(path, outputs) for name, path in sorted(request.paths.items())}


def _listing(root: Path, outputs: set[Path]) -> str:
    """Return a hash of the names and fingerprints of the files under ``root``.

    Hidden files and the folders ``outputs`` are left out.
    """
    entries = [] if root.is_dir() else [(root.name, _fingerprint(root))]
    for folder, folders, files in os.walk(root):
        if Path(folder) in outputs:
            folders.clear()
            continue
        folders[:] = [name for name in sorted(folders) if not name.startswith((".", "__"))]
        for path in (Path(folder, name) for name in sorted(files) if not name.startswith(".")):
            with contextlib.suppress(OSError):
                # A broken symbolic link is not an input.
                entries.append((str(path.relative_to(root)), _fingerprint(path)))
    # Paths count as well as contents: a renamed file is a changed input.
    return _digest(repr(entries).encode())


def _fingerprint(path: Path) -> str:
    """Return the hash of a file's content; for large files other than model weights, size and
    modification time.
    """
    stat = path.stat()
    if not path.is_file() or (stat.st_size > SMALL and path.suffix not in WEIGHTS):
        return f"{stat.st_size} {stat.st_mtime_ns}"
    return _content(path, stat)


def _content(path: Path, stat: os.stat_result) -> str:
    """Return the hash of a file's content, which is read again only when the file has changed."""
    # Programs may set the modification time to any value, but not the change time.
    return _hash_file(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@functools.lru_cache(maxsize=2**16)
def _hash_file(path: Path, *version: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def library_hash() -> str:
    """Return a hash of the library's modules, which include changes that are not committed yet."""
    # Recorded but not compared: otherwise an edit of the library would invalidate every run.
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def revision() -> str | None:
    """Return the project's git revision, "-dirty" if there are changes; None outside a checkout."""
    # Tags are excluded, since a clone may lack some: the revision reads the same everywhere.
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        output = subprocess.check_output(command, cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
        return output.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
