"""Stages 2 and 3, relevance and response: file layouts, ratings, their predictors, learned rewards,
the gap figure.
"""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from fakes import scripted_model, write_jsonl
from statsmodels.regression.linear_model import OLS

from make_responses import EFFECTS, planted_response, rated_pairs
from make_responses import ratings as draw_ratings
from personagap import effects, figures, gap, personas, recentering
from personagap.datasets import load_judgments, load_relevance
from personagap.demo.recentering import truth
from personagap.errors import UserError
from personagap.personalllm import users
from personagap.recentering import extraction, reward
from personagap.results import wide
from personagap.runs import open_run

PROFILE = [{"attribute": "Naps."}, {"attribute": "Runs."}, {"attribute": "Naps."}]
PAIR = {
    "user_id": "x9",
    "prompt_index": 3,
    "prompt_text": "What now?",
    "profile_attributes": PROFILE,
}
JUDGED = [one | {"relevant": yes} for one, yes in zip(PROFILE, [True, False, False], strict=True)]
MODEL = {"model": "judge", "sample_index": 0, "user_id": "x9", "prompt_index": 3, "items": JUDGED}
RESPONSE = {
    **{
        "model_tag": "g",
        "user_id": "x9",
        "prompt_id": "x9_3",
        "prompt_text": "What now?",
        "item_index": 0,
    },
    **{"response_no_context": "Rest.", "response_personalized": "Nap."},
    "attributes": [
        {"attribute": "Naps.", "is_relevant": True},
        {"attribute": "Runs.", "is_relevant": False},
    ],
}
RATED = {"task": "6", "index": 0, "annotator": "p1", "ratings": {"Naps.": 5}}


def test_t18_t21_tool_layout_of_relevance_is_read(tmp_path):
    write_jsonl(tmp_path, task5_items=[PAIR], judge=[MODEL], task6_items=[RESPONSE])
    # Without human annotations the majority is that stated in stage 3.
    _, judgments = load_relevance(tmp_path)
    labels = judgments.pivot(index="item", columns="rater", values="label")
    assert labels["judge"].tolist() == [1, 0, 0]  # equal texts keep their own labels
    assert labels["human_majority"].tolist() == [1, 0, 1]
    annotations = [
        {"task": "5", "annotator": name, "user_id": "x9", "prompt_index": 3} for name in "abc"
    ]
    half = [JUDGED[0] | {"relevant": None}, *JUDGED[1:]]  # the first is left undecided by all
    write_jsonl(tmp_path, human=[one | {"relevance_judgments": half} for one in annotations])
    items, judgments = load_judgments("relevance", tmp_path)
    labels = judgments.pivot(index="item", columns="rater", values="label")
    assert {"human_01", "human_02", "human_03", "human_majority", "judge"} == set(labels)
    assert labels["human_majority"].isna().tolist() == [True, False, False]
    assert items["user"].eq("u01").all() and items["prompt_text"].eq("What now?").all()
    # Labels that another tool wrote as strings have a majority too.
    words = [each | {"relevant": "Yes" if each["relevant"] else "no"} for each in JUDGED]
    write_jsonl(tmp_path, human=[one | {"relevance_judgments": words} for one in annotations])
    labels = load_relevance(tmp_path)[1].pivot(index="item", columns="rater", values="label")
    assert labels["human_majority"].tolist() == labels["human_01"].tolist() == [1, 0, 0]


def test_t11_ratings_are_oriented_so_that_more_is_more_personalized(tmp_path):
    write_jsonl(
        tmp_path,
        task6_items=[RESPONSE],
        p1=[RATED],
        p2=[RATED | {"annotator": "p2", "personalized_first": True}],
    )
    items, judgments = load_judgments("response", tmp_path)
    assert items[["item", "attribute"]].to_numpy().tolist() == [["g/0", "Naps."]]
    shown = judgments[["rater", "label", "personalized_first"]].to_numpy().tolist()
    assert shown == [["human_01", 5, False], ["human_02", 1, True]]
    # Numeric ratings of another tool are reversed too.
    for first, rating in (("true", 5), (True, "5"), (1, 5.0)):
        other = {"personalized_first": first, "ratings": {"Naps.": rating}}
        write_jsonl(tmp_path, p1=[RATED | other], p2=[RATED | {"annotator": "p2"}])
        assert load_judgments("response", tmp_path)[1]["label"].tolist() == [1, 5]
    write_jsonl(tmp_path, p1=[RATED | {"ratings": {"Naps.": None}}], p2=[])
    with pytest.raises(UserError, match="the file is empty"):
        load_judgments("response", tmp_path)
    (tmp_path / "p2.jsonl").unlink()
    with pytest.raises(UserError, match="no judgments of stage 'response'"):
        load_judgments("response", tmp_path)


