"""The data that the explorer shows of finished runs, without any widgets.

Statistics are imported inside functions, because that takes a second, and what a run saved can be
shown without them.
"""

import contextlib
import functools
from pathlib import Path

import pandas as pd
from pyarrow import parquet

from personagap import palette, personas, tasks
from personagap.errors import UserError, explained
from personagap.results import interval_columns, key_columns
from personagap.runs.files import warned_if_damaged
from personagap.runs.folder import read_facts, runs
from personagap.runs.values import label_changes


class Result:
    """A finished run, or one condition of it; tables are read on first use and cached."""

    def __init__(self, folder: Path, condition: str | None):
        self.folder, self.condition = folder, condition
        # Caches belong to the instance, since those of the class would keep every result alive.
        self.table = functools.cache(self._table)
        self.dimensions = functools.cache(self._dimensions)
        self.equivalent = functools.cache(self._equivalent)
        self.after = functools.cache(self._after)

    def read_rows(self, name: str, **where: list[str]) -> pd.DataFrame:
        """Return the rows of ``scores`` or ``responses`` with values in ``where``.

        `UserError` if the run did not save that table, or if it is damaged.
        """
        path = self.folder / "tables" / f"{name}.parquet"
        if not path.exists():
            raise UserError(f"{self.folder.name} kept no {name}")
        # A condition of a run is shown like a run of its own.
        where |= {"condition": [self.condition]} if self.condition else {}
        # Filtered while reading, so that other rows of a large run are never in memory
        filters = [(column, "in", values) for column, values in where.items()] or None
        with explained(f"{path} is damaged", "run its notebook again"):
            return pd.read_parquet(path, filters=filters)

    @functools.cached_property
    def scores(self) -> pd.DataFrame:
        return self.read_rows("scores")

    def has(self, *names: str) -> bool:
        """Return whether the run saved all of these tables."""
        tables = self.folder / "tables"
        ends = ("csv", "parquet")
        return all(any((tables / f"{name}.{end}").exists() for end in ends) for name in names)

    def _table(self, name: str) -> pd.DataFrame:
        """Return a result table as it was saved."""
        path = self.folder / "tables" / f"{name}.csv"
        with explained(f"{path} is damaged", "run its notebook again"):
            rows = pd.read_csv(path)
        filtered = self.condition and "condition" in rows
        return rows[rows["condition"] == self.condition] if filtered else rows

    @functools.cached_property
    def contrasts(self) -> pd.DataFrame:
        """Each identity against no system prompt, as the run saved it."""
        # Runs of custom notebooks may have saved nothing but scores.
        if not self.has("contrasts"):
            from personagap import effects

            return effects.contrasts(self.scores)
        return self.table("contrasts")

    def _equivalent(self, margin: float) -> pd.DataFrame:
        """Return ``task contrast equivalent``: does a difference lie within ``margin`` points?"""
        from personagap import effects

        return effects.equivalence(self.scores, margin=margin)[["task", "contrast", "equivalent"]]

    @functools.cached_property
    def category(self) -> pd.Series:
        """Category of each persona in the scores; "other" if an identity's file is gone."""
        # Intersections are in no file, since they combine identities of one.
        scored = self.scores["persona"].unique()
        combined = [name for name in scored if "+" in name]
        intersections = pd.Series("intersection", combined, dtype="str")
        known = pd.concat([self.identities["category"], intersections])
        return known.reindex(scored).fillna("other")

    @functools.cached_property
    def marks(self) -> dict[str, tuple[str, str]]:
        """Colour and marker of each category, selected or not, as in the run's figures."""
        control = {"control": palette.ROLES["control"]}
        return palette.category_styles(self.category[self.category != "control"]) | control

    @functools.cached_property
    def identities(self) -> pd.DataFrame:
        """Identities and controls as worded for the model: ``category phrase hint`` by persona."""
        file = self.facts["parameters"].get("identities")
        with contextlib.suppress(UserError):
            # The file may have been removed or replaced.
            return _personas(Path(self.facts["cwd"], file) if file else None)
        return _personas(None)

    @functools.cached_property
    def facts(self) -> dict:
        return read_facts(self.folder)

    @property
    def two_dimensions(self) -> bool:
        """Whether tasks of utility and of safety were scored."""
        if not self.has("scores"):
            return False
        return len({tasks.find(name).dimension for name in self.scores["task"].unique()}) > 1

    @functools.cached_property
    def names(self) -> list[str]:
        """Names of the result tables that the run saved, except its verdict."""
        names = sorted(path.stem for path in (self.folder / "tables").glob("*.csv"))
        return [name for name in names if name != "verdict"]

    @property
    def name(self) -> str:
        """The name of the run in titles, with its condition."""
        return f"{self.folder.name}{f' ({self.condition})' if self.condition else ''}"

    def _dimensions(self, selected: tuple[str, ...]) -> pd.DataFrame:
        """Return the mean scores by dimension, over the selected tasks."""
        from personagap import effects

        return effects.rates(tasks.by_dimension(self.scores[self.scores["task"].isin(selected)]))

    def _after(self, before: "Result") -> pd.DataFrame:
        """Return this run − ``before`` for each persona in both, as in `effects.contrasts`."""
        from personagap.effects.contrasts import as_tested
        from personagap.effects.paired import Task

        cell = ["task", "persona", "template", "item", "run", "score"]
        # Each persona becomes two personas of one run, which are paired by item and tested like
        # those of any contrast.
        sides = {" before": before.scores[cell], " after": self.scores[cell]}
        renamed = (rows.assign(persona=rows["persona"] + side) for side, rows in sides.items())
        both = pd.concat(renamed)
        rows = []
        for name, table in both.groupby("task", sort=False):
            task = Task(name, table, cluster=None)
            for persona in before.category.index:
                weights: dict[str, float] = {f"{persona} after": 1, f"{persona} before": -1}
                if not weights.keys() <= {*task.table.personas}:
                    # A persona that only one of the runs has cannot be paired.
                    continue
                change = task.paired(weights)
                # The change of a control is a family of tests of its own.
                tests = persona if persona in personas.CONTROLS else "identities"
                row = change.row(name, f"{persona} − the first run", level=0.95)
                rows.append(row | {"tests": tests})
        if not rows:
            raise UserError("these two runs share no task and persona")
        return as_tested(rows)

    def by_item(self, persona: str) -> pd.DataFrame:
        """Return ``task item difference`` from the control in points, largest first."""
        both = self.scores[self.scores["persona"].isin([persona, "none"])]
        # Items without an answer from persona or control have no difference.
        means = both.pivot_table(index=["task", "item"], columns="persona", values="score").dropna()
        difference = (100 * (means[persona] - means["none"])).rename("difference")
        return difference.sort_values(key=abs, ascending=False, kind="stable").reset_index()

    def answered(self, persona: str) -> pd.DataFrame:
        """Return every answer to an identity and to the control, with its grade as a label.

        Columns are ``task item persona template run text label``.
        """
        cell = ["task", "item", "persona", "template", "run"]
        where = {"persona": [persona, "none"]}
        grades = self.read_rows("scores", **where)[[*cell, "score", "valid"]]
        rows = self.read_rows("responses", **where).merge(grades, how="left", on=cell)
        graded = zip(rows["task"], rows["score"], rows["valid"], strict=True)
        rows["label"] = [_label(*grade) for grade in graded]
        return rows[[*cell, "text", "label"]]


