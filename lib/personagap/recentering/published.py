"""Measured beside published numbers of arXiv 2606.06614."""

import pandas as pd

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
    raters = pairs or "other raters than the three people and five models there"
    classifier = "another classifier; how theirs was split is unknown (R19)"
    released = {
        "gpt_5_4": "method=GPT-5.4 (released outputs)",
        "gemma_4_31b": "method=Gemma-4-31B-it (released outputs)",
        "select_all": "method=select all",
    }
    bm25 = {f"bm25_top{k}": f"method=BM25;cut=top-{k}" for k in (5, 8, 10)}
    # Of the classifiers the one most like theirs.
    method = "encoder" if "encoder (new prompts)" in set(quality["rater"]) else "linear"
    tuned = {f"{method} (new prompts)": "method=RoBERTa trained"}
    tuned |= {"grpo (new prompts)": "method=Qwen3-4B + GRPO"}
    quantities = {name: name for name in ("precision", "recall", "f1")}
    groups = {"human–human": "human-human", "human–model": "LLM-human", "model–model": "LLM-LLM"}
    kappas = means[means["pair"].isin(groups) & means["estimate"].notna()]
    kappas = kappas.assign(quantity="mean_pairwise_kappa", condition=kappas["pair"].map(groups))
    kappa = {"kappa": "kappa_vs_majority"}
    tables = [
        _raters(metrics, released, quantities | kappa).assign(why_not=pairs),
        _raters(metrics, bm25, {"f1": "f1"}).assign(why_not=pairs),
        _raters(quality, tuned, quantities).assign(why_not=classifier),
        kappas.assign(why_not=raters),
    ]
    measured = pd.concat(tables, ignore_index=True)
    return compare(measured.assign(why_not=_SIMULATED) if simulated else measured, "recentering")


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
    model.
    """
    names = {
        "trained verifier": "model=roberta-base trained",
        "model verifier": "model=Claude Sonnet 4.6;prompt=optimized",
    }
    gap = contrasts.head(1)
    tables = [
        gap.assign(quantity="problematic_gap_real_minus_synthetic", condition="uncertain+rejected"),
        _raters(verifier, names, {"f1": "f1_problematic"}),
    ]
    if taxonomy is not None and strategies is not None:
        # Theirs are shares of the named kinds, which a model labelled too (R12).
        named = taxonomy[taxonomy["failure"] != "none named"]
        tables.append(named.assign(quantity="failure_share", condition="type=" + named["failure"]))
        stages = {"as extracted": "stage=before", "refine flagged": "stage=after"}
        accepted = strategies[strategies["metric"] == "accepted"]
        accepted = accepted[accepted["strategy"].isin(stages)]
        stage = accepted["strategy"].map(stages)
        tables.append(accepted.assign(quantity="human_acceptance", condition=stage))
    why_not = _SIMULATED if simulated else _OTHERS
    return compare(pd.concat(tables, ignore_index=True).assign(why_not=why_not), "recentering")


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
    """
    people = summary[summary["rater"] == "human"].set_index("metric")
    ranked = correlations[correlations["metric"] == "spearman"]
    # Our learned reward is a ridge on features, theirs are tuned models: the same question.
    learned = ranked[ranked["rater"] == "learned reward"]
    tables = {
        ("mean_rating", "rater=human"): people.loc[["mean rating"]],
        ("share_judged_no_better", "human;rating<=3"): people.loc[["no better"]],
        ("inter_annotator_weighted_kappa", "human-human"): kappa[kappa["pair"] == "human–human"],
        ("delta_mean_rating_mention_minus_none", "rater=human"): mention.head(1),
        ("spearman", "ModernBERT / Qwen2.5-1.5B / Llama-3.2-1B"): learned,
    }
    rows = [table.assign(quantity=name, condition=which) for (name, which), table in tables.items()]
    why_not = _SIMULATED if simulated else _OTHERS
    return compare(pd.concat(rows, ignore_index=True).assign(why_not=why_not), "recentering")


def _raters(
    table: pd.DataFrame, conditions: dict[str, str], quantities: dict[str, str]
) -> pd.DataFrame:
    """The rows of raters with a published condition, and of metrics with a published name."""
    found = table[table["rater"].isin(conditions) & table["metric"].isin(quantities)]
    condition, quantity = found["rater"].map(conditions), found["metric"].map(quantities)
    return found.assign(condition=condition, quantity=quantity)
