"""Measured beside published numbers of arXiv 2409.20296."""

import numpy as np
import pandas as pd

from personagap.published import beside, load, rows

#: Our names of what examples show, and of what is measured, → those of the published table.
_STRATEGIES = {"zero_shot": "zero_shot", "winning": "winning_only", "both": "winning_and_losing"}
_STRATEGIES |= {"losing": "losing_only", "mislabelled": "losing_only_mislabeled"}
_METRICS = {"persona_reward": "score", "win_rate_vs_reference": "win_rate_vs_gpt4o"}
_METRICS |= {"win_rate_vs_best": "win_rate_vs_best_of_8"}


def personalization(means: pd.DataFrame, why_not: str) -> pd.DataFrame:
    """Rewards and win rates of the user's own examples beside those of experiment 1; see ``beside``.

    Parameters
    ----------
    means : ``adaptation.summarise``; the first template is compared.
    why_not : why they are not comparable.
    """
    found = means[means["strategy"].isin(_STRATEGIES) & means["control"].isin(["own", "none"])]
    found = found[found["template"] == found["template"].iloc[0]]
    condition = "strategy=" + found["strategy"].map(_STRATEGIES) + ";k=" + found["shots"].astype(str)
    percent = np.where(found["metric"] == "persona_reward", 1, 100)
    more = {"experiment": "icl", "why_not": why_not}
    return beside(rows(found, found["metric"].map(_METRICS), condition, "value", percent, **more), "personalllm")


def run_log(log: pd.DataFrame) -> pd.DataFrame:
    """Multi-shot, Self-ICL and meta-learning runs of ``adaptation.runlog.load`` beside published ones; see ``beside``.

    Intervals of win rates are binomial; those of scores are unknown, as the log holds means alone.
    """
    log = log.rename(columns={"total_score": "score", "win_rate_against_gpt4o": "win_rate_vs_gpt4o"})
    shown = log["responses_to_include"].replace(
        {"none": "zero_shot", "losing_as_winning_only": "losing_only_mislabeled"}
    )
    meta = "method=meta_learn;embedding=" + log["user_embedding_type"] + ";db_users=" + log["db_users"].astype(str)
    fives = (log[["user_embedding_computed_from_n_pr", "n_similar_users_to_retrieve"]] == 5).all(axis=1)
    learned = fives & (log["method"] == "MetaLearnKShotICL")
    size = log["db_users"].map({1000: "meta_learning_plotted", 10000: "meta_learning_10k"})
    experiment = log["method"].map({"ZeroShot": "icl", "KShotICL": "icl", "SelfKShotICL": "self_icl"})
    log["experiment"] = experiment.mask(learned, size)
    condition = "strategy=" + shown + ";k=" + log["num_shots"].astype(str)
    log["condition"] = condition.mask(learned, meta + ";n_pr=5;n_similar=5;shots=3")
    key, quantities = ["experiment", "condition"], ["score", "win_rate_vs_gpt4o"]
    table = log.dropna(subset="experiment").melt(key, quantities, "quantity", "measured").drop_duplicates()
    rate = (table["measured"] / 100).where(table["quantity"] != "score")
    half = 196 * (rate * (1 - rate) / 1000) ** 0.5
    return beside(table.assign(ci_low=table["measured"] - half, ci_high=table["measured"] + half), "personalllm")


def _bins() -> pd.DataFrame:
    """Measures and bins of ``users.heterogeneity`` as the paper has them; ``unit`` is a share of 1 there."""
    top = [("top_share", f"≤{q}%", f"q={q}", 100) for q in (50, 75, 95)]
    labels = {"1": "(dropped)", "2–3": "<=2", "4": "3", "5": "4", "6": "5", "7–8": ">=6"}
    distinct = [
        ("distinct_winners", bin, f"true_bin={bin.replace('–', '-')};author_label={label}", 1)
        for bin, label in labels.items()
    ]
    names = {"top_share": ("heterogeneity_top_vote_share", "pct_prompts_max_vote_share_le_q")}
    names |= {"distinct_winners": ("heterogeneity_distinct_winners", "frac_prompts_by_n_distinct_winners")}
    columns = ["measure", "bin", "condition", "unit", "experiment", "quantity"]
    return pd.DataFrame([(*row, *names[row[0]]) for row in top + distinct], columns=columns)


def persona_prompting() -> pd.DataFrame:
    """Heterogeneity of 500 personas prompted into one reward model: ``measure bin share``, shares in [0, 1].

    Its prompt is not known, and it has half the voters and a tenth of the reward models of the users that it is
    compared with (P18).
    """
    bins = _bins().assign(condition=lambda table: "population=persona_prompting;" + table["condition"])
    table = bins.merge(load("personalllm")[["experiment", "condition", "value"]], on=["experiment", "condition"])
    return table.assign(share=table["value"] / table["unit"])[["measure", "bin", "share"]]


def simulated_users(
    diversity: pd.DataFrame,
    regressions: pd.DataFrame,
    entropy: pd.DataFrame,
    opinions: pd.DataFrame | None,
    why_not: str,
) -> pd.DataFrame:
    """The numbers of the notebook on simulated users beside those of §3; see ``beside``.

    Parameters
    ----------
    diversity : ``users.heterogeneity``; α other than the paper's 0.01, 0.05 and 0.1 are left out.
    regressions : ``users.regressions`` with a column ``features``; the accuracy against rank 4 is compared.
    entropy : ``users.entropy``; "overall" is compared.
    opinions : ``users.representativeness``, or None; as PersonalLLM computes it (P5).
    why_not : why the rows are not comparable ("" if they are).
    """
    near = diversity[diversity["alpha"].isin([0.01, 0.05, 0.1])].merge(_bins(), on=["measure", "bin"], how="left")
    there = "population=dirichlet;alpha=" + near["alpha"].map("{:g}".format) + ";" + near["condition"]
    fitted = regressions.query("losing == 'code' and features != 'word-list'").drop_duplicates("features")
    features = "features=" + fitted["features"] + ";stat=mean;alpha=0.05"
    overall = "keyword=overall;source=notebook"
    tables = [
        rows(near, near["quantity"], there, "share", near["unit"], experiment=near["experiment"]),
        rows(fitted, "heldout_accuracy", features, "accuracy", experiment="regression"),
        rows(entropy.head(1), "mean_vote_entropy", overall, "entropy", experiment="keyword_entropy"),
    ]
    if opinions is not None:
        found = opinions.query("model == 'simulated users' and attribute == 'Overall' and distance == 'options−1'")
        model = "category=overall;group=Overall;model=PersonalLLM"
        tables.append(rows(found, "representativeness", model, "representativeness", experiment="opinionqa"))
    return beside(pd.concat(tables).assign(why_not=why_not), "personalllm")
