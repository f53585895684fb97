"""The cost of a notebook is known before any request, and equals what the dry run prints."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from fakes import FakeModel
from notebook_helpers import write_notebook

import personagap
from personagap import datasets, prompts, safety_utility
from personagap.cli import main
from personagap.demo import conversations, personalllm
from personagap.demo.selector import Selector
from personagap.paths import DATA, NOTEBOOKS
from personagap.personalllm import adaptation
from personagap.personalllm.users import dirichlet
from personagap.recentering import attributes, extraction
from personagap.responses import ResponseStore
from personagap.runs import batch, costs
from personagap.runs.costs import cost
from personagap.runs.folder import record
from personagap.runs.request import Request


def planned(notebook, **given):
    return cost(Request(NOTEBOOKS / f"{notebook}.ipynb", given))


def held(lm):
    return len(ResponseStore(lm.id))


def test_extraction_costs_equal_the_requests_sent(isolated_cache):
    (items, _), histories = datasets.load_judgments("extraction"), datasets.load_histories()
    flagged, lm = items.head(7), conversations.Simulator()
    steps = {"extract": histories, "verify": items, "refine": flagged}
    price = extraction.cost(lm, steps, histories).set_index("step")
    assert held(lm) == 0 and (price["to_ask"] == price["requests"]).all()
    assert price.loc["verify", "max_tokens"] > len(items) * 2048
    extraction.extract(lm, histories)
    assert held(lm) == price.loc["extract", "to_ask"]
    verified, _ = extraction.verify(lm, items, histories)
    assert held(lm) == price.loc[["extract", "verify"], "to_ask"].sum()
    extraction.refine(lm, verified.head(7), histories)
    assert held(lm) == price["to_ask"].sum()
    steps["refine"] = verified.head(7)
    assert extraction.cost(lm, steps, histories)["to_ask"].tolist() == [0, 0, 0]
    assert planned("recentering/1_extraction")["generations"] == len(histories) + 2 * len(items)
    assert planned("recentering/1_extraction", model=None) == {}


def test_costs_of_relevance_and_response_judges_equal_the_requests_sent(demo_lm, isolated_cache):
    pairs, _ = datasets.load_relevance()
    few = pairs.head(12)
    price, whole = attributes.cost([demo_lm], few), attributes.cost([demo_lm], pairs)
    assert held(demo_lm) == 0
    for mode in attributes.MODES:
        attributes.judge(demo_lm, few, mode, max_tokens=attributes.TOKENS)
    assert held(demo_lm) == price["to_ask"].sum() == 12 + few["prompt"].nunique()
    assert (attributes.cost([demo_lm], few)["stored"] == price["to_ask"]).all()
    asked = planned("recentering/2_relevance", judges=["demo", "smollm2"])
    # The same prompt for two users is sent once.
    assert (
        asked["generations"]
        == 2 * whole["requests"].sum()
        < 2 * (len(pairs) + pairs["prompt"].nunique())
    )
    assert asked["tokens"] == pytest.approx(2 * whole["max_tokens"].sum(), abs=9)
    assert planned("recentering/2_relevance") == {}
    items, _ = datasets.load_judgments("response")
    assert planned("recentering/3_response", model="demo")["generations"] == len(items)
    assert extraction.cost(demo_lm, {"rate": items})["requests"].tolist() == [len(items)]


@pytest.mark.parametrize("evaluation", ["select", "generate"])
def test_costs_of_examples_equal_the_prompts_sent(isolated_cache, evaluation):
    table = datasets.load_personalllm()
    study = adaptation.plan_study(
        table, dirichlet(3, 0.05, 0, table.attrs["reward_models"]), "zscore", "gpt-4o"
    )
    arms = adaptation.source_arms(study, adaptation.embed(study.prompts), 1, 0.05)
    lm, respond = (
        FakeModel("echo", lambda prompt: "As you like."),
        adaptation.by_generation(study, personalllm.score),
    )
    if evaluation == "select":
        lm = Selector("none", study.responses, study.rewards)
        respond = adaptation.by_selection(study, ResponseStore(lm.id))
    asked = lm, study, {name: arms[name] for name in ("own", "losing")}
    price = adaptation.cost(*asked, [0, 1], ["chat"], evaluation).iloc[0]
    assert held(lm) == 0 and price["requests"] == price["to_ask"] == 3 * 3
    adaptation.serve(*asked, respond, [0, 1], ["chat"])
    assert held(lm) == price["to_ask"]
    assert adaptation.cost(*asked, [0, 1], ["chat"], evaluation)["to_ask"].tolist() == [0]


def test_dry_run_counts_the_arms_of_the_notebooks(isolated_cache):
    table = datasets.load_personalllm()
    weights = dirichlet(4, 0.05, 0, table.attrs["reward_models"])
    study = adaptation.plan_study(table, weights, "zscore", "gpt-4o")
    source = adaptation.source_arms(study, adaptation.embed(study.prompts), 1, 0.05)
    near, _ = adaptation.neighbour_arms(
        study, dirichlet(30, 0.05, 1, table.attrs["reward_models"]), neighbours=2, shots=1,
        prompt_vectors=adaptation.embed(study.prompts),
        response_vectors=adaptation.embed(study.responses.ravel()),
    )  # fmt: skip
    given = {"model": "demo", "users": 4}
    asked = planned("personalllm/2_in_context", **given, shots=[0, 1, 3])
    assert asked["generations"] == 4 * (1 + 2 * len(source)) * 2 and np.isnan(asked["tokens"])
    assert (
        planned("personalllm/2_in_context", **given, shots=[1])["generations"]
        == 4 * len(source) * 2
    )
    asked = planned("personalllm/3_across_users", **given, database_sizes=[30, 60])
    assert asked["generations"] == 4 * 2 * (1 + len(near))
    assert planned("personalllm/2_in_context") == planned("personalllm/1_simulated_users") == {}


def test_user_defined_prompts_are_counted_as_worded(tmp_path):
    ours = (DATA / "prompts" / "mmlu.txt").read_text(encoding="utf-8")
    (tmp_path / "mmlu.txt").write_text(ours + "x" * 4000, encoding="utf-8")
    asked = {"tasks": ["mmlu"], "items_per_task": 5}
    before = planned("safety_utility/1_personalization_bias", **asked)
    after = planned("safety_utility/1_personalization_bias", **asked, prompts=str(tmp_path))
    assert after["tokens"] == pytest.approx(before["tokens"] + 1000 * before["generations"], abs=1)
    assert prompts.folder() is None


def test_total_without_the_tokens_of_a_run_is_no_upper_bound(tmp_path):
    grid = [("2_in_context", {"model": "demo"}), ("1_personalization_bias", {"tasks": ["mmlu"]})]
    found = {path.stem: path for path in NOTEBOOKS.rglob("*.ipynb")}
    runs = [{"notebook": str(found[name]), "parameters": given} for name, given in grid]
    (tmp_path / "batch.yaml").write_text(yaml.safe_dump({"runs": runs}))
    asked = [
        "batch",
        str(tmp_path / "batch.yaml"),
        "--figures",
        str(tmp_path / "figures"),
        "--dry-run",
    ]
    assert "generations and an unknown number of tokens" in CliRunner().invoke(main, asked).output


def test_duration_is_estimated_from_earlier_runs_of_the_same_model(tmp_path):
    bias = next(NOTEBOOKS.rglob("1_personalization_bias.ipynb"))
    asked = {"model": "demo", "answers": "generate", "device": "auto"}
    about = {"status": "finished", "changed": {}, "asked": 1000, "asking_seconds": 50.0}
    for number, other in enumerate([{"model": "smollm2"}, {"answers": "likelihood"}, {}]):
        name, given = f"r{number}", asked | other
        record(tmp_path / "p/n" / name, id=name, started="2026-01-02", parameters=given, **about)
    record(
        tmp_path / "p/n/few",
        id="few",
        started="2026-01-03",
        parameters=asked,
        **about | {"asked": 9},
    )
    row = batch.plan([Request(bias, {"tasks": ["mmlu"]}, figures=tmp_path)], force=False).iloc[0]
    assert row["pace"] == "r2" and row["seconds"] == pytest.approx(row["generations"] / 20)
    unlike = batch.plan(
        [Request(bias, {"tasks": ["mmlu"], "device": "cpu"}, figures=tmp_path)], force=False
    ).iloc[0]
    assert pd.isna(unlike["pace"]) and pd.isna(unlike["seconds"])


def test_new_paper_prices_its_own_notebooks(tmp_path, monkeypatch):
    """Its folder in the library is enough, even if its parameters are those of another paper."""
    wing = tmp_path / "lib" / "fourth"
    wing.mkdir(parents=True)
    wing.joinpath("__init__.py").write_text(Path(safety_utility.__file__).read_text())
    wing.joinpath("costs.py").write_text(
        "def cost(asked):\n    return {'generations': 7 * asked['runs']} if 'runs' in asked else {}"
    )
    monkeypatch.setattr(personagap, "__path__", [*personagap.__path__, str(wing.parent)])
    monkeypatch.setattr(costs, "PAPERS", (*costs.PAPERS, "fourth"))
    cell = "model = 'demo'\ndata = 'demo'\npersonas = 'gender'\ntasks = 'mmlu'\nruns = 3"
    here = write_notebook(tmp_path / "notebooks" / "fourth" / "1.ipynb", parameters=cell)
    assert cost(Request(here)) == {"generations": 21}
    elsewhere = write_notebook(tmp_path / "own" / "1.ipynb", parameters="model = 'x'\nruns = 2")
    assert cost(Request(elsewhere)) == {"generations": 14}
    # Notebooks in other folders are priced as before.
    copy = write_notebook(tmp_path / "copies" / "1.ipynb", parameters=cell)
    assert cost(Request(copy))["generations"] == 3 * 7 * len(datasets.load("mmlu"))


def test_user_notebook_is_not_mistaken_for_a_project_notebook(tmp_path):
    cell = "model = 'demo'\ndata = 'demo'\nn_bootstrap = 20\nembeddings = None\nseed = 0"
    assert cost(Request(write_notebook(tmp_path / "p" / "own.ipynb", parameters=cell))) == {}
