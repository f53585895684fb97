"""Arrays of cell means from the long ``scores`` table; all checks of the input are made here."""

import warnings
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from personagap.effects.anova import impute_additive
from personagap.errors import UserError, expect
from personagap.results import factorized, require_columns
from personagap.schema import CONTROLS, NONRESPONSE

POINTS = 100.0
#: Differences of scores below this size are rounding errors: the mean of equal scores is not exact.
ROUNDING = 1e-12
#: Scores this far outside [0, 1] are accepted: they were computed or stored in single precision.
SCORE_TOLERANCE = 1e-6
#: Identities that answered less than this share of the median identity's items are excluded from
#: PB. A mean over so few answers has an error that their spread cannot estimate: with a tenth of 60
#: items, 14 % of null data sets have p ≤ .05.
MIN_ANSWERED = 1 / 3


class Cells(NamedTuple):
    """Cell statistics of one task, as persona × template × item arrays.

    ``mean`` is the mean score over runs (NaN where there is no answer), ``runs`` the number of
    runs and ``within`` the sum of squares Σ (score − mean)². ``clusters`` holds the cluster code of
    each item, counted from 0; without clusters every item has a code of its own.
    """

    mean: np.ndarray
    runs: np.ndarray
    within: np.ndarray
    personas: list
    templates: list
    items: np.ndarray
    clusters: np.ndarray

    @property
    def binary(self) -> bool:
        """Whether every score is 0 or 1, that is, equal to its square."""
        answered = self.runs > 0
        squares, total = self.within + self.runs * self.mean**2, self.runs * self.mean
        return bool(np.allclose(squares[answered], total[answered], rtol=0, atol=1e-9))

    def impute_gaps(self, task: str) -> "Cells":
        """Return the cells with gaps filled within each template by `anova.impute_additive`.

        Items that half of the personas or more did not answer are dropped, with a warning.
        """
        # When more than half of the personas answered every item, any two personas share items;
        # otherwise the additive fit would not be determined.
        kept = (np.isfinite(self.mean).mean(axis=0) > 0.5).all(axis=0)
        names = ("mean", "runs", "within", "items")
        arrays = {name: getattr(self, name)[..., kept] for name in names}
        arrays["clusters"] = pd.factorize(self.clusters[kept])[0]
        if dropped := int((~kept).sum()):
            reason = "half of the personas lack answers to them"
            message = f"{task}: {dropped} of {len(kept)} items are left out, {reason}"
            warnings.warn(message, stacklevel=5)
        mean, answered = arrays["mean"].copy(), arrays["runs"].any(axis=2)
        if kept.any() and not answered.all():
            persona, template = np.argwhere(~answered)[0]
            where = f"template {self.templates[template]}"
            raise UserError(f"{task}: {self.personas[persona]} has no answers in {where}")
        for template in range(mean.shape[1] if kept.any() else 0):
            mean[:, template] = impute_additive(mean[:, template])
        return self._replace(**arrays | {"mean": mean})

    @property
    def n_missing(self) -> int:
        """Number of cells without an answer."""
        return int((self.runs == 0).sum())


