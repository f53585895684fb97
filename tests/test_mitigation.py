"""Defences reach the model, DPO lowers bias, and a defence that degrades everybody is reported as
such.
"""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulated_conditions import simulate_conditions, unit_effects
from tiny_models import DROPS_SYSTEM, NO_SYSTEM, save_model

from personagap import datasets, demo, effects, models, personas, safety_utility, tasks
from personagap.ask import ask, texts
from personagap.errors import UserError
from personagap.models import adapter
from personagap.models.rendering import user_chat
from personagap.responses import ResponseStore
from personagap.safety_utility import defences, dpo

IDENTITIES = personas.select("all", controls=False)


@pytest.mark.parametrize("name", defences.select()["defence"])
def test_defence_is_in_the_rendered_prompt_except_the_controls(name, demo_lm):
    defence = defences.load_defence(name)
    text = defences.select().set_index("defence")["text"][name]
    for persona, phrase in IDENTITIES[["persona", "phrase"]].itertuples(index=False):
        prompt = demo_lm.render(defence(personas.chat(persona, "What is 2 + 2?")))
        assert text in prompt and "What is 2 + 2?" in prompt
        assert (phrase in prompt) == (name != "neutralize")
    asked = personas.chat("none", "What is 2 + 2?")
    assert defence(asked) == asked


def test_defence_changes_the_prompt(demo_lm, tmp_path):
    items = datasets.load("mmlu", items_per_task=2)
    who, store = personas.select(["muslim"]), ResponseStore(demo_lm.id, tmp_path)
    plain, defended = (
        ask(demo_lm, who, items, runs=1, defence=each, store=store)
        for each in (None, defences.neutralize)
    )
    same = (plain["prompt_hash"] == defended["prompt_hash"]).groupby(plain["persona"]).all()
    assert same.to_dict() == {"none": True, "assistant": True, "muslim": False}
    assert defended["prompt_hash"][defended["persona"] == "muslim"].isin(plain["prompt_hash"]).all()


def test_neutralization_keeps_task_content_and_removes_the_identity():
    checks = defences.check_neutralization().set_index("needed")
    assert (checks["n"] >= 20).all()
    assert checks["estimate"]["yes"] > 0.6 > 0.3 > checks["estimate"]["no"]
    assert (checks["ci_low"] < checks["estimate"]).all()
    assert (checks["estimate"] < checks["ci_high"]).all()


def test_unknown_names_are_a_one_line_error():
    for call in (
        lambda: defences.load_defence("magic"),
        lambda: dpo.as_chats(dpo.load_pairs("nowhere.jsonl")),
        lambda: dpo.as_chats(demo.preference_pairs(datasets.load("mmlu"), 2), "dpo-all"),
        lambda: dpo.tune("openai:x@http://127.0.0.1:1/v1", pd.DataFrame()),
        lambda: dpo.tune("demo", pd.DataFrame(), batch=0),
        lambda: dpo.tune("demo", pd.DataFrame(), learning_rate=math.nan),
        lambda: dpo.as_chats(pd.DataFrame(columns=dpo.COLUMNS)),
        lambda: dpo.as_chats(pd.DataFrame({"chosen": ["a"]})),
    ):
        with pytest.raises(UserError, match=r"^[^\n]+$"):
            call()


def test_missing_preferences_may_be_read_from_a_file(monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: {}["no network"])
    with pytest.raises(
        UserError, match=r"^cannot download Intel/orca_dpo_pairs .*: .* or give a JSON-lines file$"
    ):
        dpo.load_pairs("hub")


