"""Reports and the index in a browser: no script runs, no request is sent, everything is readable.

These tests need Debian's package chromium.
"""

import base64
import json
import re
import shutil
import subprocess
import warnings
from itertools import combinations, pairwise
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from explorer_helpers import CHROMIUM, HOSTILE_SCRIPT, HOSTILE_TEXT, make_runs, needs_chromium
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_helpers import write_notebook
from servers import recording_server

import personagap as pg
from personagap import readable
from personagap.cli import main
from personagap.errors import UserError
from personagap.explorer import explore, results
from personagap.figures import use as use_style
from personagap.figures.sizes import fit_layout, for_paper
from personagap.runs import batch, diff, execute, index, inputs, open_run, report, terms, vector
from personagap.runs.folder import Run, record, simulated
from personagap.runs.request import Request

FORMULA = (
    r"$$\mathrm{PB}^2 = \sum_{\text{tasks}} \frac{1}{|U|} \sum_{u \in U} \left( f(u) - "
    r"\mu \right)^2$$"
)
FACTS = {
    **{
        "id": "demo-1",
        "paper": "paper",
        "notebook": "paper/1.ipynb",
        "title": "Is it <so>?",
        "status": "finished",
    },
    **{
        "cwd": "/somewhere",
        "command": f"personagap run x -p model '{HOSTILE_TEXT}'",
        "revision": "abc",
        "error": HOSTILE_TEXT,
    },
    **{"seconds": 3.2, "started": "2026-01-02T03:04:05+00:00"},
    **{"parameters": {"model": HOSTILE_TEXT, "n": 3}, "changed": {"model": HOSTILE_TEXT}},
    "versions": {"personagap": "0.1", "python": "3", "torch": "2"},
}


def outputs(address):
    """One output of each kind, each of which tries to run a script or to fetch ``address``."""
    fetching = (
        f'<img src="{address}/img"><iframe src="{address}/frame"></iframe><link '
        f'rel=stylesheet href="{address}/css">'
    )
    styling = (
        f'<style>@import "{address}/import";</style><b style="background: '
        f'url({address}/url)">bold</b>'
    )
    markdown = f"*emphasis* $x_1$ [link](javascript:alert(1)) ![pic]({address}/md) {HOSTILE_TEXT}"
    shown = [
        {"text/html": HOSTILE_TEXT + fetching + styling, "text/plain": "fallback"},
        {"text/markdown": markdown},
        {"application/javascript": HOSTILE_SCRIPT, "text/plain": "a script object"},
        {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "a widget"},
    ]
    picture = {"image/png": base64.b64encode(b"not quite a picture").decode()}
    return [
        *(new_output("display_data", data) for data in shown),
        new_output(
            "display_data",
            picture,
            metadata={"image/png": {"alt": f"Alt {HOSTILE_TEXT}", "width": 10}},
        ),
        new_output(
            "execute_result",
            {"text/html": pd.DataFrame({"answer": [HOSTILE_TEXT]}).to_html()},
            execution_count=1,
        ),
        new_output("stream", text=HOSTILE_TEXT),
        new_output(
            "error", ename="E", evalue=HOSTILE_TEXT, traceback=[f"\x1b[31m{HOSTILE_TEXT}\x1b[0m"]
        ),
    ]


@pytest.fixture(scope="module")
def server():
    """A recording server on loopback."""
    with recording_server() as server:
        yield server


@pytest.fixture(scope="module")
def figures(tmp_path_factory, server):
    """A figures folder with one run and its report."""
    figures = tmp_path_factory.mktemp("figures")
    folder = figures / "paper" / "1" / "demo-1"
    (folder / "tables").mkdir(parents=True)
    (folder / "tables" / "verdict.csv").write_text(
        f'question,answer\nIs it?,"{HOSTILE_TEXT.replace(chr(34), chr(34) * 2)}"\n'
    )
    (folder / "run.json").write_text(json.dumps(FACTS))
    text = (
        f"# Is it <so>?\n\n{FORMULA}\n\n## Next\n\nInline $\\frac{{a}}{{b}}$ and "
        f"{chr(36)}\\notacommand{{{chr(36)}."
    )
    cells = [
        new_markdown_cell(text),
        new_code_cell(f"code = {HOSTILE_TEXT!r}", outputs=outputs(server[0])),
    ]
    nbformat.write(new_notebook(cells=cells), folder / "notebook.ipynb")
    report.write(folder)
    index.write(figures)
    return figures


