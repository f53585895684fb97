"""Measured beside published numbers of arXiv 2606.06614."""

import pandas as pd

from personagap.published.numbers import beside, measured


def relevance(metrics: pd.DataFrame, means: pd.DataFrame, *, simulated: bool) -> pd.DataFrame:
    """The relevance notebook's numbers beside those of arXiv 2606.06614, stage 2; see ``beside``.

    Parameters
    ----------
    metrics : ``gap.relevance_metrics``, with retrieval baselines like "bm25_top5".
    means : ``gap.mean_agreement``.
    simulated : the judgments are those of the demo.
    """
    released = {
        "gpt_5_4": "method=GPT-5.4 (released outputs)",
        "gemma_4_31b": "method=Gemma-4-31B-it (released outputs)",
        "select_all": "method=select all",
    }
    bm25 = {f"bm25_top{k}": f"method=BM25;cut=top-{k}" for k in (5, 8, 10)}
    quantities = {"precision": "precision", "recall": "recall", "f1": "f1", "kappa": "kappa_vs_majority"}
    groups = {"human–human": "human-human", "human–model": "LLM-human", "model–model": "LLM-LLM"}
    kappas = means.assign(condition=means["pair"].map(groups)).dropna(subset=["condition", "kappa"])
    n = metrics.loc[metrics["rater"] == "select_all", "n"].iloc[0]
    reason = "simulated data" if simulated else "" if n == 3973 else f"{n:,} pairs here, 3,973 there"
    rows = pd.concat([measured(metrics, released, quantities), measured(metrics, bm25, {"f1": "f1"})])
    kappas = kappas.assign(
        quantity="mean_pairwise_kappa", why_not=reason or "other raters than the three people and five models there"
    )
    table = pd.concat([rows.assign(why_not=reason), kappas.rename(columns={"kappa": "measured"})])
    return beside(table, "recentering")
