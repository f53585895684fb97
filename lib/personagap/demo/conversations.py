"""The simulated extraction model of stage 1, and the simulated people who judge what it extracts.

``data/demo/build/make_extraction.py`` wrote the conversations and the output of the extractor for
each. In a conversation a user states two facts (``facts.csv``), and the extractor infers an
attribute from each. Given whether an attribute is flawed, people and the verifying model judge it
independently of each other.
"""

import functools
import json
from collections.abc import Mapping

import numpy as np
import pandas as pd

from personagap import prompts
from personagap.demo.recentering import FOLDER, planted
from personagap.errors import UserError
from personagap.hashing import digest
from personagap.models import Generation
from personagap.recentering import remedies
from personagap.recentering.extraction import FAILURES
from personagap.results import with_reference

SEED = 20260605
#: P(accepted), P(uncertain), P(rejected) by people, given the kind of attribute.
LABELS = {
    "supported": (0.80, 0.12, 0.08),
    "hedged": (0.62, 0.28, 0.10),
    "flawed": (0.22, 0.30, 0.48),
}
#: P(problem) by the verifying model, given the kind of attribute; and P(it names the right flaw).
VERIFIES, NAMES = {"supported": 0.08, "hedged": 0.05, "flawed": 0.55}, 0.85
#: Prefix of an attribute that is extracted a second time, from the next conversation.
RESTATED = "By their own account: "


@functools.cache
def facts() -> pd.DataFrame:
    """Read the users' statements (``said``), the supported attribute of each, and flawed ones."""
    return pd.read_csv(FOLDER / "facts.csv")


@functools.cache
def extractor_outputs() -> dict[str, str]:
    """Read the output of the extractor for each conversation of the demo, by its text."""
    return pd.read_csv(FOLDER / "extractor_outputs.csv").set_index("text")["output"].to_dict()


def kind(attribute: str) -> str:
    """Return the true kind of an attribute: "supported", "hedged" or one of ``FAILURES``."""
    matches = facts().eq(attribute.removeprefix(RESTATED)).any()
    return "hedged" if attribute.startswith(remedies.HEDGE) else matches[matches].index[0]


def _probability(table: dict, attribute: str):
    """Look up the probabilities of an attribute's kind."""
    return table.get(kind(attribute), table["flawed"])


class Simulator:
    """A stand-in for a language model that answers the prompts ``extract``, ``verify``, ``refine``.

    ``outputs`` maps the texts of conversations to what it extracts from them, by default
    `extractor_outputs`.
    """

    id = "simulated extractor"

    def __init__(self, outputs: Mapping[str, str] | None = None):
        prompts.require_ours(self.id, "extract", "verify", "refine")
        self._outputs = extractor_outputs() if outputs is None else dict(outputs)
        # The revision identifies stored answers, so it changes with everything that determines
        # them.
        self.revision = digest(self._outputs, VERIFIES, NAMES)

    def describe(self) -> dict[str, object]:
        return {"model": self.id, "revision": self.revision, "simulated": True}

    def render(self, messages: list[dict[str, str]]) -> str:
        return messages[-1]["content"]

    def generate(
        self, chats: list, sampling: object, seeds: list[int], keep=None
    ) -> list[Generation]:
        rngs = map(np.random.default_rng, seeds)
        prompts = map(self.render, chats)
        texts = [self._answer(prompt, rng) for prompt, rng in zip(prompts, rngs, strict=True)]
        return [Generation(text, "stop", 0, len(text.split()), 0.0) for text in texts]

    def _answer(self, prompt: str, rng: np.random.Generator) -> str:
        """Answer a prompt to extract, or to verify or refine an attribute."""
        before, separator, attribute = prompt.partition("\nAttribute: ")
        if not separator:
            text = before.partition("Conversation:\n")[2].strip()
            if text not in self._outputs:
                problem = "the simulated extractor knows only the demo's conversations"
                raise UserError(f"{problem}: choose another model")
            return self._outputs[text]
        attribute = attribute.partition("\n")[0]
        true_kind = kind(attribute)
        # A refined attribute is the one supported by the fact; without evidence nothing remains.
        if "\nProblem: " in prompt:
            source = facts().eq(attribute.removeprefix(RESTATED)).any(axis=1)
            fact = facts()[source].iloc[0]
            revised = {"attribute": fact["supported"], "reason": fact["said"], "confidence": 0.9}
            return json.dumps([] if true_kind == "missing evidence" else [revised])
        has_problem = bool(rng.random() < _probability(VERIFIES, attribute))
        named_rightly = true_kind in FAILURES and rng.random() < NAMES
        name = true_kind if named_rightly else rng.choice(FAILURES)
        return json.dumps({"problem": has_problem, "failure": name if has_problem else "none"})


def judge(items: pd.DataFrame, seed: int = SEED) -> pd.DataFrame:
    """Simulate the judgments of three people per item: ``items`` with ``rater rater_kind label``.

    Items without an attribute are left out.
    """
    items = items.dropna(subset="attribute")
    # A separate random stream: the errors of people must not coincide with those of the extractor,
    # which uses the same seed.
    rng, names = np.random.default_rng([seed, 2]), np.array(["accepted", "uncertain", "rejected"])
    probabilities = [_probability(LABELS, text) for text in items["attribute"]]
    thresholds = np.cumsum(probabilities, axis=1)[:, :2]
    users, tables = pd.factorize(items["user"])[0], []
    for j in range(3):
        label = names[(rng.random((len(items), 1)) > thresholds).sum(axis=1)]
        # Three of six people judge each user, so that pairs of raters differ from user to user.
        rater = [f"human_{1 + (i + j) % 6:02d}" for i in users]
        tables.append(items.assign(rater=rater, label=label))
    return pd.concat(tables, ignore_index=True).assign(rater_kind="human")


def truth(
    acceptance: pd.DataFrame,
    contrasts: pd.DataFrame,
    agreement: pd.DataFrame,
    failures: pd.DataFrame,
) -> pd.DataFrame:
    """Compare planted values with estimates of extraction, by ``results.with_reference``."""
    people = acceptance.query("rater_kind == 'human' and label == 'accepted'")
    broken = failures.query("step == 'extract'")
    estimates = [
        people.assign(quantity="accepted, " + people["source"]),
        contrasts.assign(quantity="problematic, " + contrasts["contrast"]),
        agreement.assign(quantity="κ, " + agreement["pair"]),
        broken.assign(quantity="outputs with " + broken["problem"]),
    ]
    return with_reference(pd.concat(estimates), planted("extraction"), ["quantity"])
