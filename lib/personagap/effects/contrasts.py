"""Contrasts of each identity, or category of identities, with a control."""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from personagap.effects._table import POINTS, by_task, make_groups, nonresponders, validate_scores
from personagap.effects.paired import NO_ESTIMATE, Paired, Task
from personagap.errors import UserError, expect, require_at_least, require_fraction
from personagap.results import columns_from_rows, holm_columns, result, rows_by_family
from personagap.schema import CONTROLS

KEYS = ["task", "contrast"]


def contrasts(
    scores: pd.DataFrame,
    control: str = "none",
    *,
    by: Mapping[str, str] | None = None,
    cluster: str | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Difference in mean score between each identity and the control, paired by item.

    Parameters
    ----------
    scores : rows ``persona task item score``, optionally ``template run``, ``score`` in [0, 1].
    control : persona to compare with.
    by : persona → group, to compare the mean of each group's identities with the control; personas
        that it does not name are left out. For example ``dict(zip(who["persona"],
        who["category"]))``.
    cluster : column of ``scores`` with clusters of items whose differences may be correlated (such
        as an MMLU subject); by default items are independent.
    level : confidence level.

    Returns
    -------
    One row per task and identity (or group), and one for each other control in the scores: keys
    ``task contrast``, the ``results.COLUMNS`` (``n`` items, points), then ``statistic n_runs
    cohens_h simultaneous_low simultaneous_high p_bh``. The p-values of Holm (``p_adjusted``) and of
    Benjamini & Hochberg (``p_bh``) are corrected over the identities of the task; the other
    controls are not part of that family. The simultaneous intervals cover all identities of the
    task at once (Šidák); with ordinary intervals of 31 identities, at least one excludes 0 in
    nearly half of null data sets.

    Raises
    ------
    UserError : no scores of the control, or fewer than two items shared with it. Where the missing
        answers were blocked, empty or unfinished (``outcome``), the row has no estimate instead,
        and ``method`` says so.

    Notes
    -----
    *Test*: McNemar's exact test for binary scores of one run; otherwise the sign-flip permutation
    test of the item (or cluster) differences, exact at any size. ``statistic`` is the smaller
    discordant count, or estimate / standard error. The null hypothesis of the sign-flip test is
    that differences are symmetric about 0. It may be rejected although the interval of the mean
    includes 0: where nearly all differences are negative but a few items make up most of the mean
    (probabilities near 1), one more such item could change the sign of the mean.

    *Interval*: Student's t with standard errors clustered by item (Miller, arXiv 2411.00640),
    adjusted as in Bonett & Price (2012) for paired proportions (for scores other than 0 and 1, see
    ``paired.clustered_mean``), as the normal approximation fails below a few hundred items (Bowyer
    et al., arXiv 2503.01747).

    *Several phrasings*: items and phrasings are crossed random factors (Clark 1973). The ratio of
    the estimate to its standard error is referred to t with Satterthwaite's degrees of freedom. Two
    phrasings carry little information. The controls state no identity, so their answers are used
    for all phrasings.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> scores = simulate_scores([0, -8], n_items=400, n_runs=3, seed=1)
    >>> contrasts(scores)[["contrast", "estimate", "ci_low", "ci_high", "p_adjusted"]].round(3)
               contrast  estimate  ci_low  ci_high  p_adjusted
    0        p00 − none    -1.417  -4.724    1.904       0.431
    1        p01 − none   -12.333 -15.631   -8.913       0.000
    2  assistant − none     0.000  -3.361    3.361       1.000
    """
    require_fraction(level=level)
    compared = list(iterate_contrasts(scores, control, by, cluster))
    tested = [(task, tests) for task, _, tests, row in compared if row.method != NO_ESTIMATE]
    family_sizes, rows = Counter(tested), []
    for task, name, tests, contrast in compared:
        # Šidák: the levels of independent intervals multiply.
        low, high = contrast.interval(level ** (1 / max(family_sizes[task, tests], 1)))
        simultaneous = {"simultaneous_low": low, "simultaneous_high": high}
        rows.append(contrast.row(task, name, level) | {"tests": tests} | simultaneous)
    return as_tested(rows)


def iterate_contrasts(
    scores: pd.DataFrame, control: str, by: Mapping[str, str] | None, cluster: str | None
) -> Iterator[tuple[str, str, str, Paired]]:
    """Yield task, name, family of tests and result of every contrast."""
    expect(isinstance(control, Hashable), "one persona's name", control=control)
    for task in _iterate_tasks(scores, cluster):
        answering = task.table.personas
        personas = [*answering, *sorted(task.nonresponding - set(answering))]
        others = [persona for persona in personas if persona != control]
        groups = make_groups(others, control, by).items()
        compared = [(group, "groups" if by else "identities", members) for group, members in groups]
        # Comparing two controls is another question, for which identities need no correction.
        compared += [(persona, persona, [persona]) for persona in CONTROLS if persona in others]
        for group, tests, members in compared:
            # If no member can be compared, the row is kept without an estimate, so that the reader
            # sees what is missing.
            comparable = [persona for persona in members if task.comparable(persona, control)]
            members = comparable or members
            weights = dict.fromkeys(members, 1 / len(members)) | {control: -1}
            yield task.name, f"{group} − {control}", tests, task.paired(weights)


def _iterate_tasks(scores: pd.DataFrame, cluster: str | None) -> Iterator[Task]:
    answered = validate_scores(scores, [cluster] if cluster else [])
    nonresponding = nonresponders(scores)
    for name, rows in by_task(answered):
        yield Task(name, rows, cluster, nonresponding.get(name, ()))


def as_tested(rows: list[dict]) -> pd.DataFrame:
    """Table of contrasts from rows of `Paired.row` that also name their family, ``tests``.

    p-values are corrected over the rows that share task and ``tests``.
    """
    if not rows:
        raise UserError("nothing to compare: are there identities, and does `by` name them?")
    family = ["task", "tests"]
    columns = columns_from_rows(rows)
    p_values, p_bh = np.array(columns["p_value"], dtype=float), np.full(len(rows), np.nan)
    for members in rows_by_family(columns, family).values():
        p_bh[members] = stats.false_discovery_control(p_values[members])
    columns |= holm_columns(columns, family) | {"p_bh": p_bh}
    del columns["tests"]
    return result(columns, KEYS, metric="score", unit="points")


def equivalence(
    scores: pd.DataFrame,
    control: str = "none",
    *,
    margin: float,
    by: Mapping[str, str] | None = None,
    cluster: str | None = None,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Test whether each identity is within ``margin`` points of the control (TOST).

    Parameters
    ----------
    scores, control, by, cluster : as in `contrasts`.
    margin : largest difference, in points, that does not matter.
    alpha : level of the tests. The interval has level 1 − 2·alpha, so that it lies within ±margin
        exactly when p ≤ alpha.

    Returns
    -------
    The columns of `contrasts`, and ``margin equivalent``. ``p_value`` is the larger one-sided
    p-value: small values mean equivalence. ``equivalent`` is whether ``p_adjusted`` ≤ alpha, and
    ``statistic`` the distance to the nearer margin in standard errors.

    Notes
    -----
    Two one-sided tests (Schuirmann 1987), with the standard errors of `contrasts`.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> scores = simulate_scores([0, -8], n_items=2000, seed=1)
    >>> equivalence(scores, margin=5)[["contrast", "estimate", "p_adjusted", "equivalent"]].round(3)
               contrast  estimate  p_adjusted  equivalent
    0        p00 − none      1.75       0.012        True
    1        p01 − none     -7.60       0.979       False
    2  assistant − none     -1.35       0.003        True
    """
    require_at_least(0, whole=False, margin=margin)
    require_fraction(alpha=alpha)
    expect(alpha < 0.5, "a level below 0.5", alpha=alpha)
    rows = []
    for task, name, tests, contrast in iterate_contrasts(scores, control, by, cluster):
        # The test against the nearer margin has the larger p-value of the two.
        distance = (margin / POINTS - abs(contrast.centre)) / contrast.se
        row = contrast.row(task, name, 1 - 2 * alpha) | {"statistic": distance, "method": "TOST"}
        row["p_value"] = float(stats.t.sf(distance, contrast.df))
        rows.append(row | {"tests": tests, "margin": margin})
    table = as_tested(rows)
    return table.assign(equivalent=table["p_adjusted"] <= alpha)


def additivity(
    scores: pd.DataFrame,
    parts: Mapping[str, Sequence[str]],
    control: str = "none",
    *,
    cluster: str | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Compare the score of intersectional identities with the prediction from their parts.

    Parameters
    ----------
    scores, control, cluster, level : as in `contrasts`.
    parts : intersectional persona → the personas that it combines.

    Returns
    -------
    The columns of `contrasts`, two rows per task and intersection: "X − average of parts" (the
    finding of arXiv 2406.11107) and "X − sum of parts", where the sum is the control plus each
    part's difference from it. p-values are corrected over the rows of a task. A large p-value does
    not prove additivity: see the interval.

    Examples
    --------
    >>> from personagap.effects import simulate_scores
    >>> scores = simulate_scores([-6, -6, -12], n_items=1500, seed=2)
    >>> additivity(scores, {"p02": ["p00", "p01"]})[["contrast", "estimate", "p_value"]].round(3)
                     contrast  estimate  p_value
    0  p02 − average of parts    -6.833    0.000
    1      p02 − sum of parts    -1.000    0.649
    """
    expect(isinstance(parts, Mapping), "a dictionary, intersection → its parts", parts=parts)
    expect(isinstance(control, Hashable), "one persona's name", control=control)
    if single := [persona for persona, components in parts.items() if len(components) < 2]:
        remedy = "name at least two parts, as in 'hindu+woman'"
        raise UserError(f"{single[0]!r} is no intersection: {remedy}")
    # A repeated part, or the intersection or control as a part, would get the wrong weight.
    for persona, components in parts.items():
        distinct = len({persona, control, *components}) == len(components) + 2
        wanted = f"different parts, neither {persona!r} nor the control"
        expect(distinct, wanted, **{f"parts[{persona!r}]": components})
    rows = []
    for task in _iterate_tasks(scores, cluster):
        for persona, components in parts.items():
            # Each part's score includes the control's level, which must count only once in the sum.
            excess = {control: len(components) - 1}
            for label, share, rest in (("average", 1 / len(components), {}), ("sum", 1.0, excess)):
                contrast = task.paired({persona: 1.0} | dict.fromkeys(components, -share) | rest)
                row = contrast.row(task.name, f"{persona} − {label} of parts", level)
                rows.append(row | {"tests": "intersections"})
    return as_tested(rows)
