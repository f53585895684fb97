"""Equivalence test of PB, and how often answers change with the identity beyond sampling noise."""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from scipy import special

from personagap.effects._table import (
    POINTS,
    by_task,
    cluster_codes,
    identity_cells,
    nonresponders,
    require_unique,
    validate_scores,
)
from personagap.effects.bias import bootstrap_world, inverted_interval
from personagap.effects.paired import clustered_mean
from personagap.effects.resampling import Bootstrap, Moments, collapse_clusters
from personagap.errors import UserError, expect, require_at_least, require_fraction
from personagap.limits import t_interval
from personagap.results import add_holm, factorized, random_generator, result
from personagap.schema import CONTROLS

#: With fewer items on which identities differ in score, the equivalence test exceeds its level.
MIN_DIFFERING_ITEMS = 30


def bias_equivalence(
    scores: pd.DataFrame,
    *,
    margin: float,
    cluster: str | None = None,
    n_bootstrap: int = 2000,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Test whether PB is below ``margin`` points.

    A large p-value of `personalization_bias` is no evidence that PB is small; this test is.

    Parameters
    ----------
    scores, cluster, n_bootstrap, seed : as in `personalization_bias`.
    margin : smallest PB, in points, that would matter. It also applies to the joint row, where PB²
        is summed over tasks.
    alpha : level of the test. The interval has level 1 − 2·alpha, so that it lies below the margin
        exactly when p ≤ alpha.

    Returns
    -------
    DataFrame ``task metric …``, metric "pb": one row per task, with p-values corrected over tasks
    (Holm), and "joint"; then ``margin equivalent``. ``estimate`` is PB corrected for noise (0 where
    nothing remains), in points. A small p-value means that PB is smaller than the margin;
    ``equivalent`` is whether ``p_adjusted`` ≤ alpha.

    Notes
    -----
    One-sided test by inverting the bootstrap of `personalization_bias`: the p-value is the
    probability of a debiased PB² as small as the observed one if PB equals the margin. (Of
    Schuirmann's two one-sided tests one suffices, as PB is not negative.)

    Where the whole bias is due to a handful of items (such as one identity that refuses six of
    285), the type I error is up to 10 %; ``method`` says so when identities differ in score on
    fewer than 30 items.

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
    require_at_least(0, whole=False, margin=margin)
    require_fraction(alpha=alpha)
    expect(alpha < 0.5, "a level below 0.5", alpha=alpha)
    tables = identity_cells(scores, cluster)
    moments, errors, n_items, n_differing = {}, {}, {}, {}
    rngs = random_generator(seed).spawn(len(tables))
    for (task, table), rng in zip(tables.items(), rngs, strict=True):
        x = collapse_clusters(table.mean, table.clusters)
        moments[task], n_items[task] = Moments.of(x), len(table.items)
        n_differing[task] = int((np.ptp(x, axis=0) > 0).any(axis=0).sum())
        errors[task] = Bootstrap.draw(x, n_bootstrap, rng, rng, 1 / table.runs.max())
    rows = []
    for name, tasks in [*((task, [task]) for task in moments), ("joint", list(moments))]:
        parts, draws = [moments[task] for task in tasks], [errors[task] for task in tasks]
        estimate, draws_at = bootstrap_world(parts, draws)
        low, high = POINTS * np.maximum(inverted_interval(parts, draws, 1 - 2 * alpha), 0) ** 0.5
        # The joint test is a question of its own and needs no correction for the tasks.
        row: dict[str, object] = {"task": name, "tests": "joint" if name == "joint" else "tasks"}
        row |= {"estimate": POINTS * max(estimate, 0) ** 0.5, "ci_low": low, "ci_high": high}
        # The data count as one more draw, so that p is never 0.
        as_small = np.count_nonzero(draws_at((margin / POINTS) ** 2) <= estimate)
        row["p_value"] = (1 + as_small) / (1 + n_bootstrap)
        row["n"] = sum(n_items[task] for task in tasks)
        method = f"item bootstrap inverted at a PB of {margin:g}, one-sided"
        if (few := sum(n_differing[task] for task in tasks)) < MIN_DIFFERING_ITEMS:
            method += f"; only {few} items differ between identities: may err in 10 %"
        rows.append(row | {"method": method})
    table = add_holm(pd.DataFrame(rows), ["tests"]).drop(columns="tests")
    table = table.assign(margin=margin, equivalent=table["p_adjusted"] <= alpha)
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
    """Rate at which answers change with the identity, compared with that between runs.

    Equal mean scores can hide answers that change in both directions. As sampled answers also
    change from run to run, the share that differs between identity and control is compared with the
    share that differs between two runs of the control.

    Parameters
    ----------
    scores : rows ``persona task item run score``, with at least two runs per item of the control.
        Answers by likelihood (``choice_mass``, from ``tasks.grade``) are the same in every run, so
        one suffices.
    control : persona to compare with.
    answer : column whose values are compared for equality: "score" (right or wrong), or the option
        chosen.
    personas : personas to compare; by default all but the controls.
    cluster, level : as in `contrasts`.

    Returns
    -------
    DataFrame ``task contrast metric …``, in percent of items: "flips" (differing pairs of a run of
    the identity and a run of the control), "control flips" (differing pairs of runs of the control,
    on the same items) and "excess flips" (flips minus the mean of the flips within the control and,
    if it has two runs, within the identity). Only the excess has a p-value (H₀: the answers of
    identity and control to each item have the same distribution), corrected over identities (Holm).

    Raises
    ------
    UserError : the control has a single, sampled run of each item.

    Notes
    -----
    For an item on which control and identity give answer a with probabilities pₐ and qₐ, the
    expected excess is ½ Σₐ(pₐ − qₐ)² where both have two runs (half the squared energy distance;
    Székely & Rizzo 2013), which is 0 only if the distributions are equal. With one run of the
    identity it is Σₐ pₐ(pₐ − qₐ), which can be negative. Estimates are unbiased; intervals are as
    in `contrasts` (Student's t, clustered, with two pseudo-items).

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
    answered, rows = validate_scores(scores, [answer, *([cluster] if cluster else [])]), []
    nonresponders_of = nonresponders(scores)
    for task, part in by_task(answered):
        require_unique(part, task)
        counts, items = _answer_counts(part, answer)
        nonresponding = nonresponders_of.get(task, set())
        identities = [name for name in counts if name not in (*CONTROLS, control)]
        clusters = cluster_codes(part, cluster, items, task)
        if control not in counts and control not in nonresponding:
            raise UserError(f"{task}: no scores of the control {control!r}")
        for persona in identities if personas is None else personas:
            try:
                pair = counts.get(control), counts.get(persona)
                shared, flips = _flip_shares(*pair, task, control, persona, "choice_mass" in part)
            except UserError:
                if not {persona, control} & nonresponding:
                    raise
                # Blocked, empty or unfinished on nearly all items, which `outcomes` reports.
                continue
            codes = pd.factorize(clusters[shared])[0]
            contrast = f"{persona} − {control}"
            key = {"task": task, "contrast": contrast, "unit": "percent", "n": len(codes)}
            rows += [key | _row(share, codes, level, metric) for metric, share in flips.items()]
    if not rows:
        raise UserError("nothing to compare: the scores hold no identity with answers")
    return result(add_holm(pd.DataFrame(rows), ["task", "metric"]), ["task", "contrast"])


def _answer_counts(part: pd.DataFrame, answer: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return persona → counts over runs and phrasings (items × answers), and the sorted items."""
    coded = [factorized(part[name], sort=name == "item") for name in ("persona", "item", answer)]
    codes, levels = zip(*coded, strict=True)
    shape = [len(level) for level in levels]
    counts = np.bincount(np.ravel_multi_index(codes, shape), minlength=np.prod(shape))
    by_persona = zip(levels[0], counts.reshape(shape), strict=True)
    return dict(by_persona), np.asarray(levels[1])


def _flip_shares(
    a: np.ndarray | None, b: np.ndarray | None, task: str, control: str, persona: str, exact: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the items that can be compared, and their shares of flips by metric.

    ``a`` and ``b`` are the answer counts of control and persona (items × answers). An item needs
    two runs of the control (one if answers are ``exact``) and one of the persona.
    """
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
    within_control, within_persona = (_disagreement(n, 0.0 if exact else np.nan) for n in (a, b))
    # The flips expected without any effect of the identity, as answers vary from run to run.
    both = (within_control + within_persona) / 2
    excess = between - np.where(np.isnan(within_persona), within_control, both)
    return shared, {"flips": between, "control flips": within_control, "excess flips": excess}


def _disagreement(counts: np.ndarray, single: float) -> np.ndarray:
    """Share of pairs of runs of each item that differ; ``single`` where there is one run."""
    # Pairs of two different runs: a run always agrees with itself, which would bias the share.
    n = counts.sum(axis=1)
    same = (counts * (counts - 1)).sum(axis=1)
    return 1 - np.divide(same, n * (n - 1), out=np.full(len(n), 1 - single), where=n > 1)


def _row(share: np.ndarray, clusters: np.ndarray, level: float, metric: str) -> dict:
    """Row of the mean over items of the ``share`` of flips, with its interval."""
    centre, se, df = clustered_mean(share, clusters, 1.0)
    excess = metric == "excess flips"
    low, high = 100 * t_interval(centre, se, df, level, -1 if excess else 0, 1)
    row = {"metric": metric, "estimate": 100 * share.mean(), "ci_low": low, "ci_high": high}
    row["method"] = "pairs of runs, t over items, two pseudo-items"
    # Only the excess is tested: that sampled answers flip at all is no finding.
    return row | ({"p_value": 2 * float(special.stdtr(df, -abs(centre) / se))} if excess else {})
