"""personagap: statistical tests of persona effects and of the synthetic–human gap.

``import personagap as pg`` is cheap: a submodule (``pg.effects``, ``pg.models`` …) is
imported when it is first used, so statistics alone never load torch.
"""

from personagap._submodules import on_demand

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = on_demand(__name__, __path__)
