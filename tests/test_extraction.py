"""Stage 1, extraction: file layouts, structured output, merging, the verifier, hedging, and the
simulator.
"""

import json

import numpy as np
import pandas as pd
import pytest
from fakes import scripted_model, write_jsonl
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from make_extraction import BROKEN
from personagap import gap
from personagap.datasets import load_histories, load_judgments, load_relevance
from personagap.demo import conversations
from personagap.errors import UserError
from personagap.recentering import classifiers, extraction, reading, remedies

ATTRIBUTE = {"attribute": "The user naps.", "reason": "said so", "confidence": 0.9}
ITEM = {
    "user_id": "a@x.org",
    "source": "wildchat",
    "item_index": 0,
    "merged_attributes": [ATTRIBUTE, ATTRIBUTE],
}
TALK = [{"role": "user", "content": "I nap."}, {"role": "assistant", "content": "Well."}]
SAID = {
    "task": "4",
    "index": 0,
    "annotator": "5e18",
    "attr_judgments": [{"judgment": "ok"}, {"judgment": None}],
}
LONG = "stage,user,item,rater,rater_kind,label,attribute\n"


def test_tool_layout_hides_users_and_drops_undecided_judgments(tmp_path, capsys):
    records = [
        ITEM | {"conversations": [TALK]},
        ITEM | {"user_id": "b", "source": "prefeval", "item_index": 1},
    ]
    records[1]["conversations"] = [TALK]
    write_jsonl(
        tmp_path, task4_items=records, one_task4=[SAID, SAID | {"index": 1}, SAID | {"task": "1"}]
    )
    items, judgments = load_judgments("extraction", tmp_path)
    assert items[["user", "source", "turns"]].to_numpy().tolist() == [
        ["u01", "real", 1],
        ["u02", "synthetic", 1],
    ]
    assert judgments.to_numpy()[0].tolist() == [
        "extraction",
        "real",
        "u01",
        "0",
        "human_01",
        "human",
        "accepted",
    ]
    assert "1 annotations of pilot tasks left out" in capsys.readouterr().out  # R22
    assert load_histories(tmp_path)["text"][0] == "USER: I nap.\nAI: Well."


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (
            SAID | {"attr_judgments": [{"judgment": "great"}]},
            "row 1: a label outside the scale: use one of ok",
        ),
        (
            SAID | {"attr_judgments": [{"verdict": "ok"}]},
            r"row 1: attr_judgments\[0\]: not an object with judgment",
        ),
        (SAID | {"index": 7}, "row 1: judges what no file of items holds"),
        ({"attr_judgments": []}, "no column 'task'"),
    ],
)
def test_invalid_annotations_are_a_one_line_error_with_their_place(tmp_path, annotations, message):
    write_jsonl(tmp_path, task4_items=[ITEM | {"conversations": []}], one_task4=[annotations])
    with pytest.raises(UserError, match=message) as error:
        load_judgments("extraction", tmp_path)
    assert "one_task4.jsonl" in str(error.value) and "\n" not in str(error.value)


