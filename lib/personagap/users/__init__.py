"""Simulated users: populations from reward models, what they like, and whose opinions they have."""

from personagap.users.heterogeneity import dependence, entropy, heterogeneity, heterogeneity_change, wins
from personagap.users.opinions import representativeness, simulated_opinions, survey
from personagap.users.population import dirichlet, rewards, scores, vote_shares, winners
from personagap.users.regressions import compare_regressions, regressions
from personagap.users.scoring import REWARD_MODELS, score_pairs, score_responses
