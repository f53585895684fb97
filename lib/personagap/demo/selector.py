"""A simulated in-context learner: it ranks stored responses by a rule, so its gain is known."""

import functools
import re
import zlib
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from personagap import prompts
from personagap.errors import UserError, one_of
from personagap.models import Chats, Choices, Generation, Keep, Sampling
from personagap.models.rendering import Messages

#: What it makes of its examples: likes responses whose rewards are like those of the liked ones and
#: unlike those of the disliked; once it sees any, likes what all reward models like; makes nothing
#: of them.
PLANTED = ("benefit", "generic", "none")
#: Where a response that is shown begins, and what comes after it.
BEGINS = re.compile(r"^(Liked|Disliked) response: ", re.M)
ENDS = re.compile(r"\n+(?:Disliked response: |User: |Reply to )")


class Selector:
    """Stands where a model stands: ``choose`` reads its prompt's text, and nothing else.

    The log-probability of a response is its bytes × (fit + noise − 9): fit is the mean over reward
    models of its z-scored rewards, times the mean of the examples' ("benefit") or 1 ("generic");
    noise, standard normal × 0.3, is a hash of prompt and response. ``planted`` is one of `PLANTED`;
    ``responses`` (n, 8) and ``rewards`` (n, 8, n_models), z-scored, are all that it knows.
    """

    revision = None
    continues = False

    def __init__(self, planted: str, responses: np.ndarray, rewards: np.ndarray):
        one_of(PLANTED, "planted is", planted)
        self.id, self.planted = f"simulated ({planted})", planted
        prompts.require_ours(self.id, "icl_winning", "icl_losing", "icl_both")
        vectors = rewards.reshape(responses.size, -1)
        self._rewards = dict(zip(responses.ravel(), vectors, strict=True))
        # The same few hundred choices stand after every prompt.
        self._known = functools.cache(self._look_up)

    def describe(self) -> dict:
        return {"model": self.id, "backend": "simulated"}

    def formatted(self, prompt_format: str) -> "Selector":
        # It has no chat template: the prompt is the same.
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
            for i, each in enumerate(scores):
                keep(i, each)
        return scores

    def _score(self, prompt: str, texts: Sequence[str]) -> np.ndarray:
        known = [(label, text) for label, text in _shown(prompt) if text in self._rewards]
        # A disliked response speaks against what it has.
        shown = [self._rewards[text] * (1 if label == "Liked" else -1) for label, text in known]
        taste = {"benefit": np.mean(shown, axis=0) if shown else 0.0}
        taste |= {"generic": float(bool(shown)), "none": 0.0}
        # Bytes in place of tokens, which it has none of: a longer response is less likely, as of a
        # language model, and is compared per byte.
        rewards, written, sizes = self._known(tuple(texts))
        fit = (rewards * taste[self.planted]).mean(axis=1)
        # A hash, since a generator would answer by the order of its requests, and Python's own hash
        # differs from process to process.
        begun = zlib.crc32(prompt.encode())
        hashes = np.array([zlib.crc32(text, begun) for text in written])
        noise = 0.3 * ndtri((hashes + 0.5) / 2**32)
        return sizes * (fit + noise - 9)

    def _look_up(self, texts: tuple[str, ...]) -> tuple[np.ndarray, list[bytes], np.ndarray]:
        """The rewards of responses, their bytes, and how many these are."""
        written = [text.encode() for text in texts]
        rewards = np.array([self._rewards[text] for text in texts])
        return rewards, written, np.array(list(map(len, written)))


def _shown(prompt: str) -> list[tuple[str, str]]:
    """Label and text of each response in a prompt."""
    found, place = [], 0
    while (label := BEGINS.search(prompt, place)) and (end := ENDS.search(prompt, label.end())):
        place = end.start()
        found.append((label[1], prompt[label.end() : place]))
    return found
