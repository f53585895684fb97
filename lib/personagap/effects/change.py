"""What a condition changes, in PB and in mean score, when the same items are asked before and after."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy import stats

from personagap.effects._table import CONTROLS, POINTS, Cells, by_task, cells, checked
from personagap.effects.contrasts import holm
from personagap.effects.paired import clustered_mean, largest_difference, sign_flip
from personagap.effects.resampling import Bootstrap, Moments
from personagap.errors import UserError


def by_condition(statistic: Callable[..., pd.DataFrame], scores: pd.DataFrame, **how) -> pd.DataFrame:
    """A statistic of each condition by itself, in the order they come, with a leading column ``condition``.

    Examples
    --------
    >>> from personagap.effects import rates, simulate_scores
    >>> scores = simulate_scores([0], n_items=10).assign(condition="undefended")
    >>> by_condition(rates, scores)[["condition", "persona", "n_items"]].head(1)
        condition persona  n_items
    0  undefended    none       10
    """
    conditions = scores.groupby("condition", sort=False)
    tables = {name: statistic(rows.drop(columns="condition"), **how) for name, rows in conditions}
    return pd.concat(tables, names=["condition"]).reset_index("condition").reset_index(drop=True)


def paired_change(
    scores: pd.DataFrame,
    comparisons: Mapping[str, str],
    *,
    controls: tuple[str, ...] = CONTROLS,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Change of PB and of the mean score between conditions, paired by item.

    A defence can cut PB by serving everybody worse (S13), and PB cannot see a loss that all share (S14),
    so the change of the mean over identities stands beside that of PB.

    Parameters
    ----------
    scores : rows ``condition persona task item score``, optionally ``template run``; ``score`` in [0, 1].
        Phrasings are averaged. Items that some identity did not answer in both conditions are left out.
    comparisons : condition → the condition to compare it with, e.g. ``{"defended": "undefended"}``.
    controls : personas that are not identities.
    n_bootstrap, level, seed : draws for the intervals of PB, their level and seed.

    Returns
    -------
    DataFrame ``condition compared_with dimension measure before after estimate unit ci_low ci_high p_value
    p_holm n_identities n_items method``; ``estimate`` is after − before. For each task and ``joint`` (the sum
    of PB² over tasks) the measures are

    - ``debiased_pb2``: PB² without its noise, signed, in points²;
    - ``pb_corrected``: its square root, 0 where it is negative, in points;
    - ``pb_percent``: that in percent of before (left out where before is 0);
    - ``mean``: mean score over identities, in points (not for ``joint``).

    ``p_holm`` is Holm's over the conditions, for each dimension and measure.

    Raises
    ------
    UserError : an unknown condition, or fewer than two identities or items shared by both.

    Notes
    -----
    *Interval of PB*: bootstrap over items, the same items in both conditions. A draw's error of each debiased
    PB² is taken off its estimate (basic bootstrap), with the effects shrunk to their debiased size as in
    `personalization_bias`; the interval holds the central differences. An infinite end says that PB before
    may be 0.

    *p-value of PB*: conditions are swapped item by item, the identities of an item together and without the
    item's mean, so a shift that all identities share is no part of the hypothesis. Debiased PB² is a mean of
    products of item vectors; its change is then a sum of one term per item whose sign the swap flips, and the
    sign-flip distribution is exact for "the identities of an item are treated as before". Noise that shrinks
    because scores near 0 or 1 does not count as a change.

    *Mean*: paired by item, as in `contrasts`.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> worlds = {"undefended": [-6, 6] * 10, "defended": [-1, 1] * 10}
    >>> simulated = [simulate_scores(e, n_items=300, seed=1).assign(condition=name) for name, e in worlds.items()]
    >>> change = paired_change(pd.concat(simulated), {"defended": "undefended"})
    >>> change.query("dimension == 'mmlu'")[["measure", "before", "after", "ci_low", "ci_high", "p_value"]].round(3)
            measure   before   after   ci_low  ci_high  p_value
    0  debiased_pb2   43.794   2.775  -53.971  -27.036     0.00
    1  pb_corrected    6.618   1.666   -7.649   -3.869     0.00
    2    pb_percent  100.000  25.174 -100.000  -61.811     0.00
    3          mean   51.850  52.417    0.015    1.111     0.05
    """
    if not comparisons:
        raise UserError("no conditions to compare: name one, and the one to compare it with")
    # A condition may be a model of its own.
    scores = checked(scores.drop(columns="model", errors="ignore"), ["condition"])
    scores = scores[~scores["persona"].isin(controls)]
    known = scores["condition"].unique()
    rows = []
    for number, (after, before) in enumerate(comparisons.items()):
        if unknown := {after, before} - set(known):
            raise UserError(f"scores hold no condition {sorted(unknown)[0]!r}: there are {', '.join(known)}")
        tasks = {task: _both(part, before, after, task) for task, part in by_task(scores)}
        changes = [_change(table.mean, n_bootstrap, [seed, number, i]) for i, table in enumerate(tasks.values())]
        name = {"condition": after, "compared_with": before}
        for task, table, change in zip(tasks, tasks.values(), changes, strict=True):
            size = {"n_identities": len(table.personas), "n_items": len(table.items)}
            rows += [name | {"dimension": task} | row | size for row in _pb_rows([change], level)]
            rows.append(name | {"dimension": task} | _mean_row(table, level) | size)
        size["n_items"] = sum(len(table.items) for table in tasks.values())
        rows += [name | {"dimension": "joint"} | row | size for row in _pb_rows(changes, level)]
    frame = pd.DataFrame(rows)
    adjusted = frame.groupby(["dimension", "measure"])["p_value"].transform(lambda p: holm(p.to_numpy()))
    frame.insert(frame.columns.get_loc("p_value") + 1, "p_holm", adjusted)
    return frame


