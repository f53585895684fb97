"""The markers of the figures, as shapes of Vega for charts in the browser."""

import numpy as np


def _polygon(corners: int, *, turned: float = 0, inner: float = 1, narrow: float = 1) -> str:
    """Return the path of a polygon or star around the origin.

    Every second corner lies at ``inner`` times the radius. The shape is ``turned`` by that fraction
    of the angle between corners, and its width is scaled by ``narrow``.
    """
    angles = 2 * np.pi * (np.arange(corners) + turned) / corners
    radii = np.where(np.arange(corners) % 2, inner, 1)
    x, y = narrow * radii * np.sin(angles), -radii * np.cos(angles)
    points = [f"{x_i:.3f},{y_i:.3f}" for x_i, y_i in zip(x, y, strict=True)]
    return f"M{'L'.join(points)}Z"


def _cross() -> str:
    """Return the path of a diagonal cross: a plus sign, turned by 45 degrees."""
    arm, plus = [(1, 3), (1, 1), (3, 1)], []
    for _ in range(4):
        plus += arm
        arm = [(y, -x) for x, y in arm]
    # Scaled to the size of Vega's own shapes
    return "M" + "L".join(f"{(x - y) / 4:.3f},{(x + y) / 4:.3f}" for x, y in plus) + "Z"


#: Matplotlib markers and the corresponding shapes of Vega; shapes that Vega lacks are paths. So a
#: category has the same marker here as in the figures.
SHAPES = {
    "o": "circle", "s": "square", "D": "diamond", "P": "cross", "X": _cross(),
    "d": _polygon(4, narrow=0.6),
    "^": "triangle-up", "v": "triangle-down", "<": "triangle-left", ">": "triangle-right",
    "p": _polygon(5), "h": _polygon(6), "H": _polygon(6, turned=0.5), "8": _polygon(8, turned=0.5),
    "*": _polygon(10, inner=0.45),
}  # fmt: skip
