"""The scripts of ``data/demo/build`` reproduce the committed demo bundle."""

import importlib

import numpy as np
import pandas as pd
import pytest

from personagap import datasets, demo, models, personas
from personagap.demo import chain, personalllm
from personagap.paths import DEMO

#: By script, the files that it writes without training.
WRITTEN = {
    "make_items": ["gsm8k.jsonl", "mbpp.jsonl", "mbpp_solutions.csv"],
    "make_planted": ["planted.csv"],
    "make_scores": ["scores.csv"],
    "make_relevance": ["recentering/planted_relevance.csv", "relevance_judgments.csv"],
    "make_extraction": [
        "recentering/annotations_task4.jsonl",
        "recentering/extractor_outputs.csv",
        "recentering/planted_extraction.csv",
        "recentering/task4_items.jsonl",
    ],
    "make_responses": [
        "recentering/annotations_task6.jsonl",
        "recentering/judgments_response.csv",
        "recentering/planted_response.csv",
        "recentering/task6_items.jsonl",
    ],
    "make_personalllm": [
        "personalllm/PersonalLLM/data/test-00000-of-00001.parquet",
        "personalllm/PersonalLLM/data/train-00000-of-00001.parquet",
        "personalllm/PersonalLLM_InteractionDatabase/data/train-00000-of-00001.parquet",
        "personalllm/opinionqa/demo_W01_default_combined.csv",
        "personalllm/opinionqa/reward_model_answers.csv",
        "personalllm/planted_representativeness.csv",
        "personalllm/population.parquet",
    ],
}
#: Its weights are exponentials, whose last bit depends on the processor.
USERS = "personalllm/PersonalLLM_InteractionDatabase/data/train-00000-of-00001.parquet"
BY_HAND = {
    *("README.md", "mmlu.csv", "do_not_answer.csv", "strongreject.csv", "relevance_texts.csv"),
    *("recentering/facts.csv", "personalllm/texts.csv", "chain/planted.csv"),
}


def files_under(folder):
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if "__pycache__" not in name}


@pytest.mark.parametrize("script", WRITTEN)
def test_script_reproduces_the_committed_files(script, tmp_path, isolated_cache):
    made = tmp_path / "demo"
    importlib.import_module(script).write(made)
    assert files_under(made) == {*WRITTEN[script]}
    for name in {*WRITTEN[script]} - {USERS}:
        assert (made / name).read_bytes() == (DEMO / name).read_bytes(), name
    if script == "make_personalllm":
        ours, committed = (pd.read_parquet(folder / USERS) for folder in (made, DEMO))
        weights = [np.stack(table.pop("person_weight")) for table in (ours, committed)]
        np.testing.assert_allclose(*weights, rtol=0, atol=1e-15)
        pd.testing.assert_frame_equal(ours, committed)


def test_every_bundle_file_has_a_script_or_is_handwritten():
    trained = {name for name in files_under(DEMO) if name.startswith(("model/", "chain/"))}
    explained = (
        {name for names in WRITTEN.values() for name in names}
        | BY_HAND
        | trained
        | {"exact.parquet"}
    )
    assert {name for name in files_under(DEMO) if not name.startswith("build/")} == explained
    table = (DEMO / "README.md").read_text(encoding="utf-8")
    for script in [*WRITTEN, "train_model", "train_checkpoints", "make_exact"]:
        assert f"`{script}.py`" in table, script


def test_population_is_generated_from_the_seed_responses():
    import make_personalllm

    values, writers = personalllm.population()
    assert values.shape == (1500, 8, 10) and writers == list(make_personalllm.STYLES)
    texts = make_personalllm.responses(1)["texts"]
    names = sorted(personalllm.REWARDS)
    rewards = [[personalllm.reward(text, name) for name in names] for text in texts[7]]
    assert values[300 + 7].tolist() == rewards


def test_correct_answers_share_the_planted_probability():
    from training import distribution

    right, bare = np.array([True, False, True]), np.array([False, False, True])
    given = demo.planted.Answers(["b", "c", "Answer: b"], right, bare)
    assert distribution(given, 0.75, 0.2).tolist() == pytest.approx([0.6, 0.2, 0.15])


def agreement(lm, cells, items):
    """Correlation of planted and true probabilities, and the largest gap in PB, in points."""
    cells = demo.true_scores(lm, personas.select("all"), items, planted_cells=cells)
    gap = demo.exact_bias(cells, "planted") - demo.exact_bias(cells, "true")
    return cells["planted"].corr(cells["true"]), gap.abs().max()


def same_files(made, committed):
    """Files that do not depend on the last bits of training."""
    for name in (
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ):
        assert (made / name).read_bytes() == (committed / name).read_bytes(), name


def test_stored_exact_answers_are_those_of_the_models(isolated_cache, monkeypatch):
    """They cover all default requests of the notebooks; a sample is recomputed."""
    import make_exact

    for name, prompt_format, who, items, defence in make_exact.conditions():
        lm = models.load_model(name, device="cpu", prompt_format=prompt_format)
        few = who.sample(2, random_state=1), items.sample(3, random_state=1)
        again, kept = (
            demo.true_scores(lm, *few, defence=defence, **how) for how in ({"known": None}, {})
        )
        pd.testing.assert_frame_equal(again, kept, rtol=0, atol=1e-5)
        monkeypatch.setattr(lm, "choose", None)
        cells = demo.true_scores(lm, who, items, defence=defence)
        assert len(cells) == len(who) * len(items)


@pytest.mark.slow
def test_training_with_one_thread_is_deterministic():
    import torch

    import training

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    how = {"steps": 2, "polish": 1, "templates": ["paper"]}
    first, again = (training.train(**how)[0].state_dict() for _ in range(2))
    torch.set_num_threads(threads)
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_retrained_model_answers_as_the_committed_one(tmp_path):
    import train_model

    train_model.write(tmp_path)
    same_files(tmp_path / "model", DEMO / "model")
    lm = models.load_model(str(tmp_path / "model"), device="cpu")
    r, gap = agreement(lm, None, datasets.load("all", graded=False))
    assert r >= 0.999 and gap < 0.2


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("checkpoint", ["base", "preference", "instructed"])
def test_retrained_checkpoints_answer_as_the_committed_ones(checkpoint, tmp_path):
    import train_checkpoints

    train_checkpoints.write(tmp_path, checkpoint)
    folder = tmp_path / "chain" / checkpoint
    same_files(folder, DEMO / "chain" / checkpoint)
    form = "base" if checkpoint == "base" else "chat"
    lm = models.load_model(str(folder), device="cpu", prompt_format=form)
    planted, items = chain.planted_probabilities(checkpoint), datasets.load("all", graded=False)
    committed = models.load_model(f"demo:{checkpoint}", device="cpu", prompt_format=form)
    r, gap = agreement(lm, planted, items)
    r_committed, gap_committed = agreement(committed, planted, items)
    assert r > 0.98 and r == pytest.approx(r_committed, abs=0.005)
    assert gap == pytest.approx(gap_committed, abs=0.3)