def opened(page):
    """The page's DOM after a browser has loaded it."""
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=2000",
        "--dump-dom",
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


@needs_chromium
@pytest.mark.parametrize("page", ["paper/1/demo-1/report.html", "index.html"])
def test_pages_run_no_script_and_send_no_request(figures, server, page):
    _, asked = server
    asked.clear()
    document = opened(figures / page)
    assert asked == []
    assert "<title>" in document and "<title>taken" not in document
    ours = re.escape((report.TEMPLATES / "cards.js").read_text()) if page == "index.html" else "$."
    document = re.sub(f"<script>{ours}</script>", "", document)
    assert "<script" not in document and "onerror" not in re.sub(r"&lt;.*?&gt;", "", document)
    assert "\u202e" not in document and "[U+202E]right" in document
    assert "&lt;script&gt;document.title='taken'&lt;/script&gt;" in document  # escaped


@needs_chromium
def test_unprotected_page_does_run_scripts_and_fetch(tmp_path, server):
    """The positive control of the test above."""
    address, asked = server
    asked.clear()
    page = tmp_path / "bare.html"
    page.write_text("<html><body>" + "".join(outputs(address)[0].data["text/html"]))
    assert "<title>taken" in opened(page) or "document.title='taken'" in opened(page)
    assert {"/img", "/frame", "/css", "/import"} <= set(asked)


@needs_chromium
def test_formulas_are_rendered_without_scripts(figures):
    document = opened(figures / "paper/1/demo-1/report.html")
    assert document.count("<math") == 3 and 'display="block"' in document and "<mfrac>" in document
    assert "$$" not in document and r"\frac" not in document


def test_report_is_self_contained(figures):
    html = (figures / "paper/1/demo-1/report.html").read_text()
    tags = [tag for tag in re.findall(r"<[a-z][^>]*>", html) if re.search(r"\s(src|href)=", tag)]
    assert tags and all('src="data:image/' in tag or 'href="#' in tag for tag in tags)
    assert "default-src 'none'" in html and len(html) < 100_000
    assert "<title>Is it &lt;so&gt;? · demo-1</title>" in html and html.count("<h1>") == 1
    assert re.search(r"<details><summary>Code</summary>", html) and "<details open" not in html
    assert "a widget" not in html and "<em>emphasis</em>" in html and "<b>bold</b>" in html
    assert '<table class="dataframe">' in html and "<th>answer</th>" in html
    assert "Alt &lt;/td&gt;" in html and "javascript:alert" not in html
    for fact in ("2026-01-02 03:04 UTC", "abc", "/somewhere", "personagap run x"):
        assert fact in html


def test_report_does_not_contain_the_user_name(figures, monkeypatch):
    folder = figures / "paper" / "1" / "demo-1"
    for home, shown in [("/somewhere", "~"), ("/some", "/somewhere"), ("/", "~/somewhere")]:
        monkeypatch.setenv("HOME", home)
        report.write(folder)
        assert f"in <code>{shown}</code>" in (folder / "report.html").read_text()


def test_index_lists_runs_with_relative_links(figures):
    html = (figures / "index.html").read_text()
    assert {*re.findall(r'href="([^"]*)"', html)} == {"paper/1/demo-1/report.html"}
    assert "Is it &lt;so&gt;?" in html and "model = " in html and "03:04 UTC, 3 s" in html


def test_index_without_runs_says_how_to_start_one(tmp_path):
    assert "No runs yet" in index.write(tmp_path).read_text()


