"""Draw simulated histories, what is extracted from them and what people say of that, for stage 1.

Everything here was written or drawn for this project. In each conversation a user states two facts
(``facts.csv``), and the extractor infers an attribute from each. It is flawed with a log-odds that
rises with "real" histories and with length. ``personagap.demo.conversations`` holds the people and
the verifying model.
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

#: Log-odds that an attribute is flawed: constant, real history, twice its length, sd of users.
FLAWED = {"constant": -1.2, "real": 1.3, "doubling": 0.4, "user": 0.4}
#: How often a flaw shows in which way.
SHARES = dict(zip(FAILURES, (0.56, 0.21, 0.17, 0.06), strict=True))
#: P(an output of the extractor is broken in that way).
BROKEN = {"invalid JSON": 0.04, "empty list": 0.04, "repeated attribute": 0.06, "wrong scale": 0.05}
#: P(confidence below 0.4), and P(an attribute comes again, restated, from the next conversation).
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
    """Conversations, and what is extracted from each: ``dataset user real turns text output``."""
    rng, rows, used = np.random.default_rng(SEED), [], set()
    for number, dataset in enumerate(name for name, n in USERS.items() for _ in range(n)):
        real = dataset == "simulated_logs"
        n = rng.integers(4, 10) if real else rng.integers(2, 8)
        p = expit(_log_odds(real, 2 * n) + FLAWED["user"] * rng.normal())
        stated, again = facts().sample(2 * n, random_state=rng).to_dict("records"), []
        for i in range(n):
            pair, text = stated[2 * i : 2 * i + 2], None
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
    name = rng.choice(FAILURES, p=[*SHARES.values()]) if flawed else "supported"
    unsure = rng.random() < UNSURE
    confidence = rng.uniform(0.05, 0.35) if unsure else rng.uniform(0.4, 0.9) + 0.1 * (not flawed)
    reason = f"They said: {fact['said']}"
    return {"attribute": fact[name], "reason": reason, "confidence": round(confidence, 2)}


def _output(found: list[dict], rng: np.random.Generator) -> str:
    how = rng.choice([*BROKEN, "in order"], p=[*BROKEN.values(), 1 - sum(BROKEN.values())])
    percent = found[0] | {"confidence": 100 * found[0]["confidence"]}
    shown = {
        "empty list": [],
        "repeated attribute": found[:1] + found,
        "wrong scale": [percent, *found[1:]],
    }
    text = json.dumps(shown.get(how, found))
    return text[:-9] if how == "invalid JSON" else text


def planted_extraction(made: pd.DataFrame) -> pd.DataFrame:
    """Population values of the committed design: ``quantity unit planted``."""
    users = made.drop_duplicates("user")
    real, turns = users["real"].to_numpy(), users["turns"].to_numpy()
    quantiles = FLAWED["user"] * norm.ppf((np.arange(200) + 0.5) / 200)
    (good, *_), (bad, *_) = LABELS["supported"], LABELS["flawed"]

    def accepted(real: np.ndarray) -> np.ndarray:
        return good + (bad - good) * expit(_log_odds(real, turns)[:, None] + quantiles).mean(axis=1)

    mine = 100 * accepted(real)
    shares = [np.average(mine[source], weights=turns[source]) for source in (real, ~real)]
    everyone = np.ones(len(turns))
    equal = 100 * np.average(accepted(0 * everyone) - accepted(everyone), weights=turns)
    a = np.average(mine, weights=turns) / 100
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
    """Write the files of stage 1: items and annotations are in the annotation tool's layouts."""
    made, folder = conversations(), folder / "recentering"
    write_table(folder / "extractor_outputs.csv", made[["text", "output"]])
    write_planted(folder / "planted_extraction.csv", planted_extraction(made))
    found, _ = extraction.extract(Simulator(made.set_index("text")["output"]), made)
    items = extraction.merge(found[found["confidence"] >= extraction.CONFIDENCE])
    words = {"accepted": "ok", "uncertain": "unsure", "rejected": "bad"}
    labels = judge(items).replace({"label": words})
    records, annotations = [], []
    for index, (user, mine) in enumerate(made.groupby("user", sort=False)):
        turns = [[line.split(": ", 1) for line in text.split("\n")] for text in mine["text"]]
        roles = {"USER": "user", "AI": "assistant"}
        talks = [[{"role": roles[who], "content": said} for who, said in turn] for turn in turns]
        own = items.loc[items["user"] == user, ["attribute", "reason", "confidence"]]
        record = {"user_id": user, "source": mine["dataset"].iloc[0], "item_index": index}
        own = own.to_dict("records")
        records.append(record | {"merged_attributes": own, "conversations": talks})
        for rater, said in labels[labels["user"] == user].groupby("rater")["label"]:
            judged = [{"judgment": label, "note": ""} for label in said]
            annotation = {"task": "4", "index": index, "attr_judgments": judged}
            annotations.append(annotation | {"annotator": rater})
    write_lines(folder / "task4_items.jsonl", records)
    write_lines(folder / "annotations_task4.jsonl", annotations)


if __name__ == "__main__":
    write(target())