def test_variants_differ_in_the_prompts_of_the_same_preferences(tmp_path):
    file = tmp_path / "pairs.jsonl"
    row = {
        "system": "Be brief.",
        "question": "Hi",
        "chosen": "Hello.",
        "rejected": "No.",
        "other": 1,
    }
    file.write_text("".join(json.dumps(row) + "\n" for _ in range(400)))
    heads = {
        name: dpo.as_chats(dpo.load_pairs(str(file)), name)["prompt"].str[0]
        for name in dpo.VARIANTS
    }
    assert heads["dpo"].str["content"].eq("Be brief.").all()
    assert heads["dpo-vanilla"].str["role"].eq("user").all()
    # 31 identities and the two controls, none of them "I am no_persona." (S17).
    system_prompts = set(heads["dpo-random"].str["content"])
    assert system_prompts == {
        personas.system_prompt(name) for name in personas.select("all")["persona"]
    } - {""} | {"Hi"}


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_tuning_keeps_the_identity_with_every_template(template, tmp_path, monkeypatch):
    """S9: the released code probably trained Llama-2 without the identities."""
    monkeypatch.setattr(dpo, "CACHE", tmp_path / "cache")
    seen = {}
    monkeypatch.setattr(
        "trl.DPOTrainer", lambda *_, train_dataset, **__: seen.update(chats=train_dataset) or 1 / 0
    )
    pairs = demo.preference_pairs(datasets.load("mmlu", items_per_task=4), 20)
    with pytest.raises(ZeroDivisionError):
        dpo.tune(str(save_model(tmp_path / "tiny", template=template)), pairs, "dpo")
    assert all(
        prompt[0]["content"].startswith(personas.system_prompt("assistant"))
        for prompt in seen["chats"]["prompt"]
    )
    # Nothing half-made is left.
    assert [path.suffix for path in (tmp_path / "cache" / "tuned").iterdir()] == [".lock"]


def test_tuning_without_losses_or_pairs_is_an_error(tmp_path, monkeypatch, isolated_cache):
    monkeypatch.setattr(dpo, "CACHE", tmp_path / "cache")
    model, pair = str(save_model(tmp_path / "tiny")), dict.fromkeys(dpo.COLUMNS, "What now?")
    pairs, how = pd.DataFrame([pair] * 3), {"variant": "dpo", "steps": 1, "batch": 2}
    with pytest.raises(UserError, match=r"not all numbers.*: give a lower learning rate"):
        dpo.tune(model, pairs, learning_rate=math.inf, **how)
    # Finite weights whose sums overflow.
    tuned = dpo.tune(model, pairs, learning_rate=1e30, **how | {"steps": 2})
    lm, chat = models.load_model(tuned), user_chat("What now?")
    for call in (lambda: lm.choose([chat], ["A", "B"]), lambda: texts(lm, ["?"], 0.0, 0, 2)):
        with pytest.raises(UserError, match="computes is no number: load it with dtype float32"):
            call()
    long = pd.DataFrame([pair | {"question": "apples " * 2000}])
    with pytest.raises(UserError, match=r"1 of 1 prompts .*: shorten them"):
        dpo.tune(model, long, **how)
    with pytest.warns(UserWarning, match=r"1 of 4 prompts .*: they are left out"):
        dpo.tune(model, pd.concat([pairs, long]), **how)
    # Nothing half-made is left.
    assert len([*(tmp_path / "cache" / "tuned").glob("[!.]*")]) == 2


def test_training_step_of_a_large_model_is_split(demo_lm, monkeypatch):
    """Eight pairs at once took 14 GB for a model of 0.5 billion parameters."""

    def parts(batch: int) -> list[int]:
        return list(adapter.batch_arguments(demo_lm, batch).values())

    assert [parts(batch) for batch in (40, 12, 3)] == [[8, 5], [4, 3], [1, 3]]
    monkeypatch.setattr(adapter.prepacked, "MIN_WEIGHTS", 1000)
    assert [parts(batch) for batch in (40, 12, 3)] == [[2, 20], [2, 6], [1, 3]]


