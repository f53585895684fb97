"""Draw a simulated PersonalLLM: templated prompts, eight styles of response, users and a survey.

Everything was written for this project. Users are drawn from a known Dirichlet distribution.
Bundles drawn with other seeds are samples from the same population, and give the true values that
estimates are compared with. ``personagap.demo.personalllm`` has the reward models, which score the
texts.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from personagap.demo.personalllm import FOLDER, REWARDS, occurrences, reward
from personagap.personalllm.users import dirichlet, winners
from writing import target, write_planted, write_table

SEED, ALPHA = 20240930, 0.05
#: Hand-written: topics; prompts, which contain the words of the paper's entropy analysis; and
#: fragments of responses. {} stands for the topic.
TEXTS = pd.read_csv(FOLDER / "texts.csv").groupby("kind", sort=False)["text"].agg(list).to_dict()
#: Response model → mean number of plain sentences, and the kinds of fragments it favours.
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
#: Kinds of fragments of a response beside plain sentences; a list ("structure") comes last.
PARTS = ("caution", "enthusiasm", "evidence", "examples", "formality", "questions", "warmth")
#: The simulated survey: number of questions, groups, and simulated language models with the range
#: of f (`opinions`).
QUESTIONS = 60
GROUPS = [("Overall", "Overall"), ("AGE", "18-29"), ("AGE", "65+")]
MODELS = {"demo/near": (0.0, 0.1), "demo/farther": (0.1, 0.3)}


def responses(seed: int = SEED) -> pd.DataFrame:
    """Draw 300 prompts with a response in each style: ``topic prompt texts``, topics by number."""
    rng, rows = np.random.default_rng(seed), []
    for number, topic in enumerate(TEXTS["topic"]):
        for prompt in TEXTS["prompt"]:
            texts = [_response(topic, *style, rng) for style in STYLES.values()]
            rows.append((number, prompt.format(topic), texts))
    return pd.DataFrame(rows, columns=["topic", "prompt", "texts"])


def scored_prompts() -> pd.DataFrame:
    """Return the prompts in the Hub's columns, with ``split``; every third topic is a test."""
    rows = []
    for number, topic, prompt, texts in responses().itertuples():
        row = {"prompt": prompt, "subset": "demo", "prompt_id": number}
        for position, (model, text) in enumerate(zip(STYLES, texts, strict=True), start=1):
            row |= {f"response_{position}": text, f"response_{position}_model": model}
            # Unsorted like the Hub's, as the order of reward models must not matter (P2).
            row |= {f"response_{position}_{name}": reward(text, name) for name in reversed(REWARDS)}
        rows.append(row | {"split": "test" if topic % 3 == 2 else "train"})
    return pd.DataFrame(rows)


def _response(topic: str, plain: float, favoured: list[str], rng: np.random.Generator) -> str:
    parts = list(rng.permutation(TEXTS["plain"])[: 1 + rng.poisson(plain)])
    for kind in PARTS:
        shuffled = rng.permutation(TEXTS[kind])
        parts += list(shuffled[: rng.binomial(3, 0.55 if kind in favoured else 0.06)])
    listed = rng.random() < (0.9 if "structure" in favoured else 0.1)
    end = rng.choice(TEXTS["structure"]) if listed else ""
    return " ".join(rng.permutation(parts)).replace("{}", topic) + end


def population() -> pd.DataFrame:
    """Count what the reward models read in five more bundles: ``response_model words``, counts."""
    rows = []
    for texts in pd.concat(map(responses, range(5)))["texts"]:
        for model, text in zip(STYLES, texts, strict=True):
            counts = {name: occurrences(text, name) for name in REWARDS}
            rows.append({"response_model": model, "words": len(text.split())} | counts)
    counted = dict.fromkeys(["words", *REWARDS], "uint8")
    return pd.DataFrame(rows).astype({"response_model": "category"} | counted)