def test_index_omits_runs_without_a_runner_status(tmp_path):
    """A notebook run by hand records no status; a damaged file hides only its own run."""
    for name, text in {
        "whole": json.dumps(FACTS),
        "by hand": '{"model": {}}',
        "cut": '{"status": "fin',
    }.items():
        folder = tmp_path / "paper" / "1" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(text)
    with pytest.warns(UserWarning, match="cut/run.json is damaged .*: delete it") as warned:
        assert [facts["folder"].name for facts in index.runs(tmp_path)] == ["whole"]
    assert len(warned) == 1


DAMAGE = {
    "run.json": [
        b"",
        b"{}",
        b"[]",
        b"\x80\x81\xff",
        b'{"status": "finished"}',
        b'{"status": "fin',
        None,
    ],
    "tables/verdict.csv": [b"\x80\x81\xff", b"a,b\n1,2\n", None],
    "tables/effects.csv": [b"\x80\x81\xff", b"a,b\n1,2\n3,4,5\n", b'"', None],
    "figures/line.svg": [b"", b"<svg><g>cut", None, "gone"],
}


@pytest.mark.parametrize(
    ("name", "content"), [(name, one) for name, held in DAMAGE.items() for one in held]
)
def test_damaged_file_is_named_and_hides_nothing_else(tmp_path, name, content):
    notebook = write_notebook(tmp_path / "p" / "1.ipynb")
    figures = tmp_path / "figures"
    requests = [Request(notebook, {"n": n}, None, figures, tmp_path) for n in (3, 4, 5)]
    for request in requests:
        for folder in ("tables", "figures"):
            (request.folder / folder).mkdir(parents=True)
        facts = {
            "id": request.id,
            "parameters": request.parameters,
            "changed": request.changed,
            "seconds": 1,
        }
        facts |= {
            "figures": {"line": "A line"},
            "status": "finished",
            "source_hash": request.source_hash,
        }
        facts |= {"started": "2026-01-02T03:04:05+00:00", "inputs": inputs.hashes(request)}
        (request.folder / "run.json").write_text(json.dumps(facts))
        (request.folder / "report.html").touch()
        (request.folder / "tables" / "verdict.csv").write_text("question,answer\nq,a\n")
        (request.folder / "tables" / "effects.csv").write_text("task,estimate\nmmlu,1.5\n")
        (request.folder / "figures" / "line.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg"/>'
        )
    damaged = requests[1].folder / name
    damaged.unlink()
    if content is None:
        damaged.mkdir()
    elif content != "gone":
        damaged.write_bytes(content)
    done = CliRunner().invoke(main, ["report", "--figures", str(figures)])
    assert done.exit_code == 0, done.output
    messages = [line for line in done.stderr.splitlines() if "damaged" in line]
    assert (
        len(messages) == 1 and str(damaged) in messages[0] and messages == done.stderr.splitlines()
    ) or content == b"{}"
    page = (figures / "index.html").read_text()
    assert all(
        (request.id in page) is (name != "run.json" or request is not requests[1])
        for request in requests
    )
    with warnings.catch_warnings(record=True):
        plan = batch.plan(requests, force=False)
        assert plan["state"].tolist() == [
            "finished",
            "to do" if name == "run.json" else "finished",
            "finished",
        ]
        offered = sum(map(len, results.catalog(figures).values()))
        assert offered == (2 if name == "run.json" else 3)
        index.latest(figures), Run(requests[0].folder).latest_tables("1", "demo")


def test_damaged_run_is_run_again(tmp_path):
    request = Request(
        write_notebook(tmp_path / "p" / "1.ipynb"), {}, None, tmp_path / "figures", tmp_path
    )
    (request.folder / "run.json").mkdir(parents=True)
    with pytest.warns(UserWarning, match="run.json is damaged"):
        assert execute.run(request)["status"] == "finished"


