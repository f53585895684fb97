"""Corrections of p-values for the family of tests that they stand in."""

from collections.abc import Sequence

import pandas as pd

from personagap.effects.contrasts import holm


def corrected(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """With Holm's p-values over each family, and its name: ``p_holm family`` after ``p_value``.

    Parameters
    ----------
    table : one row per test, with ``p_value``.
    by : the columns whose values the tests of one family share.

    Examples
    --------
    >>> table = pd.DataFrame({"metric": ["f1", "f1", "kappa"], "p_value": [0.01, 0.04, 0.04]})
    >>> corrected(table, ["metric"])
      metric  p_value  p_holm          family
    0     f1     0.01    0.02    f1 (2 tests)
    1     f1     0.04    0.04    f1 (2 tests)
    2  kappa     0.04    0.04  kappa (1 test)
    """
    tests = table.groupby(list(by), sort=False)["p_value"]
    number = tests.transform("size")
    name = table[list(by)].astype(str).agg(", ".join, axis=1)
    family = name + " (" + number.astype(str) + " test" + number.gt(1).map({True: "s)", False: ")"})
    place = table.columns.get_loc("p_value") + 1
    table = table.drop(columns=["p_holm", "family"], errors="ignore")
    table.insert(place, "p_holm", tests.transform(lambda p: holm(p.to_numpy())))
    table.insert(place + 1, "family", family)
    return table
