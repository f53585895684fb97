"""Colours and markers, the same in figures and in the explorer. Nothing that draws is imported here."""

import itertools
from collections.abc import Iterable

#: Okabe–Ito colours by role: "data" for what was measured, "control" for the controls, "noise" for
#: what no effect would give, "published" for the papers' numbers, "human" and "model" for raters.
PALETTE = {
    "data": "#0072B2",
    "control": "#D55E00",
    "noise": "#999999",
    "published": "#CC79A7",
    "human": "#009E73",
    "model": "#0072B2",
    "accent": "#E69F00",
}
#: Seven categories of identity, distinguishable without colour by the marker beside it.
CATEGORIES = {
    "disability": ("#000000", "s"),
    "religion": ("#0072B2", "o"),
    "race": ("#009E73", "^"),
    "gender": ("#CC79A7", "D"),
    "politics": ("#E69F00", "v"),
    "age": ("#56B4E9", "P"),
    "sexuality": ("#8C510A", "X"),
}
#: Those of one's own take these in turn.
FURTHER = [
    *(("#117733", "<"), ("#882255", ">"), ("#332288", "p"), ("#999933", "h")),
    *(("#661100", "d"), ("#44AA99", "H"), ("#AA4499", "8"), ("#777777", "*")),
]


def marks(categories: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each category, in the order given after those of the project."""
    names = dict.fromkeys(categories)
    own = [name for name in names if name not in CATEGORIES]
    further = dict(zip(own, itertools.cycle(FURTHER), strict=False))
    return {name: style for name, style in CATEGORIES.items() if name in names} | further
