"""How every verdict words its numbers. A row is one of ``iterrows`` or ``itertuples``."""

from collections.abc import Iterable, Sequence

import pandas as pd

from personagap.readable import told_correction
from personagap.spelling import number, words

#: Level of the tests. Contrasts, changes and PB of each task are corrected by Holm first.
ALPHA = 0.05
#: Rows that a text alternative tells.
LONGEST = 40
#: The first "question" of a verdict: the notebook's own, which its title asks.
HEADLINE = "In short"
#: How a headline begins that answers neither yes nor no.
OPEN = "Not told by these data"


def table(answers: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(answers, columns=["question", "answer"])


def p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def tested(row) -> str:
    """The p-value of a row of `results`, after correction where there was one, and over what."""
    family = getattr(row, "family", "")
    value = row.p_adjusted if isinstance(family, str) and family else row.p_value
    return f"{p(value)}, {correction([family])}"


def correction(families: Iterable[str]) -> str:
    """What was done to p-values of these families, each told once."""
    return "; ".join(dict.fromkeys(map(told_correction, families)))


def interval(row, form: str = ".3f") -> str:
    """The estimate of a row of `results`, with its interval."""
    return f"{row.estimate:{form}} [{row.ci_low:{form}}, {row.ci_high:{form}}]"


def pb(square: float) -> float:
    """A PB in points from its debiased square, which noise may make negative."""
    return max(square, 0) ** 0.5


def debiased(row, what: str = "corrected for noise ") -> str:
    """The root of the debiased PB² of ``effects.personalization_bias``."""
    roots = map(pb, (row.debiased_pb2, row.ci_low, row.ci_high))
    told = what + "{:.2f} [{:.2f}, {:.2f}]".format(*roots)
    found, apart = row.p_value < ALPHA, row.ci_low > 0
    # The test is exact and the interval a bootstrap of another statistic: near 5 % they may differ,
    # and a reader who sees but one of them would be misled.
    if found != apart:
        verb = "excludes" if apart else "includes"
        told += f"; test and interval disagree: the interval {verb} 0"
    return told


def unasked(means: pd.DataFrame) -> str:
    """That the price of a change is told on one side alone, of its ``means``: safety is gained by
    refusing all, utility by answering all. "" where both were asked.
    """
    lacking = sorted({"safety", "utility"} - set(means["task"]))
    return f"what it costs in {' and '.join(lacking)} was not asked" if lacking else ""


def side(row, above: str, below: str, neither: str, than: float = 0) -> str:
    """Which to say of an interval that lies above, below or around ``than``."""
    return above if row.ci_low > than else below if row.ci_high < than else neither


def shown(row, above: str, below: str, neither: str) -> str:
    """`side` of 0 where the corrected test finds a difference too."""
    # Intervals are of one comparison each, so of many some lie beside 0 by chance.
    return side(row, above, below, neither) if row.p_adjusted < ALPHA else neither


def listed(rows: pd.DataFrame, *names: str) -> str:
    """Estimate and interval of each row, after the columns ``names`` of it; shares in percent."""
    said = []
    for _, row in rows.iterrows():
        form = ".1%" if row["unit"] == "share" else ".2f"
        what = ", ".join(words(str(row[name])) for name in names)
        said.append(f"{what} {interval(row, form=form)}")
    return "; ".join(said)


def describe(title: str, table: pd.DataFrame, names: Sequence[str], *values: str) -> str:
    """The text alternative of a figure: its title, and what each row of its table holds.

    Parameters
    ----------
    names : columns that name a row.
    values : columns of numbers, told with their intervals where they have some; default "estimate".

    Examples
    --------
    >>> table = pd.DataFrame({"task": ["mmlu"], "pb": [6.73], "noise_floor": [3.1682]})
    >>> describe("Bias in points", table, ["task"], "pb", "noise_floor")
    'Bias in points. mmlu: pb 6.73, noise floor 3.17'
    """
    values = values or ("estimate",)
    rows = []
    for row in table.head(LONGEST).to_dict("records"):
        numbers = []
        for value in values:
            numbers.append(f"{words(value)} {number(row[value])}")
            # Ends that name no value are those of the first.
            ends = "ci" if value == values[0] and f"{value}_low" not in row else value
            if f"{ends}_low" in row:
                numbers[-1] += f" [{number(row[f'{ends}_low'])}, {number(row[f'{ends}_high'])}]"
        rows.append(f"{', '.join(words(str(row[name])) for name in names)}: {', '.join(numbers)}")
    more = f"; and {len(table) - LONGEST} more" if len(table) > LONGEST else ""
    return f"{title}. {'; '.join(rows)}{more}"
