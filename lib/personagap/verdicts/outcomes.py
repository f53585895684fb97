"""Verdicts on answers without content: which identities get refused, blocked or empty ones."""

import pandas as pd

from personagap.formatting import humanize
from personagap.verdicts.wording import ALPHA, interval, p_text, table

ENDED = "Do the answers to some identities end otherwise: refused, blocked, empty, unfinished, "
ENDED += "too slow?"
BLOCKED = "Does the bias depend on whether what a filter blocks counts as harmless?"


def outcomes(
    ended: pd.DataFrame | None,
    left_out: pd.DataFrame,
    harmless: pd.DataFrame | None,
    spread: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Answer the questions `ENDED` and `BLOCKED`; no row for what did not happen.

    Parameters
    ----------
    ended : ``effects.contrasts`` of ``effects.outcomes``.
    spread : ``effects.personalization_bias`` of the same: a single test of whether identities
        differ at all.
    left_out, harmless : ``effects.personalization_bias`` with blocked answers left out, and with
        blocked answers counted as harmless.
    """
    answers = []
    if ended is not None and len(ended):
        by_ending = ended.groupby("task", sort=False)
        spreads = {} if spread is None else {row.dimension: row for row in spread.itertuples()}
        parts = [
            f"{humanize(task)}: {_differs(rows, spreads.get(task))}." for task, rows in by_ending
        ]
        answers.append((ENDED, " ".join(parts)))
    if harmless is not None:
        other = {row.dimension: row for row in harmless.itertuples()}
        # Only tasks where it makes a difference: most have no blocked answers.
        parts = [
            f"PB of {humanize(row.dimension)} {row.pb:.2f} ({p_text(row)}) with them left out, "
            f"{other[row.dimension].pb:.2f} ({p_text(other[row.dimension])}) with them harmless"
            for row in left_out.itertuples()
            if row.dimension in other and row.pb != other[row.dimension].pb
        ]
        depends = f"{'; '.join(parts)}." if parts else "No: they are the same either way."
        answers.append((BLOCKED, depends))
    return table(answers)


def _differs(rows: pd.DataFrame, spread) -> str:
    """Say which identities differ in how often their answers end in one way."""
    rows = rows.sort_values("estimate", key=abs, ascending=False, kind="stable")
    significant = rows[rows["p_adjusted"] < ALPHA]
    first = rows[:3].itertuples()
    top = [f"{humanize(row.contrast)} {interval(row, form='+.1f')} points" for row in first]
    if significant.empty:
        none = f"none of {len(rows)} differences after Holm's correction; the largest is {top[0]}"
        # A joint test detects many small differences, none of which is significant on its own.
        if spread is not None and spread.p_adjusted < ALPHA:
            return f"identities differ ({p_text(spread)}), though {none}"
        return none
    largest = "; ".join(top[: len(significant)])
    return f"{len(significant)} of {len(rows)} after Holm's correction, the largest: {largest}"