def test_dpo_lowers_the_true_bias_on_held_out_items(tmp_path, monkeypatch):
    names, who = ["mmlu", "do_not_answer"], personas.select(["religion", "gender"])
    items, measured = datasets.load(names), datasets.load(names, items_per_task=12)
    pairs = demo.preference_pairs(items, 30 * 8, without=measured)
    assert not set(pairs["question"]) & {tasks.prompt(item) for item in measured.itertuples()}
    # Other data may use the same item names.
    others = items.assign(question=items["question"] + " Really?")
    whole, kept = (demo.preference_pairs(items, 60, without=each) for each in (None, others))
    assert whole.equals(kept)
    how = {"steps": 30, "batch": 8, "learning_rate": 5e-3, "sft": 1.0}
    folders = []
    for again in "ab":
        monkeypatch.setattr(dpo, "CACHE", tmp_path / again)
        # As left by a killed process.
        left = tmp_path / again / "tuned" / f".{Path(folders[0]).name if folders else ''}.partial"
        (left / "model").mkdir(parents=True)
        folders.append(dpo.tune("demo", pairs, **how))
    before, after = (
        demo.true_scores(models.load_model(spec), who, measured) for spec in ("demo", folders[0])
    )
    assert demo.exact_bias(after, "true")["joint"] < 0.5 * demo.exact_bias(before, "true")["joint"]
    assert after["true"].mean() > before["true"].mean() and after["outside"].mean() < 0.15
    # Training is repeatable, and a second call loads the result.
    assert len({models.load_model(folder).revision for folder in folders}) == 1
    assert [path for path in left.parent.iterdir() if path.is_dir()] == [Path(folders[1])]
    monkeypatch.setattr(dpo.adapter, "train", None)
    assert dpo.tune("demo", pairs, **how) == folders[1]


def planted(scale: float, shift: float) -> pd.DataFrame:
    """Scores of two tasks before and after: identity effects of PB 3 times ``scale``, and a common
    shift.
    """
    effect, names = 3 * unit_effects(np.random.default_rng(0)), ("undefended", "defended")
    tables = [
        simulate_conditions(effect, scale * effect + shift, 300, seed=seed, names=names).assign(
            task=task
        )
        for seed, task in enumerate(("utility", "safety"))
    ]
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize(
    ("scale", "shift", "says"),
    [
        (0.2, 0, "Yes, PB falls and no mean loses 3 points"),
        (0.2, -8, "No: it cuts PB by serving everybody worse"),
        (1, -8, "No: PB is not shown to change, and everybody is served worse"),
        (1, 0, "Not shown"),
        (2, 0, "No, it raises PB"),
    ],
)
def test_verdict_distinguishes_a_remedy_from_degrading_everybody(scale, shift, says):
    """S13, S14."""
    change = effects.paired_change(
        planted(scale, shift), {"defended": "undefended"}, n_bootstrap=300
    )
    verdict = safety_utility.verdicts.mitigation(change).set_index("question")["answer"]
    assert verdict["Is defended a remedy?"].startswith(says)
    headline = verdict["In short"]
    if says.startswith("Yes"):
        assert headline.startswith("Defended, of 1 tried: PB")
    else:
        # The verdict says that everybody is worse off.
        prefix = "Not told by these data" if says == "Not shown" else "No"
        assert headline.startswith(f"{prefix}: none of the 1 tried")


@pytest.mark.parametrize(
    ("ci_low", "p_placebo", "says"),
    [
        (
            -7.5,
            0.01,
            "Not shown: PB falls, but harm not excluded (the mean of safety may lose 7.5 points):",
        ),
        (-2.9, 0.2, "Not shown: PB falls, but not shown beyond the placebo:"),
        (-2.9, 0.01, "Yes, PB falls and no mean loses 3 points:"),
    ],
)
def test_absence_of_evidence_is_no_remedy(ci_low, p_placebo, says):
    change = effects.paired_change(planted(0.2, 0), {"defended": "undefended"}, n_bootstrap=300)
    safety = change["metric"].eq("mean") & change["task"].eq("safety")
    change["ci_low"] = change["ci_low"].mask(safety, ci_low)
    placebo = change.assign(compared_with="placebo", p_adjusted=p_placebo)
    both = pd.concat([change, change.assign(condition="placebo"), change.assign(condition="tuned")])
    answers = safety_utility.verdicts.mitigation(both, placebo).set_index("question")["answer"]
    assert answers["Is defended a remedy?"].startswith(says)
    assert "placebo" in answers["Is placebo a remedy?"]
    assert "placebo" not in answers["Is tuned a remedy?"]
    against = answers["Do the prompt defences do more than any further sentence?"]
    assert against.startswith("Not shown of any." if p_placebo > 0.05 else "defended beat")
    assert f"{p_placebo:.3f}" in against


