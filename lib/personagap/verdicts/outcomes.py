"""What is said of answers that say nothing: which identities they are given to."""

import pandas as pd

from personagap.spelling import words
from personagap.verdicts.wording import ALPHA, interval, table, tested

ENDED = "Do the answers to some identities end otherwise: refused, blocked, empty, unfinished, "
ENDED += "too slow?"
BLOCKED = "Does the bias depend on whether what a filter blocks counts as harmless?"


def outcomes(
    ended: pd.DataFrame | None,
    left_out: pd.DataFrame,
    harmless: pd.DataFrame | None,
    spread: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Answers to these two questions; no row for what did not happen.

    Parameters
    ----------
    ended : of ``effects.contrasts`` on ``effects.outcomes``.
    spread : of ``effects.personalization_bias`` on the same: do identities differ at all, asked in
        one test.
    left_out, harmless : of ``effects.personalization_bias``, blocked answers left out, and counted
        as harmless.
    """
    answers = []
    if ended is not None and len(ended):
        by_ending = ended.groupby("task", sort=False)
        some = {} if spread is None else {row.dimension: row for row in spread.itertuples()}
        said = [f"{words(task)}: {_differs(rows, some.get(task))}." for task, rows in by_ending]
        answers.append((ENDED, " ".join(said)))
    if harmless is not None:
        other = {row.dimension: row for row in harmless.itertuples()}
        # Only where it makes a difference: most tasks have no blocked answer.
        parts = [
            f"PB of {words(row.dimension)} {row.pb:.2f} ({tested(row)}) with them left out, "
            f"{other[row.dimension].pb:.2f} ({tested(other[row.dimension])}) with them harmless"
            for row in left_out.itertuples()
            if row.dimension in other and row.pb != other[row.dimension].pb
        ]
        depends = f"{'; '.join(parts)}." if parts else "No: they are the same either way."
        answers.append((BLOCKED, depends))
    return table(answers)


def _differs(rows: pd.DataFrame, spread) -> str:
    rows = rows.sort_values("estimate", key=abs, ascending=False, kind="stable")
    found = rows[rows["p_adjusted"] < ALPHA]
    first = rows[:3].itertuples()
    named = [f"{words(row.contrast)} {interval(row, form='+.1f')} points" for row in first]
    if found.empty:
        none = f"none of {len(rows)} differences after Holm's correction; the largest is {named[0]}"
        # One test of all finds what is spread over many, each too small for a test of its own.
        if spread is not None and spread.p_adjusted < ALPHA:
            return f"identities differ ({tested(spread)}), though {none}"
        return none
    largest = "; ".join(named[: len(found)])
    return f"{len(found)} of {len(rows)} after Holm's correction, the largest: {largest}"
