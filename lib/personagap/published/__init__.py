"""The papers' numbers, beside measured ones."""

from personagap.published.numbers import PAPERS, beside, load
from personagap.published.personalllm import persona_prompting, personalization, run_log, simulated_users
from personagap.published.recentering import extraction, relevance, response
from personagap.published.safety_utility import mitigation, origin, personalization_bias