def validate_scores(scores: pd.DataFrame, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Return the valid ``scores``, with ``template`` and ``run`` added where absent.

    Rows of nonresponse are dropped. ``columns`` are required in addition to the usual ones.

    Raises
    ------
    UserError : a column or value is missing, a score is outside [0, 1], or models are mixed.
    """
    require_columns(scores, "scores", "persona", "task", "item", "score", *columns)
    # A row with an outcome in place of a score is counted by `outcomes`; a score that is missing
    # without an outcome is a mistake, reported below.
    if "outcome" in scores:
        scores = scores[scores["score"].notna() | ~scores["outcome"].isin(NONRESPONSE)]
    if scores.empty:
        raise UserError("scores hold no rows: grade some responses first")
    # Otherwise the answers of two models would be averaged as if they were runs of one.
    if "model" in scores and len(models := scores["model"].unique()) > 1:
        raise UserError(f"scores mix {len(models)} models: pass those of one model at a time")
    original = scores["score"]
    values = pd.to_numeric(original, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    invalid = ~((values >= -SCORE_TOLERANCE) & (values <= 1 + SCORE_TOLERANCE))
    if invalid.any():
        row = int(invalid.argmax())
        remedy = "drop missing scores, rescale the others"
        raise UserError(f"score {original.iloc[row]} in row {row} is not in [0, 1]: {remedy}")
    defaults = {"template": "paper", "run": 0}
    added = {name: defaults[name] for name in defaults if name not in scores}
    scores = scores.assign(score=values.clip(0, 1), **added)
    for name in ("persona", "task", "item", "template", "run", *columns):
        if (missing := scores[name].isna()).any():
            row = int(missing.argmax())
            raise UserError(f"{name} is missing in row {row} of the scores: fill it in")
    return scores


def nonresponders(scores: pd.DataFrame) -> dict[str, set[str]]:
    """Task → personas with nonresponse, whose missing answers are not the user's mistake."""
    if "outcome" not in scores:
        return {}
    nonresponding = scores[scores["score"].isna() & scores["outcome"].isin(NONRESPONSE)]
    personas_by_task = nonresponding.groupby("task", observed=True)["persona"]
    return {task: set(personas) for task, personas in personas_by_task}


def cell_means_of_responders(
    rows: pd.DataFrame, task: str, nonresponding: Collection[str], cluster: str | None = None
) -> Cells:
    """Return the `cells` of a task, without personas that answered too few items.

    ``nonresponding`` personas may have no answer at all; those excluded are named in a warning.
    """
    table = cells(rows, task, cluster)
    answered = (table.runs > 0).sum(axis=2).min(axis=1)
    excused = np.array([persona in nonresponding for persona in table.personas])
    # A persona that was never asked and has no nonresponse is a gap in the design, which
    # `impute_gaps` reports as an error.
    too_few = (answered < MIN_ANSWERED * np.median(answered)) & ((answered > 0) | excused)
    excluded = too_few | ((answered < 2) & excused)
    few = sorted(name for name, out in zip(table.personas, excluded, strict=True) if out)
    if dropped := [*few, *sorted(set(nonresponding) - set(table.personas))]:
        who, few_items = ", ".join(map(str, dropped)), f"less than {MIN_ANSWERED:.0%} of the items"
        message = f"{task}: {who} left out, with answers to {few_items} that others answered"
        warnings.warn(message, stacklevel=5)
    return cells(rows[~rows["persona"].isin(few)], task, cluster) if few else table


def make_groups(
    personas: Iterable[str], control: str, by: Mapping[str, str] | None
) -> dict[str, list[str]]:
    """Group → its identities. Without ``by`` each identity is a group of its own.

    Controls, and identities that ``by`` does not name, are left out.
    """
    if by is not None and not isinstance(by, Mapping):
        raise UserError(f"by is a {type(by).__name__}: give a dictionary, persona → group")
    groups: dict[str, list[str]] = {}
    identities = [name for name in personas if name != control and name not in CONTROLS]
    for persona in identities:
        if by is None or persona in by:
            name = persona if by is None else group_name(by, persona)
            groups.setdefault(name, []).append(persona)
    # Otherwise only the other controls would be compared, without notice.
    if identities and not groups:
        names = ", ".join(map(str, identities))
        raise UserError(f"by names no identity of the scores: there are {names}")
    return groups


def group_name(by: Mapping[Any, Any], persona: Hashable) -> Any:
    """Return the group of a persona; `UserError` if its name is missing or not hashable."""
    name = by[persona]
    valid = isinstance(name, Hashable) and not pd.isna(name)
    expect(valid, "the name of a group, or leave the identity out", **{f"by[{persona!r}]": name})
    return name


def by_task(scores: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each task with its rows, in order of appearance."""
    # A table of a single task may be long and is not copied.
    codes, tasks = factorized(scores["task"])
    for code, task in enumerate(tasks):
        yield task, scores[codes == code] if len(tasks) > 1 else scores


def require_unique(rows: pd.DataFrame, task: str) -> None:
    """Raise `UserError` if an answer occurs twice: it would be counted as a further run."""
    key = ["persona", "template", "item", "run"]
    if (repeated := rows.duplicated(key).to_numpy()).any():
        answer = ", ".join(f"{name} {rows[name].iloc[repeated.argmax()]}" for name in key)
        problem = f"{answer} was scored twice: keep one of the two, or tell them apart by run"
        raise UserError(f"{task}: {problem}")


def cells(rows: pd.DataFrame, task: str, cluster: str | None = None) -> Cells:
    """Return the cell statistics of one task.

    Counting by integer codes takes less than a second for a million rows.
    """
    codes, shape = np.zeros(len(rows), dtype=np.int64), []
    levels: list[pd.Index] = []
    for name in ("persona", "template", "item", "run"):
        code, level = factorized(rows[name])
        codes = codes * len(level) + code
        shape.append(len(level))
        levels.append(level)
    # The arrays are dense: designs are crossed, so hardly any cell is empty.
    answers = np.bincount(codes, minlength=np.prod(shape)).reshape(shape)
    if answers.max(initial=0) > 1:
        require_unique(rows, task)
    runs, score = answers.sum(axis=3), rows["score"].to_numpy()
    total, squares = (
        np.bincount(codes, weights=values, minlength=np.prod(shape)).reshape(shape).sum(axis=3)
        for values in (score, score**2)
    )
    mean = np.divide(total, runs, out=np.full(total.shape, np.nan), where=runs > 0)
    personas, templates, items = list(levels[0]), list(levels[1]), np.asarray(levels[2])
    clusters = cluster_codes(rows, cluster, items, task)
    return Cells(mean, runs, squares - runs * mean**2, personas, templates, items, clusters)


def identity_cells(scores: pd.DataFrame, cluster: str | None = None) -> dict[str, Cells]:
    """Task → cells of its identities, for items that most answered, with gaps imputed."""
    answered, tasks, problem = validate_scores(scores, [cluster] if cluster else []), {}, ""
    nonresponders_of, scores = nonresponders(scores), answered[~answered["persona"].isin(CONTROLS)]
    if scores.empty:
        raise UserError(f"scores hold no identities beside the controls {', '.join(CONTROLS)}")
    for task, rows in by_task(scores):
        nonresponding = nonresponders_of.get(task, set()) - set(CONTROLS)
        table = cell_means_of_responders(rows, task, nonresponding, cluster)
        if len(table.personas) < 2:
            reason = "personalization bias needs two identities, the scores hold one"
            problem = f"{task}: {reason}: compare it with the control (effects.contrasts)"
        elif len((table := table.impute_gaps(task)).items) < 2:
            reason = f"{len(table.items)} items were answered by most identities in all templates"
            problem = f"{task}: {reason}; 2 are needed"
        elif table.clusters.max() == 0:
            problem = f"{task}: all items lie in one cluster of {cluster!r}; 2 are needed"
        else:
            tasks[task] = table
            continue
        # Too few answers are the user's mistake, unless the models gave none.
        if not nonresponding:
            raise UserError(problem)
        why = "for most of its answers say nothing"
        warnings.warn(f"{problem}; so the task is left out, {why}", stacklevel=4)
    if not tasks:
        raise UserError(problem)
    return tasks


def cluster_codes(
    rows: pd.DataFrame, cluster: str | None, items: np.ndarray, task: str
) -> np.ndarray:
    """Return the cluster code of each of ``items``; without ``cluster`` each item is one."""
    if not cluster:
        return np.arange(len(items))
    of_item = rows[["item", cluster]].drop_duplicates().set_index("item")[cluster]
    if of_item.index.has_duplicates:
        item = of_item.index[of_item.index.duplicated()][0]
        reason = "clusters hold whole items"
        raise UserError(f"{task}: item {item} lies in several clusters of {cluster!r}; {reason}")
    return pd.factorize(of_item.loc[items])[0]
