"""Exact numbers in a figure: every mark of its SVG gets a ``<title>``, which browsers show without
a script.
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

from personagap.runs.vector import SVG, written
from personagap.spelling import number


class Marks(NamedTuple):
    """An artist that draws one shape for each of its ``texts``."""

    artist: Artist
    texts: list[str]


def svg(fig: Figure, **how) -> str:
    """A figure that was laid out as SVG with a title in every dot, interval and bar."""
    marks = [each for ax in fig.axes for each in _marks(ax)]
    # A figure may keep names of its dots there: they are put back.
    before = [each.artist.get_gid() for each in marks]
    for place, each in enumerate(marks):
        each.artist.set_gid(f"marks-{place}")
    with io.StringIO() as buffer:
        fig.savefig(buffer, format="svg", **how)
        text = buffer.getvalue()
    for each, gid in zip(marks, before, strict=True):
        each.artist.set_gid(gid)
    return _titled(text, marks)


def _titled(text: str, marks: list[Marks]) -> str:
    root = ElementTree.fromstring(text)
    groups = {group.get("id"): group for group in root.iter(f"{SVG}g")}
    for place, (_, texts) in enumerate(marks):
        group = groups.get(f"marks-{place}")
        shapes = [] if group is None else [*group.iter(f"{SVG}use")] or _paths(group)
        if len(shapes) != len(texts):
            continue  # drawn as an image, or partly out of sight: rather no number than another's
        for shape, said in zip(shapes, texts, strict=True):
            ElementTree.SubElement(shape, f"{SVG}title").text = said
    return written(root)


def _paths(group: ElementTree.Element) -> list[ElementTree.Element]:
    """Paths that are drawn, not those that are only defined."""
    defined = {path for defs in group.iter(f"{SVG}defs") for path in defs.iter()}
    return [path for path in group.iter(f"{SVG}path") if path not in defined]


def _marks(ax: Axes) -> Iterator[Marks]:
    bars = set()
    for container in ax.containers:
        if isinstance(container, ErrorbarContainer):
            line, caps, collections = container.lines
            bars |= {line, *caps}
            if line is not None:
                texts = _errorbar(ax, container)
                yield from (Marks(artist, texts) for artist in (line, *collections))
        elif isinstance(container, BarContainer):
            for patch in container.patches:
                upright = container.orientation == "vertical"
                value = patch.get_height() if upright else patch.get_width()
                across = patch.get_x() + patch.get_width() / 2
                up = patch.get_y() + patch.get_height() / 2
                x, y = (across, value) if upright else (value, up)
                yield Marks(patch, [_said(ax, container.get_label(), x, y)])
    for line in ax.lines:  # not those that only join points, nor an interval's ends
        if line not in bars and line.get_marker() not in ("None", "", " "):
            yield Marks(line, _points(ax, line, np.column_stack(line.get_data())))
    for collection in ax.collections:
        if isinstance(collection, PathCollection):
            yield Marks(collection, _points(ax, collection, np.asarray(collection.get_offsets())))


def _points(ax: Axes, artist: Artist, places: np.ndarray) -> list[str]:
    places = np.ma.filled(places.astype(float), np.nan)
    return [_said(ax, artist.get_label(), x, y) for x, y in places[np.isfinite(places).all(axis=1)]]


def _errorbar(ax: Axes, container: ErrorbarContainer) -> list[str]:
    line, _, collections = container.lines
    places = np.column_stack(line.get_data()).astype(float)
    ends: list[dict[int, str]] = [{} for _ in places]
    for collection in collections:
        for held, segment in zip(ends, collection.get_segments(), strict=False):
            along = int(np.ptp(segment[:, 1]) > np.ptp(segment[:, 0])) if len(segment) else 0
            if len(segment):
                low, high = (number(float(end)) for end in sorted(segment[:, along]))
                held[along] = f" [{low}, {high}]"
    label = container.get_label()
    texts = [_said(ax, label, x, y, held) for (x, y), held in zip(places, ends, strict=True)]
    # A figure may give each dot a name that it has no room for.
    names = (line.get_gid() or "").splitlines()
    if not len(names) == len(texts) > 1:
        return texts
    return [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]


def _said(ax: Axes, series: object, x: float, y: float, ends: dict[int, str] | None = None) -> str:
    """What names the mark, and its values with their intervals and what the axes say of them."""
    names, values = [], []
    for along, (axis, value) in enumerate([(ax.xaxis, x), (ax.yaxis, y)]):
        row = _row(axis, value)
        if row is not None:
            names.append(row)
        else:
            what = axis.get_label_text().replace("\n", " ")
            said = f"{number(float(value))}{(ends or {}).get(along, '')}"
            values.append(f"{said} ({what})" if what else said)
    if len(values) == 2:  # a dot among others: what is written beside it
        notes = [note for note in ax.texts if isinstance(note, Annotation)]
        notes = [note for note in notes if note.xycoords == "data"]
        names += [note.get_text() for note in notes if np.allclose(note.xy, (x, y))]
    series = str(series or "")
    names += [series] if series and not series.startswith("_") else []
    text = f"{', '.join(names)}: {'; '.join(values)}" if names else "; ".join(values)
    return text.replace(r"\$", "$")  # of `figures.style.literal`


def _row(axis: Axis, value: float) -> str | None:
    """The name of the row or column at ``value``; None where the axis has numbers."""
    ticks = [float(tick) for tick in axis.get_majorticklocs()]
    # Also of an axis that leaves its labels to a neighbour.
    labels = axis.get_major_formatter().format_ticks(ticks)
    if not any(any(map(str.isalpha, label)) and "mathdefault" not in label for label in labels):
        return None
    nearest = int(np.abs(np.asarray(ticks) - value).argmin())
    return labels[nearest].replace("\n", " ") if abs(ticks[nearest] - value) < 0.5 else None
