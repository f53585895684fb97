"""Draw simulated responses and ratings of stage 3, given a known quality of each response.

Everything here was written or drawn for this project. Ratings of people are quality and noise;
model judges rate higher, and also reward mentions, length and position (``RATERS``).
"""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from make_relevance import SEED, judged_pairs
from writing import target, write_lines, write_planted, write_table

EFFECTS = ["mention", "log2_length", "second"]
#: Rater → mean; weight of quality; weights of ``EFFECTS`` (a mention, twice the length, the second
#: position); standard deviation of the noise.
RATERS = {
    **dict.fromkeys(["human_01", "human_02", "human_03"], (3.18, 1.0, (0.0, 0.0, 0.0), 0.9)),
    "judge_generous": (3.95, 0.8, (0.3, 0.4, 0.2), 0.7),
    "judge_terse": (3.45, 0.5, (-0.35, 0.0, 0.0), 0.9),
}
#: Quality: effect of an attribute on the topic of the prompt, and standard deviations of responses
#: and of attributes.
QUALITY = {"same topic": 0.6, "response": 0.45, "attribute": 0.5}
ADVICE = [
    "Start with one small step and see how it goes.",
    "Write down what you already have, then what is missing.",
    "A plan for two weeks is easier to keep than one for a year.",
    "Compare two or three options before you decide.",
    "Ask somebody who has done it recently.",
    "Leave some slack, since things take longer than expected.",
    "Check the basics first, because they settle most of it.",
    "Keep what works and change one thing at a time.",
    "Set a date on which you look back at it.",
    "It helps to know what you would give up for it.",
]


def rated_pairs() -> pd.DataFrame:
    """Draw the rated pairs of responses × attributes about the prompt's topic or the manner."""
    rng, tables = np.random.default_rng([SEED, 3]), []
    concerned = judged_pairs().query("kind != 'other'")
    for index, (_, rows) in enumerate(concerned.groupby(["prompt_id", "user"])):
        generic, personalized = _advice(rng, 7), _advice(rng, 9)
        mentioned = rng.random(len(rows)) < 0.4
        reasons = rows["attribute"][mentioned]
        personalized += ["Because " + text[0].lower() + text[1:] for text in reasons]
        words = [len(" ".join(text).split()) for text in (generic, personalized)]
        texts = {"generic": " ".join(generic), "personalized": " ".join(personalized)}
        generator = f"generator_{'ab'[index % 2]}"
        table = rows.assign(**texts, index=index, generator=generator, mention=mentioned)
        tables.append(table.assign(log2_length=np.log2(words[1] / words[0])))
    return pd.concat(tables, ignore_index=True)


def _advice(rng: np.random.Generator, high: int) -> list[str]:
    """Draw 4 to ``high`` − 1 sentences of advice."""
    return list(rng.choice(ADVICE, rng.integers(4, high), replace=False))


def ratings(pairs: pd.DataFrame, seed: int = SEED) -> pd.DataFrame:
    """Draw the ratings: the table once per rater, with ``rater second label``."""
    rng, index = np.random.default_rng([seed, 5]), pairs["index"].to_numpy()
    n = index.max() + 1
    on_topic = pairs["kind"] == "same topic"
    quality = QUALITY["same topic"] * (on_topic - on_topic.mean())
    quality = quality + QUALITY["response"] * rng.normal(size=n)[index]
    quality = quality + QUALITY["attribute"] * rng.normal(size=len(pairs))
    tables = []
    for rater, (mean, weight, effects, noise) in RATERS.items():
        table = pairs.assign(rater=rater, second=rng.integers(0, 2, n)[index])
        error = noise * rng.normal(size=len(pairs))
        value = mean + weight * quality + table[EFFECTS] @ effects + error
        tables.append(table.assign(label=value.round().clip(1, 5).astype(int)))
    return pd.concat(tables, ignore_index=True)


def planted_response(n: int = 60) -> pd.DataFrame:
    """Estimate population values of the design from ``n`` simulations: ``metric rater planted``."""
    pairs = rated_pairs()
    drawn = pd.DataFrame([_quantities(ratings(pairs, seed)) for seed in range(n)])
    return drawn.mean().rename("planted").reset_index()


