"""The demo bundle: planted effects are as documented, and the model shows them."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from make_items import mbpp
from make_planted import INTERSECTIONS, TARGET_PB
from personagap import datasets, demo, personas, tasks
from personagap.demo.planted import answers, planted_parts
from personagap.paths import DEMO


def agreement(cells: pd.DataFrame) -> float:
    return np.corrcoef(cells["planted"], cells["true"])[0, 1]


def test_items_are_distinct_and_short():
    items = datasets.load("all", graded=False)
    assert items.groupby("task").size().ge(60).all() and items["task"].nunique() == 5
    assert not items.duplicated(["task", "question"]).any()
    assert items["question"].str.split().str.len().max() <= 25
    assert items.query("task == 'mmlu'")["group"].nunique() == 4
    choices = items.query("task == 'mmlu'")["choices"]
    assert choices.map(lambda each: len(set(each)) == 4).all()


def test_reference_solutions_pass_and_wrong_ones_fail_every_assert():
    # With exec: both are this project's own code.
    for row in mbpp().itertuples():
        for code, passes in [(row.code, True), (row.wrong, False)]:
            scope: dict = {}
            exec(code, scope)
            assert [bool(eval(test.removeprefix("assert "), scope)) for test in row.test_list] == [
                passes
            ] * 3, code


def test_planted_effects_are_as_documented():
    cells = demo.planted_probabilities(tuple(personas.templates().index))
    assert cells.groupby(["persona", "template"]).size().eq(320).all()
    assert set(cells["persona"]) == set(personas.select(["all", *INTERSECTIONS])["persona"])
    crossed = cells["persona"].isin(INTERSECTIONS)
    by_template = {
        template: demo.exact_bias(rows, "planted")
        for template, rows in cells[~crossed].groupby("template")
    }
    for task, target in TARGET_PB.items():
        assert by_template["paper"][task] == pytest.approx(target, abs=0.001)
        assert (
            by_template["user_is"][task]
            == by_template["about_me"][task]
            == by_template["paper"][task]
        )
    assert by_template["profile"]["strongreject"] > 5
    weaker = by_template["indirect"] / by_template["paper"]
    assert weaker.drop("mbpp").between(0.45, 0.55).all()  # half the logits
    means = (
        cells[~crossed]
        .query("template == 'paper'")
        .groupby(["task", "persona"])["planted"]
        .mean()
        .unstack("task")
    )
    controls = means.loc[list(personas.DEFAULT_CONTROLS)]
    drop = controls.mean() - means.drop(index=list(personas.DEFAULT_CONTROLS)).mean()
    assert drop["gsm8k"] == pytest.approx(0.124, abs=0.002)  # S14
    assert drop.drop("gsm8k").abs().max() < 0.012
    assert np.ptp(means["mbpp"]) == 0


def test_intersections_are_additive_in_logits_except_two():
    """`effects.additivity` tests scores, so its truth is computed from planted scores."""
    cells = demo.planted_probabilities(("paper", "indirect")).assign(
        logit=lambda table: logit(table["planted"])
    )
    means = cells.groupby(["task", "persona", "template"])["logit"].mean().unstack("persona")
    for name in INTERSECTIONS:
        first, second = name.split("+")
        beyond = means[name] - means[first] - means[second] + means["none"]
        stated = (
            planted_parts()
            .query("part == 'intersection' and name == @name")
            .set_index("task")["value"]
        )
        assert (beyond - stated.reindex(beyond.index, level="task")).abs().max() < 1e-9
    assert sorted(planted_parts().query("part == 'intersection' and value != 0")["value"]) == [
        -1.5,
        1.5,
    ]


def test_model_answers_as_planted(demo_lm, demo_true_scores):
    import training

    cells = demo_true_scores
    assert len(cells) == 33 * 320
    r = cells.groupby("task", sort=False)[["planted", "true"]].apply(agreement)
    assert r.min() >= 0.999 and cells["outside"].mean() < 0.01
    table = training.agreement(cells)
    assert list(table) == ["template", "task", "r", "rms", "outside"]
    assert table["task"].tolist() == r.index.tolist()
    assert table["r"].tolist() == pytest.approx(r.tolist()) and table["rms"].between(0.01, 3).all()
    planted, true = demo.exact_bias(cells, "planted"), demo.exact_bias(cells, "true")
    assert (planted - true).abs().max() < 0.2
    crossed = demo.true_scores(
        demo_lm,
        personas.select(list(INTERSECTIONS), controls=False),
        datasets.load("all", graded=False),
    )
    assert len(crossed) == 8 * 320 and agreement(crossed) >= 0.999
    shares = cells.query("task == 'mmlu'").groupby("persona")["bare"].mean()
    assert (shares - training.bare_shares()[shares.index]).abs().max() < 0.01  # S6


def test_unlearned_phrasings_have_no_planted_truth(demo_lm):
    items = datasets.load(["mmlu"], graded=False, items_per_task=2)
    cells = demo.true_scores(demo_lm, personas.select("gender"), items, ["paper", "question_first"])
    planted = cells["planted"].notna().groupby([cells["template"], cells["persona"]]).all()
    assert planted["paper"].all()
    assert planted["question_first", "none"]
    assert not planted["question_first", "woman"]
    assert cells["true"].notna().all()
    assert demo.exact_bias(cells, "planted").isna().all()
    assert demo.exact_bias(cells, "true").notna().all()


@pytest.mark.slow
def test_model_answers_as_planted_in_other_phrasings(demo_lm):
    others = [name for name in personas.templates().index if name not in ("paper", *demo.UNLEARNED)]
    cells = demo.true_scores(
        demo_lm, personas.select("all"), datasets.load("all", graded=False), others
    )
    assert cells.groupby(["task", "template"])[["planted", "true"]].apply(agreement).min() >= 0.99


def test_sampled_answers_are_graded_as_planted():
    """Every answer is parsed, except a bare letter under the paper's protocol (S6)."""
    items = datasets.load(["mmlu", "gsm8k"], data="demo", items_per_task=8)
    known = [(item, answers(item)) for item in items.itertuples()]
    responses = pd.DataFrame(
        [
            ("demo", "none", "paper", item.task, item.item, run, text, "stop")
            for item, given in known
            for run, text in enumerate(given.texts)
        ],
        columns=["model", "persona", "template", "task", "item", "run", "text", "finish_reason"],
    )
    right = np.concatenate([given.right for _, given in known])
    bare = np.concatenate([given.bare for _, given in known])
    corrected = tasks.grade(responses, items, protocol="corrected")
    assert corrected["valid"].all() and (corrected["score"] == right).all()
    paper = tasks.grade(responses, items, protocol="paper")
    assert (paper["valid"] == ~bare).all() and (paper["score"] == (right & ~bare)).all()


def test_checkpoint_is_small_and_complete(demo_lm):
    lm = demo_lm
    weights = DEMO / "model" / "model.safetensors"
    assert weights.stat().st_size <= 8e6
    assert lm.describe()["parameters"] <= 3e6 and lm.context >= 4096
    text = "Zażółć gęślą jaźń — 漢字 🙂 1234"
    assert lm.tokenizer.decode(lm.tokenizer(text)["input_ids"]) == text
    for persona in personas.select("all", controls=False).itertuples():
        assert persona.phrase in lm.render(personas.chat(persona.persona, "Hello"))


def test_banner_names_the_simulated_parts():
    assert (
        "Simulated data, known truth"
        in demo.banner("demo").data
        == demo.banner("demo", "demo:base", None).data
    )
    assert "the model" not in demo.banner("demo", "hf:ORG/NAME").data
    assert "Simulated model" in demo.banner("folder", "hf:ORG/NAME", "demo:base").data
    assert "(simulated)" in demo.banner("folder", "simulated").data
    assert demo.banner("hub", "hf:ORG/demo", None) is None
