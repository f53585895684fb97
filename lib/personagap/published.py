"""Published numbers of the papers, and their comparison with measured ones."""

from typing import Any

import pandas as pd

from personagap.errors import UserError, require_one_of
from personagap.papers import PAPERS
from personagap.paths import DATA
from personagap.results import with_reference


def load(paper: str) -> pd.DataFrame:
    """Load published numbers: ``paper experiment quantity condition value unit n evidence note``.

    ``evidence`` is the source of a number: "paper", "authors' blog", "authors' code", "third-party
    notes" or "recomputed".

    Examples
    --------
    >>> table = load("recentering")
    >>> columns = ["quantity", "value", "evidence"]
    >>> table.loc[table["condition"] == "method=BM25", columns].values.tolist()
    [['f1', 0.243, "authors' blog"]]
    """
    require_one_of(PAPERS, "no published numbers of", paper)
    na_options: dict[str, Any] = {"keep_default_na": False, "na_values": {"value": "", "n": ""}}
    return pd.read_csv(DATA / paper / "published.csv", **na_options)


def compare(measured: pd.DataFrame, paper: str) -> pd.DataFrame:
    """Compare measured values with the published numbers of the same quantity and condition.

    Parameters
    ----------
    measured : `results` table with ``quantity`` and ``condition`` as in ``load(paper)``. Optional
        columns: ``experiment``, where these do not identify one number, and ``why_not``, the reason
        why a row is not comparable ("" if it is).
    paper : name of the paper.

    Returns
    -------
    DataFrame ``quantity condition comparable evidence published measured ci_low ci_high difference
    covered``, in the order of ``measured`` and the unit of the published number, see
    `results.with_reference`. ``difference`` is measured − published; ``comparable`` is "yes" or
    "not comparable: …" with the reason.

    Raises
    ------
    UserError : a row matches no published number, or several.

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
    published = load(paper).rename(columns={"value": "published"})
    published = published[[*key, "evidence", "published", "unit"]]
    # A left join, so that a misspelt condition is an error instead of a row that vanishes.
    rows = measured[key].assign(comparable=comparable)
    reference = rows.merge(published, on=key, how="left", indicator=True)
    unmatched = reference.duplicated(key, keep=False) | (reference.pop("_merge") != "both")
    if unmatched.any():
        name = ", ".join(reference.loc[unmatched, key].iloc[0].astype(str))
        raise UserError(f"{paper}: not exactly one published number for {name}")
    return with_reference(measured, reference, key, "measured")
