"""Measured beside published numbers of arXiv 2606.06614."""

import pandas as pd

from personagap.published.numbers import beside, measured


def relevance(metrics: pd.DataFrame, means: pd.DataFrame, quality: pd.DataFrame, *, simulated: bool) -> pd.DataFrame:
    """The relevance notebook's numbers beside those of arXiv 2606.06614, stage 2; see ``beside``.

    Parameters
    ----------
    metrics : ``gap.relevance_metrics``, with retrieval baselines like "bm25_top5".
    means : ``gap.mean_agreement``.
    quality : ``tuning.classifiers.quality``; its fine-tuned classifier, or the linear one, stands beside RoBERTa.
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
    method = "encoder" if "encoder (new prompts)" in set(quality["rater"]) else "linear"
    tuned = {f"{method} (new prompts)": "method=RoBERTa trained", "grpo (new prompts)": "method=Qwen3-4B + GRPO"}
    trained = measured(quality, tuned, {name: name for name in ("precision", "recall", "f1")})
    trained["why_not"] = "simulated data" if simulated else "another classifier; how theirs was split is unknown (T19)"
    table = pd.concat([rows.assign(why_not=reason), trained, kappas.rename(columns={"kappa": "measured"})])
    return beside(table, "recentering")


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
    names = {"trained verifier": "roberta-base trained", "model verifier": "Claude Sonnet 4.6;prompt=optimized"}
    names = {name: f"model={model}" for name, model in names.items()}
    tables = [
        _rows(contrasts.head(1), "problematic_gap_real_minus_synthetic", "uncertain+rejected"),
        measured(verifier, names, {"f1": "f1_problematic"}),
    ]
    if taxonomy is not None:
        named = taxonomy[taxonomy["failure"] != "none named"]
        tables.append(_rows(named, "failure_share", "type=" + named["failure"], 100))
        accepted = strategies[strategies["measure"] == "accepted"].set_index("strategy", drop=False)
        stages = accepted.loc[accepted.index.intersection(["as extracted", "refine flagged"])]
        when = stages["strategy"].map({"as extracted": "stage=before", "refine flagged": "stage=after"})
        tables.append(_rows(stages, "human_acceptance", when, 100))
    return beside(_why_not(tables, simulated), "recentering")


def response(
    summary: pd.DataFrame, correlations: pd.DataFrame, kappa: pd.DataFrame, mention: pd.DataFrame, *, simulated: bool
) -> pd.DataFrame:
    """The response notebook's numbers beside those of arXiv 2606.06614, stage 3; see ``beside``."""
    people = summary[summary["rater"] == "human"].set_index("measure")
    learned = correlations[correlations["rater"] == "learned reward"].rename(columns={"spearman": "estimate"})
    between = kappa[kappa["pair"] == "human–human"].rename(columns={"kappa": "estimate"})
    tables = [
        _rows(people.loc[["mean rating"]], "mean_rating", "rater=human"),
        _rows(people.loc[["no better"]], "share_judged_no_better", "human;rating<=3", 100),
        _rows(between, "inter_annotator_weighted_kappa", "human-human"),
        _rows(mention.head(1), "delta_mean_rating_mention_minus_none", "rater=human"),
        _rows(learned, "spearman", "ModernBERT / Qwen2.5-1.5B / Llama-3.2-1B"),
    ]
    return beside(_why_not(tables, simulated), "recentering")


def _rows(table: pd.DataFrame, quantity: str, condition: str | pd.Series, scale: float = 1) -> pd.DataFrame:
    values = scale * table[["estimate", "ci_low", "ci_high"]].rename(columns={"estimate": "measured"})
    return values.assign(quantity=quantity, condition=condition)


def _why_not(tables: list[pd.DataFrame], simulated: bool) -> pd.DataFrame:
    return pd.concat(tables).assign(why_not="simulated data" if simulated else "other items and people than there")
