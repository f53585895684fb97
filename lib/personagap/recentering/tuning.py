"""Fine-tuning of a small language model to judge relevance as people do: by SFT on their answers,
or by GRPO with a reward for the same answer.
"""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from personagap import models
from personagap.models.rendering import user_chat
from personagap.recentering import attributes

METHODS = ("sft", "grpo")
#: Prompts per optimizer step, and rank of the adapter.
PROMPTS, RANK = 8, 16
#: Learning rate of SFT, usual for low-rank adapters (Hu et al. 2022, arXiv 2106.09685).
SFT_RATE = 2e-4
#: Rollouts per prompt and weight of the KL penalty are those of arXiv 2606.06614; its reward, split
#: and seeds are not known. The paper tuned all weights at a learning rate of 1e-6; a low-rank
#: adapter needs a higher one.
ROLLOUTS, KL, RATE = 5, 0.001, 2e-5
#: Maximum tokens of a rollout: few, as a tuned model is scored without thinking.
TOKENS = 64
#: The two answers whose likelihoods are the score of a tuned model.
YES, NO = "Answer: YES", "Answer: NO"


def sft(model: str, prompts: Sequence[str], answers: Sequence[str], steps: int, seed: int):
    """Tune a model by supervised fine-tuning (trl), with the loss on the tokens of the answer only.

    Parameters
    ----------
    model, seed : as in `adapter.load` and `adapter.train`.
    prompts, answers : n prompts and the n correct answers.
    steps : optimizer steps, each on ``PROMPTS`` prompts.

    Returns
    -------
    A model, as from ``models.load_model``.
    """
    completions = [[{"role": "assistant", "content": answer}] for answer in answers]
    rows = pd.DataFrame({"prompt": list(map(user_chat, prompts)), "completion": completions})
    # No maximum length, as truncation would remove the answer at the end.
    options = {
        "learning_rate": SFT_RATE, "max_length": None, "train_sampling_strategy": "group_by_length",
    }  # fmt: skip
    return _tune(model, "SFT", rows, options, steps, seed)


def grpo(
    model: str,
    prompts: Sequence[str],
    reward: Callable[[str, int], float],
    labels: Sequence[int],
    steps: int,
    seed: int,
):
    """Tune a model by group-relative policy optimization (trl).

    Parameters
    ----------
    model, prompts, seed : as in `sft`; the seed also determines the rollouts.
    reward : function (text of an answer, label) → number; higher is better.
    labels : (n,) labels of the prompts, which are passed to ``reward``.
    steps : optimizer steps, each on ``PROMPTS`` × ``ROLLOUTS`` answers.

    Returns
    -------
    A model, as from ``models.load_model``. A warning says if most prompts taught nothing, since all
    their rollouts earned the same: a weak model may have to learn the form of an answer by SFT.
    """
    informative: list[bool] = []

    def rewards(completions: list, label: list[int], **_) -> list[float]:
        texts = (answer[0]["content"] for answer in completions)
        earned = list(map(reward, texts, label))
        # trl compares the rollouts of one prompt, which follow each other.
        informative.extend(np.ptp(np.reshape(earned, (-1, ROLLOUTS)), axis=1) > 0)
        return earned

    options = {
        "learning_rate": RATE, "beta": KL, "num_generations": ROLLOUTS,
        "max_completion_length": TOKENS,
        # A whole step at once would take 15 GB for a model of 135 million parameters.
        "per_device_train_batch_size": ROLLOUTS, "gradient_accumulation_steps": PROMPTS,
    }  # fmt: skip
    rows = pd.DataFrame({"prompt": list(map(user_chat, prompts)), "label": labels})
    tuned = _tune(model, "GRPO", rows, options, steps, seed, reward_funcs=rewards)
    if (share := np.mean(informative)) < 0.5:
        count = f"{1 - share:.0%} of {len(informative)} prompts taught nothing"
        remedy = f"their {ROLLOUTS} answers earned the same; tune it by SFT or take a larger model"
        warnings.warn(f"{model} tuned by GRPO: {count}, as {remedy}", stacklevel=2)
    return tuned


def _tune(
    model: str, method: str, rows: pd.DataFrame, options: dict, steps: int, seed: int, **more
):
    """Train an adapter in a temporary folder and return the tuned model."""
    # Imported here, as it imports torch, which other classifiers do not need.
    from personagap.models import adapter

    lora = {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": "all-linear"}
    with tempfile.TemporaryDirectory() as folder:
        tuned, lm = Path(folder, "tuned"), adapter.load(model)
        options = adapter.batch_arguments(lm, PROMPTS) | options | {"max_steps": steps}
        adapter.train(lm, tuned, method, rows, options, lora, seed, **more)
        # Loaded before the folder is deleted; a model of one fold is used once and never kept.
        return models.load_model(str(tuned))


def relevance_reward(labels: Sequence[int]) -> Callable[[str, int], float]:
    """Return a reward for `grpo`: 1 divided by twice the share of the label for a correct answer, 0
    for a wrong one, and -1 for an unreadable one.

    With these weights, always answering NO earns no more than always answering YES.

    Examples
    --------
    >>> reward = relevance_reward([1, 0, 0, 0])
    >>> reward("Answer: YES", 1), round(reward("Answer: NO", 0), 2)
    (2.0, 0.67)
    >>> reward("Answer: NO", 1), reward("Perhaps.", 0)
    (0.0, -1.0)
    """
    # With one relevant pair in six and equal rewards, the model would learn to always answer NO.
    share = (np.bincount(labels, minlength=2) / len(labels)).tolist()

    def reward(text: str, label: int) -> float:
        answer = attributes.read_answer(text)
        return -1.0 if answer is None else (answer[0] == label) / (2 * share[label])

    return reward


def learner(
    texts: Sequence[tuple[str, str]],
    labels: np.ndarray,
    model: str,
    seed: int,
    steps: int,
    method: str,
) -> Callable:
    """Return a learner for ``classifiers.cross_validate``: the probability of yes, (1, n_test),
    after tuning on the training rows by ``method``, one of ``METHODS``.
    """
    prompts = [attributes.question(prompt, [text]) for prompt, text in texts]

    def scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        train_prompts, gold = [prompts[row] for row in train], labels[train]
        if method == "sft":
            tuned = sft(model, train_prompts, np.where(gold, YES, NO).tolist(), steps, seed)
        else:
            tuned = grpo(model, train_prompts, relevance_reward(gold), gold.tolist(), steps, seed)
        # Scored by the likelihoods of both answers, as a probability has no threshold built in
        # (R4).
        chats = [user_chat(prompts[row]) for row in test]
        yes, no = np.array(tuned.choose(chats, [[YES, NO]] * len(test))).T
        return 1 / (1 + np.exp(no - yes))[None]

    return scores
