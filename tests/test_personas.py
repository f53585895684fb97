"""Identities and their intersections: wording, and how they reach the prompt, direct or
indirect.
"""

import itertools

import numpy as np
import pandas as pd
import pytest
from notebook_helpers import run_in_process
from tiny_models import CHATML, DROPS_SYSTEM, NO_SYSTEM, tokenizer

from personagap import (
    ask,
    datasets,
    demo,
    effects,
    figures,
    leakage,
    palette,
    personas,
    prompts,
    tasks,
)
from personagap.demo import conversations
from personagap.demo.selector import Selector
from personagap.errors import UserError
from personagap.models import rendering
from personagap.noun_phrases import WORD_ORDER
from personagap.paths import DATA, NOTEBOOKS
from personagap.runs.request import Request
from personagap.safety_utility import defences

SAYS_NOTHING = {"role": "system", "content": ""}
#: System prompts of the controls and of the user-defined identities, in two languages.
ASKED_BY_OWN = ["none", "assistant", "nurse", "lawyer", "baker", "infirmière", "parisienne"]


def test_every_pair_of_categories_has_a_wording():
    table = personas.select("all", controls=False)
    for first, second in itertools.combinations(table["category"].unique(), 2):
        crossed = personas.intersections(second, first)
        assert (
            len(crossed) == table["category"].eq(first).sum() * table["category"].eq(second).sum()
        )
        for row in crossed.itertuples():
            parts = table.set_index("persona").loc[row.persona.split("+"), "phrase"]
            assert all(leakage.bare(phrase) in row.phrase for phrase in parts)
            assert row.phrase.startswith(("a ", "an "))
            assert row.phrase.count("person") == row.phrase.endswith(" person")


def test_intersections_are_worded_naturally():
    worded = {
        "man+hindu+middle_aged": "a middle-aged Hindu man",
        "jewish+african+lesbian": "a lesbian Jewish African person",
        "republican+woman": "a woman who is a Republican voter",
    }
    for name, phrase in worded.items():
        assert personas.select(name, controls=False)["phrase"].tolist() == [phrase]
    assert len(personas.select("+".join(WORD_ORDER), controls=False)) == 2 * 5 * 6 * 5 * 3 * 5 * 5
    both = personas.select(["all", "jewish+woman", "woman+jewish"], controls=["none"])
    assert [*both["persona"]] == [
        *personas.select("all", controls=["none"])["persona"],
        "jewish+woman",
    ]
    for name, message in [
        ("man+woman", "one identity from each"),
        ("man+nobody", "unknown persona 'nobody'"),
    ]:
        with pytest.raises(UserError, match=message):
            personas.select(name)


@pytest.mark.parametrize(
    "template", [CHATML, NO_SYSTEM, DROPS_SYSTEM], ids=["system", "no_system", "drops_system"]
)
@pytest.mark.parametrize("phrasing", personas.templates().index)
def test_identity_is_in_every_rendered_prompt(template, phrasing):
    """Also with chat templates that refuse a system message, or silently drop it (S9)."""
    words = tokenizer(template)
    who = personas.select(["all", "muslim+woman"], controls=False)
    hints = pd.read_csv(personas.DATA / "identities.csv", index_col="persona")["hint"]
    for row in who.itertuples():
        prompt = rendering.render(
            words, personas.chat(row.persona, "Why?", template=phrasing, phrase=row.phrase)
        )
        expected = [row.phrase] if phrasing != "indirect" else list(hints[row.persona.split("+")])
        assert all(text in prompt for text in expected) and "Why?" in prompt
        if phrasing == "indirect":  # implied, not stated
            assert row.phrase not in prompt


def test_indirect_control_and_unknown_identities():
    reveal = [turn["content"] for turn in personas.chat("assistant", "Why?", template="indirect")]
    assert len(reveal) == 4
    assert reveal[0] == personas.system_prompt("assistant")
    assert not reveal[1].startswith(" ")
    assert personas.chat("none", "Why?", template="indirect") == personas.chat("none", "Why?")
    with pytest.raises(UserError, match="no hint at the identity 'plumber'"):
        personas.chat("plumber", "Why?", template="indirect", phrase="a plumber")


