"""Layout of figures in the widths of a page and of a column of a paper."""

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

#: Widths in inches of a page and of a column, as usual in journals and conferences, by the suffix
#: of the file name.
WIDTHS = {"": 6.9, "_column": 3.35}
#: Minimum scale of texts, markers and heights, and minimum size of a text in points.
MIN_SCALE, MIN_FONT_SIZE = 0.62, 5.5
#: Size of a legend in points, and the maximum number of characters of entries that are placed side
#: by side in a column.
LEGEND_FONT_SIZE, MAX_SHORT_ENTRY = 6.5, 27
#: Maximum number of characters per line in a column: of titles and axis labels, and of names of
#: rows.
LINE_WIDTH, NAME_WIDTH = 40, 26
#: Factor by which the figure grows in height if names of rows are wrapped.
WRAPPED_NAMES_HEIGHT = 1.3


def fit_layout(fig: Figure) -> Bbox:
    """Lay out a figure once for all its files, and return its tight bounding box in inches.

    Unlike this, ``bbox_inches="tight"`` computes the layout again for each file.
    """
    if engine := fig.get_layout_engine():
        engine.execute(fig)
    # "none" keeps the layout that was computed.
    fig.set_layout_engine("none")
    return fig.get_tightbbox().padded(rcParams["savefig.pad_inches"])


@contextlib.contextmanager
def fast_saving(fig: Figure) -> Iterator[None]:
    """Write the files of a figure laid out by `fit_layout` smaller and in half the time.

    With any layout engine matplotlib draws a figure twice per file, once for the engine only. In a
    PDF each glyph is placed explicitly, so the layout tables of fonts are of no use and take the
    most time to write.
    """
    # A private attribute, because matplotlib offers no option for the tables.
    engine, default_tables = fig.get_layout_engine(), subset.Options._drop_tables_default
    with rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        fig.set_layout_engine(None)
    subset.Options._drop_tables_default = [*default_tables, "GDEF", "GPOS", "GSUB", "MATH"]
    try:
        yield
    finally:
        subset.Options._drop_tables_default = default_tables
        fig.set_layout_engine(engine)


def for_paper(fig: Figure) -> Iterator[str]:
    """Lay out ``fig`` in each of `WIDTHS` with legends below; yield the suffix of the file name.

    In a column, panels that are side by side are placed below each other.
    """
    legends = fig.findobj(Legend)
    entries: dict[str, Any] = {
        text.get_text(): handle
        for legend in legends
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }
    # The handle of a dot with an error bar is only the bar: use the original artists instead.
    containers = (container for ax in fig.axes for container in ax.containers)
    bars = {bar.get_label(): bar for bar in containers if isinstance(bar, ErrorbarContainer)}
    entries |= {label: bars[label] for label in entries.keys() & bars.keys()}
    titles = {legend.get_title().get_text(): None for legend in legends}
    lines = {line: line.get_markersize() for line in fig.findobj(Line2D)}
    for legend in legends:
        legend.remove()
    width, height = fig.get_size_inches()
    texts = {text: text.get_fontsize() for text in fig.findobj(Text)}
    for name, target in WIDTHS.items():
        # A figure with a colour bar does not allow another layout engine.
        with contextlib.suppress(RuntimeError):
            fig.set_layout_engine("constrained")
        scale = min(max(target / width, MIN_SCALE), 1)
        short = max(map(len, entries), default=0) <= MAX_SHORT_ENTRY
        columns = 4 if not name else 2 if short else 1
        legend_height = -(-len(entries) // columns) * 1.5 * LEGEND_FONT_SIZE / 72
        factor = _fit_to_column(fig) if name else 1
        fig.set_size_inches(target, height * scale * factor + legend_height)
        for text, size in texts.items():
            text.set_fontsize(max(scale * size, min(size, MIN_FONT_SIZE)))
        for line, size in lines.items():
            line.set_markersize(scale * size)
        options: dict[str, Any] = {"loc": "outside lower center", "ncols": columns}
        options |= {"title": ", ".join(filter(None, titles))}
        options |= {"fontsize": LEGEND_FONT_SIZE, "title_fontsize": LEGEND_FONT_SIZE}
        below = fig.legend(entries.values(), entries.keys(), **options) if entries else None
        yield name
        if below:
            below.remove()


def _fit_to_column(fig: Figure) -> float:
    """Wrap long texts and place the panels of a row below each other; return the height factor."""
    factor = 1.0
    for ax in fig.axes:
        longest = 0
        for axis in (ax.xaxis, ax.yaxis):
            ticks = [float(tick) for tick in axis.get_majorticklocs()]
            labels = axis.get_major_formatter().format_ticks(ticks)
            longest = max((len(name) for name in labels if "mathdefault" not in name), default=0)
            # Only names of rows are this long, numbers are not.
            if longest > NAME_WIDTH:
                axis.set_ticks(ticks, [_wrap(name, NAME_WIDTH) for name in labels])
                factor = WRAPPED_NAMES_HEIGHT
        # Beside long names of rows there is less room for titles.
        max_width = NAME_WIDTH if longest > NAME_WIDTH else LINE_WIDTH
        for side in ("left", "center", "right"):
            ax.set_title(_wrap(ax.get_title(side), max_width), loc=side)
        ax.set_xlabel(_wrap(ax.get_xlabel(), max_width))
        ax.set_ylabel(_wrap(ax.get_ylabel(), LINE_WIDTH))
    grids = {ax.get_gridspec() for ax in fig.axes}
    grid = grids.pop() if len(grids) == 1 else None
    if not isinstance(grid, GridSpec) or grid.nrows > 1:
        return factor
    column = GridSpec(grid.ncols, 1, figure=fig)
    for ax in fig.axes:
        spec: Any = ax.get_subplotspec()
        ax.set_subplotspec(column[spec.colspan.start : spec.colspan.stop])
        # Panels that shared the names of the first need their own now.
        if ax.get_shared_y_axes().joined(ax, fig.axes[0]):
            ax.tick_params(labelleft=True)
            ax.set_ylabel(fig.axes[0].get_ylabel())
    return factor * grid.ncols


def _wrap(text: str, width: int) -> str:
    """Wrap each line of a text at spaces."""
    options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    return "\n".join(textwrap.fill(line, width, **options) for line in text.split("\n"))
