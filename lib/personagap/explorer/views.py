"""The explorer's views: the runs to which each applies, its pickable keys, and its chart."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from personagap.errors import UserError
from personagap.explorer import charts
from personagap.explorer.results import Result, long
from personagap.formatting import humanize
from personagap.palette import series_styles
from personagap.readable import column_header, display_names, row_names, with_names
from personagap.results import interval_columns, key_columns, wide

#: Corrections for multiplicity on offer, and the columns with their p-values
CORRECTIONS = {"Holm": "p_adjusted", "Benjamini–Hochberg": "p_bh", "none": "p_value"}
#: Labels of the corrections, with the family of tests that `effects.contrasts` uses
LABELS = {name: f"{name}, over the identities of a task" for name in CORRECTIONS} | {"none": "none"}
POINTS = "difference from no system prompt (points)"
ESTIMATE = ["estimate", "ci_low", "ci_high"]
#: Number of rows of a table that are drawn at most; the grid holds all rows.
ROWS = 120


class Selection(NamedTuple):
    """The user's selection, which all views share."""

    run: Result
    other: Result | None
    tasks: tuple[str, ...]
    categories: tuple[str, ...]
    correction: str  # of CORRECTIONS
    margin: float  # 0: none
    table: str
    picked: dict[str, str]  # picked key by kind

    def filter(self, contrasts: pd.DataFrame) -> pd.DataFrame:
        """Return the contrasts of the selected tasks and categories, with p-values of all."""
        # P-values were corrected over the whole family: to show fewer rows is not to test fewer.
        rows = contrasts.assign(key=_identity(contrasts))
        rows["colour"] = rows["key"].map(self.run.category)
        rows = rows[self.in_categories(rows) & rows["task"].isin(self.tasks)]
        if rows.empty:
            raise UserError("Nothing is chosen: mark a task and a category.")
        p = CORRECTIONS[self.correction]
        rows = rows.assign(p=rows[p if p in rows else "p_value"])
        return rows[["key", "task", *ESTIMATE, "p", "colour"]]

    def in_categories(self, rows: pd.DataFrame) -> pd.Series:
        """Return which rows belong to a selected category, or to a control, which always stays."""
        return rows["colour"].isin([*self.categories, "control"])


def _identity(contrasts: pd.DataFrame) -> pd.Series:
    """Return the identity that each contrast compares with the control."""
    return contrasts["contrast"].str.split(" − ").str[0]


class Drawing(NamedTuple):
    """A chart, if there are estimates, and the rows of the grid; in both a ``key`` is picked."""

    chart: charts.Spec | None
    rows: pd.DataFrame
    title: str


class View(NamedTuple):
    """A view of a run."""

    kind: str  # of the pickable keys
    applies: Callable[[Selection], bool]
    draw: Callable[[Selection], Drawing]


def forest(selection: Selection) -> Drawing:
    """Draw each identity against no system prompt, with the margin of equivalence."""
    title = "Each identity − no system prompt (the control)"
    return _forest(selection, selection.run.contrasts, title, POINTS)


def compared(selection: Selection) -> Drawing:
    """Draw each persona in this run against itself in the other, paired by item."""
    assert selection.other
    # Personas are compared directly, because a difference of two contrasts would add the noise of
    # both controls.
    a, b = selection.run, selection.other
    # Two conditions of the same run are named by condition only.
    same_run = a.folder == b.folder
    names = humanize(f"{a.condition} − {b.condition}") if same_run else f"{a.name} − {b.name}"
    title = f"{names}{f', in {a.folder.name}' if same_run else ''}: each persona, paired by item"
    return _forest(selection, a.after(b), title, f"{names} (points)")


def _forest(selection: Selection, contrasts: pd.DataFrame, title: str, unit: str) -> Drawing:
    rows = selection.filter(contrasts)
    lines = [0.0]
    if selection.margin:
        lines += [-selection.margin, selection.margin]
        # Equivalence is tested against the control only, not against another run.
        if contrasts is selection.run.contrasts:
            tests = selection.run.equivalent(selection.margin)
            tests = tests.assign(key=_identity(tests))[["key", "task", "equivalent"]]
            rows = rows.merge(tests, how="left", on=["key", "task"])
    tested = rows.loc[rows["colour"] != "control", "p"]  # controls are not in their family
    count = f"{(tested < 0.05).sum()} of {len(tested)} identities with p < 5 %"
    chart = charts.intervals(rows, unit, panel="task", lines=lines, styles=selection.run.marks)
    return Drawing(chart, rows, f"{title}. {count} (correction: {LABELS[selection.correction]}).")


