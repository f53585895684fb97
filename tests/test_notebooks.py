"""Every notebook runs in a kernel, on the demo and with parameters that make it short."""

import json
import os
import subprocess

import pandas as pd
import pytest
import yaml
from notebook_helpers import COMMAND

from personagap.paths import NOTEBOOKS

CONDITION_TABLES = [
    *("scores.parquet", "responses.parquet", "truth.csv"),
    *("personalization_bias.csv", "contrasts.csv", "paired_change.csv"),
]
#: Parameters that make a run short, and the tables each notebook promises.
SMALL = {
    "safety_utility/1_personalization_bias": (
        {"runs": 1, "items_per_task": 8, "personas": "gender"},
        ["scores.parquet", "personalization_bias.csv", "contrasts.csv", "truth.csv"],
    ),
    "demo_model": (
        {"steps": 2, "polish": 1, "templates": ["paper"], "items_per_task": 2},
        ["agreement.csv", "personalization_bias.csv", "losses.csv"],
    ),
    "safety_utility/3_origin": (
        {"runs": 1, "items_per_task": 8, "personas": "gender"},
        CONDITION_TABLES,
    ),
    "performance": (
        {"model": "random", "hidden_size": 64, "layers": 1}
        | {"repeats": 1, "questions": 32, "texts": 2},
        ["benchmarks.csv", "jobs.csv"],
    ),
    "safety_utility/2_mitigation": (
        {
            "runs": 1,
            "items_per_task": 8,
            "personas": "gender",
            "defences": ["placebo", "neutralize"],
            "steps": 4,
        },
        CONDITION_TABLES,
    ),
    "findings": (
        {},
        ["persona_effects.csv", "identities.csv", "remedies.csv", "relevance.csv", "claims.csv"],
    ),
    "your_own_scores": (
        {},
        ["scores.parquet", "personalization_bias.csv", "contrasts.csv", "rates.csv", "power.csv"],
    ),
    "instruments": (
        {"replications": 1, "sizes": [100, 1000]},
        ["validation.csv", "noise_floor.csv", "power.csv"],
    ),
    "recentering/1_extraction": (
        {"n_bootstrap": 20},
        [
            "acceptance.csv",
            "failures.csv",
            "verifier.csv",
            "strategies.csv",
            "truth.csv",
            "published.csv",
        ],
    ),
    "recentering/3_response": (
        {"n_bootstrap": 20},
        [
            "ratings.csv",
            "correlations.csv",
            "effects.csv",
            "replacement.csv",
            "truth.csv",
            "published.csv",
        ],
    ),
    "personalllm/1_simulated_users": (
        {"n_bootstrap": 20, "n_users": 200, "sizes": [10, 100], "regression_users": 20},
        [
            "heterogeneity.csv",
            "wins.csv",
            "regressions.csv",
            "representativeness.csv",
            "truth.csv",
            "published.csv",
        ],
    ),
    "recentering/2_relevance": (
        {"n_bootstrap": 20},
        [
            *("relevance.csv", "agreement.csv", "paired.csv", "classifiers.csv"),
            *("replacement.csv", "latent.csv", "few_labels.csv", "truth.csv"),
        ],
    ),
    "personalllm/2_in_context": (
        {"users": 60, "shots": [0, 1], "n_bootstrap": 20},
        ["personalization.csv", "paired.csv", "truth.csv", "published.csv"],
    ),
    "personalllm/3_across_users": (
        {"users": 60, "database_sizes": [200], "n_bootstrap": 20},
        ["personalization.csv", "paired.csv", "retrieval.csv", "truth.csv"],
    ),
}
#: Notebooks that other files test.
ELSEWHERE = {"start_here": "test_explorer.py", "explore": "test_browser.py"}


def test_every_notebook_is_run_by_some_test():
    notebooks = {
        str(path.relative_to(NOTEBOOKS).with_suffix("")) for path in NOTEBOOKS.rglob("*.ipynb")
    }
    assert {name for name in notebooks if ".ipynb_checkpoints" not in name} == set(SMALL) | set(
        ELSEWHERE
    )


@pytest.fixture(scope="module")
def batch(request, tmp_path_factory):
    """Run the selected notebooks as one batch, two at a time; its figures folder and its output."""
    folder = tmp_path_factory.mktemp("batch")
    selected = [
        item
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    names = [item.callspec.params["name"] for item in selected]
    entries = [
        {"notebook": str(NOTEBOOKS / f"{name}.ipynb"), "parameters": SMALL[name][0]}
        for name in names
    ]
    (folder / "batch.yaml").write_text(yaml.safe_dump({"runs": entries}))
    command = [*COMMAND, "batch", "batch.yaml", "--figures", "figures", "--jobs", "2"]
    fresh = os.environ | {"PERSONAGAP_CACHE": str(folder / "cache")}  # no stored answers
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, cwd=folder, env=fresh, **pipes)
    return folder / "figures", done.stdout


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SMALL)
def test_notebook_runs_top_to_bottom(name, batch):
    figures, output = batch
    folders = list(figures.glob(f"*/{name.rpartition('/')[2]}/*"))
    assert len(folders) == 1, output
    folder, facts = folders[0], json.loads((folders[0] / "run.json").read_text())
    assert facts["status"] == "finished", facts.get("error", output)
    assert (folder / "report.html").stat().st_size < 5e6
    written = {path.name for path in (folder / "tables").iterdir()}
    assert {"verdict.csv", *SMALL[name][1]} <= written
    assert list(pd.read_csv(folder / "tables" / "verdict.csv")) == ["question", "answer"]
    assert any((folder / "figures").iterdir())
