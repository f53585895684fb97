// Charts in the page's own ink, light or dark.
const INK = "currentColor";
const CONFIG = {
    background: "transparent",
    axis: {
        labelLimit: 220, titleFontWeight: "normal", labelColor: INK, titleColor: INK,
        gridColor: INK, gridOpacity: 0.15, tickColor: INK, tickOpacity: 0.4,
        domainColor: INK, domainOpacity: 0.4,
    },
    header: { labelColor: INK, titleColor: INK },
    view: { stroke: INK, strokeOpacity: 0.25 },
    text: { color: INK },
};

// Panels as wide as there is room for, and fewer in a row where that is narrow; names and titles in
// the room that is left. Vega-Lite's own "container" is only for charts of one panel. Lengths are
// in pixels.
const LETTER = 6.2, LEAST = 100, MOST = 420, AXIS = 56, GAP = 16;
const parts = (chart) => (chart.layer ?? []).flatMap((part) => (part.layer ? parts(part) : [part]));
const rows = (chart) =>
    parts(chart.spec ?? chart).find((part) => part.encoding.y?.scale?.domain)?.encoding.y;

/** How wide the names of a chart's rows are, or its numbers; at most a good third of the room. */
function names(chart, room) {
    const lengths = (rows(chart)?.scale.domain ?? []).map((name) => name.length);
    const limit = rows(chart)?.axis?.labelLimit ?? 220;
    // Of a few letters, most may be wide ones.
    const longest = Math.max(0, ...lengths) && Math.max(6, ...lengths) * LETTER;
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

// One drawing after the other, of the latest chart. What is picked is a signal of the drawing that
// is there, and where only data changed it stays too: that takes a fifth of the time, and nothing
// flickers.
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
        const columns = Math.max(1, Math.min(6, Math.floor(room / 110)));
        spec.config = { ...CONFIG, legend: { orient: "bottom", columns, labelColor: INK } };
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
