"""What the browser draws with: charts of Vega-Lite and a grid of DataTables, both without a network.

anywidget gives up on a widget whose script is not there after 2 s, and then shows nothing that is chosen later. Where
the browser is busy these libraries take longer. So the script is a few lines, and the library, a value like others, is
loaded by the first drawing, which nothing hurries.
"""

from importlib import metadata

import altair as alt
import anywidget
import traitlets
import vl_convert
from itables.widget import ITable

from personagap.paths import CACHE
from personagap.responses import digest
from personagap.runs.files import whole

LOADER = """
async function render(context) {
    const source = new Blob([context.model.get("_library")], { type: "text/javascript" });
    const library = await import(URL.createObjectURL(source));
    return library.default.render(context);
}
export default { render };
"""
#: One drawing after the other, of the latest chart. A mark is a signal of the drawing that is there.
DRAW = """
async function render({ model, el }) {
    let view, drawn, last = Promise.resolve();
    el.style.overflowX = "auto";
    el.tabIndex = 0;
    el.setAttribute("role", "group");
    el.setAttribute("aria-label", "chart");
    const mark = () => view?.signal("picked", model.get("picked")).runAsync();
    async function draw() {
        const spec = model.get("spec");
        if (spec === drawn || !Object.keys(spec).length) return;
        view?.finalize();
        view = undefined;
        const made = await vegaEmbed(el, structuredClone(spec), { actions: false, renderer: "svg" });
        [view, drawn] = [made.view, spec];
        if (spec.params.some(({ name }) => name === "click"))
            view.addSignalListener("click", (_, value) => value?.key && model.send({ clicked: value.key[0] }));
        await mark();
    }
    const next = (step) => (last = last.catch(() => {}).then(step));
    model.on("change:spec", () => next(draw));
    model.on("change:picked", () => next(mark));
    await draw();
    return () => view?.finalize();
}
export default { render };
"""


def _bundle() -> str:
    """`DRAW` with all that it needs, bundled once and kept: that takes 2 s."""
    version, bundler = "_".join(alt.SCHEMA_VERSION.split(".")[:2]), metadata.version("vl-convert-python")
    path = CACHE / f"chart-{digest(bundler, version, DRAW)[:8]}.js"
    if not path.exists():
        with whole(path) as temporary:
            temporary.write_text(vl_convert.javascript_bundle(DRAW, vl_version=version), encoding="utf-8")
    return path.read_text(encoding="utf-8")


class Chart(anywidget.AnyWidget):
    """A chart of Vega-Lite, and what is picked in it; a click sends a message ``{"clicked": key}``."""

    _esm = LOADER
    _library = traitlets.Unicode().tag(sync=True)
    spec = traitlets.Dict().tag(sync=True)
    picked = traitlets.Unicode().tag(sync=True)

    def __init__(self, **values):
        super().__init__(_library=_bundle(), **values)


class Grid(ITable):
    """A table that is sorted, filtered and selected from."""

    _esm = LOADER
    _library = traitlets.Unicode(str(ITable._esm)).tag(sync=True)
