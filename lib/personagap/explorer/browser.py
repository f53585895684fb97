"""The widgets drawn in the browser: Vega-Lite charts and a DataTables grid, without a network.

anywidget gives up on a widget whose script does not load within 2 s, and then ignores all later
changes. In a busy browser these libraries take longer. So the script of each widget is only a few
lines, and the library is passed as an ordinary trait and loaded by the first drawing, which has no
time limit.
"""

import contextlib
from importlib import metadata
from pathlib import Path

import anywidget
import traitlets
from itables.widget import ITable

from personagap.hashing import digest
from personagap.paths import CACHE
from personagap.runs.files import write_text

#: A missing number as itables writes it: the text shown, and the value for sorting
MISSING = '["&lt;NA&gt;", null]'
#: The script of every widget, and the one that draws charts
LOADER, CHART = (
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("loader.js", "chart.js")
)


def _bundle() -> str:
    """Return `CHART` bundled with its dependencies, from a cache, since bundling takes 2 s."""
    path = CACHE / f"chart-{digest(metadata.version('vl-convert-python'), CHART)[:8]}.js"
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8")
    import vl_convert

    bundle = vl_convert.javascript_bundle(CHART, vl_version=vl_convert.get_vegalite_versions()[-1])
    with contextlib.suppress(OSError):
        write_text(path, bundle)
    return bundle


class Chart(anywidget.AnyWidget):
    """A Vega-Lite chart with a picked key; a click sends a message ``{"clicked": key}``."""

    _esm = LOADER
    _library = traitlets.Unicode().tag(sync=True)
    spec = traitlets.Dict().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    picked = traitlets.Unicode().tag(sync=True)

    def __init__(self, **values):
        super().__init__(_library=_bundle(), **values)


class Grid(ITable):
    """A table with sorting, filters and selection; missing numbers are empty cells."""

    _esm = LOADER
    _library = traitlets.Unicode(str(ITable._esm)).tag(sync=True)

    @traitlets.validate("_dt_args")
    def _blank_missing(self, proposal):
        # itables has no setting for the text of missing numbers.
        rows = proposal["value"]["data_json"].replace(MISSING, '["", null]')
        return proposal["value"] | {"data_json": rows}
