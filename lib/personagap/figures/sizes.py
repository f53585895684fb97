"""A figure in the widths of a paper's page and column."""

import contextlib
from collections.abc import Iterator
from typing import Any

from fontTools import subset
from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

#: Widths in inches of a page and of a column, as journals and
#: conferences have them, by the end of a file's name.
WIDTHS = {"": 6.9, "_column": 3.35}
#: The least that texts and markers are scaled by: 10 points become 6.2.
SMALLEST = 0.62
#: Size of a legend in points, and the longest entry of which two
#: stand beside each other in a column.
LEGEND, LONG = 6.5, 27


def fitted(fig: Figure) -> Bbox:
    """Lay a figure out, once for all files that are written of it; its bounds in inches, as of
    ``bbox_inches="tight"``, which would lay it out anew for each.
    """
    if engine := fig.get_layout_engine():
        engine.execute(fig)
    fig.set_layout_engine("none")  # keeps what was laid out
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
    """Lay ``fig`` out anew in each of `WIDTHS`, legends below;
    yields the end of the name to save it by.
    """
    legends = fig.findobj(Legend)
    entries: dict[str, Any] = {
        text.get_text(): handle
        for each in legends
        for text, handle in zip(each.get_texts(), each.legend_handles, strict=True)
    }
    for each in legends:
        each.remove()
    width, height = fig.get_size_inches()
    texts = {text: text.get_fontsize() for text in fig.findobj(Text)}
    lines = {line: line.get_markersize() for line in fig.findobj(Line2D)}
    for name, wanted in WIDTHS.items():
        # A colour bar keeps the layout that it was made with.
        with contextlib.suppress(RuntimeError):
            fig.set_layout_engine("constrained")
        scale = min(max(wanted / width, SMALLEST), 1)
        fig.set_size_inches(wanted, height * scale)
        for text, size in texts.items():
            text.set_fontsize(scale * size)
        for line, size in lines.items():
            line.set_markersize(scale * size)
        columns = 4 if not name else 2 if max(map(len, entries), default=0) <= LONG else 1
        below: dict[str, Any] = {
            "loc": "outside lower center",
            "ncols": columns,
            "fontsize": LEGEND,
        }
        legend = fig.legend(entries.values(), entries.keys(), **below) if entries else None
        yield name
        if legend:
            legend.remove()