@pytest.fixture(scope="module")
def rated():
    items, judgments = load_judgments("response", "demo")
    key = ["source", "user", "prompt", "item"]
    features = reward.features(items)
    table = judgments.merge(items[[*key, "generator"]].join(features), on=key)
    return items, features, table.assign(second=1 - table["personalized_first"].astype(int))


def test_demo_equals_the_simulator_and_recovers_planted_effects(rated):
    _, features, table = rated
    drawn = draw_ratings(rated_pairs())
    assert (
        table.groupby("rater")["label"].mean().to_dict()
        == drawn.groupby("rater")["label"].mean().to_dict()
    )
    summary = gap.rating_summary(table, ["user", "prompt", "generator"])
    ranks, kappa = gap.judge_correlation(table), gap.mean_agreement(table, weights="linear")
    effects = gap.rating_effects(table, EFFECTS)
    beside = truth("response", summary, kappa, gap.judge_inflation(table), ranks, effects)
    assert len(beside) == 16 and beside["covered"].mean() >= 0.85
    answers = recentering.verdicts.response(summary, gap.judge_inflation(table), ranks, effects)[
        "answer"
    ]
    assert not answers.str.contains("nan").any()
    key = ["user", "prompt", "item"]  # for a model: least squares of its difference to people
    people = table[table["rater_kind"] == "human"].groupby(key)["label"].mean().rename("people")
    mine = table[table["rater"] == "judge_terse"].join(people, on=key)
    fit = OLS(mine["label"] - mine["people"], mine[EFFECTS].assign(one=1.0)).fit()
    assert effects.query("rater == 'judge_terse'")["estimate"].tolist() == pytest.approx(
        fit.params[:3].tolist()
    )
    fixed = gap.rating_effects(table.assign(second=1), EFFECTS)
    # A constant position has no effect estimate.
    assert set(fixed["metric"]) == {"mention", "log2_length"}
    assert (features["mention"] == rated_pairs()["mention"]).mean() > 0.95


def test_rating_summary_counts_judgments_and_responses():
    table = pd.DataFrame(
        {"prompt": [0, 0, 1, 1, 2, 2], "user": [0, 0, 1, 1, 2, 2], "item": [0, 1] * 3}
    )
    table = table.assign(rater="ann", rater_kind="human", label=[5, 1, 4, 4, 3, 4])
    summary = gap.rating_summary(table, ["user", "prompt"], cluster="user").set_index("metric")[
        "estimate"
    ]
    shares = {"better": 0.667, "no better": 0.333, "no better, by response": 0.333}
    assert summary.round(3).to_dict() == {"mean rating": 3.5} | shares


@pytest.mark.slow
def test_intervals_of_rating_effects_cover():
    pairs, hits = rated_pairs(), []
    planted = planted_response(200).set_index(["rater", "metric"])["planted"]
    for seed in range(1000, 1060):
        drawn = draw_ratings(pairs, seed).assign(rater_kind="model").drop(columns="prompt")
        drawn.loc[drawn["rater"].str.startswith("human"), "rater_kind"] = "human"
        drawn["item"] = drawn.groupby("rater").cumcount()
        found = gap.rating_effects(
            drawn.rename(columns={"prompt_id": "prompt"}), EFFECTS, n_bootstrap=200
        )
        true = planted[pd.MultiIndex.from_frame(found[["rater", "metric"]])].to_numpy()
        hits.append(((found["ci_low"] <= true) & (found["ci_high"] >= true)).mean())
    assert 0.91 < np.mean(hits) <= 0.99


