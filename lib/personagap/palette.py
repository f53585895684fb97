"""Colours and markers, the same in figures and in the explorer. Nothing that draws is imported
here.
"""

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
    "sexuality": ("#96580F", "X"),
}
#: Controls, kinds of raters, and the papers' numbers.
ROLES = {
    "data": (PALETTE["data"], "o"),
    "control": (PALETTE["control"], "*"),
    "human": (PALETTE["human"], "o"),
    "model": (PALETTE["model"], "s"),
    "baseline": (PALETTE["noise"], "D"),
    "retrieval": (PALETTE["accent"], "^"),
    "trained": (PALETTE["control"], "P"),
    "published": (PALETTE["published"], "X"),
}
#: What is neither takes these in turn …
SERIES = [
    *((PALETTE["data"], "o"), (PALETTE["accent"], "s"), (PALETTE["control"], "D")),
    *((PALETTE["published"], "^"), (PALETTE["human"], "v")),
]
#: … and then these, as categories of one's own do. Like all but black they are seen on a dark page
#: too.
FURTHER = [
    *(("#117733", "<"), ("#B0305C", ">"), ("#6655BB", "p"), ("#999933", "h")),
    *(("#4F6D8F", "d"), ("#44AA99", "H"), ("#AA4499", "8"), ("#777777", "*")),
]


def marks(categories: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each category, in the order given after those of the project."""
    names = dict.fromkeys(categories)
    known = {name: style for name, style in CATEGORIES.items() if name in names}
    return known | _in_turn([name for name in names if name not in known], FURTHER)


def series(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each series of a chart: those of its role, or others."""
    names = dict.fromkeys(names)
    known = {name: style for name, style in ROLES.items() if name in names}
    taken = {colour for colour, _ in known.values()}
    free = [style for style in [*SERIES, *FURTHER] if style[0] not in taken]
    return known | _in_turn([name for name in names if name not in known], free)


def _in_turn(names: list[str], styles: list[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """A style for each name; where there are more names than styles, the colours come back with
    other markers.
    """
    colours, markers = zip(*styles, strict=True)
    n = len(styles)
    return {name: (colours[at % n], markers[(at + at // n) % n]) for at, name in enumerate(names)}
