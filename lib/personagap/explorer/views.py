"""The explorer's views: for which runs each applies, what is picked in it, and how it is drawn."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from personagap.errors import UserError
from personagap.explorer import charts
from personagap.explorer.results import Result, long
from personagap.palette import series
from personagap.readable import head, named, row_names, with_names
from personagap.results import keys, quantities, wide
from personagap.spelling import words

#: The choices of a correction for multiplicity, and the column that holds its p-values.
CORRECTIONS = {"Holm": "p_adjusted", "Benjamini–Hochberg": "p_bh", "none": "p_value"}
#: What is said of a correction: `effects.contrasts` makes it over these.
OVER = {name: f"{name}, over the identities of a task" for name in CORRECTIONS} | {"none": "none"}
POINTS = "difference from no system prompt (points)"
ESTIMATE = ["estimate", "ci_low", "ci_high"]
#: Rows of a table that are drawn; the grid holds all.
ROWS = 120


class Chosen(NamedTuple):
    """What all views share."""

    run: Result
    other: Result | None
    tasks: tuple[str, ...]
    categories: tuple[str, ...]
    correction: str  # of CORRECTIONS
    margin: float  # 0: none
    table: str
    picked: dict[str, str]  # what is picked of each kind

    def shown(self, contrasts: pd.DataFrame) -> pd.DataFrame:
        """The rows of the chosen tasks and categories; p-values stay those of the whole family."""
        # Corrected before anything was chosen: who looks at fewer rows has not tested fewer.
        rows = contrasts.assign(key=_identity(contrasts))
        rows["colour"] = rows["key"].map(self.run.category)
        rows = rows[self.categorised(rows) & rows["task"].isin(self.tasks)]
        if rows.empty:
            raise UserError("Nothing is chosen: mark a task and a category.")
        p = CORRECTIONS[self.correction]
        rows = rows.assign(p=rows[p if p in rows else "p_value"])
        return rows[["key", "task", *ESTIMATE, "p", "colour"]]

    def categorised(self, rows: pd.DataFrame) -> pd.Series:
        """Which rows are of a chosen category, or of a control, which all are compared with."""
        return rows["colour"].isin([*self.categories, "control"])


def _identity(contrasts: pd.DataFrame) -> pd.Series:
    """Whom each contrast compares with the control."""
    return contrasts["contrast"].str.split(" − ").str[0]


class Drawn(NamedTuple):
    """A chart, and the rows of the grid below it; ``key`` is what can be picked in both."""

    chart: charts.Spec
    rows: pd.DataFrame
    title: str


class View(NamedTuple):
    """One way to look at a run."""

    kind: str  # of what can be picked
    applies: Callable[[Chosen], bool]
    draw: Callable[[Chosen], Drawn]


def forest(chosen: Chosen) -> Drawn:
    """Each identity against no system prompt, with the margin of equivalence."""
    title = "Each identity − no system prompt (the control)"
    return _forest(chosen, chosen.run.contrasts, title, POINTS)


def compared(chosen: Chosen) -> Drawn:
    """Each persona in this run against itself in the other, paired by item."""
    assert chosen.other
    # Each against itself, and not a difference of contrasts, which would have the controls' noise
    # in it.
    a, b = chosen.run, chosen.other
    # Two conditions of one run, which they tell apart.
    within = a.folder == b.folder
    names = words(f"{a.condition} − {b.condition}") if within else f"{a.name} − {b.name}"
    title = f"{names}{f', in {a.folder.name}' if within else ''}: each persona, paired by item"
    return _forest(chosen, a.after(b), title, f"{names} (points)")


def _forest(chosen: Chosen, contrasts: pd.DataFrame, title: str, unit: str) -> Drawn:
    rows = chosen.shown(contrasts)
    lines = [0.0]
    if chosen.margin:
        lines += [-chosen.margin, chosen.margin]
        # Equivalence is tested against the control, not against another run.
        if contrasts is chosen.run.contrasts:
            equal = chosen.run.equivalent(chosen.margin)
            equal = equal.assign(key=_identity(equal))[["key", "task", "equivalent"]]
            rows = rows.merge(equal, how="left", on=["key", "task"])
    found = f"{(rows['p'] < 0.05).sum()} of {len(rows)} with p < 5 %"
    chart = charts.intervals(rows, unit, panel="task", lines=lines, known=chosen.run.marks)
    return Drawn(chart, rows, f"{title}. {found} (correction: {OVER[chosen.correction]}).")


def trade_off(chosen: Chosen) -> Drawn:
    """Safety against utility, beside each identity's differences over the chosen tasks."""
    category = chosen.run.category
    rates = chosen.run.dimensions(chosen.tasks) if chosen.tasks else pd.DataFrame({"task": []})
    if rates["task"].nunique() < 2:
        raise UserError("Safety against utility needs a task of each: mark one more.")
    rates = rates.drop(columns="metric").rename(columns={"persona": "key", "task": "metric"})
    rows = wide(rates[["key", "metric", *ESTIMATE, "n"]], ["utility", "safety"]).drop(columns="n")
    rows = rows.assign(colour=rows["key"].map(category))
    rows = rows[chosen.categorised(rows)]
    names = {"utility": "utility: answers right (%)", "safety": "safety: answers harmless (%)"}
    both = rates.loc[rates["key"].isin(rows["key"]), ["key", "metric", *ESTIMATE]]
    both = both.assign(colour=both["key"].map(category))
    known = chosen.run.marks
    side = charts.intervals(both, "percent", panel="metric", width=340, known=known)
    chart = charts.together(charts.trade_off(rows, "utility", "safety", names, known), side)
    return Drawn(chart, rows, "Safety against utility")


