"""Simulated responses and ratings of stage 3, around a known merit of each personalized response.

Everything here was written or drawn for this project. People rate merit and noise; model judges rate higher, and also
for mention, length and position (``RATERS``).
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from personagap.demo.conversations import FOLDER
from personagap.demo.items import write_lines
from personagap.demo.raters import SEED, design

EFFECTS = ["mention", "log2_length", "second"]
#: rater: mean; weight of merit, then of ``EFFECTS``: a mention, twice the length, standing second; sd of the noise.
RATERS = {
    **dict.fromkeys(["human_01", "human_02", "human_03"], (3.18, 1.0, (0.0, 0.0, 0.0), 0.9)),
    "judge_generous": (3.95, 0.8, (0.3, 0.4, 0.2), 0.7),
    "judge_terse": (3.45, 0.5, (-0.35, 0.0, 0.0), 0.9),
}
#: Merit: of an attribute on the topic of the prompt, and sd of responses and of attributes.
MERIT = {"same topic": 0.6, "response": 0.45, "attribute": 0.5}
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


def pairs() -> pd.DataFrame:
    """What is rated: pairs of responses × attributes that concern the prompt or the manner of the answer."""
    rng, tables = np.random.default_rng([SEED, 3]), []
    concerned = design().query("kind != 'other'")
    for index, (_, mine) in enumerate(concerned.groupby(["prompt_id", "user"])):
        generic, personalized = (list(rng.choice(ADVICE, rng.integers(4, most), replace=False)) for most in (7, 9))
        named = rng.random(len(mine)) < 0.4
        personalized += ["Because " + text[0].lower() + text[1:] for text in mine["attribute"][named]]
        words = [len(" ".join(text).split()) for text in (generic, personalized)]
        texts = {"generic": " ".join(generic), "personalized": " ".join(personalized)}
        table = mine.assign(**texts, index=index, generator=f"generator_{'ab'[index % 2]}", mention=named)
        tables.append(table.assign(log2_length=np.log2(words[1] / words[0])))
    return pd.concat(tables, ignore_index=True)


def ratings(pairs: pd.DataFrame, seed: int = SEED) -> pd.DataFrame:
    """Draw the ratings: the table once per rater, with ``rater second label``."""
    rng, n, index = np.random.default_rng([seed, 5]), pairs["index"].max() + 1, pairs["index"].to_numpy()
    topical = pairs["kind"] == "same topic"
    merit = MERIT["same topic"] * (topical - topical.mean()) + MERIT["response"] * rng.normal(size=n)[index]
    merit = merit + MERIT["attribute"] * rng.normal(size=len(pairs))
    tables = []
    for rater, (mean, weight, effects, noise) in RATERS.items():
        table = pairs.assign(rater=rater, second=rng.integers(0, 2, n)[index])
        value = mean + weight * merit + table[EFFECTS] @ effects + noise * rng.normal(size=len(pairs))
        tables.append(table.assign(label=value.round().clip(1, 5).astype(int)))
    return pd.concat(tables, ignore_index=True)


def planted(n: int = 60) -> pd.DataFrame:
    """Population values of the committed design: ``quantity rater planted``, means of ``n`` simulations."""
    known = pairs()
    return pd.DataFrame([_statistics(ratings(known, seed)) for seed in range(n)]).mean().rename("planted").reset_index()


def _statistics(drawn: pd.DataFrame) -> pd.Series:
    """The quantities of the response notebook, computed plainly."""
    label = {rater: rows["label"].to_numpy() for rater, rows in drawn.groupby("rater")}
    is_human = drawn["rater"].str.startswith("human")
    humans = drawn.loc[is_human, "rater"].unique()
    people = np.mean([label[rater] for rater in humans], axis=0)
    kappas = [cohen_kappa_score(label[a], label[b], weights="linear") for a, b in combinations(humans, 2)]
    values = {
        ("no better", "human"): (drawn["label"][is_human] <= 3).mean(),
        ("mean rating", "human"): people.mean(),
        ("weighted κ", "human"): np.mean(kappas),
    }
    sides = {"human": (drawn[is_human], drawn["label"][is_human])}
    for rater, rows in drawn[~is_human].groupby("rater"):
        excess = label[rater] - people
        values |= {("inflation", rater): excess.mean(), ("Spearman", rater): spearmanr(label[rater], people).statistic}
        sides[rater] = rows, excess
    for rater, (rows, y) in sides.items():
        slopes = np.linalg.lstsq(rows[EFFECTS].assign(one=1).astype(float), y)[0]
        values |= {(effect, rater): slope for effect, slope in zip(EFFECTS, slopes, strict=False)}
    return pd.Series(values).rename_axis(["quantity", "rater"])


def recovered(
    summary: pd.DataFrame,
    kappa: pd.DataFrame,
    inflation: pd.DataFrame,
    correlations: pd.DataFrame,
    effects: pd.DataFrame,
) -> pd.DataFrame:
    """Planted beside the estimates of the notebook: ``quantity rater planted estimated ci_low ci_high covered``."""
    tables = [
        summary.rename(columns={"measure": "quantity"}),
        kappa.head(1).assign(quantity="weighted κ", rater="human").rename(columns={"kappa": "estimate"}),
        inflation.assign(quantity="inflation"),
        correlations.assign(quantity="Spearman").rename(columns={"spearman": "estimate"}),
        effects.rename(columns={"covariate": "quantity"}),
    ]
    found = pd.concat(tables)[["quantity", "rater", "estimate", "ci_low", "ci_high"]]
    table = planted().merge(found, on=["quantity", "rater"]).rename(columns={"estimate": "estimated"})
    return table.assign(covered=table["planted"].between(table["ci_low"], table["ci_high"]))


def write() -> None:
    """Write the committed files of stage 3 anew: people's in the annotation tool's layouts, judges' in the long one."""
    drawn = ratings(pairs()).rename(columns={"index": "item_index", "generator": "model_tag", "prompt": "prompt_text"})
    drawn = drawn.assign(user_id=drawn["user"], prompt_id=drawn["user"] + "_" + drawn["prompt_id"].astype("str"))
    drawn = drawn.rename(columns={"generic": "response_no_context", "personalized": "response_personalized"})
    drawn["personalized_first"] = drawn["second"] == 0
    same = ["item_index", "model_tag", "user_id", "prompt_id", "prompt_text"]
    items, annotations, humans = [], [], drawn["rater"].str.startswith("human")
    for _, mine in drawn[drawn["rater"] == "human_01"].groupby("item_index"):
        record = mine[[*same, "response_no_context", "response_personalized"]].to_dict("records")[0]
        items.append(record | {"attributes": [{"attribute": text, "is_relevant": True} for text in mine["attribute"]]})
    for (index, rater, first), mine in drawn[humans].groupby(["item_index", "rater", "personalized_first"]):
        shown = 6 - mine["label"] if first else mine["label"]
        record = {"task": "6", "index": index, "annotator": rater, "personalized_first": first}
        annotations.append(record | {"ratings": dict(zip(mine["attribute"], shown.tolist(), strict=True))})
    write_lines(FOLDER / "task6_items.jsonl", items)
    write_lines(FOLDER / "annotations_task6.jsonl", annotations)
    place = drawn.groupby(["rater", "item_index"]).cumcount().astype("str")
    models = drawn.assign(stage="response", item=drawn["model_tag"] + "/" + place, rater_kind="model")[~humans]
    models["prompt"] = models["prompt_id"].str.split("_").str[1]
    columns = ["stage", "user", "prompt", "item", "rater", "rater_kind", "label", "personalized_first"]
    models[columns].to_csv(FOLDER / "judgments_response.csv", index=False, lineterminator="\n")