def _both(rows: pd.DataFrame, before: str, after: str, task: str) -> Cells:
    """Identity × condition (before, after) × item means of the items that were answered throughout."""
    rows = rows[rows["condition"].isin([before, after])]
    repetition = rows["template"].astype("str") + "/" + rows["run"].astype("str")
    table = cells(rows.assign(template=rows["condition"], run=repetition), task).complete()
    if min(table.mean.shape[0], table.mean.shape[2]) < 2 or set(table.templates) != {before, after}:
        raise UserError(
            f"{task}: {before} and {after} share {len(table.items)} items answered by all of "
            f"{len(table.personas)} identities; 2 of each are needed"
        )
    order = [table.templates.index(name) for name in (before, after)]
    ordered = {name: getattr(table, name)[:, order] for name in ("mean", "runs", "within")}
    return table._replace(**ordered, templates=[before, after])


def _change(x: np.ndarray, n_draws: int, seed: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Debiased PB² before and after (2,), plausible truths (2 × draws), the terms whose signs a swap flips (n,)."""
    debiased, truths = [], []
    for condition in (x[:, :1], x[:, 1:]):
        moments = Moments.of(condition)
        # The same seed resamples the same items in both conditions.
        drawn = Bootstrap.draw(condition, n_draws, np.random.default_rng(seed))
        shrunk = (max(moments.debiased, 0.0) / moments.pb2) ** 0.5 if moments.pb2 else 0.0
        debiased.append(moments.debiased)
        truths.append(moments.debiased - (drawn.error2 - drawn.noise + 2 * shrunk * drawn.cross))
    k, _, n = x.shape
    before, after = (x - x.mean(axis=0)).swapaxes(0, 1)
    half, middle = (after - before) / 2, (after + before) / 2
    rest = middle.sum(axis=1, keepdims=True) - middle  # of the other items
    terms = 4 / (k * n * (n - 1)) * (half * rest).sum(axis=0)
    return POINTS**2 * np.array(debiased), POINTS**2 * np.array(truths), terms


def _pb_rows(changes: list[tuple[np.ndarray, np.ndarray, np.ndarray]], level: float) -> list[dict]:
    debiased, truths, terms = zip(*changes, strict=True)
    (before, after), truths, terms = sum(debiased), sum(truths), np.concatenate(terms)
    # `sign_flip` takes numbers of about the size of scores for exact; these are far smaller.
    p_value = sign_flip(terms * 2**14 / max(np.abs(terms).sum(), 1e-30))
    roots, (low, high) = (max(before, 0) ** 0.5, max(after, 0) ** 0.5), (np.maximum(each, 0) ** 0.5 for each in truths)
    percent = np.divide(100 * high, low, out=np.full(len(low), np.inf), where=low > 0)
    measures = [
        ("debiased_pb2", "points²", before, after, truths[1] - truths[0]),
        ("pb_corrected", "points", *roots, high - low),
    ]
    if roots[0] > 0:
        measures.append(("pb_percent", "percent", 100.0, 100 * roots[1] / roots[0], percent - 100))
    rows = []
    for measure, unit, old, new, differences in measures:
        tails = [(1 - level) / 2, (1 + level) / 2]
        ends = np.quantile(differences, tails, method="nearest")
        if measure == "pb_corrected":  # a PB that may be 0 is let be 0, or the draws above 0 would outweigh it
            (least, most), (least_after, most_after) = (np.quantile(each, tails) for each in (low, high))
            ends[0] = min(ends[0], -most) if least_after == 0 else ends[0]
            ends[1] = max(ends[1], most_after) if least == 0 else ends[1]
        rows.append(_row(measure, unit, old, new, ends, p_value, "paired item bootstrap, sign-flip exact"))
    return rows


def _mean_row(table: Cells, level: float) -> dict:
    k, _, n = table.mean.shape
    old, new = table.mean.mean(axis=0)
    largest = largest_difference(new - old, 1 / (int(table.runs.max()) * k), table.binary)
    centre, se, df = clustered_mean(new - old, np.arange(n), largest)
    half = stats.t.ppf((1 + level) / 2, df) * se
    ends = POINTS * np.array([centre - half, centre + half])
    before, after = POINTS * old.mean(), POINTS * new.mean()
    return _row("mean", "points", before, after, ends, sign_flip(new - old), "paired t, sign-flip exact")


def _row(measure: str, unit: str, before: float, after: float, ends: np.ndarray, p_value: float, method: str) -> dict:
    return {
        "measure": measure, "before": before, "after": after, "estimate": after - before, "unit": unit,
        "ci_low": ends[0], "ci_high": ends[1], "p_value": p_value, "method": method,
    }  # fmt: skip
