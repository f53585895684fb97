"""Verdicts on the findings: one headline for each question, and what stands behind it."""

import pandas as pd

from personagap.claims import DEPENDS, NOISE, STANDS
from personagap.verdicts.wording import table


def published_claims(found: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    """How much of the published results is noise: ``question answer``.

    Parameters
    ----------
    found, numbers : ``claims.claims`` and ``claims.numbers``.
    """
    counts = found["verdict"].value_counts().reindex([STANDS, DEPENDS, NOISE], fill_value=0)
    biases = numbers[numbers["metric"] == "PB"]
    told = int((biases["ci_low"] > 0).sum())
    headline = (
        f"Of {len(found)} claims {counts[STANDS]} stand, {counts[NOISE]} could be noise and {counts[DEPENDS]} depend "
        "on what was not published: which tasks, how many runs, which rows were tested."
    )
    lowest = biases.loc[biases["estimate"].idxmin()]
    bias = (
        f"{told} of {len(biases)} exceed it under every design that fits. The lowest is {lowest['estimate']:.2f} "
        f"points, where noise alone gives {lowest['floor_low']:.1f} to {lowest['floor_high']:.1f}."
    )
    answers = [
        ("How much of a published result is noise?", headline),
        ("Do published PB exceed their noise floors?", bias),
    ]
    for verdict, question in ((STANDS, "Which claims stand?"), (NOISE, "Which could be noise?")):
        named = found[found["verdict"] == verdict]
        answers.append((question, "; ".join(map(_claim, named.itertuples())) + " points."))
    return table(answers)


def _claim(row) -> str:
    of = "true PB " if row.estimate > row.ci_high else ""
    return f"{row.claim}: {row.estimate:.1f}, {of}[{row.ci_low:.1f}, {row.ci_high:.1f}]"
