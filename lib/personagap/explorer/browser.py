"""What the browser draws with: charts of Vega-Lite and a grid of DataTables, without a network.

anywidget gives up on a widget whose script is not there after 2 s, and then shows nothing that is
chosen later. Where the browser is busy these libraries take longer. So the script is a few lines,
and the library, a value like others, is loaded by the first drawing, which nothing hurries.
"""

from importlib import metadata

import anywidget
import traitlets
from itables.widget import ITable

from personagap.paths import CACHE
from personagap.responses import digest
from personagap.runs.files import atomic_write

#: How itables writes a missing number: as it is shown, and as it is sorted.
MISSING = '["&lt;NA&gt;", null]'
LOADER = """
async function render(context) {
    const source = new Blob([context.model.get("_library")], { type: "text/javascript" });
    const library = await import(URL.createObjectURL(source));
    return library.default.render(context);
}
export default { render };
"""
#: Panels as wide as there is room for, and fewer in a row where that is narrow; names and titles in
#: the room that is left. Vega-Lite's own "container" is only for charts of one panel. Lengths are
#: in pixels.
FIT = """
const LETTER = 6.2, LEAST = 100, MOST = 420, AXIS = 56, GAP = 16;
const parts = (chart) => (chart.layer ?? []).flatMap((part) => (part.layer ? parts(part) : [part]));
const rows = (chart) =>
    parts(chart.spec ?? chart).find((part) => part.encoding.y?.scale?.domain)?.encoding.y;

/** How wide the names of a chart's rows are, or its numbers; at most a good third of the room. */
function names(chart, room) {
    const lengths = (rows(chart)?.scale.domain ?? []).map((name) => name.length);
    const longest = Math.max(0, ...lengths) * LETTER, limit = rows(chart)?.axis?.labelLimit ?? 220;
    return Math.min(longest, limit, Math.max(90, 0.36 * room)) || AXIS - 2 * GAP;
}

/**
 * Make a chart, or several together, no wider than `room`, `taken` of it by the names; returns how
 * wide it is.
 */
function fit(chart, room, taken = names(chart, room)) {
    if (chart.concat) {
        const wide = chart.concat.map((part) => fit(part, room));
        const beside = wide.reduce((sum, each) => sum + each + 2 * GAP, 0);
        if (chart.columns > 1 && beside <= room) return beside;
        chart.columns = 1;  // all begin where the longest names end
        const most = Math.max(...chart.concat.map((part) => names(part, room)));
        return Math.max(...chart.concat.map((part) => fit(part, room, most)));
    }
    const panel = chart.spec ?? chart, left = room - taken - 2 * GAP;
    const own = chart.resolve?.scale?.y ? AXIS : GAP;  // of each panel, beside what it draws
    if (panel.width.step) {
        const columns = parts(panel)[0].encoding.x.scale.domain.length;
        const step = panel.width.step = Math.min(panel.width.step, left / columns);
        for (const { mark } of parts(panel))
            if (mark.fontSize) mark.fontSize = Math.min(10, 0.4 * step);
        return room - left + columns * step;
    }
    const across = Math.max(1, Math.min(chart.columns ?? 1, Math.floor(left / (LEAST + own))));
    const wanted = across < (chart.columns ?? 1) ? MOST : panel.width;
    if (chart.columns) chart.columns = across;
    panel.width = Math.floor(Math.min(wanted, left / across - own));
    for (const { encoding: { x, y } } of parts(panel)) {
        if (y?.axis) y.axis.labelLimit = taken;
        if (typeof x?.title === "string")
            x.title = inLines(x.title, Math.max(panel.width, LEAST) + own);
    }
    return room - left + across * (panel.width + own);
}

/** Words in lines that are no longer than `room`. */
function inLines(words, room) {
    const lines = [""];
    for (const word of words.split(" ")) {
        const longer = `${lines.at(-1)} ${word}`.trim();
        if (lines.at(-1) && longer.length * LETTER > room) lines.push(word);
        else lines[lines.length - 1] = longer;
    }
    return lines;
}
"""
#: One drawing after the other, of the latest chart. What is picked is a signal of the drawing that
#: is there, and where only data changed it stays too: that takes a fifth of the time, and nothing
#: flickers.
DRAW = """
async function render({ model, el }) {
    let view, drawn, shown, last = Promise.resolve();
    el.style.overflowX = "auto";
    el.tabIndex = 0;
    el.setAttribute("role", "group");
    el.setAttribute("aria-label", "chart");
    async function mark() {
        const picked = model.get("picked");
        if (view && view.signal("picked") !== picked)
            await view.signal("picked", picked).runAsync();
    }
    async function draw() {
        const spec = structuredClone(model.get("spec")), data = model.get("data");
        const room = el.clientWidth;  // 0 before the widget is on the page
        if (!room || !spec.params) return;
        fit(spec, room);
        spec.config.legend.columns = Math.max(1, Math.min(6, Math.floor(room / 110)));
        const words = JSON.stringify(spec);
        if (data === shown && words === drawn) return;
        const datasets = structuredClone(data);
        if (view && words === drawn) {
            for (const [name, rows] of Object.entries(datasets)) view.data(name, rows);
            await view.signal("picked", model.get("picked")).runAsync();
        } else {
            view?.finalize();
            view = undefined;
            spec.params[0].value = model.get("picked");
            const how = { actions: false, mode: "vega-lite", renderer: "svg" };
            view = (await vegaEmbed(el, { ...spec, datasets }, how)).view;
            view.addEventListener("click", (_, item) => {
                if (item?.datum?.key) model.send({ clicked: item.datum.key });
            });
        }
        [drawn, shown] = [words, data];
    }
    const next = (step) => (last = last.catch(() => {}).then(step));
    for (const name of ["spec", "data"]) model.on(`change:${name}`, () => next(draw));
    model.on("change:picked", () => next(mark));
    const room = new ResizeObserver(() => next(draw));  // also once it is on the page
    room.observe(el);
    await next(draw);
    return () => [room.disconnect(), view?.finalize()];
}
export default { render };
"""


def _bundle() -> str:
    """`DRAW` with all that it needs, bundled once and kept: that takes 2 s."""
    path = CACHE / f"chart-{digest(metadata.version('vl-convert-python'), FIT, DRAW)[:8]}.js"
    if not path.exists():
        import vl_convert

        with atomic_write(path) as temporary:
            latest = vl_convert.get_vegalite_versions()[-1]
            bundle = vl_convert.javascript_bundle(FIT + DRAW, vl_version=latest)
            temporary.write_text(bundle, encoding="utf-8")
    return path.read_text(encoding="utf-8")


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
