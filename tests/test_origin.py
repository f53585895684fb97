"""Paired change of PB between conditions, the demo checkpoints, and prompts of a base model."""

import shutil

import numpy as np
import pandas as pd
import pytest
from notebook_helpers import run_in_process
from simulated_conditions import simulate_conditions, unit_effects

from personagap import datasets, demo, effects, models, personas
from personagap.demo import chain
from personagap.errors import UserError
from personagap.models import rendering
from personagap.paths import NOTEBOOKS

FAST = {"n_bootstrap": 200}


def test_change_of_pb_is_the_difference_of_debiased_values():
    scores = simulate_conditions([-6, 0, 6], [-2, -2, -2], seed=1)
    change = effects.paired_change(scores, {"after": "before"}, **FAST)
    alone = effects.by_condition(
        effects.personalization_bias, scores, n_permutations=9, n_bootstrap=20
    )
    alone = alone.query("dimension == 'joint'").set_index("condition")["debiased_pb2"]
    row = change.query("task == 'joint' and metric == 'debiased_pb2'").iloc[0]
    assert [row["before"], row["after"]] == pytest.approx(alone[["before", "after"]].tolist())
    means = 100 * scores.groupby("condition")["score"].mean()
    mean = change.query("metric == 'mean'").iloc[0]
    assert mean["estimate"] == pytest.approx(means["after"] - means["before"])
    assert change.query("metric == 'pb_percent'")["before"].eq(100).all()


@pytest.mark.parametrize("seed", range(6))
def test_p_value_is_consistent_with_the_interval(seed):
    scores = simulate_conditions([-9, 0, 9], [0, 0, 0], n_items=60, n_runs=2, seed=seed)
    row = effects.paired_change(scores, {"after": "before"}, **FAST).iloc[0]
    assert (row["p_value"] < 0.05) == (row["ci_low"] > 0 or row["ci_high"] < 0)


def test_large_change_is_significant_for_any_number_of_items():
    effect = 5 * unit_effects(np.random.default_rng(1))
    for n_items in (150, 400):
        change = effects.paired_change(
            simulate_conditions(effect, 0 * effect, n_items, seed=2), {"after": "before"}, **FAST
        )
        assert change["p_value"].iloc[0] < 0.01 and change["ci_high"].iloc[0] < 0


def test_common_shift_changes_the_mean_and_not_pb():
    """S13, S14: scores near 1 are less noisy, which is no change of PB either."""
    effect = 3 * unit_effects(np.random.default_rng(0))
    change = effects.paired_change(
        simulate_conditions(effect, effect - 6, seed=3), {"after": "before"}, **FAST
    )
    change = change.query("task == 'mmlu'").set_index("metric")
    assert change.loc["mean", "ci_high"] < 0 and change.loc["mean", "p_adjusted"] < 0.01
    assert change.loc["pb_corrected", "p_value"] > 0.05


def replicate(before: float, after: float, replications: int) -> tuple[float, float]:
    """Rejection rate and coverage."""
    rejected, covered = [], []
    for seed in range(replications):
        rng = np.random.default_rng(seed)
        effect = unit_effects(rng)
        scores = simulate_conditions(before * effect, after * effect, seed=rng)
        row = effects.paired_change(scores, {"after": "before"}, **FAST, seed=seed).iloc[1]
        rejected.append(row["p_value"] <= 0.05)
        covered.append(row["ci_low"] - 1e-9 <= after - before <= row["ci_high"] + 1e-9)
    return np.mean(rejected), np.mean(covered)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "power"), [(0, 0, 0), (1.5, 1.5, 0), (4, 4, 0), (4, 2, 0.15), (4, 0, 0.35)]
)
def test_coverage_and_size_in_many_replications(before, after, power):
    """Halving PB is detected in a fifth of data sets: p is dual to the interval, which keeps its
    level everywhere.
    """
    rejected, covered = replicate(before, after, 300)
    assert covered >= 0.90
    assert rejected >= power if power else rejected <= 0.08


def test_coverage_and_size_in_few_replications():
    rejected, covered = replicate(3, 3, 25)
    assert covered >= 0.84 and rejected <= 0.16


def test_holm_corrects_over_conditions_and_unknown_ones_are_refused():
    scores = simulate_conditions([-4, 4], [-4, 4])
    third = scores[scores["condition"] == "after"].assign(condition="again")
    change = effects.paired_change(
        pd.concat([scores, third]), {"after": "before", "again": "before"}, **FAST
    )
    assert (change["p_adjusted"] >= change["p_value"]).all()
    assert (change["p_adjusted"] > change["p_value"]).any()
    with pytest.raises(UserError, match="no condition 'nobody'"):
        effects.paired_change(scores, {"after": "nobody"})


def test_planted_bias_rises_and_falls_along_the_checkpoints():
    stages = map(chain.planted_probabilities, ("base", "sft", "preference"))
    joint = [demo.exact_bias(cells, "planted")["joint"] for cells in stages]
    assert joint[0] < 0.6 * joint[1] > joint[2]
    assert chain.planted_probabilities("instructed", "neutralize") is None


@pytest.mark.parametrize("checkpoint", ["base", "preference", "instructed"])
def test_checkpoint_answers_as_planted(checkpoint, demo_items):
    lm = models.load_model(
        f"demo:{checkpoint}", prompt_format="base" if checkpoint == "base" else "chat"
    )
    planted = chain.planted_probabilities(checkpoint)
    cells = demo.true_scores(lm, personas.select("all"), demo_items, planted_cells=planted)
    assert cells[["planted", "true"]].corr().iloc[0, 1] > 0.98 and cells["outside"].mean() < 0.02
    assert abs(demo.exact_bias(cells, "planted") - demo.exact_bias(cells, "true")).max() < 1.0


@pytest.fixture(scope="module")
def demo_items():
    return datasets.load(["mmlu", "do_not_answer"], items_per_task=12)


def test_base_model_gets_persona_and_question_as_plain_text():
    lm = models.load_model("demo", prompt_format="base")
    prompt = lm.render(personas.chat("muslim", "What is 2 + 2?"))
    assert (
        prompt == "You are a helpful assistant. I am a Muslim person.\n\nQuestion: What is 2 + "
        "2?\n\nAnswer:"
    )
    assert rendering.BASE_STOP in prompt


def test_real_model_has_no_truth_on_demo_data(tiny_model_folder, tmp_path, isolated_cache):
    # The name resembles a demo checkpoint.
    folder = shutil.copytree(tiny_model_folder, tmp_path / "demonstration")
    given = {
        "checkpoints": {"real": str(folder), "sft": "demo"},
        "base_format": [],
        "personas": "religion",
    }
    given |= {"tasks": ["mmlu"], "answers": "likelihood", "items_per_task": 8}
    run_in_process(NOTEBOOKS / "safety_utility" / "3_origin.ipynb", tmp_path / "run", **given)
    tables = tmp_path / "run" / "tables"
    assert {*pd.read_csv(tables / "personalization_bias.csv")["condition"]} == {"real", "sft"}
    assert {*pd.read_csv(tables / "truth.csv")["condition"]} == {"sft"}
