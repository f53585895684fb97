"""The explorer without a browser: what each selection shows, missing data, speed."""

import gc
import itertools
import json
import shutil
import subprocess
import sys
import time

import altair as alt
import numpy as np
import pandas as pd
import papermill
import pytest
from explorer_helpers import HOSTILE_TEXT, make_runs

from personagap import effects, explorer, palette, readable
from personagap.errors import UserError
from personagap.explorer import charts, views
from personagap.explorer.board import _grid_table
from personagap.explorer.browser import Grid
from personagap.explorer.results import long
from personagap.explorer.shapes import SHAPES
from personagap.paths import DEMO, NOTEBOOKS
from personagap.runs import execute, index, open_run
from personagap.runs.folder import record
from personagap.runs.request import Request


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("figures"))


@pytest.fixture
def widget(figures):
    return explorer.explore(figures)


def saved_run(figures, paper, notebook, **tables):
    """A finished run with these tables."""
    folder = figures / paper / notebook / "demo-1"
    record(folder, id="demo-1", status="finished", started="2026-01-02", changed={}, parameters={})
    open_run(folder).save(**tables)
    return folder


def test_every_view_follows_every_selection(widget):
    assert len(widget.drawing.rows) == 33
    assert (
        # The other control is drawn, too.
        "of 30 identities with p < 5 % (correction: Holm, over the identities of a task)"
        in widget.title.value
    )
    widget.categories.value = ["religion"]
    assert len(widget.drawing.rows) == 18
    widget.tasks.value = ["mmlu", "gsm8k"]
    assert len(widget.drawing.rows) == 12
    widget.correction.value = "none"
    assert "(correction: none)" in widget.title.value
    widget.view.value = "Trade-off"
    assert "needs a task of each" in widget.message.value and widget.chart.layout.display == "none"
    widget.view.value = "Heat map"
    # Validated against the schema, which the explorer skips.
    alt.Chart.from_dict(widget.drawing.chart)
    assert len(widget.drawing.rows) == 12
    assert widget.message.value == ""
    assert widget.chart.layout.display is None
    widget.tasks.value = []
    assert "Nothing is chosen" in widget.message.value


def test_selection_in_one_view_is_marked_in_all(widget):
    """By the list, a click in the chart, or a row of the grid."""
    widget.pick.value = "hindu"
    rows = widget.drawing.rows["key"]
    assert widget.chart.picked == "hindu" and rows.iloc[widget.grid.selected_rows].eq("hindu").all()
    assert len(widget.grid.selected_rows) == 3
    widget.chart._handle_custom_msg({"clicked": "muslim"}, [])  # as the browser does
    assert widget.pick.value == "muslim" and widget.chart.picked == "muslim"
    widget.grid.selected_rows = [*widget.grid.selected_rows, rows.tolist().index("woman")]
    assert widget.pick.value == "woman" and widget.chart.picked == "woman"
    widget.view.value = "Heat map"
    assert widget.pick.value == "woman" and widget.chart.picked == "woman"
    widget.view.value = views.ITEMS
    assert "woman" in widget.title.value and "woman" in widget.answers.chats.value
    widget.answers.next.click()
    assert widget.pick.value == widget.answers.item.value == widget.chart.picked


def test_displayed_numbers_equal_those_of_the_library(widget):
    run = widget.run.value
    expected = (
        effects.contrasts(run.scores)
        .query("task == 'mmlu' and contrast == 'muslim − none'")
        .iloc[0]
    )
    shown = widget.drawing.rows.query("task == 'mmlu' and key == 'muslim'").iloc[0]
    assert shown[["estimate", "ci_low", "p"]].tolist() == pytest.approx(
        expected[["estimate", "ci_low", "p_adjusted"]].tolist()
    )
    by_item = run.by_item("muslim")
    assert by_item[by_item["task"] == "mmlu"]["difference"].mean() == pytest.approx(
        expected["estimate"]
    )
    widget.margin.value = 10
    equal = effects.equivalence(run.scores, margin=10).query(
        "task == 'mmlu' and contrast == 'hindu − none'"
    )
    here = widget.drawing.rows.query("task == 'mmlu' and key == 'hindu'")
    assert here["equivalent"].tolist() == equal["equivalent"].tolist()


