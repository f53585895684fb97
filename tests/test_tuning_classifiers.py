"""Trained judges: grouped folds, held-out scores, repeatable fine-tuning and GRPO."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score
from tiny_models import save_model

from personagap import gap, performance
from personagap.embeddings import embed
from personagap.errors import UserError
from personagap.models import Sampling, load_model
from personagap.personalllm import users
from personagap.recentering import attributes, classifiers, learners, tuning
from personagap.results import wide

WORDS = [
    "apples",
    "trains",
    "violins",
    "winter",
    "chess",
    "sailing",
    "bread",
    "maps",
    "stars",
    "glass",
]


def planted(n=240, seed=0):
    """Pairs whose label depends on the attribute's first word, plus noise; prompts and users
    recur.
    """
    rng = np.random.default_rng(seed)
    likes = rng.random(n) < 0.4
    texts = [
        (
            f"Tell me about {WORDS[i % 10]}.",
            f"The user {'enjoys' if like else 'avoids'} {WORDS[i % 7]}.",
        )
        for i, like in enumerate(likes)
    ]
    return texts, np.where(rng.random(n) < 0.05, ~likes, likes).astype(int), np.arange(n) % 10


def test_folds_keep_groups_together_and_a_random_split_does_not():
    groups = np.repeat([f"u{i}" for i in range(13)], 7)
    disjoint, random = classifiers.folds(groups), classifiers.folds(range(len(groups)))
    assert pd.Series(disjoint).groupby(groups).nunique().eq(1).all()
    assert set(disjoint) == set(range(5))
    assert pd.Series(random).groupby(groups).nunique().gt(1).all()
    assert (disjoint == classifiers.folds(groups)).all()
    assert (disjoint != classifiers.folds(groups, seed=1)).any()
    with pytest.raises(UserError, match="2 groups cannot be split into 5 folds"):
        classifiers.folds([1, 2])


def test_linear_probe_finds_a_planted_signal_in_pairs_and_single_texts():
    texts, labels, prompt = planted()
    number = classifiers.folds(prompt)
    for given in (texts, [attribute for _, attribute in texts]):
        scores = classifiers.cross_validate(given, labels, number)
        assert average_precision_score(labels, scores) > 0.85
        assert ((scores >= 0) & (scores <= 1)).all()
        assert (classifiers.decide(scores, labels, number) == labels).mean() > 0.9
    shuffled = np.random.default_rng(1).permutation(labels)
    nothing = classifiers.cross_validate(texts, shuffled, number)
    assert average_precision_score(shuffled, nothing) < labels.mean() + 0.12


@pytest.mark.parametrize(("method", "encoder"), [("kernel", None), ("states", "demo")])
def test_kernels_measure_similarity_and_rank_within_a_prompt(method, encoder):
    texts, labels, prompt = planted()
    number = classifiers.folds(prompt)
    scores = classifiers.cross_validate(texts, labels, number, method, encoder)
    assert average_precision_score(labels, scores) > 0.85 and ((scores >= 0) & (scores <= 1)).all()
    shuffled = np.random.default_rng(1).permutation(labels)
    nothing = classifiers.cross_validate(texts, shuffled, number, method, encoder)
    assert average_precision_score(shuffled, nothing) < labels.mean() + 0.12
    # The relevant attribute is the one on the prompt's topic; none is relevant by itself.
    texts = [
        (f"Tell me about {topic}.", f"The user likes {word}.") for topic in WORDS for word in WORDS
    ]
    labels = np.array(
        [prompt.split()[-1] == attribute.split()[-1] for prompt, attribute in texts]
    ).astype(int)
    number = classifiers.folds([prompt for prompt, _ in texts])
    scores = classifiers.cross_validate(texts, labels, number, method, encoder)
    assert scores[labels == 1].min() > scores[labels == 0].max()


def test_embeddings_are_fitted_on_training_texts_only():
    known = ["bees make honey", "a bicycle chain", "rain in winter", "bees in winter"]
    for dimensions in (None, 2):
        one, other = (
            embed(["bees hum", text], dimensions=dimensions, known=known)
            for text in ("rain", "hum hum")
        )
        np.testing.assert_array_equal(one[0], other[0])
        assert np.linalg.norm(one, axis=1) == pytest.approx([1, 1]) and not other[1].any()


@pytest.mark.parametrize(
    ("method", "encoder"), [("linear", None), ("kernel", None), ("states", "demo")]
)
def test_fold_is_scored_without_its_labels(method, encoder):
    """Training, model selection and the threshold must not see them."""
    texts, labels, prompt = planted()
    number = classifiers.folds(prompt)
    here = number == 2
    scores = classifiers.cross_validate(texts, labels, number, method, encoder)
    turned = np.where(here, 1 - labels, labels)
    other = classifiers.cross_validate(texts, turned, number, method, encoder)
    np.testing.assert_array_equal(scores[here], other[here])
    assert (scores[~here] != other[~here]).any()
    decided = classifiers.decide(scores, turned, number)
    np.testing.assert_array_equal(decided[here], classifiers.decide(scores, labels, number)[here])


def test_invalid_input_is_a_user_error():
    texts, labels, prompt = planted(40)
    number = classifiers.folds(prompt)
    for message, arguments in {
        "method 'forest'": (texts, labels, number, "forest"),
        "without fold 0 and 1": (texts, labels, number % 2),
        "'kernel' judges pairs": ([attribute for _, attribute in texts], labels, number, "kernel"),
        "both labels are not left": (texts, (number == 0).astype(int), number),
        "give encoder=": (texts, labels, number, "encoder"),
        "'states': None shows no hidden states": (texts, labels, number, "states"),
        "no encoder at": (texts, labels, number, "encoder", "/no/such/folder"),
        "no such folder": (texts, labels, number, "grpo", "/no/such/folder"),
    }.items():
        with pytest.raises(UserError, match=message):
            classifiers.cross_validate(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: classifiers.folds([1, 2, 3], n_splits=1),
            "n_splits is 1: give a whole number of at least 2",
        ),
        (
            lambda: classifiers.decide(np.ones(4), [0, 1, 0, 1], np.arange(4), beta=-1),
            "beta is -1: give a number",
        ),
        (
            lambda: classifiers.flags(None, None, "nope"),
            "verifier 'nope': choose from linear, encoder",
        ),
        (
            lambda: classifiers.flags(None, None, "grpo"),
            "verifier 'grpo': choose from linear, encoder",
        ),
        (
            lambda: attributes.select_top(None, []),
            r"top_k is \[\]: give a list of whole numbers of at least 1",
        ),
        (lambda: attributes.select_top(None, [0]), r"top_k is \[0\]: give a list"),
        (lambda: users.score_responses(None, ["a"]), r"reward_models is \['a'\]: give a name"),
        (
            lambda: users.score_responses(None, {"a": 1}),
            r"reward_models is \{'a': 1\}: give a name",
        ),
        (
            lambda: performance.random_model(None, hidden_size=3, layers=1),
            "hidden_size is 3: give a whole number of",
        ),
    ],
)
def test_invalid_notebook_parameters_are_a_one_line_error(call, message):
    with pytest.raises(UserError, match=f"^{message}"):
        call()


def test_encoder_learns_and_two_runs_are_equal(tmp_path, monkeypatch):
    monkeypatch.setattr(learners, "RATE", 3e-3)
    monkeypatch.setattr(learners, "EPOCHS", 3)
    texts, labels, prompt = planted(120)
    folder = save_model(tmp_path / "encoder", initializer_range=0.02)
    first, second = (
        classifiers.cross_validate(
            texts, labels, classifiers.folds(prompt, 3), "encoder", str(folder)
        )
        for _ in "ab"
    )
    np.testing.assert_array_equal(first, second)
    assert average_precision_score(labels, first) > 0.8


def test_sft_learns_its_training_answers_and_two_runs_are_equal(monkeypatch):
    """The demo model is too small to learn relevance: it is enough that shown answers become
    likelier.
    """
    monkeypatch.setattr(tuning, "SFT_RATE", 1e-2)
    texts, labels, _ = planted(24)
    prompts = [attributes.question(prompt, [attribute]) for prompt, attribute in texts]
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    first, second = (tuning.sft("demo", prompts, [tuning.YES] * 24, 6, 0) for _ in "ab")
    assert first.revision == second.revision
    before, after = (
        np.mean(lm.choose(chats, [[tuning.YES]] * 24)) for lm in (load_model("demo"), first)
    )
    assert after > before + 5
    shown = []

    def sft(model, asked, answers, *_):
        shown.append(dict(zip(asked, answers, strict=True)))
        return first

    monkeypatch.setattr(tuning, "sft", sft)
    number = np.arange(24) % 3
    scores = classifiers.cross_validate(texts, labels, number, "sft", "demo")
    assert ((scores > 0) & (scores < 1)).all()
    for fold, own in enumerate(shown):
        rows = np.flatnonzero(number != fold)
        assert own == {prompts[i]: tuning.YES if labels[i] else tuning.NO for i in rows}


def test_grpo_raises_the_reward_and_two_runs_are_equal(monkeypatch):
    """A reward that the demo model can earn: how often its answer contains "I"."""
    monkeypatch.setattr(tuning, "TOKENS", 12)
    monkeypatch.setattr(tuning, "RATE", 1e-2)
    texts, labels, _ = planted(16)
    prompts = [attributes.question(prompt, [attribute]) for prompt, attribute in texts]
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    first, second = (
        tuning.grpo("demo", prompts, lambda text, _: text.count("I"), labels.tolist(), 4, 0)
        for _ in "ab"
    )
    assert first.revision == second.revision
    before, after = (
        sum(
            answer.text.count("I")
            for answer in lm.generate(chats, Sampling(top_k=0, max_tokens=12), range(16))
        )
        for lm in (load_model("demo"), first)
    )
    assert after > before + 16
    # Where all answers earn the same, nothing can be learned.
    with pytest.warns(UserWarning, match="GRPO: 100% of 8 prompts taught nothing"):
        tuning.grpo("demo", prompts, lambda *_: -1, labels.tolist(), 1, 0)
    monkeypatch.setattr(tuning, "grpo", lambda *_: first)
    scores = classifiers.cross_validate(texts, labels, np.arange(16) % 3, "grpo", "demo")
    assert ((scores > 0) & (scores < 1)).all()


def test_kernel_ranks_the_demo_better_than_the_linear_probe(demo_relevance):
    pairs, judgments = demo_relevance.pairs, demo_relevance.judgments
    trained = classifiers.relevance_judges(pairs, judgments, {"kernel": None})
    both = pd.concat([demo_relevance.trained, trained[trained["rater"].str.startswith("kernel")]])
    auprc = wide(classifiers.quality(judgments, both, n_bootstrap=50)).set_index("rater")["auprc"]
    for split in ("new prompts", "new users"):
        assert auprc[f"kernel ({split})"] > auprc[f"linear ({split})"] + 0.05
    with pytest.raises(UserError, match="no classifier to train"):
        classifiers.relevance_judges(pairs, judgments, {})


def test_judges_by_split_and_their_baselines(demo_relevance):
    judgments, trained = demo_relevance.judgments, demo_relevance.trained
    models = ["judge_broad", "judge_strict", "judge_broad_list"]
    names = ["linear (new prompts)", *(f"{model} & linear (new prompts)" for model in models)]
    names += ["linear (new users)", "linear (random split)"]
    assert trained["rater"].unique().tolist() == names
    key = ["user", "prompt", "item"]
    strict = judgments[judgments["rater"] == "judge_strict"].set_index(key)["label"]
    confirmed = trained[trained["rater"] == "judge_strict & linear (new prompts)"].set_index(key)[
        "label"
    ]
    assert (confirmed <= strict.loc[confirmed.index]).all()
    table = wide(classifiers.quality(judgments, trained, n_bootstrap=50)).set_index("rater")
    scored = trained[trained["rater"] == "linear (new users)"].merge(
        judgments.loc[judgments["rater"] == "human_majority", ["user", "prompt", "item", "label"]],
        on=["user", "prompt", "item"],
    )
    assert table.loc["linear (new users)", "auprc"] == pytest.approx(
        average_precision_score(scored["label_y"], scored["score"])
    )
    versus = classifiers.compare(judgments, trained, n_bootstrap=50)
    contrasts = versus["contrast"].unique()
    assert len(contrasts) == 2 * (len(models) + 2) + 2 * len(models)
    assert {
        "linear (new prompts) − select_all",
        "linear (random split) − linear (new prompts)",
    } <= set(contrasts)
    both = gap.scored_difference(judgments, "judge_broad", "judge_strict", n_bootstrap=50)
    table = wide(gap.relevance_metrics(judgments, n_bootstrap=50)).set_index("rater")["auprc"]
    assert both["estimate"].iloc[0] == pytest.approx(table["judge_broad"] - table["judge_strict"])