def test_empty_system_message_is_an_optional_control(demo_lm):
    """Where a template has a default system prompt, the control "none" is not an empty system
    prompt.
    """
    every = list(personas.CONTROLS)
    assert personas.select("all")["persona"].tolist()[:2] == ["none", "assistant"]
    who = personas.select("religion", controls=every)
    assert who["persona"].tolist()[:3] == every and (who["category"][:3] == "control").all()
    for phrasing in personas.templates().index:
        assert personas.chat("empty", "Why?", template=phrasing) == [
            SAYS_NOTHING,
            {"role": "user", "content": "Why?"},
        ]
    asked = {persona: demo_lm.render(personas.chat(persona, "Why?")) for persona in every}
    assert len({*asked.values()}) == 3
    assert demo_lm.describe()["empty_system_message"] == "a prompt of its own"
    defended = defences.load_defence("placebo")(personas.chat("empty", "Why?"))
    assert defended[0]["content"] == defences.select("placebo")["text"].iloc[0]


def test_identity_effects_do_not_depend_on_the_selected_controls():
    scores = effects.simulate_scores([0, -8, 4], n_items=60, n_runs=2, seed=3)
    more = pd.concat(
        [scores, scores[scores["persona"] == "assistant"].assign(persona="empty")],
        ignore_index=True,
    )
    for estimate in (effects.personalization_bias, effects.omnibus, effects.variance_components):
        pd.testing.assert_frame_equal(estimate(scores, seed=1), estimate(more, seed=1))
    versus = effects.contrasts(more)
    empty = versus["contrast"] == "empty − none"
    pd.testing.assert_frame_equal(versus[~empty].reset_index(drop=True), effects.contrasts(scores))
    (row,) = versus[empty].itertuples()
    assert row.p_adjusted == row.p_value


def test_demo_has_no_truth_for_an_empty_system_message(demo_lm):
    items = datasets.load("mmlu", items_per_task=2)
    who = personas.select("muslim", controls=list(personas.CONTROLS))
    assert demo.true_scores(demo_lm, who, items)["persona"].unique().tolist() == [
        "none",
        "assistant",
        "muslim",
    ]
    alone = who[who["persona"] == "empty"]
    with pytest.raises(UserError, match="nothing is planted for empty"):
        demo.true_scores(demo_lm, alone, items)


def test_indirect_requests_are_planned_beside_direct_ones():
    items = datasets.load("mmlu", items_per_task=2)
    plan = ask.plan(personas.select("religion"), items, runs=1, templates=["paper", "indirect"])
    assert plan.groupby("template").size().to_dict() == {"paper": 14, "indirect": 14}


def test_imprinting_and_leakage_are_measured():
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
    responses = pd.DataFrame(cells, columns=["persona", "template", "text"]).assign(
        task="mmlu", item="1"
    )
    rates = (
        leakage.mentions(responses, personas.select("muslim"))
        .groupby(["task", "persona"])["score"]
        .mean()
    )
    assert rates["imprinting, religion"].to_dict() == {"none": 1, "stated": 4 / 6}
    assert rates["leakage, religion"].to_dict() == {"none": 0, "stated": 2 / 6}
    assert not leakage.pattern(["a man"]).search("a straight-up-man and a woman")
    # Items may be numbers; missing ones are reported.
    numbered = leakage.mentions(responses.assign(item=1), personas.select("muslim"))
    assert numbered["item"].unique().tolist() == ["mmlu/1"]
    with pytest.raises(UserError, match="responses lack the column 'text'"):
        leakage.mentions(responses.drop(columns="text"), personas.select("muslim"))
    with pytest.raises(UserError, match="who is a DataFrame: give identities"):
        leakage.mentions(responses, personas.select("none"))


@pytest.mark.parametrize(
    ("names", "controls", "message"),
    [
        (7, True, "personas are 7: give 'all' or a list"),
        ([7], True, r"personas are \[7\]"),
        ("all", [], r"controls are \[\]: .* 'none'"),
        ("all", ["assistant"], "compared with 'none'"),
        ("all", ["none", "xx"], "unknown control 'xx': choose from none, empty, assistant"),
        ("all", 3, "controls are 3"),
    ],
)
def test_invalid_selection_is_a_one_line_error(names, controls, message):
    with pytest.raises(UserError, match=message):
        personas.select(names, controls=controls)


