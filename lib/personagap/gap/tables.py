"""Judgments in, one matrix out: units in rows, raters in columns."""

import pandas as pd

from personagap.errors import UserError

#: What identifies the thing that was judged; a table may leave out columns that do not vary.
UNIT = ("stage", "source", "user", "prompt", "item")
#: The rater that stands for what more than half of the human ones say; ``datasets`` makes it.
MAJORITY = "human_majority"


def require(judgments: pd.DataFrame, *columns: str) -> None:
    if missing := [column for column in columns if column not in judgments]:
        raise UserError(f"judgments lack the column {missing[0]!r}: they need {', '.join(columns)}")


def individuals(judgments: pd.DataFrame) -> pd.DataFrame:
    """The judgments but for those of the majority: it repeats the people it was made from."""
    require(judgments, "rater")
    return judgments[judgments["rater"] != MAJORITY]


def units(judgments: pd.DataFrame) -> pd.DataFrame:
    """Pivot long judgments (``… item rater label``) to units × raters, NaN where a rater did not judge.

    The index holds those columns of ``UNIT`` that the table has.

    Raises
    ------
    UserError : a column is missing, a label is missing or not a number, or a rater judged one unit twice.
    """
    require(judgments, "item", "rater", "label")
    label = pd.to_numeric(judgments["label"], errors="coerce")
    if judgments.empty or label.isna().any():
        where = f"row {judgments.index[label.isna()][0]}" if len(judgments) else "no rows"
        raise UserError(f"judgments: {where} without a usable label: leave out what was not judged")
    key = [column for column in UNIT if column in judgments]
    twice = judgments.duplicated([*key, "rater"])
    if twice.any():
        row, rater = judgments.index[twice][0], judgments["rater"][twice].iloc[0]
        raise UserError(f"judgments: row {row} repeats an item of rater {rater!r}: keep one")
    wide = judgments.assign(label=label).set_index([*key, "rater"])["label"].unstack("rater", sort=False)
    if len(key) == 1:
        wide.index = pd.MultiIndex.from_arrays([wide.index], names=key)
    return wide.rename_axis(columns=None)


def binary(wide: pd.DataFrame, raters: list[str]) -> pd.DataFrame:
    """The raters' columns, checked to hold only 0 and 1 (NaN = not judged)."""
    for rater in raters:
        if rater not in wide:
            raise UserError(f"no rater {rater!r} in the judgments: they are {', '.join(wide.columns)}")
        if not wide[rater].dropna().isin([0, 1]).all():
            raise UserError(f"rater {rater!r} has labels other than 0 and 1: compare scores with gap.scored_metrics")
    return wide[raters]


def kinds(judgments: pd.DataFrame) -> dict[str, str]:
    """``rater_kind`` of each rater."""
    require(judgments, "rater", "rater_kind")
    return dict(judgments.drop_duplicates("rater")[["rater", "rater_kind"]].itertuples(index=False))