def test_learned_reward_is_repeatable_and_generalises_to_new_users():
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(200, 5)))
    users = np.repeat(np.arange(40), 5).tolist()
    y = x[0].to_numpy() + rng.normal(size=200)
    first, again = (reward.nested_ridge(x, y, users) for _ in range(2))
    assert (first == again).all() and np.corrcoef(first, y)[0, 1] > 0.5
    # Depends only on the rater: a random split leaks it, unseen users do not (R7).
    own = np.repeat(rng.normal(size=40), 5)
    identity = pd.DataFrame(np.eye(40)[users])
    held_out, leaking = (
        reward.nested_ridge(identity, own, groups) for groups in (users, list(range(200)))
    )
    assert np.corrcoef(leaking, own)[0, 1] > 0.8 > 0.3 > np.corrcoef(held_out, own)[0, 1]


def test_learned_reward_without_a_signal_is_not_correlated():
    """Users differ in how they rate. Predicting the mean of the other users gave r = −0.16."""
    user, found = np.repeat(np.arange(20), 8), []
    for rng in np.random.default_rng(0).spawn(6):
        x = pd.DataFrame(rng.normal(size=(160, 14)))
        y = 3 + 0.5 * rng.normal(size=20)[user] + 1.2 * rng.normal(size=160)
        predicted = reward.nested_ridge(x, y, user.tolist())
        assert predicted.mean() == pytest.approx(y.mean(), abs=0.2)
        found.append(np.corrcoef(predicted, y)[0, 1])
    assert abs(np.mean(found)) < 0.08


def test_learned_reward_with_few_words_or_users():
    texts = {"prompt_text": "Cook?", "attribute": "bees", "generic": "", "personalized": "Honey."}
    x = reward.features(pd.DataFrame([texts, texts | {"attribute": "tea"}]))
    assert np.isfinite(x).all(axis=None) and x["log2_length"].tolist() == [0, 0]
    rng = np.random.default_rng(0)
    for few in (5, 6):
        groups = np.repeat(np.arange(few), 4).tolist()
        with pytest.raises(UserError, match="take ratings of seven users or more"):
            reward.nested_ridge(pd.DataFrame(rng.normal(size=(len(groups), 2))), groups, groups)
    groups = np.repeat(np.arange(7), 4).tolist()
    reward.nested_ridge(pd.DataFrame(rng.normal(size=(28, 2))), np.array(groups), groups)


def test_mentions_and_lengths_in_scripts_without_spaces():
    texts = {"prompt_text": "周末做什么?", "attribute": "喜欢爬山", "generic": "读书看报"}
    texts_and_attributes = [
        {"personalized": "你喜欢爬山,去爬山吧。"},
        {"attribute": "弹琴", "personalized": "读书看报。"},
    ]
    x = reward.features(pd.DataFrame([texts | each for each in texts_and_attributes]))
    assert x["mention"].tolist() == [1, 0]
    assert np.allclose(x["log2_length"], np.log2([9 / 4, 4 / 4]))


def test_learned_reward_leaves_out_unrated_responses(rated):
    items, x, table = rated
    people = table[table["rater_kind"] == "human"]
    judged = reward.learned(items, people[people["item"] != items["item"][0]], x)
    assert set(judged["item"]) == set(items["item"]) - {items["item"][0]}
    ranks = wide(gap.judge_correlation(pd.concat([table, judged]), n_bootstrap=20)).set_index(
        "rater"
    )
    assert ranks.loc["learned reward", "n"] == len(judged)
    assert ranks.loc["learned reward", "spearman"] > 0.1


def test_released_rewards_judge_pairs_and_score_each_response_once(rated, monkeypatch):
    asked = []

    def score(name, source, table, batch_size, device):
        asked.extend(table["text"])
        return (table["text"].str.len() * float(source)).tolist()

    monkeypatch.setattr(users.scoring, "_score", score)
    items = rated[0]
    judged = users.score_pairs(items, {"long": "1", "short": "-1"})
    assert len(asked) == 2 * len(set(asked)) < 2 * len(items)
    longer = items["personalized"].str.len() - items["generic"].str.len()
    for rater, sign in (("long", 1), ("short", -1)):
        mine = judged[judged["rater"] == rater].merge(items.assign(longer=longer))
        assert len(mine) == len(items) and (mine["label"] == sign * mine["longer"]).all()
    assert users.score_pairs(items, {}).empty