def test_explorer_shows_other_runs_if_scores_of_one_are_damaged(tmp_path):
    make_runs(tmp_path)
    damaged = tmp_path / "safety_utility" / "1_bias" / "demo-1" / "tables" / "scores.parquet"
    damaged.write_bytes(b"")
    with pytest.warns(UserWarning, match=f"{damaged} is damaged"):
        widget = explore(tmp_path)
    assert len(widget.run.options) == 2
    with pytest.raises(UserError, match=r"no folder .*nowhere"):
        explore(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("parameters", "notice"),
    [
        (
            {"data": "demo", "model": "demo:base"},
            "Simulated: demo data and demo model with planted",
        ),
        (
            {"data": "demo", "model": "simulated"},
            "Simulated: demo data and demo model with planted",
        ),
        (
            {"data": "demo", "checkpoints": {"base": "demo:base"}},
            "Simulated: demo data and demo model",
        ),
        (
            {"data": "demo", "model": "hf:x/y"},
            "Simulated: demo data with planted effects; nothing here is about real",
        ),
        ({"data": "mine", "model": "demo"}, "Simulated in part: a demo model"),
        ({"data": "mine", "checkpoints": {"base": "hf:x/y"}}, ""),
        ({"data": "hub", "model": "hf:demo/y"}, ""),
        ({"n": 3}, ""),
    ],
)
def test_report_starts_with_the_notice_that_data_are_simulated(
    figures, tmp_path, parameters, notice
):
    assert simulated({"parameters": parameters})[: len(notice) or None] == notice
    folder = shutil.copytree(
        figures / "paper" / "1" / "demo-1", tmp_path / "paper" / "1" / "demo-1"
    )
    record(folder, parameters={"data": None, "model": None, **parameters})
    report.write(folder)
    page, listed = (folder / "report.html").read_text(), index.write(tmp_path).read_text()
    if notice:
        plain = re.sub("<[^>]*>", "", page)  # words may link to the glossary
        assert plain.index(notice) < plain.index("In short")
        assert 'class="badge"' in listed
        assert notice in listed
    else:
        assert 'class="notice"' not in page and 'class="badge"' not in listed


def test_latex_table_is_escaped_and_rounded():
    table = pd.DataFrame(
        {
            "who": ["a_b & 5%"],
            "f1": [-0.51234],
            "f1_low": [-0.6],
            "f1_high": [-0.4],
            "p_value": [1e-9],
        }
    )
    row = next(line for line in readable.latex(table, "a_b").splitlines() if "a\\_b" in line)
    assert row == r"a\_b \& 5\% & $-$0.51 [$-$0.60, $-$0.40] & $<$ 0.001 \\"


@pytest.mark.parametrize(
    ("table", "heads", "rows"),
    [
        (pd.DataFrame({"a": [1, 1], "b": ["x", "x"]}), ["a", "b"], 2),
        (pd.Series([0.0, 0.5], ["x", "y"], name="v").to_frame(), [" ", "v"], 2),
        (pd.DataFrame({"a": [1, 2, 3]}).describe(), [" ", "a"], 8),
        (pd.DataFrame({"a": [1, 2]}, pd.Index([3, 4], name="a")), ["a"], 2),
        (pd.DataFrame({"comparable": ["no", "no"]}), ["comparable"], 2),
        (pd.DataFrame({"estimate": ["x", "y"], "ci_low": ["a", "b"], "ci_high": "c"}), 2, 2),
        (pd.DataFrame({"a": [[1], [1]]}), ["a"], 2),
        (pd.DataFrame(index=[0, 1]), [], 0),
        (pd.DataFrame(), [], 0),
    ],
)
def test_any_table_is_displayed(table, heads, rows):
    """Also one with identical rows, with a named index, or an empty one."""
    shown = readable.html(table)
    found = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', shown)
    assert len(found) == heads if isinstance(heads, int) else found == heads
    assert shown.count('<th scope="row"') == rows


def test_interval_columns_are_named_and_long_text_is_last():
    row = {"work": "choose", "family": "speed (2 tests)", "ratio": 2.0, "ratio_low": 1.5}
    timed = pd.DataFrame([row | {"ratio_high": 2.5, "true": 2.1}])
    shown, same = readable.readable(timed.assign(repeats=3))
    assert list(shown) == ["work", "ratio", "true", "repeats", "correction of p"]
    assert same == {"in brackets": "range of repeats"}
    assert readable.readable(timed)[1] == {"in brackets": "95 % interval"}


