"""What a condition changes, in PB and in mean score, when the same items are asked before and
after.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from personagap.effects._table import (
    POINTS,
    Cells,
    by_task,
    checked,
    nonresponders,
    responder_cells,
)
from personagap.effects.paired import clustered_mean, largest_difference, over_phrasings, sign_flip
from personagap.effects.resampling import Bootstrap, Moments, resampled_means
from personagap.errors import UserError, expect, one_of, shares
from personagap.limits import student
from personagap.personas import CONTROLS
from personagap.results import corrected, generator, require, result


def by_condition(
    statistic: Callable[..., pd.DataFrame], scores: pd.DataFrame, **how
) -> pd.DataFrame:
    """A statistic of each condition by itself, in the order they come, with a leading column
    ``condition``.

    Examples
    --------
    >>> from personagap.effects import rates, simulate_scores
    >>> scores = simulate_scores([0], n_items=10).assign(condition="undefended")
    >>> by_condition(rates, scores)[["condition", "persona", "n"]].head(1)
        condition persona   n
    0  undefended    none  10
    """
    require(scores, "scores", "condition")
    conditions = scores.groupby("condition", sort=False, dropna=False)
    tables = {name: statistic(rows.drop(columns="condition"), **how) for name, rows in conditions}
    return pd.concat(tables, names=["condition"]).reset_index("condition").reset_index(drop=True)


def paired_change(
    scores: pd.DataFrame,
    comparisons: Mapping[str, str],
    *,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Change of PB and of the mean score between conditions, paired by item.

    A defence can cut PB by serving everybody worse (S13), and PB cannot see a loss that all share
    (S14), so the change of the mean over identities stands beside that of PB.

    Parameters
    ----------
    scores : rows ``condition persona task item score``, optionally ``template run``; ``score`` in
        [0, 1]. Phrasings, the same in both conditions, are a random factor as in
        `personalization_bias`, their noise drawn for each condition by itself. Missing cells as
        there.
    comparisons : condition → the condition to compare it with, e.g. ``{"defended": "undefended"}``.
    n_bootstrap, level, seed : draws for the intervals of PB, their level and seed.

    Returns
    -------
    Keys ``condition compared_with task``, the ``results.COLUMNS`` (``n`` items), then ``before
    after n_identities``; ``estimate`` is after − before. For each task and "joint" (the sum of PB²
    over tasks) the metrics are

    - ``debiased_pb2``: PB² without its noise, signed, in points²;
    - ``pb_corrected``: its square root, 0 where it is negative, in points;
    - ``pb_percent``: that in percent of before (left out where before is 0);
    - ``pb_log_odds``: spread over identities of the log-odds of their mean score, without its noise
      (left out where the mean score of all is 0 or 1): whether identities come closer than the
      level alone brings them, for near 0 and 1 there is less room;
    - ``mean``: mean score over identities, in points (not for ``joint``).

    ``p_adjusted`` is Holm's over the conditions, for each task and metric.

    Raises
    ------
    UserError : an unknown condition, or fewer than two identities or items shared by both.

    Notes
    -----
    *Interval of PB*: bootstrap over items, the same items in both conditions. A draw's error of
    each debiased PB² is taken off its estimate (basic bootstrap), with the effects shrunk to their
    debiased size as in `personalization_bias`; the interval holds the central differences. An
    infinite end says that PB before may be 0.

    *Log-odds*: PB / (m (1 − m)), m the mean score over identities, which is the delta method; m is
    resampled with the items. Its p-value is its own.

    *p-value of PB*: the smallest 1 − level whose interval for the change of debiased PB² leaves out
    0, at least 2 / (n_bootstrap + 1). Its null is "PB² is as before", also where other identities
    are hit, or where noise shrinks because scores near 0 or 1.

    *Mean*: paired by item, as in `contrasts`.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> worlds = {"undefended": [-6, 6] * 10, "defended": [-1, 1] * 10}
    >>> scores = pd.concat([simulate_scores(effects, n_items=300, seed=1).assign(condition=name)
    ...                     for name, effects in worlds.items()])
    >>> change = paired_change(scores, {"defended": "undefended"}).query("task == 'mmlu'")
    >>> change[["metric", "before", "after", "ci_low", "ci_high", "p_value"]].round(3)
             metric   before   after   ci_low  ci_high  p_value
    0  debiased_pb2   43.794   2.775  -54.306  -26.304    0.001
    1  pb_corrected    6.618   1.666   -7.666   -3.804    0.001
    2    pb_percent  100.000  25.174 -100.000  -61.449    0.001
    3   pb_log_odds    0.265   0.067   -0.307   -0.152    0.001
    4          mean   51.850  52.417    0.015    1.111    0.050
    """
    if not comparisons:
        raise UserError("no conditions to compare: name one, and the one to compare it with")
    shares(level=level)
    wanted = "a dictionary, condition → the one before it"
    expect(isinstance(comparisons, Mapping), wanted, comparisons=comparisons)
    require(scores, "scores", "condition")
    # A condition may be a model of its own.
    given, scores = scores, checked(scores.drop(columns="model", errors="ignore"), ["condition"])
    absent, scores = nonresponders(given), scores[~scores["persona"].isin(CONTROLS)]
    known = scores["condition"].unique()
    rows = []
    for number, (after, before) in enumerate(comparisons.items()):
        for condition in (after, before):
            one_of(known, "scores hold no condition", condition)
        tasks = {
            task: _both(part, before, after, task, absent.get(task, set()) - set(CONTROLS))
            for task, part in by_task(scores)
        }
        both = enumerate(tasks.values())
        changes = [_Change.of(table, n_bootstrap, [seed, number, i]) for i, table in both]
        name = {"condition": after, "compared_with": before}
        for task, table, change in zip(tasks, tasks.values(), changes, strict=True):
            size = {"n_identities": len(table.personas), "n": len(table.items)}
            rows += [name | {"task": task} | row | size for row in _spread_rows([change], level)]
            rows.append(name | {"task": task} | _mean_row(table, level) | size)
        size = {"n_identities": max(len(table.personas) for table in tasks.values())}
        size["n"] = sum(len(table.items) for table in tasks.values())
        rows += [name | {"task": "joint"} | row | size for row in _spread_rows(changes, level)]
    table = pd.DataFrame(rows)
    table["estimate"] = table["after"] - table["before"]
    table = corrected(table, ["task", "metric"])
    return result(table, ["condition", "compared_with", "task"])


