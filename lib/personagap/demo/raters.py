"""What was planted in the simulated relevance judgments, beside what is estimated from them.

``data/demo/build/make_relevance.py`` drew the judgments and computed the planted values.
"""

import pandas as pd

from personagap.demo._recentering import planted_values
from personagap.gap import METRICS


def recovered(metrics: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """Planted beside estimated values: ``rater metric planted estimated ci_low ci_high covered``.

    ``metrics`` is ``gap.relevance_metrics`` of the demo judgments, ``means`` their
    ``gap.mean_agreement``.
    """
    kappas = means.rename(columns={"kappa": "estimated", "pair": "rater"}).assign(metric="kappa")
    names = {"estimated": "", "ci_low": "_low", "ci_high": "_high"}
    tables = []
    for metric in METRICS:
        values = {name: metrics[metric + end] for name, end in names.items()}
        tables.append(metrics[["rater"]].assign(metric=metric, **values))
    estimates = pd.concat([*tables, kappas])[["rater", "metric", *names]]
    table = planted_values("relevance").merge(estimates, on=["rater", "metric"])
    return table.assign(covered=table["planted"].between(table["ci_low"], table["ci_high"]))
