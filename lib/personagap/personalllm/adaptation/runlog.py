"""The authors' log of their evaluation runs, and the effect of selecting the best of many runs."""

from pathlib import Path

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

from personagap._reading import check
from personagap.errors import UserError, explained
from personagap.paths import regular_file
from personagap.results import result

#: Columns that define a configuration of meta-learning.
CONFIGURATION = [
    "user_embedding_type", "user_embedding_computed_from_n_pr", "n_similar_users_to_retrieve",
    "db_users",
]  # fmt: skip
#: Further columns that a log must have.
REQUIRED = ["algorithm", "responses_to_include", "num_shots", "datetime", "meta_learning_dataset"]
RESULTS = ["total_score", "win_rate_against_gpt4o"]
#: Test users of every logged run, with one prompt each (arXiv 2409.20296).
TEST_USERS = 1000


def load(folder: str | Path, missing_ok: bool = True) -> pd.DataFrame | None:
    """Read the log ``personalllm_runs*.csv`` in ``folder``, one row per run in the columns of the
    authors; None if there is no such file and ``missing_ok``.

    Scores are in z units, win rates in percent. ``method`` is ``algorithm`` without its suffix;
    ``db_users`` is the size of ``meta_learning_dataset``, which only applies to meta-learning
    (P11). Until 20 August 2024 a bug of KShotICL presented losing responses as liked: those runs
    are "losing_as_winning_only" here (P25).
    """
    file = min(Path(folder).glob("personalllm_runs*.csv"), default=None)
    if file is None:
        if missing_ok:
            return None
        remedy = "give the folder that holds it, or none"
        raise UserError(f"no personalllm_runs*.csv in {folder}: {remedy}")
    with explained(f"{file}: not a log of runs", "give the authors' file as it was released"):
        log = pd.read_csv(regular_file(file)).rename_axis("row")
        # Errors name rows of the file, of which row 1 is the header.
        check(log.set_axis(log.index + 2), str(file), [*REQUIRED, *CONFIGURATION[:3], *RESULTS])
        log["method"] = log["algorithm"].str.removesuffix("Algorithm")
        size = log["meta_learning_dataset"].str.extract(r"(\d+)(k?)$")
        log["db_users"] = size[0].astype(int) * size[1].map({"k": 1000, "": 1})
        swapped = (log["method"] == "KShotICL") & (log["responses_to_include"] == "losing_only")
        # ISO dates can be compared as strings.
        swapped &= log["datetime"] < "2024-08-20"
        log.loc[swapped, "responses_to_include"] = "losing_as_winning_only"
        return log.astype(dict.fromkeys([*CONFIGURATION[1:3]], int) | dict.fromkeys(RESULTS, float))


def compare_rates(a: float, b: float) -> pd.DataFrame:
    """Test the difference of two logged win rates (percent) as if they were of different users, as
    the log holds no answers to pair.

    `results` have one row, in points, with ``value_a value_b`` and z as ``statistic``.

    Examples
    --------
    >>> compare_rates(21.9, 20.4)[["statistic", "p_value"]].round(2).values.tolist()
    [[0.82, 0.41]]
    """
    n, counts = TEST_USERS, np.array([a, b]) * TEST_USERS / 100
    z, p_value = proportions_ztest(counts, n)
    low, high = confint_proportions_2indep(counts[0], n, counts[1], n, method="newcomb")
    row = {"estimate": a - b, "ci_low": 100 * low, "ci_high": 100 * high, "n": n}
    row |= {"p_value": p_value, "p_adjusted": p_value, "family": "win rate (1 test)"}
    row |= {"value_a": a, "value_b": b, "statistic": z}
    method = "z test of two proportions, Newcombe interval"
    return result([row], [], metric="win rate", unit="points", method=method)


def _null_distribution(rates: pd.Series) -> tuple[float, np.ndarray]:
    """Return the standard error of a win rate, and simulated deviations of equally good runs from
    their mean in units of it: (20,000 simulations, runs), each row sorted.
    """
    # A fixed seed, so that a notebook's numbers do not change from run to run.
    draws = np.random.default_rng(0).standard_normal((20_000, len(rates)))
    draws = np.sort(draws - draws.mean(axis=1, keepdims=True), axis=1)
    return (rates.mean() * (100 - rates.mean()) / TEST_USERS) ** 0.5, draws


def rank_runs(log: pd.DataFrame) -> pd.DataFrame:
    """Return the meta-learning runs by win rate, with ``rank chance_low chance_high plotted``.

    If all runs were equally good and their errors independent, 95 % of the win rates of a rank
    would lie between ``chance_low`` and ``chance_high``; ``plotted`` marks the runs in the paper's
    figure (P6).
    """
    runs = log[log["method"] == "MetaLearnKShotICL"]
    runs = runs.sort_values("win_rate_against_gpt4o", ignore_index=True)
    rates, rank = runs["win_rate_against_gpt4o"], range(1, len(runs) + 1)
    error, draws = _null_distribution(rates)
    low, high = rates.mean() + error * np.quantile(draws, [0.025, 0.975], axis=0)
    plotted = (runs[CONFIGURATION[1:]] == [5, 5, 1000]).all(axis=1)
    return runs.assign(rank=rank, chance_low=low, chance_high=high, plotted=plotted)


def selection_effect(
    rates: pd.Series, correlations: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
) -> pd.DataFrame:
    """Estimate how good the best of many equally good runs looks on the test set that selected it.

    Win rates (percent) of equally good runs vary with variance p (1 − p) / n. Runs share their test
    users, so part of that error is common to all runs and does not affect which one is best. The
    log does not say how large that part is, so its share (``correlations``) is varied.

    `results` have one row per assumed ``correlation`` of errors, in points. The estimate is the
    selection effect of ``n`` runs: the expected maximum of equally good runs, ``best_by_chance``,
    less their ``mean``. ``p_value`` is the probability that the best of equally good runs is at
    least as good as the observed ``best``. Further columns are ``sd_observed sd_chance`` and
    ``shrunken_best``, the win rate expected of the best run on new users, by empirical Bayes with
    estimates by moments.
    """
    error, draws = _null_distribution(rates)
    table = pd.DataFrame(
        {"correlation": correlations, "n": len(rates), "mean": rates.mean(), "best": rates.max()}
    )
    # The shared part of the errors shifts all runs equally; only the rest can put one run ahead.
    noise, above = error * np.sqrt(1 - table["correlation"]), rates.max() - rates.mean()
    table["sd_observed"], table["sd_chance"] = rates.std(), noise
    table["estimate"] = noise * draws[:, -1].mean()
    table["best_by_chance"] = table["mean"] + table["estimate"]
    table["p_value"] = [(sd * draws[:, -1] >= above).mean() for sd in noise]
    table["p_adjusted"], table["family"] = table["p_value"], "the best (1 test)"
    # The moment estimate is negative if runs vary less than by chance; a variance is at least zero.
    between = (rates.var() - noise**2).clip(lower=0)
    table["shrunken_best"] = table["mean"] + between / (between + noise**2) * above
    same = {"metric": "selection effect", "unit": "points", "method": f"{len(draws):,} simulations"}
    return result(table, ["correlation"], **same)
