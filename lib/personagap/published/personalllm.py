"""Measured beside published numbers of arXiv 2409.20296."""

import pandas as pd

from personagap.published.numbers import beside, load

#: Our names of what examples show → those of the published table.
_STRATEGIES = {"zero_shot": "zero_shot", "winning": "winning_only", "both": "winning_and_losing"}
_STRATEGIES |= {"losing": "losing_only", "mislabelled": "losing_only_mislabeled"}


def personalization(means: pd.DataFrame, why_not: str) -> pd.DataFrame:
    """Rewards and win rates of the user's own examples beside those of experiment 1; see ``beside``.

    Parameters
    ----------
    means : ``adaptation.summarise``; the first template is compared.
    why_not : why they are not comparable.
    """
    names = ["score", "win_rate_vs_gpt4o", "win_rate_vs_best_of_8"]
    rows = means[means["strategy"].isin(_STRATEGIES) & means["control"].isin(["own", "none"])]
    rows = rows[rows["template"] == rows["template"].iloc[0]]
    percent = rows["metric"].ne("persona_reward") * 99 + 1
    table = rows[["value", "ci_low", "ci_high"]].mul(percent, axis=0).rename(columns={"value": "measured"})
    table["condition"] = "strategy=" + rows["strategy"].map(_STRATEGIES) + ";k=" + rows["shots"].astype(str)
    table["quantity"] = rows["metric"].map(dict(zip(means["metric"].unique(), names, strict=True)))
    return beside(table.assign(experiment="icl", why_not=why_not), "personalllm")


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


#: Measure and bin of ``users.heterogeneity`` → experiment, quantity, condition and unit (share → value) there.
_BINS = {
    ("top_share", f"≤{q}%"): ("heterogeneity_top_vote_share", "pct_prompts_max_vote_share_le_q", f"q={q}", 100)
    for q in (50, 75, 95)
} | {
    ("distinct_winners", bin): (
        "heterogeneity_distinct_winners",
        "frac_prompts_by_n_distinct_winners",
        f"true_bin={bin.replace('–', '-')};author_label={label}",
        1,
    )
    for bin, label in {"1": "(dropped)", "2–3": "<=2", "4": "3", "5": "4", "6": "5", "7–8": ">=6"}.items()
}


def persona_prompting() -> pd.DataFrame:
    """Heterogeneity of 500 personas prompted into one reward model: ``measure bin share``, shares in [0, 1].

    Its prompt is not known, and it has half the voters and a tenth of the reward models of the users that it is
    compared with (T18).
    """
    numbers = load("personalllm").set_index(["experiment", "condition"])["value"]
    shares = [
        (*key, numbers[experiment, f"population=persona_prompting;{condition}"] / unit)
        for key, (experiment, _, condition, unit) in _BINS.items()
    ]
    return pd.DataFrame(shares, columns=["measure", "bin", "share"])


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
    opinions : ``users.representativeness``, or None; as PersonalLLM computes it (T5).
    why_not : why the rows are not comparable ("" if they are).
    """
    rows = []
    for row in diversity[diversity["alpha"].isin([0.01, 0.05, 0.1])].itertuples():
        experiment, quantity, condition, unit = _BINS[row.measure, row.bin]
        values = unit * pd.Series([row.share, row.ci_low, row.ci_high])
        rows.append((experiment, quantity, f"population=dirichlet;alpha={row.alpha:g};{condition}", *values))
    for kind, part in regressions.query("losing == 'code' and features != 'word-list'").groupby("features", sort=False):
        values = part.iloc[0][["accuracy", "accuracy_low", "accuracy_high"]]
        rows.append(("regression", "heldout_accuracy", f"features={kind};stat=mean;alpha=0.05", *values))
    overall = entropy.iloc[0][["entropy", "ci_low", "ci_high"]]
    rows.append(("keyword_entropy", "mean_vote_entropy", "keyword=overall;source=notebook", *overall))
    if opinions is not None:
        near = opinions.query("model == 'simulated users' and attribute == 'Overall' and distance == 'options−1'")
        for row in near[["representativeness", "ci_low", "ci_high"]].itertuples(index=False):
            rows.append(("opinionqa", "representativeness", "category=overall;group=Overall;model=PersonalLLM", *row))
    columns = ["experiment", "quantity", "condition", "measured", "ci_low", "ci_high"]
    return beside(pd.DataFrame(rows, columns=columns).assign(why_not=why_not), "personalllm")
