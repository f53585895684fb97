"""Lazy import of submodules, so that the statistics alone never load torch."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable


def on_demand(package: str, path: Iterable[str]) -> tuple[Callable, Callable, list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package (PEP 562)."""
    modules = (module.name for module in pkgutil.iter_modules(path))
    names = [name for name in modules if not name.startswith("_")]

    def load(name: str):
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, lambda: sorted(names), names