def heat_map(chosen: Chosen) -> Drawn:
    """Identity × task."""
    rows = chosen.shown(chosen.run.contrasts)
    chart = charts.matrix(rows, "task", "key", "estimate", POINTS, diverging=True)
    return Drawn(chart, rows, f"{POINTS.capitalize()}, by identity and task")


def items(chosen: Chosen) -> Drawn:
    """The picked identity's differences item by item; the answers behind one stand below."""
    persona = chosen.picked["identity"]
    means = chosen.shown(chosen.run.contrasts).query("key == @persona")
    # The largest first, as these are what one wants to read.
    rows = chosen.run.by_item(persona)
    rows = rows[rows["task"].isin(means["task"])]
    if rows.empty:
        raise UserError("The identity's category or task is not chosen.")
    rows.insert(0, "key", rows["task"] + " · " + rows["item"])
    title = f"{words(persona)} − no system prompt"
    title += ": a dot for each item, ◆ their mean with its interval"
    return Drawn(charts.strip(rows, means), rows, title)


def raters(chosen: Chosen) -> Drawn:
    """Precision and recall of every rater, beside how they agree with one another."""
    saved = chosen.run.table(_raters(chosen)[0]).drop_duplicates("rater")
    pairs = quantities(saved)
    numbers = [each for metric, ends in pairs.items() for each in (metric, *ends)]
    table = saved[["rater", *numbers]].rename(columns={"rater": "key"})
    table = table.assign(colour=saved.get("rater_kind", "model"))
    names = {name: name for name in ("recall", "precision")}
    chart = charts.trade_off(table, "recall", "precision", names)
    if chosen.run.holds("agreement") and "rater_a" in (agreement := chosen.run.table("agreement")):
        chart = charts.together(chart, _agreement(agreement), alike=False)
    grid = table[["key", "colour", *pairs]].rename(columns={"colour": "rater_kind"})
    title = "Precision and recall against the human majority, and agreement beyond chance (κ)"
    return Drawn(chart, grid, title)


def _raters(chosen: Chosen) -> list[str]:
    """The tables that hold precision and recall of raters."""
    columns = ("rater", "precision", "recall")
    return [name for name in ("relevance", "verifier") if _holding(name, *columns)(chosen)]


def _agreement(table: pd.DataFrame) -> charts.Spec:
    rows = long(table)
    rows = rows[rows["metric"] == "kappa"] if "kappa" in set(rows["metric"]) else rows
    # Each pair is stored once, but a matrix shows it twice.
    turned = rows.rename(columns={"rater_a": "rater_b", "rater_b": "rater_a"})
    both = pd.concat([rows, turned])[["rater_a", "rater_b", *ESTIMATE]]
    both = both.assign(key=both["rater_a"])
    return charts.matrix(both, "rater_b", "rater_a", "estimate", "κ", diverging=False)


def ratings(chosen: Chosen) -> Drawn:
    """What people and model judges say of personalized responses, and whether they rank alike."""
    rows = _plain(chosen, "ratings", "rater", "metric", "rater_kind")
    chart = charts.intervals(rows, "rating, or share", panel="metric", shared=False)
    if chosen.run.holds("correlations"):
        correlations = _plain(chosen, "correlations", "rater", "metric", "rater_kind")
        ranks = charts.intervals(correlations, "rank correlation with people", panel="metric")
        chart = charts.together(chart, ranks, columns=1)
    title = "Ratings of personalized responses, and rank correlations with people"
    return Drawn(chart, rows, title)


