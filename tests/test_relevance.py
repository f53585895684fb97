"""Relevance judgments: loading, simulated raters, retrieval, and the numbers of the real data."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from fakes import FakeModel

from make_relevance import planted_relevance, relevance_judgments
from personagap import gap, recentering
from personagap.datasets import examples, load_relevance
from personagap.demo.recentering import truth
from personagap.embeddings import embed
from personagap.errors import UserError
from personagap.recentering import attributes, classifiers, judges
from personagap.results import add_holm, wide

HEADER = "prompt_id,user,attribute_index,prompt,attribute,human_majority,judge\n"
ROW = "1,ann@x.org,0,What now?,The user naps.,true,no\n"


def folder_with(tmp_path, text):
    file = tmp_path / "relevance_judgments_mine.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (HEADER, "no rows"),
        (HEADER.replace("user,", "") + ROW.replace("ann@x.org,", ""), "no column 'user'"),
        (
            HEADER.replace(",human_majority,judge", "") + "1,u01,0,What now?,The user naps.\n",
            "no column of a model's judgments",
        ),
        (HEADER + ROW + ROW, "row 3: repeats"),
        (HEADER + ROW.replace("no", "maybe"), "row 2: column 'judge': a label outside the scale"),
        (HEADER + ROW.replace("no", " "), "column 'judge': no judgment at all"),
        (HEADER + ROW + ROW.replace("ann@x.org", ""), "row 3: column 'user': empty"),
        (HEADER + ROW + ROW.strip() + ",1,1\n", "row 3: 9 fields instead of 7"),
        (
            HEADER + ROW + ROW.replace("ann", "bob").replace("now", "then"),
            "row 3: an earlier row of",
        ),
        (HEADER.encode() + ROW.replace("naps", "sié").encode("latin-1"), "not UTF-8"),
    ],
)
def test_invalid_file_is_a_one_line_error_with_its_place(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        load_relevance(folder_with(tmp_path, text))
    line = str(error.value)
    assert "relevance_judgments_mine.csv" in line and "\n" not in line and "ann" not in line


def test_float_labels_written_by_pandas_are_read_as_integers(tmp_path):
    """A column of 0 and 1 with a gap is of type float, and its file has 0.0 and 1.0."""
    rows = [ROW.replace("1,", f"{prompt},", 1) for prompt in range(3)]
    for ones, zeros in (("true", "no"), ("1.0", "0.0")):
        text = HEADER + "".join(rows).replace("true", ones).replace("no\n", f"{zeros}\n")
        text += ROW.replace("1,", "9,", 1).replace("true,no", f"{ones},")
        _, judgments = load_relevance(folder_with(tmp_path, text))
        assert judgments["label"].tolist() == [1, 1, 1, 1, 0, 0, 0]


def test_missing_majority_is_computed(tmp_path):
    people = HEADER.replace("human_majority", "Human_a,human_b,HUMAN_c")
    rows = "".join(ROW.replace("1,", f"{i},", 1) for i in range(3))
    text = people + rows.replace("true,no", "{},yes").format("1,0,1", "1,0,", "no,no,yes")
    _, judgments = load_relevance(folder_with(tmp_path, text))
    gold = judgments[judgments["rater"] == "human_majority"]
    assert gold["label"].tolist() == [1, 0, 0] and set(gold["rater_kind"]) == {"human"}
    assert (judgments["rater_kind"] == "human").sum() == 3 + 8
    (tmp_path / "relevance_judgments_mine.csv").unlink()
    examples.write("relevance", tmp_path)
    gold = load_relevance(tmp_path)[1].query("rater == 'human_majority'")
    assert len(gold) == 2


def test_attributes_without_words_are_reported():
    pairs = pd.DataFrame({"prompt_text": ["?", "!"], "attribute": ["…", "the"]})
    with pytest.raises(UserError, match=r"retrieval by words .*: give attributes with words"):
        attributes.retrieval_scores(pairs)
    for texts in (["the"], ["apple", "apple"]):
        with pytest.raises(UserError, match=r"TF-IDF of texts .*, or a model for embeddings"):
            embed(texts, dimensions=9)


@pytest.mark.parametrize(
    ("prompts", "texts"),
    [
        (["爬山要带什么?", "怎样学钢琴更快?"], ["喜欢在周末去爬山", "晚上常常弹钢琴"]),
        (
            ["登山に何を持って行く?", "ピアノの練習は?"],
            ["週末は登山をする", "夜によくピアノを弾く"],
        ),
        (["ปีนเขาต้องเตรียมอะไร", "เรียนเปียโนอย่างไร"], ["ชอบปีนเขาวันหยุด", "เล่นเปียโนตอนกลางคืน"]),
        (["What for climbing?", "How to learn piano?"], ["climbing, weekends", "plays the piano"]),
    ],
)
def test_words_are_found_in_scripts_without_spaces(prompts, texts):
    rows = [(prompt, text) for prompt in prompts for text in texts]
    pairs = pd.DataFrame(rows, columns=["prompt_text", "attribute"])
    scored = attributes.retrieval_scores(pairs)
    for rater in ("bm25", "tfidf"):
        scores = scored.loc[scored["rater"] == rater, "label"].to_numpy().reshape(2, 2)
        assert scores.argmax(axis=1).tolist() == [0, 1]
    near = embed(prompts, known=texts) @ embed(texts).T
    assert near.argmax(axis=1).tolist() == [0, 1]


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no relevance_judgments\*\.csv"):
        load_relevance(tmp_path)


def test_loader_hides_users_and_drops_unjudged_items(tmp_path):
    other = ROW.replace("ann", "bob").replace("true,no", "0,").replace("1,", "2,", 1)
    pairs, judgments = load_relevance(folder_with(tmp_path, HEADER + ROW + other))
    assert pairs["user"].tolist() == ["u01", "u02"] and pairs.attrs["sources"][0]["rows"] == 2
    columns = ["user", "prompt", "rater", "rater_kind", "label"]
    assert judgments[columns].to_numpy().tolist() == [
        ["u01", "1", "human_majority", "human", 1],
        ["u02", "2", "human_majority", "human", 0],
        ["u01", "1", "judge", "model", 0],
    ]


def test_planted_values_equal_the_mean_of_many_simulations():
    planted = planted_relevance().set_index(["rater", "metric"])["planted"]
    labels = pd.concat([relevance_judgments(seed) for seed in range(40)])
    gold = labels["human_majority"]
    for judge in ("judge_broad", "judge_strict"):
        hits = (labels[judge] & gold).sum()
        assert planted[judge, "precision"] == pytest.approx(hits / labels[judge].sum(), abs=0.01)
        assert planted[judge, "recall"] == pytest.approx(hits / gold.sum(), abs=0.01)
        assert planted[judge, "over_selection"] == pytest.approx(
            labels[judge].mean() / gold.mean(), rel=0.03
        )


def test_demo_recovers_planted_values(demo_relevance):
    table = truth("relevance", demo_relevance.metrics, demo_relevance.means)
    assert len(table) == 3 * len(gap.METRICS) + 1 and table["covered"].mean() >= 0.9


def test_latent_truth_and_leave_one_out_recover_planted_values(demo_relevance):
    judgments, quick = demo_relevance.judgments, {"n_bootstrap": 200}
    latent = gap.latent_truth(judgments, **quick)
    replacement = gap.alternative_annotator_test(judgments, **quick)
    found = truth("relevance", replacement, latent)
    # Three judges × (three metrics, advantage), three people × two, and the prevalence.
    assert len(found) == 3 * 4 + 3 * 2 + 1 and found["covered"].mean() >= 0.8
    assert found["difference"].abs().max() < 0.08
    gold = judgments[judgments["rater"] == "human_majority"].sample(frac=0.25, random_state=0)
    few = gap.prediction_powered_mean(
        pd.concat([gold, judgments[judgments["rater"] == "judge_strict"]]),
        "judge_strict",
        gold="human_majority",
        **quick,
    )
    answers = recentering.verdicts.may_replace(replacement, latent, few)["answer"]
    assert "judge_broad list-wise: " in answers[0]
    assert "of 3 (advantage probability 0." in answers[0]
    assert answers[1].count("judge_") == 3 and "with judge_strict 1." in answers[2]
    assert recentering.verdicts.may_replace(None).empty
    # Without a seed the same few labels are selected too.
    tables = [
        recentering.judges.replacement(judgments, "human_majority", **quick) for _ in range(2)
    ]
    pd.testing.assert_frame_equal(tables[0][2], tables[1][2])


def test_retrieval_prefers_shared_words_and_ignores_stop_words():
    pairs = pd.DataFrame(
        {
            "prompt": "p",
            "user": "u",
            "item": range(3),
            "prompt_text": "How do I bake sourdough bread?",
        }
    )
    pairs["attribute"] = [
        "The user plays the cello.",
        "The user bakes sourdough bread.",
        "The user reads how to do it.",
    ]
    scores = attributes.retrieval_scores(pairs)
    assert scores.groupby("rater")["label"].apply(np.argmax).tolist() == [1, 1]
    top = attributes.select_top(scores, [1])
    assert top["rater"].unique().tolist() == ["bm25_top1", "tfidf_top1"]
    assert top["label"].tolist() == [0, 1, 0] * 2
    silent = attributes.retrieval_scores(pairs.assign(prompt_text="How do you do?"))
    assert (silent["label"] == 0).all()


def test_unavailable_embeddings_are_a_user_error(tmp_path):
    pairs, _ = load_relevance("demo")
    with pytest.raises(UserError, match="sentence-transformers"):
        attributes.retrieval_scores(pairs.head(), embeddings=str(tmp_path / "nothing"))


def bakers(text):
    """Answer yes to what mentions bread, "perhaps" to naps."""
    lines = [line.partition(". ") for line in text.splitlines() if ". The user" in line]
    if lines:
        yes = [number for number, _, attribute in lines if "bread" in attribute]
        return f"They bake.\n\nAnswer: {', '.join(yes) or 'none'}"
    if "naps" in text:
        return "<think>Answer: NO</think> Perhaps."
    return f"**Answer: {'YES' if 'bread' in text else 'no'}**"


def test_model_judges_one_at_a_time_and_list_wise(isolated_cache):
    texts = [
        "The user naps.",
        "The user bakes bread.",
        "The user sails.",
        "The user sells bread.",
    ]
    pairs = pd.DataFrame(
        {"user": ["a", "a", "b", "b"], "item": [0, 1, 0, 1], "prompt": "p", "attribute": texts}
    )
    pairs = pairs.assign(prompt_text="What {now}?")
    lm = FakeModel("scripted", bakers)
    single, counts = attributes.judge(lm, pairs)
    assert single["label"].tolist() == [1, 0, 1] and counts.iloc[0].tolist() == ["scripted", 4, 1]
    listed, counts = attributes.judge(lm, pairs, "list")
    assert listed["label"].tolist() == [0, 1, 0, 1]
    assert counts.iloc[0].tolist() == [
        "scripted_list",
        1,
        0,
    ]
    assert set(listed["rater"]) == {"scripted_list"}
    assert list(listed["user"]) == [
        "a",
        "a",
        "b",
        "b",
    ]
    assert len(lm.asked) == 5 and all("What {now}?" in text for text in lm.asked)
    assert lm.asked[-1].index(texts[0]) > lm.asked[-1].index(texts[2])  # shuffled
    attributes.judge(lm, pairs)
    assert len(lm.asked) == 5  # now read from the store
    with pytest.raises(UserError, match="mode 'both'"):
        attributes.judge(lm, pairs, "both")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        # A real 0.5 B model left "Answer:" out in 20 of 21 answers.
        ("NO", 0), ("**Yes**", 1), ("No - it would not.", 0), ("Yes, as it sets the tone.", 1),
        ("It sets the tone.\n\n**No**.", 0), ("Yes\nNo", 0), ("I think the answer is: yes", 1),
        ("Answer: YES\nThe answer is the same without it.", 1), ("<think>NO</think>YES", 1),
        ("Answer: YES or Answer: NO\nIt does. Answer: YES", 1),
        ("Yes and no.", None), ("No doubt it matters", None), ("NOTHING", None), ("", None),
        ("The answer is not clear", None), ("Answer: maybe", None), ("Not to be told, no", None),
        ("\\boxed{\\text{No}}", 0), ("<answer>YES</answer>", 1), ('{"answer": "no", "why": ""}', 0),
        ("Answer - YES", 1), ("Answer： YES", 1), ("Verdict: YES", 1), ("Therefore, NO.", 0),
        ("The answer should be NO.", 0), ("I would say yes.", 1), ("Answer: YES/NO", None),
        ("Answer: YES. Wait, the answer should be NO.", 0), ("Answer with YES or NO: YES", 1),
        ("Answer: NO\n\nExplanation: yes would be right if", 0), ("So no change is needed", None),
        ("Yes (in tone)", 1),
        ("Answer: NO\n\nNote: had it been on food, the answer would be YES.", 0),
        ("Answer: YES\n\nUser: and this?\nAnswer: NO", 1),
        ("Is it relevant? No.", 0), ("Should it shape the answer? YES or NO", None),
    ],
)  # fmt: skip
def test_answer_about_one_attribute_is_parsed(text, label):
    assert attributes.read_answer(text) == (None if label is None else [label])


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("2, 5", [2, 5]), ("2 and 3", [2, 3]), ("Answer:\n- 2\n- 5", [2, 5]), ("None.", []),
        ("Answer: 2 (tone), 5 (depth)\nThese matter.", [2, 5]), ("**Answer:** 1", [1]),
        ("Answer: none of them", []), ("Answer:\n2, 5\n\nWhat user 3 likes", [2, 5]),
        ("1. The user bakes.\n2. The user rows.", None), ("Answer: 6", None), ("Answer:", None),
        ("Numbers 2, 5", None), ("nothing", None), ("[]", []), ("Answer: []", []),
        ('{"answer": [2, 5]}', [2, 5]), ("```json\n[2, 5]\n```", [2, 5]),
        ("Answer: 2-4", [2, 3, 4]), ("Answer: all", [1, 2, 3, 4, 5]), ("Answer: 1, not 2", None),
        ("Answer: all except 2", None),
        ("Answer:\n1. Yes\n2. No (the same)\n3. No\n4. Yes, in tone\n5. no", [1, 4]),
        ("| 1 | No |\n| 2 | Yes |\n| 3 | No |\n| 4 | No |\n| 5 | No |", [2]),
        ("1. Yes\n2. No", None),
        ('{"1": "no", "2": "no", "3": "yes", "4": "no", "5": "no"}', [3]),
        ("Answer: 1. The user has 2 dogs, 3. The user rows", [1, 3]),
        ("Answer: 2, as 3 examples change, and 5", [2, 5]), ("Answer: 2, possibly 3", None),
        ("Answer: 2 (has 3 dogs), 5", [2, 5]), ("Answer: (1), (3)", [1, 3]),
        ("Answer:\n2. The user has 3 dogs\n5. The user rows", [2, 5]), ("\\boxed{1, 3}", [1, 3]),
    ],
)  # fmt: skip
def test_answer_of_a_page_is_parsed(text, chosen):
    labels = None if chosen is None else [int(number in chosen) for number in range(1, 6)]
    assert attributes.read_answer(text, 5, "list") == labels


def test_demo_model_can_be_asked_but_gives_no_parsable_answer(demo_lm, isolated_cache):
    pairs, _ = load_relevance("demo")
    for mode, requests in {"single": 30, "list": pairs["prompt"].head(30).nunique()}.items():
        judged, counts = attributes.judge(demo_lm, pairs.head(30), mode, max_tokens=4)
        assert judged.empty
        assert counts[["requests", "unreadable"]].to_numpy().tolist() == [[requests, requests]]


def test_verdict_has_one_sentence_per_question(demo_relevance):
    pairs, judgments = demo_relevance.pairs, demo_relevance.judgments
    gold = judgments[judgments["rater"] == "human_majority"]
    others = ("judge_strict", "judge_broad_list", "select_all")
    paired = [gap.paired_difference(judgments, "judge_broad", b) for b in others]
    scored = gap.scored_metrics(
        pd.concat([gold, attributes.retrieval_scores(pairs)]), n_bootstrap=100
    )
    versus = classifiers.compare(judgments, demo_relevance.trained, n_bootstrap=100)
    compared = add_holm(pd.concat(paired), ["metric"])
    tables = (demo_relevance.metrics, demo_relevance.means, compared, scored, versus)
    table = recentering.verdicts.relevance(*tables).set_index("question")["answer"]
    at_once = (
        "Does judge_broad select less when it sees all attributes at once, as people did (R3)?"
    )
    trained = "Does a trained classifier beat the best model, on prompts or users new to it?"
    assert table[at_once].startswith("Yes") and "(linear (new users))" in table[trained]
    flattered = table["How much does a random split flatter it (R7)?"]
    assert flattered.count("Holm over 2 tests of its disjoint split, F1") == 2
    assert table["Does judge_broad select too much?"].startswith("Yes: it says yes 3.09 [")
    answer = table["Which is better, judge_broad or judge_strict?"]
    assert answer.startswith("judge_strict is better")
    assert not table.str.contains("nan").any()
    # The reported p-value is in a table, and its family is named.
    row = compared[compared["metric"] == "f1"].iloc[0]
    assert f"p = {row['p_adjusted']:.3f}" in answer or "p < 0.001" in answer
    assert "Holm over 3 tests of F1" in answer
    text = " ".join([*table.index, *table])
    assert not any(name in text for name in ("tfidf", "bm25", "_list", "select_all"))
    assert "judge_broad list-wise" in text and "TF-IDF 0." in text


def test_real_judgments_give_the_published_numbers_to_four_digits(real_data):
    _, judgments = load_relevance(real_data)
    table = wide(gap.relevance_metrics(judgments)).set_index("rater")
    metrics = ["prevalence", "yes_rate", "precision", "recall", "f1", "kappa"]
    expected = {
        "gpt_5_4": [0.1820, 0.4485, 0.3377, 0.8320, 0.4804, 0.2988],
        "gemma_4_31b": [0.1820, 0.4709, 0.3680, 0.9520, 0.5309, 0.3638],
    }
    for rater, values in expected.items():
        assert table.loc[rater, metrics].astype(float).round(4).tolist() == values
    assert round(table.loc["select_all", "f1"], 3) == 0.308


def test_list_wise_judge_is_compared_only_with_itself():
    contrasts = ["a − b", "a − a_list", "b − a_list", "a_list − select_all", "b − b_list"]
    found = judges.list_wise(pd.DataFrame({"contrast": contrasts}))
    assert found["contrast"].tolist() == ["a − a_list", "b − b_list"]


def test_overlapping_dots_are_labelled_as_equal():
    pairs, judgments = load_relevance()
    selected = attributes.select_top(attributes.retrieval_scores(pairs), [5])
    twin = selected[selected["rater"] == "bm25_top5"].assign(rater="twin")
    metrics = gap.relevance_metrics(pd.concat([judgments, selected, twin]), n_bootstrap=20)
    ax = recentering.figures.precision_recall(metrics, plt.figure().add_subplot())
    assert "= twin" in [text.get_text() for text in ax.texts]
    plt.close("all")


def test_invalid_judge_or_classifier_is_a_one_line_error(demo_relevance):
    judgments, texts, folds = demo_relevance.judgments, ["a b", "c d"] * 6, np.arange(12) % 3
    people = judgments[judgments["rater_kind"] == "human"]
    items = pd.DataFrame({"user": ["a"], "item": "0"})
    verifier = items.assign(attribute="Naps.", reason="", confidence=0.5)
    wrong = {
        "to hold against the people": lambda: recentering.judges.compare(people, "human_majority"),
        "labels is .*: give 0 or 1 for each text": lambda: classifiers.cross_validate(
            texts, ["no", "yes"] * 6, folds
        ),
        "labels is .*: give 0 or 1 for": lambda: classifiers.cross_validate(texts, [0, 1], folds),
        "row 0 without a usable label": lambda: classifiers.flags(
            verifier, items.assign(label="rejected")
        ),
        "pairs lack the column 'prompt_text'": lambda: attributes.retrieval_scores(items),
    }
    for message, call in wrong.items():
        with pytest.raises(UserError, match=message):
            call()