def test_generic_long_format_is_read(tmp_path):
    file = tmp_path / "judgments_mine.csv"
    file.write_text(
        LONG
        + "extraction,ann,0,bob,human,uncertain,Naps.\n"
        + "extraction,ann,0,judge,model,accepted,Naps.\n"
    )
    items, judgments = load_judgments("extraction", tmp_path)
    assert items["attribute"].tolist() == ["Naps."] and items["user"].tolist() == ["u01"]
    assert judgments["rater"].tolist() == ["human_01", "judge"]
    file.write_text(LONG + 2 * "extraction,ann,0,bob,human,uncertain,Naps.\n")
    with pytest.raises(
        UserError, match=r"judgments_mine.csv, row 3: judges what its rater judged before: keep one"
    ):
        load_judgments("extraction", tmp_path)
    file.write_text(
        LONG
        + "".join(f"extraction,ann,0,{who},human,ok,Naps.\n" for who in ("bob", "human_majority"))
    )
    # They are one person.
    assert load_judgments("extraction", tmp_path)[1]["rater"].tolist() == ["human_01"]
    file.write_text(LONG + 2 * "extraction,ann,0,bob,human,uncertain,Naps.\n")
    with pytest.raises(UserError, match="no judgments of stage 'response'"):
        load_judgments("response", tmp_path)
    with pytest.raises(
        UserError, match="unknown stage 'responses': choose from extraction, relevance, response"
    ):
        load_judgments("responses", tmp_path)
    with pytest.raises(UserError, match="no conversations"):
        load_histories(tmp_path)
    text = (
        LONG.replace("attribute", "prompt_text,attribute")
        + "relevance,ann,0,judge,model,yes,What now?,Naps.\n"
    )
    file.write_text(text)
    assert load_relevance(tmp_path)[1]["label"].tolist() == [1]
    file.write_text(LONG + "extraction,ann,0,bob,robot,uncertain,Naps.\n")
    with pytest.raises(
        UserError, match=r"judgments_mine.csv, row 2: rater_kind is not human or model"
    ):
        load_judgments("extraction", tmp_path)
    # As saved by spreadsheets: errors are reported, and the file is not skipped.
    file.rename(tmp_path / "mine.csv")
    for text, wrong in ((LONG.replace(",", ";"), "separated by ';'"), (LONG + "é", "not UTF-8")):
        (tmp_path / "mine.csv").write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match=f"mine.csv: .*{wrong}"):
            load_judgments("extraction", tmp_path)
    # Items of several files are concatenated, each with its own texts.
    format_row = "extraction,ann,{},{},human,ok,{}.\n".format
    (tmp_path / "mine.csv").write_text(LONG + format_row(0, "bob", "Naps"))
    file.write_text(LONG + format_row(1, "bob", "Runs") + format_row(0, "eve", "Naps"))
    items, judgments = load_judgments("extraction", tmp_path)
    assert set(items["attribute"]) == {"Naps.", "Runs."} and len(judgments) == 3
    file.write_text(LONG + format_row(0, "eve", "Runs"))
    with pytest.raises(UserError, match=r"mine.csv, row 2: an earlier row of its item"):
        load_judgments("extraction", tmp_path)
    (tmp_path / "mine.csv").unlink()
    header, row = LONG.strip(), "extraction,ann,0,bob,human,uncertain,Naps."
    file.write_text(f"{header},source\n{row},Real\n")
    with pytest.raises(UserError, match="row 2: source is not real or synthetic"):
        load_judgments("extraction", tmp_path)


@pytest.mark.parametrize(
    ("text", "n", "problems"),
    [
        (None, 0, {"no answer"}),
        ("I cannot.", 0, {"invalid JSON"}),
        ('[{"attribute": "The user', 0, {"invalid JSON"}),
        ("<think>[1]</think> []", 0, {"empty list"}),
        (json.dumps([ATTRIBUTE, ATTRIBUTE]), 1, {"repeated attribute"}),
        (json.dumps([ATTRIBUTE | {"confidence": "high"}, "The user naps."]), 0, {"missing field"}),
        ("```json\n" + json.dumps([ATTRIBUTE]) + "\n```", 1, set()),
        ("The list [as asked]:\n" + json.dumps([ATTRIBUTE]) + "\n[End]", 1, set()),
        (json.dumps([ATTRIBUTE | {"also": []}, ATTRIBUTE])[:-9], 0, {"invalid JSON"}),
        (json.dumps([ATTRIBUTE])[:-1], 0, {"invalid JSON"}),
        (json.dumps(ATTRIBUTE), 1, set()),
        (f"As in [1], from [0, 1]: {json.dumps([ATTRIBUTE])}", 1, set()),
        (json.dumps([[ATTRIBUTE]]), 1, set()),
        (str([ATTRIBUTE]), 1, set()),
        (json.dumps([ATTRIBUTE]).replace("}]", "},]").replace("said so", "said\nso"), 1, set()),
        (json.dumps([{key.title(): value for key, value in ATTRIBUTE.items()}]), 1, set()),
        (json.dumps([ATTRIBUTE | {"confidence": "0.9"}]), 1, set()),
        (json.dumps([ATTRIBUTE | {"confidence": True}]), 0, {"missing field"}),
        (json.dumps([ATTRIBUTE | {"attribute": ["naps"]}]), 0, {"missing field"}),
    ],
)
def test_every_malformed_output_is_counted(text, n, problems):
    found, seen = extraction.parse_attributes(text)
    assert (len(found), seen) == (n, problems)


def test_answers_are_stored_but_failures_are_not(isolated_cache):
    histories = pd.DataFrame({"user": ["a", "b"], "text": ["I nap.", "I run."]})
    found, outputs = extraction.extract(
        scripted_model("m", json.dumps([ATTRIBUTE]), None), histories
    )
    assert found["user"].tolist() == ["a"]
    assert outputs[outputs["hit"]][["user", "problem"]].to_numpy().tolist() == [["b", "no answer"]]
    again, outputs = extraction.extract(scripted_model("m", "[]"), histories)  # requests only b
    assert again.equals(found) and outputs[outputs["hit"]]["problem"].tolist() == ["empty list"]


