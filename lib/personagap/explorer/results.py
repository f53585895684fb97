"""What the explorer shows of a finished run. No widgets here."""

import functools
from html import escape
from pathlib import Path

import pandas as pd
from pyarrow import parquet

from personagap import effects, personas, tasks
from personagap.datasets import load
from personagap.effects.contrasts import adjusted
from personagap.errors import UserError
from personagap.runs.folder import read_facts
from personagap.runs.index import runs
from personagap.runs.tables import visible


class Result:
    """A finished run, or one condition of it; its tables are read when they are asked for."""

    def __init__(self, folder: Path, condition: str | None):
        self.folder, self.condition = folder, condition
        self.after = functools.cache(self._after)

    def kept(self, name: str) -> pd.DataFrame:
        """``scores`` or ``responses``; `UserError` if the run kept none."""
        path = self.folder / "tables" / f"{name}.parquet"
        if not path.exists():
            raise UserError(f"{self.folder.name} kept no {name}: its other results are under Tables.")
        rows = pd.read_parquet(path)
        return rows if self.condition is None else rows[rows["condition"] == self.condition]

    @functools.cached_property
    def scores(self) -> pd.DataFrame:
        return self.kept("scores")

    @functools.cached_property
    def contrasts(self) -> pd.DataFrame:
        """Each identity against no system prompt."""
        return effects.contrasts(self.scores)

    @functools.cached_property
    def category(self) -> pd.Series:
        """Persona → category of everybody in the scores, "other" for an identity of the user's own."""
        known = personas.select("all").set_index("persona")["category"]
        return known.reindex(self.scores["persona"].unique()).fillna("other")

    def dimensions(self, chosen: tuple[str, ...]) -> pd.DataFrame:
        """Mean scores by dimension, over the chosen tasks."""
        return effects.rates(tasks.by_dimension(self.scores[self.scores["task"].isin(chosen)]))

    def _after(self, before: "Result") -> pd.DataFrame:
        """This run − the other for every persona they share, paired by item: the columns of `effects.contrasts`."""
        sides = [run.scores.drop(columns="model").set_index(["task", "persona"]) for run in (before, self)]
        both = [side[side.index.isin(other.index)] for side, other in (sides, sides[::-1])]
        rows = pd.concat(both, keys=["none", "after"], names=["side"]).reset_index()
        if rows.empty:
            raise UserError("these two runs share no task and persona")
        cells = rows["task"] + "\n" + rows["persona"]  # a persona's own scores before are its control
        found = effects.contrasts(rows.assign(task=cells, persona=rows["side"]))
        found[["task", "persona"]] = found["task"].str.split("\n", expand=True)
        found["contrast"] = found["persona"] + " − the first run"
        return adjusted(found.assign(family=~found["persona"].isin(personas.CONTROLS)))

    def by_item(self, persona: str) -> pd.DataFrame:
        """``task item difference``: its mean score less the control's, in points, the largest first."""
        both = self.scores[self.scores["persona"].isin([persona, "none"])]
        means = both.pivot_table(index=["task", "item"], columns="persona", values="score").dropna()
        difference = 100 * (means[persona] - means["none"])
        return difference.sort_values(key=abs, ascending=False, kind="stable").rename("difference").reset_index()

    @functools.cached_property
    def prompts(self) -> dict[tuple[str, str], str]:
        """Task and item → prompt, from the run's data; empty where they are no longer to be had."""
        try:
            items = load(data=read_facts(self.folder)["parameters"].get("data", "demo"))
        except UserError:
            return {}
        return {(item.task, item.item): tasks.prompt(item) for item in items.itertuples()}

    def answers(self, task: str, item: str, persona: str) -> str:
        """The answers to one item by an identity and by the control, as HTML in which every text is escaped."""
        cell = ["task", "item", "persona", "template", "run"]
        rows = self.kept("responses").query("task == @task and item == @item and persona in [@persona, 'none']")
        rows = rows.merge(self.scores[[*cell, "score", "valid"]], how="left", on=cell)
        texts = {f"{task} · {item}: the prompt": self.prompts.get((task, item), "(the run's data are gone)")}
        for row in rows.sort_values("persona", key=lambda names: names != persona, kind="stable").itertuples():
            grade = "not graded" if pd.isna(row.score) else f"score {row.score:g}{'' if row.valid else ', unreadable'}"
            texts[f"{row.persona}, {row.template}, run {row.run}: {grade}"] = (
                "(none)" if pd.isna(row.text) else row.text
            )
        style = 'dir="auto" style="white-space: pre-wrap; max-width: 60rem"'
        return "".join(
            f"<h4>{escape(visible(head))}</h4><pre {style}>{escape(visible(text))}</pre>"
            for head, text in texts.items()
        )


def catalog(figures: Path) -> dict[str, Result]:
    """Every finished run with results, by a label; one that has several conditions once for each."""
    listed = {}
    for facts in runs(figures):
        path = facts["folder"] / "tables" / "scores.parquet"
        if facts["status"] != "finished" or not path.parent.exists():
            continue
        conditions = [None]
        if path.exists() and "condition" in parquet.read_schema(path).names:
            conditions = pd.read_parquet(path, columns=["condition"])["condition"].unique().tolist()
        for condition in conditions:
            label = [facts["folder"].parent.name, facts["id"], *([condition] if condition else [])]
            listed[" · ".join(label)] = Result(facts["folder"], condition)
    return listed
