"""Load published numbers and put measured ones beside them."""

import pandas as pd

from personagap.errors import UserError
from personagap.paths import DATA

#: Those whose folder in ``data/`` has published numbers.
PAPERS = tuple(sorted(file.parent.name for file in DATA.glob("*/published.csv")))


def load(paper: str) -> pd.DataFrame:
    """Published numbers: ``paper experiment quantity condition value unit n evidence note``.

    ``evidence`` says where a number was read: "paper", "authors' blog", "authors' code", "third-party
    notes" or "recomputed".

    Examples
    --------
    >>> table = load("recentering")
    >>> table.loc[table["condition"] == "method=BM25", ["quantity", "value", "evidence"]].values.tolist()
    [['f1', 0.243, "authors' blog"]]
    """
    if paper not in PAPERS:
        raise UserError(f"no published numbers of {paper!r}: choose from {', '.join(PAPERS)}")
    return pd.read_csv(DATA / paper / "published.csv", keep_default_na=False, na_values={"value": "", "n": ""})


def rows(table: pd.DataFrame, quantity, condition, value: str = "estimate", scale=1, **more) -> pd.DataFrame:
    """Rows for `beside`: the column ``value`` times ``scale``, and its interval, of each row of a result table.

    The interval is in ``<value>_low`` and ``<value>_high``, or else in ``ci_low`` and ``ci_high``. What is not in the
    table (``quantity``, ``condition``, ``scale`` and ``more``) is one for all rows, or a series.
    """
    ends = value if f"{value}_low" in table else "ci"
    numbers = table[[value, f"{ends}_low", f"{ends}_high"]].set_axis(["measured", "ci_low", "ci_high"], axis=1)
    return numbers.astype(float).mul(scale, axis=0).assign(quantity=quantity, condition=condition, **more)


def beside(measured: pd.DataFrame, paper: str) -> pd.DataFrame:
    """Put measured values beside the published numbers of the same quantity and condition.

    Parameters
    ----------
    measured : ``quantity condition measured ci_low ci_high``; ``quantity`` and ``condition`` spelt as in
        ``load(paper)``, ``measured`` in its unit. Optional: ``experiment``, where quantity and condition
        do not single out one number, and ``why_not``, the reason a row is not comparable ("" if it is).
    paper : name of the paper.

    Returns
    -------
    DataFrame ``quantity condition published measured ci_low ci_high difference comparable evidence``, in
    the order of ``measured``. ``difference`` is measured − published; ``comparable`` is "yes" or "not
    comparable: …" with the reason.

    Raises
    ------
    UserError : a row matches no published number, or several.

    Examples
    --------
    >>> measured = pd.DataFrame({"quantity": ["f1"], "condition": ["method=BM25"], "measured": [0.25],
    ...                          "ci_low": [0.2], "ci_high": [0.3]})
    >>> beside(measured, "recentering")[["published", "measured", "difference", "comparable"]].round(3)
       published  measured  difference comparable
    0      0.243      0.25       0.007        yes
    """
    key = [column for column in ("experiment", "quantity", "condition") if column in measured]
    numbers = load(paper).rename(columns={"value": "published"})[[*key, "published", "evidence"]]
    table = measured.reset_index(drop=True).merge(numbers, on=key, how="left", indicator=True)
    wrong = table.duplicated(key, keep=False) | (table["_merge"] != "both")
    if wrong.any():
        named = ", ".join(table.loc[wrong, key].iloc[0].astype(str))
        raise UserError(f"{paper}: not exactly one published number for {named}")
    reason = table.get("why_not", pd.Series("", index=table.index))
    table["comparable"] = ("not comparable: " + reason).where(reason != "", "yes")
    table["difference"] = table["measured"] - table["published"]
    return table[[*key, "published", "measured", "ci_low", "ci_high", "difference", "comparable", "evidence"]]
