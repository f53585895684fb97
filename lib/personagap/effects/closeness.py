"""Is a bias too small to matter, and do answers change more than they change by themselves?"""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from scipy import special

from personagap.effects._table import (
    POINTS,
    by_task,
    checked,
    cluster_codes,
    identity_cells,
    nonresponders,
    scored_once,
)
from personagap.effects.bias import interval, inverted
from personagap.effects.paired import clustered_mean
from personagap.effects.resampling import Bootstrap, Moments, clustered
from personagap.errors import UserError, at_least, expect, shares
from personagap.limits import student
from personagap.personas import CONTROLS
from personagap.results import corrected, factorized, generator, result

#: Items that identities must have been scored differently on for the test to keep its level.
FEW = 30


def bias_equivalence(
    scores: pd.DataFrame,
    *,
    margin: float,
    cluster: str | None = None,
    n_bootstrap: int = 2000,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Is PB itself below ``margin`` points? A large p of `personalization_bias` does not say so.

    Parameters
    ----------
    scores, cluster, n_bootstrap, seed : as in `personalization_bias`.
    margin : the PB in points from which on it would matter; for the joint row too, which sums over
        tasks.
    alpha : level of the test; the interval is the 1 − 2·alpha one, below the margin just when p ≤
        alpha.

    Returns
    -------
    DataFrame ``task metric …``, metric "pb": one row per task, corrected for multiplicity over
    tasks (Holm), and "joint". ``estimate`` is PB after its noise is taken off (0 where nothing is
    left), in points. A small p-value says that PB is smaller than the margin.

    Notes
    -----
    One-sided test by inverting the bootstrap of `personalization_bias`: in a world whose PB is the
    margin, how often would debiased PB² be as small as it is? (Schuirmann's test needs one side
    only, for PB has no other.)

    Where all of the bias is a handful of items (one identity that refuses six of 285), the test
    errs in up to 10 %; ``method`` says so below 30 items that identities were scored differently
    on.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> scores = simulate_scores([-0.5, 0.5] * 5, n_items=1000, n_runs=3, seed=1)
    >>> close = bias_equivalence(scores, margin=2)
    >>> close[["task", "metric", "estimate", "ci_high", "p_value"]].round(3)
        task metric  estimate  ci_high  p_value
    0   mmlu     pb     0.309    0.887      0.0
    1  joint     pb     0.309    0.887      0.0
    """
    at_least(0, whole=False, margin=margin)
    shares(alpha=alpha)
    expect(alpha < 0.5, "a level below 0.5", alpha=alpha)
    tables = identity_cells(scores, cluster)
    moments, errors, items, uneven = {}, {}, {}, {}
    rngs = generator(seed).spawn(len(tables))
    for (task, table), rng in zip(tables.items(), rngs, strict=True):
        x = clustered(table.mean, table.clusters)
        moments[task], items[task] = Moments.of(x), len(table.items)
        uneven[task] = int((np.ptp(x, axis=0) > 0).any(axis=0).sum())
        errors[task] = Bootstrap.draw(x, n_bootstrap, rng, rng, 1 / table.runs.max())
    found = []
    for name, tasks in [*((task, [task]) for task in moments), ("joint", list(moments))]:
        own, drawn = [moments[task] for task in tasks], [errors[task] for task in tasks]
        estimate, world = inverted(own, drawn)
        low, high = POINTS * np.maximum(interval(own, drawn, 1 - 2 * alpha), 0) ** 0.5
        # The joint PB is another question, which takes no correction from theirs.
        row: dict[str, object] = {"task": name, "tests": "joint" if name == "joint" else "tasks"}
        row |= {"estimate": POINTS * max(estimate, 0) ** 0.5, "ci_low": low, "ci_high": high}
        # The data count as one draw more, or p could be 0.
        as_small = np.count_nonzero(world((margin / POINTS) ** 2) <= estimate)
        row["p_value"] = (1 + as_small) / (1 + n_bootstrap)
        row["n"] = sum(items[task] for task in tasks)
        method = f"item bootstrap inverted at a PB of {margin:g}, one-sided"
        if (few := sum(uneven[task] for task in tasks)) < FEW:
            method += f"; only {few} items differ between identities: may err in 10 %"
        found.append(row | {"method": method})
    table = corrected(pd.DataFrame(found), ["tests"]).drop(columns="tests")
    return result(table, ["task"], metric="pb", unit="points")


def answer_flips(
    scores: pd.DataFrame,
    control: str = "none",
    *,
    answer: str = "score",
    personas: Sequence[str] | None = None,
    cluster: str | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """How often an answer changes with the identity, beside how often from one run to the next.

    Equal mean scores can hide answers that change both ways. But sampled answers change by
    themselves, so the share that differs between identity and control is held against that between
    two runs of the control.

    Parameters
    ----------
    scores : rows ``persona task item run score``; the control with two runs or more of an item.
        Answers by likelihood (``choice_mass``, of ``tasks.grade``) are the same at every run, so
        one does.
    answer : column whose values are compared for equality: "score" (right or wrong), or the option
        chosen.
    personas : those to compare; None: all but the controls.
    cluster, level : as in `contrasts`.

    Returns
    -------
    DataFrame ``task contrast metric …``, in percent of items: "flips" (pairs of a run of the
    identity and one of the control), "control flips" (pairs of runs of the control, of the same
    items) and "excess flips", flips less the mean of those within the control and, if it has two
    runs, within the identity. Only the excess has a p-value (H₀: the identity's answers are
    distributed as the control's, item by item), corrected over identities (Holm).

    Raises
    ------
    UserError : the control has one run of each item, drawn at random.

    Notes
    -----
    For an item on which the control gives an answer with probabilities pₐ and the identity with qₐ,
    the excess is ½ Σₐ(pₐ − qₐ)² where both have two runs (half the squared energy distance; Székely
    & Rizzo 2013): 0 just where they are the same. With one run of the identity it is Σₐ pₐ(pₐ −
    qₐ), which can be negative. Estimates are unbiased; intervals as of `contrasts` (Student's t,
    clustered, with two pseudo-items).

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> scores = simulate_scores([0, 15], n_items=400, n_runs=3, seed=0)
    >>> table = answer_flips(scores)
    >>> table[["contrast", "metric", "estimate", "ci_low", "ci_high", "p_adjusted"]].round(3)
         contrast         metric  estimate  ci_low  ci_high  p_adjusted
    0  p00 − none          flips    32.417  29.759   34.752         NaN
    1  p00 − none  control flips    31.833  28.334   35.016         NaN
    2  p00 − none   excess flips    -0.417  -2.402    1.573       0.682
    3  p01 − none          flips    31.917  29.058   34.458         NaN
    4  p01 − none  control flips    31.833  28.334   35.016         NaN
    5  p01 − none   excess flips     3.750   1.437    6.025       0.003
    """
    expect(isinstance(control, Hashable), "one persona's name", control=control)
    given, rows = scores, []
    scores = checked(scores, [answer, *([cluster] if cluster else [])])
    absent = nonresponders(given)
    for task, part in by_task(scores):
        there = [name for name in part["persona"].unique() if name not in (*CONTROLS, control)]
        scored_once(part, task)
        (counts, items), nonresponding = _counts(part, answer), absent.get(task, set())
        clusters = cluster_codes(part, cluster, items, task)
        if control not in counts and control not in nonresponding:
            raise UserError(f"{task}: no scores of the control {control!r}")
        for persona in there if personas is None else personas:
            try:
                pair = counts.get(control), counts.get(persona)
                shared, flips = _flips(*pair, task, control, persona, "choice_mass" in part)
            except UserError:
                if not {persona, control} & nonresponding:
                    raise
                # Blocked, empty or unfinished on nearly all items: `outcomes` says so.
                continue
            code = pd.factorize(clusters[shared])[0]
            contrast = f"{persona} − {control}"
            key = {"task": task, "contrast": contrast, "unit": "percent", "n": len(code)}
            rows += [key | _mean(shares, code, level, metric) for metric, shares in flips.items()]
    if not rows:
        raise UserError("nothing to compare: the scores hold no identity with answers")
    return result(corrected(pd.DataFrame(rows), ["task", "metric"]), ["task", "contrast"])


def _counts(part: pd.DataFrame, answer: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Persona → items × answers: how many runs (and phrasings) gave it; and the items, sorted."""
    coded = [factorized(part[name], sort=name == "item") for name in ("persona", "item", answer)]
    codes, levels = zip(*coded, strict=True)
    shape = [len(level) for level in levels]
    counts = np.bincount(np.ravel_multi_index(codes, shape), minlength=np.prod(shape))
    by_persona = zip(levels[0], counts.reshape(shape), strict=True)
    return dict(by_persona), np.asarray(levels[1])


def _flips(
    a: np.ndarray | None, b: np.ndarray | None, task: str, control: str, persona: str, exact: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Items that both answered, the control twice (``exact``: once), and three shares of each."""
    if a is None or b is None:
        raise UserError(f"{task}: no scores of {control if a is None else persona!r}")
    shared = (a.sum(axis=1) > (0 if exact else 1)) & (b.sum(axis=1) > 0)
    if shared.sum() < 2:
        raise UserError(
            f"{task}: {control} has two runs of {shared.sum()} items that {persona} answered: "
            "ask with runs=2 or more"
        )
    a, b = a[shared], b[shared]
    between = 1 - (a * b).sum(axis=1) / (a.sum(axis=1) * b.sum(axis=1))
    within, own = (_within(each, 0.0 if exact else np.nan) for each in (a, b))
    # Answers that vary by themselves differ so often, without any effect of the identity.
    excess = between - np.where(np.isnan(own), within, (within + own) / 2)
    return shared, {"flips": between, "control flips": within, "excess flips": excess}


def _within(counts: np.ndarray, single: float) -> np.ndarray:
    """Share of pairs of runs of an item that differ; ``single`` where there is one run."""
    # Less one: a run paired with itself would always agree, and the share be too small.
    n = counts.sum(axis=1)
    same = (counts * (counts - 1)).sum(axis=1)
    return 1 - np.divide(same, n * (n - 1), out=np.full(len(n), 1 - single), where=n > 1)


def _mean(x: np.ndarray, code: np.ndarray, level: float, metric: str) -> dict:
    centre, se, df = clustered_mean(x, code, 1.0)
    # An excess may be negative, and it alone is tested: that answers flip at all is no question.
    least = -1 if metric == "excess flips" else 0
    low, high = 100 * student(centre, se, df, level, least, 1)
    row = {"metric": metric, "estimate": 100 * x.mean(), "ci_low": low, "ci_high": high}
    row["method"] = "pairs of runs, t over items, two pseudo-items"
    return row | ({"p_value": 2 * float(special.stdtr(df, -abs(centre) / se))} if least else {})
