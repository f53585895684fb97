"""Simulated histories, an extraction model and people with stated errors, for stage 1.

Everything here was written or drawn for this project. In each conversation a user states two facts (``facts.csv``),
and the extractor infers an attribute from each. It is flawed with a log-odds that rises with "real" histories and with
length. People and the verifying model judge each attribute independently given whether it is flawed.
"""

import functools
import json

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm

from personagap import extraction
from personagap.demo.items import write_lines
from personagap.errors import UserError
from personagap.models import Generation
from personagap.paths import DEMO
from personagap.responses import digest

SEED = 20260605
FOLDER = DEMO / "recentering"
#: Log-odds that an attribute is flawed: constant, real history, doubling of its length, sd of users.
FLAWED = {"constant": -1.2, "real": 1.3, "doubling": 0.4, "user": 0.4}
#: How a flaw shows, and how often.
KINDS = {"overgeneralization": 0.56, "missing evidence": 0.21, "task-context confusion": 0.17, "not standalone": 0.06}
#: P(accepted, uncertain, rejected) by people; P(problem) by the verifying model, and P(it names the kind rightly).
LABELS = {"supported": (0.80, 0.12, 0.08), "hedged": (0.62, 0.28, 0.10), "flawed": (0.22, 0.30, 0.48)}
VERIFIES, NAMES = {"supported": 0.08, "hedged": 0.05, "flawed": 0.55}, 0.85
#: P(an output of the extractor is broken in that way).
BROKEN = {"invalid JSON": 0.04, "empty list": 0.04, "repeated attribute": 0.06, "wrong scale": 0.05}
#: P(confidence below 0.4), and P(an attribute comes again, in other words, from the next conversation).
UNSURE, AGAIN = 0.06, 0.15
USERS = {"simulated_logs": 30, "synthetic_a": 10, "synthetic_b": 10, "synthetic_c": 10}
RESTATED = "By their own account: "
OPENINGS = ["Hi!", "Hello again.", "Good morning.", "One more thing.", "Quick question.", "Thanks for last time."]
TASKS = ["Draft a note on {}.", "Find a title for a talk on {}.", "Sum up the basics of {}.", "Name a book on {}."]


@functools.cache
def _facts() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "facts.csv")


def kind(attribute: str) -> str:
    """What the simulator knows of an attribute: "supported", "hedged" or one of ``KINDS``."""
    is_it = _facts().eq(attribute.removeprefix(RESTATED)).any()
    return "hedged" if attribute.startswith(extraction.HEDGE) else is_it[is_it].index[0]


def _chance(table: dict, attribute: str):
    return table.get(kind(attribute), table["flawed"])


@functools.cache
def design() -> pd.DataFrame:
    """Conversations, and what the extractor says of each: ``dataset user real turns text output``."""
    rng, rows, used = np.random.default_rng(SEED), [], set()
    for number, dataset in enumerate(name for name, n in USERS.items() for _ in range(n)):
        real = dataset == "simulated_logs"
        n = rng.integers(4, 10) if real else rng.integers(2, 8)
        p = expit(_log_odds(real, 2 * n) + FLAWED["user"] * rng.normal())
        facts, again = _facts().sample(2 * n, random_state=rng).to_dict("records"), []
        for i in range(n):
            pair, text = facts[2 * i : 2 * i + 2], None
            while text is None or text in used:  # a text is the key to its output
                text = "\n".join(_turn(fact, real, rng) for fact in pair)
            used.add(text)
            found = [_attribute(fact, rng.random() < p, rng) for fact in pair]
            rows.append((dataset, f"user {number}", real, 2 * n, text, _output(found + again, rng)))
            restated = found[0] | {"attribute": RESTATED + found[0]["attribute"]}
            again = [restated] if rng.random() < AGAIN else []
    return pd.DataFrame(rows, columns=["dataset", "user", "real", "turns", "text", "output"])


