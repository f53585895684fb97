"""Personalization by examples: a user's own, those of controls, and those of similar users."""

from functools import partial

from personagap import _arguments, embeddings
from personagap.personalllm.adaptation import runlog
from personagap.personalllm.adaptation.icl import (
    CONTROLS,
    STRATEGIES,
    Examples,
    Study,
    plan_study,
    source_arms,
)
from personagap.personalllm.adaptation.neighbours import KINDS, NEAR, neighbour_arms, quality
from personagap.personalllm.adaptation.outcomes import by_database, compare, references, summarise
from personagap.personalllm.adaptation.serving import (
    by_generation,
    by_selection,
    cost,
    open_model,
    reward_models,
    serve,
)

#: Embed prompts or responses as unit vectors. Stop words are kept, as they carry style. The paper
#: used dunzhang/stella_en_400M_v5.
embed = partial(embeddings.embed, dimensions=64, stop_words=None)

_arguments.explain_errors_of(__name__)
