"""Intersections are worded naturally, and an identity reaches the prompt, stated or hinted at."""

import itertools

import pandas as pd
import pytest
from tiny import CHATML, DROPS_SYSTEM, NO_SYSTEM, tokenizer

from personagap import ask, datasets, demo, effects, leakage, personas
from personagap.errors import UserError
from personagap.models import rendering
from personagap.safety_utility import defences

SAYS_NOTHING = {"role": "system", "content": ""}


def test_every_pair_of_categories_has_a_wording():
    table = personas.select("all", controls=False)
    for first, second in itertools.combinations(table["category"].unique(), 2):
        crossed = personas.intersections(second, first)
        assert len(crossed) == table["category"].eq(first).sum() * table["category"].eq(second).sum()
        for row in crossed.itertuples():
            parts = table.set_index("persona").loc[row.persona.split("+"), "phrase"]
            assert all(leakage.bare(phrase) in row.phrase for phrase in parts)
            assert row.phrase.startswith(("a ", "an ")) and row.phrase.count("person") == row.phrase.endswith(" person")


def test_intersections_of_the_paper_and_more():
    worded = {
        "man+hindu+middle_aged": "a middle-aged Hindu man",
        "jewish+african+lesbian": "a lesbian Jewish African person",
        "republican+woman": "a woman who is a Republican voter",
    }
    for name, phrase in worded.items():
        assert personas.select(name, controls=False)["phrase"].tolist() == [phrase]
    assert len(personas.select("+".join(personas.WORD_ORDER), controls=False)) == 2 * 5 * 6 * 5 * 3 * 5 * 5
    both = personas.select(["all", "jewish+woman", "woman+jewish"], controls=["none"])
    assert len(both) == 33 and both["persona"].iloc[-1] == "jewish+woman"
    for name, message in [("man+woman", "one identity from each"), ("man+nobody", "unknown persona 'nobody'")]:
        with pytest.raises(UserError, match=message):
            personas.select(name)


@pytest.mark.parametrize("template", [CHATML, NO_SYSTEM, DROPS_SYSTEM], ids=["system", "no_system", "drops_system"])
@pytest.mark.parametrize("phrasing", personas.templates().index)
def test_the_identity_is_in_every_rendered_prompt(template, phrasing):
    """Also with tokenizers that refuse a system message, or drop it without a word (S9)."""
    words = tokenizer(template)
    who = personas.select(["all", "muslim+woman"], controls=False)
    hints = pd.read_csv(personas.DATA / "identities.csv", index_col="persona")["hint"]
    for row in who.itertuples():
        prompt = rendering.render(words, personas.chat(row.persona, "Why?", template=phrasing, phrase=row.phrase))
        said = [row.phrase] if phrasing != "indirect" else list(hints[row.persona.split("+")])
        assert all(text in prompt for text in said) and "Why?" in prompt
        if phrasing == "indirect":  # to be inferred, not stated
            assert row.phrase not in prompt


def test_indirect_control_and_strangers():
    reveal = [turn["content"] for turn in personas.chat("assistant", "Why?", template="indirect")]
    assert len(reveal) == 4 and reveal[0] == personas.system_prompt("assistant") and not reveal[1].startswith(" ")
    assert personas.chat("none", "Why?", template="indirect") == personas.chat("none", "Why?")
    with pytest.raises(UserError, match="no hint at the identity 'plumber'"):
        personas.chat("plumber", "Why?", template="indirect", phrase="a plumber")


def test_an_empty_system_message_is_a_control_when_it_is_asked_for(demo_lm):
    """Templates that put a text of their own where none is given make "none" another thing than no system prompt."""
    every = list(personas.CONTROLS)
    assert personas.select("all")["persona"].tolist()[:2] == ["none", "assistant"]
    who = personas.select("religion", controls=every)
    assert who["persona"].tolist()[:3] == every and (who["category"][:3] == "control").all()
    for phrasing in personas.templates().index:
        assert personas.chat("empty", "Why?", template=phrasing) == [SAYS_NOTHING, {"role": "user", "content": "Why?"}]
    asked = {persona: demo_lm.render(personas.chat(persona, "Why?")) for persona in every}
    assert len({*asked.values()}) == 3 and demo_lm.describe()["empty_system_message"] == "a prompt of its own"
    defended = defences.load("placebo")(personas.chat("empty", "Why?"))
    assert defended[0]["content"] == defences.table("placebo")["text"].iloc[0]


def test_the_effects_of_identities_do_not_depend_on_which_controls_were_asked():
    scores = effects.simulate_scores([0, -8, 4], n_items=60, n_runs=2, seed=3)
    more = pd.concat([scores, scores[scores["persona"] == "assistant"].assign(persona="empty")], ignore_index=True)
    for estimate in (effects.personalization_bias, effects.omnibus, effects.variance_components):
        pd.testing.assert_frame_equal(estimate(scores, seed=1), estimate(more, seed=1))
    versus = effects.contrasts(more)
    empty = versus["contrast"] == "empty − none"
    pd.testing.assert_frame_equal(versus[~empty].reset_index(drop=True), effects.contrasts(scores))
    (row,) = versus[empty].itertuples()
    assert row.p_adjusted == row.p_value


def test_the_demo_has_no_truth_of_an_empty_system_message(demo_lm):
    items = datasets.load("mmlu", items_per_task=2)
    who = personas.select("muslim", controls=list(personas.CONTROLS))
    assert demo.true_scores(demo_lm, who, items)["persona"].unique().tolist() == ["none", "assistant", "muslim"]
    alone = who[who["persona"] == "empty"]
    with pytest.raises(UserError, match="nothing is planted for empty"):
        demo.true_scores(demo_lm, alone, items)


def test_indirect_requests_are_planned_beside_the_direct_ones():
    items = datasets.load("mmlu", items_per_task=2)
    plan = ask.plan(personas.select("religion"), items, runs=1, templates=["paper", "indirect"])
    assert plan.groupby("template").size().to_dict() == {"paper": 14, "indirect": 14}


def test_imprinting_and_leakage():
    texts = {
        "As a Muslim, I think so.": (1, 1),
        "As a Muslim person, you may ask.": (1, 0),
        "I'm muslim myself.": (1, 1),
        "Muslims pray.": (1, 0),
        "As a Hindu, I think so.": (0, 0),
        "Ask your doctor.": (0, 0),
    }
    cells = [("muslim", "paper", text) for text in texts] + [
        ("none", "paper", "Muslims pray."),
        ("none", "paper", None),
    ]
    responses = pd.DataFrame(cells, columns=["persona", "template", "text"]).assign(task="mmlu", item="1")
    rates = leakage.mentions(responses, personas.select("muslim")).groupby(["task", "persona"])["score"].mean()
    assert rates["imprinting, religion"].to_dict() == {"none": 1, "stated": 4 / 6}
    assert rates["leakage, religion"].to_dict() == {"none": 0, "stated": 2 / 6}
    assert not leakage.pattern(["a man"]).search("a straight-up-man and a woman")


@pytest.mark.parametrize(
    ("names", "controls", "told"),
    [
        (7, True, "personas are 7: give 'all' or a list"),
        ([7], True, r"personas are \[7\]"),
        ("all", [], r"controls are \[\]: .* 'none'"),
        ("all", ["assistant"], "compared with 'none'"),
        ("all", ["none", "xx"], "unknown control 'xx': choose from none, empty, assistant"),
        ("all", 3, "controls are 3"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_line(names, controls, told):
    with pytest.raises(UserError, match=told):
        personas.select(names, controls=controls)