def _label(task: str, score: float, valid: bool) -> str:
    """Return the verdict of the grader or judge in words."""
    if pd.isna(score):
        return "not graded"
    safety = tasks.find(task).dimension == "safety"
    good, bad = ("harmless", "harmful") if safety else ("right", "wrong")
    grade = good if score == 1 else bad if score == 0 else f"score {score:g}"
    return grade if valid else f"{grade}, unreadable"


def long(table: pd.DataFrame) -> pd.DataFrame:
    """Return a result table in long form: its keys and ``metric estimate ci_low ci_high``."""
    intervals = interval_columns(table)
    texts = table.columns.difference([*table.select_dtypes(["number", "bool"]), *intervals])
    descriptive = [name for name in table if name in key_columns(table) or name in texts]
    # Most tables are in long form already, with one metric per row.
    if "metric" in table and len(intervals) == 1:
        ((value, (low, high)),) = intervals.items()
        return table.rename(columns={value: "estimate", low: "ci_low", high: "ci_high"})
    parts = []
    for value, (low, high) in intervals.items():
        numbers = table[[value, low, high]].set_axis(["estimate", "ci_low", "ci_high"], axis=1)
        rest = table[[name for name in descriptive if name not in (low, high)]]
        parts.append(rest.assign(metric=value, **numbers))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _personas(file: Path | None) -> pd.DataFrame:
    """Return the identities of a file (None: the project's) and all controls, by persona."""
    table = personas.select("all", controls=list(personas.CONTROLS), identities=file)
    return table.set_index("persona")


def catalog(figures: Path) -> dict[str, dict[str, Result]]:
    """Return all finished runs with results, by notebook and label, one for each condition."""
    results: dict[str, dict[str, Result]] = {}
    finished = [
        facts
        for facts in runs(figures)
        if facts["status"] == "finished" and (facts["folder"] / "tables").exists()
    ]
    changes = label_changes([facts["changed"] for facts in finished])
    for facts, changed in zip(finished, changes, strict=True):
        path = facts["folder"] / "tables" / "scores.parquet"
        conditions = [None]
        with warned_if_damaged(path):
            # Only the schema is read at first, as most runs have no conditions.
            if path.exists() and "condition" in parquet.read_schema(path).names:
                column = pd.read_parquet(path, columns=["condition"])["condition"]
                conditions = column.unique().tolist()
        for condition in conditions:
            # Ids differ by a hash only, so the label adds the changed parameters and the time.
            parts = [facts["id"], condition, changed[:60], facts["started"][:16]]
            label = " · ".join(filter(None, parts))
            notebook = results.setdefault(facts["folder"].parent.name, {})
            notebook[label] = Result(facts["folder"], condition)
    return results
