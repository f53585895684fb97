"""Simulated users: weights, votes, heterogeneity, regressions, opinions and scoring, each computed
twice.
"""

import json
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from personagap import datasets, published, verdicts
from personagap.demo import personalllm as demo
from personagap.errors import UserError
from personagap.personalllm import features, figures, users
from personagap.personalllm.users import population

NAMES = list("abcdefghij")
RNG = np.random.default_rng(0)
REWARDS = RNG.normal(size=(40, 8, 10)) + RNG.normal(size=(40, 8, 1))
POPULATION = {"alpha": 0.05, "n_users": 200, "seed": 1}


@pytest.mark.parametrize(("alpha", "largest"), [(0.01, 0.943), (0.05, 0.783), (0.1, 0.664)])
def test_expected_largest_weight(alpha, largest):
    weights = users.dirichlet(100_000, alpha, 0, NAMES)
    assert weights.max(axis=1).mean() == pytest.approx(largest, abs=0.003)
    number = (
        published.load("personalllm")
        .query("quantity == 'expected_max_weight'")
        .set_index("condition")["value"]
    )
    assert number[f"alpha={alpha:g}"] == largest


def test_weights_are_dirichlet_and_never_nan():
    mine, other = (
        users.dirichlet(5000, 0.3, 0, NAMES)["a"],
        stats.dirichlet.rvs([0.3] * 10, 5000, random_state=1)[:, 0],
    )
    assert stats.ks_2samp(mine, other).pvalue > 0.01
    tiny = users.dirichlet(2000, 1e-4, 0, NAMES)  # gamma variates of this shape underflow (P13)
    # P2.
    assert np.allclose(tiny.sum(axis=1), 1)
    assert list(users.dirichlet(1, 1, 0, ["z", "b"])) == [
        "b",
        "z",
    ]
    with pytest.raises(UserError, match="alpha is 0"):
        users.dirichlet(1, 0, 0, NAMES)


def test_votes_equal_hand_computation_and_do_not_depend_on_chunks(monkeypatch):
    weights = users.dirichlet(30, 0.5, 0, NAMES)
    by_hand = [
        [
            max(
                range(8), key=lambda b: sum(w * r for w, r in zip(user, REWARDS[p, b], strict=True))
            )
            for p in range(40)
        ]
        for user in weights.to_numpy()
    ]
    assert users.winners(weights, REWARDS).tolist() == by_hand
    monkeypatch.setattr(population, "CHUNK", 1)
    assert users.winners(weights, REWARDS).tolist() == by_hand
    shares = users.vote_shares(np.array(by_hand))
    assert shares.shape == (40, 8) and np.allclose(shares.sum(axis=1), 1)
    with pytest.raises(UserError, match="user 1: the weights sum to 2"):
        users.winners(np.eye(10)[:2] * [[1], [2]], REWARDS)
    with pytest.raises(UserError, match="weights of 9 reward models, rewards of 10"):
        users.scores(weights.to_numpy()[:, :9], REWARDS)
    # Columns are matched by name, in any order.
    assert users.winners(weights[weights.columns[::-1]], REWARDS).tolist() == by_hand
    with pytest.raises(UserError, match="weights of 0 to 1"):
        users.winners(np.eye(10)[:1] * 2 - 0.1, REWARDS)
    with pytest.raises(UserError, match="give users × reward models"):
        users.winners(np.ones(10) / 10, REWARDS)
    with pytest.raises(UserError, match=r"rewards is .*finite"):
        users.winners(weights, REWARDS * np.nan)
    for wrong in ({"n": 0}, {"alpha": np.inf}, {"alpha": 1e-320}, {"seed": "x"}):
        with pytest.raises(UserError, match=f"{next(iter(wrong))} is"):
            users.dirichlet(**{"n": 2, "alpha": 1, "seed": 0, "reward_models": NAMES} | wrong)


