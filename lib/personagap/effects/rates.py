"""Mean score, invalid answers and truncation by persona, and how answers ended."""

import pandas as pd

from personagap.effects._table import POINTS, by_task, require_unique, validate_scores
from personagap.limits import t_adjustment, wilson_interval
from personagap.results import require_columns, result
from personagap.schema import NONRESPONSE

#: Endings of an answer that are findings in themselves if some identities meet them more often.
ENDINGS = ("refused", *NONRESPONSE, "timed out")


def rates(scores: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Mean score of each persona in each task, with an interval for small samples.

    Parameters
    ----------
    scores : rows ``persona task item score valid truncated``, ``score`` in [0, 1].
    level : confidence level.

    Returns
    -------
    Keys ``task persona``, the ``results.COLUMNS`` (the metric "score", ``n`` items), then
    ``invalid_rate truncation_rate n_answers``; for scores by likelihood also ``accuracy`` and
    ``choice_mass``, from ``tasks.grade``. All values but the counts are in points (100 ×
    proportion).

    Notes
    -----
    The estimate is the mean over items of the item's mean over its runs and phrasings. The interval
    is Wilson's with an effective sample size, the number of independent binary answers whose mean
    would have the same variance as the clustered mean: the number of items with one binary answer
    each, and more with several runs (times (z / t)² for n − 1 degrees of freedom, Korn & Graubard
    1998). It keeps its coverage with a few dozen items, where the normal approximation does not
    (Bowyer et al., arXiv 2503.01747).

    Examples
    --------
    >>> scores = pd.DataFrame({"task": "mmlu", "persona": "none", "item": range(10), "score": 1.0,
    ...                        "valid": True, "truncated": False})
    >>> rates(scores)[["estimate", "ci_low", "ci_high", "invalid_rate"]].round(1)
       estimate  ci_low  ci_high  invalid_rate
    0     100.0    72.2    100.0           0.0
    """
    scores = validate_scores(scores, ["valid", "truncated"])
    key, how = ["task", "persona"], {"sort": False, "observed": True}
    for task, rows in by_task(scores):
        require_unique(rows, task)
    items = scores.groupby([*key, "item"], **how)["score"].mean().groupby(key, **how)
    answers = scores.groupby(key, **how)
    mean, spread, n = items.mean(), items.var(ddof=0), items.size()
    # The effective size is at most the number of answers, even if items differ less than by chance.
    size = t_adjustment(n - 1, level) * n * mean * (1 - mean) / spread
    size = size.clip(n, answers.size()).where(spread > 0, n)
    low, high = POINTS * wilson_interval(mean, size, level)
    columns = {
        "estimate": POINTS * mean, "ci_low": low, "ci_high": high,
        "n": n, "invalid_rate": POINTS * (1 - answers["valid"].mean()),
        "truncation_rate": POINTS * answers["truncated"].mean(), "n_answers": answers.size(),
    }  # fmt: skip
    if "choice_mass" in scores:
        columns |= {name: POINTS * answers[name].mean() for name in ("accuracy", "choice_mass")}
    # Rows are grouped by task, also where scores list all tasks of one persona before the next.
    table = pd.concat(rows for _, rows in by_task(pd.DataFrame(columns).reset_index()))
    return result(table, key, metric="score", unit="points", method="Wilson, effective size")


def outcomes(scores: pd.DataFrame) -> pd.DataFrame:
    """Score answers by how they ended: for each ending, 1 for answers with it and 0 for others.

    Parameters
    ----------
    scores : rows with ``outcome``, from ``tasks.grade``.

    Returns
    -------
    Scores for `rates` and `contrasts`, for every ending that occurs in a task. ``task`` is "<task>,
    <ending>", where the ending is "refused" (as the server reported), "blocked", "empty",
    "unfinished" (reasoning that did not end) or "timed out". No rows if all requests were answered.

    Examples
    --------
    >>> scores = pd.DataFrame({"task": "mmlu", "persona": "none", "item": range(4), "valid": True,
    ...                        "truncated": False, "score": [1, 0, None, None],
    ...                        "outcome": ["answered"] * 2 + ["blocked"] * 2})
    >>> rates(outcomes(scores))[["task", "estimate"]]
                task  estimate
    0  mmlu, blocked      50.0
    """
    require_columns(scores, "scores", "persona", "task", "item", "outcome")
    parts = []
    for task, rows in scores.assign(valid=True, truncated=False).groupby("task", sort=False):
        for ending in ENDINGS:
            ended = rows["outcome"].eq(ending).astype(float)
            # An ending that never occurred would give a row of zeros for each persona.
            if ended.any():
                parts.append(rows.assign(task=f"{task}, {ending}", score=ended))
    return pd.concat(parts, ignore_index=True) if parts else scores.head(0)
