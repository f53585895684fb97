"""Measure whether models pick what people find relevant; updates ``relevance.csv`` in this folder.

``python data/findings/relevance.py FOLDER --embeddings NAME MODEL --model smollm2``; FOLDER has
relevance_judgments*.csv, MODEL is a sentence-transformers model. Scores are cached, so that an
interrupted call resumes. ``--encoder``, ``--sft`` and ``--grpo`` fine-tune models as well, which
takes hours without a GPU; repeated options ``--tuned METHOD:FOLDS:DRAW`` restrict this to some
splits and draws. Rows of classifiers, splits or draws that a call does not compute stay, except for
their corrected p-values.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import click
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from personagap import datasets, gap, models, prompts
from personagap.models.rendering import user_chat
from personagap.paths import CACHE
from personagap.recentering import attributes, classifiers, tuning
from personagap.results import add_holm, result

GOLD, KEY, DRAWS = "human_majority", ["user", "prompt", "item"], 3
#: Ways to split the pairs → the groups that are never divided; None divides single pairs.
SPLITS = {"prompt-disjoint": "prompt", "user-disjoint": "user", "random (leaks)": None}
METRICS = ["precision", "recall", "f1", "kappa", "auprc", "yes_rate"]
#: Values of ``--tuned``: method, split and draw of the folds.
TUNED = list(map(":".join, product(["encoder", *tuning.METHODS], SPLITS, map(str, range(DRAWS)))))
#: Attributes per prompt for which a language model is queried by likelihood, and by generation;
#: pages that are judged as a list; and the length of its answers.
WEIGHED, WRITTEN, PAGES, TOKENS = 8, 1, 2, 64


def cached(compute: Callable[[], np.ndarray], *inputs: object) -> np.ndarray:
    """Return the cached result of ``compute`` for these inputs; compute it if there is none."""
    file = CACHE / "findings" / f"{hashlib.sha256(repr(inputs).encode()).hexdigest()[:20]}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, compute())
    return np.load(file)


def stacked(
    scores: np.ndarray, answers: np.ndarray, labels: np.ndarray, folds: np.ndarray
) -> np.ndarray:
    """Combine classifiers' scores and models' answers by out-of-fold logistic regression."""
    x, combined = np.column_stack([scores, answers]), np.empty(len(labels))
    for fold in np.unique(folds):
        test = folds == fold
        regression = LogisticRegression().fit(x[~test], labels[~test])
        combined[test] = regression.predict_proba(x[test])[:, 1]
    return combined


def trained(pairs, gold, answers, embeddings, probed, tuned, which_tuned) -> pd.DataFrame:
    """Judgments ``… rater label score`` of classifiers; the rater is "classifier|folds|draw".

    ``gold`` are the labels to learn, ``answers`` those of models; ``probed`` is a language model
    whose hidden states are probed, or None; ``tuned`` maps classifiers to their arguments of
    ``classifiers.cross_validate``. If ``which_tuned`` has names "method:folds:draw", only these are
    tuned.
    """
    texts = list(zip(pairs["prompt_text"], pairs["attribute"], strict=True))
    labels = gold.to_numpy()
    untuned = {"linear, TF-IDF": ("linear", None)}
    for method, (name, model) in product(["linear", "kernel"], embeddings):
        untuned[f"{method}, {name}"] = method, model
    key, tables = pairs.drop(columns=["prompt_text", "attribute"]), []
    for draw in range(DRAWS):
        for split, group in SPLITS.items():
            groups = pairs[group] if group else range(len(pairs))
            folds = classifiers.folds(groups, seed=draw)
            fit = partial(classifiers.cross_validate, texts, labels, folds)
            inputs = texts, labels.tolist(), folds.tolist()
            scores = {}
            for name, (method, model, *steps) in (untuned | tuned).items():
                requested = not which_tuned or f"{method}:{split}:{draw}" in which_tuned
                if name in tuned and not requested:
                    continue
                how = method, model, draw, *steps
                scores[name] = cached(partial(fit, *how), *inputs, *how)
            if probed:
                how = prompts.template("relevance"), probed.id, probed.revision
                states = cached(partial(fit, "states", probed), *inputs, "states", *how)
                scores[f"states, {probed.id}"] = states
            for name, _ in embeddings:
                kernel = scores[f"kernel, {name}"]
                combined = f"combined: kernel, {name}, and both models"
                scores[combined] = stacked(kernel, answers, labels, folds)
                if probed:
                    # An unweighted mean: learning weights would take labels.
                    scores[f"kernel, {name}, with states"] = (kernel + states) / 2
                    combined = f"combined: kernel, {name}, states, and both models"
                    both = np.column_stack([kernel, states])
                    scores[combined] = stacked(both, answers, labels, folds)
            for name, score in scores.items():
                label = classifiers.decide(score, labels, folds)
                tables.append(key.assign(rater=f"{name}|{split}|{draw}", label=label, score=score))
    return pd.concat(tables, ignore_index=True).assign(rater_kind="trained")


def zero_shot(lm: models.Model, pairs: pd.DataFrame) -> pd.DataFrame:
    """Judgments of a language model: by likelihood (with a score), one by one, and as lists."""
    by_prompt = pairs.groupby("prompt", group_keys=False)
    sample = by_prompt.sample(WEIGHED, random_state=0)
    texts = zip(sample["prompt_text"], sample["attribute"], strict=True)
    questions = [attributes.question(prompt, [attribute]) for prompt, attribute in texts]
    chats = list(map(user_chat, questions))
    choices = [tuning.YES, tuning.NO]
    inputs = questions, choices, lm.id, lm.revision
    yes, no = cached(lambda: np.array(lm.choose(chats, choices)), *inputs).T
    judged = sample.drop(columns=["prompt_text", "attribute"])
    judged = judged.assign(label=(yes > no).astype(int), score=yes - no)
    tables = [judged.assign(rater=f"{lm.id}, weighed", rater_kind="model")]
    pages = pairs[pairs["prompt"].isin(pairs["prompt"].unique()[:PAGES])]
    singles = by_prompt.sample(WRITTEN, random_state=0)
    for mode, asked in {"single": singles, "list": pages}.items():
        judged, counts = attributes.judge(lm, asked, mode, max_tokens=TOKENS)
        print(counts.to_string(index=False))
        # Metrics of the few readable answers would be misleading if most cannot be read.
        if 2 * len(judged) >= len(asked):
            tables.append(judged)
    return pd.concat(tables, ignore_index=True)


def measured(everyone: pd.DataFrame) -> pd.DataFrame:
    """Metrics of every rater, with AUPRC from scores if the rater has any."""
    table = gap.relevance_metrics(everyone, GOLD)
    for rater, rows in everyone[everyone["score"].notna()].groupby("rater", sort=False):
        reference = everyone[everyone["rater"] == GOLD].merge(rows[KEY], on=KEY)
        scored = gap.scored_metrics(pd.concat([reference, rows.assign(label=rows["score"])]), GOLD)
        scored = scored[scored["metric"] == "auprc"].assign(unit="")
        scored = scored[table.columns.intersection(scored.columns)]
        table = table[(table["rater"] != rater) | (table["metric"] != "auprc")]
        table = pd.concat([table, scored], ignore_index=True)
    return table[table["metric"].isin(METRICS)].assign(versus="")


def compared(everyone: pd.DataFrame, published: Sequence[str]) -> pd.DataFrame:
    """Paired differences between raters, on the same pairs.

    Classifiers are compared with the ``published`` judgments of models, and those with leaking
    folds with the same on disjoint folds.
    """
    scored = everyone[everyone["rater_kind"] == "trained"]["rater"].unique()
    tables = []
    for rater in scored:
        name, split, draw = rater.split("|")
        others = [*published, "select_all"]
        if split.startswith("random"):
            others = [f"{name}|{by}-disjoint|{draw}" for by in ("prompt", "user")]
            # Classifiers that take long to tune may not have been tuned on all splits.
            others = [other for other in others if other in scored]
        for other in others:
            three = everyone[everyone["rater"].isin([rater, other, GOLD])]
            table = gap.paired_difference(three, rater, other, GOLD)
            table = table[table["metric"].isin(["f1", "kappa"])]
            both = three.assign(label=three["score"].fillna(three["label"]))
            versus = other.split("|")[1] if "|" in other else other
            auprc = gap.scored_difference(both, rater, other, GOLD)
            table = pd.concat([table, auprc], ignore_index=True)
            tables.append(table.assign(rater=rater, versus=versus))
    return pd.concat(tables, ignore_index=True)


@click.command()
@click.argument("folder")
@click.option(
    "--embeddings",
    required=True,
    nargs=2,
    multiple=True,
    metavar="NAME MODEL",
    help="what tables call it, and folder or Hub name of a sentence-transformers model",
)
@click.option("--encoder", help="folder or Hub name of a model to fine-tune")
@click.option("--sft", help="a language model to tune on people's answers, such as smollm2")
@click.option("--grpo", help="a language model to tune by rewards for people's answers")
@click.option("--steps", default=100, help="optimizer steps in each fold, of 8 pairs each")
@click.option(
    "--tuned",
    multiple=True,
    type=click.Choice(TUNED),
    metavar="METHOD:FOLDS:DRAW",
    help=f"of all, these alone, such as {TUNED[0]}",
)
@click.option("--model", "specs", multiple=True, help="a language model to ask, such as smollm2")
@click.option("--states", help="a language model in process: a probe of its hidden states")
@click.option("--dtype", default="auto", help="of the language models that are asked or probed")
def main(folder, embeddings, encoder, sft, grpo, steps, tuned, specs, states, dtype):
    pairs, judgments = datasets.load_relevance(folder)
    labels = judgments.set_index([*KEY, "rater"])["label"].unstack("rater")
    labels = labels.reindex(pd.MultiIndex.from_frame(pairs[KEY]))
    published = judgments.loc[judgments["rater_kind"] == "model", "rater"].unique()
    models_to_tune = {"fine-tuned encoder": ("encoder", encoder)} if encoder else {}
    for method, model in {"sft": sft, "grpo": grpo}.items():
        if model:
            models_to_tune[f"{model}, {method.upper()}"] = method, model, steps
    for method in {name.split(":")[0] for name in tuned}:
        if method not in {available for available, *_ in models_to_tune.values()}:
            raise click.UsageError(f"--tuned {method}:… needs --{method}, the model to tune")
    answers, tables = labels[published].to_numpy(), [judgments]
    loaded = {spec: models.load_model(spec, dtype=dtype) for spec in {*specs, states} if spec}
    probed = loaded.get(states)
    tables.append(trained(pairs, labels[GOLD], answers, embeddings, probed, models_to_tune, tuned))
    tables += [zero_shot(loaded[spec], pairs) for spec in specs]
    everyone = pd.concat(tables, ignore_index=True)
    table = pd.concat([measured(everyone), compared(everyone, published)], ignore_index=True)
    names = ["classifier", "folds", "draw"]
    keys = table["rater"].str.split("|", expand=True).set_axis(names, axis=1).fillna("")
    table, file = keys.join(table.drop(columns="rater")), Path(__file__).with_name("relevance.csv")
    old = pd.read_csv(file, dtype={"draw": str})
    old = old.fillna({"folds": "", "draw": "", "versus": "", "unit": ""})
    computed = pd.MultiIndex.from_frame(table[names])
    old = old[~pd.MultiIndex.from_frame(old[names]).isin(computed)]
    table = add_holm(pd.concat([table, old], ignore_index=True), ["folds", "versus", "metric"])
    table = result(table, ["classifier", "folds", "draw", "versus"])
    table = table[[*table.columns[: table.columns.get_loc("method") + 1]]]
    table.round(4).to_csv(file, index=False)


if __name__ == "__main__":
    main()
