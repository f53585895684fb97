"""Validation of every estimator against a reference, under the null and with planted effects.

``python -m personagap.validation`` prints the tables; ``instruments.ipynb`` shows them.
"""

from personagap.validation.cases import Case, kept, run_cases
from personagap.validation.checks import Check, false_alarms, run_checks
from personagap.validation.decisions import DECISIONS, UNEVEN_DECISIONS
from personagap.validation.effects import EFFECTS, one_phrasing
from personagap.validation.gap import GAP
from personagap.validation.heterogeneous import BIAS, CHANGE, MANY
from personagap.validation.people import PEOPLE, UNEVEN_PEOPLE
from personagap.validation.uneven_raters import FEW, RATERS

#: Validations on exchangeable data, and on heterogeneous data.
EVEN = [*EFFECTS, *DECISIONS, *GAP, *PEOPLE]
UNEVEN = [*BIAS, *CHANGE, *RATERS, *MANY, *FEW, *UNEVEN_PEOPLE, *UNEVEN_DECISIONS]
