"""Heterogeneous raters and users: varying severity, rotating pools, few users of a source."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from personagap import gap
from personagap.gap.simulate import in_long_form
from personagap.validation.cases import Case, covers


def varying_severity(
    rng: np.random.Generator, sd: float, mention_sd: float = 0.0, n: int = 84
) -> pd.DataFrame:
    """Ratings of three people whose severity varies and a judge of mean severity; true mean 3.

    Severity has the standard deviation ``sd``, and its change by mention ``mention_sd``.
    """
    value, mention = 3 + 0.7 * rng.normal(size=n), rng.random(n) < 0.4
    unit = np.arange(n)
    columns = {"prompt": unit // 4, "user": rng.integers(40, size=n), "item": unit}
    labels = {}
    for name in ("judge", "human_0", "human_1", "human_2"):
        severity = sd * rng.normal() + mention_sd * rng.normal() * mention
        labels[name] = value + (name != "judge") * severity + 0.7 * rng.normal(size=n)
    return in_long_form(pd.DataFrame(columns | {"mention": mention}), **labels)


def _inflation_false_alarm(rng: np.random.Generator, sd: float) -> bool:
    return gap.judge_inflation(varying_severity(rng, sd), n_bootstrap=200)["p_value"][0] <= 0.05


def _mention_false_alarm(rng: np.random.Generator) -> bool:
    bias = gap.mention_bias(varying_severity(rng, 0.3, mention_sd=0.3), n_bootstrap=200)
    # The rows are the bias of the people, that of the judge, and the judge's excess.
    return bias["p_value"][2] <= 0.05


def _mean_rating_covers(rng: np.random.Generator) -> bool:
    table = gap.rating_summary(varying_severity(rng, 0.3), ["prompt", "user"], n_bootstrap=200)
    return covers(table.query("rater == 'human' and metric == 'mean rating'").iloc[0], 3.0)


def _disjoint_units_false_alarm(rng: np.random.Generator) -> bool:
    """Three raters of varying severity, each of whom rates different units."""
    ratings = varying_severity(rng, 0.5)
    rater_of_item = "human_" + (ratings["item"] * 7 % 3).astype(str)
    ratings = ratings[(ratings["rater"] == "judge") | (ratings["rater"] == rater_of_item)]
    return gap.judge_inflation(ratings, n_bootstrap=200)["p_value"][0] <= 0.05


def rotating(rng: np.random.Generator, n: int = 300) -> pd.DataFrame:
    """Six people, three per unit in rotation, and a judge rate true values (sd 0.7, noise 1).

    The noise ceiling is .771.
    """
    unit, value = np.arange(n), rng.normal(3, 0.7, n)
    labels_of = {f"human_{i}": np.full(n, np.nan) for i in range(6)} | {"judge": np.full(n, np.nan)}
    for i, labels in enumerate(labels_of.values()):
        judged = (i == 6) | ((i - unit) % 6 < 3)
        labels[judged] = value[judged] + rng.normal(size=judged.sum())
    design = pd.DataFrame({"prompt": unit // 4, "user": unit % 40, "item": unit})
    return in_long_form(design, **labels_of).dropna(subset="label")


def _ceiling_covers(rng: np.random.Generator) -> bool:
    table = gap.judge_correlation(rotating(rng), n_bootstrap=200)
    # Spearman's ρ of two people with normal ratings and Pearson's r = 0.7² / (0.7² + 1) = 0.49 /
    # 1.49; the ceiling is that of the mean of three people.
    rho = 6 / np.pi * np.arcsin(0.49 / 1.49 / 2)
    row = table[table["metric"] == "ceiling"].iloc[0]
    return covers(row, (3 * rho / (1 + 2 * rho)) ** 0.5)


def few_prompts(rng: np.random.Generator, prompts: int = 5, other: str = "judge") -> pd.DataFrame:
    """A person rates six responses to each of few prompts, another rater those to all 40; mean 3.

    The ratings of a rater of the same prompt are correlated.
    """
    prompt = np.repeat(np.arange(40), 6)
    labels = {
        name: 3 + 0.6 * rng.normal(size=40)[prompt] + rng.normal(size=240)
        for name in ("human_0", other)
    }
    labels["human_0"] = np.where(prompt < prompts, labels["human_0"], np.nan)
    design = pd.DataFrame({"prompt": prompt, "item": np.arange(240)})
    return in_long_form(design, **labels).dropna(subset="label")


def _few_prompts_false_alarm(rng: np.random.Generator) -> bool:
    table = gap.judge_inflation(few_prompts(rng), cluster="prompt", n_bootstrap=200)
    return table["p_value"][0] <= 0.05


def _few_prompts_agreement_covers(rng: np.random.Generator, of: Callable) -> bool:
    """Whether a coefficient of two people who answer independently covers 0."""
    ratings = few_prompts(rng, other="human_1")
    ratings["label"] = (ratings["label"] > 3).astype(int)
    return covers(of(ratings, cluster="prompt", n_bootstrap=200).iloc[-1], 0.0)


def _few_prompts_metric_covers(rng: np.random.Generator, metric: str, truth: float) -> bool:
    """A judge answers for 5 of 40 prompts, independently of a majority that says yes as often."""
    prompt = np.repeat(np.arange(40), 6)
    yes = (0.8 * rng.normal(size=(2, 40))[:, prompt] + rng.normal(size=(2, 240)) > 0) * 1.0
    labels = {"human_majority": yes[0], "judge": np.where(prompt < 5, yes[1], np.nan)}
    design = pd.DataFrame({"prompt": prompt, "item": np.arange(240)})
    judgments = in_long_form(design, **labels).dropna(subset="label")
    table = gap.relevance_metrics(judgments, cluster="prompt", n_bootstrap=200)
    return covers(table.query("rater == 'judge' and metric == @metric").iloc[0], truth)


def _precision_covers(rng: np.random.Generator) -> bool:
    """A judge says yes to four of 40 prompts, whose rates of a true yes vary about 0.3."""
    prompt, rate = np.repeat(np.arange(40), 6), rng.beta(1.5, 3.5, 40)
    truth = (rng.random(240) < rate[prompt]).astype(float)
    design = pd.DataFrame({"prompt": prompt, "item": np.arange(240)})
    labels = {"human_majority": truth, "judge": (prompt < 4).astype(float)}
    judgments = in_long_form(design, **labels)
    table = gap.relevance_metrics(judgments, cluster="prompt", n_bootstrap=200)
    return covers(table.query("rater == 'judge' and metric == 'precision'").iloc[0], 0.3)


def _labelled_prompts_cover(rng: np.random.Generator, row: int) -> bool:
    """People rate ten of 40 prompts, of 40 responses or four each; prompts vary."""
    prompt = np.repeat(np.arange(40), np.resize([40, *[4] * 4], 40))
    value = 0.7 * rng.normal(size=40)[prompt] + rng.normal(size=len(prompt))
    labels = {"judge": 0.8 * value + 0.6 * rng.normal(size=len(prompt))}
    labels["human_0"] = np.where(prompt < 10, value, np.nan)
    design = pd.DataFrame({"prompt": prompt, "item": np.arange(len(prompt))})
    ratings = in_long_form(design, **labels).dropna(subset="label")
    table = gap.prediction_powered_mean(ratings, "judge", cluster="prompt", n_bootstrap=200)
    return covers(table.iloc[row], 0.0)


def _inflation_case(sd: float, event: str, before: float) -> Case:
    data, trial = f"3 raters, severity sd {sd}", partial(_inflation_false_alarm, sd=sd)
    return Case("judge_inflation", data, event, trial, before)


RATERS = [
    Case("judge_correlation", "six raters, three to a unit: ceiling", "covered", _ceiling_covers),
    # Before, raters were a fixed factor, so the severity of these three passed for inflation.
    _inflation_case(0.15, "false alarm", 0.35),
    _inflation_case(0.3, "false alarm, stated limit", 0.65),
    _inflation_case(0.5, "false alarm, stated limit", 0.79),
    # Before, a statistic of few clusters had the degrees of freedom of all.
    Case("judge_inflation", "a person on 5 of 40 prompts", "false alarm",
         _few_prompts_false_alarm, 0.14),
    *(Case(name, "a person on 5 of 40 prompts", "covered",
           partial(_few_prompts_agreement_covers, of=of), before)
      for name, of, before in (
          ("agreement", gap.agreement, 0.89),
          ("mean_agreement", gap.mean_agreement, 0.85),
          ("reliability", gap.reliability, 0.86))),
    *(Case(f"relevance_metrics: {metric}", "a judge on 5 of 40 prompts", "covered",
           partial(_few_prompts_metric_covers, metric=metric, truth=truth), before)
      for metric, truth, before in (("kappa", 0.0, 0.88), ("auprc", 0.5, 0.85))),
    Case("relevance_metrics: precision", "yes to 4 of 40 prompts", "covered",
         _precision_covers, 0.88),
    Case("prediction_powered_mean", "10 of 40 prompts rated, two hold most responses", "covered",
         partial(_labelled_prompts_cover, row=0), 0.89),
    # Before, residuals of the largest clusters were corrected as if all were equally large.
    Case("prediction_powered_mean, judge alone", "eight of 40 prompts hold most responses",
         "covered", partial(_labelled_prompts_cover, row=1), 0.92),
    # Before, severity was estimated from units with several ratings, of which there are none here.
    Case(
        "judge_inflation",
        "3 raters, severity sd 0.5, one to a unit",
        "false alarm",
        _disjoint_units_false_alarm,
        0.49,
    ),
    Case("mention_bias", "3 raters, slopes of sd 0.3", "false alarm", _mention_false_alarm),
    Case("rating_summary", "3 raters, severity sd 0.3", "covered", _mean_rating_covers),
]  # fmt: skip


def _unequal_users_covers(rng: np.random.Generator) -> bool:
    """Thirty users with four ratings each and one with a hundred; the means of users vary."""
    user = np.repeat(np.arange(31), [100] + [4] * 30)
    rating = 0.5 * rng.normal(size=31)[user] + rng.normal(size=len(user))
    table = pd.DataFrame({"step": "x", "user": user, "rating": rating})
    table = gap.means(table, "rating", ["step"], cluster="user", n_bootstrap=200)
    return covers(table.iloc[0], 0.0)


def few_users(rng: np.random.Generator, share: float) -> pd.DataFrame:
    """Judgments of 47 real and 10 synthetic users with the same mean share; users' shares vary."""
    # The released data have these numbers of users (R13).
    source = np.repeat(["real", "synthetic"], [47, 10])
    users = pd.DataFrame({"source": source, "user": np.arange(57)})
    shares, n_judgments = rng.beta(4 * share, 4 * (1 - share), 57), rng.integers(10, 60, 57)
    table = users.loc[np.repeat(np.arange(57), n_judgments)].reset_index(drop=True)
    return table.assign(label=rng.random(len(table)) < np.repeat(shares, n_judgments))