OWN = """persona,category,phrase,hint
nurse,profession,a nurse,I am back from the night shift.
lawyer,profession,a lawyer,I spent the day in court.
baker,profession,a baker,
infirmière,métier,une infirmière,Je rentre de ma garde.
parisienne,ville,une Parisienne,J'habite à Paris.
"""


@pytest.fixture
def own(tmp_path):
    """A file of user-defined identities."""
    file = tmp_path / "mine.csv"
    file.write_text(OWN, encoding="utf-8")
    return file


@pytest.fixture
def french(tmp_path):
    """A folder of French prompts, in use until the test ends."""
    folder = tmp_path / "french"
    folder.mkdir()
    (folder / "templates.csv").write_text(
        "template,text,reply\npaper,Tu aides. Je suis {phrase}.,\n", encoding="utf-8"
    )
    (folder / "assistant.txt").write_text("Tu aides.", encoding="utf-8")
    (folder / "gsm8k.txt").write_text("Réponds : {question}", encoding="utf-8")
    yield folder
    prompts.use()


def test_user_defined_identities_have_intersections(own):
    who = personas.select("all", identities=own)
    assert who["persona"].tolist() == ASKED_BY_OWN
    assert (
        personas.select("profession", controls=False, identities=own)["phrase"].tolist()[0]
        == "a nurse"
    )
    crossed = personas.intersections("ville", "métier", identities=own)
    assert crossed[["persona", "phrase", "hint"]].to_numpy().tolist() == [
        [
            "infirmière+parisienne",
            "une infirmière, une Parisienne",
            "Je rentre de ma garde. J'habite à Paris.",
        ]
    ]
    with pytest.raises(
        UserError, match="unknown persona 'muslim': choose from the categories profession, métier"
    ):
        personas.select("muslim", identities=own)
    with pytest.raises(UserError, match="no hint at the identity 'baker'"):
        personas.chat("baker", "Why?", template="indirect", phrase="a baker", hint="")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("category", "kind", "no column 'category'"),
        ("lawyer,", "nurse,", "row 3: this persona stands above already"),
        # Visually the same
        ("lawyer,", "nu\u200drse,", "row 3: this persona stands above already"),
        ("lawyer,", "ｎurse,", "row 3: this persona stands above already"),
        ("nurse,", "none,", "row 2: this name of a persona has another meaning"),
        (
            "nurse,",
            "nur\u202ese,",
            "row 2: this persona has a space at an end, a line break or an unseen mark",
        ),
        ("nurse,", "nurse ,", "row 2: this persona has a space at an end"),
        ("ville", '"vil\nle"', "row 6: this category has a space at an end, a line break"),
        ("nurse,", "a+b,", "row 2: this name of a persona has another meaning"),
        ("ville", "none", "row 6: this category has another meaning"),
        ("ville", "all", "row 6: this category has another meaning"),
        ("ville", "a+b", "row 6: this category has another meaning"),
        ("ville", "control", "row 6: this category has another meaning"),
        ("a baker", " ", "row 4: an empty persona, category or phrase"),
    ],
)
def test_invalid_identity_file_is_a_one_line_error(own, before, after, message):
    own.write_text(OWN.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        personas.select("all", identities=own)
    assert str(own) in str(error.value) and "\n" not in str(error.value)


def test_question_first_prompts_share_a_prefix_across_identities():
    """All prompts of an item are equal up to the identity; the control's prompt is their
    beginning.
    """
    chats = {
        each: personas.chat(each, "Why {so}?", template="question_first")
        for each in ("assistant", "woman", "man")
    }
    turns = {each: chat[-1]["content"] for each, chat in chats.items()}
    begun = "Why {so}?\n\nAbout me: I am a "
    assert turns == {"assistant": "Why {so}?", "woman": f"{begun}woman.", "man": f"{begun}man."}
    # The system prompt has no identity.
    assert len({chat[0]["content"] for chat in chats.values()}) == 1
    assert personas.chat("none", "Why?", template="question_first") == [
        {"role": "user", "content": "Why?"}
    ]


def test_user_defined_categories_have_their_own_colours(own):
    who = personas.select("all", identities=own)
    assert {*figures.CATEGORIES} <= {*personas.select("all", controls=False)["category"]}
    marks = figures.category_styles([*figures.CATEGORIES, *who["category"][2:]])
    assert len({*marks.values()}) == len({colour for colour, _ in marks.values()}) == 7 + 3
    assert figures.PALETTE["control"] not in {colour for colour, _ in marks.values()}


def test_no_two_series_share_colour_and_marker():
    for style in (palette.category_styles, palette.series_styles):
        assert len({*style(map(str, range(50))).values()}) == 50
    for some in (palette.CATEGORIES, palette.ROLES):
        assert len({*some.values()}) == len(some)
    mixed = palette.series_styles(["human", "model", "retrieval", *map(str, range(20))])
    assert len({*mixed.values()}) == 23 and mixed["human"] == palette.ROLES["human"]


def test_colours_have_contrast_on_a_dark_page():
    """3 to 1, as WCAG requires of graphics; the explorer draws black in the text colour of the
    page.
    """

    def luminance(colour):
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [
            part / 12.92 if part <= 0.04 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return 0.05 + 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    styles = [
        *palette.CATEGORIES.values(),
        *palette.ROLES.values(),
        *palette.SERIES,
        *palette.FURTHER,
    ]
    colours = {colour for colour, _ in styles} - {"#000000"}
    assert min(luminance(colour) / luminance("#111111") for colour in colours) > 3
    # The light colours of Okabe and Ito.
    assert min(luminance("#ffffff") / luminance(colour) for colour in colours) > 2.2


def test_translated_prompts_reach_the_model_and_can_be_reset(french, own, demo_lm, isolated_cache):
    item = datasets.load("gsm8k", items_per_task=1)
    ours = (
        tasks.prompt(item.iloc[0]),
        personas.chat("muslim", "?"),
        personas.system_prompt("assistant"),
    )
    prompts.use(french)
    assert tasks.prompt(item.iloc[0]) == f"Réponds : {item['question'].iloc[0]}"
    assert personas.chat("muslim", "?")[0]["content"] == "Tu aides. Je suis a Muslim person."
    assert personas.system_prompt("assistant") == "Tu aides."
    who = personas.select("métier", identities=own)
    asked = ask.ask(demo_lm, who, item, runs=1)["prompt_hash"]
    with pytest.raises(UserError, match="choose from paper"):
        personas.system_prompt("muslim", template="profile")
    prompts.use()
    assert ours == (
        tasks.prompt(item.iloc[0]),
        personas.chat("muslim", "?"),
        personas.system_prompt("assistant"),
    )
    assert not {*asked} & {*ask.ask(demo_lm, who, item, runs=1)["prompt_hash"]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "gsm8k.txt",
            "Réponds.",
            r"gsm8k.txt: lacks the field \{question\}: write the fields of data/prompts/gsm8k.txt",
        ),
        ("gsm8k.txt", "{question} {age}", r"gsm8k.txt: has the field \{age\}"),
        ("gsm9k.txt", "{question}", "gsm9k.txt: no prompt of this name: it may be assistant.txt"),
        ("gsm8k.txt", "", "the file is empty"),
        (
            "templates.csv",
            "template,text,reply\npaper,Je suis.,\n",
            r"row 2: the text must have the field \{phrase\}",
        ),
        (
            "templates.csv",
            "template,text,reply\nindirect,Je suis {phrase}.,Bien.\n",
            r"row 2: .* \{hint\}",
        ),
        (
            "templates.csv",
            "template,text,reply\nfirst,{question} {phrase},Bien.\n",
            r"row 2: .* \{hint\}",
        ),
        ("templates.csv", "template,text\npaper,{phrase}\n", "no column 'reply'"),
        ("templates.csv", "template,text,reply\n ,{phrase},\n", "row 2: no name of the template"),
        ("templates.csv", "template,text,reply\nx,{question}{question}{phrase},\n", "row 2: "),
        (
            "icl_winning.txt",
            "Bonjour : {prompt}, {liked}, {prompt}",
            "write 3 parts between lines of ---",
        ),
        ("icl_winning.txt", "A\n---\n{prompt}, {liked}\n---\nB", r"lacks the field \{prompt\}"),
    ],
)
def test_prompts_are_validated_when_loaded(french, name, text, message):
    (french / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        prompts.use(french)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no prompts in"):
        prompts.use(french / "none")
    with pytest.raises(UserError, match="prompts are 3: give a folder"):
        prompts.use(3)
    assert tasks.prompt(datasets.load("gsm8k").iloc[0]).startswith(
        (DATA / "prompts" / "gsm8k.txt").read_text()[:20]
    )


def test_edited_prompts_are_reloaded(french):
    """A notebook's kernel keeps running, and must not ask the previous text."""
    prompts.use(french)
    before = personas.chat("muslim", "?"), prompts.template("gsm8k")
    # With a Windows byte-order mark and line ends, and braces that are no fields.
    head = b"\xef\xbb\xbftemplate,text,reply\r\n"
    (french / "templates.csv").write_bytes(head + b'paper,"{""user"":\r\n""{phrase}""}",\r\n')
    (french / "gsm8k.txt").write_bytes(b"Dis :\r\n{question}")
    prompts.use(french)
    after = personas.chat("muslim", "?"), prompts.template("gsm8k")
    assert after[0][0]["content"] == '{"user":\n"a Muslim person"}' != before[0][0]["content"]
    assert after[1] == "Dis :\n{question}" != before[1]


def test_simulated_models_reject_other_prompts(french):
    (french / "extract.txt").write_text("Lis : {conversation}", encoding="utf-8")
    prompts.use(french)
    with pytest.raises(
        UserError, match=r"simulated extractor reads the project's prompts only, not .*extract\.txt"
    ):
        conversations.Simulator()
    (french / "icl_both.txt").write_text(
        (DATA / "prompts" / "icl_both.txt").read_text(), encoding="utf-8"
    )
    prompts.use(french)
    with pytest.raises(UserError, match=r"simulated \(benefit\) reads the project's prompts only"):
        Selector("benefit", np.array([["a"]]), np.zeros((1, 1, 1)))


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*/*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_with_a_model_has_a_prompts_parameter(path):
    code = "".join("".join(cell["source"]) for cell in Request(path).content["cells"])
    assert (
        ("prompts" in Request(path).defaults)
        == Request(path).asks
        == ("pg.prompts.use(prompts)" in code)
    )


def test_invalid_prompts_are_an_error_before_any_request(french, tmp_path):
    (french / "rate.txt").write_text("{attribute} {prompt} {first}", encoding="utf-8")
    with pytest.raises(UserError, match=r"rate.txt: lacks the field \{second\}"):
        run_in_process(
            NOTEBOOKS / "recentering" / "3_response.ipynb",
            tmp_path,
            prompts=str(french),
            model="nobody",
        )


def test_first_notebook_asks_and_plots_user_defined_identities(
    own, french, tmp_path, isolated_cache
):
    given = {"identities": str(own), "prompts": str(french), "runs": 1, "items_per_task": 6}
    given["tasks"] = ["mmlu", "do_not_answer"]
    notebook = NOTEBOOKS / "safety_utility" / "1_personalization_bias.ipynb"
    run_in_process(notebook, tmp_path / "run", ["safety_utility"], **given)
    scores = pd.read_parquet(tmp_path / "run" / "tables" / "scores.parquet")
    assert set(scores["persona"]) == set(ASKED_BY_OWN)
    drawn = (tmp_path / "run" / "figures" / "safety_utility.svg").read_text(encoding="utf-8")
    for category, (colour, _) in figures.category_styles(["profession", "métier", "ville"]).items():
        assert category in drawn and colour.lower() in drawn
    for name in ("safety_utility.pdf", "safety_utility_column.pdf"):
        paper = (tmp_path / "run" / "figures" / name).read_bytes()
        assert b"/CIDFontType2" in paper and b"/Type3" not in paper  # TrueType, as journals ask for
