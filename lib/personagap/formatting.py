"""Format single values and names for readers.

Written without pandas, whose import would delay the reports.
"""

import csv
import functools
import re

import numpy as np

from personagap.paths import DATA

#: An identifier, alone or in a contrast: "do_not_answer", "muslim − none".
IDENTIFIER = re.compile(r"\w+( [−–·+] \w+)*( \(.*\))?")
MISSING = "–"


def format_number(value: object) -> str:
    """Format a number with about three significant digits; values that are not floats as they are.

    Examples
    --------
    >>> [format_number(value) for value in (1234.56, 68.229, 5.9971, -0.9039, 0.00047, 0.0)]
    ['1,235', '68.2', '6.00', '−0.904', '0.0005', '0']
    >>> [format_number(value) for value in (64, "mmlu", float("nan"), float("-inf"))]
    ['64', 'mmlu', '', '−∞']
    """
    if not isinstance(value, (float, np.floating)):
        return str(value)
    if np.isnan(value):
        return ""
    # Fixed-point by size: exponents would make the numbers of a column hard to compare.
    size = abs(float(value))
    decimals = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3
    text = f"{value:,.{decimals}f}" if size >= 0.001 else f"{value:.1g}"
    return text.replace("-", "−").replace("inf", "∞")


def to_text(value: object) -> str:
    """Format any value without Python syntax: no quotes, brackets, True or None.

    Examples
    --------
    >>> to_text({"model": "demo_1", "pinned": True, "sizes": [64, 1440], "device": None})
    'model: demo_1, pinned: yes, sizes: 64, 1,440, device: –'
    """
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{format_cell(name)}: {to_text(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(to_text, value))
    if value is None or type(value).__name__ in ("NaTType", "NAType"):
        return MISSING
    if isinstance(value, (int, np.integer)):
        return f"{value:,}".replace("-", "−")
    return format_number(value)


def humanize(name: object) -> str:
    """Return an identifier with spaces in place of underscores."""
    return str(name).replace("_", " ")


def format_cell(value: object) -> str:
    """Format a cell by `to_text`, and identifiers without underscores."""
    # Only identifiers: an underscore in a sentence or a path belongs there.
    text = to_text(value)
    return humanize(text) if isinstance(value, str) and IDENTIFIER.fullmatch(text) else text


@functools.cache
def word_table(name: str) -> list[dict[str, str]]:
    """Return the rows of a small table of texts, ``data/<name>.csv``.

    Read without pandas, which the runner does not need.
    """
    with (DATA / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