def _both(rows: pd.DataFrame, before: str, after: str, task: str, nonresponding: set[str]) -> Cells:
    """Cells of both conditions, those before in the first half of ``templates``; gaps filled."""
    rows = rows[rows["condition"].isin([before, after])]
    # Sorted, for sums of floats depend on their order and that of a set is another in every
    # process.
    asked = {name: sorted(set(part["template"])) for name, part in rows.groupby("condition")}
    if len(asked) < 2 or asked[before] != asked[after]:
        known = f"they have {asked}"
        raise UserError(f"{task}: {before} and {after} need scores of the same phrasings; {known}")
    pair = rows["condition"].astype("str") + "/" + rows["template"].astype("str")
    table = responder_cells(rows.assign(template=pair), task, nonresponding)
    if len(table.personas) < 2:
        problem = f"fewer than two identities have answers that say anything, {before} and {after}"
        raise UserError(f"{task}: {problem}")
    table = table.filled(task)
    if min(table.mean.shape[0], table.mean.shape[2]) < 2:
        raise UserError(
            f"{task}: {before} and {after} share {len(table.items)} items answered by most of "
            f"{len(table.personas)} identities; 2 of each are needed"
        )
    names = [f"{name}/{template}" for name in (before, after) for template in asked[before]]
    order = [table.templates.index(name) for name in names]
    ordered = {name: getattr(table, name)[:, order] for name in ("mean", "runs", "within")}
    return table._replace(**ordered, templates=names)


