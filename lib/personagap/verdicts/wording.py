"""Phrases shared by all verdicts: p-values, intervals, corrections.

A ``row`` is one of a result table, from ``iterrows`` or ``itertuples``.
"""

from collections.abc import Iterable, Sequence

import pandas as pd

from personagap.formatting import format_number, humanize
from personagap.readable import describe_correction

#: Significance level, of p-values after Holm's correction where there is one.
ALPHA = 0.05
#: Maximum number of rows in the text alternative of a figure.
MAX_ROWS = 40
#: The first "question" of a verdict: the one in the title of the notebook.
HEADLINE = "In short"
#: Beginning of a headline that answers neither yes nor no.
OPEN = "Not told by these data"


def table(answers: list[tuple[str, str]]) -> pd.DataFrame:
    """Return pairs of question and answer as a table."""
    return pd.DataFrame(answers, columns=["question", "answer"])


def p(value: float) -> str:
    """Format a p-value."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def p_text(row) -> str:
    """Format the p-value of a result and name its correction, if it belongs to a family."""
    family = getattr(row, "family", "")
    value = row.p_adjusted if isinstance(family, str) and family else row.p_value
    return f"{p(value)}, {correction([family])}"


def correction(families: Iterable[str]) -> str:
    """Name the corrections of these families of tests, each once."""
    return "; ".join(dict.fromkeys(map(describe_correction, families)))


def interval(row, form: str = ".3f") -> str:
    """Format the estimate of a result with its interval."""
    return f"{row.estimate:{form}} [{row.ci_low:{form}}, {row.ci_high:{form}}]"


def pb(square: float) -> float:
    """Return PB in points from its debiased square, which noise may make negative."""
    return max(square, 0) ** 0.5


def debiased(row, what: str = "corrected for noise ") -> str:
    """Format the root of the debiased PB² of ``effects.personalization_bias`` with its interval."""
    roots = map(pb, (row.debiased_pb2, row.ci_low, row.ci_high))
    text = what + "{:.2f} [{:.2f}, {:.2f}]".format(*roots)
    significant, excludes_zero = row.p_value < ALPHA, row.ci_low > 0
    # The test is exact, the interval a bootstrap of another statistic: near 5 % they may disagree,
    # and a reader who sees only one of them would be misled.
    if significant != excludes_zero:
        verb = "excludes" if excludes_zero else "includes"
        text += f"; test and interval disagree: the interval {verb} 0"
    return text


def price_not_asked(means: pd.DataFrame) -> str:
    """Say that utility or safety was not among the measured ``means``; "" if both were.

    Without both, the price of a change is unknown: refusing everything makes a model safe,
    answering everything makes it useful.
    """
    missing = sorted({"safety", "utility"} - set(means["task"]))
    return f"what it costs in {' and '.join(missing)} was not asked" if missing else ""


def side(row, above: str, below: str, neither: str, than: float = 0) -> str:
    """Return the text for an interval that lies above ``than``, below it, or around it."""
    return above if row.ci_low > than else below if row.ci_high < than else neither


def shown_side(row, above: str, below: str, neither: str) -> str:
    """Return `side` of 0 if the corrected test is significant too, else ``neither``."""
    # Intervals are not corrected for multiple comparisons: some of many exclude 0 by chance.
    return side(row, above, below, neither) if row.p_adjusted < ALPHA else neither


def list_estimates(rows: pd.DataFrame, *names: str) -> str:
    """List estimates and intervals, each after the ``names`` of its row; shares in percent."""
    parts = []
    for _, row in rows.iterrows():
        form = ".1%" if row["unit"] == "share" else ".2f"
        label = ", ".join(humanize(str(row[name])) for name in names)
        parts.append(f"{label} {interval(row, form=form)}")
    return "; ".join(parts)


def describe(title: str, table: pd.DataFrame, names: Sequence[str], *values: str) -> str:
    """Return the text alternative of a figure: its title, and the values of its table.

    Parameters
    ----------
    names : columns that name a row.
    values : columns of numbers, listed with their intervals if they have any; default "estimate".

    Examples
    --------
    >>> table = pd.DataFrame({"task": ["mmlu"], "pb": [6.73], "noise_floor": [3.1682]})
    >>> describe("Bias in points", table, ["task"], "pb", "noise_floor")
    'Bias in points. mmlu: pb 6.73, noise floor 3.17'
    """
    values = values or ("estimate",)
    rows = []
    for row in table.head(MAX_ROWS).to_dict("records"):
        numbers = []
        for value in values:
            numbers.append(f"{humanize(value)} {format_number(row[value])}")
            # The interval ``ci_low ci_high`` belongs to the first value.
            ends = "ci" if value == values[0] and f"{value}_low" not in row else value
            if f"{ends}_low" in row:
                numbers[-1] += (
                    f" [{format_number(row[f'{ends}_low'])}, {format_number(row[f'{ends}_high'])}]"
                )
        rows.append(
            f"{', '.join(humanize(str(row[name])) for name in names)}: {', '.join(numbers)}"
        )
    more = f"; and {len(table) - MAX_ROWS} more" if len(table) > MAX_ROWS else ""
    return f"{title}. {'; '.join(rows)}{more}"
