"""From the long ``scores`` table to arrays of cell means, with every check of the input in one place."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from personagap.errors import UserError

POINTS = 100.0


class Cells(NamedTuple):
    """Mean score over runs of every persona × template × item; NaN where nothing was answered."""

    mean: np.ndarray
    runs: np.ndarray
    personas: list
    templates: list
    items: np.ndarray

    def pick(self, personas: Iterable) -> "Cells":
        rows = [self.personas.index(persona) for persona in personas]
        return self._replace(mean=self.mean[rows], runs=self.runs[rows], personas=list(personas))

    def complete(self) -> "Cells":
        """Only the items that every persona answered in every template."""
        kept = np.isfinite(self.mean).all(axis=(0, 1))
        return self._replace(mean=self.mean[:, :, kept], runs=self.runs[:, :, kept], items=self.items[kept])


def checked(scores: pd.DataFrame, columns: Iterable[str] = ()) -> pd.DataFrame:
    """``scores`` with ``template`` and ``run`` filled in where absent, or a ``UserError``."""
    needed = ["persona", "task", "item", "score", *columns]
    absent = [name for name in needed if name not in scores]
    if absent:
        raise UserError(f"scores lack the column {absent[0]!r}: the columns needed are {', '.join(needed)}")
    if scores.empty:
        raise UserError("scores hold no rows: grade some responses first")
    if "model" in scores and len(models := scores["model"].unique()) > 1:
        raise UserError(f"scores mix {len(models)} models: pass those of one model at a time")
    values = scores["score"].to_numpy(dtype=float, na_value=np.nan)
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        place = int(wrong.argmax())
        raise UserError(
            f"score {values[place]} in row {place} is not in [0, 1]: drop missing scores, rescale the others"
        )
    filled = {name: filler for name, filler in (("template", "paper"), ("run", 0)) if name not in scores}
    scores = scores.assign(score=values, **filled)
    for name in ("persona", "task", "item", "template", "run", *columns):
        if scores[name].isna().any():
            raise UserError(f"{name} is missing in row {int(scores[name].isna().argmax())} of the scores: fill it in")
    return scores


def by_task(scores: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from scores.groupby("task", sort=False, observed=True)


def cells(rows: pd.DataFrame, task: str) -> Cells:
    """Cell means of one task. Counting by integer codes keeps a million rows under a second."""
    codes, shape, levels = np.zeros(len(rows), dtype=np.int64), [], []
    for name in ("persona", "template", "item", "run"):
        code, level = pd.factorize(rows[name])
        codes, shape, levels = codes * len(level) + code, [*shape, len(level)], [*levels, level]
    answers = np.bincount(codes, minlength=np.prod(shape)).reshape(shape)
    if answers.max() > 1:
        persona, template, item, run = (level[i] for level, i in zip(levels, np.argwhere(answers > 1)[0], strict=True))
        raise UserError(f"{task}: persona {persona}, template {template}, item {item}, run {run} was scored twice")
    total = np.bincount(codes, weights=rows["score"], minlength=np.prod(shape)).reshape(shape).sum(axis=3)
    runs = answers.sum(axis=3)
    mean = np.divide(total, runs, out=np.full(total.shape, np.nan), where=runs > 0)
    personas, templates, items, _ = levels
    return Cells(mean, runs, list(personas), list(templates), np.asarray(items))
