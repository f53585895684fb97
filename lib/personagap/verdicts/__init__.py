"""Verdicts: sentences computed from result tables, including their uncertainty."""

from personagap.verdicts.findings import (
    published_claims,
    real_persona_effects,
    real_relevance,
    real_remedies,
)
from personagap.verdicts.instruments import demo_model, instruments, speed
from personagap.verdicts.outcomes import outcomes
from personagap.verdicts.persona import (
    control,
    judge_corrected,
    persona_checks,
    persona_effects,
    requests,
)
from personagap.verdicts.wording import describe