def test_failed_or_malformed_verifier_answers_are_counted(isolated_cache):
    items = pd.DataFrame(
        {"user": ["a"] * 4, "attribute": [f"The user naps {n} times." for n in range(4)]}
    )
    lm = scripted_model(
        "v",
        '{"problem": true, "failure": "not standalone"}',
        None,
        '{"problem": ["yes"]}',
        "[" * 9999,
    )
    verified, outputs = extraction.verify(
        lm, items, pd.DataFrame({"user": ["a"], "text": ["I nap."]})
    )
    assert verified["label"].tolist()[0] == "rejected"
    assert verified["label"].isna().tolist() == [
        False,
        *[True] * 3,
    ]
    assert verified["failure"].tolist() == ["not standalone", "", "", ""]
    assert outputs.groupby("problem")["hit"].sum().to_dict() == {"no answer": 1, "invalid JSON": 2}
    assert extraction.parse_attributes("[" * 99999) == ([], {"invalid JSON"})


@pytest.mark.parametrize(
    ("text", "label", "failure"),
    [
        ('{"problem": "true", "failure": "Missing_Evidence"}', "rejected", "missing evidence"),
        ("{'problem': False, 'failure': 'none'}", "accepted", ""),
        ('{"Problem": "false"}', "accepted", ""),
        ('{"problem": 1}', None, ""),
    ],
)
def test_a_verdict_is_read_in_any_spelling(isolated_cache, text, label, failure):
    items = pd.DataFrame({"user": ["a"], "attribute": ["The user naps."]})
    histories = pd.DataFrame({"user": ["a"], "text": ["I nap."]})
    row = extraction.verify(scripted_model("v", text), items, histories)[0].iloc[0]
    assert (row["label"] if label else None, row["failure"]) == (label, failure)


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ('{"rating": "4"}', 4), ('{"Rating": 4.0}', 4), ("{'rating': 4,}", 4), ("Rating: 4/5", 4),
        ('{"note": {"a": 1}} {"rating": 4}', 4), ('{"why": "a\nb", "rating": "4/5"}', 4), ("4", 4),
        ('{"rating": true}', 0), ('{"rating": [4]}', 0), ("4 or 5", None), ("I rate it.", None),
        (None, None),
    ],
)  # fmt: skip
def test_a_rating_is_read(text, rating):
    assert reading.read_rating(text) == rating


def test_merging_keeps_the_most_confident_of_similar_attributes_per_user():
    bakes = "The user bakes two rye loaves every Saturday morning."
    texts = [bakes, bakes.replace("rye", "rye bread"), "The user plays chess.", bakes]
    found = pd.DataFrame(
        {"user": ["a", "a", "a", "b"], "attribute": texts, "confidence": [0.4, 0.9, 0.8, 0.5]}
    )
    merged = extraction.merge(found.assign(reason=""))
    assert merged[["user", "item"]].to_numpy().tolist() == [["a", "0"], ["a", "1"], ["b", "0"]]
    assert merged["attribute"].tolist() == texts[1:]


def test_thresholds_come_from_other_folds_and_beta_weights_recall():
    labels, folds = np.array([0, 1, 1] * 20), np.repeat([0, 1, 2], 20)
    scores = labels * 0.3 + np.random.default_rng(0).random(60)
    strict, broad = (classifiers.decide(scores, labels, folds, beta) for beta in (0.2, 5))
    assert broad[labels == 1].mean() > strict[labels == 1].mean() and broad.mean() > strict.mean()
    # A fold's own labels do not change its decisions.
    other = np.where(folds == 0, 1 - labels, labels)
    decided = [classifiers.decide(scores, truth, folds)[folds == 0] for truth in (labels, other)]
    assert (decided[0] == decided[1]).all()


def test_flags_come_from_people_a_classifier_and_the_extractor():
    items, judgments = load_judgments("extraction", "demo")
    flagged = judgments.assign(label=judgments["label"].isin(extraction.PROBLEMATIC).astype(int))
    flagged = flagged[flagged["user"] != "u01"]  # judged by nobody
    flags = classifiers.flags(items, flagged, beta=2)
    assert list(flags) == ["human_majority", "trained verifier", "own confidence"]
    assert flags.index.equals(items.index)
    assert (flags.isna().all(axis=1) == (items["user"] == "u01")).all()
    # Of three.
    votes = items.join(flagged.groupby(["user", "item"])["label"].median(), on=["user", "item"])[
        "label"
    ]
    pd.testing.assert_series_equal(flags["human_majority"], votes, check_names=False)
    yes = flags["human_majority"] == 1
    assert flags["trained verifier"][yes].mean() > flags["trained verifier"][~yes].mean()
    assert list(classifiers.flags(items.assign(confidence=np.nan), flagged)) == [
        "human_majority",
        "trained verifier",
    ]


