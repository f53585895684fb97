"""Simulated PersonalLLM: templated prompts, eight styles of response, ten reward models that read the text.

Everything was written for this project. A reward model counts something in the text, per 100 words, and adds
a stated liking for length, as real ones have (P29); so each reward can be recomputed from the response alone.
Users are drawn from a known Dirichlet distribution, and every further bundle drawn with another seed is a
sample from the same population, which gives the truth that estimates are held against.
"""

import math
import re

import numpy as np
import pandas as pd

from personagap.paths import DEMO
from personagap.users import dirichlet, heterogeneity, vote_shares, winners

FOLDER = DEMO / "personalllm"
SEED, ALPHA = 20240930, 0.05
#: Hand-written: topics, prompts, which hold the words of the paper's entropy analysis, and what responses are made
#: of; {} is the topic.
TEXTS = pd.read_csv(FOLDER / "texts.csv").groupby("kind", sort=False)["text"].agg(list).to_dict()
#: Response model: plain sentences on average, then the parts it favours.
STYLES = {
    "demo/brief": (1.5, ["structure"]),
    "demo/careful": (3, ["caution", "questions"]),
    "demo/cheerful": (3, ["enthusiasm", "warmth"]),
    "demo/formal": (4, ["formality", "evidence"]),
    "demo/in-place-of-gpt-4o": (6, ["structure", "examples", "evidence", "warmth"]),
    "demo/lively": (3, ["enthusiasm", "questions", "examples"]),
    "demo/scholarly": (5, ["evidence", "formality", "caution", "examples"]),
    "demo/warm": (4, ["warmth", "examples"]),
}
#: Reward model: what it counts per 100 words, and its liking for each doubling of the length.
REWARDS = {
    "brevity": (r"$^", -3.0),
    "caution": (r"\b(?:perhaps|might|could|may|possibly)\b", 5.0),
    "enthusiasm": (r"!", 3.0),
    "evidence": (r"\d+(?!\.)\b", 10.0),
    "examples": (r"\b(?:for example|such as)\b", 8.0),
    "formality": (r"\b(?:furthermore|therefore|consequently|moreover|considerable)\b", 9.0),
    "questions": (r"\?", 3.0),
    "structure": (r"(?m)^(?:-|\d\.) ", 7.0),
    "vocabulary": (r"\b\w{7,}\b", 8.0),
    "warmth": (r"\b(?:glad|kind|lovely|hope|joy|comfort|friend|enjoy)\b", 7.0),
}
#: The simulated survey: questions, groups, and stand-ins for language models with the range of f.
QUESTIONS = 60
GROUPS = [("Overall", "Overall"), ("AGE", "18-29"), ("AGE", "65+")]
MODELS = {"demo/near": (0.0, 0.1), "demo/farther": (0.1, 0.3)}


def reward(text: str, name: str) -> float:
    """What a reward model of the demo thinks of a response.

    Examples
    --------
    >>> reward("What a lovely idea!", "enthusiasm")  # 100 × 1/4 + 3 × log2(4)
    31.0
    """
    pattern, length = REWARDS[name]
    words = len(text.split())
    return 100 * len(re.findall(pattern, text, re.IGNORECASE)) / words + length * math.log2(words)


