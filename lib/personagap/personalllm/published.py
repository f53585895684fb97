"""Measured beside published numbers of arXiv 2409.20296."""

import pandas as pd

from personagap.published import compare, load
from personagap.spelling import entries

#: Our names of what examples show, and of what is measured, → those of the published table.
_STRATEGIES = {"zero_shot": "zero_shot", "winning": "winning_only", "both": "winning_and_losing"}
_STRATEGIES |= {"losing": "losing_only", "mislabelled": "losing_only_mislabeled"}
_METRICS = {"persona_reward": "score", "win_rate_vs_reference": "win_rate_vs_gpt4o"}
_METRICS |= {"win_rate_vs_best": "win_rate_vs_best_of_8"}


def personalization(means: pd.DataFrame, why_not: str) -> pd.DataFrame:
    """Rewards and win rates of the user's own examples beside those of experiment 1; see
    ``published.compare``.

    ``means`` is ``adaptation.summarise``, of which the first template is compared.
    """
    found = means[means["strategy"].isin(_STRATEGIES) & means["control"].isin(["own", "none"])]
    found = found[found["template"] == found["template"].iloc[0]]
    shown = found["strategy"].map(_STRATEGIES)
    condition = "strategy=" + shown + ";k=" + found["shots"].astype(str)
    there = {"quantity": found["metric"].map(_METRICS), "condition": condition}
    return compare(found.assign(**there, experiment="icl", why_not=why_not), "personalllm")


def run_log(log: pd.DataFrame) -> pd.DataFrame:
    """Multi-shot, Self-ICL and meta-learning runs of ``adaptation.runlog.load`` beside published
    ones; see ``published.compare``.

    Intervals of win rates are binomial; those of scores are unknown, as the log holds means alone.
    """
    named = {"total_score": "score", "win_rate_against_gpt4o": "win_rate_vs_gpt4o"}
    log = log.rename(columns=named)
    there = {"none": "zero_shot", "losing_as_winning_only": "losing_only_mislabeled"}
    shown = log["responses_to_include"].replace(there)
    meta = "method=meta_learn;embedding=" + log["user_embedding_type"]
    meta += ";db_users=" + log["db_users"].astype(str)
    # The configurations of meta-learning that have a published number (P6).
    configuration = log[["user_embedding_computed_from_n_pr", "n_similar_users_to_retrieve"]]
    learned = (configuration == 5).all(axis=1) & (log["method"] == "MetaLearnKShotICL")
    size = log["db_users"].map({1000: "meta_learning_plotted", 10000: "meta_learning_10k"})
    experiments = {"ZeroShot": "icl", "KShotICL": "icl", "SelfKShotICL": "self_icl"}
    experiment = log["method"].map(experiments)
    log["experiment"] = experiment.mask(learned, size)
    condition = "strategy=" + shown + ";k=" + log["num_shots"].astype(str)
    log["condition"] = condition.mask(learned, meta + ";n_pr=5;n_similar=5;shots=3")
    key, quantities = ["experiment", "condition"], ["score", "win_rate_vs_gpt4o"]
    table = log.dropna(subset="experiment").melt(key, quantities, "quantity", "estimate")
    # Some runs were logged twice, with the same result.
    table = table.drop_duplicates()
    rate = (table["estimate"] / 100).where(table["quantity"] != "score")
    # Of 1,000 test users, one prompt each; in percent.
    half = 196 * (rate * (1 - rate) / 1000) ** 0.5
    limits = {"ci_low": table["estimate"] - half, "ci_high": table["estimate"] + half}
    return compare(table.assign(**limits, unit="").reset_index(drop=True), "personalllm")


def _bins() -> pd.DataFrame:
    """Measures and bins of ``users.heterogeneity``, and what the paper calls them."""
    # As texts: a bin is "4".
    return pd.DataFrame(entries("personalllm/bins")).drop(columns="in_paper")


def persona_prompting() -> pd.DataFrame:
    """Heterogeneity of 500 personas prompted into one reward model: ``measure bin estimate``,
    shares in [0, 1].

    Its prompt is not known, and it has half the voters and a tenth of the reward models of the
    users that it is compared with (P18).
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
    """The numbers of the notebook on simulated users beside those of §3; see ``published.compare``.

    Parameters
    ----------
    diversity : ``users.heterogeneity``; α other than the paper's 0.01, 0.05 and 0.1 are left out.
    regressions : ``users.regressions`` with a column ``features``; the accuracy against rank 4 is
        compared.
    entropy : ``users.entropy``; "overall" is compared.
    opinions : ``users.representativeness``, or None; as PersonalLLM computes it (P5).
    why_not : why the rows are not comparable ("" if they are).
    """
    near = diversity[diversity["alpha"].isin([0.01, 0.05, 0.1])]
    near = near.merge(_bins(), on=["measure", "bin"], how="left")
    alpha = near["alpha"].map("{:g}".format)
    there = "population=dirichlet;alpha=" + alpha + ";" + near["condition"]
    # The published accuracy is the code's, against rank 4 of 8 (P4), with other semantic features
    # than our word lists.
    fitted = regressions.query("metric == 'accuracy' and losing == 'code'")
    fitted = fitted[fitted["features"] != "word-list"]
    features = "features=" + fitted["features"] + ";stat=mean;alpha=0.05"
    overall = {"condition": "keyword=overall;source=notebook", "experiment": "keyword_entropy"}
    tables = [
        near.assign(condition=there),
        fitted.assign(quantity="heldout_accuracy", condition=features, experiment="regression"),
        entropy.head(1).assign(quantity="mean_vote_entropy", **overall),
    ]
    if opinions is not None:
        # Divided as they divide for themselves, not as for their baselines (P5).
        found = opinions.query(
            "model == 'simulated users' and attribute == 'Overall' and distance == 'options−1'"
        ).assign(quantity="representativeness", experiment="opinionqa")
        tables.append(found.assign(condition="category=overall;group=Overall;model=PersonalLLM"))
    return compare(pd.concat(tables, ignore_index=True).assign(why_not=why_not), "personalllm")
