"""Trained classifiers of texts or pairs, scored out of fold: no row is judged by what it taught."""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Unpack

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.model_selection import GroupKFold

from personagap import gap
from personagap.errors import UserError, at_least, expect, one_of
from personagap.gap.tables import MAJORITY, numbers
from personagap.models import Model
from personagap.recentering import learners, tuning
from personagap.recentering.learners import Learner, Texts
from personagap.results import corrected


def folds(groups: Sequence[Hashable], n_splits: int = 5, seed: int = 0) -> np.ndarray:
    """Number of the fold of each row: rows of one group share a fold, and groups fall at random.

    A random split, which leaks where users or prompts recur (R7), gives each row a group of its
    own: ``range(n)``.

    Examples
    --------
    >>> folds(["ann", "ann", "bob", "cy"], n_splits=3).tolist()
    [2, 2, 1, 0]
    """
    at_least(2, n_splits=n_splits)
    if (n := len(set(groups))) < n_splits:
        remedy = "take fewer or more data"
        raise UserError(f"{n} groups cannot be split into {n_splits} folds: {remedy}")
    number = np.empty(len(groups), dtype=int)
    splitter = GroupKFold(n_splits, shuffle=True, random_state=seed)
    for fold, (_, test) in enumerate(splitter.split(number, groups=list(groups))):
        number[test] = fold
    return number


def cross_validate(
    texts: Texts,
    labels: Sequence[int],
    folds: np.ndarray,
    method: str = "linear",
    encoder: str | Model | None = None,
    seed: int = 0,
    steps: int = 100,
) -> np.ndarray:
    """Out-of-fold scores: each row by a classifier that was neither trained nor tuned on its fold.

    Settings are chosen by average precision, one of the *training folds* held out at a time: the
    inner split is as disjoint by user or by prompt as the outer one.

    Parameters
    ----------
    texts, labels, folds : n texts, or n pairs such as (prompt, attribute); n labels 0/1; (n,)
        folds, three at least.
    method : "linear": logistic regression on embeddings, for pairs those of both with their
        product, distance and cosine (the features of InferSent, arXiv 1705.02364); "kernel": ridge
        regression of pairs with a kernel of the embeddings of both (`learners.kernel`); "states":
        the same of a language model's hidden states, when it has read a pair (`learners.states`);
        "encoder": a sequence classifier fine-tuned whole, class-weighted, three epochs; "sft" and
        "grpo": a language model tuned to judge pairs, scored by the probability of its yes.
    encoder : "linear", "kernel": as of ``embeddings.embed``; "states": name or model as of
        ``models.load_model``; "encoder": a model folder or Hub name; "sft", "grpo": as of
        `tuning.sft`.
    seed, steps : what decides initial weights, order and dropout; optimizer steps of "sft", "grpo".

    Returns
    -------
    (n,) scores in [0, 1], higher for label 1. ``UserError`` where training folds hold one label
    only.
    """
    gold = np.asarray(labels)
    good = gold.shape == (len(texts),) and np.isin(gold, [0, 1]).all()
    expect(good, "0 or 1 for each text", labels=labels)
    # Whether there are settings to choose: tuning a whole model so many times would be dear.
    known: dict[str, tuple[Callable[..., Learner], bool]]
    known = {
        "linear": (learners.linear, True),
        "kernel": (learners.kernel, True),
        "states": (learners.states, True),
        "encoder": (learners.encoder, False),
    }
    for name in tuning.METHODS:
        known[name] = partial(tuning.learner, steps=steps, method=name), False
    one_of(known, "method", method)
    make, has_settings = known[method]
    learner = make(texts, gold, encoder, seed)
    scores = np.empty(len(gold))
    for fold in np.unique(folds):
        # Never on the fold that is scored: settings chosen there would flatter the classifier
        # (R19).
        others = np.unique(folds[folds != fold])
        inner = [_rows(gold, folds, fold, other) for other in others if has_settings]
        train, test = _rows(gold, folds, fold)
        scores[test] = learner(train, test)[_best(learner, gold, inner) if inner else 0]
    return scores


