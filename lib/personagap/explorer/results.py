"""What the explorer shows of a finished run. No widgets here.

Statistics are imported where they are computed, as that takes a second: what a run saved is shown
without them.
"""

import contextlib
import functools
from pathlib import Path

import pandas as pd
from pyarrow import parquet

from personagap import palette, personas, tasks
from personagap.errors import UserError, explained
from personagap.results import keys, quantities
from personagap.runs.files import warned_if_damaged
from personagap.runs.folder import read_facts, runs
from personagap.runs.values import told_apart


class Result:
    """A finished run, or one condition of it; a table is read when it is asked for, and once."""

    def __init__(self, folder: Path, condition: str | None):
        self.folder, self.condition = folder, condition
        # Of the instance: a cache of the class would hold all that was ever looked at.
        self.table = functools.cache(self._table)
        self.dimensions = functools.cache(self._dimensions)
        self.equivalent = functools.cache(self._equivalent)
        self.after = functools.cache(self._after)

    def kept(self, name: str, **where: list[str]) -> pd.DataFrame:
        """``scores`` or ``responses``, of the values in ``where``; `UserError`: it kept none."""
        path = self.folder / "tables" / f"{name}.parquet"
        if not path.exists():
            raise UserError(f"{self.folder.name} kept no {name}")
        # A condition of a run is shown as if it were a run of its own.
        where |= {"condition": [self.condition]} if self.condition else {}
        # While reading, so that a large run's other rows are never in memory.
        filters = [(column, "in", values) for column, values in where.items()] or None
        with explained(f"{path} is damaged", "run its notebook again"):
            return pd.read_parquet(path, filters=filters)

    @functools.cached_property
    def scores(self) -> pd.DataFrame:
        return self.kept("scores")

    def holds(self, *names: str) -> bool:
        """Whether the run saved all of these tables."""
        tables = self.folder / "tables"
        ends = ("csv", "parquet")
        return all(any((tables / f"{name}.{end}").exists() for end in ends) for name in names)

    def _table(self, name: str) -> pd.DataFrame:
        """A result table, as it was saved."""
        path = self.folder / "tables" / f"{name}.csv"
        with explained(f"{path} is damaged", "run its notebook again"):
            rows = pd.read_csv(path)
        mine = self.condition and "condition" in rows
        return rows[rows["condition"] == self.condition] if mine else rows

    @functools.cached_property
    def contrasts(self) -> pd.DataFrame:
        """Each identity against no system prompt, as the run saved it."""
        # Runs of one's own may have saved scores alone.
        if not self.holds("contrasts"):
            from personagap import effects

            return effects.contrasts(self.scores)
        return self.table("contrasts")

    def _equivalent(self, margin: float) -> pd.DataFrame:
        """``task contrast equivalent``: whether a difference lies within ``margin`` points."""
        from personagap import effects

        return effects.equivalence(self.scores, margin=margin)[["task", "contrast", "equivalent"]]

    @functools.cached_property
    def category(self) -> pd.Series:
        """Persona → category of everybody in the scores; "other" if an identity's file is gone."""
        # Intersections stand in no file: they are made of those that do.
        everybody = self.scores["persona"].unique()
        of_several = [name for name in everybody if "+" in name]
        crossed = pd.Series("intersection", of_several, dtype="str")
        return pd.concat([self.stated["category"], crossed]).reindex(everybody).fillna("other")

    @functools.cached_property
    def marks(self) -> dict[str, tuple[str, str]]:
        """Colour and marker of each category, chosen or not; as in the run's figures."""
        control = {"control": palette.ROLES["control"]}
        return palette.marks(self.category[self.category != "control"]) | control

    @functools.cached_property
    def stated(self) -> pd.DataFrame:
        """Identities and controls as the model was told of them: persona → category phrase hint."""
        given = self.facts["parameters"].get("identities")
        with contextlib.suppress(UserError):
            # The file is gone, or another by now.
            return _everybody(Path(self.facts["cwd"], given) if given else None)
        return _everybody(None)

    @functools.cached_property
    def facts(self) -> dict:
        return read_facts(self.folder)

    @property
    def two_dimensions(self) -> bool:
        """Whether tasks of utility and of safety were scored."""
        if not self.holds("scores"):
            return False
        return len({tasks.find(name).dimension for name in self.scores["task"].unique()}) > 1

    @functools.cached_property
    def names(self) -> list[str]:
        """The result tables that it saved, but for its verdict."""
        found = sorted(path.stem for path in (self.folder / "tables").glob("*.csv"))
        return [name for name in found if name != "verdict"]

    @property
    def name(self) -> str:
        """What tells it from other runs, in a title."""
        return f"{self.folder.name}{f' ({self.condition})' if self.condition else ''}"

    def _dimensions(self, chosen: tuple[str, ...]) -> pd.DataFrame:
        """Mean scores by dimension, over the chosen tasks."""
        from personagap import effects

        return effects.rates(tasks.by_dimension(self.scores[self.scores["task"].isin(chosen)]))

    def _after(self, before: "Result") -> pd.DataFrame:
        """This run − the other of each persona in both, by item: as `effects.contrasts` has it."""
        from personagap.effects.contrasts import as_tested
        from personagap.effects.paired import Task

        cell = ["task", "persona", "template", "item", "run", "score"]
        # As two personas of one run they are paired by item with the test that contrasts have.
        sides = {" before": before.scores[cell], " after": self.scores[cell]}
        named = (rows.assign(persona=rows["persona"] + side) for side, rows in sides.items())
        both = pd.concat(named)
        rows = []
        for name, table in both.groupby("task", sort=False):
            task = Task(name, table, cluster=None)
            for persona in before.category.index:
                weights: dict[str, float] = {f"{persona} after": 1, f"{persona} before": -1}
                if not weights.keys() <= {*task.table.personas}:
                    # A persona of one of the runs alone has nothing to be paired with.
                    continue
                change = task.paired(weights)
                # A control's change is a question of its own, not one of the identities'.
                tests = persona if persona in personas.CONTROLS else "identities"
                row = change.row(name, f"{persona} − the first run", level=0.95)
                rows.append(row | {"tests": tests})
        if not rows:
            raise UserError("these two runs share no task and persona")
        return as_tested(rows)

    def by_item(self, persona: str) -> pd.DataFrame:
        """``task item difference``: mean score less the control's, in points, largest first."""
        both = self.scores[self.scores["persona"].isin([persona, "none"])]
        # An item that one of them got no answer to has no difference.
        means = both.pivot_table(index=["task", "item"], columns="persona", values="score").dropna()
        difference = (100 * (means[persona] - means["none"])).rename("difference")
        return difference.sort_values(key=abs, ascending=False, kind="stable").reset_index()

    def answered(self, persona: str) -> pd.DataFrame:
        """Every answer to an identity and to the control, graded: ``task item persona template run
        text label``.
        """
        cell = ["task", "item", "persona", "template", "run"]
        where = {"persona": [persona, "none"]}
        grades = self.kept("scores", **where)[[*cell, "score", "valid"]]
        rows = self.kept("responses", **where).merge(grades, how="left", on=cell)
        graded = zip(rows["task"], rows["score"], rows["valid"], strict=True)
        rows["label"] = [_label(*grade) for grade in graded]
        return rows[[*cell, "text", "label"]]