def score(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` (``text``) with a column per reward model, as ``users.score_responses`` adds them."""
    texts = table["text"].str.strip().replace("", "-")  # they count per word
    return table.assign(**{name: [reward(text, name) for text in texts] for name in REWARDS})


def table(seed: int = SEED) -> pd.DataFrame:
    """300 prompts in the Hub's columns, and their ``split``: every third topic is for testing."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, topic in enumerate(TEXTS["topic"]):
        for prompt in TEXTS["prompt"]:
            row = {"prompt": prompt.format(topic), "subset": "demo", "prompt_id": len(rows)}
            for position, (model, style) in enumerate(STYLES.items(), start=1):
                text = _response(topic, *style, rng)
                row |= {f"response_{position}": text, f"response_{position}_model": model}
                # Like the Hub's, these columns are not sorted by name: nobody may rely on their order (P2).
                row |= {f"response_{position}_{name}": reward(text, name) for name in reversed(REWARDS)}
            rows.append(row | {"split": "test" if number % 3 == 2 else "train"})
    return pd.DataFrame(rows)


def _response(topic: str, plain: float, favoured: list[str], rng: np.random.Generator) -> str:
    parts = list(rng.permutation(TEXTS["plain"])[: 1 + rng.poisson(plain)])
    for kind in ("caution", "enthusiasm", "evidence", "examples", "formality", "questions", "warmth"):
        parts += list(rng.permutation(TEXTS[kind])[: rng.binomial(3, 0.55 if kind in favoured else 0.06)])
    end = rng.choice(TEXTS["structure"]) if rng.random() < (0.9 if "structure" in favoured else 0.1) else ""
    return " ".join(rng.permutation(parts)).replace("{}", topic) + end


def history(prompts: pd.DataFrame) -> pd.DataFrame:
    """60 users in the Hub's columns, each with the best and worst response to five ``prompts`` by raw rewards."""
    rng, weights = np.random.default_rng(SEED + 1), dirichlet(60, ALPHA, SEED + 1, list(REWARDS))
    values = _rewards(prompts)
    best, worst = winners(weights, values), winners(weights, -values)
    rows = []
    for user, weight in enumerate(weights.to_numpy()):
        row = {"person_id": user, "person_weight": weight.tolist()}
        for j, at in enumerate(rng.choice(len(prompts), 5, replace=False), start=1):
            chosen, other = rng.permutation(["a", "b"])
            row |= {f"prompt_{j}": prompts["prompt"].iloc[at], f"chosen_{j}": chosen}
            for side, liked in ((chosen, best), (other, worst)):
                row[f"response_{j}_{side}"] = prompts[f"response_{liked[user, at] + 1}"].iloc[at]
        rows.append(row)
    return pd.DataFrame(rows)


def _rewards(prompts: pd.DataFrame) -> np.ndarray:
    """(prompts, 8, reward models sorted by name) of a wide table."""
    columns = [f"response_{number}_{name}" for number in range(1, 9) for name in sorted(REWARDS)]
    return prompts[columns].to_numpy().reshape(len(prompts), 8, len(REWARDS))


def opinions() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A survey in OpinionQA's columns, and the reward models' answers to it.

    Each stand-in for a language model answers like everybody but for a share f of the people, who give the
    last option instead of the first. So its distance to everybody is f on every question, where f is uniform on the
    range of ``MODELS``; dividing by the number of options less one halves it where a midpoint was inserted (P5).
    """
    rng, rows, answers = np.random.default_rng(SEED), [], []
    for number in range(QUESTIONS):
        ordinal = [1, 2, 1.5] if number % 3 == 0 else [1, 2, 3, 4]
        people = [0.6 * np.eye(len(ordinal))[0] + 0.4 * rng.dirichlet(np.ones(len(ordinal))) for _ in GROUPS]
        everybody, step = people[0], np.eye(len(ordinal))[np.argmax(ordinal)] - np.eye(len(ordinal))[0]
        given = {model: everybody + rng.uniform(*limits) * step for model, limits in MODELS.items()}
        for (attribute, group), human in zip(GROUPS, people, strict=True):
            for model, answer in given.items():
                texts = [str(np.round(values, 6)) for values in (np.array(ordinal, dtype=float), human, answer)]
                rows.append((f"DEMO{number:02d}", attribute, group, model, *texts))
        chosen = rng.choice(ordinal, len(REWARDS), p=everybody)
        answers += [(f"W01/DEMO{number:02d}", name, answer) for name, answer in zip(REWARDS, chosen, strict=True)]
    columns = ["qkey", "attribute", "group", "model_name", "ordinal", "D_H", "D_M"]
    return pd.DataFrame(rows, columns=columns), pd.DataFrame(answers, columns=["question", "reward_model", "answer"])


def planted_representativeness() -> pd.DataFrame:
    """Representativeness of the stand-ins towards everybody: ``model distance planted``."""
    f = pd.Series(MODELS).map(np.mean)
    paper = 1 - f * (2 / 3 + 1 / 3 / 2)  # every third question has an inserted midpoint
    both = pd.concat({"max−min": 1 - f, "options−1": paper}, names=["distance", "model"])
    return both.rename("planted").reset_index()


def write() -> None:
    """Write the committed files anew."""
    both = table()
    train, test = (both[both["split"] == split].drop(columns="split") for split in ("train", "test"))
    parts = {"/data/train": train, "/data/test": test, "_InteractionDatabase/data/train": history(train)}
    for name, part in parts.items():
        path = FOLDER / f"PersonalLLM{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        part.to_parquet(path, index=False, compression="zstd")
    (FOLDER / "opinionqa").mkdir(exist_ok=True)
    for part, name in zip(opinions(), ("demo_W01_default_combined", "reward_model_answers"), strict=True):
        part.to_csv(FOLDER / "opinionqa" / f"{name}.csv", index=False, lineterminator="\n")


def truth(diversity: pd.DataFrame, wins: pd.DataFrame, opinions: pd.DataFrame, alpha: float, seed: int) -> pd.DataFrame:
    """Planted or true values beside estimates: ``quantity planted true estimated ci_low ci_high covered``.

    The true votes are those of the same users on 1,500 more prompts, drawn like the committed ones, z-scored.

    ``diversity`` is ``users.heterogeneity``; ``wins``, of users of ``alpha``, ``users.wins``; ``opinions``
    ``users.representativeness``; ``seed`` is that of the users.
    """
    values = np.concatenate([_rewards(table(draw)) for draw in range(5)])
    values = (values - values.mean((0, 1))) / values.std((0, 1))
    n = int(diversity["n_users"].iloc[0])
    populations = [{"alpha": each, "n_users": n, "seed": seed} for each in diversity["alpha"].unique()]
    true = pd.concat(heterogeneity(values, each, n_bootstrap=20) for each in populations).rename(
        columns={"share": "true"}
    )
    rows = diversity.merge(true[["alpha", "measure", "bin", "true"]]).rename(columns={"share": "estimated"})
    rows["quantity"] = rows["measure"] + " " + rows["bin"] + " at α = " + rows["alpha"].map("{:g}".format)
    shares = vote_shares(winners(dirichlet(n, alpha, seed, list(REWARDS)), values)).mean(axis=0)
    won = wins.rename(columns={"share": "estimated"}).assign(quantity="wins of " + wins["response_model"])
    won["true"] = won["response_model"].map(dict(zip(STYLES, shares, strict=True)))
    near = opinions[opinions["attribute"] == "Overall"].merge(planted_representativeness())
    near = near.rename(columns={"representativeness": "estimated"}).assign(true=near["planted"])
    near["quantity"] = "representativeness of " + near["model"] + " (" + near["distance"] + ")"
    both = pd.concat([rows, won, near], ignore_index=True)
    both["covered"] = both["true"].between(both["ci_low"] - 1e-9, both["ci_high"] + 1e-9)  # ends that are 0 or 1
    return both[["quantity", "planted", "true", "estimated", "ci_low", "ci_high", "covered"]]