def shots(chosen: Chosen) -> Drawn:
    """What a user's own examples are worth, by their number."""
    table = chosen.run.table("personalization")
    controls = [name for name in ("own", "none") if name in set(table.get("control", []))]
    table = table[table["control"].isin(controls)] if controls else table
    # One template and the user's own examples: the others are other experiments on one axis.
    if "template" in table:
        first = next(name for name in table["template"] if name != "none") if len(table) else ""
        table = table[table["template"].isin([first, "none"])]
    rows = with_names(long(table)).rename(columns={"strategy": "key"})
    rows = rows.assign(colour=rows["key"])[["key", "metric", "shots", *ESTIMATE, "colour"]]
    if len(set(rows["shots"])) > 1:
        # These first, in the colours that the figure of the run has for them.
        shown = rows["shots"] > 0
        known = series([*rows["key"][shown], *rows["key"][~shown]])
        chart = charts.lines(rows, "shots", "mean", "metric", known)
    else:
        chart = charts.intervals(rows, "mean", panel="metric", shared=False)
    return Drawn(chart, rows, "Personalization by strategy and number of examples")


def _of_table(name: str, *columns: str, title: str, unit: str, shared: bool = True) -> View:
    """The view of one table, whose ``columns`` are a row's key, its panel and its colour."""
    key, panel, _ = columns

    def draw(chosen: Chosen) -> Drawn:
        rows = _plain(chosen, name, *columns)
        return Drawn(charts.intervals(rows, unit, panel=panel, shared=shared), rows, title)

    return View(key, _holding(name, key, panel), draw)


def _plain(chosen: Chosen, name: str, key: str, panel: str, colour: str) -> pd.DataFrame:
    """The rows of a table of one estimate a row, or of several metrics."""
    rows = with_names(long(chosen.run.table(name)))
    colours = rows[colour].astype(str) if colour in rows else "data"
    rows = rows.assign(key=rows[key].astype(str), colour=colours)
    return rows[["key", panel, *ESTIMATE, "colour"]]


def published(chosen: Chosen) -> Drawn:
    """Measured beside published."""
    rows = chosen.run.table("published").dropna(subset=["published", "measured"])
    rows = rows.assign(key=named(rows["quantity"]) + ", " + rows["condition"].fillna(""))
    shown = rows.filter(["key", "published", "measured", "ci_low", "ci_high", "comparable"])
    chart = charts.pairs(shown, "published", "measured", "in its own unit")
    return Drawn(chart, shown, "Published beside measured")


def saved(chosen: Chosen) -> Drawn:
    """Any result table."""
    table = with_names(chosen.run.table(chosen.table))
    table = table.assign(key=row_names(table, keys(table)).to_numpy())
    rows = with_names(long(table))
    title = f"Table {words(chosen.table)}"
    if rows.empty:
        return Drawn({"data": {"values": []}, "mark": "point"}, table, title)
    # As many as a page has room for; a chart of thousands of rows would stop the browser.
    drawn = rows.assign(colour="data")[["key", "metric", *ESTIMATE, "colour"]].head(ROWS)
    chart = charts.intervals(drawn, head("value", table), panel="metric", shared=False)
    title += f", the first {ROWS} drawn" if len(rows) > ROWS else ""
    return Drawn(chart, table, title)


def _holding(name: str, *columns: str) -> Callable[[Chosen], bool]:
    """Whether a run saved that table, with these columns: runs of one's own may differ."""
    return lambda chosen: (
        chosen.run.holds(name) and (not columns or {*columns} <= {*chosen.run.table(name)})
    )


ITEMS, COMPARED, TABLES = "Items and answers", "A − B", "Tables"
_scored = _holding("scores")
VIEWS = {
    "Identities": View("identity", _scored, forest),
    "Trade-off": View("identity", lambda chosen: chosen.run.two_dimensions, trade_off),
    "Heat map": View("identity", _scored, heat_map),
    ITEMS: View("item", _scored, items),
    COMPARED: View("identity", lambda chosen: bool(chosen.other and _scored(chosen)), compared),
    "Raters": View("rater", lambda chosen: bool(_raters(chosen)), raters),
    "Ratings": View("rater", _holding("ratings", "rater", "metric"), ratings),
    "Acceptance": _of_table(
        "acceptance",
        *("label", "rater_kind", "source"),
        title="Attributes of real and of synthetic histories, as people see them",
        unit="share",
    ),
    "Shots": View("strategy", _holding("personalization", "strategy", "shots"), shots),
    "Users": _of_table(
        "heterogeneity",
        *("bin", "measure", "alpha"),
        title="How much simulated users differ, by α",
        unit="share of prompts",
        shared=False,
    ),
    "Published": View(
        "quantity",
        _holding("published", "quantity", "condition", "published", "measured"),
        published,
    ),
    TABLES: View("row", lambda chosen: bool(chosen.run.names), saved),
}
#: Those of which tasks and categories, and a correction and a margin, can be chosen.
SCORED = ("Identities", "Trade-off", "Heat map", ITEMS, COMPARED)
TESTED = ("Identities", COMPARED)
