"""Every estimator against a reference, under the null, and on planted effects.

``python -m personagap.validation`` prints the table; ``instruments.ipynb`` shows it.
"""

from personagap.validation.checks import Check, table
from personagap.validation.effects import EFFECTS, one_phrasing
from personagap.validation.gap import GAP
from personagap.validation.heterogeneous import HETEROGENEOUS