def history(prompts: pd.DataFrame) -> pd.DataFrame:
    """Draw 60 users in the Hub's columns, with their best and worst responses to five prompts."""
    rng, weights = np.random.default_rng(SEED + 1), dirichlet(60, ALPHA, SEED + 1, list(REWARDS))
    columns = [f"response_{number}_{name}" for number in range(1, 9) for name in sorted(REWARDS)]
    values = prompts[columns].to_numpy().reshape(len(prompts), 8, len(REWARDS))
    best, worst = winners(weights, values), winners(weights, -values)
    rows = []
    for user, weight in enumerate(weights.to_numpy()):
        row = {"person_id": user, "person_weight": weight.tolist()}
        for j, position in enumerate(rng.choice(len(prompts), 5, replace=False), start=1):
            chosen, other = rng.permutation(["a", "b"])
            row |= {f"prompt_{j}": prompts["prompt"].iloc[position], f"chosen_{j}": chosen}
            for letter, picks in ((chosen, best), (other, worst)):
                text = prompts[f"response_{picks[user, position] + 1}"].iloc[position]
                row[f"response_{j}_{letter}"] = text
        rows.append(row)
    return pd.DataFrame(rows)


def opinions() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw a survey in OpinionQA's columns, and the answers of the reward models.

    A simulated language model answers like the whole sample, except that a share f moves from the
    first to the last option. So its distance to the sample is f on every question, where f is
    uniform on the range in ``MODELS``. Dividing by the number of options minus one halves the
    distance where a midpoint was inserted (P5).
    """
    rng, rows, answers = np.random.default_rng(SEED), [], []
    for number in range(QUESTIONS):
        ordinal = [1, 2, 1.5] if number % 3 == 0 else [1, 2, 3, 4]
        first = np.eye(len(ordinal))[0]
        people = [0.6 * first + 0.4 * rng.dirichlet(np.ones(len(ordinal))) for _ in GROUPS]
        everybody, step = people[0], np.eye(len(ordinal))[np.argmax(ordinal)] - first
        answers_by_model = {
            model: everybody + rng.uniform(*limits) * step for model, limits in MODELS.items()
        }
        for (attribute, group), human in zip(GROUPS, people, strict=True):
            for model, answer in answers_by_model.items():
                parts = (np.array(ordinal, dtype=float), human, answer)
                texts = [str(np.round(values, 6)) for values in parts]
                rows.append((f"DEMO{number:02d}", attribute, group, model, *texts))
        chosen = rng.choice(ordinal, len(REWARDS), p=everybody)
        question = f"W01/DEMO{number:02d}"
        answers += [(question, name, answer) for name, answer in zip(REWARDS, chosen, strict=True)]
    columns = ["qkey", "attribute", "group", "model_name", "ordinal", "D_H", "D_M"]
    survey = pd.DataFrame(rows, columns=columns)
    return survey, pd.DataFrame(answers, columns=["question", "reward_model", "answer"])


def planted_representativeness() -> pd.DataFrame:
    """Compute the representativeness of the simulated models: ``model distance planted``."""
    f = pd.Series(MODELS).map(np.mean)
    # Every third question has an inserted midpoint.
    paper = 1 - f * (2 / 3 + 1 / 3 / 2)
    both = pd.concat({"max−min": 1 - f, "options−1": paper}, names=["distance", "model"])
    return both.rename("planted").reset_index()


def write(folder: Path) -> None:
    """Write the prompts, responses, users, survey and planted values."""
    folder, prompts = folder / "personalllm", scored_prompts()
    splits = {name: rows.drop(columns="split") for name, rows in prompts.groupby("split")}
    for name, split in splits.items():
        _write_parquet(folder / f"PersonalLLM/data/{name}-00000-of-00001.parquet", split)
    file = "PersonalLLM_InteractionDatabase/data/train-00000-of-00001.parquet"
    _write_parquet(folder / file, history(splits["train"]))
    _write_parquet(folder / "population.parquet", population())
    survey, answers = opinions()
    write_table(folder / "opinionqa" / "demo_W01_default_combined.csv", survey)
    write_table(folder / "opinionqa" / "reward_model_answers.csv", answers)
    write_planted(folder / "planted_representativeness.csv", planted_representativeness())


def _write_parquet(file: Path, table: pd.DataFrame) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(file, index=False, compression="zstd")


if __name__ == "__main__":
    write(target())
