"""Personalization from examples: their labels, their prompts, and recovery of a planted benefit."""

import resource
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fakes import FakeModel
from sklearn.metrics.pairwise import cosine_similarity

from personagap import personalllm
from personagap.datasets import load_personalllm
from personagap.demo import personalllm as demo_rewards
from personagap.demo.in_context import truth
from personagap.demo.selector import PLANTED, Selector
from personagap.errors import UserError
from personagap.models import load_model
from personagap.personalllm import adaptation, users
from personagap.personalllm.adaptation import icl, neighbours, runlog
from personagap.personalllm.published import run_log
from personagap.responses import ResponseStore

CONTROLS = [*adaptation.CONTROLS, "zero_shot", "population's favourite"]


@pytest.fixture(scope="module")
def table():
    return load_personalllm("demo")


def study_of(table, n, seed=0):
    weights = users.dirichlet(n, 0.05, seed, table.attrs["reward_models"])
    return adaptation.plan_study(table, weights, "zscore", "gpt-4o", seed)


@pytest.fixture(scope="module")
def study(table):
    return study_of(table, 30)


@pytest.fixture(scope="module")
def vectors(study):
    return adaptation.embed(study.prompts)


@pytest.fixture(scope="module")
def arms(study, vectors):
    return adaptation.source_arms(study, vectors, 5, 0.05)


def test_users_get_test_prompts_and_training_examples(table, study, arms):
    split = table.drop_duplicates("prompt")["split"].to_numpy()
    assert set(split[study.target]) == {"test"} and len(set(study.target)) == 30
    assert set(split[arms["own"].prompts].ravel()) == {"train"}
    assert study.responses[study.target[3], 2] == table["text"][8 * study.target[3] + 2]
    two = users.dirichlet(2, 0.05, 0, study.models)
    with pytest.raises(UserError, match="'demo' ends 0 of the response models"):
        adaptation.plan_study(table, two, "zscore", "demo")
    with pytest.raises(UserError, match="200 training and 0 test prompts"):
        adaptation.plan_study(table[table["split"] == "train"], two, "zscore", "gpt-4o")
    with pytest.raises(UserError, match="201 examples or neighbours of only 200"):
        adaptation.source_arms(study, np.eye(300), 201, 0.05)
    with pytest.raises(UserError, match="histories of 201 interactions from 200 training prompts"):
        neighbours.draw_histories(study, study.weights, 201, 0)


def test_examples_are_labelled_by_the_right_user(study, arms):
    scores = users.scores(study.weights, study.rewards)
    prompts = arms["own"].prompts
    for user in range(30):
        own = scores[user, prompts[user]]
        assert (arms["own"].liked[user] == own.argmax(1)).all()
        assert (arms["own"].disliked[user] == own.argmin(1)).all()
    votes = scores.argmax(-1)[:, prompts[4, 1]]
    assert arms["the population's"].liked[4, 1] == np.bincount(votes).argmax()
    # Each arm has one example for one user.
    strangers = users.dirichlet(30 * 5, 0.05, [0, 1], study.models)
    best = users.scores(strangers, study.rewards).argmax(-1).reshape(30, 5, -1)
    assert (arms["other people's"].liked[7] == best[7, range(5), prompts[7]]).all()
    assert (arms["a random user's"].liked[7] == best[7, 0, prompts[7]]).all()


def test_as_coded_variant_shows_user_0_by_misplaced_weights_to_all(study, vectors, arms):
    """P1: whose weights, in which order and on which scale."""
    wrong = np.einsum("ukbr,r->ukb", study.raw[arms["own"].prompts][..., ::-1], study.weights[0])
    assert (arms["user 0's"].liked == wrong.argmax(-1)).all()
    names = sorted(icl.CODE_ORDER)
    paper, order = replace(study, models=names), [names.index(name) for name in icl.CODE_ORDER]
    assert order == [1, 2, 4, 5, 6, 3, 7, 0, 9, 8]
    shown = icl.source_arms(paper, vectors, 5, 0.05)["user 0's"]
    assert (
        shown.liked == icl.extremes(study.weights[0], study.raw[shown.prompts][..., order])[0]
    ).all()
    # With a user-defined reward model in addition to the paper's.
    mixed = replace(study, models=[*names[:4], "mine", *names[5:]])
    assert icl.source_arms(mixed, vectors, 5, 0.05)["user 0's"].liked.shape == shown.liked.shape


