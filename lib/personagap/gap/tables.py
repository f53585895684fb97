"""Conversion of long tables of judgments to a matrix with units in rows and raters in columns."""

import numpy as np
import pandas as pd

from personagap import results
from personagap.errors import UserError, explained, require_one_of
from personagap.schema import MAJORITY

#: Columns that identify a judged unit; a table may leave out columns that do not vary.
UNIT = ("stage", "source", "user", "prompt", "item")
#: Kinds of raters; the last two are judges of this project that are not language models.
KINDS = ("human", "model", "retrieval", "trained")


def require_columns(judgments: pd.DataFrame, *columns: str) -> None:
    """Raise `UserError` if a column is missing from the judgments."""
    results.require_columns(judgments, "judgments", *columns)


def covariates_of(judgments: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return the columns ``names`` as numbers; `UserError` if a value is missing or no number."""
    require_columns(judgments, *names)
    with explained("judgments: covariates are no numbers", "code them as numbers"):
        values = judgments[names].astype(float)
    for name in values.columns[~np.isfinite(values).all()]:
        row = values.index[~np.isfinite(values[name])][0]
        raise UserError(f"judgments: row {row} has no {name!r}: leave it out, or the covariate")
    return values


def without_majority(judgments: pd.DataFrame) -> pd.DataFrame:
    """Return the judgments without the majority vote, which repeats the people it summarizes."""
    require_columns(judgments, "rater")
    return judgments[judgments["rater"] != MAJORITY]


def units(judgments: pd.DataFrame) -> pd.DataFrame:
    """Pivot long judgments (``… item rater label``) to units × raters, NaN where not judged.

    The index consists of the columns of ``UNIT`` that the table has.

    Raises
    ------
    UserError : a column or a label is missing, a label is not a number or is a missing-value code
        such as 99, a rater judged a unit twice, or a name occurs both as a number and as a text.
    """
    require_columns(judgments, "item", "rater", "label")
    label = numbers(judgments)
    key = [column for column in UNIT if column in judgments]
    # `factorized` raises an error for names that occur both as a number and as a text.
    for name in key:
        if judgments[name].dtype == object:
            results.factorized(judgments[name])
    # Not `pivot`, which sorts: the order of the units determines which clusters a seed draws.
    unit = judgments.groupby(key, sort=False, dropna=False, observed=True).ngroup().to_numpy()
    column, raters = results.factorized(judgments["rater"], use_na_sentinel=False)
    repeated = judgments.duplicated([*key, "rater"]).to_numpy()
    if repeated.any():
        place = int(repeated.argmax())
        row, rater = judgments.index[place], judgments["rater"].iloc[place]
        raise UserError(f"judgments: row {row} repeats an item of rater {rater!r}: keep one")
    values = np.full((unit.max() + 1, len(raters)), np.nan)
    values[unit, column] = label
    index = pd.MultiIndex.from_frame(judgments[key].drop_duplicates())
    return pd.DataFrame(values, index, raters)


def numbers(judgments: pd.DataFrame) -> pd.Series:
    """Return the labels as validated numbers; true and false are 1 and 0."""
    label = pd.to_numeric(judgments["label"], errors="coerce").astype(float)
    require_labels(label.where(np.isfinite(label)))
    _require_no_missing_code(label)
    return label


def require_labels(label: pd.Series) -> None:
    """Raise `UserError` if a label is missing: it would count as a judgment that was never made."""
    if label.empty or label.isna().any():
        where = f"row {label.index[label.isna()][0]}" if len(label) else "no rows"
        raise UserError(f"judgments: {where} without a usable label: leave out what was not judged")


def _require_no_missing_code(label: pd.Series) -> None:
    """Raise `UserError` for a code of missing values, such as 99 on a scale from 1 to 5."""
    values = np.unique(label)
    # Two labels are yes and no in any coding, and fractional measurements have no such codes.
    if (values % 1).any() or len(values) < 3:
        return
    for code, rest in ((values[-1], values[:-1]), (values[0], values[1:])):
        # A code is farther away than twice the range of all others, and than the step from 1 to 5.
        if max(code - rest[-1], rest[0] - code) > max(2 * np.ptp(rest), 4):
            raise UserError(
                f"judgments: row {label.index[label == code][0]} has the label {code:g}, where "
                f"all others lie in {rest[0]:g}–{rest[-1]:g}: leave out what was not judged"
            )


def columns_of(wide: pd.DataFrame, raters: list[str]) -> pd.DataFrame:
    """Return the raters' columns; `UserError` for an unknown rater."""
    if unknown := [rater for rater in raters if rater not in wide]:
        available = f"they are {', '.join(map(str, wide.columns))}"
        raise UserError(f"no rater {unknown[0]!r} in the judgments: {available}")
    return wide[raters]


def binary(wide: pd.DataFrame, raters: list[str]) -> pd.DataFrame:
    """Return the raters' columns; `UserError` unless all labels are 0 or 1 (NaN: not judged)."""
    for rater, labels in columns_of(wide, raters).items():
        if not labels.dropna().isin([0, 1]).all():
            remedy = "compare scores with gap.scored_metrics"
            raise UserError(f"rater {rater!r} has labels other than 0 and 1: {remedy}")
    return wide[raters]


def kinds(judgments: pd.DataFrame) -> dict[str, str]:
    """Return the ``rater_kind`` of each rater; `UserError` if it is not one of `KINDS`."""
    require_columns(judgments, "rater", "rater_kind")
    # Most functions select raters by kind and would silently leave out an unknown one.
    for kind in judgments["rater_kind"].unique():
        require_one_of(KINDS, "judgments: rater_kind", kind)
    return judgments.drop_duplicates("rater").set_index("rater")["rater_kind"].to_dict()


def people_and_models(
    judgments: pd.DataFrame, analysis: str, min_people: int = 1
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return units × raters, the names of the human raters and of the models.

    The majority vote is neither.

    Raises
    ------
    UserError : fewer people than the ``analysis``, named in the message, needs, for example where
        only their majority is stored.
    """
    kind_of = kinds(judgments)
    humans, models = (
        [name for name, kind in kind_of.items() if kind == wanted and name != MAJORITY]
        for wanted in ("human", "model")
    )
    if len(humans) < min_people:
        only_majority = not humans and MAJORITY in kind_of
        stored = "nothing but their majority" if only_majority else f"those of {len(humans)}"
        needed = f"{analysis} needs labels of {min_people} or more people (rater_kind 'human')"
        raise UserError(f"{needed}, there are {stored}: load the labels of each")
    return units(without_majority(judgments)), humans, models