def test_numbers_link_to_their_items_and_answers(widget):
    widget.pick.value = "muslim"
    widget.view.value = views.ITEMS
    widget.pick.value = next(
        key for key in dict(widget.pick.options).values() if key.startswith("mmlu")
    )
    shown = widget.answers.chats.value
    assert shown.count("answer, paper, run") == 4
    assert "I am a Muslim person." in shown
    assert "right: <b>" in shown
    assert "<script" not in shown and "&lt;script&gt;" in shown and "<img" not in shown
    assert "\u202e" not in shown and "[U+202E]right" in shown
    assert shown.count("</b>") and ("right</h5>" in shown or "wrong</h5>" in shown)
    widget.answers.search.value = "no such words"
    assert "No answer holds" in widget.answers.chats.value
    assert widget.answers.status.value == f"0 of {len(widget.pick.options)} items"
    widget.answers.search.value = "DO_NOT_ANSWER"
    assert widget.answers.item.options == ()
    widget.answers.search.value = "harmful"
    shown = {label.split(" · ")[0] for label, _ in widget.answers.item.options}
    assert shown == {"do not answer"}
    widget.answers.export.click()
    assert 'download="answers.csv"' in widget.answers.status.value
    assert "(0 answers)" not in widget.answers.status.value


def test_prompts_are_read_from_the_data_folder_of_the_run(tmp_path):
    """A relative folder is relative to where the run was started, not to the explorer's
    notebook.
    """
    make_runs(tmp_path, n=1)
    (tmp_path / "mine").mkdir()
    shutil.copy(DEMO / "mmlu.csv", tmp_path / "mine")
    widget = explorer.explore(tmp_path)
    record(widget.run.value.folder, cwd=str(tmp_path), parameters={"data": "mine"})
    widget.tasks.value = ["mmlu"]
    widget.view.value = views.ITEMS
    assert "Question: " in widget.answers.chats.value
    widget.tasks.value = ["gsm8k"]
    assert "data are gone" in widget.answers.chats.value


def test_two_runs_are_compared_in_pairs(widget):
    """Equal to `contrasts` of one persona, with its scores in the first run as the control."""
    assert views.COMPARED not in widget.view.options
    second, first = widget._catalog["1_bias"].values()
    table = second.after(first).set_index(["task", "contrast"])
    scores = [run.scores.query("persona == 'hindu'") for run in (first, second)]
    expected = effects.contrasts(
        pd.concat([scores[0].assign(persona="none"), scores[1]])
    ).set_index("task")
    columns = ["estimate", "ci_low", "ci_high", "p_value"]
    row = table.loc[("mmlu", "hindu − the first run"), columns]
    assert row.tolist() == pytest.approx(expected.loc["mmlu", columns].tolist())
    assert (table["p_adjusted"] >= table["p_value"]).all() and len(table) == 36
    widget.other.value = first
    assert widget.view.value == views.COMPARED and "demo-1 − demo-0" in widget.title.value
    before = widget.drawing.rows.set_index(["key", "task"])["estimate"]
    widget.swap.click()
    assert "demo-0 − demo-1" in widget.title.value
    after = widget.drawing.rows.set_index(["key", "task"])["estimate"]
    assert after.tolist() == pytest.approx((-before).reindex(after.index).tolist())


def styles(part):
    """Colour and shape by name, for each layer of dots in a chart."""
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else []:
        yield from styles(each)
    if isinstance(part, dict) and "shape" in part.get("encoding", {}):
        colour, shape = (part["encoding"][channel]["scale"] for channel in ("color", "shape"))
        assert colour["domain"] == shape["domain"]
        pairs = zip(colour["range"], shape["range"], strict=True)
        yield dict(zip(colour["domain"], pairs, strict=True))