def test_user_defined_weights_are_matched_by_name(table, study):
    own = users.dirichlet(30, 0.05, 0, table.attrs["reward_models"])
    turned = adaptation.plan_study(table, own[own.columns[::-1]], "zscore", "gpt-4o", 0)
    assert (turned.stored() == study.stored()).all() and turned.models == study.models
    with pytest.raises(UserError, match="a column of weights for each reward model"):
        adaptation.plan_study(table, own.rename(columns={"warmth": "x"}), "zscore", "gpt-4o", 0)


def test_prompts_contain_the_examples_of_their_strategy(study, arms):
    own = arms["own"]
    liked, disliked = (
        study.responses[own.prompts[0, 0], side[0, 0]] for side in (own.liked, own.disliked)
    )

    def text(arm, shots=1, **how):
        return icl.chats(study, arm, own, shots, **how)[0][0]["content"]

    assert text("own", 0) == study.prompts[study.target[0]]
    assert f"Liked response: {liked}" in text("own") and disliked not in text("own")
    assert f"Liked response: {disliked}" in text("mislabelled")
    assert f"Disliked response: {disliked}" in text("losing") and liked not in text("losing")
    assert liked in text("both") and disliked in text("both")
    assert text("own", 5).count("Liked response:") == 5
    capped = text("own", 5, max_characters=len(text("own", 2)))  # P9: the most distant are cut
    assert capped == text("own", 2)


def test_plain_format_skips_the_chat_template(tiny_model_folder, study, arms):
    """P8; a server always applies its template and is refused."""
    lm, chat = load_model(str(tiny_model_folder)), icl.chats(study, "own", arms["own"], 1)[0]
    plain = icl.reader(lm, "plain")
    assert (
        plain.render(chat).removeprefix(lm.tokenizer.bos_token or "") == chat[0]["content"] + "\n"
    )
    assert lm.render(chat) != plain.render(chat) and "<|im_start|>" in lm.render(chat)
    assert icl.reader(lm, "chat") is lm
    assert load_model(str(tiny_model_folder), prompt_format="plain").render(chat) == plain.render(
        chat
    )
    with pytest.raises(UserError, match="prompt format 'palin': choose from chat, base, plain"):
        load_model("demo", prompt_format="palin")
    for served_demo_model, template, message in (
        (SimpleNamespace(id="served"), "plain", "a server always applies"),
        (lm, "palin", "template 'palin': choose"),
    ):
        with pytest.raises(UserError, match=message):
            icl.reader(served_demo_model, template)


def test_selection_takes_the_likeliest_per_byte_and_is_cached(tiny_model_folder, table, tmp_path):
    study, lm = study_of(table, 4), load_model(str(tiny_model_folder))
    asked = icl.chats(study, "own", None, 0)
    choices = study.responses[study.target]
    per_byte = np.array(lm.choose(asked, choices.tolist())) / [
        [len(text.encode()) for text in row] for row in choices
    ]
    expected = study.stored()[range(4), per_byte.argmax(axis=1)]
    first = adaptation.by_selection(study, ResponseStore(lm.id, tmp_path))(lm, asked)
    lm.choose = None  # a second run sends no request
    again = adaptation.by_selection(study, ResponseStore(lm.id, tmp_path))(lm, asked)
    assert (first == expected).all() and (again == expected).all()


def echo(study):
    """A model that answers with the fourth stored response to the last prompt of the chat."""
    texts = dict(zip(study.prompts[study.target], study.responses[study.target, 3], strict=True))
    return FakeModel(
        "echo", lambda prompt: texts[prompt.rsplit("User: ")[-1].removesuffix("\nResponse:")]
    )


def test_generated_text_is_scored_on_the_scale_of_the_table(study, arms, isolated_cache):
    own, respond = {"own": arms["own"]}, adaptation.by_generation(study, demo_rewards.score)
    served_demo_model = adaptation.serve(echo(study), study, own, respond, [0, 1], ["chat"])
    assert served_demo_model["arm"].tolist() == ["zero_shot"] * 30 + ["own"] * 30
    np.testing.assert_allclose(
        served_demo_model["persona_reward"], np.tile(study.stored()[:, 3], 2), atol=1e-8
    )


