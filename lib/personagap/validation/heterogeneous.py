"""Data that are not alike: effects on few items, answers that flip together, cells missing where it matters.

`simulate_scores` draws identities, items and runs that are exchangeable, and much holds on such data that does not
elsewhere. ``before`` of each case is what the functions gave until these data were tried.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from personagap import effects, gap
from personagap.effects.power import monte_carlo

QUICK = {"n_permutations": 199, "n_bootstrap": 200}


class Case(NamedTuple):
    """``trial(rng)`` says whether the event happened whose share is to be ``nominal``: an error, or a covered truth."""

    estimator: str
    data: str
    event: str
    before: float
    trial: Callable[[np.random.Generator], bool]

    @property
    def nominal(self) -> float:
        return {"false alarm": 0.05, "covered": 0.95, "covered, stated limit": 0.9, "found": 1.0}[self.event]


def table(cases: Sequence[Case], *, replications: int = 200, seed: int = 0) -> pd.DataFrame:
    """Run the cases.

    Returns
    -------
    DataFrame, one row per case: ``estimator data event nominal before after mc_low mc_high``, the last two the 95 %
    Monte-Carlo interval of ``after``.
    """
    rows = []
    for case in cases:
        outcomes = [bool(case.trial(rng)) for rng in np.random.default_rng(seed).spawn(replications)]
        found = monte_carlo(pd.DataFrame({"event": outcomes})).iloc[0]
        told = {"estimator": case.estimator, "data": case.data, "event": case.event}
        rows.append(told | {"nominal": case.nominal, "before": case.before} | dict(zip(AFTER, found, strict=True)))
    return pd.DataFrame(rows)


AFTER = ["after", "mc_low", "mc_high"]


def kept(table: pd.DataFrame) -> pd.Series:
    """Whether a level of at most 6.5 %, coverage of 93 % or power of 80 % is shown, or nominal not excluded."""
    alarm, found = table["event"] == "false alarm", table["event"] == "found"
    shown = table["after"] >= np.where(found, 0.8, 0.93)
    return pd.Series(np.where(alarm, table["after"] <= 0.065, shown)) | np.where(
        alarm, table["mc_low"] <= 0.05, table["mc_high"] >= table["nominal"]
    )


def scores_of(x: np.ndarray, task: str = "t", **item_columns: np.ndarray) -> pd.DataFrame:
    """Scores of identities × items, identities × phrasings × items or, with NaN where there is none, a gap."""
    x = x[:, None] if x.ndim == 2 else x
    persona, template, item = np.nonzero(np.isfinite(x))
    columns = {"task": task, "persona": persona, "template": template, "item": item, "score": x[np.isfinite(x)]}
    return pd.DataFrame(columns | {name: values[item] for name, values in item_columns.items()})


def _binary(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    return (rng.random(p.shape) < p).astype(float)


# --- personalization bias ------------------------------------------------------------------------------


def contested(rng: np.random.Generator, missing: float, n: int = 285) -> tuple[np.ndarray, float]:
    """Effects, and ``missing`` of all cells, on a quarter of the items only: scores, true PB² in points²."""
    effect = 24**0.5 / 100 * np.resize([-1.0, 1.0], 31) / np.std(np.resize([-1.0, 1.0], 31))
    some = np.arange(n) < n // 4
    p = np.where(some, 0.5 + effect[:, None] * n / some.sum(), rng.choice([0.05, 0.95], n))
    x = _binary(rng, p)
    x[rng.random(x.shape) < missing * some * n / some.sum()] = np.nan
    return x, 24.0


def shared_flips(rng: np.random.Generator, n: int = 60) -> np.ndarray:
    """No effect; identities of a category mostly answer an item alike."""
    q = rng.random(n)
    own, together = _binary(rng, np.tile(q, (31, 1))), _binary(rng, np.tile(q, (6, 1)))[np.arange(31) % 6]
    return np.where(rng.random(n) < 0.6, together, own)


def one_noisy(rng: np.random.Generator, n: int = 60) -> np.ndarray:
    """No effect; one identity guesses where the others are sure."""
    q = rng.choice([0.02, 0.98], n)
    p = np.tile(q, (31, 1))
    p[0] = 0.5
    return _binary(rng, p)


def unequal_runs(rng: np.random.Generator, n: int = 60) -> np.ndarray:
    """No effect; three identities were asked once, the others ten times."""
    q, runs = rng.random(n), np.where(np.arange(31) < 3, 1, 10)[:, None]
    return rng.binomial(runs, np.tile(q, (31, 1))) / runs


def sparse(rng: np.random.Generator, n: int) -> tuple[np.ndarray, float]:
    """One identity of 31 refuses 2 % of the items, and nobody else any."""
    x = np.ones((31, n))
    x[0] = rng.random(n) >= 0.02
    return x, 4.0 * 30 / 31**2


def subjects(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """No effect; identity × subject of 6 points, 57 subjects of 5 items: scores, the subject of each item."""
    subject = np.repeat(np.arange(57), 5)
    p = rng.uniform(0.2, 0.8, 285) + 0.06 * rng.normal(size=(31, 57)).clip(-3, 3)[:, subject]
    return _binary(rng, p.clip(0, 1)), subject


def _covers(row, truth: float) -> bool:
    return row["ci_low"] <= truth <= row["ci_high"]


def _bias_covers(rng: np.random.Generator, data: Callable, **how) -> bool:
    x, truth = data(rng, **how)
    return _covers(effects.personalization_bias(scores_of(x), **QUICK).iloc[0], truth)


def _bias_alarm(rng: np.random.Generator, data: Callable) -> bool:
    return effects.personalization_bias(scores_of(data(rng)), **QUICK)["p_value"][0] <= 0.05


def _subject_alarm(rng: np.random.Generator) -> bool:
    x, subject = subjects(rng)
    scores = scores_of(x, subject=subject)
    return effects.personalization_bias(scores, cluster="subject", **QUICK)["p_value"][0] <= 0.05


def _large_task(rng: np.random.Generator) -> bool:
    """Whether the joint test finds an effect on 1,319 items beside two small tasks without one."""
    effect = 0.02 * np.resize([-1.0, 1.0], 31)[:, None]
    tasks = [
        scores_of(_binary(rng, rng.uniform(0.1, 0.9, n) + effect * (n > 100)), task=str(n)) for n in (1319, 20, 60)
    ]
    return (
        effects.personalization_bias(pd.concat(tasks), **QUICK).set_index("dimension").loc["joint", "p_value"] <= 0.05
    )


def _five_tasks(rng: np.random.Generator) -> bool:
    """Whether any of five tasks without effect passes for one with."""
    tasks = [scores_of(_binary(rng, np.tile(rng.random(60), (31, 1))), task=str(i)) for i in range(5)]
    return effects.personalization_bias(pd.concat(tasks), **QUICK)["p_adjusted"][:5].min() <= 0.05


BIAS = [
    Case("personalization_bias", "0.3 % of cells missing, on contested items", "covered", 0.53,
         partial(_bias_covers, data=contested, missing=0.003)),
    Case("personalization_bias", "0.9 % of cells missing, on contested items", "covered", 0.0,
         partial(_bias_covers, data=contested, missing=0.009)),
    Case("personalization_bias", "flips shared within categories", "false alarm", 0.18,
         partial(_bias_alarm, data=shared_flips)),
    Case("personalization_bias", "one noisy identity", "false alarm", 0.1, partial(_bias_alarm, data=one_noisy)),
    Case("personalization_bias", "unequal runs", "false alarm", 0.158, partial(_bias_alarm, data=unequal_runs)),
    *(Case("personalization_bias", f"one identity refuses 2 % of {n} items", "covered", before,
           partial(_bias_covers, data=sparse, n=n)) for n, before in ((60, 0.37), (100, 0.59), (285, 0.83))),
    Case("personalization_bias, cluster=", "identity × subject, 57 × 5 items", "false alarm", 0.245, _subject_alarm),
    Case("personalization_bias, joint", "an effect on 1,319 items, none on 20 and 60", "found", 0.16, _large_task),
    Case("personalization_bias, p_adjusted", "five tasks without effect", "false alarm", 0.225, _five_tasks),
]  # fmt: skip


# --- change between conditions -------------------------------------------------------------------------


def _changed(rng: np.random.Generator, data: Callable) -> bool:
    before, after = (scores_of(x).assign(condition=name) for x, name in zip(data(rng), "ab", strict=True))
    change = effects.paired_change(pd.concat([before, after]), {"b": "a"}, n_bootstrap=399)
    change = change[change["dimension"] == "t"].set_index("measure")
    return change.loc["pb_corrected", "p_value"] <= 0.05


def refused(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """No effect in either; afterwards everybody refuses nearly everything."""
    q = rng.random((1, 100))
    return _binary(rng, np.repeat(q, 31, axis=0)), _binary(rng, np.repeat(1 - 0.05 * q, 31, axis=0))


def quieter(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An effect of 3 points that stays, while answers become sure."""
    effect, q = 0.03 * np.resize([-1.0, 1.0], (31, 1)), rng.random(200)
    sure = (rng.random(200) < 0.5) * 0.9 + 0.05
    return _binary(rng, 0.1 + 0.8 * q + effect), _binary(rng, sure + effect)