def decide(
    scores: np.ndarray, labels: np.ndarray, folds: np.ndarray, beta: float = 1.0
) -> np.ndarray:
    """Yes or no, (n,) 0/1, at the best F_β threshold of the *other* folds; β > 1 weights recall."""
    at_least(0, whole=False, beta=beta)
    labels, yes = np.asarray(labels), np.zeros(len(scores), dtype=int)
    for fold in np.unique(folds):
        here = folds == fold
        precision, recall, thresholds = precision_recall_curve(labels[~here], scores[~here])
        # The sum is 0 where nothing is found.
        both = np.maximum(beta**2 * precision + recall, 1e-9)
        quality = (1 + beta**2) * precision * recall / both
        # The last point of the curve, recall 0, has no threshold. Ties go to the lowest one.
        yes[here] = scores[here] >= thresholds[np.argmax(quality[:-1])]
    return yes


def flags(
    items: pd.DataFrame,
    judgments: pd.DataFrame,
    method: str = "linear",
    encoder: str | None = None,
    *,
    beta: float = 1.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Which attributes are flagged as problematic: by people, by what learned from them, by doubt.

    Parameters
    ----------
    items : ``user item attribute reason confidence``, of ``datasets.load_judgments``; the
        classifier reads attribute and reason.
    judgments : of people, ``user item label``, 1 = problematic.
    method, encoder, seed : as in `cross_validate`, on five folds that share no user (R7).
    beta : as in `decide`, which sets the thresholds of the classifier and of the extractor's doubt
        (1 − confidence).

    Returns
    -------
    DataFrame 0/1, with the index of ``items``: "human_majority" (more than half of the people),
    "trained verifier" and, if every item states its confidence, "own confidence". NaN for items
    that nobody judged.
    """
    # The other methods judge pairs.
    one_of(["linear", "encoder"], "verifier", method)
    # An even split is no majority, as in `human_majority` of the stages' data.
    said = judgments.assign(label=numbers(judgments))
    share = said.groupby(["user", "item"])["label"].mean().rename("share")
    known = items.join(share, on=["user", "item"]).dropna(subset="share")
    labels = (known["share"] > 0.5).to_numpy(dtype=int)
    number = folds(known["user"].tolist(), seed=seed)
    texts = (known["attribute"] + " " + known["reason"]).tolist()
    scores = {"trained verifier": cross_validate(texts, labels, number, method, encoder, seed)}
    if known["confidence"].notna().all():
        scores["own confidence"] = 1 - known["confidence"].to_numpy(dtype=float)
    decided = {rater: decide(score, labels, number, beta) for rater, score in scores.items()}
    return pd.DataFrame({"human_majority": labels} | decided, known.index).reindex(items.index)


def relevance_judges(
    pairs: pd.DataFrame,
    judgments: pd.DataFrame,
    models: Mapping[str, str | Model | None],
    gold: str = MAJORITY,
    n_splits: int = 5,
    seed: int = 0,
    steps: int = 100,
) -> pd.DataFrame:
    """Classifiers of (prompt, attribute) as judges of pairs they were not trained on, by split.

    Parameters
    ----------
    pairs, judgments : ``datasets.load_relevance``; pairs that ``gold``, the rater to learn from,
        did not judge are left out.
    models : method → encoder; they, ``seed`` and ``steps`` as in `cross_validate`.

    Returns
    -------
    Judgments ``… rater rater_kind label score``, ``label`` being `decide`'s, of raters like "linear
    (new prompts)", "linear (new users)" and, sharing both with its training set (R7), "linear
    (random split)"; in "MODEL & linear (new prompts)" the classifier must confirm every yes of a
    model.
    """
    if not models:
        remedy = "give linear or kernel, or a model for states, encoder, sft or grpo"
        raise UserError(f"no classifier to train: {remedy}")
    key = ["user", "prompt", "item"]
    known = pairs.merge(judgments.loc[judgments["rater"] == gold, [*key, "label"]], on=key)
    texts = list(zip(known["prompt_text"], known["attribute"], strict=True))
    # What a model did not judge it did not say yes to: nothing is left to confirm.
    models_said = judgments[judgments["rater_kind"] == "model"].set_index([*key, "rater"])
    yes = models_said["label"].unstack(sort=False)
    yes = yes.reindex(pd.MultiIndex.from_frame(known[key])).fillna(0)
    known, tables = known.drop(columns=["prompt_text", "attribute"]), []
    splits = {"new prompts": known["prompt"], "new users": known["user"]}
    splits |= {"random split": pd.Series(range(len(known)))}
    for split, groups in splits.items():
        number = folds(groups, n_splits, seed)
        for method, encoder in models.items():
            scores = cross_validate(texts, known["label"], number, method, encoder, seed, steps)
            raters = {f"{method} ({split})": scores}
            # In the strictest split alone: elsewhere the prompts are known to the classifier (R7).
            if split == "new prompts":
                for judge in yes:
                    raters[f"{judge} & {method} ({split})"] = scores * yes[judge].to_numpy()
            for rater, score in raters.items():
                # At 0 the model said no.
                label = decide(score, known["label"], number) * (score > 0)
                who = {"rater": rater, "rater_kind": "trained"}
                tables.append(known.assign(**who, label=label, score=score))
    return pd.concat(tables, ignore_index=True)


def quality(
    judgments: pd.DataFrame, trained: pd.DataFrame, gold: str = MAJORITY, **how: Unpack[gap.How]
) -> pd.DataFrame:
    """``gap.relevance_metrics`` of the models, the baselines and the classifiers.

    Of classifiers the AUPRC and the best F1 are those of their scores.
    """
    reference = judgments[judgments["rater"] == gold]
    models = judgments[judgments["rater_kind"] == "model"]
    by_score = trained.assign(label=trained["score"])
    decided = gap.relevance_metrics(pd.concat([reference, models, trained]), gold, **how)
    scored = gap.scored_metrics(pd.concat([reference, by_score]), gold, **how)
    scored = scored[scored["metric"].isin(["auprc", "best_f1"])].assign(rater_kind="trained")
    # Of decisions 0/1 the AUPRC says little: that of the scores takes its place.
    replaced = (decided["rater_kind"] == "trained") & (decided["metric"] == "auprc")
    return pd.concat([decided[~replaced], scored[decided.columns]], ignore_index=True)


def compare(
    judgments: pd.DataFrame, trained: pd.DataFrame, gold: str = MAJORITY, **how: Unpack[gap.How]
) -> pd.DataFrame:
    """``gap.paired_difference`` of decisions; of scores, as "auprc", ``gap.scored_difference``.

    Each disjoint classifier, and each model that it must confirm, is ``compared`` with "a model"
    and with "select_all"; its random split with "its disjoint split". ``p_adjusted`` corrects over
    those of one kind and metric.
    """
    # Paired on the same items, and always against yes to everything, which has a higher F1 than a
    # published baseline (R5).
    models = judgments.loc[judgments["rater_kind"] == "model", "rater"].unique()
    pairs = []
    for rater in trained["rater"].unique():
        if rater.endswith("(random split)"):
            # It shows nothing but what it flatters.
            continue
        model, both, _ = rater.partition(" & ")
        pairs += [(rater, other, "a model") for other in ([model] if both else models)]
        pairs += [(rater, "select_all", "select_all")]
        if not both:
            random = re.sub(r"\(.*", "(random split)", rater)
            pairs += [(random, rater, "its disjoint split")]
    decided = pd.concat([judgments, trained])
    scored = pd.concat([judgments, trained.assign(label=trained["score"])])
    tables = []
    for a, b, compared in pairs:
        of_decisions = gap.paired_difference(decided, a, b, gold, **how)
        of_scores = gap.scored_difference(scored, a, b, gold, **how)
        # As in `quality`: the AUPRC is that of the scores.
        both = [of_decisions[of_decisions["metric"] != "auprc"], of_scores]
        tables += [found.assign(compared=compared) for found in both]
    return corrected(pd.concat(tables, ignore_index=True), ["compared", "metric"])


def _best(learner: Learner, labels: np.ndarray, inner: list[tuple[np.ndarray, np.ndarray]]) -> int:
    """Which setting (line of scores) ranks the held-out training folds best."""
    held_out = np.concatenate([learner(*rows) for rows in inner], axis=1)
    gold = labels[np.concatenate([test for _, test in inner])]
    return int(np.argmax([average_precision_score(gold, line) for line in held_out]))


def _rows(labels: np.ndarray, folds: np.ndarray, *out: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, outside the folds ``out``, and to score, those of the last of them."""
    train = np.flatnonzero(~np.isin(folds, out))
    if len(set(labels[train])) < 2:
        without = " and ".join(map(str, out))
        remedy = "take other folds or more data"
        raise UserError(f"without fold {without} both labels are not left to train on: {remedy}")
    return train, np.flatnonzero(folds == out[-1])