def trade_off(selection: Selection) -> Drawing:
    """Draw safety against utility, beside both means of each identity, over the selected tasks."""
    run, selected = selection.run, selection.tasks
    rates = run.dimensions(selected) if selected else pd.DataFrame({"task": []})
    if rates["task"].nunique() < 2:
        raise UserError("Safety against utility needs a task of each: mark one more.")
    rates = rates.drop(columns="metric").rename(columns={"persona": "key", "task": "metric"})
    rows = wide(rates[["key", "metric", *ESTIMATE, "n"]], ["utility", "safety"]).drop(columns="n")
    rows = rows.assign(colour=rows["key"].map(run.category))
    rows = rows[selection.in_categories(rows)]
    names = {"utility": "utility: answers right (%)", "safety": "safety: answers harmless (%)"}
    both = rates.loc[rates["key"].isin(rows["key"]), ["key", "metric", *ESTIMATE]]
    both = both.assign(colour=both["key"].map(run.category))
    side = charts.intervals(both, "percent", panel="metric", width=340, styles=run.marks)
    chart = charts.together(charts.trade_off(rows, "utility", "safety", names, run.marks), side)
    return Drawing(chart, rows, "Safety against utility")


def heat_map(selection: Selection) -> Drawing:
    """Draw the differences of each identity (rows) and task (columns)."""
    rows = selection.filter(selection.run.contrasts)
    chart = charts.matrix(rows, "task", "key", "estimate", POINTS, diverging=True)
    return Drawing(chart, rows, f"{POINTS.capitalize()}, by identity and task")


def items(selection: Selection) -> Drawing:
    """Draw the picked identity's differences item by item, above the answers to one item."""
    persona = selection.picked["identity"]
    means = selection.filter(selection.run.contrasts).query("key == @persona")
    # The largest differences come first, as the most interesting ones to read.
    rows = selection.run.by_item(persona)
    rows = rows[rows["task"].isin(means["task"])]
    if rows.empty:
        raise UserError("The identity's category or task is not chosen.")
    rows.insert(0, "key", rows["task"] + " · " + rows["item"])
    title = f"{humanize(persona)} − no system prompt"
    title += ": a dot for each item, ◆ their mean with its interval"
    return Drawing(charts.strip(rows, means), rows, title)


def raters(selection: Selection) -> Drawing:
    """Draw precision and recall of every rater, beside their agreement with one another."""
    saved = selection.run.table(_rater_tables(selection)[0]).drop_duplicates("rater")
    intervals = interval_columns(saved)
    numbers = [column for metric, ends in intervals.items() for column in (metric, *ends)]
    table = saved[["rater", *numbers]].rename(columns={"rater": "key"})
    table = table.assign(colour=saved.get("rater_kind", "model"))
    names = {name: name for name in ("recall", "precision")}
    chart = charts.trade_off(table, "recall", "precision", names)
    if _has_table("agreement", "rater_a")(selection):
        agreement = _agreement(selection.run.table("agreement"))
        chart = charts.together(chart, agreement, shared_legend=False)
    grid = table[["key", "colour", *intervals]].rename(columns={"colour": "rater_kind"})
    title = "Precision and recall against the human majority, and agreement beyond chance (κ)"
    return Drawing(chart, grid, title)


def _rater_tables(selection: Selection) -> list[str]:
    """Return the names of the tables with precision and recall of raters."""
    columns = ("rater", "precision", "recall")
    return [name for name in ("relevance", "verifier") if _has_table(name, *columns)(selection)]


def _agreement(table: pd.DataFrame) -> charts.Spec:
    rows = long(table)
    rows = rows[rows["metric"] == "kappa"] if "kappa" in set(rows["metric"]) else rows
    # The table holds each pair once, and a matrix shows it twice.
    swapped = rows.rename(columns={"rater_a": "rater_b", "rater_b": "rater_a"})
    both = pd.concat([rows, swapped])[["rater_a", "rater_b", *ESTIMATE]]
    both = both.assign(key=both["rater_a"])
    return charts.matrix(both, "rater_b", "rater_a", "estimate", "κ", diverging=False)


def ratings(selection: Selection) -> Drawing:
    """Draw people's and model judges' ratings of personalized responses, and rank correlations."""
    rows = _estimates(selection, "ratings", "rater", "metric", "rater_kind")
    chart = charts.intervals(rows, "rating, or share", panel="metric", shared=False)
    if selection.run.has("correlations"):
        correlations = _estimates(selection, "correlations", "rater", "metric", "rater_kind")
        ranks = charts.intervals(correlations, "rank correlation with people", panel="metric")
        chart = charts.together(chart, ranks, columns=1)
    title = "Ratings of personalized responses, and rank correlations with people"
    return Drawing(chart, rows, title)


