"""The markers of the figures, as the browser's charts draw them."""

import numpy as np


def _polygon(corners: int, *, turned: float = 0, inner: float = 1, narrow: float = 1) -> str:
    """A path around the origin: every second corner at ``inner`` of the radius, ``turned`` by parts
    of a corner.
    """
    angles = 2 * np.pi * (np.arange(corners) + turned) / corners
    radii = np.where(np.arange(corners) % 2, inner, 1)
    x, y = narrow * radii * np.sin(angles), -radii * np.cos(angles)
    points = [f"{across:.3f},{up:.3f}" for across, up in zip(x, y, strict=True)]
    return f"M{'L'.join(points)}Z"


def _cross() -> str:
    """A plus that lies on its side."""
    arm, plus = [(1, 3), (1, 1), (3, 1)], []
    for _ in range(4):
        plus += arm
        arm = [(y, -x) for x, y in arm]
    # Turned by an eighth of a circle, and as large as Vega's own shapes.
    return "M" + "L".join(f"{(x - y) / 4:.3f},{(x + y) / 4:.3f}" for x, y in plus) + "Z"


#: Matplotlib's name of a marker → Vega's. What Vega lacks is a path, so that a category has the
#: same mark here as in the figures.
SHAPES = {
    "o": "circle", "s": "square", "D": "diamond", "P": "cross", "X": _cross(), "d": _polygon(4,
    narrow=0.6),
    "^": "triangle-up", "v": "triangle-down", "<": "triangle-left", ">": "triangle-right",
    "p": _polygon(5), "h": _polygon(6), "H": _polygon(6, turned=0.5), "8": _polygon(8, turned=0.5),
    "*": _polygon(10, inner=0.45),
}  # fmt: skip
