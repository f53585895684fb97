"""A simulated in-context learner that ranks stored responses by a known rule."""

import functools
import re
import zlib
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from personagap import prompts
from personagap.errors import UserError, require_one_of
from personagap.models import Chats, Choices, Generation, Keep, Sampling
from personagap.models.rendering import Messages

#: How it uses its examples: "benefit" prefers responses with rewards similar to the liked examples
#: and unlike the disliked ones; "generic" prefers what all reward models like once it sees any
#: example; "none" ignores them.
PLANTED = ("benefit", "generic", "none")
#: Where an example response begins in the prompt, and what follows it.
BEGINS = re.compile(r"^(Liked|Disliked) response: ", re.M)
ENDS = re.compile(r"\n+(?:Disliked response: |User: |Reply to )")


class Selector:
    """A stand-in for a language model whose ``choose`` uses only the text of the prompt.

    The log-probability of a response is its number of bytes × (fit + noise − 9). The fit is the
    mean over reward models of its z-scored reward times the mean reward of the examples ("benefit")
    or 1 ("generic"). The noise, standard normal × 0.3, is derived from a hash of prompt and
    response.

    Parameters
    ----------
    planted : one of `PLANTED`.
    responses, rewards : (n, 8) texts, and their (n, 8, n_models) z-scored rewards.
    """

    revision = None
    continues = False

    def __init__(self, planted: str, responses: np.ndarray, rewards: np.ndarray):
        require_one_of(PLANTED, "planted is", planted)
        self.id, self.planted = f"simulated ({planted})", planted
        prompts.require_ours(self.id, "icl_winning", "icl_losing", "icl_both")
        vectors = rewards.reshape(responses.size, -1)
        self._rewards = dict(zip(responses.ravel(), vectors, strict=True))
        # Every prompt has the same few hundred choices.
        self._cached_look_up = functools.cache(self._look_up)

    def describe(self) -> dict:
        return {"model": self.id, "backend": "simulated"}

    def formatted(self, prompt_format: str) -> "Selector":
        # Without a chat template the format makes no difference.
        return self

    def render(self, messages: Messages) -> str:
        return messages[0]["content"]

    def generate(
        self, chats: Chats, sampling: Sampling, seeds: Sequence[int], keep: Keep = None
    ) -> list[Generation]:
        raise UserError("model simulated writes nothing: use evaluation='select'")

    def choose(self, chats: Chats, choices: Choices, keep: Keep = None) -> list[np.ndarray]:
        pairs = zip(map(self.render, chats), choices, strict=True)
        scores = [self._score(prompt, texts) for prompt, texts in pairs]
        if keep:
            for i, values in enumerate(scores):
                keep(i, values)
        return scores

    def _score(self, prompt: str, texts: Sequence[str]) -> np.ndarray:
        """Return the log-probability of each response in ``texts`` after a prompt."""
        known = [(label, text) for label, text in _examples(prompt) if text in self._rewards]
        # The rewards of a disliked response count negatively.
        examples = [self._rewards[text] * (1 if label == "Liked" else -1) for label, text in known]
        taste = {"benefit": np.mean(examples, axis=0) if examples else 0.0}
        taste |= {"generic": float(bool(examples)), "none": 0.0}
        # Bytes take the place of tokens: longer responses are less likely, as for a language model,
        # and scores are compared per byte.
        rewards, encoded, sizes = self._cached_look_up(tuple(texts))
        fit = (rewards * taste[self.planted]).mean(axis=1)
        # A hash makes noise reproducible: a random generator would depend on the order of requests,
        # and Python's built-in hash differs between processes.
        start = zlib.crc32(prompt.encode())
        hashes = np.array([zlib.crc32(text, start) for text in encoded])
        noise = 0.3 * ndtri((hashes + 0.5) / 2**32)
        return sizes * (fit + noise - 9)

    def _look_up(self, texts: tuple[str, ...]) -> tuple[np.ndarray, list[bytes], np.ndarray]:
        """Return the rewards of responses, their bytes, and their lengths in bytes."""
        encoded = [text.encode() for text in texts]
        rewards = np.array([self._rewards[text] for text in texts])
        return rewards, encoded, np.array(list(map(len, encoded)))


def _examples(prompt: str) -> list[tuple[str, str]]:
    """Return label and text of each example response in a prompt."""
    examples, position = [], 0
    while (label := BEGINS.search(prompt, position)) and (end := ENDS.search(prompt, label.end())):
        position = end.start()
        examples.append((label[1], prompt[label.end() : position]))
    return examples