def _log_odds(real: bool | np.ndarray, turns: int | np.ndarray) -> float | np.ndarray:
    return FLAWED["constant"] + FLAWED["real"] * real + FLAWED["doubling"] * np.log2(turns / 8)


def _turn(fact: dict, real: bool, rng: np.random.Generator) -> str:
    task = rng.choice(TASKS).format(fact["topic"]) if real else f"Keep in mind for {fact['topic']}:"
    return f"USER: {rng.choice(OPENINGS)} {task} {fact['said']}\nAI: Of course."


def _attribute(fact: dict, flawed: bool, rng: np.random.Generator) -> dict:
    name = rng.choice([*KINDS], p=[*KINDS.values()]) if flawed else "supported"
    confidence = rng.uniform(0.05, 0.35) if rng.random() < UNSURE else rng.uniform(0.4, 0.9) + 0.1 * (not flawed)
    return {"attribute": fact[name], "reason": f"They said: {fact['said']}", "confidence": round(confidence, 2)}


def _output(found: list[dict], rng: np.random.Generator) -> str:
    how = rng.choice([*BROKEN, "whole"], p=[*BROKEN.values(), 1 - sum(BROKEN.values())])
    percent = found[0] | {"confidence": 100 * found[0]["confidence"]}
    shown = {"empty list": [], "repeated attribute": found[:1] + found, "wrong scale": [percent, *found[1:]]}
    text = json.dumps(shown.get(how, found))
    return text[:-9] if how == "invalid JSON" else text


class Simulator:
    """In place of a language model: answers the prompts of ``extract``, ``verify`` and ``refine`` as stated above."""

    id = "simulated extractor"

    def __init__(self):
        self._outputs = design().set_index("text")["output"].to_dict()
        self.revision = digest(self._outputs, VERIFIES, NAMES)

    def describe(self) -> dict[str, object]:
        return {"model": self.id, "revision": self.revision, "simulated": True}

    def render(self, messages: list[dict[str, str]]) -> str:
        return messages[-1]["content"]

    def generate(self, chats: list, sampling: object, seeds: list[int]) -> list[Generation]:
        rngs = map(np.random.default_rng, seeds)
        texts = [self._answer(self.render(chat), rng) for chat, rng in zip(chats, rngs, strict=True)]
        return [Generation(text, "stop", 0, len(text.split()), 0.0) for text in texts]

    def _answer(self, prompt: str, rng: np.random.Generator) -> str:
        asked, about, attribute = prompt.partition("\nAttribute: ")
        if not about:
            text = asked.partition("Conversation:\n")[2].strip()
            if text not in self._outputs:
                raise UserError("the simulated extractor knows only the demo's conversations: choose another model")
            return self._outputs[text]
        attribute = attribute.partition("\n")[0]
        true = kind(attribute)
        if "\nProblem: " in prompt:  # to refine: the fact behind it, if there was any
            facts = _facts()
            fact = facts[facts.eq(attribute.removeprefix(RESTATED)).any(axis=1)].iloc[0]
            revised = {"attribute": fact["supported"], "reason": fact["said"], "confidence": 0.9}
            return json.dumps([] if true == "missing evidence" else [revised])
        problem = bool(rng.random() < _chance(VERIFIES, attribute))
        name = true if true in KINDS and rng.random() < NAMES else rng.choice([*KINDS])
        return json.dumps({"problem": problem, "failure": name if problem else "none"})


def judge(items: pd.DataFrame, seed: int = SEED) -> pd.DataFrame:
    """What simulated people say of attributes: the table's rows with one, thrice, with ``rater rater_kind label``."""
    items = items.dropna(subset="attribute")
    rng, names = np.random.default_rng([seed, 2]), np.array(["accepted", "uncertain", "rejected"])
    above = np.cumsum([_chance(LABELS, text) for text in items["attribute"]], axis=1)[:, :2]
    user, tables = pd.factorize(items["user"])[0], []
    for j in range(3):
        label = names[(rng.random((len(items), 1)) > above).sum(axis=1)]
        tables.append(items.assign(rater=[f"human_{1 + (i + j) % 6:02d}" for i in user], label=label))
    return pd.concat(tables, ignore_index=True).assign(rater_kind="human")


