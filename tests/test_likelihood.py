"""Answers by likelihood: exact on the demo, the same in process and from a server, asked once."""

import json

import numpy as np
import pandas as pd
import pytest
from servers import completion, scripted_server

from personagap import ask, datasets, demo, effects, models, personas, prompts, tasks, verdicts
from personagap.errors import UserError
from personagap.safety_utility import checks

WHO = personas.select(["religion", "gender"])


@pytest.fixture(scope="module")
def items():
    return datasets.load("mmlu", items_per_task=16)


@pytest.fixture(scope="module")
def weighed(demo_lm, items, tmp_path_factory):
    from personagap.responses import ResponseStore

    store = ResponseStore(demo_lm.id, tmp_path_factory.mktemp("weighed"))
    responses = ask.ask(demo_lm, WHO, items, answers="likelihood", runs=3, store=store)
    return responses, tasks.grade(responses, items), store


def test_scores_are_the_exact_probabilities(demo_lm, items, weighed):
    """The demo writes letters in two forms with the same planted probabilities; either gives the
    truth.
    """
    responses, scores, _ = weighed
    # One run, however many are requested.
    assert len(responses) == len(WHO) * len(items) and set(responses["run"]) == {0}
    true = demo.true_scores(demo_lm, WHO, items)[["persona", "item", "true"]]
    both = scores.merge(true)
    assert len(both) == len(scores) and np.abs(both["score"] - both["true"]).max() < 0.03
    assert scores["choice_mass"].between(0.999, 1 + 1e-6).all() and scores["valid"].all()
    assert set(scores["accuracy"]) <= {0.0, 1.0}
    assert (scores.loc[scores["score"] > 0.5, "accuracy"] == 1).all()


def test_planted_bias_is_the_same_as_by_generation_at_lower_cost(
    demo_lm, items, weighed, isolated_cache
):
    scores = weighed[1]
    generated = ask.ask(demo_lm, WHO, items, runs=2)
    exact = demo.true_scores(demo_lm, WHO, items)
    truth = demo.truth(
        exact, effects.personalization_bias(scores, n_permutations=200, n_bootstrap=200)
    )
    table = checks.by_answers(demo_lm, WHO, items, generated, truth, "corrected")
    table = table.set_index("answers")
    assert abs(table.loc["likelihood", "estimated"] - table.loc["likelihood", "true"]) < 0.3
    assert table["tokens_written"].tolist()[1] == 0 < table["tokens_written"].tolist()[0]
    assert table.loc["likelihood", "requests"] * 2 == table.loc["generate", "requests"]
    width = table["ci_high"] - table["ci_low"]
    assert width["likelihood"] < width["generate"]


def test_likelihoods_are_asked_once_and_read_back_unchanged(demo_lm, items, weighed):
    responses, _, store = weighed
    # It does not depend on the seed.
    again = ask.ask(demo_lm, WHO, items, answers="likelihood", seed=7, store=store)
    assert again.attrs["asked"] == 0
    pd.testing.assert_frame_equal(again, responses)


def test_rates_and_verdict_report_the_probability_of_the_choices(weighed):
    _, scores, _ = weighed
    rates = effects.rates(scores)
    assert rates["choice_mass"].between(99.9, 100.01).all()
    assert rates["accuracy"].between(0, 100).all()
    bias = effects.personalization_bias(scores, n_permutations=99, n_bootstrap=99)
    verdict = verdicts.persona_effects(
        bias, effects.contrasts(scores), rates, effects.detectable(scores)
    )
    answers = verdict.set_index("question")["answer"]
    assert answers["How much of the probability falls on the choices?"].startswith("From 100.0% (")


def test_detectable_effect_is_smaller_than_by_generation(weighed):
    """Without sampling noise 16 items detect less than ten points; single binary answers, a
    hundred.
    """
    _, scores, _ = weighed
    assert effects.detectable(scores)["smallest_contrast_holm"].item() < 15
    single = scores.assign(
        score=(np.random.default_rng(0).random(len(scores)) < scores["score"]).astype(float)
    )
    assert effects.detectable(single)["smallest_contrast_holm"].item() > 30


def test_tasks_without_choices_are_left_out_or_refused(demo_lm, capsys):
    items = datasets.load("all", items_per_task=2, graded=False, answers="likelihood")
    assert set(items["task"]) == {"mmlu"} and len(items.attrs["left_out"]) == len(tasks.TASKS) - 1
    assert "gsm8k: has no choices to weigh by likelihood, task skipped" in capsys.readouterr().out
    with pytest.raises(
        UserError, match="gsm8k: has no choices to weigh by likelihood: ask for mmlu"
    ):
        datasets.load("gsm8k", answers="likelihood")
    with pytest.raises(UserError, match="gsm8k has no choices"):
        ask.ask(demo_lm, WHO, datasets.load("gsm8k", items_per_task=2), answers="likelihood")
    with pytest.raises(UserError, match="answers are 'guess': choose from generate, likelihood"):
        ask.ask(demo_lm, WHO, items, answers="guess")


def test_partial_answer_is_continued(demo_lm):
    """Without an end of turn or another header after it."""
    begun = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "The answer is ("},
    ]
    prompt = demo_lm.render(begun)
    assert prompt.endswith("The answer is (") and prompt.startswith(demo_lm.render(begun[:1]))
    base = models.load_model("demo:base", prompt_format="base")
    assert base.render(begun).endswith("Answer: The answer is (")


def _tops(letters="ABCD"):
    tops = [{"token": letter, "logprob": float(np.log(0.2)), "bytes": None} for letter in letters]
    return {"content": [{**tops[0], "top_logprobs": tops}]}


@pytest.mark.parametrize("continues", [True, False])
def test_server_is_asked_to_continue_or_for_the_letter_only(
    continues, items, isolated_cache, monkeypatch
):
    """A server that ignores the fields starts a new turn, which its number of prompt tokens
    reveals.
    """
    asked = []

    def reply(body):
        if body.get("logprobs"):
            asked.append(body)
            return 200, completion("A", logprobs=_tops())
        words = sum(len(message["content"].split()) for message in body["messages"])
        new_turn = 0 if continues and body.get("continue_final_message") else 3
        return 200, completion(prompt_tokens=words + new_turn)

    with scripted_server(reply) as url:
        lm = models.load_model(f"openai:m@{url}")
        assert lm.continues is continues
        responses = ask.ask(lm, WHO.head(2), items.head(2), answers="likelihood")
    scores = tasks.grade(responses, items)
    assert np.allclose(scores["score"], 0.25) and np.allclose(scores["choice_mass"], 0.8)
    assert json.loads(responses["text"].iloc[0]) == pytest.approx(
        dict.fromkeys("ABCD", np.log(0.2))
    )
    last = asked[0]["messages"][-1]
    if continues:
        assert last == {"role": "assistant", "content": prompts.template("mmlu_begun")}
        assert asked[0]["continue_final_message"] is True
        assert asked[0]["add_generation_prompt"] is False
    else:
        assert last["role"] == "user" and "one letter alone" in last["content"]
        assert "continue_final_message" not in asked[0]
