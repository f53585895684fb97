"""Simulated users: populations of weighted reward models, their preferences and their opinions."""

from personagap import _arguments
from personagap.datasets.personalllm import REWARD_MODELS
from personagap.personalllm.users.heterogeneity import (
    dependence,
    entropy,
    heterogeneity,
    heterogeneity_change,
    wins,
)
from personagap.personalllm.users.opinions import representativeness, simulated_opinions, survey
from personagap.personalllm.users.population import dirichlet, rewards, scores, vote_shares, winners
from personagap.personalllm.users.regressions import compare_regressions, regressions
from personagap.personalllm.users.scoring import score_pairs, score_responses

_arguments.explain_errors_of(__name__)