def test_sources_are_compared_also_at_equal_length_if_known():
    items, judgments = load_judgments("extraction", "demo")
    judgments = judgments.merge(items[["user", "item", "dataset", "turns"]])
    found = extraction.contrasts(judgments)["contrast"].tolist()
    each = [f"real − {name}" for name in ("synthetic", "synthetic_a", "synthetic_b", "synthetic_c")]
    assert found == [*each, "real − synthetic, at equal log2_turns"]
    assert extraction.contrasts(judgments.assign(turns=0))["contrast"].tolist() == each


def test_t14_hedging_raises_acceptance_but_not_usefulness():
    items, judgments = load_judgments("extraction", "demo")
    items["flagged"] = items["attribute"].map(conversations.kind) != "supported"
    nothing = pd.Series(None, items.index[items["flagged"]], dtype=object)
    table = remedies.profiles(items, nothing, load_histories("demo"))
    assert (
        table.groupby("strategy")["attribute"].count()["refine flagged"]
        == (~items["flagged"]).sum()
    )
    hedged = conversations.judge(table[table["strategy"] == "hedge flagged"])
    compared = remedies.compare(table, judgments, hedged, cluster="user")
    values = compared.set_index(["metric", "strategy"])["estimate"].unstack()
    assert values.loc["accepted", "hedge flagged"] > values.loc["accepted", "as extracted"] + 0.1
    assert values.loc["useful", "hedge flagged"] < values.loc["useful", "as extracted"]
    itself = compared[
        (compared["strategy"] == "as extracted") & compared["metric"].isin(["covered", "kept"])
    ]
    assert (itself[["estimate", "ci_low", "ci_high"]] == 1).all(axis=None) and len(itself) == 2
    assert values.loc["covered", "as extracted"] == 1 > values.loc["covered", "drop flagged"] > 0.5
    assert values.loc["hedged", "as extracted"] == 0  # "in May" is no hedge
    assert values.loc["identifies"].between(0.6, 1).all()


def test_simulator_and_pipeline_reproduce_the_demo_items(isolated_cache):
    lm = conversations.Simulator()
    found, outputs = extraction.extract(lm, load_histories("demo"))
    merged = extraction.merge(found[found["confidence"] >= extraction.CONFIDENCE])
    items, judgments = load_judgments("extraction", "demo")
    assert merged["attribute"].tolist() == items["attribute"].tolist()
    assert (
        conversations.judge(merged)["label"].value_counts().to_dict()
        == judgments["label"].value_counts().to_dict()
    )
    rates = outputs.groupby("problem")["hit"].mean()
    assert all(abs(rates[name] - rate) < 0.03 for name, rate in BROKEN.items())
    verified, _ = extraction.verify(lm, items, load_histories("demo"))
    missed = verified[
        (verified["label"] == "accepted")
        & (items["attribute"].map(conversations.kind) != "supported")
    ]
    assert (
        0.35
        < len(missed) / (items["attribute"].map(conversations.kind) != "supported").sum()
        < 0.55
    )
    with pytest.raises(UserError, match="knows only the demo's conversations"):
        extraction.extract(lm, pd.DataFrame({"user": ["a"], "text": ["I nap."]}))


def test_adjusted_difference_is_the_marginal_effect_of_a_logistic_model():
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {"user": np.repeat(np.arange(200), 2), "length": np.repeat(rng.normal(size=200), 2)}
    )
    table["source"] = np.where(
        table["length"] + np.repeat(rng.normal(size=200), 2) > 0, "real", "synthetic"
    )
    p = 1 / (1 + np.exp(-(0.8 * table["length"] + 0.7 * (table["source"] == "real"))))
    table["label"] = rng.random(400) < p
    x = np.column_stack([np.ones(400), table["source"] == "real", table["length"]]).astype(float)
    fit = GLM(table["label"].astype(float), x, Binomial()).fit()
    sides = [
        fit.predict(np.column_stack([np.ones(400), np.full(400, side), x[:, 2]])).mean()
        for side in (1, 0)
    ]
    row = gap.adjusted_difference(table, [True], ["length"]).iloc[0]
    assert row["estimate"] == pytest.approx(100 * (sides[0] - sides[1]), abs=1.5)
    assert row["ci_low"] < row["estimate"] < row["ci_high"]
    # The part that length explains.
    assert gap.proportion_difference(table, [True])["estimate"][0] > row["estimate"] + 10
    with pytest.raises(UserError, match="cannot be told apart"):
        gap.adjusted_difference(table.assign(length=1.0), [True], ["length"])


