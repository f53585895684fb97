"""What the browser draws with: charts of Vega-Lite and a grid of DataTables, without a network.

anywidget gives up on a widget whose script is not there after 2 s, and then shows nothing that is
chosen later. Where the browser is busy these libraries take longer. So the script is a few lines,
and the library, a value like others, is loaded by the first drawing, which nothing hurries.
"""

import contextlib
from importlib import metadata
from pathlib import Path

import anywidget
import traitlets
from itables.widget import ITable

from personagap.paths import CACHE
from personagap.responses import digest
from personagap.runs.files import write_text

#: How itables writes a missing number: as it is shown, and as it is sorted.
MISSING = '["&lt;NA&gt;", null]'
#: The script of every widget, and what draws a chart.
LOADER, CHART = (
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("loader.js", "chart.js")
)


def _bundle() -> str:
    """`CHART` with all that it needs, bundled once and kept: that takes 2 s."""
    path = CACHE / f"chart-{digest(metadata.version('vl-convert-python'), CHART)[:8]}.js"
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8")
    import vl_convert

    bundle = vl_convert.javascript_bundle(CHART, vl_version=vl_convert.get_vegalite_versions()[-1])
    with contextlib.suppress(OSError):
        write_text(path, bundle)
    return bundle


class Chart(anywidget.AnyWidget):
    """A chart of Vega-Lite, and what is picked; a click sends a message ``{"clicked": key}``."""

    _esm = LOADER
    _library = traitlets.Unicode().tag(sync=True)
    spec = traitlets.Dict().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    picked = traitlets.Unicode().tag(sync=True)

    def __init__(self, **values):
        super().__init__(_library=_bundle(), **values)


class Grid(ITable):
    """A table that is sorted, filtered and selected from; a missing number is an empty cell."""

    _esm = LOADER
    _library = traitlets.Unicode(str(ITable._esm)).tag(sync=True)

    @traitlets.validate("_dt_args")
    def _empty(self, proposed):
        # itables has no setting for how a missing number is spelt.
        rows = proposed["value"]["data_json"].replace(MISSING, '["", null]')
        return proposed["value"] | {"data_json": rows}