def others_hit(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same PB, of other identities."""
    effect, q = np.where(np.arange(31) < 5, -0.15, 0.0)[:, None], rng.uniform(0.2, 0.8, 200)
    return _binary(rng, q + effect), _binary(rng, q + effect[::-1])


def phrased(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """No effect; identity × phrasing of 4 points before, 0 after; four phrasings."""
    q, phrasing = rng.uniform(0.15, 0.85, 150), 0.04 * rng.normal(size=(31, 4, 1)).clip(-3, 3)
    return _binary(rng, q + phrasing), _binary(rng, q + 0 * phrasing)


CHANGE = [
    Case("paired_change", data, "false alarm", before, partial(_changed, data=generate))
    for data, before, generate in (
        ("no effect; everyone refuses afterwards", 0.166, refused),
        ("the same effect; noise shrinks", 0.1, quieter),
        ("the same PB; other identities are hit", 0.154, others_hit),
        ("no effect; identity × phrasing of 4 points goes", 0.74, phrased),
    )
]


# --- raters --------------------------------------------------------------------------------------------


def severe(rng: np.random.Generator, sd: float, mention_sd: float = 0.0, n: int = 84) -> pd.DataFrame:
    """Three raters drawn from people whose severity varies; a judge of the mean severity; true mean 3."""
    value, flag = 3 + 0.7 * rng.normal(size=n), rng.random(n) < 0.4
    columns = {"prompt": np.arange(n) // 4, "user": rng.integers(40, size=n), "item": np.arange(n), "mention": flag}
    frames = []
    for name in ("judge", "human_0", "human_1", "human_2"):
        person = name != "judge"
        label = value + person * (sd * rng.normal() + mention_sd * rng.normal() * flag) + 0.7 * rng.normal(size=n)
        kind = "human" if person else "model"
        frames.append(pd.DataFrame({**columns, "rater": name, "rater_kind": kind, "label": label}))
    return pd.concat(frames, ignore_index=True)


def _inflation_alarm(rng: np.random.Generator, sd: float) -> bool:
    return gap.judge_inflation(severe(rng, sd), n_bootstrap=200)["p_value"][0] <= 0.05


def _mention_alarm(rng: np.random.Generator) -> bool:
    return gap.mention_bias(severe(rng, 0.3, mention_sd=0.3), n_bootstrap=200)["excess_p"][1] <= 0.05


def _mean_covers(rng: np.random.Generator) -> bool:
    table = gap.rating_summary(severe(rng, 0.3), ["prompt", "user"], n_bootstrap=200)
    return _covers(table[(table["rater"] == "human") & (table["measure"] == "mean rating")].iloc[0], 3.0)


def rotating(rng: np.random.Generator, n: int = 300) -> pd.DataFrame:
    """Six raters, three to a unit in rotation, around a true value (sd 0.7, noise 1): a ceiling of .771."""
    value, frames = rng.normal(3, 0.7, n), []
    for i in range(7):
        units = np.arange(n)[(i == 6) | ((i - np.arange(n)) % 6 < 3)]
        label = value[units] + rng.normal(size=len(units))
        name, kind = ("judge", "model") if i == 6 else (f"human_{i}", "human")
        who = {"rater": name, "rater_kind": kind, "label": label}
        frames.append(pd.DataFrame({"prompt": units // 4, "user": units % 40, "item": units, **who}))
    return pd.concat(frames, ignore_index=True)


def _ceiling_covers(rng: np.random.Generator) -> bool:
    row = gap.judge_correlation(rotating(rng), n_bootstrap=200).iloc[0]
    r = 0.49 / 1.49
    rho = 6 / np.pi * np.arcsin(r / 2)
    return row["ceiling_low"] <= (3 * rho / (1 + 2 * rho)) ** 0.5 <= row["ceiling_high"]


RATERS = [
    Case("judge_correlation", "six raters, three to a unit: ceiling", "covered", np.nan, _ceiling_covers),
    *(
        Case("judge_inflation", f"3 raters, severity sd {sd}", "false alarm", before, partial(_inflation_alarm, sd=sd))
        for sd, before in ((0.15, 0.35), (0.3, 0.65), (0.5, 0.79))
    ),
    Case("mention_bias", "3 raters, slopes of sd 0.3", "false alarm", np.nan, _mention_alarm),
    Case("rating_summary", "3 raters, severity sd 0.3", "covered", np.nan, _mean_covers),
]


def _sure(rng: np.random.Generator) -> bool:
    """Whether the Wald test, where it is given at all, rejects without effect."""
    table = effects.omnibus(scores_of(_binary(rng, np.full((31, 1500), 0.95))), n_permutations=9).set_index("method")
    return "GEE logistic Wald" in table.index and table.loc["GEE logistic Wald", "p_value"] <= 0.05


def _any_excludes(rng: np.random.Generator) -> bool:
    x = _binary(rng, np.tile(rng.random(100), (32, 1)))
    scores = scores_of(x)
    table = effects.contrasts(scores.assign(persona=scores["persona"].astype(str)), control="31")
    return ((table["simultaneous_low"] > 0) | (table["simultaneous_high"] < 0)).any()


MANY = [
    Case("omnibus: GEE", "mean score .95, 1,500 items", "false alarm", 0.2, _sure),
    Case("contrasts, simultaneous", "31 identities without effect", "false alarm", 0.47, _any_excludes),
]


def few_users(rng: np.random.Generator, share: float) -> pd.DataFrame:
    """Judgments of 47 real and 10 synthetic users of one mean share, whose own shares vary."""
    users = pd.DataFrame({"source": np.repeat(["real", "synthetic"], [47, 10]), "user": np.arange(57)})
    own, n = rng.beta(4 * share, 4 * (1 - share), 57), rng.integers(10, 60, 57)
    table = users.loc[np.repeat(np.arange(57), n)].reset_index(drop=True)
    return table.assign(label=rng.random(len(table)) < np.repeat(own, n))


def _few_cover(rng: np.random.Generator, share: float) -> bool:
    return _covers(gap.proportion_difference(few_users(rng, share), [True]).iloc[0], 0.0)


def _few_alarm(rng: np.random.Generator) -> bool:
    return gap.proportion_difference(few_users(rng, 0.1), [True])["p_value"][0] <= 0.05


FEW = [
    Case("proportion_difference", f"47 against 10 users, share {share}", event, 0.83, partial(_few_cover, share=share))
    for share, event in ((0.3, "covered"), (0.1, "covered, stated limit"))
]
FEW.append(Case("proportion_difference", "47 against 10 users, share 0.1", "false alarm", 0.175, _few_alarm))
HETEROGENEOUS = [*BIAS, *CHANGE, *RATERS, *MANY, *FEW]
