"""Trained classifiers of texts or pairs, scored out of fold."""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Unpack

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.model_selection import GroupKFold

from personagap import gap
from personagap.errors import UserError, expect, require_at_least, require_one_of
from personagap.gap.tables import numbers
from personagap.models import Model
from personagap.recentering import learners, tuning
from personagap.recentering.learners import Learner, Texts
from personagap.results import add_holm
from personagap.schema import MAJORITY


def folds(groups: Sequence[Hashable], n_splits: int = 5, seed: int = 0) -> np.ndarray:
    """Return the fold of each row: rows of one group share a fold, which is drawn at random.

    For a random split, which leaks where users or prompts recur (R7), give each row a group of its
    own: ``range(n)``.

    Examples
    --------
    >>> folds(["ann", "ann", "bob", "cy"], n_splits=3).tolist()
    [2, 2, 1, 0]
    """
    require_at_least(2, n_splits=n_splits)
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
    """Return out-of-fold scores: each row is scored by a classifier that was neither trained nor
    tuned on its fold.

    Settings are chosen by average precision, holding out one of the *training folds* at a time, so
    the inner split is as disjoint by user or by prompt as the outer one.

    Parameters
    ----------
    texts, labels, folds : n texts, or n pairs such as (prompt, attribute); n labels 0/1; (n,)
        folds, three at least.
    method : "linear": logistic regression on embeddings; for pairs, on the embeddings of both with
        their product, distance and cosine (the features of InferSent, arXiv 1705.02364). "kernel":
        ridge regression of pairs with a kernel of the embeddings of both (`learners.kernel`).
        "states": the same with the hidden states of a language model that has read a pair
        (`learners.states`). "encoder": a fully fine-tuned sequence classifier, class-weighted,
        three epochs. "sft" and "grpo": a language model tuned to judge pairs, scored by the
        probability of its yes.
    encoder : for "linear" and "kernel", as in ``embeddings.embed``; for "states", a name or model
        as in ``models.load_model``; for "encoder", a model folder or Hub name; for "sft" and
        "grpo", as in `tuning.sft`.
    seed, steps : the seed of initial weights, order and dropout; optimizer steps of "sft", "grpo".

    Returns
    -------
    (n,) scores in [0, 1], higher for label 1. ``UserError`` where training folds hold only one
    label.
    """
    gold = np.asarray(labels)
    good = gold.shape == (len(texts),) and np.isin(gold, [0, 1]).all()
    expect(good, "0 or 1 for each text", labels=labels)
    # Each method, and whether it has settings to choose; fine-tuned models have none, as repeating
    # the fine-tuning for each setting and inner fold would be expensive.
    methods: dict[str, tuple[Callable[..., Learner], bool]] = {
        "linear": (learners.linear, True),
        "kernel": (learners.kernel, True),
        "states": (learners.states, True),
        "encoder": (learners.encoder, False),
    }
    for name in tuning.METHODS:
        methods[name] = partial(tuning.learner, steps=steps, method=name), False
    require_one_of(methods, "method", method)
    make, has_settings = methods[method]
    learner = make(texts, gold, encoder, seed)
    scores = np.empty(len(gold))
    for fold in np.unique(folds):
        # Settings are never chosen on the fold that is scored, which would flatter the classifier
        # (R19).
        others = np.unique(folds[folds != fold])
        inner = [_split(gold, folds, fold, other) for other in others if has_settings]
        train, test = _split(gold, folds, fold)
        scores[test] = learner(train, test)[_best(learner, gold, inner) if inner else 0]
    return scores


