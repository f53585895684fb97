"""Verdicts: sentences computed from the result tables, with the uncertainty in them."""

from personagap.verdicts.instruments import (
    describe_components,
    describe_floors,
    describe_power,
    describe_validation,
    instruments,
)
from personagap.verdicts.persona import describe_bias, describe_validity, persona_effects
from personagap.verdicts.relevance import (
    describe_agreement,
    describe_differences,
    describe_relevance,
    describe_selection,
    relevance,
)
