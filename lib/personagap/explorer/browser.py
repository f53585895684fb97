"""What the browser draws with: charts of Vega-Lite and a grid of DataTables, both without a network.

anywidget gives up on a widget whose script is not there after 2 s, and then shows nothing that is chosen later. Where
the browser is busy these libraries take longer. So the script is a few lines, and the library, a value like others, is
loaded by the first drawing, which nothing hurries.
"""

from importlib import metadata

import anywidget
import traitlets
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
#: One drawing after the other, of the latest chart. What is picked is a signal of the drawing that is there, and where
#: only data changed it stays too: that takes a fifth of the time, and nothing flickers.
DRAW = """
async function render({ model, el }) {
    let view, drawn, shown, last = Promise.resolve();
    el.style.overflowX = "auto";
    el.tabIndex = 0;
    el.setAttribute("role", "group");
    el.setAttribute("aria-label", "chart");
    async function mark() {
        const picked = model.get("picked");
        if (view && view.signal("picked") !== picked) await view.signal("picked", picked).runAsync();
    }
    async function draw() {
        const [spec, data] = [model.get("spec"), model.get("data")];
        const words = JSON.stringify(spec);
        if (data === shown && words === drawn || words === "{}") return;
        const datasets = structuredClone(data);
        if (view && words === drawn) {
            for (const [name, rows] of Object.entries(datasets)) view.data(name, rows);
            await view.signal("picked", model.get("picked")).runAsync();
        } else {
            view?.finalize();
            view = undefined;
            const whole = { ...structuredClone(spec), datasets };
            whole.params[0].value = model.get("picked");
            view = (await vegaEmbed(el, whole, { actions: false, mode: "vega-lite", renderer: "svg" })).view;
            view.addEventListener("click", (_, item) => item?.datum?.key && model.send({ clicked: item.datum.key }));
        }
        [drawn, shown] = [words, data];
    }
    const next = (step) => (last = last.catch(() => {}).then(step));
    for (const name of ["spec", "data"]) model.on(`change:${name}`, () => next(draw));
    model.on("change:picked", () => next(mark));
    await next(draw);
    return () => view?.finalize();
}
export default { render };
"""


def _bundle() -> str:
    """`DRAW` with all that it needs, bundled once and kept: that takes 2 s."""
    path = CACHE / f"chart-{digest(metadata.version('vl-convert-python'), DRAW)[:8]}.js"
    if not path.exists():
        import vl_convert

        with whole(path) as temporary:
            latest = vl_convert.get_vegalite_versions()[-1]
            temporary.write_text(vl_convert.javascript_bundle(DRAW, vl_version=latest), encoding="utf-8")
    return path.read_text(encoding="utf-8")


class Chart(anywidget.AnyWidget):
    """A chart of Vega-Lite, and what is picked in it; a click sends a message ``{"clicked": key}``."""

    _esm = LOADER
    _library = traitlets.Unicode().tag(sync=True)
    spec = traitlets.Dict().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    picked = traitlets.Unicode().tag(sync=True)

    def __init__(self, **values):
        super().__init__(_library=_bundle(), **values)


class Grid(ITable):
    """A table that is sorted, filtered and selected from."""

    _esm = LOADER
    _library = traitlets.Unicode(str(ITable._esm)).tag(sync=True)
