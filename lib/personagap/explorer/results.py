"""What the explorer shows of a finished run. No widgets here."""

import functools
from html import escape
from pathlib import Path

import pandas as pd
from pyarrow import parquet

from personagap import effects, personas, tasks
from personagap.datasets import load
from personagap.effects.contrasts import adjusted
from personagap.effects.paired import Task
from personagap.errors import UserError, explained
from personagap.leaving import visible
from personagap.runs.files import spared
from personagap.runs.folder import read_facts
from personagap.runs.index import runs


class Result:
    """A finished run, or one condition of it; its tables are read when they are asked for, each once."""

    def __init__(self, folder: Path, condition: str | None):
        self.folder, self.condition = folder, condition
        self.after, self.equivalent = functools.cache(self._after), functools.cache(self._equivalent)

    def kept(self, name: str, **where: list[str]) -> pd.DataFrame:
        """``scores`` or ``responses``, of the values given in ``where``; `UserError` if the run kept none."""
        path = self.folder / "tables" / f"{name}.parquet"
        if not path.exists():
            raise UserError(f"{self.folder.name} kept no {name}: its other results are under Tables.")
        where |= {"condition": [self.condition]} if self.condition else {}
        filters = [(column, "in", values) for column, values in where.items()] or None
        with explained(f"{path} is damaged", "run its notebook again"):
            return pd.read_parquet(path, filters=filters)

    @functools.cached_property
    def scores(self) -> pd.DataFrame:
        return self.kept("scores")

    @functools.cached_property
    def contrasts(self) -> pd.DataFrame:
        """Each identity against no system prompt, as the run saved it."""
        path = self.folder / "tables" / "contrasts.csv"
        if not path.exists():
            return effects.contrasts(self.scores)
        with explained(f"{path} is damaged", "run its notebook again"):
            rows = pd.read_csv(path)
        return rows[rows["condition"] == self.condition] if self.condition else rows

    def _equivalent(self, margin: float) -> pd.DataFrame:
        """``task contrast equivalent``: whether a difference is shown to lie within ``margin`` points."""
        return effects.equivalence(self.scores, margin=margin)[["task", "contrast", "equivalent"]]

    @functools.cached_property
    def category(self) -> pd.Series:
        """Persona → category of everybody in the scores, "other" for an identity of the user's own."""
        return _known().reindex(self.scores["persona"].unique()).fillna("other")

    def dimensions(self, chosen: tuple[str, ...]) -> pd.DataFrame:
        """Mean scores by dimension, over the chosen tasks."""
        return effects.rates(tasks.by_dimension(self.scores[self.scores["task"].isin(chosen)]))

    def _after(self, before: "Result") -> pd.DataFrame:
        """This run − the other for every persona they share, paired by item: the columns of `effects.contrasts`."""
        cell = ["task", "persona", "template", "item", "run", "score"]
        sides = {" before": before.scores[cell], " after": self.scores[cell]}
        both = pd.concat([scores.assign(persona=scores["persona"] + side) for side, scores in sides.items()])
        rows = []
        for name, table in both.groupby("task", sort=False):
            task = Task(name, table, cluster=None)
            for persona in before.category.index:
                weights: dict[str, float] = {f"{persona} after": 1, f"{persona} before": -1}
                if not weights.keys() <= {*task.table.personas}:
                    continue
                change = task.paired(weights)
                family = persona not in personas.CONTROLS
                rows.append({**change.row(name, f"{persona} − the first run", level=0.95), "family": family})
        if not rows:
            raise UserError("these two runs share no task and persona")
        return adjusted(pd.DataFrame(rows))

    def by_item(self, persona: str) -> pd.DataFrame:
        """``task item difference``: its mean score less the control's, in points, the largest first."""
        both = self.scores[self.scores["persona"].isin([persona, "none"])]
        means = both.pivot_table(index=["task", "item"], columns="persona", values="score").dropna()
        difference = 100 * (means[persona] - means["none"])
        return difference.sort_values(key=abs, ascending=False, kind="stable").rename("difference").reset_index()

    def answers(self, task: str, item: str, persona: str) -> str:
        """The answers to one item by an identity and by the control, as HTML in which every text is escaped."""
        where = {"task": [task], "item": [item], "persona": [persona, "none"]}
        cell = ["task", "item", "persona", "template", "run"]
        grades = self.kept("scores", **where)[[*cell, "score", "valid"]]
        rows = self.kept("responses", **where).merge(grades, how="left", on=cell)
        prompt = prompts(self.folder, task).get(item, "(the run's data are gone)")
        texts = {f"{task} · {item}: the prompt": prompt}
        for row in rows.sort_values("persona", key=lambda names: names != persona, kind="stable").itertuples():
            grade = "not graded" if pd.isna(row.score) else f"score {row.score:g}{'' if row.valid else ', unreadable'}"
            text = "(none)" if pd.isna(row.text) else row.text
            texts[f"{row.persona}, {row.template}, run {row.run}: {grade}"] = text
        style = 'dir="auto" style="white-space: pre-wrap; max-width: 60rem"'
        shown = {escape(visible(head)): escape(visible(text)) for head, text in texts.items()}
        return "".join(f"<h4>{head}</h4><pre {style}>{text}</pre>" for head, text in shown.items())


@functools.cache
def _known() -> pd.Series:
    """Persona → category of the identities that come with the project, and of the controls."""
    everybody = personas.select("all", controls=list(personas.CONTROLS))
    return everybody.set_index("persona")["category"]


@functools.cache
def prompts(folder: Path, task: str) -> dict[str, str]:
    """Item → prompt, from the data of a run; empty where they are no longer to be had."""
    facts = read_facts(folder)
    data = facts["parameters"].get("data", "demo")
    if data not in ("demo", "hub"):
        data = Path(facts["cwd"], data)  # a relative path starts where the run did
    try:
        return {item.item: tasks.prompt(item) for item in load([task], data).itertuples()}
    except UserError:
        return {}


def catalog(figures: Path) -> dict[str, Result]:
    """Every finished run with results, by a label; one that has several conditions once for each."""
    listed = {}
    for facts in runs(figures):
        path = facts["folder"] / "tables" / "scores.parquet"
        if facts["status"] != "finished" or not path.parent.exists():
            continue
        conditions = [None]
        with spared(path):
            if path.exists() and "condition" in parquet.read_schema(path).names:
                conditions = pd.read_parquet(path, columns=["condition"])["condition"].unique().tolist()
        for condition in conditions:
            label = [facts["folder"].parent.name, facts["id"], *([condition] if condition else [])]
            listed[" · ".join(label)] = Result(facts["folder"], condition)
    return listed