def test_votes_of_full_size_take_seconds():
    rewards, weights = (
        np.random.default_rng(0).normal(size=(9402, 8, 10)),
        users.dirichlet(1000, 0.05, 0, NAMES),
    )
    start = time.process_time()
    assert users.winners(weights, rewards).shape == (1000, 9402)
    assert time.process_time() - start < 5


def test_normalization_is_explicit():
    rows = {
        "prompt": "p",
        "response": range(8),
        "beaver_7b": np.arange(8.0),
        "gemma_2b": 4.3304170169830325,
    }
    table = pd.DataFrame(rows)
    table.attrs["reward_models"] = ["beaver_7b", "gemma_2b"]
    z = users.rewards(table, "published")[0]
    np.testing.assert_allclose(z[3], [(3 - 6.233516894340515) / 3.012641148973965, 0], atol=1e-12)
    np.testing.assert_array_equal(users.rewards(table, "raw")[0, :, 0], range(8))
    z = users.rewards(datasets.load_personalllm(), "zscore")
    np.testing.assert_allclose(
        [z.mean(axis=(0, 1)), z.std(axis=(0, 1))], [[0] * 10, [1] * 10], atol=1e-9
    )
    with pytest.raises(UserError, match="no published constants of reward model 'brevity'"):
        users.rewards(datasets.load_personalllm(), "published")
    with pytest.raises(UserError, match="choose raw, published or zscore"):
        users.rewards(table, "z")
    with pytest.raises(UserError, match="'gemma_2b' rewards every response alike"):
        users.rewards(table, "zscore")


def test_incomplete_or_reordered_responses_are_refused():
    table = datasets.load_personalllm().head(80)
    joined = table.merge(table[["prompt", "response"]])
    joined.attrs = {}
    for wrong, message in (
        (table.sample(frac=1, random_state=0), "in another order"),
        (table.drop(index=3), "missing or"),
        (table.drop(index=range(0, 80, 9)).head(64), "missing or"),
        (joined, "no reward models named"),
    ):
        with pytest.raises(UserError, match=message):
            users.rewards(wrong)


def test_constant_features_are_left_out():
    """In a language other than English no word is a stop word."""
    texts = pd.Series([f"mot{i % 7} " * (i % 5 + 1) for i in range(320)])
    kinds = features.kinds(texts)
    weights = users.dirichlet(20, 0.5, 0, NAMES)
    with pytest.warns(UserWarning, match=r"syntactic features .* left out: .*stopwords"):
        found = users.compare_regressions(kinds, weights, REWARDS, ["paper"])
    assert set(found["feature"]) == {"length", "all"} and found["vif"][0] == pytest.approx(1)
    _, axes = plt.subplots(1, 2)
    figures.coefficients(found, axes)
    assert [ax.get_visible() for ax in axes] == [True, False]
    with pytest.warns(UserWarning), pytest.raises(UserError, match="no feature differs"):
        users.compare_regressions({"none": kinds["word-list"]}, weights, REWARDS, ["paper"])


def test_bins_of_distinct_winners_equal_a_count():
    table = users.heterogeneity(REWARDS, POPULATION, n_bootstrap=20).set_index(["measure", "bin"])
    votes = users.winners(users.dirichlet(200, 0.05, 1, NAMES), REWARDS)
    distinct = np.array([len(set(column)) for column in votes.T])
    for name, (low, high) in {
        "1": (1, 1),
        "2–3": (2, 3),
        "4": (4, 4),
        "6": (6, 6),
        "7–8": (7, 8),
    }.items():
        share = np.mean((distinct >= low) & (distinct <= high))
        assert table.loc[("distinct_winners", name), "estimate"] == pytest.approx(share)
    # The authors' bars: y[0] counts prompts with ONE winner (P3).
    counts = np.bincount(distinct, minlength=9)[1:]
    bars = [sum(counts[1:3]), *counts[3:6], sum(counts[6:])]
    printed = table.loc["distinct_winners"].set_index("in_paper")["estimate"]
    np.testing.assert_allclose(printed[["≤2", "3", "4", "5", "≥6"]], np.array(bars) / 40)