@pytest.mark.parametrize("asked", ["utility", "safety"])
def test_unmeasured_cost_is_not_ruled_out(asked):
    """S13: a model that refuses everything is safe, and serves all alike."""
    scores = planted(0.2, 0).query("task == @asked")
    change = effects.paired_change(scores, {"defended": "undefended"}, n_bootstrap=300)
    says = safety_utility.verdicts.mitigation(change)["answer"][1]
    other = {"utility": "safety", "safety": "utility"}[asked]
    assert says.startswith(f"Not shown: PB falls, but what it costs in {other} was not asked")


def raised(closer: float, seed: int) -> pd.DataFrame:
    """Two tasks with means 50 % before and 90 % after; the spread of log-odds is multiplied by
    ``closer``.
    """
    log_odds, parts = 0.24 * unit_effects(np.random.default_rng(1), 8), []
    levels = [("undefended", 0.5, (1, 1), 1), ("defended", 0.9, (9, 1), closer)]
    for condition, mean, difficulty, size in levels:
        points = 100 * mean * (1 - mean) * size * log_odds
        for task in ("utility", "safety"):
            how = {"difficulty": difficulty, "task": task, "seed": [seed, len(parts)]}
            part = effects.simulate_scores(points, n_items=300, n_runs=2, **how)
            parts.append(part.assign(condition=condition))
    return pd.concat(parts)


def joint(change: pd.DataFrame) -> pd.DataFrame:
    return change.query("task == 'joint'").set_index("metric")


def test_common_increase_is_no_convergence_in_log_odds():
    """PB shrinks by itself near 0 or 100 %: who refuses everything serves all alike."""
    against, p_values = {"defended": "undefended"}, []
    for seed in range(40):
        change = effects.paired_change(raised(1, seed), against, n_bootstrap=200)
        p_values.append(joint(change)["p_value"])
    rejected = (pd.DataFrame(p_values) < 0.05).sum()
    assert rejected["pb_corrected"] >= 35 and rejected["pb_log_odds"] <= 5
    before = joint(change).loc["pb_log_odds", "before"]
    assert before == pytest.approx(2**0.5 * 0.24, rel=0.15)
    closer = effects.paired_change(raised(0.1, 0), against)
    assert joint(closer).loc["pb_log_odds", "p_value"] < 0.01


def test_log_odds_spread_is_symmetric_in_success_and_failure():
    """The spread is the same for scores and their complements."""
    scores, against = raised(0.5, 3), {"defended": "undefended"}
    columns = ["before", "after", "estimate", "ci_low", "ci_high", "p_value"]
    found, mirrored = (
        joint(effects.paired_change(each, against, n_bootstrap=100)).loc["pb_log_odds", columns]
        for each in (scores, scores.assign(score=1 - scores["score"]))
    )
    np.testing.assert_allclose(found.to_numpy(float), mirrored.to_numpy(float), rtol=1e-6)


@pytest.mark.parametrize(
    ("closer", "says"), [(1, "Not shown of defended, 0.3"), (0, "Shown of defended, 0.3")]
)
def test_verdict_distinguishes_convergence_from_a_ceiling_effect(closer, says):
    change = effects.paired_change(raised(closer, 2), {"defended": "undefended"}, n_bootstrap=300)
    question = "Do identities come closer than higher or lower scores of all alone bring them?"
    answers = safety_utility.verdicts.mitigation(change).set_index("question")["answer"]
    assert answers[question].startswith(says)
    without = change.query("metric != 'pb_log_odds'")
    answers = safety_utility.verdicts.mitigation(without).set_index("question")["answer"]
    assert answers[question].startswith("Not shown of defended, where all may score 0 or 100 %.")


def test_equal_scores_have_no_log_odds_spread():
    scores = raised(1, 0)
    scores["score"] = scores["score"].mask(scores["condition"] == "defended", 1.0)
    change = effects.paired_change(scores, {"defended": "undefended"}, n_bootstrap=50)
    assert "pb_log_odds" not in set(change["metric"])
    assert joint(change).loc["pb_corrected", "after"] == 0


def test_published_changes_are_compared_with_measured_ones():
    change = effects.paired_change(planted(0.2, 0), {"defended": "undefended"}, n_bootstrap=300)
    both = pd.concat([change, change.assign(condition="dpo-random")])
    table = safety_utility.published.mitigation(both, ["defended"], "demo")
    assert table["published"].tolist() == [-12, -49]
    assert table["comparable"].str.startswith("not comparable").all()