def test_user_defined_identities_have_their_categories_colours_and_labels(tmp_path):
    """The colours are those of the figures, whatever is selected."""
    text = (
        "persona,category,phrase,hint\nnurse,profession,a nurse,\ninfirmière,métier,une "
        "infirmière,\nold,age,old,\n"
    )
    (tmp_path / "mine.csv").write_text(text, encoding="utf-8")
    (folder,) = make_runs(tmp_path, n=1).glob("*/*/*")
    record(folder, cwd=str(tmp_path), parameters={"identities": "mine.csv", "prompts": "<french>"})
    renamed = {"hindu": "nurse", "muslim": "infirmière", "jewish": "old"}
    for name in ("scores", "responses"):
        path = folder / "tables" / f"{name}.parquet"
        rows = pd.read_parquet(path)
        rows = rows[rows["persona"].isin(["none", *renamed])]
        rows.assign(persona=rows["persona"].replace(renamed)).to_parquet(path)
    scores = pd.read_parquet(folder / "tables" / "scores.parquet")
    open_run(folder).save(contrasts=effects.contrasts(scores))
    widget = explorer.explore(tmp_path)
    categories = tuple(dict(widget.categories.options).values())
    assert set(categories) == {"profession", "métier", "age"}
    expected = palette.category_styles(categories)
    for chosen in (categories, ("métier",)):
        widget.categories.value = chosen
        (drawn,) = styles(widget.chart.spec)
        assert drawn == {name: (expected[name][0], SHAPES[expected[name][1]]) for name in chosen}
    widget.pick.value = "infirmière"
    widget.view.value = views.ITEMS
    shown = widget.answers.chats.value
    assert "I am une infirmière." in shown and "words of &lt;french&gt;" in shown
    (tmp_path / "mine.csv").unlink()
    widget = explorer.explore(tmp_path)
    assert dict(widget.categories.options).keys() == {"other"}


def test_each_condition_of_a_run_is_explored_separately(tmp_path):
    widget = explorer.explore(make_runs(tmp_path, n=1, conditions=("undefended", "defended")))
    labels = [label for label, _ in widget.run.options]
    assert ["undefended" in label for label in labels] == [True, False]
    widget.run.value = widget.run.options[1][1]
    assert len(widget.selection.run.scores) == 12 * 60 * 2 and len(widget.drawing.rows) == 33
    widget.other.value = widget.run.options[0][1]
    assert "defended − undefended, in demo-0: each persona" in widget.title.value
    widget.view.value = views.ITEMS
    # Without those of the other condition.
    assert widget.answers.chats.value.count("answer, paper, run") == 4


INTERVAL = {"estimate": [0.5, 0.6], "ci_low": [0.4, 0.5], "ci_high": [0.6, 0.7]}
METRICS = {
    name + end: [0.5, 0.6]
    for name in ("precision", "recall", "kappa")
    for end in ("", "_low", "_high")
}
PAPERS = {
    "Raters": {
        "relevance": pd.DataFrame(
            {"rater": ["human_1", HOSTILE_TEXT], "rater_kind": ["human", "model"], **METRICS}
        ),
        "agreement": pd.DataFrame(
            {"rater_a": ["human_1", "x"], "rater_b": [HOSTILE_TEXT, "y"], **INTERVAL}
        ),
    },
    "Ratings": {
        "ratings": pd.DataFrame(
            {"rater": ["human", "judge"], "metric": "mean rating", "n": 9, **INTERVAL}
        ),
        "correlations": pd.DataFrame(
            {"rater": ["a", "b"], "spearman": [0.1, 0.2], "ci_low": 0.0, "ci_high": 0.5}
        ),
    },
    "Acceptance": {
        "acceptance": pd.DataFrame(
            {"rater_kind": "human", "source": ["real", "x"], "label": "yes", **INTERVAL}
        )
    },
    "Shots": {
        "personalization": pd.DataFrame(
            {
                "strategy": [f"s{number}" for number in range(15)],
                **{"shots": [0, *range(14)], "control": "own", "metric": "win_rate"},
                **dict.fromkeys(INTERVAL, 0.5),
            }
        )
    },
    "Users": {
        "heterogeneity": pd.DataFrame(
            {"alpha": [0.01, 0.1], "measure": "top", "bin": "≤50%", **INTERVAL}
        )
    },
    "Published": {
        "published": pd.DataFrame(
            {
                "quantity": "f1",
                "condition": ["a", None],
                "published": [0.2, 0.3],
                "measured": [0.3, 0.4],
                "comparable": "no",
            }
        )
    },
}


