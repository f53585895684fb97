// Cards are sorted and searched; without scripts they stay as they were written.
const cards = document.getElementById("cards"), tools = document.getElementById("tools");
tools.hidden = false;
tools.querySelectorAll("button").forEach(button => button.addEventListener("click", () => {
  const up = button.getAttribute("aria-pressed") !== "true" || button.dataset.up !== "true", name = button.dataset.sort;
  const sorted = [...cards.children].sort((a, b) => a.dataset[name].localeCompare(b.dataset[name], "en", { numeric: true }));
  tools.querySelectorAll("button").forEach(other => other.setAttribute("aria-pressed", other === button));
  button.dataset.up = up;
  cards.append(...(up ? sorted : sorted.reverse()));
}));
tools.querySelector("input").addEventListener("input", event => {
  const words = event.target.value.toLowerCase().split(/\s+/);
  [...cards.children].forEach(card => card.hidden = !words.every(word => card.textContent.toLowerCase().includes(word)));
});
