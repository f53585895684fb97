"""Verdicts: sentences computed from the result tables, with the uncertainty in them."""

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
from personagap.verdicts.wording import describe_intervals
