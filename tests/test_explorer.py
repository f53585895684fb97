"""The explorer without a browser: what each choice shows, what is missing, how fast."""

import gc
import itertools
import re
import shutil
import subprocess
import sys
import time

import pandas as pd
import papermill
import pytest
from explored import EVIL, make_runs
from matplotlib.figure import Figure

from personagap import effects, explorer
from personagap.errors import UserError
from personagap.explorer import views
from personagap.paths import DEMO, NOTEBOOKS
from personagap.runs import execute, index, open_run
from personagap.runs.folder import record
from personagap.runs.request import Request


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("figures"))


def alt(html):
    return re.search('alt="([^"]*)"', html)[1]


def show(widget, title):
    widget.tabs.selected_index = widget.tabs.titles.index(title)
    return widget.pictures[title].value if title in widget.pictures else widget.answers.value


def test_every_view_follows_every_choice(figures):
    widget = explorer.explore(figures)
    assert "12 personas" in alt(show(widget, "Trade-off"))
    forest = show(widget, "Forest")
    assert "found" not in forest and alt(forest).startswith("33 differences from no system prompt, ")
    widget.categories.value = ["religion"]
    assert alt(show(widget, "Forest")).startswith("18 differences")
    widget.tasks.value = ["mmlu", "gsm8k"]
    assert alt(show(widget, "Forest")).startswith("12 differences")
    assert "needs a task of each" in show(widget, "Trade-off")
    widget.correction.value = "none"
    assert "(correction: none)" in alt(show(widget, "Forest"))
    assert "muslim − none" in alt(show(widget, "Heat map"))
    before = show(widget, "Items")
    widget.persona.value = "hindu"
    assert show(widget, "Items") != before
    widget.tasks.value = []
    assert "Nothing is chosen" in show(widget, "Heat map")


def test_numbers_are_those_of_the_library(figures):
    widget = explorer.explore(figures)
    scores = pd.read_parquet(widget.run.value.folder / "tables" / "scores.parquet")
    expected = effects.contrasts(scores).query("task == 'mmlu' and contrast == 'muslim − none'").iloc[0]
    show(widget, "Answers")
    widget.search.value = "MUSLIM mmlu"
    ((line, value),) = widget.rows.options.items()
    assert value == ("mmlu", "muslim") and f"{expected['estimate']:+.1f}" in line
    by_item = widget.run.value.by_item("muslim")
    assert by_item[by_item["task"] == "mmlu"]["difference"].mean() == pytest.approx(expected["estimate"])


def test_from_a_number_to_the_answers_behind_it(figures):
    widget = explorer.explore(figures)
    show(widget, "Answers")
    widget.search.value = "muslim do_not_answer"
    shown = widget.answers.value
    assert shown.count("muslim, paper, run") == 2 and shown.count("none, paper, run") == 2
    assert "<script" not in shown and "&lt;script&gt;" in shown and "<img" not in shown
    assert "\u202e" not in shown and "[U+202E]right" in shown
    assert ": the prompt" in shown and "score " in shown
    widget.item.value = widget.item.options[-1][1]
    assert widget.answers.value != shown and widget.persona.value == "muslim"


def test_prompts_are_found_where_the_run_found_its_data(tmp_path):
    """A relative folder is one of the place where the run was started, not of the notebook that explores it."""
    make_runs(tmp_path, n=1)
    (tmp_path / "mine").mkdir()
    shutil.copy(DEMO / "mmlu.csv", tmp_path / "mine")
    widget = explorer.explore(tmp_path)
    record(widget.run.value.folder, cwd=str(tmp_path), parameters={"data": "mine"})
    show(widget, "Answers")
    widget.search.value = "mmlu"
    assert "Question: " in widget.answers.value
    widget.search.value = "gsm8k"
    assert "data are gone" in widget.answers.value


def test_two_runs_are_compared_in_pairs(figures):
    """Against `contrasts` of one persona, whose scores in the first run stand in for the control's."""
    widget = explorer.explore(figures)
    first, second = (run for _, run in widget.run.options)
    table = second.after(first).set_index(["task", "contrast"])
    scores = [run.scores.query("persona == 'hindu'") for run in (first, second)]
    expected = effects.contrasts(pd.concat([scores[0].assign(persona="none"), scores[1]])).set_index("task")
    columns = ["estimate", "ci_low", "ci_high", "p_value"]
    row = table.loc[("mmlu", "hindu − the first run"), columns]
    assert row.tolist() == pytest.approx(expected.loc["mmlu", columns].tolist())
    assert (table["p_adjusted"] >= table["p_value"]).all() and len(table) == 36
    assert "Choose a second run" in show(widget, "Compared")
    widget.other.value = second
    assert alt(show(widget, "Compared")).startswith("36 differences from the same persona")


def test_each_condition_of_a_run_is_explored_by_itself(tmp_path):
    widget = explorer.explore(make_runs(tmp_path, n=1, conditions=("undefended", "defended")))
    assert [label for label, _ in widget.run.options] == [f"1_bias · demo-0 · {c}" for c in ("undefended", "defended")]
    widget.run.value = widget.run.options[1][1]
    assert len(widget.chosen.run.scores) == 12 * 60 * 2
    assert alt(show(widget, "Forest")).startswith("33 differences")
    show(widget, "Answers")
    widget.search.value = "muslim do_not_answer"
    assert widget.answers.value.count("muslim, paper, run") == 2  # not also those of the other condition