def test_generated_text_is_scored_by_the_studys_reward_models(
    study, reward_model_folder, isolated_cache, monkeypatch
):
    names = ["beaver_7b", "gemma_2b"]
    for name in names:
        monkeypatch.setitem(users.REWARD_MODELS, name, reward_model_folder)
    raw, weights = study.raw[..., :2], np.tile([0.25, 0.75], (30, 1))
    real = replace(study, models=names, raw=raw, rewards=3 * raw + 1, weights=weights)
    respond = adaptation.by_generation(real, adaptation.reward_models(real, "auto"))
    served_demo_model = adaptation.serve(echo(study), real, {}, respond, [0], ["chat"])
    written = pd.DataFrame(
        {"prompt_text": study.prompts[study.target], "text": study.responses[study.target, 3]}
    )
    score = users.score_responses(written, {"mine": reward_model_folder})["mine"]
    # The sign of Beaver's cost model is flipped (P17).
    np.testing.assert_allclose(served_demo_model["persona_reward"], 1 + 3 * (0.75 - 0.25) * score)
    assert score.nunique() > 10
    with pytest.raises(
        UserError, match="no reward model 'brevity' to score what is written, only beaver_7b"
    ):
        adaptation.reward_models(study)


def test_summaries_equal_pandas_and_a_cluster_robust_regression(table):
    from statsmodels.regression.linear_model import OLS

    study = study_of(table, 400)
    results = adaptation.references(study)
    means = (
        adaptation.summarise(results, n_bootstrap=200)
        .query("metric == 'persona_reward'")
        .set_index("strategy")
    )
    assert means.loc["best of 8", "estimate"] == pytest.approx(study.stored().max(axis=1).mean())
    assert means.loc["random response", "estimate"] == pytest.approx(study.stored().mean(), abs=0.1)
    one, stored = (
        adaptation.compare(results, ["best of 8"], ["reference"], n_bootstrap=4000).iloc[0],
        study.stored(),
    )
    difference = stored.max(axis=1) - stored[:, study.reference]
    fit = OLS(difference, np.ones(400)).fit(
        cov_type="cluster", cov_kwds={"groups": study.target}, use_t=True
    )
    assert one["estimate"] == pytest.approx(difference.mean())
    assert [one["ci_low"], one["ci_high"]] == pytest.approx(fit.conf_int()[0], abs=0.01)
    with pytest.raises(UserError, match=r"\['own'\] and .*: no two to compare among .*best of 8"):
        adaptation.compare(results, ["own"], ["reference"])


@pytest.mark.parametrize("planted", PLANTED)
def test_planted_benefit_is_found_and_a_null_effect_is_not(table, vectors, planted):
    study = study_of(table, 400, 1)
    lm, arms = (
        Selector(planted, study.responses, study.rewards),
        adaptation.source_arms(study, vectors, 5, 0.05, 1),
    )
    served_demo_model = adaptation.serve(
        lm, study, arms, adaptation.by_selection(study, None), [0, 5], ["chat"]
    )
    results = pd.concat([served_demo_model, adaptation.references(study)])
    paired = adaptation.compare(results, ["own"], CONTROLS, n_bootstrap=400)
    answers = personalllm.verdicts.in_context(paired).set_index("question")["answer"]
    answer = answers["Does showing a user's favourites personalize a model?"]
    none = (
        "No, no benefit is shown beyond examples in",
        "Not told by these data, no benefit is shown beyond",
    )
    assert answer.startswith("Yes, beyond every control" if planted == "benefit" else none)
    helps = answers.filter(like="What do examples").iloc[0]
    assert helps.startswith("No difference" if planted == "none" else "Better")
    with pytest.raises(UserError, match="planted is 'much'"):
        Selector("much", np.empty(0), np.empty(0))


