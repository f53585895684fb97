"""Tooltips with exact numbers: every mark of a figure's SVG gets a ``<title>``, which browsers show
without a script.
"""

import io
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from personagap.formatting import format_number
from personagap.runs.vector import SVG, serialize


class Marks(NamedTuple):
    """An artist that draws one shape per text, and the ``texts``."""

    artist: Artist
    texts: list[str]


def svg(fig: Figure, **how) -> str:
    """Return a laid-out figure as SVG, with a title in every dot, interval and bar."""
    marks = [mark for ax in fig.axes for mark in _marks(ax)]
    # Figures may store the names of their dots as the gid, so each gid is restored below.
    gids = [artist.get_gid() for artist, _ in marks]
    for i, (artist, _) in enumerate(marks):
        artist.set_gid(f"marks-{i}")
    with io.StringIO() as buffer:
        fig.savefig(buffer, format="svg", **how)
        text = buffer.getvalue()
    for (artist, _), gid in zip(marks, gids, strict=True):
        artist.set_gid(gid)
    return _add_titles(text, marks)


def _add_titles(text: str, marks: list[Marks]) -> str:
    root = ElementTree.fromstring(text)
    groups = {group.get("id"): group for group in root.iter(f"{SVG}g")}
    for i, (_, titles) in enumerate(marks):
        group = groups.get(f"marks-{i}")
        shapes = [] if group is None else [*group.iter(f"{SVG}use")] or _drawn_paths(group)
        if len(shapes) != len(titles):
            # Drawn as an image, or clipped: no title is better than that of another mark.
            continue
        for shape, title in zip(shapes, titles, strict=True):
            ElementTree.SubElement(shape, f"{SVG}title").text = title
    return serialize(root)


def _drawn_paths(group: ElementTree.Element) -> list[ElementTree.Element]:
    """Return the paths that are drawn, without those that are only defined."""
    defined = {path for defs in group.iter(f"{SVG}defs") for path in defs.iter()}
    return [path for path in group.iter(f"{SVG}path") if path not in defined]


def _marks(ax: Axes) -> Iterator[Marks]:
    errorbar_lines = set()
    for container in ax.containers:
        if isinstance(container, ErrorbarContainer):
            line, caps, collections = container.lines
            errorbar_lines |= {line, *caps}
            if line is not None:
                texts = _errorbar_texts(ax, container)
                yield from (Marks(artist, texts) for artist in (line, *collections))
        elif isinstance(container, BarContainer):
            for patch in container.patches:
                x = patch.get_x() + patch.get_width() / 2
                y = patch.get_y() + patch.get_height() / 2
                if container.orientation == "vertical":
                    y = patch.get_height()
                else:
                    x = patch.get_width()
                yield Marks(patch, [_mark_text(ax, container.get_label(), x, y)])
    # Only lines with markers: others just connect points. Caps of error bars are no marks either.
    for line in ax.lines:
        if line not in errorbar_lines and line.get_marker() not in ("None", "", " "):
            yield Marks(line, _point_texts(ax, line, np.column_stack(line.get_data())))
    for dots in ax.collections:
        if isinstance(dots, PathCollection):
            yield Marks(dots, _point_texts(ax, dots, np.asarray(dots.get_offsets())))


def _point_texts(ax: Axes, artist: Artist, points: np.ndarray) -> list[str]:
    points = np.ma.filled(points.astype(float), np.nan)
    finite = points[np.isfinite(points).all(axis=1)]
    return [_mark_text(ax, artist.get_label(), x, y) for x, y in finite]


def _errorbar_texts(ax: Axes, container: ErrorbarContainer) -> list[str]:
    line, _, collections = container.lines
    points = np.column_stack(line.get_data()).astype(float)
    # The intervals of each point by dimension: 0 along x, 1 along y.
    intervals: list[dict[int, str]] = [{} for _ in points]
    for collection in collections:
        for interval, segment in zip(intervals, collection.get_segments(), strict=False):
            if len(segment):
                dimension = int(np.ptp(segment[:, 1]) > np.ptp(segment[:, 0]))
                low, high = (format_number(float(end)) for end in sorted(segment[:, dimension]))
                interval[dimension] = f" [{low}, {high}]"
    label, pairs = container.get_label(), zip(points, intervals, strict=True)
    texts = [_mark_text(ax, label, x, y, interval) for (x, y), interval in pairs]
    # Figures may store in the gid the names of dots that they have no space to print.
    names = (line.get_gid() or "").splitlines()
    if not len(names) == len(texts) > 1:
        return texts
    return [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]


def _mark_text(ax: Axes, series: object, x: float, y: float, intervals: dict | None = None) -> str:
    """Return the names of a mark, and its values with their intervals and the axes' labels."""
    names, values = [], []
    for dimension, (axis, value) in enumerate([(ax.xaxis, x), (ax.yaxis, y)]):
        category = _category(axis, value)
        if category is not None:
            names.append(category)
        else:
            label = axis.get_label_text().replace("\n", " ")
            text = f"{format_number(float(value))}{(intervals or {}).get(dimension, '')}"
            values.append(f"{text} ({label})" if label else text)
    # With numbers on both axes, it is a dot of a scatter plot, which an annotation may name.
    if len(values) == 2:
        notes = [note for note in ax.texts if isinstance(note, Annotation)]
        notes = [note for note in notes if note.xycoords == "data"]
        names += [note.get_text() for note in notes if np.allclose(note.xy, (x, y))]
    series = str(series or "")
    names += [series] if series and not series.startswith("_") else []
    text = f"{', '.join(names)}: {'; '.join(values)}" if names else "; ".join(values)
    # `figures.style.literal` has escaped the dollar signs.
    return text.replace(r"\$", "$")


def _category(axis: Axis, value: float) -> str | None:
    """Return the name of the row or column at ``value``, None on a numeric axis."""
    ticks = [float(tick) for tick in axis.get_majorticklocs()]
    # The formatter also knows the labels of an axis that shares them with its neighbour.
    labels = axis.get_major_formatter().format_ticks(ticks)
    if not any(any(map(str.isalpha, label)) and "mathdefault" not in label for label in labels):
        return None
    nearest = int(np.abs(np.asarray(ticks) - value).argmin())
    return labels[nearest].replace("\n", " ") if abs(ticks[nearest] - value) < 0.5 else None
