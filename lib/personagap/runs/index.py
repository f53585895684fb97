"""``figures/index.html``: an overview of all runs."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader

from personagap.errors import UserError
from personagap.paths import FIGURES, notebooks
from personagap.redaction import visible
from personagap.runs import diff
from personagap.runs.files import warned_if_damaged, write_text
from personagap.runs.folder import now, read_verdict, runs, simulated, unanswered
from personagap.runs.request import Request
from personagap.runs.values import format_value
from personagap.runs.vector import inline


def latest(figures: Path | None = None) -> pd.DataFrame:
    """Return each notebook's question and the first answer of its latest finished run:
    ``notebook question answer run``.
    """
    finished = [facts for facts in runs(Path(figures or FIGURES)) if facts["status"] == "finished"]
    rows = []
    for path in notebooks(pattern="*/*.ipynb"):
        notebook = path.parent.name, path.stem
        own_runs = (facts for facts in finished if facts["folder"].parts[-3:-1] == notebook)
        facts = next(own_runs, None)
        answers = read_verdict(facts["folder"]) if facts else []
        answer = answers[0]["answer"] if answers else "not run yet"
        run = f"{facts['id']}, {facts['started'][:10]}" if facts else "–"
        rows.append(("/".join(notebook), Request(path).title, answer, run))
    return pd.DataFrame(rows, columns=["notebook", "question", "answer", "run"])


def write(figures: Path) -> Path:
    """Rebuild ``index.html`` under ``figures`` from the runs there, and return its path.

    The page is self-contained and loads nothing from elsewhere. `UserError` is raised if there is
    no such folder.

    Each run also gets a ``diff.html``, which compares it with the reference run of its notebook:
    the one with the fewest changes of the notebook's defaults (of several, the newest).
    """
    if not figures.is_dir():
        remedy = "give the one that runs went to, or run a notebook first"
        raise UserError(f"no folder {figures}: {remedy}")
    loader = PackageLoader("personagap.runs")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True)
    rows: list[dict[str, Any]] = []
    references: dict[Path, dict[str, Any]] = {}
    # Runs with the fewest changes come first, so that reference runs precede the others.
    for facts in sorted(runs(figures), key=lambda facts: len(facts["changed"])):
        row = None
        with warned_if_damaged(facts["folder"] / "run.json"):
            row = _row(facts, figures)
        if row is None:
            continue
        rows.append(row)
        if facts["status"] == "finished":
            reference = references.setdefault(facts["folder"].parent, facts)
            if reference is not facts:
                diff.write(facts["folder"], reference["folder"], environment)
                page = (facts["folder"] / "diff.html").relative_to(figures).as_posix()
                rows[-1] |= {"diff": page, "reference": reference["id"]}
    # Sorts are stable: the result is by notebook, and within each the newest run first.
    rows.sort(key=lambda row: row["started"], reverse=True)
    rows.sort(key=lambda row: row["folder"].parts[-3:-1])
    script = loader.get_source(environment, "cards.js")[0]
    # The page's content security policy allows only the script with this hash.
    script_hash = "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = environment.get_template("index.html.j2")
    html = template.render(rows=rows, written=now(), script=script, script_hash=script_hash)
    write_text(figures / "index.html", visible(html))
    return figures / "index.html"


def _row(facts: dict[str, Any], figures: Path) -> dict[str, Any]:
    folder = facts["folder"]
    # A failed run may have only its partial notebook, or at least its facts.
    pages = ("report.html", "notebook.ipynb", "run.json")
    page = next(page for page in pages if (folder / page).exists())
    alternative_texts, figure = facts.get("figures", {}), facts.get("headline")
    if figure not in alternative_texts:
        figure = next(iter(alternative_texts), "")
    return {
        **facts,
        "name": folder.parent.name,
        "link": (folder / page).relative_to(figures).as_posix(),
        "changes": {name: format_value(value) for name, value in facts["changed"].items()},
        "verdict": read_verdict(folder),
        "picture": inline(folder, figure, alternative_texts.get(figure, "")),
        "simulated": simulated(facts),
        "missing": unanswered(facts),
        "seconds": round(float(facts.get("seconds") or 0)),
    }