@pytest.mark.parametrize("name", PAPERS)
def test_every_paper_has_its_applicable_views_only(tmp_path, name):
    saved_run(tmp_path, "paper", "notebook", **PAPERS[name])
    widget = explorer.explore(tmp_path)
    assert widget.view.options == (name, views.TABLES)
    for view in widget.view.options:
        widget.view.value = view
        assert widget.message.value == ""
        assert len(widget.drawing.rows)
        assert json.dumps(widget.chart.spec, allow_nan=False)
        if chart := widget.drawing.chart:  # a table without estimates has none
            alt.Chart.from_dict(chart)  # validates against the schema
        assert all(len({*drawn.values()}) == len(drawn) for drawn in styles(widget.chart.spec))
    hidden = (
        widget.tasks,
        widget.categories,
        widget.correction,
        widget.margin,
        widget.answers,
        widget.other,
    )
    assert {each.layout.display for each in hidden} == {"none"}


def test_grid_cells_without_data_are_empty(tmp_path):
    missing = {
        "text": pd.Series(["x", None, np.nan], dtype="str"),
        "measured": [1.5, np.nan, 2.5],
        "n_items": pd.array([1, None, 2], dtype="Int64"),
        "held": pd.Series([True, None, False], dtype=object),
        "none": [None, None, None],
        "never": [np.nan, np.nan, np.nan],
    }
    for kind in ("text", "quantity"):
        grid = Grid(pd.DataFrame({"–": []}))
        grid.update(_grid_table(pd.DataFrame(missing), kind))
        rows = json.loads(grid._dt_args["data_json"])
        shown = [[cell[0] if isinstance(cell, list) else cell for cell in row] for row in rows]
        assert shown[0][0] == "x"
        assert [float(cell) for cell in shown[0][1:3]] == [1.5, 1]
        assert shown[0][3] == "True"
        assert shown[1] == [""] * 6 and shown[2][0] == "" and shown[2][4:] == ["", ""]
    assert readable.compact(pd.DataFrame(missing)).iloc[1].tolist() == [""] * 6


def test_unexpected_columns_or_empty_tables_cause_no_traceback(tmp_path):
    other = pd.DataFrame(
        {"classifier": ["a"], "metric": ["f1"], **{name: [0.5] for name in INTERVAL}}
    )
    saved_run(
        tmp_path,
        "paper",
        "notebook",
        relevance=other,
        ratings=other,
        published=PAPERS["Published"]["published"],
    )
    widget = explorer.explore(tmp_path)
    assert widget.view.options == ("Published", views.TABLES)
    assert [key.split(", ")[0] for key in widget.drawing.rows["key"]] == ["F1", "F1"]
    widget.view.value, widget.table.value = views.TABLES, "relevance"
    assert widget.drawing.rows["metric"].tolist() == ["F1"]  # as on the axis label
    saved_run(tmp_path, "paper", "notebook", published=PAPERS["Published"]["published"].head(0))
    widget = explorer.explore(tmp_path)
    assert "nothing to show" in widget.message.value and widget.drawing is None


def test_infinite_ends_are_drawn_beyond_the_finite_ones():
    """As null, which JSON has in place of ∞, a rule would end at 0."""
    ends = {"ci_low": [10.0, 20.0], "ci_high": [30.0, np.inf]}
    rows = pd.DataFrame({"key": ["a", "b"], "metric": "m", "estimate": 25.0, "colour": "x", **ends})
    chart = charts.intervals(rows, "points", panel="metric")
    channels = chart["spec"]["layer"][1]["encoding"]
    drawn = [[row[channels[x]["field"]] for x in ("x", "x2")] for row in chart["data"]["values"]]
    assert drawn == [[10, 30], [20, 32]]
    told = [each["field"] for each in channels["tooltip"]]
    assert "ci_high" in told and "drawn_high" not in told


def test_table_without_estimates_leaves_no_chart_of_another_run(tmp_path):
    budget = pd.DataFrame({"n_items": [9, 5], "noise_floor": [1.0, 2.0]})
    saved_run(tmp_path, "notebooks", "instruments", budget=budget)
    widget = explorer.explore(tmp_path)
    assert widget.view.value == "Tables" and len(widget.drawing.rows) == 2
    assert widget.chart.layout.display == "none" and widget.grid.layout.display is None


def test_long_and_wide_tables_are_read_alike():
    """Wide: a column per metric; long: a row per metric."""
    wide = pd.DataFrame({"rater": ["a"], "n": [9], "f1": [0.5], "f1_low": [0.4], "f1_high": [0.6]})
    table = pd.DataFrame(
        {
            "rater": ["a"],
            "metric": ["f1"],
            "estimate": [0.5],
            "ci_low": [0.4],
            "ci_high": [0.6],
            "n": [9],
        }
    )
    columns = ["rater", "metric", "estimate", "ci_low", "ci_high"]
    assert long(wide)[columns].equals(long(table)[columns])


