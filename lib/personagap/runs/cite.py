"""Citation of a run: text for a paper's methods section, and BibTeX entries of the software and of
the papers that the notebook follows.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from personagap.errors import UserError, explained
from personagap.paths import ROOT
from personagap.runs.folder import read_facts
from personagap.runs.tables import read


def text(folder: Path) -> str:
    """Return the citation of a finished run: sentences with the models and their revisions, sizes,
    seed and multiplicity correction, then the BibTeX entries.
    """
    facts = read_facts(folder)
    if facts.get("status") != "finished":
        remedy = "give the folder of one, figures/PAPER/NOTEBOOK/RUN"
        raise UserError(f"{folder} is no finished run: {remedy}")
    with explained(
        f"{folder} cannot be cited, its run.json or notebook.ipynb is damaged",
        "run the notebook again",
    ):
        return "\n\n".join([_methods(facts, folder), *_entries(facts, folder)])


def _methods(facts: dict[str, Any], folder: Path) -> str:
    parameters, tables = facts["parameters"], read(folder)
    models, sizes = _models(facts.get("model", {})), _sizes(parameters, tables)
    subject = "Answers given elsewhere were analysed"
    if models:
        subject = f"{models} {'were' if ', ' in models else 'was'} asked"
    software = f"{Path(facts['notebook']).stem} of personagap {facts['versions']['personagap']}"
    revision = f"(git {(facts.get('revision') or 'unknown')[:12]}, run {facts['id']})"
    rows = ", ".join(f"{row['task']} ({row['rows']} rows)" for row in facts.get("data", []))
    sentences = [
        f"{subject} with {software} {revision}",
        f"Data: {rows}" if rows else "",
        f"Sizes: {sizes}" if sizes else "",
    ]
    for name, label in (("seed", "Random seed"), ("protocol", "Grading protocol")):
        sentences.append(f"{label}: {parameters[name]}" if name in parameters else "")
    if any("p_adjusted" in table for table in tables.values()):
        holm = "P-values are adjusted by Holm's method within the families that the tables name"
        sentences.append(holm)
    return " ".join(f"{sentence}." for sentence in sentences if sentence)


def _models(facts: dict[str, Any]) -> str:
    """Return names and revisions: ``facts`` describe one model, or several by condition."""
    conditions = [model for model in facts.values() if isinstance(model, dict)]
    names = (
        f"{model.get('full_name') or model['model']} (revision {model.get('revision', 'unknown')})"
        for model in ([facts] if "model" in facts else conditions)
    )
    # A model that answered under several conditions is cited once.
    return ", ".join(dict.fromkeys(names))


def _sizes(parameters: dict[str, Any], tables: dict[str, Any]) -> str:
    bias = tables.get("personalization_bias")
    if bias is None:
        return f"{parameters['runs']} runs" if "runs" in parameters else ""
    # The sizes behind the results, which are smaller than those requested if answers failed.
    joint = bias[bias["dimension"] == "joint"].iloc[0]
    design = f"{joint['n_items']} items, {joint['n_identities']} identities"
    return f"{design}, {joint['n_runs']} independent answer(s) of each to each item"


def _entries(facts: dict[str, Any], folder: Path) -> list[str]:
    """Return BibTeX entries of the software, and of the works in ``CITATION.cff`` whose arXiv
    numbers the notebook contains.
    """
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = f"Version {facts['versions']['personagap']}, git {facts.get('revision') or 'unknown'}"
    software = {
        "title": f"{{{citation['title']}}}",
        "author": "{The personagap contributors}",
        "year": facts["started"][:4],
        "note": f"{version}, run {facts['id']}",
    }
    cells = json.loads((folder / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    # The papers that a notebook follows are those in its text, so there is no list to maintain.
    source = "".join("".join(cell["source"]) for cell in cells)
    cited = re.findall(r"arXiv (\d{4}\.\d{5})", source)
    entries = [_entry("software", "personagap", software)]
    for work in citation["references"]:
        if (number := re.search(r"\d{4}\.\d{5}", work["notes"])) and number[0] in cited:
            authors = ([who["family-names"], who.get("given-names")] for who in work["authors"])
            paper = {name: work[name] for name in ("title", "year", "doi") if name in work} | {
                "title": f"{{{work['title']}}}",
                "author": " and ".join(", ".join(filter(None, names)) for names in authors),
                "note": work["notes"],
            }
            entries.append(_entry("misc", f"arxiv:{number[0]}", paper))
    return entries


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    # Escape LaTeX's special characters, but not braces, which protect the capitals of titles.
    escaped = {name: re.sub(r"([&%#_])", r"\\\1", str(value)) for name, value in fields.items()}
    lines = (f"  {name} = {{{value}}},\n" for name, value in escaped.items())
    return f"@{kind}{{{key},\n{''.join(lines)}}}"