def planted() -> pd.DataFrame:
    """Population values of the committed design: ``quantity planted``; shares in percent, differences in points."""
    users = design().drop_duplicates("user")
    real, turns = users["real"].to_numpy(), users["turns"].to_numpy()
    quantiles = FLAWED["user"] * norm.ppf((np.arange(200) + 0.5) / 200)
    (good, *_), (bad, *_) = LABELS["supported"], LABELS["flawed"]

    def accepted(real: np.ndarray) -> np.ndarray:
        return good + (bad - good) * expit(_log_odds(real, turns)[:, None] + quantiles).mean(axis=1)

    mine = 100 * accepted(real)
    shares = [np.average(mine[side], weights=turns[side]) for side in (real, ~real)]
    everyone = np.ones(len(turns))
    equal = 100 * np.average(accepted(0 * everyone) - accepted(everyone), weights=turns)
    a = np.average(mine, weights=turns) / 100
    rows = {
        "accepted, real": shares[0],
        "accepted, synthetic": shares[1],
        "problematic, real − synthetic": shares[1] - shares[0],
        "the same at equal length": equal,
        "κ between people": (good - a) * (a - bad) / (a * (1 - a)),
        **{f"outputs with {name}": 100 * rate for name, rate in BROKEN.items()},
    }
    return pd.DataFrame(rows.items(), columns=["quantity", "planted"])


def recovered(
    acceptance: pd.DataFrame, contrasts: pd.DataFrame, agreement: pd.DataFrame, failures: pd.DataFrame
) -> pd.DataFrame:
    """Planted beside the estimates of the notebook: ``quantity planted estimated ci_low ci_high covered``."""
    limits = ["estimated", "ci_low", "ci_high"]
    tables = [table.rename(columns={"estimate": "estimated"}) for table in (acceptance, contrasts, failures)]
    people = tables[0].query("rater_kind == 'human' and label == 'accepted'").set_index("source")[limits] * 100
    broken = tables[2].query("step == 'extract'").set_index("problem")[limits] * 100
    kappa = agreement.rename(columns={"kappa": "estimated"})[limits].head(1)
    found = [people.loc[["real", "synthetic"]], tables[1][limits].iloc[[0, -1]], kappa, broken.loc[[*BROKEN]]]
    table = planted().join(pd.concat(found, ignore_index=True))
    return table.assign(covered=table["planted"].between(table["ci_low"], table["ci_high"]))


def write() -> None:
    """Write the committed files of stage 1 anew, in the annotation tool's layouts."""
    found, _ = extraction.extract(Simulator(), design())
    items = extraction.merge(found[found["confidence"] >= extraction.CONFIDENCE])
    labels = judge(items).replace({"label": {"accepted": "ok", "uncertain": "unsure", "rejected": "bad"}})
    records, annotations = [], []
    for index, (user, mine) in enumerate(design().groupby("user", sort=False)):
        turns = [[line.split(": ", 1) for line in text.split("\n")] for text in mine["text"]]
        roles = {"USER": "user", "AI": "assistant"}
        talks = [[{"role": roles[who], "content": said} for who, said in turn] for turn in turns]
        own = items.loc[items["user"] == user, ["attribute", "reason", "confidence"]].to_dict("records")
        record = {"user_id": user, "source": mine["dataset"].iloc[0], "item_index": index}
        records.append(record | {"merged_attributes": own, "conversations": talks})
        for rater, said in labels[labels["user"] == user].groupby("rater")["label"]:
            judged = [{"judgment": label, "note": ""} for label in said]
            annotations.append({"task": "4", "index": index, "attr_judgments": judged, "annotator": rater})
    write_lines(FOLDER / "task4_items.jsonl", records)
    write_lines(FOLDER / "annotations_task4.jsonl", annotations)
