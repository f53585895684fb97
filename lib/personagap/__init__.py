"""personagap: statistical tests of persona effects and of the synthetic–human gap.

``import personagap as pg`` is cheap: a submodule (``pg.effects``, ``pg.models`` …) is
imported when it is first used, so statistics alone never load torch.
"""

import importlib
import pkgutil

__version__ = "0.1.0"
__all__ = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f"personagap.{name}")
    raise AttributeError(f"module 'personagap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