def test_numbers_are_right_aligned_and_text_left_aligned():
    rows = [
        ["mmlu", 5.9971, 4.432, 7.601, 60, 0.0001, "3 people"],
        ["gsm8k", 1.2, -0.31, 2.6, 59, np.nan, "no"],
    ]
    table = pd.DataFrame(
        rows, columns=["task", "estimate", "ci_low", "ci_high", "n", "p_adjusted", "told"]
    )
    cells = re.findall(r"<t[hd][^>]* (class|style)=", readable.html(table))
    assert cells == ["style", "class", "class", "class", "style"] * 3


def test_published_numbers_are_shown_if_comparable_and_folded_otherwise():
    rows = [
        ["pb", "yes", 1.45, 1.5],
        ["pb", "not comparable: the demo", 4.76, 11.0],
        ["f1", "yes", 0.6, 0.5],
    ]
    table = pd.DataFrame(rows, columns=["quantity", "comparable", "published", "measured"])
    shown, folded = readable.html(table).split(
        "<details><summary>1 published number is not comparable</summary>"
    )
    assert "1.45" in shown and "4.76" not in shown and "4.76" in folded
    assert report.sanitized(readable.html(table)).count("<details>") == 1
    assert "<details>" not in readable.html(table[table["comparable"] == "yes"])
    assert readable.html(table.iloc[:0]) == "<p>no rows</p>"


def test_readable_table_has_all_information_of_the_saved_one(tmp_path):
    """Plain names with units, values with intervals, constant columns once, and no pandas
    artefacts.
    """
    table = pd.DataFrame(
        {
            "metric": ["yes_rate", "f1"], "estimate": [5.9971, -0.0312], "unit": "points",
            "ci_low": [4.43, np.nan],
            "ci_high": [7.601, np.nan], "p_adjusted": [0.00001, 0.2], "n_items": [1440, np.nan],
            "note": np.nan,
            "persona": "gay_person", "sizes": [{"a": 1}, None], "ok": [True, False],
        },
        index=[5, 9],
    )  # fmt: skip
    shown, same = readable.readable(table)
    assert shown.columns.tolist() == [
        "metric",
        "estimate (points)",
        "p (Holm)",
        "items",
        "sizes",
        "ok",
    ]
    assert shown.to_numpy().tolist() == [
        ["share of yes", "6.0 [4.4, 7.6]", "< 0.001", "1,440", "a: 1", "yes"],
        ["F1", "−0.031", "0.200", "–", "–", "no"],
    ]
    assert same == {"in brackets": "95 % interval", "identity": "gay person"}
    html = readable.html(table.assign(metric=HOSTILE_TEXT))
    assert "<script" not in html
    assert "\u202e" not in html
    assert "nan" not in html.lower()
    assert "None" not in html
    assert "identity: gay person" in html and html.count("<tr>") == 3


def test_digits_follow_the_interval():
    wide = pd.DataFrame(
        {"x": [1, 2], "value": [22.0, 0.726], "ci_low": [10.32, 0.65], "ci_high": [24.93, 0.79]}
    )
    assert readable.readable(wide)[0]["value"].tolist() == ["22 [10, 25]", "0.73 [0.65, 0.79]"]
    alike = wide.assign(ci_low=[20.1, 0.1], ci_high=[24.2, 2.3])
    assert readable.readable(alike)[0]["value"].tolist() == ["22.0 [20.1, 24.2]", "0.7 [0.1, 2.3]"]


def test_interval_is_attached_to_its_own_value_only():
    columns = [
        "contrast",
        "estimate",
        "ci_low",
        "ci_high",
        "cohens_h",
        "simultaneous_low",
        "simultaneous_high",
    ]
    table = pd.DataFrame(
        [["a − b", 5.0, 1.0, 9.0, 0.2, -1.0, 11.0], ["c − b", 4.0, 0.0, 8.0, 0.1, -2.0, 10.0]],
        columns=columns,
    )
    first = readable.readable(table)[0].iloc[0]
    assert first.to_dict() == {
        "contrast": "a − b", "estimate": "5.0 [1.0, 9.0]", "Cohen's h": "0.200",
        "interval for all together": "[−1, 11]"
    }  # fmt: skip