def test_model_judges_in_both_orders_and_malformed_ratings_are_counted(rated, isolated_cache):
    items = rated[0].head(4)
    ratings = [json.dumps({"rating": rating}) for rating in (5, 5, 9)]
    judgments, outputs = extraction.rate(scripted_model("j", *ratings, "hm"), items)
    assert judgments[["label", "personalized_first"]].to_numpy().tolist() == [[5, False], [1, True]]
    assert outputs.groupby("problem")["hit"].sum().to_dict() == {
        "invalid JSON": 1,
        "wrong scale": 1,
    }


def test_gap_figure_shows_available_stages_and_names_missing_ones(rated):
    summary = gap.rating_summary(rated[2], ["user", "prompt", "generator"], n_bootstrap=50)
    _, judgments = load_relevance("demo")
    relevance = wide(gap.relevance_metrics(judgments, n_bootstrap=50))
    points = recentering.figures.approval(None, relevance, summary)
    majority = points[points["rater"] == "people, majority"].iloc[0]
    assert majority["estimate"] == pytest.approx(100 * relevance["prevalence"].iloc[0])
    fig, ax = plt.subplots()
    recentering.figures.stages(None, relevance, summary, ax)
    assert [text.get_text() for text in ax.texts].count("not run") == 1
    plt.close(fig)
    assert len(recentering.figures.approval(None, None, None)) == 0


@pytest.mark.parametrize("beside", [False, True])
def test_figures_of_shares_of_0_and_100_percent_are_drawn(beside):
    """Also where rounding puts the end of an interval on the wrong side of the estimate."""
    pairs = [(item, rater) for item in range(12) for rater in ("human_majority", "right", "wrong")]
    judgments = pd.DataFrame(pairs, columns=["item", "rater"]).assign(rater_kind="model")
    judgments["prompt"], yes = judgments["item"] // 3, judgments["item"] % 2
    judgments["label"] = yes.where(judgments["rater"] != "wrong", 1 - yes)
    metrics = gap.relevance_metrics(judgments, cluster="prompt", n_bootstrap=20)
    who = personas.select("religion")
    scores = who[["persona"]].merge(
        pd.DataFrame({"task": ["utility", "safety"], "score": [0.0, 1.0]}), how="cross"
    )
    scores = scores.merge(pd.DataFrame({"item": range(5)}), how="cross").assign(
        valid=True, truncated=False
    )
    rates = effects.rates(scores)
    if beside:
        for table in (metrics, rates):
            value = table["estimate"]
            table["ci_low"], table["ci_high"] = (
                np.nextafter(value, np.inf),
                np.nextafter(value, -np.inf),
            )
    fig, axes = plt.subplots(1, 2)
    recentering.figures.precision_recall(metrics, axes[0])
    figures.safety_utility(rates, who, axes[1])
    fig.draw_without_rendering()
    plt.close(fig)


def test_tables_of_other_stages_name_their_run(tmp_path):
    for name, started, status in (
        ("old", "2025", "finished"),
        ("new", "2026", "finished"),
        ("last", "2027", "failed"),
    ):
        folder = tmp_path / "recentering" / "1_extraction" / name
        (folder / "tables").mkdir(parents=True)
        (folder / "tables" / "acceptance.csv").write_text("label,estimate\naccepted,0.5\n")
        facts = {
            "id": name,
            "started": started,
            "status": status,
            "parameters": {"data": "demo"},
            "changed": {},
        }
        (folder / "run.json").write_text(json.dumps(facts))
    # The other runs lie beside it
    mine = open_run(tmp_path / "recentering" / "3_response" / "mine")
    assert mine.latest_tables("1_extraction", "demo")["acceptance"].attrs["run"] == "new"
    assert mine.latest_tables("1_extraction", "mine") == {}


def test_figure_marks_the_null_and_the_ceiling():
    rows = pd.DataFrame(
        {"rater": ["a", "b"], "estimate": [0.2, 0.5], "ci_low": [0.1, 0.4], "ci_high": [0.3, 0.6]}
    )
    fig, ax = plt.subplots()
    most = rows.assign(estimate=[0.7, 0.8])
    figures.intervals(
        rows.assign(unit="share"), ax, "rater", xlabel="x", title="t", null=0, ceiling=most
    )
    assert [0, 0] in [list(line.get_xdata()) for line in ax.lines]
    assert [0.7, 0.8] in [list(line.get_xdata()) for line in ax.lines]
    assert ax.xaxis.get_major_formatter()(0.25) == "25%"  # shares are shown in percent
    plt.close(fig)
