"""Benchmarks of the expensive parts against the libraries one would use instead, for
``notebooks/performance.ipynb``.
"""

from personagap.performance.timing import machine, machine_limits, paired, random_model

__all__ = ["machine", "machine_limits", "paired", "random_model"]
