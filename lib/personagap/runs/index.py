"""``figures/index.html``: every run at a glance."""

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from PIL import Image

from personagap.runs.folder import is_locked, now, read_facts, read_verdict, whole
from personagap.runs.request import format_value

THUMBNAIL = (320, 220)


def runs(figures: Path) -> list[dict[str, Any]]:
    """What ``run.json`` says of each run under ``figures``, and its ``folder``; newest first.

    A run that says it is running while nobody holds its lock was interrupted.
    """
    found = []
    for path in figures.glob("*/*/*/run.json"):
        facts = {**read_facts(path.parent), "folder": path.parent}
        if facts["status"] == "running" and not is_locked(path.parent):
            facts["status"] = "interrupted"
        found.append(facts)
    return sorted(found, key=lambda facts: facts["started"], reverse=True)


def write(figures: Path) -> Path:
    """Rebuild ``index.html`` under ``figures`` from the runs there: one file, relative links, no request."""
    environment = Environment(loader=PackageLoader("personagap.runs"), autoescape=True, trim_blocks=True)
    notebooks: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for facts in runs(figures):
        notebooks.setdefault((facts["paper"], facts["title"]), []).append(_row(facts, figures))
    html = environment.get_template("index.html.j2").render(notebooks=sorted(notebooks.items()), written=now())
    with whole(figures / "index.html") as path:
        path.write_text(html, encoding="utf-8")
    return figures / "index.html"


def _row(facts: dict[str, Any], figures: Path) -> dict[str, Any]:
    folder = facts["folder"]
    page = next(page for page in ("report.html", "notebook.ipynb", "run.json") if (folder / page).exists())
    first = next(iter(facts.get("figures", {}).items()), None)
    return {
        **facts,
        "link": (folder / page).relative_to(figures).as_posix(),
        "changes": {name: format_value(value) for name, value in facts["changed"].items()},
        "verdict": read_verdict(folder),
        "thumbnail": first and {"image": _thumbnail(folder / "figures" / f"{first[0]}.png"), "alt": first[1]},
    }


def _thumbnail(path: Path) -> str:
    """A small copy of a picture, as base64 of a PNG."""
    with Image.open(path) as picture, io.BytesIO() as buffer:
        picture.thumbnail(THUMBNAIL)
        picture.convert("RGB").quantize(64).save(buffer, "PNG", optimize=True)
        return base64.b64encode(buffer.getvalue()).decode()
