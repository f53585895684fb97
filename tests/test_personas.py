"""Intersections are worded naturally, and an identity reaches the prompt, stated or hinted at."""

import itertools

import pandas as pd
import pytest
from tiny import CHATML, DROPS_SYSTEM, NO_SYSTEM, tokenizer

from personagap import ask, datasets, leakage, personas
from personagap.errors import UserError
from personagap.models import rendering


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
    assert len(reveal) == 4 and reveal[0] == personas.ASSISTANT_PROMPT and not reveal[1].startswith(" ")
    assert personas.chat("none", "Why?", template="indirect") == personas.chat("none", "Why?")
    with pytest.raises(UserError, match="no hint at the identity 'plumber'"):
        personas.chat("plumber", "Why?", template="indirect", phrase="a plumber")


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
        ("all", ["none", "xx"], "unknown control 'xx': choose from none, assistant"),
        ("all", 3, "controls are 3"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_line(names, controls, told):
    with pytest.raises(UserError, match=told):
        personas.select(names, controls=controls)