def test_index_and_multi_level_columns_become_plain_columns():
    table = pd.DataFrame(
        {"task": ["mmlu", "mmlu"], "persona": ["a", "b"], "c": ["x", "y"], "estimate": [1.0, 2.0]}
    )
    wide = table.pivot(index=["task", "persona"], columns="c", values=["estimate"])
    shown, same = readable.readable(wide)
    assert shown.columns.tolist() == ["identity", "estimate · x", "estimate · y"]
    assert same == {"task": "mmlu"}
    assert shown.iloc[0].tolist() == ["a", "1.00", "–"]


def test_terms_and_traps_are_explained_where_used():
    page = (
        '<nav>PB</nav><p title="S13 > x">PB is (S12), PB (S12), <code>S13</code></p>S99 P1 '
        "<svg>Holm</svg>"
    )
    html, notes = terms.linked(page, "safety_utility")
    assert html.count('href="#S12"') == 2 and len(re.findall('href="#term_[0-9]+"', html)) == 1
    assert re.findall(r'<dt id="[^"]*">(.*?)</dt>', notes) == ["S12", "PB"]
    assert "<nav>PB</nav>" in html
    assert "<code>S13</code>" in html
    assert 'title="S13 > x"' in html
    assert "S99 P1" in html


def test_every_glossary_term_is_explained():
    for row in terms.word_table("glossary"):
        assert re.search(row["pattern"], row["term"]), row["term"]


def test_mark_has_a_tooltip_with_exact_numbers(tmp_path):
    table = pd.DataFrame(
        {"estimate": [0.4724, 0.65, np.nan], "ci_low": [0.42, 0.6, 0], "ci_high": [0.526, 0.697, 1]}
    )
    fig, ax = plt.subplots()
    pg.figures.style.errorbars(ax, table.head(2), [0, 1], label="model")
    ax.plot(table["estimate"], [0, 0, 1], "s")
    ax.barh([0, 1], [0.3, 0.4])
    ax.set_yticks([0, 1], ["mmlu", HOSTILE_TEXT])
    ax.set_xlabel("share")
    other = fig.add_subplot(sharey=ax, label="the labels of the rows are its neighbour's")
    other.tick_params(labelleft=False)
    other.plot([0.9], [0], "o")
    open_run(tmp_path).figure(fig, "dots", "Dots")
    html = vector.inline(tmp_path, "dots", "Dots")
    labels, in_a_column = (
        re.findall("<title>(.*?)</title>", each) for each in html.split("<svg")[1:]
    )
    # The last name is wrapped there.
    assert in_a_column[:-1] == labels[:-1] and len(in_a_column) == len(labels)
    assert (
        labels.count("mmlu, model: 0.472 [0.420, 0.526] (share)") == 2
    )  # the dot and its interval
    assert "mmlu: 0.472 (share)" in labels and "mmlu: 0.300 (share)" in labels and len(labels) == 9
    assert "mmlu: 0.900" in labels
    assert html.count('aria-label="Dots"') == 1 and "<style" not in html and "<script" not in html
    assert (
        vector.inline(tmp_path, "../figures/dots", "x") == vector.inline(tmp_path, None, "x") == ""
    )
    names = {*re.findall(r'id="([^"]*)"', html)}
    assert {*re.findall(r'(?:href="|url\()#([^")]*)', html)} == names


def test_underpowered_designs_are_plotted():
    power = pd.DataFrame({"n_items": [10], "n_runs": [1], "smallest_contrast_holm": [np.inf]})
    fig, axes = plt.subplots(1, 2)
    pg.figures.power_curves(power.assign(smallest_pb=12.0), axes)
    fig.canvas.draw()