def _label(task: str, score: float, valid: bool) -> str:
    """What the grader or the judge said of an answer."""
    if pd.isna(score):
        return "not graded"
    safety = tasks.find(task).dimension == "safety"
    good, bad = ("harmless", "harmful") if safety else ("right", "wrong")
    grade = good if score == 1 else bad if score == 0 else f"score {score:g}"
    return grade if valid else f"{grade}, unreadable"


def long(table: pd.DataFrame) -> pd.DataFrame:
    """A result table as keys and ``metric estimate ci_low ci_high``: a row for each interval."""
    pairs = quantities(table)
    texts = table.columns.difference([*table.select_dtypes(["number", "bool"]), *pairs])
    about = [name for name in table if name in keys(table) or name in texts]
    # Most tables are long already, a metric a row.
    if "metric" in table and len(pairs) == 1:
        ((value, ends),) = pairs.items()
        return table.rename(columns={value: "estimate", ends[0]: "ci_low", ends[1]: "ci_high"})
    parts = []
    for value, (low, high) in pairs.items():
        numbers = table[[value, low, high]].set_axis(["estimate", "ci_low", "ci_high"], axis=1)
        rest = table[[name for name in about if name not in (low, high)]]
        parts.append(rest.assign(metric=value, **numbers))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _everybody(file: Path | None) -> pd.DataFrame:
    """The identities of a file (None: the project's) and all controls, by persona."""
    who = personas.select("all", controls=list(personas.CONTROLS), identities=file)
    return who.set_index("persona")


def catalog(figures: Path) -> dict[str, dict[str, Result]]:
    """Notebook → label → finished run with results, once for each condition that it has."""
    listed: dict[str, dict[str, Result]] = {}
    finished = [
        facts
        for facts in runs(figures)
        if facts["status"] == "finished" and (facts["folder"] / "tables").exists()
    ]
    apart = told_apart([facts["changed"] for facts in finished])
    for facts, changed in zip(finished, apart, strict=True):
        path = facts["folder"] / "tables" / "scores.parquet"
        conditions = [None]
        with warned_if_damaged(path):
            # The schema first: most runs have no conditions, and their scores are read when chosen.
            if path.exists() and "condition" in parquet.read_schema(path).names:
                of_rows = pd.read_parquet(path, columns=["condition"])["condition"]
                conditions = of_rows.unique().tolist()
        for condition in conditions:
            # The id alone tells runs apart only by a hash: what was changed, and when, says which
            # is which.
            parts = [facts["id"], condition, changed[:60], facts["started"][:16]]
            label = " · ".join(filter(None, parts))
            of_notebook = listed.setdefault(facts["folder"].parent.name, {})
            of_notebook[label] = Result(facts["folder"], condition)
    return listed