def test_users_of_one_reward_model_agree_and_others_do_not():
    one = POPULATION | {"n_reward_models": 1}
    table = users.heterogeneity(REWARDS, one, n_bootstrap=20).set_index(["measure", "bin"])[
        "estimate"
    ]
    assert table["top_share", "≤95%"] == 0 and table["distinct_winners", "1"] == 1
    change = users.heterogeneity_change(REWARDS, one, POPULATION, n_bootstrap=200).set_index("bin")
    assert change.loc["≤95%", "ci_low"] > 0 and change.loc["1", "ci_high"] < 0
    same = users.heterogeneity_change(REWARDS, POPULATION, POPULATION, n_bootstrap=20)
    assert (same["estimate"] == 0).all()
    assert (same["ci_low"] < 0).all()
    assert (same["ci_high"] > 0).all()


def test_entropy_and_win_rates():
    prompts = ["Imagine a sea.", "Who is it?", "What is my taste?", "A somewhat long poem?"] * 2
    table = pd.DataFrame({"prompt": np.repeat(range(8), 8), "prompt_text": np.repeat(prompts, 8)})
    table["response_model"] = np.tile([f"m{i}" for i in range(8)], 8)
    shares = np.full((8, 8), 1 / 8)
    shares[1::4] = np.eye(8)[0]
    found = users.entropy(table, shares, n_bootstrap=20).set_index("keyword")
    assert found.loc["imagine", "estimate"] == pytest.approx(np.log(8))
    assert found.loc["who", "estimate"] == 0
    assert found["n"].to_dict() == {
        "overall": 8,
        "imagine": 2,
        "poem": 2,
        "taste": 2,
        "who": 2,
        "what": 2,
    }
    wins = users.wins(table, shares, n_bootstrap=20)
    assert wins["estimate"].sum() == pytest.approx(1) and wins["response_model"].iloc[0] == "m0"


def ordered(weights, rank):
    """Standardised features of the winner and of the response at a rank: (users, prompts, 3)."""
    x = REWARDS[..., :3] - REWARDS[..., :3].mean(axis=(0, 1))
    x = x / REWARDS[..., :3].std(axis=(0, 1))
    order = users.scores(weights, REWARDS).argsort(axis=-1)[..., ::-1]
    return [x[np.arange(40), order[..., at]] for at in (0, rank)]