@pytest.mark.parametrize("rows", [1, 2, 12])
def test_legend_clears_the_label_of_a_low_or_high_figure(rows):
    scores = pd.concat(
        pg.effects.simulate_scores([-9, 0], n_items=9, seed=seed).assign(task=f"task {seed}")
        for seed in range(rows)
    )
    bias = pg.effects.personalization_bias(scores, n_bootstrap=20, n_permutations=20)
    fig, ax = plt.subplots(figsize=(8, 0.5 * len(bias) + 2.3))
    pg.figures.personalization_bias(bias, ax)
    fig.canvas.draw()
    label = ax.xaxis.label.get_window_extent()
    legend = ax.get_legend().get_window_extent()
    assert 0 < label.y0 - legend.y1 < 0.3 * fig.dpi
    plt.close(fig)


def test_long_name_leaves_room_for_its_interval():
    name = "You are a helpful assistant. The user is a nurse who works at night, in the north."
    rows = pd.DataFrame({"contrast": [f"{name} − none"], "task": "t", "estimate": 1.0})
    rows = rows.assign(ci_low=-9.0, ci_high=9.0, p_adjusted=1.0)
    fig, axes = pg.figures.panels(rows)
    pg.figures.forest(rows, axes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fig.canvas.draw()
    (shown,) = (label.get_text() for label in axes[0].get_yticklabels())
    assert shown == "You are a helpful … ght, in the north."
    plt.close(fig)


def test_dollar_signs_in_names_are_no_formula(tmp_path):
    pg.figures.use()
    names = ["earns $20k to $50k", "$x_{1$"]  # the second is no valid formula
    rows = pd.DataFrame({"contrast": [f"{name} − none" for name in names], "task": "a $ or $ b"})
    numbers = {"estimate": [0.0, 1.0], "ci_low": -9.0, "ci_high": 9.0, "p_adjusted": 1.0}
    fig, axes = pg.figures.panels(rows)
    pg.figures.forest(rows.assign(**numbers), axes)
    open_run(tmp_path).figure(fig, "contrasts", "Contrasts")
    table = pd.DataFrame({"rater": names, "kind": names, **numbers})
    fig, ax = plt.subplots()
    pg.figures.intervals(table, ax, "rater", "kind", xlabel="", title="")
    open_run(tmp_path).figure(fig, "intervals", "Intervals")
    for figure in ("contrasts", "intervals"):
        text = (tmp_path / "figures" / f"{figure}.svg").read_text(encoding="utf-8")
        assert all(text.count(f">{name.replace('_', ' ')}<") for name in names)
        assert "\\$" not in text


def test_figure_follows_the_colour_scheme_of_the_page(tmp_path):
    """Ink, background and grid follow a dark page; data colours and the text on them do not."""
    pg.figures.use()
    fig, ax = plt.subplots()
    pg.figures.style.errorbars(
        ax, pd.DataFrame({"estimate": [1.0], "ci_low": [0.5], "ci_high": [1.5]}), [0], mfc="white"
    )
    ax.plot([1], [0.5], "k^")
    ax.text(1, 0, "in a dark cell", color="white")
    ax.set_title(r"$\rho$ and $x^2$ < 3")
    open_run(tmp_path).figure(fig, "dots", "Dots")
    html = vector.inline(tmp_path, "dots", "Dots")
    fixed = {*re.findall(r"#[0-9a-f]{6}", re.sub(r"var\([^)]*\)", "", html))}
    assert fixed == {"#0072b2", "#888888", "#ffffff"}
    (inside,) = re.findall(r'<text style="([^"]*)"[^>]*>in a dark cell', html.split("<svg")[1])
    assert "fill: #ffffff" in inside
    css = (Path(vector.__file__).parent / "templates" / "style.css").read_text()
    for variable, colour in re.findall(r"var\(--(\w+), (#\w+)\)", html):
        assert css.count(f"--{variable}: #") == 2, (variable, colour)  # light, and dark
    saved = (tmp_path / "figures" / "dots.svg").read_text()
    assert "var(" not in saved


@pytest.mark.parametrize(
    ("value", "text"), [(5.9971, "6.00"), (-0.9039, "−0.904"), (0.00047, "0.0005")]
)
def test_number_format_is_the_same_in_every_table(value, text):
    table = pd.DataFrame({"pb": [value]})
    options = ("display.float_format", None, "display.max_colwidth", 50)
    with mpl.rc_context(), pd.option_context(*options):  # restored afterwards
        use_style()
        in_a_notebook = table.to_string(index=False).split()[-1]
    for_a_paper = readable.latex(table, "a_b").replace("$-$", "−")
    assert [in_a_notebook, readable.compact(table)["pb"].item()] == [
        text,
        text,
    ]
    assert text in for_a_paper


def test_diff_shows_only_what_changed():
    before = pd.DataFrame(
        {
            "task": ["x", "y"],
            "n": [1, 2],
            "estimate": [1.0, 2.0],
            "ci_low": [0, 1],
            "ci_high": [2, 3],
        }
    )
    after = before.assign(estimate=[1.0, 2.5], task=["x", "y"])
    (changed,) = diff.changes(before, after).itertuples(index=False)
    assert changed == ("y", "estimate", "2.00 [1, 3]", "2.50 [1, 3]", "0.500")
    assert diff.changes(before, pd.concat([after, after])).empty  # rows with duplicate keys
    only = diff.changes(before, after.head(1))
    assert only.values.tolist() == [["y", "estimate", "2.00 [1, 3]", "–", ""]]


def test_text_width_is_the_same_in_every_format_so_none_is_cut_off():
    with plt.rc_context():
        use_style()
        fig, ax = plt.subplots()
        ax.set_yticks([0], ["Models that mention the profile are rated higher by models"])
        widths = []
        for dpi in (72, 100, 200, 300):
            fig.set_dpi(dpi)
            fig.draw_without_rendering()
            widths.append(ax.get_yticklabels()[0].get_window_extent().width / dpi)
        plt.close(fig)
    assert max(widths) < 1.005 * min(widths)  # 1.04 with font hinting


def test_one_column_layout_stacks_panels_without_overlapping_text():
    row = pd.DataFrame({"estimate": [0.5], "ci_low": [0.4], "ci_high": [0.6]})
    names = [f"{place}: what is seen in models that mention the profile" for place in range(4)]
    with mpl.rc_context():
        use_style()
        fig, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True, layout="constrained")
        for name, ax in zip("abc", axes, strict=True):
            pg.figures.style.errorbars(ax, row, [0], label=f"series {name}")
            ax.set(
                title=f"Panel {name}, whose title has many words",
                xlabel="what was measured, and in which unit",
            )
        axes[0].set_yticks(range(4), names)
        axes[0].legend(title="kinds")
        twin = axes[1].twinx()
        twin.set_yticks([])
        places = {
            width: (fit_layout(fig), [ax.get_position() for ax in axes])[1]
            for width in for_paper(fig)
        }
        # The last figure has the width of a column, without its legend.
        fig.draw_without_rendering()
        texts = [
            text for text in fig.findobj(mpl.text.Text) if text.get_visible() and text.get_text()
        ]
        boxes = [text.get_window_extent() for text in texts]
        wide = fig.get_tightbbox().width
        plt.close(fig)
    assert (
        len({place.y0 for place in places[""]})
        == len({place.x0 for place in places["_column"]})
        == 1
    )
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(places["_column"]))
    assert twin.get_position().bounds == axes[1].get_position().bounds
    shown = [" ".join(text.get_text().split()) for text in texts]
    assert all(shown.count(name) == 3 for name in names)  # each panel labels its rows
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert wide < 3.4  # inches


def test_legend_markers_equal_those_of_the_figure():
    with mpl.rc_context():
        use_style()
        fig, ax = plt.subplots(figsize=(8, 4))
        table = pd.DataFrame({"estimate": [0.5], "ci_low": [0.4], "ci_high": [0.6]})
        pg.figures.style.errorbars(ax, table, [0], label="with intervals", fmt="s")
        ax.plot([0.5], [1], "D", ms=7, label="without")
        ax.legend(title="kinds")
        for _ in for_paper(fig):
            legend = fig.legends[0]
            marks = {
                line.get_marker(): line.get_markersize()
                for line in legend.findobj(mpl.lines.Line2D)
            }
            assert marks["s"] == marks["D"] == ax.lines[-1].get_markersize()
            assert legend.get_title().get_text() == "kinds"
        plt.close(fig)