def test_what_is_missing_is_said_in_a_line(tmp_path):
    assert "No finished runs" in explorer.explore(tmp_path).value
    folder = tmp_path / "recentering" / "2_relevance" / "demo-1"
    record(folder, id="demo-1", status="finished", started="2026", changed={}, parameters={})
    open_run(folder).save(paired=pd.DataFrame({"metric": ["f1"], "estimate": [0.5], "ci_low": [0.4], "ci_high": [0.6]}))
    widget = explorer.explore(tmp_path)
    for title in widget.tabs.titles[:-1]:
        assert re.fullmatch(r"<p><em>[^<]+</em></p>", show(widget, title)), title
    show(widget, "Tables")
    assert "f1 0.500 [0.400, 0.600]" in widget.tables.children[0].picture.value
    (folder / "tables" / "paired.csv").unlink()
    widget.tabs.selected_index = 0
    show(widget, "Tables")
    assert "no table with numbers" in widget.tables.children[0].value
    with pytest.raises(UserError, match="no table other"):
        explorer.live(folder, "other")


def test_live_is_a_widget_here_and_a_picture_elsewhere(figures):
    widget = explorer.live(figures / "safety_utility" / "1_bias" / "demo-0", "contrasts")
    data, metadata = widget._repr_mimebundle_()
    assert {"image/png", "application/vnd.jupyter.widget-view+json"} <= set(data)
    assert metadata["image/png"]["alt"].startswith("estimate: mmlu · ")
    widget.search.value = "muslim gsm8k"
    assert widget.rows.value.count("<tr") == 2
    widget.search.value = "nobody"
    assert "No row holds" in widget.picture.value
    evil = explorer.live(pd.DataFrame({"rater": [EVIL], "f1": [0.5]}))
    assert "<script" not in evil.rows.value + evil.picture.value


def test_the_explorer_leaves_a_picture_where_no_kernel_runs(figures, tmp_path):
    _, metadata = explorer.explore(figures)._repr_mimebundle_()
    assert metadata["image/png"]["alt"].startswith("Safety against utility of 12 personas")
    (scores,) = make_runs(tmp_path, n=1).glob("*/*/*/tables/scores.parquet")
    pd.read_parquet(scores).query("task == 'mmlu'").to_parquet(scores)
    _, metadata = explorer.explore(tmp_path)._repr_mimebundle_()
    assert metadata["image/png"]["alt"].startswith("11 differences from no system prompt")


def test_panels_of_an_earlier_forest_plot_leave_no_trace(figures):
    """A forest plot is drawn into the panels of the last one: to the letter as into new ones."""
    widget = explorer.explore(figures)
    show(widget, "Forest")
    widget.run.value = widget.run.options[1][1]
    again = widget.pictures["Forest"].image("png")
    views._new_panels.cache_clear()
    assert widget.pictures["Forest"].image("png") == again


def test_garbage_collection_is_left_as_the_user_had_it(figures):
    for enabled in (False, True):
        (gc.enable if enabled else gc.disable)()
        widget = explorer.explore(figures)
        for title in widget.tabs.titles:
            show(widget, title)
        widget.tasks.value = []  # nothing to draw
        assert gc.isenabled() is enabled and gc.get_freeze_count() == 0


def test_figures_do_not_pile_up(figures):
    widget = explorer.explore(figures)
    show(widget, "Heat map")
    gc.collect()
    gc.disable()
    try:
        for correction in 5 * widget.correction.options:
            widget.correction.value = correction
        assert sum(isinstance(each, Figure) for each in gc.get_objects()) <= len(views.VIEWS)
    finally:
        gc.enable()


def test_quick_with_twenty_runs(tmp_path):
    """Promised: 3 s to open and 300 ms a choice, its first too; here with room, in time of the processor."""
    make_runs(tmp_path, n=20)
    opening = "import sys, time, personagap as pg; pg.figures.use(); pg.explorer.explore(sys.argv[1])"
    command = [sys.executable, "-c", f"{opening}; print(time.process_time())", tmp_path]
    assert float(subprocess.run(command, capture_output=True, check=True).stdout) < 4

    def took(choose, *given):
        began = time.process_time()
        choose(*given)
        return time.process_time() - began

    widget = explorer.explore(tmp_path)
    widget.other.value = widget.run.options[3][1]
    seconds = {title: took(show, widget, title) for title in widget.tabs.titles}
    show(widget, "Compared")
    choices = {
        "margin": 5,
        "persona": "hindu",
        "correction": "none",
        "run": widget.run.options[7][1],
        "tasks": ["mmlu"],
    }
    seconds |= {name: took(setattr, getattr(widget, name), "value", value) for name, value in choices.items()}
    assert max(seconds.values()) < 0.5, seconds


def test_the_tour_says_what_was_found_and_what_was_not(figures):
    table = index.latest(figures)
    assert (table["answer"] == "not run yet").all() and (table["run"] == "–").all()
    assert len(table) == len(list(NOTEBOOKS.glob("*/*.ipynb"))) and table["question"].str.len().gt(5).all()


def test_the_tour_runs(figures, tmp_path):
    request = Request(NOTEBOOKS / "start_here.ipynb", {"figures": str(figures)}, figures=tmp_path)
    assert execute.run(request)["status"] == "finished"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("[!.]*.ipynb")), ids=lambda path: path.stem)
def test_every_parameter_says_what_it_means(path):
    """What ``papermill --help-notebook`` shows; and the cell is marked where a person reads the notebook."""
    described = papermill.inspect_notebook(str(path))
    assert {*described} - {"output"} == set(Request(path).defaults)
    assert [name for name, parameter in described.items() if not parameter["help"]] == []
    cells = Request(path).content["cells"]
    before = [cell for cell, after in itertools.pairwise(cells) if "parameters" in after["metadata"].get("tags", [])]
    assert "".join(before[0]["source"]) == "## Parameters"