def decide(
    scores: np.ndarray, labels: np.ndarray, folds: np.ndarray, beta: float = 1.0
) -> np.ndarray:
    """Turn scores into decisions, (n,) 0/1, at the threshold with the best F_β on the *other*
    folds; β > 1 favours recall.
    """
    require_at_least(0, whole=False, beta=beta)
    labels, yes = np.asarray(labels), np.zeros(len(scores), dtype=int)
    for fold in np.unique(folds):
        here = folds == fold
        precision, recall, thresholds = precision_recall_curve(labels[~here], scores[~here])
        # The denominator is 0 where precision and recall are.
        denominator = np.maximum(beta**2 * precision + recall, 1e-9)
        f_beta = (1 + beta**2) * precision * recall / denominator
        # The last point of the curve, recall 0, has no threshold. Of ties the lowest one is used.
        yes[here] = scores[here] >= thresholds[np.argmax(f_beta[:-1])]
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
    """Flag attributes as problematic: by the majority of people, by a classifier trained on it, and
    by the extractor's own confidence.

    Parameters
    ----------
    items : ``user item attribute reason confidence``, from ``datasets.load_judgments``; the
        classifier reads attribute and reason.
    judgments : judgments of people, ``user item label``, 1 = problematic.
    method, encoder, seed : as in `cross_validate`, on five folds that share no user (R7).
    beta : as in `decide`, which sets the thresholds of the classifier and of the extractor's doubt
        (1 − confidence).

    Returns
    -------
    DataFrame 0/1, with the index of ``items``: "human_majority" (more than half of the people),
    "trained verifier" and, if every item states its confidence, "own confidence". NaN for items
    that nobody judged.
    """
    # All other methods classify pairs.
    require_one_of(["linear", "encoder"], "verifier", method)
    # An even split is not a majority, as in `human_majority` of the data of all stages.
    binary = judgments.assign(label=numbers(judgments))
    share = binary.groupby(["user", "item"])["label"].mean().rename("share")
    judged = items.join(share, on=["user", "item"]).dropna(subset="share")
    labels = (judged["share"] > 0.5).to_numpy(dtype=int)
    fold = folds(judged["user"].tolist(), seed=seed)
    texts = (judged["attribute"] + " " + judged["reason"]).tolist()
    scores = {"trained verifier": cross_validate(texts, labels, fold, method, encoder, seed)}
    if judged["confidence"].notna().all():
        scores["own confidence"] = 1 - judged["confidence"].to_numpy(dtype=float)
    flagged = {rater: decide(score, labels, fold, beta) for rater, score in scores.items()}
    return pd.DataFrame({MAJORITY: labels} | flagged, judged.index).reindex(items.index)


def relevance_judges(
    pairs: pd.DataFrame,
    judgments: pd.DataFrame,
    models: Mapping[str, str | Model | None],
    gold: str = MAJORITY,
    n_splits: int = 5,
    seed: int = 0,
    steps: int = 100,
) -> pd.DataFrame:
    """Judge pairs (prompt, attribute) by classifiers that were not trained on them, for several
    splits.

    Parameters
    ----------
    pairs, judgments : from ``datasets.load_relevance``; pairs without a judgment of ``gold``, the
        rater to learn from, are left out.
    models : method → encoder. These, ``seed`` and ``steps`` are as in `cross_validate`.

    Returns
    -------
    Judgments ``… rater rater_kind label score``, with the labels of `decide`. Raters are like
    "linear (new prompts)", "linear (new users)" and "linear (random split)", whose users and
    prompts are also in its training set (R7). In "MODEL & linear (new prompts)" the classifier must
    confirm every yes of a model.
    """
    if not models:
        remedy = "give linear or kernel, or a model for states, encoder, sft or grpo"
        raise UserError(f"no classifier to train: {remedy}")
    key = ["user", "prompt", "item"]
    labelled = pairs.merge(judgments.loc[judgments["rater"] == gold, [*key, "label"]], on=key)
    texts = list(zip(labelled["prompt_text"], labelled["attribute"], strict=True))
    # A pair that a model did not judge counts as its no, so that there is no yes to confirm.
    model_judgments = judgments[judgments["rater_kind"] == "model"].set_index([*key, "rater"])
    yes = model_judgments["label"].unstack(sort=False)
    yes = yes.reindex(pd.MultiIndex.from_frame(labelled[key])).fillna(0)
    labelled, tables = labelled.drop(columns=["prompt_text", "attribute"]), []
    splits = {"new prompts": labelled["prompt"], "new users": labelled["user"]}
    splits |= {"random split": pd.Series(range(len(labelled)))}
    for split, groups in splits.items():
        fold = folds(groups, n_splits, seed)
        for method, encoder in models.items():
            scores = cross_validate(texts, labelled["label"], fold, method, encoder, seed, steps)
            raters = {f"{method} ({split})": scores}
            # Only in the strictest split, as in others the classifier knows the prompts (R7).
            if split == "new prompts":
                for judge in yes:
                    raters[f"{judge} & {method} ({split})"] = scores * yes[judge].to_numpy()
            for rater, score in raters.items():
                # A score of 0 means that the model said no.
                label = decide(score, labelled["label"], fold) * (score > 0)
                names = {"rater": rater, "rater_kind": "trained"}
                tables.append(labelled.assign(**names, label=label, score=score))
    return pd.concat(tables, ignore_index=True)


