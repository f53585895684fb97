"""Train the judge "refusal" and evaluate it: ``python data/judge/train.py XSTEST.csv``.

XSTEST.csv has the columns ``model id type prompt answer label``: the answers of several models to
XSTest's prompts (github.com/paul-rottger/exaggerated-safety, CC BY 4.0), labelled complied, refused
or partly refused. Writes to this folder ``weights.csv``, learned from all answers and from
``examples.jsonl``, and ``card.csv``, where every answer is judged by weights learned without its
model and without its prompt.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from personagap.judges.card import read_labelled, summary
from personagap.judges.loading import load_judge
from personagap.judges.reading import features
from personagap.judges.refusals import action_of

HERE = Path(__file__).parent
FOLDS = 10
#: Inverse strength of the penalty, and the Euclidean norm of an answer's n-grams relative to the
#: standardized cues. Both are on a plateau of the few values tried (0.003–0.03 and 6–40).
PENALTY, GRAM_NORM = 0.005, 20.0
#: Number of answers in which an n-gram must occur to be used.
MIN_COUNT = 3
#: Sample weights of our own examples and of partly refused answers, which count as refused; all
#: others have weight 1.
OWN_WEIGHT, PARTLY_WEIGHT = 2.0, 0.3
#: Added to the standard deviations of cues, so that rare ones get no huge weight.
SCALE_OFFSET = 0.05


def fit(
    answers: list[dict[str, float]], labels: np.ndarray, sample_weight: np.ndarray
) -> dict[str, float]:
    """Return the intercept and the weights by feature, on the original scale of the features.

    ``answers`` are the features of each answer.
    """
    counts = Counter(name for values in answers for name in values if name.startswith("gram:"))
    vocabulary = sorted(name for name, n in counts.items() if n >= MIN_COUNT)
    column_of = {name: column for column, name in enumerate(vocabulary)}
    cues = sorted(name for name in answers[0] if not name.startswith(("gram:", "told:")))
    table = np.array([[values[name] for name in cues] for values in answers])
    centre, scale = table.mean(axis=0), table.std(axis=0) + SCALE_OFFSET
    grams = np.zeros((len(answers), len(vocabulary)))
    for row, values in enumerate(answers):
        columns = [column_of[name] for name in values if name in column_of]
        grams[row, columns] = GRAM_NORM / max(len(columns), 1) ** 0.5
    model = LogisticRegression(
        C=PENALTY, class_weight="balanced", solver="liblinear", max_iter=1000, random_state=0
    )
    x = np.hstack([(table - centre) / scale, grams])
    model.fit(x, labels != "complied", sample_weight=sample_weight)
    # Undo the standardization of the cues.
    cue_weights = model.coef_[0, : len(cues)] / scale
    intercept = float(model.intercept_[0] - cue_weights @ centre)
    gram_weights = model.coef_[0, len(cues) :] * GRAM_NORM
    weights = dict(zip(cues, cue_weights, strict=True)) | dict(
        zip(vocabulary, gram_weights, strict=True)
    )
    return {"intercept": intercept} | weights


def main(file: str) -> None:
    """Write the weights and the card."""
    answers = read_labelled(file).reset_index(drop=True)
    lines = (HERE / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    own = pd.DataFrame(map(json.loads, lines))
    given = [features(*pair) for pair in zip(answers["answer"], answers["prompt"], strict=True)]
    added = [features(*pair) for pair in zip(own["answer"], own["question"], strict=True)]

    def learn(rows: np.ndarray) -> dict[str, float]:
        """Return the weights learned from some of the answers and from all own examples."""
        labels = np.r_[answers["label"].to_numpy()[rows], own["label"].to_numpy()]
        weight = np.r_[np.ones(len(rows)), np.full(len(own), OWN_WEIGHT)]
        weight = weight * np.where(labels == "partly refused", PARTLY_WEIGHT, 1)
        return fit([given[row] for row in rows] + added, labels, weight)

    actions = np.zeros(len(answers), dtype=int)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=0)
    # Each answer is judged by weights that were learned without its prompt and without its model.
    for _, fold in folds.split(answers, groups=answers["prompt"]):
        for model in answers["model"].unique():
            left_out = answers["prompt"].isin(answers["prompt"][fold]) | (answers["model"] == model)
            weights = learn(np.flatnonzero(~left_out))
            for row in fold[answers["model"].to_numpy()[fold] == model]:
                actions[row] = action_of(given[row], weights)
    cards = [summary("refusal", actions, answers)]
    phrases = load_judge("phrases")
    cards.append(summary("phrases", phrases.actions(list(answers["answer"])), answers))
    pd.concat(cards).to_csv(HERE / "card.csv", index=False, float_format="%.4f")
    weights = pd.Series(learn(np.arange(len(answers)))).round(4)
    weights[weights != 0].rename_axis("feature").rename("weight").to_csv(HERE / "weights.csv")


if __name__ == "__main__":
    main(sys.argv[1])
