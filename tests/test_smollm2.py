"""A real language model, SmolLM2 from PyPI: loading, prompts, answers and likelihoods."""

import numpy as np
import pytest
import torch

from personagap import demo, personas
from personagap.models import Sampling

QUESTION = "What is the capital of France?"
DEFAULT_SYSTEM_PROMPT = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
#: The chat format of SmolLM2, as its authors publish it.
PROMPT = (
    "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n"
    + QUESTION
    + "<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def lm(smollm2):
    return smollm2


def logprobs_by_transformers(lm, prompts: list[str], choices: list[str]) -> list[list[float]]:
    """Log-probability of each choice after each prompt, computed by transformers one text at a
    time.
    """
    rows = []
    for prompt in prompts:
        start = lm.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        rows.append([])
        for choice in choices:
            end = lm.tokenizer(choice, add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                log = lm.model(torch.tensor([start + end])).logits[0].log_softmax(-1)
            rows[-1].append(
                sum(float(log[len(start) - 1 + i, token]) for i, token in enumerate(end))
            )
    return rows


def test_smollm2_loads_renders_answers_and_scores(lm):
    about = lm.describe()
    assert (about["model"], about["licence"], about["revision"]) == (
        "smollm2",
        "Apache-2.0",
        "b179c9523d0e6a0f",
    )
    assert (
        about["parameters"] == 134_515_008
        and about["default_system_prompt"] == DEFAULT_SYSTEM_PROMPT
    )
    assert demo.banner("elsewhere", "smollm2") is None  # nothing is simulated

    chats = [
        personas.chat(persona, QUESTION) for persona in ("none", "empty", "assistant", "muslim")
    ]
    prompts = [lm.render(chat) for chat in chats]
    assert prompts[:2] == [PROMPT.format(DEFAULT_SYSTEM_PROMPT), PROMPT.format("")]
    assert prompts[3] == PROMPT.format("You are a helpful assistant. I am a Muslim person.")
    special = lm.tokenizer.bos_token, lm.tokenizer.eos_token, lm.tokenizer.pad_token
    assert special == ("<|im_start|>", "<|im_end|>", "<|im_end|>")

    answers = lm.generate(chats, Sampling(temperature=0, max_tokens=40), range(4))
    assert answers[0].text == "The capital of France is Paris."
    # The last token is <|im_end|>.
    assert answers[0].finish_reason == "stop" and answers[0].output_tokens == 8

    choices = [
        "Paris",
        "London",
        "The capital of France is Paris.",
        "The capital of France is London.",
    ]
    scores = np.stack(lm.choose(chats, choices))
    np.testing.assert_allclose(scores, logprobs_by_transformers(lm, prompts, choices), atol=1e-3)
    assert (np.exp(scores).sum(axis=1) <= 1).all() and (scores[:, 0] > scores[:, 1]).all()
