"""A figure in the widths of a paper's page and column."""

import contextlib
import textwrap
from collections.abc import Iterator
from typing import Any

from fontTools import subset
from matplotlib import rc_context, rcParams
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

#: Widths in inches of a page and of a column, as journals and conferences have them, by the end of
#: a file's name.
WIDTHS = {"": 6.9, "_column": 3.35}
#: The least that texts, markers and heights are scaled by, and the least size of a text in points.
SMALLEST, LEAST = 0.62, 5.5
#: Size of a legend in points, and the longest entry of which two stand beside each other in a
#: column.
LEGEND, LONG = 6.5, 27
#: Most characters of a line in a column: of what stands over or along an axis, and of the name of a
#: row.
LINE, NAME = 40, 26
#: What rows with a name in several lines are higher by.
TWO_LINES = 1.3


def fitted(fig: Figure) -> Bbox:
    """Lay a figure out, once for all files that are written of it; its bounds in inches, as of
    ``bbox_inches="tight"``, which would lay it out anew for each.
    """
    if engine := fig.get_layout_engine():
        engine.execute(fig)
    # Keeps what was laid out.
    fig.set_layout_engine("none")
    return fig.get_tightbbox().padded(rcParams["savefig.pad_inches"])


@contextlib.contextmanager
def saving(fig: Figure) -> Iterator[None]:
    """What makes the files of a figure that is `fitted` in half the time, and smaller.

    With any layout engine matplotlib draws a figure for each file twice, once for the engine alone.
    And a PDF places each glyph by itself: tables that lay out a text are no use to its fonts, and
    take longest to write.
    """
    # Matplotlib lets nobody else say so.
    engine, kept = fig.get_layout_engine(), subset.Options._drop_tables_default
    with rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        fig.set_layout_engine(None)
    subset.Options._drop_tables_default = [*kept, "GDEF", "GPOS", "GSUB", "MATH"]
    try:
        yield
    finally:
        subset.Options._drop_tables_default = kept
        fig.set_layout_engine(engine)


def for_paper(fig: Figure) -> Iterator[str]:
    """Lay ``fig`` out anew in each of `WIDTHS`, legends below; yields the end of the name to save
    it by.

    In a column, panels that stood side by side stand below each other.
    """
    legends = fig.findobj(Legend)
    entries: dict[str, Any] = {
        text.get_text(): handle
        for each in legends
        for text, handle in zip(each.get_texts(), each.legend_handles, strict=True)
    }
    # Of a dot with its interval a legend keeps but the interval.
    bars = (each for ax in fig.axes for each in ax.containers)
    whole = {each.get_label(): each for each in bars if isinstance(each, ErrorbarContainer)}
    entries |= {label: whole[label] for label in entries.keys() & whole.keys()}
    titles = {each.get_title().get_text(): None for each in legends}
    lines = {line: line.get_markersize() for line in fig.findobj(Line2D)}
    for each in legends:
        each.remove()
    width, height = fig.get_size_inches()
    texts = {text: text.get_fontsize() for text in fig.findobj(Text)}
    for name, wanted in WIDTHS.items():
        # A colour bar keeps the layout that it was made with.
        with contextlib.suppress(RuntimeError):
            fig.set_layout_engine("constrained")
        scale = min(max(wanted / width, SMALLEST), 1)
        columns = 4 if not name else 2 if max(map(len, entries), default=0) <= LONG else 1
        explained = -(-len(entries) // columns) * 1.5 * LEGEND / 72
        fig.set_size_inches(wanted, height * scale * (_narrowed(fig) if name else 1) + explained)
        for text, size in texts.items():
            text.set_fontsize(max(scale * size, min(size, LEAST)))
        for line, size in lines.items():
            line.set_markersize(scale * size)
        below: dict[str, Any] = {"loc": "outside lower center", "ncols": columns}
        below |= {"title": ", ".join(filter(None, titles))}
        below |= {"fontsize": LEGEND, "title_fontsize": LEGEND}
        legend = fig.legend(entries.values(), entries.keys(), **below) if entries else None
        yield name
        if legend:
            legend.remove()


def _narrowed(fig: Figure) -> float:
    """Put panels of one row below each other, and long texts in several lines; how much higher the
    figure gets.
    """
    higher = 1.0
    for ax in fig.axes:
        longest = 0
        for axis in (ax.xaxis, ax.yaxis):
            places = [float(place) for place in axis.get_majorticklocs()]
            names = axis.get_major_formatter().format_ticks(places)
            longest = max((len(name) for name in names if "mathdefault" not in name), default=0)
            # Names of rows: no number is as long.
            if longest > NAME:
                axis.set_ticks(places, [_wrapped(name, NAME) for name in names])
                higher = TWO_LINES
        # The titles of axes with long names are as wide as the room beside these.
        room = NAME if longest > NAME else LINE
        for side in ("left", "center", "right"):
            ax.set_title(_wrapped(ax.get_title(side), room), loc=side)
        ax.set_xlabel(_wrapped(ax.get_xlabel(), room))
        ax.set_ylabel(_wrapped(ax.get_ylabel(), LINE))
    grids = {ax.get_gridspec() for ax in fig.axes}
    grid = grids.pop() if len(grids) == 1 else None
    if not isinstance(grid, GridSpec) or grid.nrows > 1:
        return higher
    below = GridSpec(grid.ncols, 1, figure=fig)
    for ax in fig.axes:
        place: Any = ax.get_subplotspec()
        ax.set_subplotspec(below[place.colspan.start : place.colspan.stop])
        # The others had left their names to the first.
        if ax.get_shared_y_axes().joined(ax, fig.axes[0]):
            ax.tick_params(labelleft=True)
            ax.set_ylabel(fig.axes[0].get_ylabel())
    return higher * grid.ncols


def _wrapped(text: str, most: int) -> str:
    whole: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    return "\n".join(textwrap.fill(line, most, **whole) for line in text.split("\n"))
