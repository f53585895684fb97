"""The papers' numbers, beside measured ones."""

from personagap.published.numbers import PAPERS, beside, load, measured
from personagap.published.recentering import relevance
from personagap.published.safety_utility import personalization_bias
