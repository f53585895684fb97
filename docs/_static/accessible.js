// Captions of the contents get a level, what scrolls can be reached by keyboard, and a list of terms or definitions alone is none.
document.addEventListener("DOMContentLoaded", () => {
    for (const caption of document.querySelectorAll("p.caption[role=heading]")) caption.setAttribute("aria-level", "2");
    for (const block of document.querySelectorAll("pre, .table-wrapper")) block.tabIndex = 0;
    for (const list of document.querySelectorAll("dl:not(:has(> dt)), dl:not(:has(> dd))")) {
        list.setAttribute("role", "presentation");
        for (const each of list.children) each.setAttribute("role", "paragraph");
    }
});
