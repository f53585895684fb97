"""Simulated users: populations from reward models, what they like, and whose opinions they have."""

from personagap.users.heterogeneity import entropy, heterogeneity, heterogeneity_change, wins
from personagap.users.opinions import representativeness, simulated_opinions
from personagap.users.population import dirichlet, rewards, scores, vote_shares, winners
from personagap.users.regressions import regressions
from personagap.users.scoring import REWARD_MODELS, score_responses
