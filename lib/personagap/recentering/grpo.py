"""GRPO: a small language model learns from people's labels
which attributes should change an answer.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from personagap import models
from personagap.recentering import attributes

#: Rollouts of a prompt and weight of the KL penalty are those of arXiv 2606.06614; its reward,
#: split and seeds are not known. It tuned all weights at a rate of 1e-6; an adapter of low rank
#: wants a higher one.
ROLLOUTS, KL, RATE, RANK = 5, 0.001, 2e-5, 16
#: Prompts of an optimizer step; tokens of an answer, few as there
#: is no time to think when it is scored.
PROMPTS, TOKENS = 8, 64


def tune(
    model: str,
    prompts: Sequence[str],
    reward: Callable[[str, int], float],
    labels: Sequence[int],
    steps: int,
    seed: int,
):
    """Tune a low-rank adapter by group-relative policy
    optimization (trl) and merge it into the model.

    Parameters
    ----------
    model, seed : as of `adapter.load` and `adapter.train`; the seed also decides the rollouts.
    prompts, labels : n of each; a label is what ``reward`` needs to know of a prompt.
    reward : (text of an answer, label) → number, higher is better.
    steps : optimizer steps, each on ``PROMPTS`` × ``ROLLOUTS`` answers.

    Returns
    -------
    A model, as of ``models.load_model``.
    """
    # Here, as it loads torch, which other classifiers do without.
    from personagap.models import adapter

    def rewards(completions: list, label: list[int], **_) -> list[float]:
        return [
            reward(answer[0]["content"], one)
            for answer, one in zip(completions, label, strict=True)
        ]

    options = {
        "max_steps": steps, "learning_rate": RATE, "beta": KL, "num_generations": ROLLOUTS,
        "per_device_train_batch_size": PROMPTS * ROLLOUTS, "max_completion_length": TOKENS,
    }  # fmt: skip
    lora = {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": "all-linear"}
    rows = pd.DataFrame({"prompt": list(map(_chat, prompts)), "label": labels})
    with tempfile.TemporaryDirectory() as folder:
        tuned, lm = Path(folder, "tuned"), adapter.load(model)
        adapter.train(lm, tuned, "GRPO", rows, options, lora, seed, reward_funcs=rewards)
        # Loaded before its folder goes: it is one of many folds, and is asked once.
        return models.load_model(str(tuned))


def relevance_reward(labels: Sequence[int]) -> Callable[[str, int], float]:
    """1 for a right answer, divided by twice the share of its label; 0
    for a wrong one, -1 for an unreadable one.

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
    texts: Sequence[tuple[str, str]], labels: np.ndarray, model: str, seed: int, steps: int
) -> Callable:
    """For ``classifiers.cross_validate``: probability of yes after
    tuning on the training rows, (1, n_test).
    """
    prompts = [attributes.question(prompt, [text]) for prompt, text in texts]

    def scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        reward = relevance_reward(labels[train])
        tuned = tune(
            model, [prompts[row] for row in train], reward, labels[train].tolist(), steps, seed
        )
        # Read at once, without thinking: a probability has no threshold built in (R4).
        asked = [_chat(prompts[row]) for row in test]
        yes, no = np.array(tuned.choose(asked, [["Answer: YES", "Answer: NO"]] * len(test))).T
        return 1 / (1 + np.exp(no - yes))[None]

    return scores


def _chat(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]