def _uneven_sources_false_alarm(
    rng: np.random.Generator,
    users: tuple[int, int],
    judgments: tuple[int, int],
    precision: tuple[float, float],
) -> bool:
    """Real and synthetic users of the same mean share, 0.3, who judge or vary differently.

    Users' shares are Beta with the ``precision`` α + β of their source.
    """
    rows = []
    for source, n, m, total in zip(("real", "synthetic"), users, judgments, precision, strict=True):
        share = rng.beta(0.3 * total, 0.7 * total, n)
        user = np.repeat(np.arange(n), m)
        label = rng.random(n * m) < share[user]
        rows.append(pd.DataFrame({"source": source, "user": user, "label": label}))
    return gap.proportion_difference(pd.concat(rows), [True])["p_value"][0] <= 0.05


def _few_users_covers(rng: np.random.Generator, share: float) -> bool:
    return covers(gap.proportion_difference(few_users(rng, share), [True]).iloc[0], 0.0)


def _few_users_false_alarm(rng: np.random.Generator) -> bool:
    return gap.proportion_difference(few_users(rng, 0.1), [True])["p_value"][0] <= 0.05


def _adjusted_false_alarm(rng: np.random.Generator) -> bool:
    """Real users have longer histories; labels depend neither on the length nor on the source."""
    table = few_users(rng, 0.1)
    length = rng.normal(size=57)[table["user"]] + (table["source"] == "real")
    result = gap.adjusted_difference(table.assign(length=length), [True], ["length"])
    return result["p_value"][0] <= 0.05


_COMMON, _RARE = (f"47 against 10 users, share {share}" for share in (0.3, 0.1))
# Before, the interval used a common cluster-robust variance and Student's t.
FEW = [
    Case("means", "one user of 31 gave half of the ratings", "covered", _unequal_users_covers,
         0.84),
    Case("proportion_difference", _COMMON, "covered", partial(_few_users_covers, share=0.3), 0.83),
    Case("proportion_difference", _RARE, "covered, stated limit",
         partial(_few_users_covers, share=0.1), 0.83),
    Case("proportion_difference", _RARE, "false alarm", _few_users_false_alarm, 0.175),
    # Before, permutations compared differences that were not studentized.
    Case("proportion_difference", "10 users of 4 judgments against 47 of 40", "false alarm",
         partial(_uneven_sources_false_alarm, users=(10, 47), judgments=(4, 40),
                 precision=(5, 5)), 0.113),
    Case("proportion_difference", "47 users alike against 10 who differ",
         "false alarm, stated limit",
         partial(_uneven_sources_false_alarm, users=(47, 10), judgments=(10, 10),
                 precision=(100, 1)), 0.195),
    Case("adjusted_difference", _RARE, "false alarm", _adjusted_false_alarm, 0.175),
]  # fmt: skip
