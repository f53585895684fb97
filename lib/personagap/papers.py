"""The papers whose experiments are repeated: one package, and one folder of ``data``, for each."""

import importlib
from types import ModuleType

from personagap.paths import DATA

#: Papers with published numbers in their folder of ``data/``.
PAPERS = tuple(sorted(file.parent.name for file in DATA.glob("*/published.csv")))


def module_of(paper: str, name: str) -> ModuleType | None:
    """Return the module called ``name`` of a paper's package, or None if it has none."""
    package = importlib.import_module(f"personagap.{paper}")
    return getattr(package, name) if name in dir(package) else None