class _Change(NamedTuple):
    """Debiased PB² before and after (2,), and plausible truths (2 × draws), as proportions²."""

    debiased: np.ndarray
    truths: np.ndarray
    #: Mean scores m over identities and their draws, as slopes m (1 − m) of the logistic curve.
    slope: np.ndarray
    slopes: np.ndarray

    @classmethod
    def of(cls, table: Cells, n_draws: int, seed: list[int]) -> "_Change":
        each = []
        for half, condition in enumerate(np.split(table.mean, 2, axis=1)):
            moments, by_item = Moments.of(condition), condition.mean(axis=(0, 1))
            # The same seed resamples the same items in both conditions, and for the mean.
            items, rest = generator(seed), np.random.default_rng([*seed, half])
            drawn = Bootstrap.draw(condition, n_draws, items, rest, 1 / table.runs.max())
            error = drawn.error2 - drawn.noise + 2 * max(moments.debiased, 0.0) ** 0.5 * drawn.cross
            level, levels = by_item.mean(), resampled_means(by_item, n_draws, generator(seed))
            slopes = level * (1 - level), levels * (1 - levels)
            each.append((moments.debiased, moments.debiased - error, *slopes))
        return cls(*map(np.array, zip(*each, strict=True)))

    def in_points(self) -> tuple[np.ndarray, np.ndarray]:
        return POINTS**2 * self.debiased, POINTS**2 * self.truths

    def in_log_odds(self) -> tuple[np.ndarray, np.ndarray]:
        # A draw's error is taken off the level, too: slope² / drawn slope in place of that drawn.
        plausible = self.slope[:, None] ** 2 / self.slopes
        return self.debiased / self.slope**2, self.truths / plausible**2


def _spread_rows(changes: list[_Change], level: float) -> list[dict]:
    rows = _pb_rows([change.in_points() for change in changes], level)
    # Where all may score 0 or 1 there are no log-odds.
    if all(change.slopes.all() for change in changes):
        _, root, *_ = _pb_rows([change.in_log_odds() for change in changes], level)
        rows.append(root | {"metric": "pb_log_odds", "unit": "log-odds"})
    return rows


def _pb_rows(changes: list[tuple[np.ndarray, np.ndarray]], level: float) -> list[dict]:
    (before, after), truths = (np.sum(each, axis=0) for each in zip(*changes, strict=True))
    above = np.count_nonzero(truths[1] >= truths[0]), np.count_nonzero(truths[1] <= truths[0])
    p_value = min(1.0, 2 * (1 + min(above)) / (1 + truths.shape[1]))
    root, root_after = max(before, 0) ** 0.5, max(after, 0) ** 0.5
    low, high = (np.maximum(each, 0) ** 0.5 for each in truths)
    # Where PB before may be 0, the change in percent has no end.
    percent = np.divide(100 * high, low, out=np.full(len(low), np.inf), where=low > 0)
    metrics = [
        ("debiased_pb2", "points²", before, after, truths[1] - truths[0]),
        ("pb_corrected", "points", root, root_after, high - low),
    ]
    if root > 0:
        metrics.append(("pb_percent", "percent", 100.0, 100 * root_after / root, percent - 100))
    rows, tails = [], [(1 - level) / 2, (1 + level) / 2]
    for metric, unit, old, new, differences in metrics:
        # Nearest, for between two infinite changes there is nothing to interpolate.
        ends = np.quantile(differences, tails, method="nearest")
        # A PB that may be 0 is let be 0, or the draws above 0 would outweigh it.
        if metric == "pb_corrected":
            least, most = np.quantile(low, tails)
            least_after, most_after = np.quantile(high, tails)
            ends[0] = min(ends[0], -most) if least_after == 0 else ends[0]
            ends[1] = max(ends[1], most_after) if least == 0 else ends[1]
        # One p for all three, that of debiased PB²: in the roots all draws below 0 would be ties.
        row = {"metric": metric, "unit": unit, "before": old, "after": new, "p_value": p_value}
        row |= {"ci_low": ends[0], "ci_high": ends[1], "method": "paired item bootstrap"}
        rows.append(row)
    return rows


def _mean_row(table: Cells, level: float) -> dict:
    k, n = len(table.personas), len(table.items)
    # Of phrasings × items.
    old, new = np.split(table.mean.mean(axis=0), 2)
    difference, method = new - old, "paired t, sign-flip exact"
    # A mean over k identities changes by a k-th of an answer when one of them answers otherwise.
    one_answer = 1 / (int(table.runs.max()) * k)
    largest = largest_difference(difference.mean(axis=0), one_answer, table.binary)
    if len(difference) > 1:
        centre, se, df, _, p_value, method = over_phrasings(difference, np.arange(n), largest)
    else:
        centre, se, df = clustered_mean(difference[0], np.arange(n), largest)
        p_value = sign_flip(difference[0])
    low, high = POINTS * student(centre, se, df, level, -1, 1)
    row = {"metric": "mean", "unit": "points", "p_value": p_value, "method": method}
    row |= {"before": POINTS * old.mean(), "after": POINTS * new.mean()}
    return row | {"ci_low": low, "ci_high": high}
