"""The papers: their published numbers, measured ones beside them, and what each brings along."""

import importlib
from types import ModuleType
from typing import Any

import pandas as pd

from personagap.errors import UserError, one_of
from personagap.paths import DATA
from personagap.results import beside

#: Those whose folder in ``data/`` has published numbers.
PAPERS = tuple(sorted(file.parent.name for file in DATA.glob("*/published.csv")))


def module_of(paper: str, name: str) -> ModuleType | None:
    """The module of that name in a paper's package, if it has one."""
    package = importlib.import_module(f"personagap.{paper}")
    return getattr(package, name) if name in dir(package) else None


def load(paper: str) -> pd.DataFrame:
    """Published numbers: ``paper experiment quantity condition value unit n evidence note``.

    ``evidence`` says where a number was read: "paper", "authors' blog", "authors' code",
    "third-party notes" or "recomputed".

    Examples
    --------
    >>> table = load("recentering")
    >>> columns = ["quantity", "value", "evidence"]
    >>> table.loc[table["condition"] == "method=BM25", columns].values.tolist()
    [['f1', 0.243, "authors' blog"]]
    """
    one_of(PAPERS, "no published numbers of", paper)
    how: dict[str, Any] = {"keep_default_na": False, "na_values": {"value": "", "n": ""}}
    return pd.read_csv(DATA / paper / "published.csv", **how)


def compare(measured: pd.DataFrame, paper: str) -> pd.DataFrame:
    """Measured values beside the published numbers of the same quantity and condition, see
    `results.beside`.

    Parameters
    ----------
    measured : of `results`, with ``quantity`` and ``condition`` spelt as in ``load(paper)``.
        Optional: ``experiment``, where these do not single out one number, and ``why_not``, the
        reason a row is not comparable ("" if it is).
    paper : name of the paper.

    Returns
    -------
    DataFrame ``quantity condition comparable evidence published measured ci_low ci_high difference
    covered``, in the order of ``measured`` and the unit of the published number. ``difference`` is
    measured − published; ``comparable`` is "yes" or "not comparable: …" with the reason.

    `UserError`: a row matches no published number, or several.

    Examples
    --------
    >>> from personagap.results import result
    >>> rows = pd.DataFrame({"estimate": [0.25], "ci_low": [0.2], "ci_high": [0.3]})
    >>> measured = result(rows.assign(quantity="f1", condition="method=BM25"), [])
    >>> columns = ["published", "measured", "difference", "comparable"]
    >>> compare(measured, "recentering")[columns].round(3)
       published  measured  difference comparable
    0      0.243      0.25       0.007        yes
    """
    key = [column for column in ("experiment", "quantity", "condition") if column in measured]
    reason = measured["why_not"] if "why_not" in measured else pd.Series("", index=measured.index)
    comparable = ("not comparable: " + reason).where(reason != "", "yes")
    numbers = load(paper).rename(columns={"value": "published"})
    numbers = numbers[[*key, "evidence", "published", "unit"]]
    # All wanted rows are kept and counted: a misspelt condition would vanish from the comparison.
    wanted = measured[key].assign(comparable=comparable)
    reference = wanted.merge(numbers, on=key, how="left", indicator=True)
    wrong = reference.duplicated(key, keep=False) | (reference.pop("_merge") != "both")
    if wrong.any():
        named = ", ".join(reference.loc[wrong, key].iloc[0].astype(str))
        raise UserError(f"{paper}: not exactly one published number for {named}")
    return beside(measured, reference, key, "measured")
