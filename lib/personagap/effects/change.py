"""Change of PB and of the mean score between conditions that share their items."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from personagap.effects._table import (
    POINTS,
    Cells,
    by_task,
    cell_means_of_responders,
    nonresponders,
    validate_scores,
)
from personagap.effects.paired import clustered_mean, crossed_test, pseudo_difference, sign_flip
from personagap.effects.resampling import Bootstrap, Moments, resampled_means
from personagap.errors import UserError, expect, require_fraction, require_one_of
from personagap.limits import t_interval
from personagap.results import add_holm, random_generator, require_columns, result
from personagap.schema import CONTROLS


def by_condition(
    statistic: Callable[..., pd.DataFrame], scores: pd.DataFrame, **how
) -> pd.DataFrame:
    """Apply a statistic to each condition separately.

    Parameters
    ----------
    statistic : function of a table of scores, such as `contrasts`.
    scores : rows of ``scores`` with a column ``condition``.
    **how : passed to ``statistic``.

    Returns
    -------
    The results of all conditions, in order of appearance, with a leading column ``condition``.

    Examples
    --------
    >>> from personagap.effects import rates, simulate_scores
    >>> scores = simulate_scores([0], n_items=10).assign(condition="undefended")
    >>> by_condition(rates, scores)[["condition", "persona", "n"]].head(1)
        condition persona   n
    0  undefended    none  10
    """
    require_columns(scores, "scores", "condition")
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

    A defence can reduce PB by serving everybody worse (S13), and PB cannot detect a loss that all
    identities share (S14), so the change of the mean over identities is reported beside that of PB.

    Parameters
    ----------
    scores : rows ``condition persona task item score``, optionally ``template run``; ``score`` in
        [0, 1]. Phrasings, the same in both conditions, are a random factor, and missing cells are
        imputed, as in `personalization_bias`; the noise of phrasings is drawn independently for
        each condition.
    comparisons : condition → the condition to compare it with, e.g. ``{"defended": "undefended"}``.
    n_bootstrap, level, seed : number of draws for the intervals of PB, their level and seed.

    Returns
    -------
    Keys ``condition compared_with task``, the ``results.COLUMNS`` (``n`` items), then ``before
    after n_identities``; ``estimate`` is after − before. For each task and "joint" (the sum of PB²
    over tasks) the metrics are

    - ``debiased_pb2``: PB² without its noise, signed, in points²;
    - ``pb_corrected``: its square root, 0 where it is negative, in points;
    - ``pb_percent``: ``pb_corrected`` in percent of its value before (omitted where that is 0);
    - ``pb_log_odds``: noise-corrected spread over identities of the log-odds of their mean score
      (omitted where the mean score of all is 0 or 1). It shows whether identities converge by more
      than the change of the mean implies, as mean scores near 0 and 1 leave less room to differ;
    - ``mean``: mean score over identities, in points (not for ``joint``).

    ``p_adjusted`` is corrected by Holm's method over the conditions, for each task and metric.

    Raises
    ------
    UserError : an unknown condition, or fewer than two identities or items shared by both.

    Notes
    -----
    *Interval of PB*: bootstrap over items, with the same items in both conditions. The error of
    each debiased PB² in a draw is subtracted from its estimate (basic bootstrap), with the effects
    shrunk to their debiased size as in `personalization_bias`; the limits are quantiles of the
    differences. An infinite limit means that PB before may be 0.

    *Log-odds*: PB / (m (1 − m)) with m the mean score over identities (delta method); m is
    resampled with the items. This metric has a p-value of its own.

    *p-value of PB*: the smallest 1 − level whose interval for the change of debiased PB² excludes
    0, at least 2 / (n_bootstrap + 1). The null hypothesis is that PB² is unchanged, even if other
    identities are affected or noise shrinks because scores approach 0 or 1.

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
    require_fraction(level=level)
    wanted = "a dictionary, condition → the one before it"
    expect(isinstance(comparisons, Mapping), wanted, comparisons=comparisons)
    require_columns(scores, "scores", "condition")
    # Conditions may be different models, which `validate_scores` would refuse to mix.
    answered = validate_scores(scores.drop(columns="model", errors="ignore"), ["condition"])
    nonresponding, scores = nonresponders(scores), answered[~answered["persona"].isin(CONTROLS)]
    conditions = scores["condition"].unique()
    rows = []
    for number, (after, before) in enumerate(comparisons.items()):
        for condition in (after, before):
            require_one_of(conditions, "scores hold no condition", condition)
        tasks = {
            task: _paired_cells(part, before, after, task, nonresponding.get(task, set()))
            for task, part in by_task(scores)
        }
        key, changes = {"condition": after, "compared_with": before}, []
        for i, (task, table) in enumerate(tasks.items()):
            change = _Change.estimate(table, n_bootstrap, [seed, number, i])
            changes.append(change)
            size = {"n_identities": len(table.personas), "n": len(table.items)}
            rows += [key | {"task": task} | row | size for row in _spread_rows([change], level)]
            rows.append(key | {"task": task} | _mean_row(table, level) | size)
        size = {"n_identities": max(len(table.personas) for table in tasks.values())}
        size["n"] = sum(len(table.items) for table in tasks.values())
        rows += [key | {"task": "joint"} | row | size for row in _spread_rows(changes, level)]
    table = pd.DataFrame(rows)
    table["estimate"] = table["after"] - table["before"]
    table = add_holm(table, ["task", "metric"])
    return result(table, ["condition", "compared_with", "task"])


def _paired_cells(
    rows: pd.DataFrame, before: str, after: str, task: str, nonresponding: set[str]
) -> Cells:
    """Return imputed cells of both conditions, ``before`` in the first half of the templates."""
    rows = rows[rows["condition"].isin([before, after])]
    # Sorted because sums of floats depend on their order, and a set is ordered differently in each
    # process.
    phrasings = {name: sorted(set(part["template"])) for name, part in rows.groupby("condition")}
    if len(phrasings) < 2 or phrasings[before] != phrasings[after]:
        details = f"they have {phrasings}"
        raise UserError(
            f"{task}: {before} and {after} need scores of the same phrasings; {details}"
        )
    pair = rows["condition"].astype("str") + "/" + rows["template"].astype("str")
    table = cell_means_of_responders(
        rows.assign(template=pair), task, nonresponding - set(CONTROLS)
    )
    if len(table.personas) < 2:
        problem = f"fewer than two identities have answers that say anything, {before} and {after}"
        raise UserError(f"{task}: {problem}")
    table = table.impute_gaps(task)
    if min(table.mean.shape[0], table.mean.shape[2]) < 2:
        raise UserError(
            f"{task}: {before} and {after} share {len(table.items)} items answered by most of "
            f"{len(table.personas)} identities; 2 of each are needed"
        )
    names = [f"{name}/{template}" for name in (before, after) for template in phrasings[before]]
    order = [table.templates.index(name) for name in names]
    ordered = {name: getattr(table, name)[:, order] for name in ("mean", "runs", "within")}
    return table._replace(**ordered, templates=names)


class _Change(NamedTuple):
    """Debiased PB² before and after (2,), and its basic-bootstrap draws (2 × draws).

    Both are in squared proportions. ``slope`` and ``slope_draws`` are m (1 − m), the slope of the
    logistic curve at the mean score m over identities.
    """

    debiased: np.ndarray
    draws: np.ndarray
    slope: np.ndarray
    slope_draws: np.ndarray

    @classmethod
    def estimate(cls, table: Cells, n_draws: int, seed: list[int]) -> "_Change":
        """Estimate from the cells of both conditions (`_paired_cells`)."""
        conditions = []
        for half, x in enumerate(np.split(table.mean, 2, axis=1)):
            moments, by_item = Moments.of(x), x.mean(axis=(0, 1))
            # The same seed resamples the same items in both conditions, and for the mean.
            items, rest = random_generator(seed), np.random.default_rng([*seed, half])
            drawn = Bootstrap.draw(x, n_draws, items, rest, 1 / table.runs.max())
            error = drawn.error2 - drawn.noise + 2 * max(moments.debiased, 0.0) ** 0.5 * drawn.cross
            mean, means = by_item.mean(), resampled_means(by_item, n_draws, random_generator(seed))
            slopes = mean * (1 - mean), means * (1 - means)
            conditions.append((moments.debiased, moments.debiased - error, *slopes))
        return cls(*map(np.array, zip(*conditions, strict=True)))

    def in_points(self) -> tuple[np.ndarray, np.ndarray]:
        """Estimates and draws in points²."""
        return POINTS**2 * self.debiased, POINTS**2 * self.draws

    def in_log_odds(self) -> tuple[np.ndarray, np.ndarray]:
        """Estimates and draws on the squared log-odds scale."""
        # As for PB, a draw's error is subtracted, here on the log scale: slope² / drawn slope.
        slopes = self.slope[:, None] ** 2 / self.slope_draws
        return self.debiased / self.slope**2, self.draws / slopes**2


def _spread_rows(changes: list[_Change], level: float) -> list[dict]:
    """Rows of the metrics of PB, summed over tasks."""
    rows = _pb_rows([change.in_points() for change in changes], level)
    # Log-odds are undefined where the mean score of all may be 0 or 1.
    if all(change.slope_draws.all() for change in changes):
        _, root, *_ = _pb_rows([change.in_log_odds() for change in changes], level)
        rows.append(root | {"metric": "pb_log_odds", "unit": "log-odds"})
    return rows


def _pb_rows(changes: list[tuple[np.ndarray, np.ndarray]], level: float) -> list[dict]:
    """Rows of PB², PB and PB in percent, from estimates and draws of PB² per task."""
    (before, after), draws = (np.sum(values, axis=0) for values in zip(*changes, strict=True))
    tail_counts = np.count_nonzero(draws[1] >= draws[0]), np.count_nonzero(draws[1] <= draws[0])
    p_value = min(1.0, 2 * (1 + min(tail_counts)) / (1 + draws.shape[1]))
    pb_before, pb_after = max(before, 0) ** 0.5, max(after, 0) ** 0.5
    old, new = (np.maximum(squares, 0) ** 0.5 for squares in draws)
    # Where PB before may be 0, the change in percent is unbounded.
    percent = np.divide(100 * new, old, out=np.full(len(old), np.inf), where=old > 0)
    metrics = [
        ("debiased_pb2", "points²", before, after, draws[1] - draws[0]),
        ("pb_corrected", "points", pb_before, pb_after, new - old),
    ]
    if pb_before > 0:
        metrics.append(("pb_percent", "percent", 100.0, 100 * pb_after / pb_before, percent - 100))
    rows, tails = [], [(1 - level) / 2, (1 + level) / 2]
    for metric, unit, before, after, differences in metrics:
        # Method "nearest", as infinite changes cannot be interpolated.
        limits = np.quantile(differences, tails, method="nearest")
        # If 0 is within the interval of a PB, the interval of the change must allow for it; the
        # draws above 0 would outweigh it otherwise.
        if metric == "pb_corrected":
            low_before, high_before = np.quantile(old, tails)
            low_after, high_after = np.quantile(new, tails)
            limits[0] = min(limits[0], -high_before) if low_after == 0 else limits[0]
            limits[1] = max(limits[1], high_after) if low_before == 0 else limits[1]
        # All three metrics have the p-value of debiased PB²: the roots of draws below 0 are ties.
        row = {"metric": metric, "unit": unit, "before": before, "after": after}
        row |= {"ci_low": limits[0], "ci_high": limits[1], "p_value": p_value}
        row["method"] = "paired item bootstrap"
        rows.append(row)
    return rows


def _mean_row(table: Cells, level: float) -> dict:
    """Row of the mean score over identities, paired by item."""
    k, n = len(table.personas), len(table.items)
    # Averaged over identities, by phrasing × item.
    old, new = np.split(table.mean.mean(axis=0), 2)
    difference, method = new - old, "paired t, sign-flip exact"
    # A single changed answer moves the mean over k identities by 1/k of an answer.
    one_answer = 1 / (int(table.runs.max()) * k)
    pseudo = pseudo_difference(difference.mean(axis=0), one_answer, table.binary)
    if len(difference) > 1:
        centre, se, df, _, p_value, method = crossed_test(difference, np.arange(n), pseudo)
    else:
        centre, se, df = clustered_mean(difference[0], np.arange(n), pseudo)
        p_value = sign_flip(difference[0])
    low, high = POINTS * t_interval(centre, se, df, level, -1, 1)
    row = {"metric": "mean", "unit": "points", "p_value": p_value, "method": method}
    row |= {"before": POINTS * old.mean(), "after": POINTS * new.mean()}
    return row | {"ci_low": low, "ci_high": high}