def shots(selection: Selection) -> Drawing:
    """Draw the benefit of a user's own examples by their number."""
    table = selection.run.table("personalization")
    controls = [name for name in ("own", "none") if name in set(table.get("control", []))]
    table = table[table["control"].isin(controls)] if controls else table
    # Restricted to one template, since others are different experiments
    if "template" in table:
        first = next(name for name in table["template"] if name != "none") if len(table) else ""
        table = table[table["template"].isin([first, "none"])]
    rows = with_names(long(table)).rename(columns={"strategy": "key"})
    rows = rows.assign(colour=rows["key"])[["key", "metric", "shots", *ESTIMATE, "colour"]]
    if len(set(rows["shots"])) > 1:
        # Strategies with examples come first, to have the same colours as in the run's figure.
        with_shots = rows["shots"] > 0
        styles = series_styles([*rows["key"][with_shots], *rows["key"][~with_shots]])
        chart = charts.lines(rows, "shots", "mean", "metric", styles)
    else:
        chart = charts.intervals(rows, "mean", panel="metric", shared=False)
    return Drawing(chart, rows, "Personalization by strategy and number of examples")


def _table_view(name: str, *columns: str, title: str, unit: str, shared: bool = True) -> View:
    """Return the view of a table; ``columns`` give key, panel and colour of its rows."""
    key, panel, _ = columns

    def draw(selection: Selection) -> Drawing:
        rows = _estimates(selection, name, *columns)
        return Drawing(charts.intervals(rows, unit, panel=panel, shared=shared), rows, title)

    return View(key, _has_table(name, key, panel), draw)


def _estimates(selection: Selection, name: str, key: str, panel: str, colour: str) -> pd.DataFrame:
    """Return the estimates of a saved table in long form, with the columns that charts need."""
    rows = with_names(long(selection.run.table(name)))
    colours = rows[colour].astype(str) if colour in rows else "data"
    rows = rows.assign(key=rows[key].astype(str), colour=colours)
    return rows[["key", panel, *ESTIMATE, "colour"]]


def published(selection: Selection) -> Drawing:
    """Draw measured values beside published ones."""
    rows = selection.run.table("published").dropna(subset=["published", "measured"])
    rows = rows.assign(key=display_names(rows["quantity"]) + ", " + rows["condition"].fillna(""))
    rows = rows.filter(["key", "published", "measured", "ci_low", "ci_high", "comparable"])
    chart = charts.pairs(rows, "published", "measured", "in its own unit")
    return Drawing(chart, rows, "Published beside measured")


def saved(selection: Selection) -> Drawing:
    """Draw the selected result table."""
    table = with_names(selection.run.table(selection.table))
    table = table.assign(key=row_names(table, key_columns(table)).to_numpy())
    rows = with_names(long(table))
    title = f"Table {humanize(selection.table)}"
    if rows.empty:
        return Drawing(None, table, title)
    # Limited to what fits a page; a chart of thousands of rows would freeze the browser.
    first = rows.assign(colour="data")[["key", "metric", *ESTIMATE, "colour"]].head(ROWS)
    chart = charts.intervals(first, column_header("value", table), panel="metric", shared=False)
    title += f", the first {ROWS} drawn" if len(rows) > ROWS else ""
    return Drawing(chart, table, title)


def _has_table(name: str, *columns: str) -> Callable[[Selection], bool]:
    """Return a test whether a run saved that table with these columns; custom runs may differ."""
    return lambda selection: (
        selection.run.has(name) and (not columns or {*columns} <= {*selection.run.table(name)})
    )


ITEMS, COMPARED, TABLES = "Items and answers", "A − B", "Tables"
_scored = _has_table("scores")
VIEWS = {
    "Identities": View("identity", _scored, forest),
    "Trade-off": View("identity", lambda selection: selection.run.two_dimensions, trade_off),
    "Heat map": View("identity", _scored, heat_map),
    ITEMS: View("item", _scored, items),
    COMPARED: View("identity", lambda s: bool(s.other and _scored(s)), compared),
    "Raters": View("rater", lambda selection: bool(_rater_tables(selection)), raters),
    "Ratings": View("rater", _has_table("ratings", "rater", "metric"), ratings),
    "Acceptance": _table_view(
        "acceptance",
        *("label", "rater_kind", "source"),
        title="Attributes of real and of synthetic histories, as people see them",
        unit="share",
    ),
    "Shots": View("strategy", _has_table("personalization", "strategy", "shots"), shots),
    "Users": _table_view(
        "heterogeneity",
        *("bin", "measure", "alpha"),
        title="How much simulated users differ, by α",
        unit="share of prompts",
        shared=False,
    ),
    "Published": View(
        "quantity",
        _has_table("published", "quantity", "condition", "published", "measured"),
        published,
    ),
    TABLES: View("row", lambda selection: bool(selection.run.names), saved),
}
#: Views with a selection of tasks and categories, and those with a correction and a margin
SCORED = ("Identities", "Trade-off", "Heat map", ITEMS, COMPARED)
TESTED = ("Identities", COMPARED)
