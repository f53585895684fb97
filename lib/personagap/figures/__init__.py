"""Figures from tidy tables: each function takes a frame and axes, and returns the axes."""

from personagap.figures.claims import *  # noqa: F403
from personagap.figures.design import *  # noqa: F403
from personagap.figures.intervals import *  # noqa: F403
from personagap.figures.persona import *  # noqa: F403
from personagap.figures.style import use
from personagap.palette import CATEGORIES, PALETTE, category_styles
