// The library is a value of the widget, and loaded when that is drawn first.
async function render(context) {
    const source = new Blob([context.model.get("_library")], { type: "text/javascript" });
    const library = await import(URL.createObjectURL(source));
    return library.default.render(context);
}
export default { render };