def test_missing_data_are_reported_in_one_line(tmp_path):
    assert "No finished runs" in explorer.explore(tmp_path).value
    paired = pd.DataFrame({"metric": ["f1"], "estimate": [0.5], "ci_low": [0.4], "ci_high": [0.6]})
    folder = saved_run(tmp_path, "recentering", "2_relevance", paired=paired)
    assert explorer.explore(tmp_path).view.options == (views.TABLES,)
    assert "F1 0.500 [0.400, 0.600]" in explorer.live(folder).picture.value
    with pytest.raises(UserError, match="no table other"):
        explorer.live(folder, "other")
    (folder / "tables" / "paired.csv").write_text('"')
    assert "is damaged" in explorer.explore(tmp_path).message.value


def test_live_widget_has_a_static_fallback(figures):
    widget = explorer.live(figures / "safety_utility" / "1_bias" / "demo-0", "contrasts")
    data, metadata = widget._repr_mimebundle_()
    assert {"image/png", "application/vnd.jupyter.widget-view+json"} <= set(data)
    assert metadata["image/png"]["alt"].startswith("estimate: mmlu · ")
    widget.search.value = "muslim gsm8k"
    assert widget.rows.value.count("<tr") == 2
    widget.search.value = "nobody"
    assert "No row holds" in widget.picture.value
    evil = explorer.live(pd.DataFrame({"rater": [HOSTILE_TEXT], "f1": [0.5]}))
    assert "<script" not in evil.rows.value + evil.picture.value


def test_explorer_shows_a_table_without_a_kernel(widget):
    data, _ = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/html"].startswith("<table") and "muslim" in data["text/html"]


def test_explorer_is_fast_with_twenty_runs(tmp_path):
    """Promised: 3 s to open and 300 ms per selection; tested with a margin, in processor time."""
    make_runs(tmp_path, n=20)
    command = [
        sys.executable,
        "-c",
        "import sys, time, personagap as pg; pg.explorer.explore(sys.argv[1])",
    ]
    command[-1] += "; print(time.process_time()); sys.stdout.flush(); import os; os._exit(0)"
    explorer.explore(tmp_path)  # warm-up: the JavaScript is bundled once
    assert float(subprocess.run([*command, tmp_path], capture_output=True, check=True).stdout) < 4

    widget = explorer.explore(tmp_path)
    widget.view.value = "Trade-off"  # warm-up: its statistics are imported once
    widget.view.value = "Identities"
    choices = [("correction", "none"), ("pick", "hindu"), ("margin", 5), ("tasks", ["mmlu"])]
    choices += [("view", name) for name in widget.view.options] + [
        ("run", widget.run.options[7][1])
    ]
    seconds = {}
    gc.collect()
    gc.freeze()  # excludes garbage of other tests
    for name, value in choices:
        began = time.process_time()
        getattr(widget, name).value = value
        seconds[name, str(value)[:20]] = time.process_time() - began
    gc.unfreeze()
    print(seconds)
    # A shared core takes up to three times as long.
    assert max(seconds.values()) < 1.2, seconds


def test_tour_reports_what_was_found_and_what_was_not(figures):
    table = index.latest(figures)
    assert (table["answer"] == "not run yet").all() and (table["run"] == "–").all()
    assert len(table) == len(list(NOTEBOOKS.glob("*/*.ipynb")))
    assert table["question"].str.len().gt(5).all()


def test_the_tour_runs(figures, tmp_path):
    request = Request(NOTEBOOKS / "start_here.ipynb", {"figures": str(figures)}, figures=tmp_path)
    assert execute.run(request)["status"] == "finished"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("[!.]*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_parameter_is_explained(path):
    """As ``papermill --help-notebook`` shows; and the parameters cell is marked for readers."""
    described = papermill.inspect_notebook(str(path))
    assert {*described} - {"output"} == set(Request(path).defaults)
    assert [name for name, parameter in described.items() if not parameter["help"]] == []
    cells = Request(path).content["cells"]
    before = [
        cell
        for cell, after in itertools.pairwise(cells)
        if "parameters" in after["metadata"].get("tags", [])
    ]
    assert "".join(before[0]["source"]) == "## Parameters"
