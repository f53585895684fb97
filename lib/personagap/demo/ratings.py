"""What was planted in the simulated ratings of stage 3, beside what is estimated from them.

``data/demo/build/make_responses.py`` drew the ratings and computed the planted values.
"""

import pandas as pd

from personagap.demo._recentering import planted_values


def recovered(
    summary: pd.DataFrame,
    kappa: pd.DataFrame,
    inflation: pd.DataFrame,
    correlations: pd.DataFrame,
    effects: pd.DataFrame,
) -> pd.DataFrame:
    """Planted beside estimates: ``quantity rater planted estimated ci_low ci_high covered``."""
    people = kappa.head(1).assign(quantity="weighted κ", rater="human")
    tables = [
        summary.rename(columns={"measure": "quantity"}),
        people.rename(columns={"kappa": "estimate"}),
        inflation.assign(quantity="inflation"),
        correlations.assign(quantity="Spearman").rename(columns={"spearman": "estimate"}),
        effects.rename(columns={"covariate": "quantity"}),
    ]
    found = pd.concat(tables)[["quantity", "rater", "estimate", "ci_low", "ci_high"]]
    table = planted_values("response").merge(found, on=["quantity", "rater"])
    table = table.rename(columns={"estimate": "estimated"})
    return table.assign(covered=table["planted"].between(table["ci_low"], table["ci_high"]))
