// Captions of the contents get a level, and what scrolls can be reached by keyboard.
document.addEventListener("DOMContentLoaded", () => {
    for (const caption of document.querySelectorAll("p.caption[role=heading]")) caption.setAttribute("aria-level", "2");
    for (const block of document.querySelectorAll("pre")) block.tabIndex = 0;
});
