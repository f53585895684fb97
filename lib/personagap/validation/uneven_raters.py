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
    """Three raters drawn from people whose severity varies; a
    judge of the mean severity; true mean 3.
    """
    value, flag = 3 + 0.7 * rng.normal(size=n), rng.random(n) < 0.4
    columns = {
        "prompt": np.arange(n) // 4,
        "user": rng.integers(40, size=n),
        "item": np.arange(n),
        "mention": flag,
    }
    labels = {}
    for name in ("judge", "human_0", "human_1", "human_2"):
        own = sd * rng.normal() + mention_sd * rng.normal() * flag
        labels[name] = value + (name != "judge") * own + 0.7 * rng.normal(size=n)
    return in_long_form(pd.DataFrame(columns), **labels)


def _inflation_alarm(rng: np.random.Generator, sd: float) -> bool:
    return gap.judge_inflation(severe(rng, sd), n_bootstrap=200)["p_value"][0] <= 0.05


def _mention_alarm(rng: np.random.Generator) -> bool:
    bias = gap.mention_bias(severe(rng, 0.3, mention_sd=0.3), n_bootstrap=200)
    return bias["p_value"][2] <= 0.05  # the judge's excess


def _mean_covers(rng: np.random.Generator) -> bool:
    table = gap.rating_summary(severe(rng, 0.3), ["prompt", "user"], n_bootstrap=200)
    return covers(
        table[(table["rater"] == "human") & (table["metric"] == "mean rating")].iloc[0], 3.0
    )


def rotating(rng: np.random.Generator, n: int = 300) -> pd.DataFrame:
    """Six raters, three to a unit in rotation, around a true value
    (sd 0.7, noise 1): a ceiling of .771.
    """
    unit, value = np.arange(n), rng.normal(3, 0.7, n)
    labels = {f"human_{i}": np.full(n, np.nan) for i in range(6)} | {"judge": np.full(n, np.nan)}
    for i, label in enumerate(labels.values()):
        here = (i == 6) | ((i - unit) % 6 < 3)
        label[here] = value[here] + rng.normal(size=here.sum())
    design = pd.DataFrame({"prompt": unit // 4, "user": unit % 40, "item": unit})
    return in_long_form(design, **labels).dropna(subset="label")


def _ceiling_covers(rng: np.random.Generator) -> bool:
    row = (
        gap.judge_correlation(rotating(rng), n_bootstrap=200)
        .set_index("metric")
        .loc["ceiling"]
        .iloc[0]
    )
    r = 0.49 / 1.49
    rho = 6 / np.pi * np.arcsin(r / 2)
    return covers(row, (3 * rho / (1 + 2 * rho)) ** 0.5)


RATERS = [
    Case(
        "judge_correlation",
        "six raters, three to a unit: ceiling",
        "covered",
        np.nan,
        _ceiling_covers,
    ),
    *(
        Case(
            "judge_inflation",
            f"3 raters, severity sd {sd}",
            "false alarm",
            before,
            partial(_inflation_alarm, sd=sd),
        )
        for sd, before in ((0.15, 0.35), (0.3, 0.65), (0.5, 0.79))
    ),
    Case("mention_bias", "3 raters, slopes of sd 0.3", "false alarm", np.nan, _mention_alarm),
    Case("rating_summary", "3 raters, severity sd 0.3", "covered", np.nan, _mean_covers),
]


def few_users(rng: np.random.Generator, share: float) -> pd.DataFrame:
    """Judgments of 47 real and 10 synthetic users of one mean share, whose own shares vary."""
    users = pd.DataFrame(
        {"source": np.repeat(["real", "synthetic"], [47, 10]), "user": np.arange(57)}
    )
    own, n = rng.beta(4 * share, 4 * (1 - share), 57), rng.integers(10, 60, 57)
    table = users.loc[np.repeat(np.arange(57), n)].reset_index(drop=True)
    return table.assign(label=rng.random(len(table)) < np.repeat(own, n))


def _few_cover(rng: np.random.Generator, share: float) -> bool:
    return covers(gap.proportion_difference(few_users(rng, share), [True]).iloc[0], 0.0)


def _few_alarm(rng: np.random.Generator) -> bool:
    return gap.proportion_difference(few_users(rng, 0.1), [True])["p_value"][0] <= 0.05


FEW = [
    Case(
        "proportion_difference",
        f"47 against 10 users, share {share}",
        event,
        0.83,
        partial(_few_cover, share=share),
    )
    for share, event in ((0.3, "covered"), (0.1, "covered, stated limit"))
]
FEW.append(
    Case(
        "proportion_difference", "47 against 10 users, share 0.1", "false alarm", 0.175, _few_alarm
    )
)


def _adjusted_alarm(rng: np.random.Generator) -> bool:
    """Real users have longer histories; labels do not depend on these, nor on the source."""
    table = few_users(rng, 0.1)
    length = rng.normal(size=57)[table["user"]] + (table["source"] == "real")
    return (
        gap.adjusted_difference(table.assign(length=length), [True], ["length"])["p_value"][0]
        <= 0.05
    )


FEW.append(
    Case(
        "adjusted_difference",
        "47 against 10 users, share 0.1",
        "false alarm",
        0.175,
        _adjusted_alarm,
    )
)
