"""Figures from tidy tables: each function takes a frame and axes, and returns the axes."""

from personagap.figures.adaptation import *  # noqa: F403
from personagap.figures.conditions import *  # noqa: F403
from personagap.figures.design import *  # noqa: F403
from personagap.figures.gaps import *  # noqa: F403
from personagap.figures.persona import *  # noqa: F403
from personagap.figures.stages import *  # noqa: F403
from personagap.figures.style import CATEGORIES, PALETTE, use
from personagap.figures.users import *  # noqa: F403