@pytest.mark.parametrize(("losing", "rank"), [("paper", 7), ("code", 3)])  # P4
def test_regressions_equal_scikit_learn(losing, rank):
    frame = pd.DataFrame(REWARDS[..., :3].reshape(-1, 3), columns=["x", "y", "z"])
    weights = users.dirichlet(12, 1, 0, NAMES)
    table = users.regressions(frame, weights, REWARDS, losing, ridge=0.5).set_index("metric")
    table, right = table.loc["coefficient"], table.loc["accuracy"]
    win, lose = ordered(weights, rank)

    def mean_coefficients(keep=slice(None)):
        fits = [
            LogisticRegression(C=2.0, fit_intercept=False, tol=1e-8)
            .fit(np.concatenate(pair), np.repeat([1, 0], n))
            .coef_
            for pair in zip(win[:, keep], lose[:, keep], strict=True)
            if (n := len(pair[0]))
        ]
        return np.concatenate(fits).mean(axis=0)

    np.testing.assert_allclose(table["estimate"], mean_coefficients(), atol=1e-4)
    # The cluster-robust error by prompt against a jackknife over prompts, an independent method.
    without = np.stack([mean_coefficients(np.arange(40) != p) for p in range(40)])
    error = np.sqrt(39 / 40 * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    reach = (table["ci_high"] - table["ci_low"]) / 2 / stats.t.ppf(0.975, 39)
    np.testing.assert_allclose(reach, error, rtol=0.15)
    assert right["ci_low"] < right["estimate"] > 0.5 and (table["separable"] == 0).all()


def test_users_with_separable_choices_are_dropped_and_counted():
    frame = pd.DataFrame(
        {
            "rank": REWARDS[..., 0].argsort(axis=1).argsort(axis=1).ravel(),
            "noise": RNG.normal(size=320),
        }
    )
    # One user's choices depend on the rank, the other's do not.
    weights = pd.DataFrame(np.eye(10)[:2], columns=NAMES)
    table = users.regressions(frame, weights, REWARDS, ridge=0)
    table = table[table["metric"] == "coefficient"]
    assert (table["separable"] == 1).all()
    assert (table["n"] == 1).all()
    assert table["estimate"].abs().max() < 5
    with pytest.raises(UserError, match="losing 'worst': choose paper or code"):
        users.regressions(frame, weights, REWARDS, "worst")
    with pytest.raises(UserError, match="give a ridge above 0"):
        users.regressions(frame, weights.head(1), REWARDS, ridge=0)


def test_representativeness_is_scipys_distance_and_finds_planted_groups():
    opinions = datasets.load_opinions()
    table = users.representativeness(opinions.people, opinions.models, n_bootstrap=500)
    table = table.set_index(["model", "attribute", "group", "distance"]).sort_index()
    near = opinions.models[opinions.models["model"] == "demo/near"].set_index("question")[
        "distribution"
    ]
    old = opinions.people[opinions.people["group"] == "65+"]
    far = [
        (
            stats.wasserstein_distance(
                row.ordinal, row.ordinal, row.distribution, near[row.question]
            ),
            row.ordinal,
        )
        for row in old.itertuples()
    ]
    row = table.loc[("demo/near", "AGE", "65+")]["estimate"]
    assert row["max−min"] == pytest.approx(
        1 - np.mean([distance / np.ptp(scale) for distance, scale in far])
    )
    # P5.
    assert row["options−1"] == pytest.approx(
        1 - np.mean([d / (len(scale) - 1) for d, scale in far])
    )
    for planted in demo.planted_representativeness().itertuples():
        found = table.loc[(planted.model, "Overall", "Overall", planted.distance)]
        assert found["ci_low"] < planted.planted < found["ci_high"]


def test_simulated_opinions_average_and_snap():
    people = pd.DataFrame({"question": ["q"], "attribute": "Overall", "group": "Overall"})
    people["ordinal"], people["distribution"] = [np.array([1.0, 2, 1.5])], [np.full(3, 1 / 3)]
    answers = pd.DataFrame({"question": "q", "reward_model": ["a", "b"], "answer": [1.0, 2.0]})
    weights = pd.DataFrame({"a": [0.9, 0.6, 0.1, 0.5], "b": [0.1, 0.4, 0.9, 0.5]})
    opinions = datasets.opinionqa.Opinions(people, people[:0], answers)
    found = users.simulated_opinions(opinions, weights).set_index("model")["distribution"]
    assert found["simulated users"].tolist() == [0.25, 0.25, 0.5]  # means 1.1, 1.4, 1.9, 1.5
    assert found["reward models, one vote each"].tolist() == [0.5, 0.5, 0]
    assert found["b alone"].tolist() == [0, 1, 0]
    with pytest.raises(UserError, match="'c' has not answered"):
        users.simulated_opinions(opinions, weights.assign(c=0.0))
    with pytest.raises(UserError, match="no reward model has answered"):
        users.simulated_opinions(opinions._replace(answers=None), weights)


def test_features_and_verdicts_count_available_data():
    text = "The lovely bird sings! It is easily\n1. seen\n2. heard, I hope."
    counts = features.syntactic([text, ""]).iloc[0]
    assert counts[["punctuation", "list_items", "adj_adv"]].tolist() == [5, 2, 2]
    words = features.lexicon([text])
    assert words.loc[0, "excitement"] == pytest.approx(100 / len(text.split()))
    assert words.loc[0, "joy"] > 0
    rows = pd.DataFrame({"model": ["m"], "share": [0.5], "ci_low": [0.4], "ci_high": [0.6]})
    assert (
        verdicts.describe("Votes", rows, ["model"], "share")
        == "Votes. m: share 0.500 [0.400, 0.600]"
    )


def test_responses_are_scored_by_a_reward_model(reward_model_folder, tiny_model_folder, tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    table = datasets.load_personalllm().head(6)
    scored = users.score_responses(
        table, {"mine": reward_model_folder, "beaver_7b": reward_model_folder}
    )
    # −cost (P17).
    assert (scored["beaver_7b"] == -scored["mine"]).all()
    assert "mine" in scored.attrs["reward_models"]
    tokenizer = AutoTokenizer.from_pretrained(reward_model_folder)
    prompt, text = table.loc[0, ["prompt_text", "text"]]
    shown = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{text}<|im_end|>\n"
    model = AutoModelForSequenceClassification.from_pretrained(reward_model_folder)
    with torch.inference_mode():
        expected = model(**tokenizer(shown, return_tensors="pt")).logits.item()
    assert scored["mine"][0] == pytest.approx(expected, abs=1e-5)
    batched = users.score_responses(table, {"mine": reward_model_folder}, batch_size=4)["mine"]
    np.testing.assert_allclose(batched, scored["mine"], atol=1e-4)  # in single precision; P21
    tokenizer.chat_template = None
    assert users.scoring.format_pair(tokenizer, "p", "r") == "User: p\nAssistant: r"  # P17
    with pytest.raises(UserError, match="is LlamaForCausalLM, not a model of one raw score"):
        users.score_responses(table, {"mine": str(tiny_model_folder)})
    with pytest.raises(UserError, match="cannot load"):
        users.score_responses(table, {"mine": "/nowhere"})
    with pytest.raises(UserError, match="batch_size is 0"):
        users.score_responses(table, {"mine": reward_model_folder}, batch_size=0)
    model.score.weight.data.fill_(6e4)  # sums overflow in half precision
    model.half().save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(reward_model_folder).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"not a finite number\): score with its own code"):
        users.score_responses(table, {"mine": str(tmp_path)})
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="cannot score these texts"):
        users.score_responses(table, {"mine": str(tmp_path)})
    assert features.semantic(["Good.", "Bad."], {reward_model_folder: {"x": ""}})["x"].notna().all()


