"""A small language model tuned to judge relevance as people do: by SFT, shown what they said, or by
GRPO, rewarded for saying the same.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from personagap import models
from personagap.models.rendering import user_says
from personagap.recentering import attributes

#: How a model can be tuned.
METHODS = ("sft", "grpo")
#: Prompts of an optimizer step, and rank of the adapter.
PROMPTS, RANK = 8, 16
#: Step size of SFT, as is usual for an adapter of low rank (Hu et al. 2022, arXiv 2106.09685).
SFT_RATE = 2e-4
#: Rollouts of a prompt and weight of the KL penalty are those of arXiv 2606.06614; its reward,
#: split and seeds are not known. It tuned all weights at a rate of 1e-6; an adapter of low rank
#: wants a higher one.
ROLLOUTS, KL, RATE = 5, 0.001, 2e-5
#: Tokens of a rollout, few as there is no time to think when it is scored.
TOKENS = 64
#: The two answers, of which a tuned model says how likely it would give each.
YES, NO = "Answer: YES", "Answer: NO"


def sft(model: str, prompts: Sequence[str], answers: Sequence[str], steps: int, seed: int):
    """Tune by supervised learning (trl): of a chat's tokens those of the answer are learned.

    Parameters
    ----------
    model, seed : as of `adapter.load` and `adapter.train`.
    prompts, answers : n of each, what is asked and the right answer.
    steps : optimizer steps, each on ``PROMPTS`` of them.

    Returns
    -------
    A model, as of ``models.load_model``.
    """
    said = [[{"role": "assistant", "content": answer}] for answer in answers]
    rows = pd.DataFrame({"prompt": list(map(user_says, prompts)), "completion": said})
    # A prompt that is cut would lose its answer, which is its end.
    options = {
        "learning_rate": SFT_RATE, "max_length": None, "train_sampling_strategy": "group_by_length",
    }  # fmt: skip
    return _tuned(model, "SFT", rows, options, steps, seed)


def grpo(
    model: str,
    prompts: Sequence[str],
    reward: Callable[[str, int], float],
    labels: Sequence[int],
    steps: int,
    seed: int,
):
    """Tune by group-relative policy optimization (trl).

    Parameters
    ----------
    model, prompts, seed : as of `sft`; the seed also decides the rollouts.
    reward : (text of an answer, label) → number, higher is better.
    labels : (n,) what ``reward`` needs to know of a prompt.
    steps : optimizer steps, each on ``PROMPTS`` × ``ROLLOUTS`` answers.

    Returns
    -------
    A model, as of ``models.load_model``.
    """

    def rewards(completions: list, label: list[int], **_) -> list[float]:
        texts = (answer[0]["content"] for answer in completions)
        return list(map(reward, texts, label))

    options = {
        "learning_rate": RATE, "beta": KL, "num_generations": ROLLOUTS,
        "max_completion_length": TOKENS,
        # All of a step at once would take 15 GB for a model of 135 million parameters.
        "per_device_train_batch_size": ROLLOUTS, "gradient_accumulation_steps": PROMPTS,
    }  # fmt: skip
    rows = pd.DataFrame({"prompt": list(map(user_says, prompts)), "label": labels})
    return _tuned(model, "GRPO", rows, options, steps, seed, reward_funcs=rewards)


def _tuned(
    model: str, method: str, rows: pd.DataFrame, options: dict, steps: int, seed: int, **more
):
    # Here, as it loads torch, which other classifiers do without.
    from personagap.models import adapter

    lora = {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": "all-linear"}
    with tempfile.TemporaryDirectory() as folder:
        tuned, lm = Path(folder, "tuned"), adapter.load(model)
        options = adapter.in_parts(lm, PROMPTS) | options | {"max_steps": steps}
        adapter.train(lm, tuned, method, rows, options, lora, seed, **more)
        # Loaded before its folder goes: it is one of many folds, and is asked once.
        return models.load_model(str(tuned))


def relevance_reward(labels: Sequence[int]) -> Callable[[str, int], float]:
    """1 for a right answer, divided by twice the share of its label; 0 for a wrong one, -1 for an
    unreadable one.

    So always NO earns no more than always YES.

    Examples
    --------
    >>> reward = relevance_reward([1, 0, 0, 0])
    >>> reward("Answer: YES", 1), round(reward("Answer: NO", 0), 2)
    (2.0, 0.67)
    >>> reward("Answer: NO", 1), reward("Perhaps.", 0)
    (0.0, -1.0)
    """
    # A reward by the label's share: with one relevant pair in six, always NO would else be learnt.
    share = (np.bincount(labels, minlength=2) / len(labels)).tolist()

    def reward(text: str, label: int) -> float:
        read = attributes.read_answer(text)
        return -1.0 if read is None else (read[0] == label) / (2 * share[label])

    return reward


def learner(
    texts: Sequence[tuple[str, str]],
    labels: np.ndarray,
    model: str,
    seed: int,
    steps: int,
    method: str,
) -> Callable:
    """For ``classifiers.cross_validate``: probability of yes after tuning on the training rows by
    ``method``, one of ``METHODS``: (1, n_test).
    """
    prompts = [attributes.question(prompt, [text]) for prompt, text in texts]

    def scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        asked, right = [prompts[row] for row in train], labels[train]
        if method == "sft":
            tuned = sft(model, asked, np.where(right, YES, NO).tolist(), steps, seed)
        else:
            tuned = grpo(model, asked, relevance_reward(right), right.tolist(), steps, seed)
        # Read at once, without thinking: a probability has no threshold built in (R4).
        chats = [user_says(prompts[row]) for row in test]
        yes, no = np.array(tuned.choose(chats, [[YES, NO]] * len(test))).T
        return 1 / (1 + np.exp(no - yes))[None]

    return scores
