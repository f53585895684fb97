"""Judgments in, one matrix out: units in rows, raters in columns."""

import numpy as np
import pandas as pd

from personagap import results
from personagap.errors import UserError, explained, one_of

#: What identifies the thing that was judged; a table may leave out columns that do not vary.
UNIT = ("stage", "source", "user", "prompt", "item")
#: The rater that stands for what more than half of the human ones say; ``datasets`` makes it.
MAJORITY = "human_majority"
#: What raters are; the last two, of ours, are judges that are no people either.
KINDS = ("human", "model", "retrieval", "trained")


def require(judgments: pd.DataFrame, *columns: str) -> None:
    results.require(judgments, "judgments", *columns)


def covariates_of(judgments: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The columns ``names`` as numbers."""
    require(judgments, *names)
    with explained("judgments: covariates are no numbers", "code them as numbers"):
        values = judgments[names].astype(float)
    for name in values.columns[~np.isfinite(values).all()]:
        row = values.index[~np.isfinite(values[name])][0]
        raise UserError(f"judgments: row {row} has no {name!r}: leave it out, or the covariate")
    return values


def individuals(judgments: pd.DataFrame) -> pd.DataFrame:
    """The judgments but for those of the majority: it repeats the people it was made from."""
    require(judgments, "rater")
    return judgments[judgments["rater"] != MAJORITY]


def units(judgments: pd.DataFrame) -> pd.DataFrame:
    """Pivot long judgments (``… item rater label``) to units × raters, NaN where not judged.

    The index holds those columns of ``UNIT`` that the table has.

    Raises
    ------
    UserError : a column or a label is missing, a label is no number or a code such as 99, a rater
        judged a unit twice, a name is there as a number and as a text.
    """
    require(judgments, "item", "rater", "label")
    label = numbers(judgments)
    key = [column for column in UNIT if column in judgments]
    for column in key:
        if judgments[column].dtype == object:
            results.factorized(judgments[column])
    # Not `pivot`, which sorts: clusters are drawn in the order in which units come.
    unit = judgments.groupby(key, sort=False, dropna=False, observed=True).ngroup().to_numpy()
    rater, raters = results.factorized(judgments["rater"], use_na_sentinel=False)
    twice = judgments.duplicated([*key, "rater"]).to_numpy()
    if twice.any():
        place = int(twice.argmax())
        row, rater = judgments.index[place], judgments["rater"].iloc[place]
        raise UserError(f"judgments: row {row} repeats an item of rater {rater!r}: keep one")
    values = np.full((unit.max() + 1, len(raters)), np.nan)
    values[unit, rater] = label
    index = pd.MultiIndex.from_frame(judgments[key].drop_duplicates())
    return pd.DataFrame(values, index, raters)


def numbers(judgments: pd.DataFrame) -> pd.Series:
    """The labels as numbers; true and false are 1 and 0."""
    label = pd.to_numeric(judgments["label"], errors="coerce").astype(float)
    complete(label)
    no_code(label)
    return label


def complete(label: pd.Series) -> None:
    """No label may be missing, or what was not judged would pass for judged as something else."""
    if label.empty or label.isna().any():
        where = f"row {label.index[label.isna()][0]}" if len(label) else "no rows"
        raise UserError(f"judgments: {where} without a usable label: leave out what was not judged")


def no_code(label: pd.Series) -> None:
    """No whole number far from all others: on a scale from 1 to 5 a 99 says there is none."""
    values = np.unique(label)
    # Two labels are yes and no however they are written, and measurements have no codes.
    if (values % 1).any() or len(values) < 3:
        return
    for code, rest in ((values[-1], values[:-1]), (values[0], values[1:])):
        # Far: twice the width of all others, and more than the step from 1 to 5.
        if max(code - rest[-1], rest[0] - code) > max(2 * np.ptp(rest), 4):
            raise UserError(
                f"judgments: row {label.index[label == code][0]} has the label {code:g}, where "
                f"all others lie in {rest[0]:g}–{rest[-1]:g}: leave out what was not judged"
            )


def columns_of(wide: pd.DataFrame, raters: list[str]) -> pd.DataFrame:
    """The raters' columns; `UserError` for a rater who judged nothing."""
    if unknown := [rater for rater in raters if rater not in wide]:
        known = f"they are {', '.join(map(str, wide.columns))}"
        raise UserError(f"no rater {unknown[0]!r} in the judgments: {known}")
    return wide[raters]


def binary(wide: pd.DataFrame, raters: list[str]) -> pd.DataFrame:
    """The raters' columns, checked to hold only 0 and 1 (NaN = not judged)."""
    for rater, labels in columns_of(wide, raters).items():
        if not labels.dropna().isin([0, 1]).all():
            remedy = "compare scores with gap.scored_metrics"
            raise UserError(f"rater {rater!r} has labels other than 0 and 1: {remedy}")
    return wide[raters]


def kinds(judgments: pd.DataFrame) -> dict[str, str]:
    """``rater_kind`` of each rater."""
    require(judgments, "rater", "rater_kind")
    # What is neither would be left out of most, without a word.
    for kind in judgments["rater_kind"].unique():
        one_of(KINDS, "judgments: rater_kind", kind)
    return judgments.drop_duplicates("rater").set_index("rater")["rater_kind"].to_dict()


def people_and_models(
    judgments: pd.DataFrame, what: str, fewest: int = 1
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Units × raters, the human raters and the models; the majority vote is neither.

    `UserError`: fewer people than ``what`` needs, as where only their majority is stored.
    """
    everyone = kinds(judgments)
    humans, models = (
        [name for name, kind in everyone.items() if kind == side and name != MAJORITY]
        for side in ("human", "model")
    )
    if len(humans) < fewest:
        only = not humans and MAJORITY in everyone
        stored = "nothing but their majority" if only else f"those of {len(humans)}"
        needed = f"{what} needs labels of {fewest} or more people (rater_kind 'human')"
        raise UserError(f"{needed}, there are {stored}: load the labels of each")
    return units(individuals(judgments)), humans, models