@pytest.fixture(params=["GPTNeoXRewardModel", "LlamaForScore", "LlamaModelForScore"])
def published_head(request, tmp_path):
    """A tiny random reward model in files with a custom class, its backbone, and its head."""
    import torch
    from safetensors.torch import save_file
    from tiny_models import tokenizer
    from transformers import GPTNeoXConfig, GPTNeoXModel, LlamaConfig, LlamaModel

    torch.manual_seed(0)
    size = {"vocab_size": 400, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    size["num_hidden_layers"] = 1
    if neox := request.param.startswith("GPTNeoX"):
        backbone, prefix, head, bias = (
            GPTNeoXModel(GPTNeoXConfig(**size)),
            "gpt_neox",
            "out_proj",
            torch.randn(1),
        )
        published = {"model_type": "gpt_neox_reward_model", "pooling": "last"}
        weights = {f"{head}.bias": bias}
    else:
        backbone, prefix, head, bias = (
            LlamaModel(LlamaConfig(**size)),
            "model",
            "score_head",
            torch.zeros(1),
        )
        published = {"score_type": "cost", "do_normalize": False, "bias": False, "score_dim": 1}
        weights = {"normalizer.mean": torch.zeros(1), "normalizer.var": torch.ones(1)}
    config = backbone.config.to_dict() | published | {"architectures": [request.param]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights |= {f"{prefix}.{name}": each for name, each in backbone.state_dict().items()}
    weights[f"{head}.weight"] = torch.randn(1, 16)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    tokenizer().save_pretrained(tmp_path)
    return tmp_path, backbone.eval(), weights[f"{head}.weight"][0], bias, neox


def test_reward_model_with_a_custom_head_is_scored(published_head):
    import torch
    from transformers import AutoTokenizer

    folder, backbone, weight, bias, neox = published_head
    table = datasets.load_personalllm().head(5)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = []
    for row in table.itertuples():
        text = users.scoring.format_pair(tokenizer, row.prompt_text, row.text)
        with torch.inference_mode():
            states = backbone(tokenizer(text, return_tensors="pt")["input_ids"])[0]
        expected.append((states[0, -1] @ weight + bias).item())
    models = {"oasst_pythia_1b" if neox else "beaver_7b": str(folder)}
    sign = 1 if neox else -1  # P17
    for batch_size in (1, 5):
        scores = users.score_responses(table, models, batch_size).iloc[:, -1]
        np.testing.assert_allclose(scores, sign * np.array(expected), atol=1e-4)


def test_custom_head_with_changed_scores_is_refused(published_head):
    folder, *_, neox = published_head
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | ({"pooling": "mean"} if neox else {"do_normalize": True}))
    )
    with pytest.raises(UserError, match="not a model of one raw score"):
        users.score_responses(datasets.load_personalllm().head(1), {"mine": str(folder)})


