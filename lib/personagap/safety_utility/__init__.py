"""What only arXiv 2406.11107 (safety–utility trade-offs) needs: defences, DPO, its numbers and
words.
"""

from personagap._submodules import on_demand

__getattr__, __dir__, __all__ = on_demand(__name__, __path__)
