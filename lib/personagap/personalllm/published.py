"""Comparison of measured with published numbers of arXiv 2409.20296."""

import pandas as pd

from personagap.formatting import word_table
from personagap.published import compare, load

#: Our names of strategies and of metrics → those in the table of published numbers.
_STRATEGIES = {"zero_shot": "zero_shot", "winning": "winning_only", "both": "winning_and_losing"}
_STRATEGIES |= {"losing": "losing_only", "mislabelled": "losing_only_mislabeled"}
_METRICS = {"persona_reward": "score", "win_rate_vs_reference": "win_rate_vs_gpt4o"}
_METRICS |= {"win_rate_vs_best": "win_rate_vs_best_of_8"}


def personalization(means: pd.DataFrame, why_not: str) -> pd.DataFrame:
    """Compare rewards and win rates of the user's own examples with those of experiment 1; see
    ``published.compare``.

    ``means`` is ``adaptation.summarise``; only its first template is compared.
    """
    rows = means[means["strategy"].isin(_STRATEGIES) & means["control"].isin(["own", "none"])]
    rows = rows[rows["template"] == rows["template"].iloc[0]]
    strategy = rows["strategy"].map(_STRATEGIES)
    condition = "strategy=" + strategy + ";k=" + rows["shots"].astype(str)
    key = {"quantity": rows["metric"].map(_METRICS), "condition": condition}
    return compare(rows.assign(**key, experiment="icl", why_not=why_not), "personalllm")


def run_log(log: pd.DataFrame) -> pd.DataFrame:
    """Compare the multi-shot, Self-ICL and meta-learning runs of ``adaptation.runlog.load`` with
    the published ones; see ``published.compare``.

    Intervals of win rates are binomial; those of scores are unknown, as the log holds only means.
    """
    columns = {"total_score": "score", "win_rate_against_gpt4o": "win_rate_vs_gpt4o"}
    log = log.rename(columns=columns)
    strategies = {"none": "zero_shot", "losing_as_winning_only": "losing_only_mislabeled"}
    strategy = log["responses_to_include"].replace(strategies)
    meta = "method=meta_learn;embedding=" + log["user_embedding_type"]
    meta += ";db_users=" + log["db_users"].astype(str)
    # Of the configurations of meta-learning, only those with 5 and 5 have published numbers (P6).
    configuration = log[["user_embedding_computed_from_n_pr", "n_similar_users_to_retrieve"]]
    meta_learned = (configuration == 5).all(axis=1) & (log["method"] == "MetaLearnKShotICL")
    size = log["db_users"].map({1000: "meta_learning_plotted", 10000: "meta_learning_10k"})
    experiments = {"ZeroShot": "icl", "KShotICL": "icl", "SelfKShotICL": "self_icl"}
    experiment = log["method"].map(experiments)
    log["experiment"] = experiment.mask(meta_learned, size)
    condition = "strategy=" + strategy + ";k=" + log["num_shots"].astype(str)
    log["condition"] = condition.mask(meta_learned, meta + ";n_pr=5;n_similar=5;shots=3")
    key, quantities = ["experiment", "condition"], ["score", "win_rate_vs_gpt4o"]
    table = log.dropna(subset="experiment").melt(key, quantities, "quantity", "estimate")
    # Some runs were logged twice with the same result.
    table = table.drop_duplicates()
    rate = (table["estimate"] / 100).where(table["quantity"] != "score")
    # Half the width of a 95 % interval in percent, for 1,000 test users with one prompt each.
    half = 196 * (rate * (1 - rate) / 1000) ** 0.5
    limits = {"ci_low": table["estimate"] - half, "ci_high": table["estimate"] + half}
    return compare(table.assign(**limits, unit="").reset_index(drop=True), "personalllm")


def _bins() -> pd.DataFrame:
    """Return the measures and bins of ``users.heterogeneity`` with their published conditions."""
    # All columns are text, as a bin can be "4".
    return pd.DataFrame(word_table("personalllm/bins")).drop(columns="in_paper")


def persona_prompting() -> pd.DataFrame:
    """Return the published heterogeneity of 500 personas prompted into one reward model:
    ``measure bin estimate``, shares in [0, 1].

    The prompt is not known. Compared with the simulated users there are half as many voters and a
    tenth as many reward models (P18).
    """
    bins = _bins()
    bins["condition"] = "population=persona_prompting;" + bins["condition"]
    numbers = load("personalllm")[["experiment", "condition", "value", "unit"]]
    table = bins.merge(numbers, on=["experiment", "condition"])
    share = table["value"] / table["unit"].str.startswith("percent").map({True: 100, False: 1})
    return table.assign(estimate=share)[["measure", "bin", "estimate"]]


def simulated_users(
    diversity: pd.DataFrame,
    regressions: pd.DataFrame,
    entropy: pd.DataFrame,
    opinions: pd.DataFrame | None,
    why_not: str,
) -> pd.DataFrame:
    """Compare the numbers of the notebook on simulated users with those of §3; see
    ``published.compare``.

    Parameters
    ----------
    diversity : ``users.heterogeneity``; α other than the paper's 0.01, 0.05 and 0.1 are left out.
    regressions : ``users.compare_regressions``; the accuracy against rank 4 is compared.
    entropy : ``users.entropy``; only "overall" is compared.
    opinions : ``users.representativeness``, or None; the distance that PersonalLLM uses is compared
        (P5).
    why_not : why the rows are not comparable ("" if they are).
    """
    votes = diversity[diversity["alpha"].isin([0.01, 0.05, 0.1])]
    votes = votes.merge(_bins(), on=["measure", "bin"], how="left")
    alpha = votes["alpha"].map("{:g}".format)
    condition = "population=dirichlet;alpha=" + alpha + ";" + votes["condition"]
    # The published accuracy is that of the authors' code, against rank 4 of 8 (P4); its semantic
    # features come from classifiers, so word lists are left out.
    fitted = regressions.query("metric == 'accuracy' and losing == 'code'")
    fitted = fitted[fitted["features"] != "word-list"]
    features = "features=" + fitted["features"] + ";stat=mean;alpha=0.05"
    overall = {"condition": "keyword=overall;source=notebook", "experiment": "keyword_entropy"}
    tables = [
        votes.assign(condition=condition),
        fitted.assign(quantity="heldout_accuracy", condition=features, experiment="regression"),
        entropy.head(1).assign(quantity="mean_vote_entropy", **overall),
    ]
    if opinions is not None:
        # The authors divide distances by options − 1 for their own users, but not for their
        # baselines (P5).
        rows = opinions.query(
            "model == 'simulated users' and attribute == 'Overall' and distance == 'options−1'"
        ).assign(quantity="representativeness", experiment="opinionqa")
        tables.append(rows.assign(condition="category=overall;group=Overall;model=PersonalLLM"))
    return compare(pd.concat(tables, ignore_index=True).assign(why_not=why_not), "personalllm")
