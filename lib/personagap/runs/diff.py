"""``diff.html``: the differences between two runs of a notebook in parameters, verdicts, tables."""

from pathlib import Path

import pandas as pd
from jinja2 import Environment

from personagap.formatting import format_number
from personagap.readable import compact, row_names
from personagap.redaction import visible
from personagap.results import interval_columns, key_columns
from personagap.runs.files import write_text
from personagap.runs.folder import read_facts, read_verdict
from personagap.runs.tables import read


def write(folder: Path, reference: Path, environment: Environment) -> None:
    """Write ``diff.html``, which compares the run in ``folder`` with the run in ``reference``."""
    folders = reference, folder
    before, after = map(read_facts, folders)
    facts = {}
    for part in ("parameters", "versions", "model"):
        facts[part] = _differing(before.get(part, {}), after.get(part, {}))
    verdicts = ({row["question"]: row["answer"] for row in read_verdict(run)} for run in folders)
    facts["verdict"] = _differing(*verdicts)
    old, new = map(read, folders)
    common = (name for name in new if name in old and name != "verdict")
    shared = {name: changes(old[name], new[name]) for name in common}
    template = environment.get_template("diff.html.j2")
    html = template.render(before=before, after=after, facts=facts, shared=shared)
    write_text(folder / "diff.html", visible(html))


def changes(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return the values that differ between two versions of a table, with their intervals, as text.

    The columns are ``row quantity before after change``; ``change`` is missing if only one table
    has the row. ``attrs["compared"]`` counts the compared values; it is 0 if the rows have no
    unique key.
    """
    key = [name for name in key_columns(after) if name in before]
    # Tables without intervals are compared by all their numbers.
    numbers = after.select_dtypes("number").columns.difference(key).tolist()
    values = list(interval_columns(after)) or numbers
    values = before.select_dtypes("number").columns.intersection(values)
    # Matching rows by position would misalign all rows after a missing one.
    matched = key and not before.duplicated(key).any() and not after.duplicated(key).any()
    columns = []
    for table in (before, after):
        table = table if matched else table.head(0)
        rows = row_names(table, key)
        columns += [form[values].set_axis(rows).stack() for form in (compact(table), table)]  # noqa: PD013
    both = pd.concat(columns, axis=1, keys=["before", "x", "after", "y"])
    both = both.rename_axis(["row", "quantity"])
    both["change"] = (both.pop("y") - both.pop("x")).map(format_number)
    # Values are compared as displayed, since further digits may differ between machines.
    changed = both[both["before"].ne(both["after"])].fillna("–").reset_index()
    changed.attrs["compared"] = len(both)
    return changed


def _differing(old: dict, new: dict) -> dict[str, tuple]:
    pairs = {name: (old.get(name, "–"), new.get(name, "–")) for name in old | new}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
