"""Draw simulated histories, extracted attributes and people's judgments of them, for stage 1.

Everything here was written or drawn for this project. In each conversation a user states two facts
(``facts.csv``), and the extractor infers an attribute from each. The log-odds that an attribute is
flawed are higher for "real" histories and rise with length. ``personagap.demo.conversations`` has
the people and the verifying model.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm

from personagap.demo.conversations import LABELS, RESTATED, SEED, Simulator, facts, judge
from personagap.recentering import extraction
from personagap.recentering.extraction import FAILURES
from writing import target, write_lines, write_planted, write_table

#: Log-odds that an attribute is flawed: constant, effects of a real history and of doubling its
#: length, standard deviation between users.
FLAWED = {"constant": -1.2, "real": 1.3, "doubling": 0.4, "user": 0.4}
#: P(kind of flaw), given that an attribute is flawed.
SHARES = dict(zip(FAILURES, (0.56, 0.21, 0.17, 0.06), strict=True))
#: P(an output of the extractor has this format error).
BROKEN = {"invalid JSON": 0.04, "empty list": 0.04, "repeated attribute": 0.06, "wrong scale": 0.05}
#: P(confidence below 0.4), and P(an attribute is extracted again, restated, from the next
#: conversation).
UNSURE, AGAIN = 0.06, 0.15
USERS = {"simulated_logs": 30, "synthetic_a": 10, "synthetic_b": 10, "synthetic_c": 10}
OPENINGS = [
    *("Hi!", "Hello again.", "Good morning.", "One more thing.", "Quick question."),
    "Thanks for last time.",
]
TASKS = [
    *("Draft a note on {}.", "Find a title for a talk on {}.", "Sum up the basics of {}."),
    "Name a book on {}.",
]


def conversations() -> pd.DataFrame:
    """Draw conversations and the output for each: ``dataset user real turns text output``."""
    rng, rows, used = np.random.default_rng(SEED), [], set()
    for number, dataset in enumerate(name for name, n in USERS.items() for _ in range(n)):
        real = dataset == "simulated_logs"
        n = rng.integers(4, 10) if real else rng.integers(2, 8)
        p = expit(_log_odds(real, 2 * n) + FLAWED["user"] * rng.normal())
        statements, again = facts().sample(2 * n, random_state=rng).to_dict("records"), []
        for i in range(n):
            pair, text = statements[2 * i : 2 * i + 2], None
            # Texts must be unique, since outputs are looked up by text.
            while text is None or text in used:
                text = "\n".join(_turn(fact, real, rng) for fact in pair)
            used.add(text)
            new = [_attribute(fact, rng.random() < p, rng) for fact in pair]
            rows.append((dataset, f"user {number}", real, 2 * n, text, _output(new + again, rng)))
            restated = new[0] | {"attribute": RESTATED + new[0]["attribute"]}
            again = [restated] if rng.random() < AGAIN else []
    return pd.DataFrame(rows, columns=["dataset", "user", "real", "turns", "text", "output"])


def _log_odds(real: bool | np.ndarray, turns: int | np.ndarray) -> float | np.ndarray:
    return FLAWED["constant"] + FLAWED["real"] * real + FLAWED["doubling"] * np.log2(turns / 8)


def _turn(fact: dict, real: bool, rng: np.random.Generator) -> str:
    task = rng.choice(TASKS).format(fact["topic"]) if real else f"Keep in mind for {fact['topic']}:"
    return f"USER: {rng.choice(OPENINGS)} {task} {fact['said']}\nAI: Of course."


def _attribute(fact: dict, flawed: bool, rng: np.random.Generator) -> dict:
    name = rng.choice(FAILURES, p=[*SHARES.values()]) if flawed else "supported"
    unsure = rng.random() < UNSURE
    confidence = rng.uniform(0.05, 0.35) if unsure else rng.uniform(0.4, 0.9) + 0.1 * (not flawed)
    reason = f"They said: {fact['said']}"
    return {"attribute": fact[name], "reason": reason, "confidence": round(confidence, 2)}


def _output(attributes: list[dict], rng: np.random.Generator) -> str:
    """Write attributes as JSON, sometimes with one of the format errors in `BROKEN`."""
    error = rng.choice([*BROKEN, "in order"], p=[*BROKEN.values(), 1 - sum(BROKEN.values())])
    first, *rest = attributes
    percent = first | {"confidence": 100 * first["confidence"]}
    broken = {
        "empty list": [],
        "repeated attribute": [first, *attributes],
        "wrong scale": [percent, *rest],
    }
    text = json.dumps(broken.get(error, attributes))
    return text[:-9] if error == "invalid JSON" else text


def planted_extraction(made: pd.DataFrame) -> pd.DataFrame:
    """Compute population values of the committed design: ``quantity unit planted``."""
    users = made.drop_duplicates("user")
    real, turns = users["real"].to_numpy(), users["turns"].to_numpy()
    quantiles = FLAWED["user"] * norm.ppf((np.arange(200) + 0.5) / 200)
    (good, *_), (bad, *_) = LABELS["supported"], LABELS["flawed"]

    def accepted(real: np.ndarray) -> np.ndarray:
        return good + (bad - good) * expit(_log_odds(real, turns)[:, None] + quantiles).mean(axis=1)

    percent = 100 * accepted(real)
    shares = [np.average(percent[source], weights=turns[source]) for source in (real, ~real)]
    ones = np.ones(len(turns))
    equal = 100 * np.average(accepted(0 * ones) - accepted(ones), weights=turns)
    a = np.average(percent, weights=turns) / 100
    rows = {
        ("accepted, real", "percent"): shares[0],
        ("accepted, synthetic", "percent"): shares[1],
        ("problematic, real − synthetic", "points"): shares[1] - shares[0],
        ("problematic, real − synthetic, at equal log2_turns", "points"): equal,
        ("κ, human–human", ""): (good - a) * (a - bad) / (a * (1 - a)),
        **{(f"outputs with {name}", "percent"): 100 * rate for name, rate in BROKEN.items()},
    }
    return pd.Series(rows, name="planted").rename_axis(["quantity", "unit"]).reset_index()


def write(folder: Path) -> None:
    """Write the files of stage 1; items and annotations in the layouts of the annotation tool."""
    table, folder = conversations(), folder / "recentering"
    write_table(folder / "extractor_outputs.csv", table[["text", "output"]])
    write_planted(folder / "planted_extraction.csv", planted_extraction(table))
    extracted, _ = extraction.extract(Simulator(table.set_index("text")["output"]), table)
    items = extraction.merge(extracted[extracted["confidence"] >= extraction.CONFIDENCE])
    words = {"accepted": "ok", "uncertain": "unsure", "rejected": "bad"}
    labels = judge(items).replace({"label": words})
    records, annotations = [], []
    roles = {"USER": "user", "AI": "assistant"}
    for index, (user, history) in enumerate(table.groupby("user", sort=False)):
        chats = [[line.split(": ", 1) for line in text.split("\n")] for text in history["text"]]
        chats = [[{"role": roles[who], "content": text} for who, text in chat] for chat in chats]
        attributes = items.loc[items["user"] == user, ["attribute", "reason", "confidence"]]
        record = {"user_id": user, "source": history["dataset"].iloc[0], "item_index": index}
        attributes = attributes.to_dict("records")
        records.append(record | {"merged_attributes": attributes, "conversations": chats})
        for rater, judgments in labels[labels["user"] == user].groupby("rater")["label"]:
            judged = [{"judgment": label, "note": ""} for label in judgments]
            annotation = {"task": "4", "index": index, "attr_judgments": judged}
            annotations.append(annotation | {"annotator": rater})
    write_lines(folder / "task4_items.jsonl", records)
    write_lines(folder / "annotations_task4.jsonl", annotations)


if __name__ == "__main__":
    write(target())
