"""How to cite a run: a sentence for a paper's methods, and BibTeX of the software and of the paper
it follows.
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
    """Of a finished run: the sentence, with models and their revisions, sizes, seed, correction,
    then the entries.
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
    asked, tables = facts["parameters"], read(folder)
    models, sizes = _models(facts.get("model", {})), _sizes(asked, tables)
    said = [
        f"{models} {'were' if ', ' in models else 'was'} asked"
        if models
        else "Answers given elsewhere were analysed",
        f"with {Path(facts['notebook']).stem} of personagap {facts['versions']['personagap']}",
        f"(git {(facts.get('revision') or 'unknown')[:12]}, run {facts['id']})",
    ]
    rows = ", ".join(f"{row['task']} ({row['rows']} rows)" for row in facts.get("data", []))
    sentences = [
        " ".join(said),
        f"Data: {rows}" if rows else "",
        f"Sizes: {sizes}" if sizes else "",
    ]
    for name, words in (("seed", "Random seed"), ("protocol", "Grading protocol")):
        sentences.append(f"{words}: {asked[name]}" if name in asked else "")
    if any("p_adjusted" in table for table in tables.values()):
        holm = "P-values are adjusted by Holm's method within the families that the tables name"
        sentences.append(holm)
    return " ".join(f"{sentence}." for sentence in sentences if sentence)


def _models(described: dict[str, Any]) -> str:
    """One model, as its ``describe()`` tells it, or several by the names of their conditions."""
    several = [one for one in described.values() if isinstance(one, dict)]
    each = [described] if "model" in described else several
    told = (
        f"{one.get('full_name') or one['model']} (revision {one.get('revision', 'unknown')})"
        for one in each
    )
    # A model that was asked under several conditions is cited once.
    return ", ".join(dict.fromkeys(told))


def _sizes(asked: dict[str, Any], tables: dict[str, Any]) -> str:
    bias = tables.get("personalization_bias")
    if bias is None:
        return f"{asked['runs']} runs" if "runs" in asked else ""
    # What the results rest on, which is less than was asked for where answers failed.
    joint = bias[bias["dimension"] == "joint"].iloc[0]
    said = f"{joint['n_items']} items, {joint['n_identities']} identities"
    return f"{said}, {joint['n_runs']} independent answer(s) of each to each item"


def _entries(facts: dict[str, Any], folder: Path) -> list[str]:
    """BibTeX of the software, and of every work in ``CITATION.cff`` whose arXiv number the notebook
    names.
    """
    known = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = f"Version {facts['versions']['personagap']}, git {facts.get('revision') or 'unknown'}"
    software = {
        "title": f"{{{known['title']}}}",
        "author": "{The personagap contributors}",
        "year": facts["started"][:4],
        "note": f"{version}, run {facts['id']}",
    }
    cells = json.loads((folder / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    named = re.findall(r"arXiv (\d{4}\.\d{5})", "".join("".join(cell["source"]) for cell in cells))
    # The papers that the notebook follows are those that it names itself: no list to keep up to
    # date.
    entries = [_entry("software", "personagap", software)]
    for work in known["references"]:
        if (number := re.search(r"\d{4}\.\d{5}", work["notes"])) and number[0] in named:
            names = ([who["family-names"], who.get("given-names")] for who in work["authors"])
            paper = {name: work[name] for name in ("title", "year", "doi") if name in work} | {
                "title": f"{{{work['title']}}}",
                "author": " and ".join(", ".join(filter(None, name)) for name in names),
                "note": work["notes"],
            }
            entries.append(_entry("misc", f"arxiv:{number[0]}", paper))
    return entries


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    # What LaTeX would take for commands; braces are kept, since titles are in them on purpose.
    escaped = {name: re.sub(r"([&%#_])", r"\\\1", str(value)) for name, value in fields.items()}
    lines = (f"  {name} = {{{value}}},\n" for name, value in escaped.items())
    return f"@{kind}{{{key},\n{''.join(lines)}}}"