def quality(
    judgments: pd.DataFrame, trained: pd.DataFrame, gold: str = MAJORITY, **how: Unpack[gap.How]
) -> pd.DataFrame:
    """Compute ``gap.relevance_metrics`` of the models, the baselines and the classifiers.

    The AUPRC and the best F1 of classifiers are computed from their scores.
    """
    reference = judgments[judgments["rater"] == gold]
    models = judgments[judgments["rater_kind"] == "model"]
    by_score = trained.assign(label=trained["score"])
    decided = gap.relevance_metrics(pd.concat([reference, models, trained]), gold, **how)
    scored = gap.scored_metrics(pd.concat([reference, by_score]), gold, **how)
    scored = scored[scored["metric"].isin(["auprc", "best_f1"])].assign(rater_kind="trained")
    # The AUPRC of 0/1 decisions is not informative, so that of the scores replaces it.
    replaced = (decided["rater_kind"] == "trained") & (decided["metric"] == "auprc")
    return pd.concat([decided[~replaced], scored[decided.columns]], ignore_index=True)


def compare(
    judgments: pd.DataFrame, trained: pd.DataFrame, gold: str = MAJORITY, **how: Unpack[gap.How]
) -> pd.DataFrame:
    """Compare classifiers with models, with saying yes to everything, and with other splits.

    The differences are ``gap.paired_difference`` of decisions and, for "auprc",
    ``gap.scored_difference`` of scores. Each classifier on a disjoint split, alone or confirming a
    model, is ``compared`` with "a model" and with "select_all"; its random split is compared with
    "its disjoint split". ``p_adjusted`` corrects over the differences of one kind and metric.
    """
    # "select_all" is always included, as it has a higher F1 than a published baseline (R5).
    models = judgments.loc[judgments["rater_kind"] == "model", "rater"].unique()
    pairs = []
    for rater in trained["rater"].unique():
        if rater.endswith("(random split)"):
            # A random split only serves to show how much it flatters; see below.
            continue
        model, confirmed, _ = rater.partition(" & ")
        pairs += [(rater, other, "a model") for other in ([model] if confirmed else models)]
        pairs += [(rater, "select_all", "select_all")]
        if not confirmed:
            random = re.sub(r"\(.*", "(random split)", rater)
            pairs += [(random, rater, "its disjoint split")]
    decided = pd.concat([judgments, trained])
    scored = pd.concat([judgments, trained.assign(label=trained["score"])])
    tables = []
    for a, b, compared in pairs:
        of_decisions = gap.paired_difference(decided, a, b, gold, **how)
        of_scores = gap.scored_difference(scored, a, b, gold, **how)
        # As in `quality`, the AUPRC is that of the scores.
        of_decisions = of_decisions[of_decisions["metric"] != "auprc"]
        tables += [rows.assign(compared=compared) for rows in (of_decisions, of_scores)]
    return add_holm(pd.concat(tables, ignore_index=True), ["compared", "metric"])


def _best(learner: Learner, labels: np.ndarray, inner: list[tuple[np.ndarray, np.ndarray]]) -> int:
    """Return which setting (row of scores) ranks the held-out training folds best."""
    held_out = np.concatenate([learner(train, test) for train, test in inner], axis=1)
    gold = labels[np.concatenate([test for _, test in inner])]
    return int(np.argmax([average_precision_score(gold, scores) for scores in held_out]))


def _split(labels: np.ndarray, folds: np.ndarray, *out: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on, which are outside the folds ``out``, and the rows to score,
    which are those of the last fold of ``out``.
    """
    train = np.flatnonzero(~np.isin(folds, out))
    if len(set(labels[train])) < 2:
        without = " and ".join(map(str, out))
        remedy = "take other folds or more data"
        raise UserError(f"without fold {without} both labels are not left to train on: {remedy}")
    return train, np.flatnonzero(folds == out[-1])
