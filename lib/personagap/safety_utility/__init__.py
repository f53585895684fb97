"""Defences, DPO, published numbers and verdicts of arXiv 2406.11107 (safety–utility trade-offs)."""

from personagap._submodules import on_demand

__getattr__, __dir__, __all__ = on_demand(__name__, __path__)
