"""Measured beside published numbers of arXiv 2606.06614.

Which of ours stand beside which of theirs is listed in ``data/recentering/measured.csv``: of a
notebook's table, the rows with a ``name`` in its first column and a ``metric``.
"""

import pandas as pd

from personagap.paths import DATA
from personagap.published import compare

_OTHERS = "other items and people than there"
_SIMULATED = "simulated data"


def relevance(
    metrics: pd.DataFrame, means: pd.DataFrame, quality: pd.DataFrame, *, simulated: bool
) -> pd.DataFrame:
    """The relevance notebook's numbers beside those of arXiv 2606.06614, stage 2; see
    ``published.compare``.

    Parameters
    ----------
    metrics : ``gap.relevance_metrics``, with retrieval baselines like "bm25_top5".
    means : ``gap.mean_agreement``.
    quality : ``classifiers.quality``; its fine-tuned classifier, or the linear one, stands beside
        RoBERTa.
    simulated : the judgments are those of the demo.
    """
    # The data hold 3,973 pairs, though the paper counts 3,969 (R18).
    n = metrics.loc[metrics["rater"] == "select_all", "n"].iloc[0]
    pairs = "" if n == 3973 else f"{n:,} pairs here, 3,973 there"
    why_not = {
        "metrics": pairs,
        "quality": "another classifier; how theirs was split is unknown (R19)",
    }
    why_not["means"] = pairs or "other raters than the three people and five models there"
    # Of the classifiers the one most like theirs.
    method = "encoder" if "encoder (new prompts)" in set(quality["rater"]) else "linear"
    quality = quality.replace({"rater": {f"{method} (new prompts)": "tuned"}})
    measured = _listed("2_relevance", metrics=metrics, quality=quality, means=means)
    reasons = _SIMULATED if simulated else measured["table"].map(why_not)
    return compare(measured.assign(why_not=reasons), "recentering")


def extraction(
    contrasts: pd.DataFrame,
    verifier: pd.DataFrame,
    taxonomy: pd.DataFrame | None,
    strategies: pd.DataFrame | None,
    *,
    simulated: bool,
) -> pd.DataFrame:
    """The extraction notebook's numbers beside those of arXiv 2606.06614, stage 1; see
    ``published.compare``.

    The arguments are the notebook's tables; ``taxonomy`` and ``strategies`` are None without a
    model. Their shares are of the named kinds of failure, which a model labelled too (R12).
    """
    kinds = None if taxonomy is None else taxonomy.drop(columns="stage")
    tables = {"contrasts": contrasts, "verifier": verifier}
    measured = _listed("1_extraction", **tables, taxonomy=kinds, strategies=strategies)
    return compare(measured.assign(why_not=_SIMULATED if simulated else _OTHERS), "recentering")


def response(
    summary: pd.DataFrame,
    correlations: pd.DataFrame,
    kappa: pd.DataFrame,
    mention: pd.DataFrame,
    *,
    simulated: bool,
) -> pd.DataFrame:
    """The response notebook's numbers beside those of arXiv 2606.06614, stage 3; see
    ``published.compare``.

    Our learned reward is a ridge on features, theirs are tuned models: the same question.
    """
    tables = {"summary": summary, "correlations": correlations, "kappa": kappa, "mention": mention}
    measured = _listed("3_response", **tables)
    return compare(measured.assign(why_not=_SIMULATED if simulated else _OTHERS), "recentering")


def _listed(notebook: str, **tables: pd.DataFrame | None) -> pd.DataFrame:
    """The rows of a notebook's tables that have a published number, and which that is."""
    listed = pd.read_csv(DATA / "recentering" / "measured.csv").query("notebook == @notebook")
    found = []
    for name, rows in listed.groupby("table", sort=False):
        if (table := tables[str(name)]) is not None:
            key = table.columns[0]
            found.append(rows.rename(columns={"name": key}).merge(table, on=[key, "metric"]))
    return pd.concat(found, ignore_index=True).dropna(subset="estimate")
