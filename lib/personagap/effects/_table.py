"""From the long ``scores`` table to arrays of cells, with every check of the input in one place."""

import warnings
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from personagap.effects.anova import imputed
from personagap.errors import UserError, expect
from personagap.models.answers import NONRESPONSE
from personagap.personas import CONTROLS
from personagap.results import factorized, require

POINTS = 100.0
#: A difference of scores that is smaller is one of rounding: equal scores have no exact mean.
ROUNDING = 1e-12
#: So far beyond 0 or 1 a score may lie that was computed, or written, in single precision.
WRITTEN = 1e-6
#: Of the items that the median identity answered: an identity with fewer has no part in PB. Its
#: mean would rest on so few answers that their spread does not tell its error: with a tenth of 60
#: items 14 % of null data sets have p ≤ .05.
MIN_ANSWERED = 1 / 3


class Cells(NamedTuple):
    """Every persona × template × item: mean score over runs (NaN where not answered), runs, Σ
    (score − mean)².

    ``clusters`` are the codes of those that ``items`` lie in, counted from 0; each its own where
    none were named.
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
        """Whether every score is 0 or 1: then its square is itself."""
        answered = self.runs > 0
        squares, total = self.within + self.runs * self.mean**2, self.runs * self.mean
        return bool(np.allclose(squares[answered], total[answered], rtol=0, atol=1e-9))

    def filled(self, task: str) -> "Cells":
        """Without gaps: see `anova.imputed`, by template. Items that half of the personas lack are
        left out.
        """
        # More than half each, so any two personas share items, without which the additive fit is
        # not determined.
        kept = (np.isfinite(self.mean).mean(axis=0) > 0.5).all(axis=0)
        names = ("mean", "runs", "within", "items")
        arrays = {name: getattr(self, name)[..., kept] for name in names}
        arrays["clusters"] = pd.factorize(self.clusters[kept])[0]
        if dropped := int((~kept).sum()):
            warnings.warn(
                f"{task}: {dropped} of {len(kept)} items are left out, half of the personas "
                "lack answers to them",
                stacklevel=5,
            )
        mean, asked = arrays["mean"].copy(), arrays["runs"].any(axis=2)
        if kept.any() and not asked.all():
            persona, template = np.argwhere(~asked)[0]
            raise UserError(
                f"{task}: {self.personas[persona]} has no answers in template "
                f"{self.templates[template]}"
            )
        for template in range(mean.shape[1] if kept.any() else 0):
            mean[:, template] = imputed(mean[:, template])
        return self._replace(**arrays | {"mean": mean})

    @property
    def missing(self) -> int:
        """How many cells were not answered."""
        return int((self.runs == 0).sum())


def checked(scores: pd.DataFrame, columns: Iterable[str] = ()) -> pd.DataFrame:
    """``scores`` with ``template`` and ``run`` filled in where absent, or a ``UserError``."""
    require(scores, "scores", "persona", "task", "item", "score", *columns)
    # What has an outcome in place of a score is counted by `outcomes`; a score that is missing
    # without one is a mistake, and told below.
    if "outcome" in scores:
        scores = scores[scores["score"].notna() | ~scores["outcome"].isin(NONRESPONSE)]
    if scores.empty:
        raise UserError("scores hold no rows: grade some responses first")
    # Or answers of two models would be averaged, as runs of one.
    if "model" in scores and len(models := scores["model"].unique()) > 1:
        raise UserError(f"scores mix {len(models)} models: pass those of one model at a time")
    given = scores["score"]
    values = pd.to_numeric(given, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    wrong = ~((values >= -WRITTEN) & (values <= 1 + WRITTEN))
    if wrong.any():
        place = int(wrong.argmax())
        remedy = "drop missing scores, rescale the others"
        raise UserError(f"score {given.iloc[place]} in row {place} is not in [0, 1]: {remedy}")
    fillers = {"template": "paper", "run": 0}
    filled = {name: fillers[name] for name in fillers if name not in scores}
    scores = scores.assign(score=values.clip(0, 1), **filled)
    for name in ("persona", "task", "item", "template", "run", *columns):
        if scores[name].isna().any():
            raise UserError(
                f"{name} is missing in row {int(scores[name].isna().argmax())} of the scores: "
                "fill it in"
            )
    return scores


def nonresponders(scores: pd.DataFrame) -> dict[str, set[str]]:
    """Task → personas with nonresponse: what is missing of these is no mistake of the user's."""
    if "outcome" not in scores:
        return {}
    nonresponding = scores[scores["score"].isna() & scores["outcome"].isin(NONRESPONSE)]
    by_task = nonresponding.groupby("task", observed=True)["persona"]
    return {task: set(personas) for task, personas in by_task}


