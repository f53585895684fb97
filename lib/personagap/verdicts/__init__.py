"""Verdicts: sentences computed from the result tables, with the uncertainty in them."""

from personagap.verdicts.adaptation import across_users, forking_paths, in_context
from personagap.verdicts.conditions import describe_changes, describe_origin, mitigation, origin
from personagap.verdicts.instruments import (
    demo_model,
    describe_components,
    describe_floors,
    describe_power,
    describe_speed,
    describe_validation,
    instruments,
    speed,
)
from personagap.verdicts.persona import (
    control,
    describe_bias,
    describe_dimensions,
    describe_effects,
    describe_validity,
    persona_checks,
    persona_effects,
    requests,
)
from personagap.verdicts.relevance import (
    describe_agreement,
    describe_calibration,
    describe_classifiers,
    describe_differences,
    describe_relevance,
    describe_selection,
    relevance,
)
from personagap.verdicts.stages import describe_intervals, extraction, response
from personagap.verdicts.users import describe_users, simulated_users
