"""Measured beside published numbers of arXiv 2606.06614."""

import pandas as pd

from personagap.published import beside, rows

_OTHERS = "other items and people than there"
_SIMULATED = "simulated data"


def relevance(metrics: pd.DataFrame, means: pd.DataFrame, quality: pd.DataFrame, *, simulated: bool) -> pd.DataFrame:
    """The relevance notebook's numbers beside those of arXiv 2606.06614, stage 2; see ``beside``.

    Parameters
    ----------
    metrics : ``gap.relevance_metrics``, with retrieval baselines like "bm25_top5".
    means : ``gap.mean_agreement``.
    quality : ``tuning.classifiers.quality``; its fine-tuned classifier, or the linear one, stands beside RoBERTa.
    simulated : the judgments are those of the demo.
    """
    n = metrics.loc[metrics["rater"] == "select_all", "n"].iloc[0]
    pairs = "" if n == 3973 else f"{n:,} pairs here, 3,973 there"
    raters = pairs or "other raters than the three people and five models there"
    classifier = "another classifier; how theirs was split is unknown (R19)"
    pairs, raters, classifier = (_SIMULATED if simulated else each for each in (pairs, raters, classifier))
    released = {
        "gpt_5_4": "method=GPT-5.4 (released outputs)",
        "gemma_4_31b": "method=Gemma-4-31B-it (released outputs)",
        "select_all": "method=select all",
    }
    bm25 = {f"bm25_top{k}": f"method=BM25;cut=top-{k}" for k in (5, 8, 10)}
    method = "encoder" if "encoder (new prompts)" in set(quality["rater"]) else "linear"
    tuned = {f"{method} (new prompts)": "method=RoBERTa trained", "grpo (new prompts)": "method=Qwen3-4B + GRPO"}
    quantities = {name: name for name in ("precision", "recall", "f1")}
    groups = {"human–human": "human-human", "human–model": "LLM-human", "model–model": "LLM-LLM"}
    kappas = means[means["pair"].isin(groups) & means["kappa"].notna()]
    tables = [
        _raters(metrics, released, quantities | {"kappa": "kappa_vs_majority"}, why_not=pairs),
        _raters(metrics, bm25, {"f1": "f1"}, why_not=pairs),
        _raters(quality, tuned, quantities, why_not=classifier),
        rows(kappas, "mean_pairwise_kappa", kappas["pair"].map(groups), "kappa", why_not=raters),
    ]
    return beside(pd.concat(tables), "recentering")


def extraction(
    contrasts: pd.DataFrame,
    verifier: pd.DataFrame,
    taxonomy: pd.DataFrame | None,
    strategies: pd.DataFrame | None,
    *,
    simulated: bool,
) -> pd.DataFrame:
    """The extraction notebook's numbers beside those of arXiv 2606.06614, stage 1; see ``beside``.

    The arguments are the notebook's tables; ``taxonomy`` and ``strategies`` are None without a model.
    """
    names = {
        "trained verifier": "model=roberta-base trained",
        "model verifier": "model=Claude Sonnet 4.6;prompt=optimized",
    }
    tables = [
        rows(contrasts.head(1), "problematic_gap_real_minus_synthetic", "uncertain+rejected"),
        _raters(verifier, names, {"f1": "f1_problematic"}),
    ]
    if taxonomy is not None and strategies is not None:
        named = taxonomy[taxonomy["failure"] != "none named"]
        tables.append(rows(named, "failure_share", "type=" + named["failure"], scale=100))
        accepted = strategies[strategies["measure"] == "accepted"].set_index("strategy")
        for strategy, stage in {"as extracted": "stage=before", "refine flagged": "stage=after"}.items():
            tables.append(rows(accepted[accepted.index == strategy], "human_acceptance", stage, scale=100))
    return beside(pd.concat(tables).assign(why_not=_SIMULATED if simulated else _OTHERS), "recentering")


def response(
    summary: pd.DataFrame, correlations: pd.DataFrame, kappa: pd.DataFrame, mention: pd.DataFrame, *, simulated: bool
) -> pd.DataFrame:
    """The response notebook's numbers beside those of arXiv 2606.06614, stage 3; see ``beside``."""
    people = summary[summary["rater"] == "human"].set_index("measure")
    between = kappa[kappa["pair"] == "human–human"]
    learned = correlations[correlations["rater"] == "learned reward"]
    tables = [
        rows(people.loc[["mean rating"]], "mean_rating", "rater=human"),
        rows(people.loc[["no better"]], "share_judged_no_better", "human;rating<=3", scale=100),
        rows(between, "inter_annotator_weighted_kappa", "human-human", "kappa"),
        rows(mention.head(1), "delta_mean_rating_mention_minus_none", "rater=human"),
        rows(learned, "spearman", "ModernBERT / Qwen2.5-1.5B / Llama-3.2-1B", "spearman"),
    ]
    return beside(pd.concat(tables).assign(why_not=_SIMULATED if simulated else _OTHERS), "recentering")


def _raters(table: pd.DataFrame, conditions: dict[str, str], quantities: dict[str, str], **more) -> pd.DataFrame:
    """The quantities (column → published name) of the raters that have a published condition (rater → condition)."""
    return pd.concat(
        rows(table[table["rater"] == rater], quantity, condition, column, **more)
        for rater, condition in conditions.items()
        for column, quantity in quantities.items()
    )
