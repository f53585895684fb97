"""How every verdict words its numbers. A row is one of ``iterrows`` or ``itertuples``."""

import pandas as pd

#: Level of the tests. Contrasts and changes are corrected by Holm first, PB of each task is not.
ALPHA = 0.05


def table(answers: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(answers, columns=["question", "answer"])


def words(name: str) -> str:
    return name.replace("_", " ")


def p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def interval(row, value: str = "estimate", form: str = ".3f", scale: float = 1) -> str:
    """``value`` with its interval: columns ``<value>_low`` and ``<value>_high``, or else ``ci_low`` and ``ci_high``."""
    ends = value if hasattr(row, f"{value}_low") else "ci"
    numbers = [format(scale * getattr(row, name), form) for name in (value, f"{ends}_low", f"{ends}_high")]
    return "{} [{}, {}]".format(*numbers)


def corrected_pb(row) -> str:
    """The root of the debiased PB² of ``effects.personalization_bias``, 0 where that is negative."""
    roots = (max(value, 0) ** 0.5 for value in (row.debiased_pb2, row.ci_low, row.ci_high))
    found, apart = row.p_value < ALPHA, row.ci_low > 0
    split = (
        f"; test and interval disagree: the interval {'excludes' if apart else 'includes'} 0" if found != apart else ""
    )
    return "corrected for noise {:.2f} [{:.2f}, {:.2f}]".format(*roots) + split


def side(row, above: str, below: str, neither: str, than: float = 0) -> str:
    """Which to say of an interval that lies above, below or around ``than``."""
    return above if row.ci_low > than else below if row.ci_high < than else neither


def describe_intervals(rows: pd.DataFrame, *names: str, scale: float = 1) -> str:
    """The text alternative of ``figures.intervals``; ``names`` are the columns that name a row."""
    named = (f"{', '.join(str(row[name]) for name in names)} {value(row, scale)}" for _, row in rows.iterrows())
    return "; ".join(named)


def value(row, scale: float = 1) -> str:
    return interval(row, form=".2f" if scale == 1 else ".1f", scale=scale)
