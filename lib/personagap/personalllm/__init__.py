"""Code that only arXiv 2409.20296 (PersonalLLM) needs: simulated users, adaptation to them, and the
figures, published numbers and verdicts of its notebooks.
"""

from personagap._submodules import on_demand

__getattr__, __dir__, __all__ = on_demand(__name__, __path__)