def test_interval_of_mean_shares_is_wilson_with_the_effective_sample_size():
    table = pd.DataFrame({"user": np.arange(100), "side": "a", "hit": np.arange(100) < 20})
    row = gap.means(table, "hit", ["side"], cluster="user").iloc[0]
    # Wilson's interval of 20 in 100.
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((0.133, 0.289), abs=0.01)
    doubled = gap.means(pd.concat([table, table]), "hit", ["side"], cluster="user").iloc[0]
    # Duplicating the same people adds no information.
    assert doubled["ci_low"] == pytest.approx(row["ci_low"], abs=1e-6)
    none = gap.means(table.assign(hit=False), "hit", ["side"], cluster="user").iloc[0]
    assert none["ci_low"] < 1e-9 and 0.02 < none["ci_high"] < 0.06
    kinds = gap.means(
        table.assign(kind=np.where(table["hit"], "yes", "no")), "kind", ["side"], cluster="user"
    )
    assert kinds.set_index("kind")["estimate"].to_dict() == {"yes": 0.2, "no": 0.8}


def test_histories_stay_with_their_users(tmp_path):
    """Also for users whose attributes nobody judged, without attributes, or without
    conversations.
    """
    talks = {"a": "I nap.", "b": "I run.", "c": "I bake.", "d": None, "e": "I sing."}
    records = [
        ITEM
        | {"user_id": user, "item_index": number}
        | {"conversations": [[{"role": "user", "content": text}]] if text else []}
        | {"merged_attributes": [] if user == "a" else [ATTRIBUTE | {"attribute": f"{user}."}]}
        for number, (user, text) in enumerate(talks.items())
    ]
    judged = [
        SAID | {"index": index, "attr_judgments": [{"judgment": "ok"}]} for index in (2, 3, 4)
    ]
    write_jsonl(tmp_path, task4_items=records, one_task4=judged)
    items, _ = load_judgments("extraction", tmp_path)
    histories = load_histories(tmp_path)
    joined = items.merge(histories)[["attribute", "text"]].to_numpy().tolist()
    assert joined == [["c.", "USER: I bake."], ["e.", "USER: I sing."]]
    # Missing histories are not replaced by those of another user.
    none = pd.Series(dtype=object)
    for ask in (extraction.requests, lambda _, *given: remedies.profiles(given[0], none, given[1])):
        with pytest.raises(UserError, match=r"no conversations of user 'u03': add them"):
            ask("verify", items, histories)


def test_one_index_for_two_users_is_an_error(tmp_path):
    """Files that each count from 0 attributed attributes of one user to another."""
    write_jsonl(tmp_path, a_items=[ITEM | {"conversations": []}], one_task4=[SAID])
    write_jsonl(tmp_path, b_items=[ITEM | {"user_id": "b", "conversations": []}])
    with pytest.raises(UserError, match=r"b_items.jsonl, row 1: an earlier item has its item_ind"):
        load_judgments("extraction", tmp_path)


def test_adjusted_difference_of_constant_labels_or_one_user_is_uncertain():
    """It was 0 ± 0.000 points, and ± 55,000."""
    rows = [(side, f"{side}{user}", user + k, "ok") for side in ("real", "synthetic")
            for user in range(6) for k in range(4)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["source", "user", "length", "label"])
    plain = gap.proportion_difference(table, ["bad"]).iloc[0]
    row = gap.adjusted_difference(table, ["bad"], ["length"]).iloc[0]
    limits = ["estimate", "ci_low", "ci_high", "p_value"]
    assert row[limits].equals(plain[limits]) and row["ci_high"] > 30
    assert row["contrast"] == "real − synthetic, at equal length"
    one = table[(table["source"] == "real") | (table["user"] == "synthetic0")]
    labelled = one.assign(label=np.where(one["length"] % 2, "bad", "ok"))
    with pytest.raises(UserError, match=r"two or more users each, there are \[6, 1\]"):
        gap.adjusted_difference(labelled, ["bad"], ["length"])
    with pytest.raises(UserError, match="judgments lack the column 'dataset'"):
        extraction.contrasts(table)
