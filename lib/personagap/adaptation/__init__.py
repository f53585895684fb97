"""Personalization by examples: a user's own, those of controls, and those of similar users."""

from personagap.adaptation import runlog
from personagap.adaptation.icl import CONTROLS, STRATEGIES, Study, plan_study, source_arms
from personagap.adaptation.neighbours import KINDS, embed, neighbour_arms
from personagap.adaptation.outcomes import by_generation, by_selection, compare, references, serve, summarise
