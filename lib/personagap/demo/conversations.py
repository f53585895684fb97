"""The simulated extraction model and the simulated people of stage 1, who judge what it extracts.

``data/demo/build/make_extraction.py`` wrote the conversations and what the extractor says of each.
In each a user states two facts (``facts.csv``), and the extractor infers an attribute from each.
People and the verifying model judge an attribute independently of each other given whether it is
flawed.
"""

import functools
import json
from collections.abc import Mapping

import numpy as np
import pandas as pd

from personagap import prompts
from personagap.demo.recentering import FOLDER, planted
from personagap.errors import UserError
from personagap.models import Generation
from personagap.recentering import remedies
from personagap.recentering.extraction import FAILURES
from personagap.responses import digest
from personagap.results import beside

SEED = 20260605
#: P(accepted, uncertain, rejected) by people.
LABELS = {
    "supported": (0.80, 0.12, 0.08),
    "hedged": (0.62, 0.28, 0.10),
    "flawed": (0.22, 0.30, 0.48),
}
#: P(problem) by the verifying model, and P(it names the flaw rightly).
VERIFIES, NAMES = {"supported": 0.08, "hedged": 0.05, "flawed": 0.55}, 0.85
#: How an attribute begins that is extracted again, from the next conversation.
RESTATED = "By their own account: "


@functools.cache
def facts() -> pd.DataFrame:
    """What users say (``said``), the attribute that it supports, and a flawed one of each kind."""
    return pd.read_csv(FOLDER / "facts.csv")


@functools.cache
def extractor_outputs() -> dict[str, str]:
    """What the extractor says of each conversation of the demo, by the text of the conversation."""
    return pd.read_csv(FOLDER / "extractor_outputs.csv").set_index("text")["output"].to_dict()


def kind(attribute: str) -> str:
    """What the simulator knows of an attribute: "supported", "hedged" or one of ``FAILURES``."""
    is_it = facts().eq(attribute.removeprefix(RESTATED)).any()
    return "hedged" if attribute.startswith(remedies.HEDGE) else is_it[is_it].index[0]


def _chance(table: dict, attribute: str):
    return table.get(kind(attribute), table["flawed"])


class Simulator:
    """In place of a language model: answers the prompts of ``extract``, ``verify`` and ``refine``.

    ``outputs`` says what it extracts from the text of each conversation it knows, by default
    `extractor_outputs`.
    """

    id = "simulated extractor"

    def __init__(self, outputs: Mapping[str, str] | None = None):
        prompts.require_ours(self.id, "extract", "verify", "refine")
        self._outputs = extractor_outputs() if outputs is None else dict(outputs)
        # Stored answers hold for as long as the simulator would give them again.
        self.revision = digest(self._outputs, VERIFIES, NAMES)

    def describe(self) -> dict[str, object]:
        return {"model": self.id, "revision": self.revision, "simulated": True}

    def render(self, messages: list[dict[str, str]]) -> str:
        return messages[-1]["content"]

    def generate(
        self, chats: list, sampling: object, seeds: list[int], keep=None
    ) -> list[Generation]:
        rngs = map(np.random.default_rng, seeds)
        asked = map(self.render, chats)
        texts = [self._answer(prompt, rng) for prompt, rng in zip(asked, rngs, strict=True)]
        return [Generation(text, "stop", 0, len(text.split()), 0.0) for text in texts]

    def _answer(self, prompt: str, rng: np.random.Generator) -> str:
        asked, about, attribute = prompt.partition("\nAttribute: ")
        if not about:
            text = asked.partition("Conversation:\n")[2].strip()
            if text not in self._outputs:
                known = "the simulated extractor knows only the demo's conversations"
                raise UserError(f"{known}: choose another model")
            return self._outputs[text]
        attribute = attribute.partition("\n")[0]
        true = kind(attribute)
        # To refine is to say the fact behind an attribute; where there was none, nothing is left.
        if "\nProblem: " in prompt:
            behind = facts().eq(attribute.removeprefix(RESTATED)).any(axis=1)
            fact = facts()[behind].iloc[0]
            revised = {"attribute": fact["supported"], "reason": fact["said"], "confidence": 0.9}
            return json.dumps([] if true == "missing evidence" else [revised])
        problem = bool(rng.random() < _chance(VERIFIES, attribute))
        name = true if true in FAILURES and rng.random() < NAMES else rng.choice(FAILURES)
        return json.dumps({"problem": problem, "failure": name if problem else "none"})


def judge(items: pd.DataFrame, seed: int = SEED) -> pd.DataFrame:
    """What simulated people say: rows with an attribute, thrice, and ``rater rater_kind label``."""
    items = items.dropna(subset="attribute")
    # A stream of its own, so that people do not err where the extractor, of the same seed, does.
    rng, names = np.random.default_rng([seed, 2]), np.array(["accepted", "uncertain", "rejected"])
    above = np.cumsum([_chance(LABELS, text) for text in items["attribute"]], axis=1)[:, :2]
    user, tables = pd.factorize(items["user"])[0], []
    for j in range(3):
        label = names[(rng.random((len(items), 1)) > above).sum(axis=1)]
        # Three of six people judge each user, so that pairs of raters differ from user to user.
        rater = [f"human_{1 + (i + j) % 6:02d}" for i in user]
        tables.append(items.assign(rater=rater, label=label))
    return pd.concat(tables, ignore_index=True).assign(rater_kind="human")


def truth(
    acceptance: pd.DataFrame,
    contrasts: pd.DataFrame,
    agreement: pd.DataFrame,
    failures: pd.DataFrame,
) -> pd.DataFrame:
    """Planted beside estimated values of the extraction tables, see ``results.beside``."""
    people = acceptance.query("rater_kind == 'human' and label == 'accepted'")
    broken = failures.query("step == 'extract'")
    named = [
        people.assign(quantity="accepted, " + people["source"]),
        contrasts.assign(quantity="problematic, " + contrasts["contrast"]),
        agreement.assign(quantity="κ, " + agreement["pair"]),
        broken.assign(quantity="outputs with " + broken["problem"]),
    ]
    return beside(pd.concat(named), planted("extraction"), ["quantity"])