def _quantities(drawn: pd.DataFrame) -> pd.Series:
    """Compute the quantities of the response notebook directly, not by the library's estimators."""
    label = {rater: rows["label"].to_numpy() for rater, rows in drawn.groupby("rater")}
    is_human = drawn["rater"].str.startswith("human")
    humans = drawn.loc[is_human, "rater"].unique()
    people = np.mean([label[rater] for rater in humans], axis=0)
    pairs = [(label[a], label[b]) for a, b in combinations(humans, 2)]
    kappas = [cohen_kappa_score(*pair, weights="linear") for pair in pairs]
    values = {
        ("no better", "human"): (drawn["label"][is_human] <= 3).mean(),
        ("mean rating", "human"): people.mean(),
        ("kappa", "human–human"): np.mean(kappas),
    }
    explained = {"human": (drawn[is_human], drawn["label"][is_human])}
    for rater, rows in drawn[~is_human].groupby("rater"):
        excess = label[rater] - people
        rank = spearmanr(label[rater], people).statistic
        values |= {("inflation", rater): excess.mean(), ("spearman", rater): rank}
        explained[rater] = rows, excess
    for rater, (rows, y) in explained.items():
        slopes = np.linalg.lstsq(rows[EFFECTS].assign(one=1).astype(float), y)[0]
        values |= {(effect, rater): slope for effect, slope in zip(EFFECTS, slopes, strict=False)}
    return pd.Series(values).rename_axis(["metric", "rater"])


def write(folder: Path) -> None:
    """Write the files of stage 3: people's in the annotation tool's layouts, judges' as CSV."""
    folder = folder / "recentering"
    renamed = {
        "index": "item_index", "generator": "model_tag", "prompt": "prompt_text",
        "generic": "response_no_context", "personalized": "response_personalized",
    }  # fmt: skip
    drawn = ratings(rated_pairs()).rename(columns=renamed)
    drawn["user_id"] = drawn["user"]
    drawn["prompt_id"] = drawn["user"] + "_" + drawn["prompt_id"].astype("str")
    drawn["personalized_first"] = drawn["second"] == 0
    humans = drawn["rater"].str.startswith("human")
    write_lines(folder / "task6_items.jsonl", _items(drawn[drawn["rater"] == "human_01"]))
    write_lines(folder / "annotations_task6.jsonl", _annotations(drawn[humans]))
    position = drawn.groupby(["rater", "item_index"]).cumcount().astype("str")
    drawn["item"] = drawn["model_tag"] + "/" + position
    models = drawn[~humans].assign(stage="response", rater_kind="model")
    models["prompt"] = models["prompt_id"].str.split("_").str[1]
    columns = ["stage", "user", "prompt", "item", "rater", "rater_kind", "label"]
    write_table(folder / "judgments_response.csv", models[[*columns, "personalized_first"]])
    write_planted(folder / "planted_response.csv", planted_response())


def _items(drawn: pd.DataFrame) -> list[dict]:
    """Return the items in the layout of the annotation tool."""
    fields = ["item_index", "model_tag", "user_id", "prompt_id", "prompt_text"]
    fields += ["response_no_context", "response_personalized"]
    items = []
    for _, rows in drawn.groupby("item_index"):
        record = rows[fields].to_dict("records")[0]
        attributes = [{"attribute": text, "is_relevant": True} for text in rows["attribute"]]
        items.append(record | {"attributes": attributes})
    return items


def _annotations(drawn: pd.DataFrame) -> list[dict]:
    """Return the annotations in the layout of the tool.

    Its ratings from 1 to 5 mean "the first is better" to "the second is better" (R11).
    """
    annotations = []
    for (index, rater, first), rows in drawn.groupby(["item_index", "rater", "personalized_first"]):
        ratings = 6 - rows["label"] if first else rows["label"]
        record = {"task": "6", "index": index, "annotator": rater, "personalized_first": first}
        rated = dict(zip(rows["attribute"], ratings.tolist(), strict=True))
        annotations.append(record | {"ratings": rated})
    return annotations


if __name__ == "__main__":
    write(target())
