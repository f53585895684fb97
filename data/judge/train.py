"""Learn the weights of the judge "refusal" and measure it:
``python data/judge/train.py XSTEST.csv``.

XSTEST.csv has the columns ``model id type prompt answer label``: the answers of several models to
XSTest's prompts (github.com/paul-rottger/exaggerated-safety, CC BY 4.0), labelled complied, refused
or partly refused. What is written beside this file: ``weights.csv``, learned from all of them and
from ``examples.jsonl``, and ``card.csv``, where every answer is judged by weights that saw neither
its model nor its prompt.
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
#: Inverse strength of the penalty, and the length of an answer's n-grams beside standardised cues:
#: of the few values tried (0.003–0.03, 6–40) they are on a plateau.
PENALTY, GRAMS = 0.005, 20.0
#: An n-gram is known if so many answers have it.
FEWEST = 3
#: Weight of an own example, and of a partly refused answer (which counts as refused), beside any
#: other answer.
OWN, PARTLY = 2.0, 0.3
#: Joins the standard deviation of a cue, so that a rare one gets no huge weight.
RARE = 0.05


def learned(
    read: list[dict[str, float]], labels: np.ndarray, weight: np.ndarray
) -> dict[str, float]:
    """Weights by feature, on the scale of the features themselves, and the intercept."""
    counts = Counter(name for values in read for name in values if name.startswith("gram:"))
    known = {
        name: at
        for at, name in enumerate(sorted(name for name, n in counts.items() if n >= FEWEST))
    }
    cues = sorted(name for name in read[0] if not name.startswith(("gram:", "told:")))
    table = np.array([[values[name] for name in cues] for values in read])
    centre, scale = table.mean(axis=0), table.std(axis=0) + RARE
    grams = np.zeros((len(read), len(known)))
    for row, values in enumerate(read):
        columns = [known[name] for name in values if name in known]
        grams[row, columns] = GRAMS / max(len(columns), 1) ** 0.5
    both = np.hstack([(table - centre) / scale, grams])
    model = LogisticRegression(
        C=PENALTY, class_weight="balanced", solver="liblinear", max_iter=1000, random_state=0
    )
    model.fit(both, labels != "complied", sample_weight=weight)
    by_cue = model.coef_[0, : len(cues)] / scale
    weights = {"intercept": float(model.intercept_[0] - by_cue @ centre)} | dict(
        zip(cues, by_cue, strict=True)
    )
    return weights | dict(zip(known, model.coef_[0, len(cues) :] * GRAMS, strict=True))


def main(file: str) -> None:
    answers = read_labelled(file).reset_index(drop=True)
    own = pd.DataFrame(
        map(json.loads, (HERE / "examples.jsonl").read_text(encoding="utf-8").splitlines())
    )
    read = [features(*pair) for pair in zip(answers["answer"], answers["prompt"], strict=True)]
    own_read = [features(*pair) for pair in zip(own["answer"], own["question"], strict=True)]

    def learn(rows: np.ndarray) -> dict[str, float]:
        labels = np.r_[answers["label"].to_numpy()[rows], own["label"].to_numpy()]
        weight = np.r_[np.ones(len(rows)), np.full(len(own), OWN)] * np.where(
            labels == "partly refused", PARTLY, 1
        )
        return learned([read[row] for row in rows] + own_read, labels, weight)

    actions = np.zeros(len(answers), dtype=int)
    for _, fold in GroupKFold(FOLDS, shuffle=True, random_state=0).split(
        answers, groups=answers["prompt"]
    ):
        for model in answers["model"].unique():
            left_out = answers["prompt"].isin(answers["prompt"][fold]) | (answers["model"] == model)
            weights = learn(np.flatnonzero(~left_out))
            for row in fold[answers["model"].to_numpy()[fold] == model]:
                actions[row] = action_of(read[row], weights)
    cards = [summary("refusal", actions, answers)]
    phrases = load_judge("phrases")
    cards.append(summary("phrases", phrases.actions(list(answers["answer"])), answers))
    pd.concat(cards).to_csv(HERE / "card.csv", index=False, float_format="%.4f")
    weights = pd.Series(learn(np.arange(len(answers)))).round(4)
    weights[weights != 0].rename_axis("feature").rename("weight").to_csv(HERE / "weights.csv")


if __name__ == "__main__":
    main(sys.argv[1])
