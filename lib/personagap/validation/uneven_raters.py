"""Raters and users that are not alike: uneven severity, rotating pools, few users of a source."""

from functools import partial

import numpy as np
import pandas as pd

from personagap import gap
from personagap.gap.simulate import in_long_form
from personagap.validation.cases import Case, covers


def severe(
    rng: np.random.Generator, sd: float, mention_sd: float = 0.0, n: int = 84
) -> pd.DataFrame:
    """Three raters from people of varying severity; a judge of the mean severity; true mean 3."""
    value, flag = 3 + 0.7 * rng.normal(size=n), rng.random(n) < 0.4
    unit = np.arange(n)
    columns = {"prompt": unit // 4, "user": rng.integers(40, size=n), "item": unit, "mention": flag}
    labels = {}
    for name in ("judge", "human_0", "human_1", "human_2"):
        own = sd * rng.normal() + mention_sd * rng.normal() * flag
        labels[name] = value + (name != "judge") * own + 0.7 * rng.normal(size=n)
    return in_long_form(pd.DataFrame(columns), **labels)


def _inflation_alarm(rng: np.random.Generator, sd: float) -> bool:
    return gap.judge_inflation(severe(rng, sd), n_bootstrap=200)["p_value"][0] <= 0.05


def _mention_alarm(rng: np.random.Generator) -> bool:
    bias = gap.mention_bias(severe(rng, 0.3, mention_sd=0.3), n_bootstrap=200)
    # The judge's excess comes after the people's bias and its own.
    return bias["p_value"][2] <= 0.05


def _mean_covers(rng: np.random.Generator) -> bool:
    table = gap.rating_summary(severe(rng, 0.3), ["prompt", "user"], n_bootstrap=200)
    return covers(table.query("rater == 'human' and metric == 'mean rating'").iloc[0], 3.0)


def _apart_alarm(rng: np.random.Generator) -> bool:
    """Three severe raters, each of whom rates other units."""
    ratings = severe(rng, 0.5)
    theirs = "human_" + (ratings["item"] * 7 % 3).astype(str)
    ratings = ratings[(ratings["rater"] == "judge") | (ratings["rater"] == theirs)]
    return gap.judge_inflation(ratings, n_bootstrap=200)["p_value"][0] <= 0.05


def rotating(rng: np.random.Generator, n: int = 300) -> pd.DataFrame:
    """Six raters, three to a unit in rotation, around a true value (sd 0.7, noise 1): a ceiling of
    .771.
    """
    unit, value = np.arange(n), rng.normal(3, 0.7, n)
    labels = {f"human_{i}": np.full(n, np.nan) for i in range(6)} | {"judge": np.full(n, np.nan)}
    for i, label in enumerate(labels.values()):
        here = (i == 6) | ((i - unit) % 6 < 3)
        label[here] = value[here] + rng.normal(size=here.sum())
    design = pd.DataFrame({"prompt": unit // 4, "user": unit % 40, "item": unit})
    return in_long_form(design, **labels).dropna(subset="label")


def _ceiling_covers(rng: np.random.Generator) -> bool:
    table = gap.judge_correlation(rotating(rng), n_bootstrap=200)
    # ρ of two people whose ratings are normal with r = 0.7² / (0.7² + 1), and of the mean of three.
    rho = 6 / np.pi * np.arcsin(0.49 / 1.49 / 2)
    row = table[table["metric"] == "ceiling"].iloc[0]
    return covers(row, (3 * rho / (1 + 2 * rho)) ** 0.5)


def _inflation(sd: float, before: float) -> Case:
    data, trial = f"3 raters, severity sd {sd}", partial(_inflation_alarm, sd=sd)
    return Case("judge_inflation", data, "false alarm", trial, before)


RATERS = [
    Case("judge_correlation", "six raters, three to a unit: ceiling", "covered", _ceiling_covers),
    # Before, these three were taken for all raters there are, and their severity for inflation.
    *(_inflation(sd, before) for sd, before in ((0.15, 0.35), (0.3, 0.65), (0.5, 0.79))),
    # Before, severity was told by units that several had rated, of which there are none here.
    Case(
        "judge_inflation",
        "3 raters, severity sd 0.5, one to a unit",
        "false alarm",
        _apart_alarm,
        0.49,
    ),
    Case("mention_bias", "3 raters, slopes of sd 0.3", "false alarm", _mention_alarm),
    Case("rating_summary", "3 raters, severity sd 0.3", "covered", _mean_covers),
]


def _unequal_covers(rng: np.random.Generator) -> bool:
    """Thirty users of four ratings each, and one of a hundred, whose own means vary."""
    user = np.repeat(np.arange(31), [100] + [4] * 30)
    rating = 0.5 * rng.normal(size=31)[user] + rng.normal(size=len(user))
    table = pd.DataFrame({"step": "x", "user": user, "rating": rating})
    found = gap.means(table, "rating", ["step"], cluster="user", n_bootstrap=200)
    return covers(found.iloc[0], 0.0)


def few_users(rng: np.random.Generator, share: float) -> pd.DataFrame:
    """Judgments of 47 real and 10 synthetic users of one mean share, whose own shares vary."""
    # As many as the released data have (R13).
    source = np.repeat(["real", "synthetic"], [47, 10])
    users = pd.DataFrame({"source": source, "user": np.arange(57)})
    own, n = rng.beta(4 * share, 4 * (1 - share), 57), rng.integers(10, 60, 57)
    table = users.loc[np.repeat(np.arange(57), n)].reset_index(drop=True)
    return table.assign(label=rng.random(len(table)) < np.repeat(own, n))


def _few_cover(rng: np.random.Generator, share: float) -> bool:
    return covers(gap.proportion_difference(few_users(rng, share), [True]).iloc[0], 0.0)


def _few_alarm(rng: np.random.Generator) -> bool:
    return gap.proportion_difference(few_users(rng, 0.1), [True])["p_value"][0] <= 0.05


def _adjusted_alarm(rng: np.random.Generator) -> bool:
    """Real users have longer histories; labels do not depend on these, nor on the source."""
    table = few_users(rng, 0.1)
    length = rng.normal(size=57)[table["user"]] + (table["source"] == "real")
    found = gap.adjusted_difference(table.assign(length=length), [True], ["length"])
    return found["p_value"][0] <= 0.05


_OFTEN, _RARELY = (f"47 against 10 users, share {share}" for share in (0.3, 0.1))
# Before, a common cluster-robust variance and Student's t.
FEW = [
    Case("means", "one user of 31 gave half of the ratings", "covered", _unequal_covers, 0.84),
    Case("proportion_difference", _OFTEN, "covered", partial(_few_cover, share=0.3), 0.83),
    Case("proportion_difference", _RARELY, "covered, stated limit", partial(_few_cover, share=0.1),
         0.83),
    Case("proportion_difference", _RARELY, "false alarm", _few_alarm, 0.175),
    Case("adjusted_difference", _RARELY, "false alarm", _adjusted_alarm, 0.175),
]  # fmt: skip
