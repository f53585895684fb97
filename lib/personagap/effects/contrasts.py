"""Each identity, or category of identities, against a control."""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from personagap.effects._table import POINTS, by_task, checked, grouped, nonresponders
from personagap.effects.paired import NO_ESTIMATE, Paired, Task
from personagap.errors import UserError, at_least, expect, shares
from personagap.personas import CONTROLS
from personagap.results import adjusted, columns_of, families, result

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
    by : persona → group; compares the mean of each group's identities instead (personas not in it
        are left out), e.g. ``dict(zip(who["persona"], who["category"]))``.
    cluster : column of ``scores`` that names clusters of items whose differences may be correlated
        (an MMLU subject); without it every item stands alone.
    level : confidence level.

    Returns
    -------
    One row per task and identity (or group), and one for each other control that scores hold: keys
    ``task contrast``, the ``results.COLUMNS`` (``n`` items, points), then ``statistic n_runs
    cohens_h simultaneous_low simultaneous_high p_bh``. Holm's (``p_adjusted``) and Benjamini &
    Hochberg's p-values (``p_bh``) are over the identities of the task; the other controls are no
    part of that family. The simultaneous intervals hold all identities of the task at once (Šidák);
    of those of one identity each, nearly half of null data sets have one of 31 that excludes 0.

    Raises
    ------
    UserError : no scores of the control, or fewer than two items shared with it; but where the
        answers that lack were blocked, empty or unfinished (``outcome``), the row is there without
        an estimate, and ``method`` says so.

    Notes
    -----
    *Test*: McNemar's exact test for binary scores of one run; otherwise the sign-flip permutation
    test of the item (or cluster) differences, exact at any size; ``statistic`` is the smaller
    discordant count, or estimate / standard error. What the flips test is that differences are
    symmetric about 0. Where nearly all are below 0 but a few items make up most of their mean
    (probabilities near 1), they are not, and yet the interval of the mean may hold 0: one more such
    item could turn it.

    *Interval*: Student's t with standard errors clustered by item (Miller, arXiv 2411.00640),
    adjusted as Bonett & Price (2012) do for paired proportions (for scores in between, see
    ``paired.clustered_mean``), as the normal approximation fails below a few hundred items (Bowyer
    et al., arXiv 2503.01747).

    *Several phrasings*: items and phrasings are crossed random factors (Clark 1973); estimate over
    its standard error is referred to t with Satterthwaite's degrees of freedom. Two phrasings say
    little. The controls state no identity, so their answers serve all phrasings.

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
    shares(level=level)
    found = list(each_contrast(scores, control, by, cluster))
    told = [(task, tests) for task, _, tests, each in found if each.method != NO_ESTIMATE]
    sizes, rows = Counter(told), []
    for task, name, tests, contrast in found:
        # Šidák: the levels of independent intervals multiply.
        low, high = contrast.interval(level ** (1 / max(sizes[task, tests], 1)))
        together = {"tests": tests, "simultaneous_low": low, "simultaneous_high": high}
        rows.append(contrast.row(task, name, level) | together)
    return as_tested(rows)


def each_contrast(
    scores: pd.DataFrame, control: str, by: Mapping[str, str] | None, cluster: str | None
) -> Iterator[tuple[str, str, str, Paired]]:
    """Task, name, the tests that it is corrected with, and the result, for every contrast."""
    expect(isinstance(control, Hashable), "one persona's name", control=control)
    for task in _tasks(scores, cluster):
        there = task.table.personas
        everybody = [*there, *sorted(task.nonresponding - set(there))]
        others = [each for each in everybody if each != control]
        groups = grouped(others, control, by).items()
        compared = [(group, "groups" if by else "identities", members) for group, members in groups]
        # A further control asks another question, so identities need no correction for it.
        compared += [(persona, persona, [persona]) for persona in CONTROLS if persona in others]
        for group, tests, members in compared:
            # Where no member has two items with an answer the row stays, without an estimate: it
            # would be missed.
            able = [persona for persona in members if task.comparable(persona, control)]
            members = able or members
            weights = dict.fromkeys(members, 1 / len(members)) | {control: -1}
            yield task.name, f"{group} − {control}", tests, task.paired(weights)


def _tasks(scores: pd.DataFrame, cluster: str | None) -> Iterator[Task]:
    answered = checked(scores, [cluster] if cluster else [])
    nonresponding = nonresponders(scores)
    for name, rows in by_task(answered):
        yield Task(name, rows, cluster, nonresponding.get(name, ()))


def as_tested(rows: list[dict]) -> pd.DataFrame:
    """The one form, from rows of `Paired.row` and ``tests``: those of a task corrected together."""
    if not rows:
        raise UserError("nothing to compare: are there identities, and does `by` name them?")
    family = ["task", "tests"]
    columns = columns_of(rows)
    p_values, p_bh = np.array(columns["p_value"], dtype=float), np.full(len(rows), np.nan)
    for places in families(columns, family).values():
        p_bh[places] = stats.false_discovery_control(p_values[places])
    columns |= adjusted(columns, family) | {"p_bh": p_bh}
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
    """Is each identity within ``margin`` points of the control? Two one-sided tests (TOST,
    Schuirmann 1987).

    Parameters
    ----------
    scores, control, by, cluster : as in `contrasts`.
    margin : largest difference in points that does not matter.
    alpha : level of the tests; the interval is the 1 − 2·alpha one, inside ±margin just when p ≤
        alpha.

    Returns
    -------
    The columns of `contrasts` and ``margin equivalent``. ``p_value`` is the larger one-sided
    p-value: small means equivalent; ``equivalent`` is decided on ``p_adjusted``. ``statistic`` is
    the smaller distance to a margin in standard errors.

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
    at_least(0, whole=False, margin=margin)
    shares(alpha=alpha)
    expect(alpha < 0.5, "a level below 0.5", alpha=alpha)
    rows = []
    for task, name, tests, contrast in each_contrast(scores, control, by, cluster):
        # To the nearer margin: the other follows.
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
    """Does an intersectional identity score what its parts predict?

    Parameters
    ----------
    scores, control, cluster, level : as in `contrasts`.
    parts : intersectional persona → the personas it is made of.

    Returns
    -------
    The columns of `contrasts`, two rows per task and intersection: "X − average of parts" (the
    finding of arXiv 2406.11107) and "X − sum of parts", the control plus each part's difference
    from it. Corrected for multiplicity over the rows of a task. A large p-value is no proof of
    additivity: read the interval.

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
    # Twice the same part, the whole as its own part or the control as one would weigh what is meant
    # once, or not at all.
    for persona, components in parts.items():
        apart = len({persona, control, *components}) == len(components) + 2
        wanted = f"different parts, neither {persona!r} nor the control"
        expect(apart, wanted, **{f"parts[{persona!r}]": components})
    rows = []
    for task in _tasks(scores, cluster):
        for persona, components in parts.items():
            # Each part brings the control's level along, which must count once.
            others = {control: len(components) - 1}
            for label, share, rest in (("average", 1 / len(components), {}), ("sum", 1.0, others)):
                contrast = task.paired({persona: 1.0} | dict.fromkeys(components, -share) | rest)
                row = contrast.row(task.name, f"{persona} − {label} of parts", level)
                rows.append(row | {"tests": "intersections"})
    return as_tested(rows)
