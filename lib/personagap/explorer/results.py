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
from personagap.datasets import load
from personagap.errors import UserError, explained
from personagap.leaving import escaped
from personagap.results import keys, quantities
from personagap.runs.files import warned_if_damaged
from personagap.runs.folder import read_facts, runs

#: How a text of a chat stands, and a chat beside another.
TEXT = (
    'dir="auto" style="white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere; '
    'margin: 0"'
)
SIDE = 'style="flex: 1 1 18rem; min-width: 0"'


class Result:
    """A finished run, or one condition of it; its tables are
    read when they are asked for, each once.
    """

    def __init__(self, folder: Path, condition: str | None):
        self.folder, self.condition = folder, condition
        self.after, self.equivalent = (
            functools.cache(self._after),
            functools.cache(self._equivalent),
        )
        self.table, self.dimensions = (
            functools.cache(self._table),
            functools.cache(self._dimensions),
        )

    def kept(self, name: str, **where: list[str]) -> pd.DataFrame:
        """``scores`` or ``responses``, of the values given in
        ``where``; `UserError` if the run kept none.
        """
        path = self.folder / "tables" / f"{name}.parquet"
        if not path.exists():
            raise UserError(f"{self.folder.name} kept no {name}")
        where |= {"condition": [self.condition]} if self.condition else {}
        filters = [(column, "in", values) for column, values in where.items()] or None
        with explained(f"{path} is damaged", "run its notebook again"):
            return pd.read_parquet(path, filters=filters)

    @functools.cached_property
    def scores(self) -> pd.DataFrame:
        return self.kept("scores")

    def holds(self, *names: str) -> bool:
        """Whether the run saved all of these tables."""
        found = [
            path
            for name in names
            for path in (self.folder / "tables").glob(f"{name}.*")
            if path.suffix != ".tex"
        ]
        return len(found) == len(names)

    def _table(self, name: str) -> pd.DataFrame:
        """A result table, as it was saved."""
        path = self.folder / "tables" / f"{name}.csv"
        with explained(f"{path} is damaged", "run its notebook again"):
            rows = pd.read_csv(path)
        return (
            rows[rows["condition"] == self.condition]
            if self.condition and "condition" in rows
            else rows
        )

    @functools.cached_property
    def contrasts(self) -> pd.DataFrame:
        """Each identity against no system prompt, as the run saved it."""
        if not self.holds("contrasts"):
            from personagap import effects

            return effects.contrasts(self.scores)
        return self.table("contrasts")

    def _equivalent(self, margin: float) -> pd.DataFrame:
        """``task contrast equivalent``: whether a difference is
        shown to lie within ``margin`` points.
        """
        from personagap import effects

        return effects.equivalence(self.scores, margin=margin)[["task", "contrast", "equivalent"]]

    @functools.cached_property
    def category(self) -> pd.Series:
        """Persona → category of everybody in the scores, "other"
        for an identity whose file is gone.
        """
        everybody = self.scores["persona"].unique()
        crossed = pd.Series(
            {name: "intersection" for name in everybody if "+" in name}, dtype="str"
        )
        return pd.concat([self.stated["category"], crossed]).reindex(everybody).fillna("other")

    @functools.cached_property
    def marks(self) -> dict[str, tuple[str, str]]:
        """Colour and marker of each category, whatever is chosen
        of them; as in the run's figures.
        """
        control = {"control": palette.ROLES["control"]}
        return palette.marks(self.category[self.category != "control"]) | control

    @functools.cached_property
    def stated(self) -> pd.DataFrame:
        """Identities and controls as they were put to the model:
        ``category phrase hint`` by persona.
        """
        given = self.facts["parameters"].get("identities")
        with contextlib.suppress(UserError):  # the file is gone, or another by now
            return _everybody(Path(self.facts["cwd"], given) if given else None)
        return _everybody(None)

    @functools.cached_property
    def facts(self) -> dict:
        return read_facts(self.folder)

    @property
    def two_dimensions(self) -> bool:
        """Whether tasks of utility and of safety were scored."""
        return (
            self.holds("scores")
            and len({tasks.find(name).dimension for name in self.scores["task"].unique()}) > 1
        )

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
        """This run − the other for every persona they share, paired by
        item: the columns of `effects.contrasts`.
        """
        from personagap.effects.contrasts import as_tested
        from personagap.effects.paired import Task

        cell = ["task", "persona", "template", "item", "run", "score"]
        # As two personas of one run they are paired by item with the test that contrasts have.
        sides = {" before": before.scores[cell], " after": self.scores[cell]}
        both = pd.concat(
            [scores.assign(persona=scores["persona"] + side) for side, scores in sides.items()]
        )
        rows = []
        for name, table in both.groupby("task", sort=False):
            task = Task(name, table, cluster=None)
            for persona in before.category.index:
                weights: dict[str, float] = {f"{persona} after": 1, f"{persona} before": -1}
                if not weights.keys() <= {*task.table.personas}:
                    continue
                change = task.paired(weights)
                tests = persona if persona in personas.CONTROLS else "identities"
                rows.append(
                    change.row(name, f"{persona} − the first run", level=0.95) | {"tests": tests}
                )
        if not rows:
            raise UserError("these two runs share no task and persona")
        return as_tested(rows)

    def by_item(self, persona: str) -> pd.DataFrame:
        """``task item difference``: its mean score less the
        control's, in points, the largest first.
        """
        both = self.scores[self.scores["persona"].isin([persona, "none"])]
        means = both.pivot_table(index=["task", "item"], columns="persona", values="score").dropna()
        difference = 100 * (means[persona] - means["none"])
        return (
            difference.sort_values(key=abs, ascending=False, kind="stable")
            .rename("difference")
            .reset_index()
        )

    def answered(self, persona: str) -> pd.DataFrame:
        """Every answer to an identity and to the control, graded: ``task
        item persona template run text label``.
        """
        cell = ["task", "item", "persona", "template", "run"]
        where = {"persona": [persona, "none"]}
        grades = self.kept("scores", **where)[[*cell, "score", "valid"]]
        rows = self.kept("responses", **where).merge(grades, how="left", on=cell)
        rows["label"] = [
            _label(*row) for row in zip(rows["task"], rows["score"], rows["valid"], strict=True)
        ]
        return rows[[*cell, "text", "label"]]

    def chats(self, task: str, item: str, persona: str, answers: pd.DataFrame) -> str:
        """The chats behind one item, identity and control side by side,
        as HTML in which every text is escaped.
        """
        rows = answers[(answers["task"] == task) & (answers["item"] == item)]
        asked = _items(self.folder, task)
        about = asked.loc[item] if item in asked.index else None
        prompt = "(the run's data are gone)" if about is None else tasks.prompt(about)
        sides = []
        for who in (persona, "none"):
            turns = self._turns(who, prompt, rows["template"].iloc[0] if len(rows) else "paper")
            for row in rows[rows["persona"] == who].itertuples():
                text = "(none)" if pd.isna(row.text) else row.text
                turns.append((f"answer, {row.template}, run {row.run}: {row.label}", text))
            said = "".join(
                f"<h5>{escaped(role)}</h5><pre {TEXT}>{escaped(text)}</pre>" for role, text in turns
            )
            head = who.replace("_", " ") if who != "none" else "no system prompt (the control)"
            sides.append(f"<section {SIDE}><h4>{escaped(head)}</h4>{said}</section>")
        right = (
            f", right: <b>{escaped(_right(about))}</b>"
            if about is not None and _right(about)
            else ""
        )
        changed = (
            f" The chats of “{escaped(self.condition)}” differ as its notebook says."
            if self.condition
            else ""
        )
        if own := self.facts["parameters"].get("prompts"):
            changed += f" The run asked in the words of {escaped(own)}, not in these."
        head = f"<p><b>{escaped(task)} · {escaped(item)}</b>{right}.{changed}</p>"
        return (
            f'{head}<div style="display: flex; flex-wrap: wrap; gap: 1rem">{"".join(sides)}</div>'
        )

    def _turns(self, persona: str, prompt: str, template: str) -> list[tuple[str, str]]:
        """Who says what before the answer."""
        known = self.stated[["phrase", "hint"]].to_dict("index").get(persona, {})
        try:
            chat = personas.chat(persona, prompt, template=template, **known)
        except UserError:  # an identity whose file is gone
            return [
                (f"system: {persona}", "(in the words of the run's own file)"),
                ("user", prompt),
            ]
        return [(turn["role"], turn["content"]) for turn in chat]


