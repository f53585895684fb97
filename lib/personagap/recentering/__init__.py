"""Code that only arXiv 2606.06614 (Re-Centering Humans) needs: its three stages (extraction,
relevance, response), and the figures, published numbers and verdicts of its notebooks.
"""

from personagap._submodules import on_demand

__getattr__, __dir__, __all__ = on_demand(__name__, __path__)