def test_reward_model_without_its_head_is_refused(published_head):
    from safetensors.torch import load_file, save_file

    folder, *_, neox = published_head
    head = "out_proj.weight" if neox else "score_head.weight"
    weights = load_file(folder / "model.safetensors")
    del weights[head]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"lacks 1 of its weights, such as {head}"):
        users.score_responses(datasets.load_personalllm().head(1), {"mine": str(folder)})


def test_collinear_features_have_infinite_variance_inflation():
    """A pseudo-inverse alone gave 0.6, below the minimum of 1."""
    weights = users.dirichlet(10, 0.1, 0, [f"m{i}" for i in range(10)])
    x = pd.DataFrame(np.random.default_rng(1).normal(size=(320, 3)), columns=list("abc"))
    found = users.regressions(x.assign(both=x["a"] + x["b"]), weights, REWARDS).set_index("feature")
    assert np.isinf(found.loc[["a", "b", "both"], "vif"]).all()
    assert found.loc["c", "vif"] == pytest.approx(1, abs=0.05)
    with pytest.raises(UserError, match="losing 'code' is of 4 responses or more"):
        users.regressions(x.head(120), weights, REWARDS[:, :3], "code")


def test_answers_to_other_questions_or_options_are_an_error():
    opinions = datasets.load_opinions()
    with pytest.raises(UserError, match="give answers to questions of the people"):
        users.representativeness(opinions.people, opinions.models.assign(question="none"))
    short = opinions.models.assign(distribution=[np.ones(2) / 2] * len(opinions.models))
    with pytest.raises(UserError, match=r"question '.*give a share for each of its options"):
        users.representativeness(opinions.people, short)


def test_interval_of_vote_shares_stays_within_0_and_1():
    """One of 15 prompts is won often: Student's interval went below 0."""
    shares = np.tile([1.0, 0.0], (15, 1))
    shares[0] = [0.2, 0.8]
    table = pd.DataFrame({"prompt": np.repeat(range(15), 2), "response_model": ["a", "b"] * 15})
    found = users.wins(table, shares, n_bootstrap=200).set_index("response_model")
    assert 0 < found.loc["b", "ci_low"] < found.loc["b", "estimate"] == pytest.approx(0.8 / 15)
    assert found.loc["b", "ci_high"] > 0.2 and found.loc["a", "ci_high"] < 1
