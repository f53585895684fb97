"""Comparison of measured with published numbers of arXiv 2606.06614.

``data/recentering/measured.csv`` lists which of our numbers correspond to which of theirs: rows of
a notebook's table by their ``metric`` and by the ``name`` in the first column.
"""

import pandas as pd

from personagap.paths import DATA
from personagap.published import compare

_OTHERS = "other items and people than there"
_SIMULATED = "simulated data"


def relevance(
    metrics: pd.DataFrame, means: pd.DataFrame, quality: pd.DataFrame, *, simulated: bool
) -> pd.DataFrame:
    """Compare the numbers of the relevance notebook with those of stage 2 of arXiv 2606.06614; see
    ``published.compare``.

    Parameters
    ----------
    metrics : ``gap.relevance_metrics``, with retrieval baselines like "bm25_top5".
    means : ``gap.mean_agreement``.
    quality : ``classifiers.quality``; the fine-tuned classifier, or else the linear one, is
        compared with the paper's RoBERTa.
    simulated : whether the judgments are those of the demo.
    """
    # The data hold 3,973 pairs, although the paper counts 3,969 (R18).
    n = metrics.loc[metrics["rater"] == "select_all", "n"].iloc[0]
    pairs = "" if n == 3973 else f"{n:,} pairs here, 3,973 there"
    why_not = {
        "metrics": pairs,
        "quality": "another classifier; how theirs was split is unknown (R19)",
    }
    why_not["means"] = pairs or "other raters than the three people and five models there"
    # The classifier most similar to theirs.
    method = "encoder" if "encoder (new prompts)" in set(quality["rater"]) else "linear"
    quality = quality.replace({"rater": {f"{method} (new prompts)": "tuned"}})
    measured = _match("2_relevance", metrics=metrics, quality=quality, means=means)
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
    """Compare the numbers of the extraction notebook with those of stage 1 of arXiv 2606.06614; see
    ``published.compare``.

    The arguments are the notebook's tables; ``taxonomy`` and ``strategies`` are None without a
    model. In the paper as well, a model labelled the kinds of failure whose shares are compared
    (R12).
    """
    kinds = None if taxonomy is None else taxonomy.drop(columns="stage")
    tables = {"contrasts": contrasts, "verifier": verifier}
    measured = _match("1_extraction", **tables, taxonomy=kinds, strategies=strategies)
    return compare(measured.assign(why_not=_SIMULATED if simulated else _OTHERS), "recentering")


def response(
    summary: pd.DataFrame,
    correlations: pd.DataFrame,
    kappa: pd.DataFrame,
    mention: pd.DataFrame,
    *,
    simulated: bool,
) -> pd.DataFrame:
    """Compare the numbers of the response notebook with those of stage 3 of arXiv 2606.06614; see
    ``published.compare``.

    Our learned reward is a ridge regression on features and theirs are fine-tuned language models;
    both predict the ratings of people.
    """
    tables = {"summary": summary, "correlations": correlations, "kappa": kappa, "mention": mention}
    measured = _match("3_response", **tables)
    return compare(measured.assign(why_not=_SIMULATED if simulated else _OTHERS), "recentering")


def _match(notebook: str, **tables: pd.DataFrame | None) -> pd.DataFrame:
    """Return the rows of a notebook's tables that have a published counterpart, with the key of
    that counterpart.
    """
    counterparts = pd.read_csv(DATA / "recentering" / "measured.csv")
    matched = []
    for name, rows in counterparts.query("notebook == @notebook").groupby("table", sort=False):
        if (table := tables[str(name)]) is not None:
            key = table.columns[0]
            matched.append(rows.rename(columns={"name": key}).merge(table, on=[key, "metric"]))
    return pd.concat(matched, ignore_index=True).dropna(subset="estimate")