def test_type_i_error_of_the_benefit_is_low(table, vectors, monkeypatch):
    monkeypatch.setattr("gc.collect", lambda: 0)  # statsmodels collects garbage at every correction
    study = study_of(table, 2000)
    arms = {
        name: adaptation.source_arms(study, vectors, 5, 0.05)[name]
        for name in ("own", "a random user's")
    }
    respond = adaptation.by_selection(study, None)
    served_demo_model = adaptation.serve(
        Selector("none", study.responses, study.rewards), study, arms, respond, [5], ["chat"]
    )
    groups = served_demo_model.groupby(served_demo_model["user"] // 100)
    found = [
        adaptation.compare(each, ["own"], ["a random user's"], n_bootstrap=300).iloc[0]
        for _, each in groups
    ]
    # More than this has probability 0.003 in 20 tests at 5 %.
    assert sum(row["p_value"] < 0.05 for row in found) <= 4


def test_histories_as_coded_are_weaker(study):
    """P7: two random responses, never the last, instead of the best and worst of eight."""
    best, coded = (
        neighbours.draw_histories(study, study.weights, 40, 0, each) for each in (False, True)
    )
    scores = users.scores(study.weights, study.rewards)
    user = np.arange(30)[:, None]
    value = {
        name: [scores[user, each.prompts, side] for side in each[1:]]
        for name, each in (("b", best), ("c", coded))
    }
    assert (value["b"][0] == scores[user, best.prompts].max(-1)).all()
    assert (value["b"][1] == scores[user, best.prompts].min(-1)).all()
    assert (value["c"][0] >= value["c"][1]).all() and (coded.liked != coded.disliked).all()
    assert set(np.unique(coded[1:])) == set(range(7))
    assert value["c"][0].mean() < value["b"][0].mean() - 0.3
    assert all(len(set(row)) == 40 for row in best.prompts)


def test_embedding_retrieval_and_pooling_equal_hand_computation(study):
    rng = np.random.default_rng(0)
    vectors, prompts = (
        rng.normal(size=(study.responses.size, 9)).astype("float32"),
        rng.normal(size=(300, 5)),
    )
    history = neighbours.draw_histories(study, study.weights, 6, 0)
    win, lose = (vectors[history.prompts * 8 + side].mean(axis=1) for side in history[1:])
    for kind, expected in zip(neighbours.KINDS, (win, lose, win - lose), strict=True):
        np.testing.assert_allclose(
            neighbours.embed_users(vectors, history, kind), expected, atol=1e-6
        )
    near = icl.nearest(win, lose, 4)
    assert (near == (-cosine_similarity(win, lose)).argsort(axis=1)[:, :4]).all()
    pooled = neighbours.pool_examples(study, prompts, near, history, 3)
    for user in (0, 7):
        seen = {}
        for owner in near[user]:
            for prompt, liked in zip(history.prompts[owner], history.liked[owner], strict=True):
                seen.setdefault(prompt, liked)
        top = sorted(seen, key=lambda prompt: -prompts[prompt] @ prompts[study.target[user]])[:3]
        assert pooled.prompts[user].tolist() == top
        assert pooled.liked[user].tolist() == [seen[prompt] for prompt in top]


def test_retrieval_quality_is_one_for_the_truth_and_chance_for_noise():
    rng = np.random.default_rng(0)
    weights, noise = (rng.dirichlet(np.full(10, 0.5), 700) for _ in range(2))
    oracle = icl.nearest(weights[:100], weights[100:], 20)
    for looks, recall, correlation in ((weights, 1.0, 1.0), (noise, 20 / 600, 0.0)):
        pairs = (looks[:100], looks[100:]), (weights[:100], weights[100:])
        quality = neighbours.retrieval_quality(icl.nearest(*pairs[0], 20), oracle, *pairs)
        assert quality["estimate"].tolist() == pytest.approx([recall, correlation], abs=0.02)


def test_default_embeddings_are_offline_and_deterministic():
    texts = ["bees make honey", "honey and bees", "a bicycle chain", "chain of a bicycle", "rain"]
    vectors = adaptation.embed(texts)
    assert np.allclose(vectors, adaptation.embed(texts)) and np.allclose((vectors**2).sum(1), 1)
    assert [set(row) for row in icl.nearest(vectors[[0, 2]], vectors, 2)] == [{0, 1}, {2, 3}]


def served_demo_model(lm, study, arms, shots=3):
    return adaptation.serve(
        lm, study, arms, adaptation.by_selection(study, None), [shots], ["chat"]
    )


def in_context(table, vectors):
    """Coverage in 80 studies of 100 users, each with strangers and a population of its own."""
    names, studies = ["own", *adaptation.CONTROLS[:3]], []
    for seed, n in [*((seed, 100) for seed in range(80)), (1000, 8000)]:
        study = study_of(table, n, seed)
        lm = Selector("benefit", study.responses, study.rewards)
        arms = adaptation.source_arms(study, vectors, 3, 0.05, seed)
        arms = {name: arms[name] for name in names}
        if n == 100:
            studies.append(
                adaptation.compare(
                    served_demo_model(lm, study, arms), ["own"], names[1:], n_bootstrap=400
                )
            )
    found = pd.concat(studies).query("metric == 'persona_reward'")
    true = found["contrast"].map(truth(lm, study, arms, studies[0]).set_index("quantity")["true"])
    return true.between(found["ci_low"], found["ci_high"]).groupby(found["contrast"]).mean()


def across_users(table, vectors):
    """Coverage in 160 studies of 100 users that share a database of 1,000 users."""
    names, crowd = (
        ["similar by difference", "random users", "own history", "oracle users"],
        study_of(table, 16_000, 2),
    )
    looks = adaptation.embed(crowd.responses.ravel())
    history = users.dirichlet(1000, 0.05, 3, crowd.models)
    arms, _ = adaptation.neighbour_arms(crowd, history, vectors, looks, kinds=["difference"])
    arms, lm = (
        {name: arms[name] for name in names},
        Selector("benefit", crowd.responses, crowd.rewards),
    )
    one = served_demo_model(lm, crowd, arms).query("user < 100")
    one = adaptation.compare(one, names[:1], names[1:], n_bootstrap=50)
    return truth(lm, crowd, arms, one).set_index("quantity")["coverage"]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", [in_context, across_users])
def test_intervals_cover_the_truth(table, vectors, notebook):
    """Measured: in context 98, 98 (others), 90 % (the population); across users 97 (random), 93
    (own), 94 % (oracle).

    When users chose each other's examples, "other people's" and "a random user's" covered in 80–83
    % of 100 studies.
    """
    coverage = notebook(table, vectors)
    assert len(coverage) == 3 and (coverage >= 0.88).all()


def test_truth_is_the_population_mean_in_the_given_arms(table, vectors):
    study = study_of(table, 40)
    for planted in ("benefit", "none"):
        lm, respond = adaptation.open_model("simulated", planted, study)
        arms = adaptation.source_arms(study, vectors, 2, 0.05)
        results = adaptation.serve(lm, study, arms, respond, [0, 1, 2], ["plain", "chat"])
        paired = adaptation.compare(results, ["own"], CONTROLS[:-1], n_bootstrap=50)
        known = {name: arms[name] for name in ("own", "user 0's")}
        found = truth(lm, study, known, paired)
        assert found["quantity"].tolist() == ["own − user 0's"] * 2
        assert found["shots"].tolist() == [
            1,
            2,
        ]
        same = paired.query(
            "metric == 'persona_reward' and template == 'plain' and contrast == \"own − user 0's\""
        )
        assert found["true"].tolist() == pytest.approx(same["estimate"].tolist())
        assert found["covered"].all()
        assert found["estimated"].tolist() == same["estimate"].tolist()
        assert set(found["planted"]) == {"0" if planted == "none" else "follows its examples"}
        assert found["coverage"].between(0, 1).all()
    for wrong, message in (
        ({"evaluation": "look"}, "evaluation is 'look': choose"),
        ({"planted": "x"}, "planted is 'x'"),
    ):
        with pytest.raises(UserError, match=message):
            adaptation.open_model(**{"model": "demo", "planted": "none", "study": study} | wrong)


@pytest.mark.slow
def test_retrieval_among_10000_users_takes_20_seconds_and_2_gb():
    code = """
import time, numpy as np
from personagap.personalllm.adaptation import icl, neighbours
rng = np.random.default_rng(0)
vectors = rng.standard_normal((9402 * 8, 1024), dtype=np.float32)
draw = lambda n: icl.Examples(rng.integers(9402, size=(n, 50)), *rng.integers(8, size=(2, n, 50)))
queries, rows = draw(1000), draw(10000)
started = time.perf_counter()
icl.nearest(*(neighbours.embed_users(vectors, each, "difference") for each in (queries, rows)), 20)
assert time.perf_counter() - started < 20
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2e6


def log_of(**columns):
    base = {
        "algorithm": "MetaLearnKShotICLAlgorithm",
        "responses_to_include": "winning_only",
        "num_shots": 3,
    }
    base |= {
        "user_embedding_type": "winning",
        "user_embedding_computed_from_n_pr": 5.0,
        "datetime": "2024-08-16",
    }
    base |= {
        "n_similar_users_to_retrieve": 5.0,
        "meta_learning_dataset": "MetaLearningPrefDs1k",
        "total_score": -0.4,
    }
    return pd.DataFrame([base | {"win_rate_against_gpt4o": 20.0} | columns])


def test_log_is_read_and_its_mislabelled_arm_renamed(tmp_path):
    """P25; an invalid log is a one-line error."""
    assert runlog.load(tmp_path) is None
    early = {
        "algorithm": "KShotICLAlgorithm",
        "responses_to_include": "losing_only",
        "datetime": "2024-08-15 11:23:10",
    }
    ten = {"meta_learning_dataset": "MetaLearningPairwisePrefDB_Argmax_10000"}
    file = tmp_path / "personalllm_runs_mine.csv"
    pd.concat(
        [log_of(**early), log_of(**early | {"datetime": "2024-08-20"}), log_of(**ten)]
    ).to_csv(file)
    log = runlog.load(tmp_path)
    assert log["responses_to_include"].tolist() == [
        "losing_as_winning_only",
        "losing_only",
        "winning_only",
    ]
    assert log["db_users"].tolist() == [1000, 1000, 10000]
    for bad, message in (
        (log_of(num_shots=None), "row 2: no 'num_shots'"),
        (log_of().drop(columns="datetime"), "no column 'datetime'"),
    ):
        bad.to_csv(file)
        with pytest.raises(UserError, match=message):
            runlog.load(tmp_path)


def test_selection_among_equally_good_runs_inflates_the_best():
    """The plotted advantage (P20) and the expected maximum of 79 normals, 2.41 by integration."""
    row = runlog.compare_rates(21.9, 20.4).iloc[0]
    assert row["statistic"] == pytest.approx(0.82, abs=0.01)
    assert row["p_value"] > 0.4 and row["ci_low"] < 0 < row["ci_high"]
    rng = np.random.default_rng(0)
    equal = pd.Series(rng.binomial(1000, 0.2, 79) / 10)
    free, tied = runlog.selection_effect(equal, (0.0, 0.75)).to_dict("records")
    assert free["estimate"] / free["sd_chance"] == pytest.approx(2.41, abs=0.03)
    assert tied["estimate"] == pytest.approx(free["estimate"] / 2)
    assert free["p_value"] > 0.05
    assert free["shrunken_best"] < equal.mean() + 0.3 * (equal.max() - equal.mean())
    better = pd.concat([equal, pd.Series([40.0])])
    assert runlog.selection_effect(better, (0.0,))["p_value"].item() == 0


def test_real_log_gives_the_published_numbers(real_data):
    if (log := runlog.load(real_data)) is None:
        pytest.skip("add personalllm_runs*.csv to the folder of real data")
    table = run_log(log)
    assert len(log) == 126 and len(table) == 56 and table["difference"].abs().max() < 1e-4
    ordered = runlog.rank_runs(log)
    assert len(ordered) == 79 and ordered["plotted"].sum() == 3
    effects = runlog.selection_effect(ordered["win_rate_against_gpt4o"])
    effect, rates = effects.iloc[0], runlog.compare_rates(21.9, 20.4)
    assert effect["best"] == 23.3
    assert effect["best_by_chance"] > effect["best"]
    assert effect["p_value"] > 0.5
    assert personalllm.verdicts.forking_paths(effects, rates)[0][1].startswith(
        "Not distinguishable"
    )
