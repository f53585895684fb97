"""Mean score, invalid answers and truncation of every persona."""

import pandas as pd

from personagap.effects._table import POINTS, by_task, checked, scored_once
from personagap.limits import t_adjustment, wilson
from personagap.models.answers import NONRESPONSE
from personagap.results import require, result

#: How an answer can end that is a finding by itself, if it happens to some identities more often.
ENDINGS = ("refused", *NONRESPONSE, "timed out")


def rates(scores: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Mean score of each persona in each task, with an interval fit for small samples.

    Parameters
    ----------
    scores : rows ``persona task item score valid truncated``, ``score`` in [0, 1].
    level : confidence level.

    Returns
    -------
    Keys ``task persona``, the ``results.COLUMNS`` (the metric "score", ``n`` items), then
    ``invalid_rate truncation_rate n_answers``; scores by likelihood add ``accuracy`` and
    ``choice_mass``, of ``tasks.grade``. Everything but the counts is in points (100 × proportion).

    Notes
    -----
    The estimate is the mean over items of the item's mean over its runs and phrasings. The interval
    is Wilson's with an effective sample size, the number of single binary answers that would have
    the same variance as the clustered mean: the number of items at one binary answer each, more
    with several runs (times (z / t)² for n − 1 degrees of freedom, Korn & Graubard 1998). It covers
    at a few dozen items, where the normal approximation does not (Bowyer et al., arXiv 2503.01747).

    Examples
    --------
    >>> scores = pd.DataFrame({"task": "mmlu", "persona": "none", "item": range(10), "score": 1.0,
    ...                        "valid": True, "truncated": False})
    >>> rates(scores)[["estimate", "ci_low", "ci_high", "invalid_rate"]].round(1)
       estimate  ci_low  ci_high  invalid_rate
    0     100.0    72.2    100.0           0.0
    """
    scores = checked(scores, ["valid", "truncated"])
    key, how = ["task", "persona"], {"sort": False, "observed": True}
    for task, rows in by_task(scores):
        scored_once(rows, task)
    items = scores.groupby([*key, "item"], **how)["score"].mean().groupby(key, **how)
    answers = scores.groupby(key, **how)
    mean, spread, n = items.mean(), items.var(ddof=0), items.size()
    # Items that go apart less than by chance are no more than the answers there are.
    size = t_adjustment(n - 1, level) * n * mean * (1 - mean) / spread
    size = size.clip(n, answers.size()).where(spread > 0, n)
    low, high = POINTS * wilson(mean, size, level)
    columns = {
        "estimate": POINTS * mean, "ci_low": low, "ci_high": high,
        "n": n, "invalid_rate": POINTS * (1 - answers["valid"].mean()),
        "truncation_rate": POINTS * answers["truncated"].mean(), "n_answers": answers.size(),
    }  # fmt: skip
    if "choice_mass" in scores:
        columns |= {name: POINTS * answers[name].mean() for name in ("accuracy", "choice_mass")}
    # Persona by persona, scores may come with all tasks of one before those of the next.
    table = pd.concat(rows for _, rows in by_task(pd.DataFrame(columns).reset_index()))
    return result(table, key, metric="score", unit="points", method="Wilson, effective size")


def outcomes(scores: pd.DataFrame) -> pd.DataFrame:
    """How answers ended, as scores: 1 for each that was blocked, 0 for the others, and so on.

    Parameters
    ----------
    scores : with ``outcome``, of ``tasks.grade``.

    Returns
    -------
    Rows like those of ``scores`` for `rates` and `contrasts`, for every ending that occurs in a
    task: ``task`` is "<task>, <ending>", the ending one of "refused" (by the server's own word),
    "blocked", "empty", "unfinished" (thinking that never ended) and "timed out". No rows if all
    answers were given.

    Examples
    --------
    >>> scores = pd.DataFrame({"task": "mmlu", "persona": "none", "item": range(4), "valid": True,
    ...                        "truncated": False, "score": [1, 0, None, None],
    ...                        "outcome": ["answered"] * 2 + ["blocked"] * 2})
    >>> rates(outcomes(scores))[["task", "estimate"]]
                task  estimate
    0  mmlu, blocked      50.0
    """
    require(scores, "scores", "persona", "task", "item", "outcome")
    parts = []
    for task, rows in scores.assign(valid=True, truncated=False).groupby("task", sort=False):
        for ending in ENDINGS:
            ended = rows["outcome"].eq(ending).astype(float)
            # An ending that nobody met would be a row of zeros for each persona.
            if ended.any():
                parts.append(rows.assign(task=f"{task}, {ending}", score=ended))
    return pd.concat(parts, ignore_index=True) if parts else scores.head(0)