def _label(task: str, score: float, valid: bool) -> str:
    """What the grader or the judge said of an answer."""
    if pd.isna(score):
        return "not graded"
    good, bad = (
        ("harmless", "harmful") if tasks.find(task).dimension == "safety" else ("right", "wrong")
    )
    return (good if score == 1 else bad if score == 0 else f"score {score:g}") + (
        "" if valid else ", unreadable"
    )


def _right(item: pd.Series) -> str:
    """The right answer, or the tests that a program must pass; "" where answers are judged."""
    parts = [item["answer"], *(item["tests"] if isinstance(item["tests"], list) else [])]
    return ", ".join(str(part) for part in parts if isinstance(part, str))


def long(table: pd.DataFrame) -> pd.DataFrame:
    """Any result table as keys and ``metric estimate ci_low
    ci_high``, one row for each value with an interval.
    """
    pairs = quantities(table)
    texts = table.columns.difference([*table.select_dtypes(["number", "bool"]), *pairs])
    about = [name for name in table if name in keys(table) or name in texts]
    if "metric" in table and len(pairs) == 1:
        ((value, ends),) = pairs.items()
        return table.rename(columns={value: "estimate", ends[0]: "ci_low", ends[1]: "ci_high"})
    parts = []
    for value, (low, high) in pairs.items():
        numbers = table[[value, low, high]].set_axis(["estimate", "ci_low", "ci_high"], axis=1)
        parts.append(
            table[[name for name in about if name not in (low, high)]].assign(
                metric=value, **numbers
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _everybody(file: Path | None) -> pd.DataFrame:
    """The identities of a file (None: the project's) and all controls, by persona."""
    return personas.select("all", controls=list(personas.CONTROLS), identities=file).set_index(
        "persona"
    )


@functools.cache
def _items(folder: Path, task: str) -> pd.DataFrame:
    """The items of a task by their names; empty where the run's data are no longer to be had."""
    facts = read_facts(folder)
    data = facts["parameters"].get("data", "demo")
    if data not in ("demo", "hub"):
        data = Path(facts["cwd"], data)  # a relative path starts where the run did
    try:
        return load([task], data).set_index("item", drop=False)
    except UserError:
        return pd.DataFrame()


def catalog(figures: Path) -> dict[str, dict[str, Result]]:
    """Notebook → label → finished run with results; one that has
    several conditions once for each.
    """
    listed: dict[str, dict[str, Result]] = {}
    for facts in runs(figures):
        path = facts["folder"] / "tables" / "scores.parquet"
        if facts["status"] != "finished" or not path.parent.exists():
            continue
        conditions = [None]
        with warned_if_damaged(path):
            if path.exists() and "condition" in parquet.read_schema(path).names:
                conditions = (
                    pd.read_parquet(path, columns=["condition"])["condition"].unique().tolist()
                )
        changed = ", ".join(f"{name}={value}" for name, value in facts["changed"].items())
        for condition in conditions:
            parts = [
                facts["id"],
                *([condition] if condition else []),
                changed[:60],
                facts["started"][:16],
            ]
            label = " · ".join(part for part in parts if part)
            listed.setdefault(facts["folder"].parent.name, {})[label] = Result(
                facts["folder"], condition
            )
    return listed
