"""Figures from tidy tables: each function takes a frame and axes, and returns the axes."""

from personagap.figures.claims import claims
from personagap.figures.design import noise_floor, power_curves
from personagap.figures.intervals import intervals
from personagap.figures.persona import (
    forest,
    panels,
    personalization_bias,
    safety_utility,
    validity,
)
from personagap.figures.style import use
from personagap.palette import CATEGORIES, PALETTE, category_styles
