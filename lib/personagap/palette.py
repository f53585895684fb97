"""Colours and markers of the figures and the explorer, without importing a plotting library."""

from collections.abc import Iterable

#: Okabe–Ito colours by role: "data" for measurements, "control" for control personas, "noise" for
#: values expected without an effect, "published" for numbers of the papers, "human" and "model" for
#: raters.
PALETTE = {
    "data": "#0072B2",
    "control": "#D55E00",
    "noise": "#999999",
    "published": "#CC79A7",
    "human": "#009E73",
    "model": "#0072B2",
    "accent": "#E69F00",
}
#: Colour and marker of the seven categories of identities; markers are distinct without colour.
CATEGORIES = {
    "disability": ("#000000", "s"),
    "religion": ("#0072B2", "o"),
    "race": ("#009E73", "^"),
    "gender": ("#CC79A7", "D"),
    "politics": ("#E69F00", "v"),
    "age": ("#56B4E9", "P"),
    "sexuality": ("#96580F", "X"),
}
#: Colour and marker of measurements, controls, kinds of raters and published numbers.
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
#: Colours and markers of series without a category or role, in order …
SERIES = [
    *((PALETTE["data"], "o"), (PALETTE["accent"], "s"), (PALETTE["control"], "D")),
    *((PALETTE["published"], "^"), (PALETTE["human"], "v")),
]
#: … and then these, which are also for the user's own categories. Like all colours but black they
#: are visible on dark backgrounds.
FURTHER = [
    *(("#117733", "<"), ("#B0305C", ">"), ("#6655BB", "p"), ("#999933", "h")),
    *(("#4F6D8F", "d"), ("#44AA99", "H"), ("#AA4499", "8"), ("#777777", "*")),
]


def category_styles(categories: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return colour and marker of each category: known categories first, others in their order."""
    names = dict.fromkeys(categories)
    assigned = {name: style for name, style in CATEGORIES.items() if name in names}
    return assigned | _cycle([name for name in names if name not in assigned], FURTHER)


def series_styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return colour and marker of each series of a chart: those of its role, or unused ones."""
    names = dict.fromkeys(names)
    assigned = {name: style for name, style in ROLES.items() if name in names}
    used = {colour for colour, _ in assigned.values()}
    free = [style for style in [*SERIES, *FURTHER] if style[0] not in used]
    return assigned | _cycle([name for name in names if name not in assigned], free)


def _cycle(names: list[str], styles: list[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Return a style for each name; if styles run out, colours are reused with other markers."""
    colours, markers = zip(*styles, strict=True)
    n = len(styles)
    return {name: (colours[i % n], markers[(i + i // n) % n]) for i, name in enumerate(names)}
