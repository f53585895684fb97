"""personagap: statistical tests of persona effects and of the synthetic–human gap.

``import personagap as pg`` is cheap: a submodule (``pg.effects``, ``pg.models`` …) is
imported when it is first used, so statistics alone never load torch.
"""

import importlib

__version__ = "0.1.0"
__all__ = [
    "ask", "attributes", "datasets", "demo", "effects", "figures", "gap", "judges", "models", "personas",
    "published", "responses", "runs", "sandbox", "tasks", "verdicts",
]  # fmt: skip


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f"personagap.{name}")
    raise AttributeError(f"module 'personagap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