def responder_cells(
    rows: pd.DataFrame, task: str, nonresponding: Collection[str], cluster: str | None = None
) -> Cells:
    """`cells` of a task without personas that answered too few items: of ``nonresponding`` ones
    perhaps none.
    """
    table = cells(rows, task, cluster)
    asked = (table.runs > 0).sum(axis=2).min(axis=1)
    excused = np.array([persona in nonresponding for persona in table.personas])
    # One who was never asked and has no nonresponse is a gap in the design, which `filled` tells as
    # an error.
    too_few = (asked < MIN_ANSWERED * np.median(asked)) & ((asked > 0) | excused)
    out = too_few | ((asked < 2) & excused)
    few = sorted(persona for persona, left in zip(table.personas, out, strict=True) if left)
    if dropped := [*few, *sorted(set(nonresponding) - set(table.personas))]:
        who, few_items = ", ".join(map(str, dropped)), f"less than {MIN_ANSWERED:.0%} of the items"
        told = f"{task}: {who} left out, with answers to {few_items} that others answered"
        warnings.warn(told, stacklevel=5)
    return cells(rows[~rows["persona"].isin(few)], task, cluster) if few else table


def grouped(
    personas: Iterable[str], control: str, by: Mapping[str, str] | None
) -> dict[str, list[str]]:
    """Group → its identities; without ``by`` each is one. What ``by`` does not name is left out."""
    if by is not None and not isinstance(by, Mapping):
        raise UserError(f"by is a {type(by).__name__}: give a dictionary, persona → group")
    groups: dict[str, list[str]] = {}
    identities = [name for name in personas if name != control and name not in CONTROLS]
    for persona in identities:
        if by is None or persona in by:
            groups.setdefault(persona if by is None else group(by, persona), []).append(persona)
    # Or only the other controls would be compared, without a word.
    if identities and not groups:
        known = ", ".join(map(str, identities))
        raise UserError(f"by names no identity of the scores: there are {known}")
    return groups


def group(by: Mapping[Any, Any], persona: Hashable) -> Any:
    """What ``by`` names the group of a persona; a missing name would be a group of its own."""
    named = isinstance(name := by[persona], Hashable) and not pd.isna(name)
    expect(named, "the name of a group, or leave the identity out", **{f"by[{persona!r}]": name})
    return name


def by_task(scores: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    # In the order in which they come; a table of one task, which may be long, is not copied.
    codes, tasks = factorized(scores["task"])
    for code, task in enumerate(tasks):
        yield task, scores[codes == code] if len(tasks) > 1 else scores


def scored_once(rows: pd.DataFrame, task: str) -> None:
    """`UserError` for an answer that is there twice: it would pass for another run."""
    key = ["persona", "template", "item", "run"]
    if (twice := rows.duplicated(key).to_numpy()).any():
        told = ", ".join(f"{name} {rows[name].iloc[twice.argmax()]}" for name in key)
        problem = f"{told} was scored twice: keep one of the two, or tell them apart by run"
        raise UserError(f"{task}: {problem}")


def cells(rows: pd.DataFrame, task: str, cluster: str | None = None) -> Cells:
    """Cell means of one task. Counting by integer codes keeps a million rows under a second."""
    codes, shape = np.zeros(len(rows), dtype=np.int64), []
    levels: list[pd.Index] = []
    for name in ("persona", "template", "item", "run"):
        code, level = factorized(rows[name])
        codes = codes * len(level) + code
        shape.append(len(level))
        levels.append(level)
    # Dense over all cells, also those not asked: designs are crossed, so hardly any is empty.
    answers = np.bincount(codes, minlength=np.prod(shape)).reshape(shape)
    if answers.max(initial=0) > 1:
        scored_once(rows, task)
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
    """Task → its identities, the items that most answered in all templates, gaps filled."""
    given, tasks, problem = scores, {}, ""
    scores = checked(scores, [cluster] if cluster else [])
    absent, scores = nonresponders(given), scores[~scores["persona"].isin(CONTROLS)]
    if scores.empty:
        raise UserError(f"scores hold no identities beside the controls {', '.join(CONTROLS)}")
    for task, rows in by_task(scores):
        nonresponding = absent.get(task, set()) - set(CONTROLS)
        table = responder_cells(rows, task, nonresponding, cluster)
        if len(table.personas) < 2:
            one = "personalization bias needs two identities, the scores hold one"
            problem = f"{task}: {one}: compare it with the control (effects.contrasts)"
        elif len((table := table.filled(task)).items) < 2:
            many = f"{len(table.items)} items were answered by most identities in all templates"
            problem = f"{task}: {many}; 2 are needed"
        elif table.clusters.max() == 0:
            problem = f"{task}: all items lie in one cluster of {cluster!r}; 2 are needed"
        else:
            tasks[task] = table
            continue
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
    """The cluster of each of ``items``, counted from 0; without ``cluster`` every item is one."""
    if not cluster:
        return np.arange(len(items))
    of_item = rows[["item", cluster]].drop_duplicates().set_index("item")[cluster]
    if of_item.index.has_duplicates:
        item = of_item.index[of_item.index.duplicated()][0]
        reason = "clusters hold whole items"
        raise UserError(f"{task}: item {item} lies in several clusters of {cluster!r}; {reason}")
    return pd.factorize(of_item.loc[items])[0]
