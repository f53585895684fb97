"""``diff.html``: what differs between two runs of a notebook: parameters, verdicts, tables."""

from pathlib import Path

import pandas as pd
from jinja2 import Environment

from personagap.leaving import visible
from personagap.readable import compact, row_names
from personagap.results import keys, quantities
from personagap.runs.files import write_text
from personagap.runs.folder import read_facts, read_verdict
from personagap.runs.tables import read
from personagap.spelling import number


def write(folder: Path, reference: Path, environment: Environment) -> None:
    """Write ``diff.html`` of the run in ``folder`` against the run in ``reference``."""
    sides = reference, folder
    before, after = map(read_facts, sides)
    facts = {}
    for part in ("parameters", "versions", "model"):
        facts[part] = _differing(before.get(part, {}), after.get(part, {}))
    answers = ({row["question"]: row["answer"] for row in read_verdict(side)} for side in sides)
    facts["verdict"] = _differing(*answers)
    old, new = map(read, sides)
    both = (name for name in new if name in old and name != "verdict")
    shared = {name: changes(old[name], new[name]) for name in both}
    told = {"before": before, "after": after, "facts": facts, "shared": shared}
    html = environment.get_template("diff.html.j2").render(told)
    write_text(folder / "diff.html", visible(html))


def changes(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Every value of two tables of one name that differs, with its interval, as text to be read.

    DataFrame ``row quantity before after change``; a row that only one table has, has no
    ``change``. ``attrs["compared"]`` counts the values; it is 0 where rows cannot be told apart.
    """
    key = [name for name in keys(after) if name in before]
    # A table without intervals is compared by all its numbers.
    numbers = after.select_dtypes("number").columns.difference(key).tolist()
    values = list(quantities(after)) or numbers
    values = before.select_dtypes("number").columns.intersection(values)
    # By place rows would be compared with others, as soon as one of them is missing.
    matched = key and not before.duplicated(key).any() and not after.duplicated(key).any()
    long = []
    for table in (before, after):
        table = table if matched else table.head(0)
        rows = row_names(table, key)
        long += [shown[values].set_axis(rows).stack() for shown in (compact(table), table)]  # noqa: PD013
    both = pd.concat(long, axis=1, keys=["before", "x", "after", "y"])
    both = both.rename_axis(["row", "quantity"])
    both["change"] = (both.pop("y") - both.pop("x")).map(number)
    # By what is read: digits behind those that are shown differ between machines.
    changed = both[both["before"].ne(both["after"])].fillna("–").reset_index()
    changed.attrs["compared"] = len(both)
    return changed


def _differing(old: dict, new: dict) -> dict[str, tuple]:
    names = {name: (old.get(name, "–"), new.get(name, "–")) for name in old | new}
    return {name: pair for name, pair in names.items() if pair[0] != pair[1]}
