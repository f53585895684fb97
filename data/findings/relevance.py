"""Do models pick what people find relevant? Makes ``relevance.csv`` beside this file.

``python data/findings/relevance.py FOLDER --embeddings NAME MODEL --model smollm2``; FOLDER holds
relevance_judgments*.csv, MODEL is one of sentence-transformers. Scores are kept in the cache:
an interrupted call goes on where it stopped. ``--encoder`` and ``--sft`` fine-tune models, too,
which takes hours without a GPU; ``--tuned METHOD:FOLDS:DRAW``, again and again, says which of them.
Rows that a call does not make, of other classifiers, splits or draws, stay as they are, but for
their corrected p-values.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import click
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from personagap import datasets, gap, models, prompts
from personagap.models.rendering import user_says
from personagap.paths import CACHE
from personagap.recentering import attributes, classifiers, tuning
from personagap.results import corrected, result

GOLD, KEY, DRAWS = "human_majority", ["user", "prompt", "item"], 3
#: Ways to split the pairs → what stays on one side; None, each pair by itself.
SPLITS = {"prompt-disjoint": "prompt", "user-disjoint": "user", "random (leaks)": None}
METRICS = ["precision", "recall", "f1", "kappa", "auprc", "yes_rate"]
#: What ``--tuned`` can name: method, split and draw of the folds.
TUNED = list(map(":".join, product(["encoder", "sft"], SPLITS, map(str, range(DRAWS)))))
#: Attributes of each prompt that a language model is asked about: weighed, written one by one; and
#: pages.
WEIGHED, WRITTEN, PAGES, TOKENS = 8, 1, 2, 64


def kept(make: Callable[[], np.ndarray], *of: object) -> np.ndarray:
    """What ``make`` makes ``of`` these, once."""
    file = CACHE / "findings" / f"{hashlib.sha256(repr(of).encode()).hexdigest()[:20]}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, make())
    return np.load(file)


def stacked(
    scores: np.ndarray, said: np.ndarray, labels: np.ndarray, number: np.ndarray
) -> np.ndarray:
    """Out-of-fold probability by a logistic regression on classifiers' scores and what models
    said.
    """
    x, combined = np.column_stack([scores, said]), np.empty(len(labels))
    for fold in np.unique(number):
        here = number == fold
        combined[here] = (
            LogisticRegression().fit(x[~here], labels[~here]).predict_proba(x[here])[:, 1]
        )
    return combined


def trained(pairs, known, said, embeddings, probed, tuned, which_tuned) -> pd.DataFrame:
    """Judgments ``… rater label score`` of classifiers; the rater is "classifier|folds|draw".

    ``probed`` is the language model whose hidden states are probed, or None; ``tuned`` is
    classifier → method, model and more of ``classifiers.cross_validate``; of them, those of
    ``which_tuned``, "method:folds:draw", all if it is empty.
    """
    texts, labels = (
        list(zip(pairs["prompt_text"], pairs["attribute"], strict=True)),
        known.to_numpy(),
    )
    which = {"linear, TF-IDF": ("linear", None)}
    for method, (name, model) in product(["linear", "kernel"], embeddings):
        which[f"{method}, {name}"] = method, model
    key, tables = pairs.drop(columns=["prompt_text", "attribute"]), []
    for draw in range(DRAWS):
        for split, group in SPLITS.items():
            groups = pairs[group] if group else range(len(pairs))
            number = classifiers.folds(groups, seed=draw)
            scores = {}
            for name, (method, model, *steps) in (which | tuned).items():
                named = f"{method}:{split}:{draw}" in which_tuned
                if name in tuned and which_tuned and not named:
                    continue
                how = method, model, draw, *steps
                fit = partial(classifiers.cross_validate, texts, labels, number, *how)
                scores[name] = kept(fit, texts, labels.tolist(), number.tolist(), *how)
            if probed:
                fit = partial(classifiers.cross_validate, texts, labels, number, "states", probed)
                asked = prompts.template("relevance"), probed.id, probed.revision
                states = kept(fit, texts, labels.tolist(), number.tolist(), "states", *asked)
                scores[f"states, {probed.id}"] = states
            for name, _ in embeddings:
                own = scores[f"kernel, {name}"]
                scores[f"combined: kernel, {name}, and both models"] = stacked(
                    own, said, labels, number
                )
                if probed:
                    # Without weights: to learn them would take labels.
                    scores[f"kernel, {name}, with states"] = (own + states) / 2
                    scores[f"combined: kernel, {name}, states, and both models"] = stacked(
                        np.column_stack([own, states]), said, labels, number
                    )
            for name, score in scores.items():
                yes = classifiers.decide(score, labels, number)
                tables.append(key.assign(rater=f"{name}|{split}|{draw}", label=yes, score=score))
    return pd.concat(tables, ignore_index=True).assign(rater_kind="trained")


def zero_shot(lm: models.Model, pairs: pd.DataFrame) -> pd.DataFrame:
    """Judgments of a language model: weighed (with a score), written one by one, and list-wise."""
    by = pairs.groupby("prompt", group_keys=False)
    sample = by.sample(WEIGHED, random_state=0)
    questions = [
        attributes.question(p, [a])
        for p, a in zip(sample["prompt_text"], sample["attribute"], strict=True)
    ]
    chats = list(map(user_says, questions))
    choices = [tuning.YES, tuning.NO]
    yes, no = kept(
        lambda: np.array(lm.choose(chats, choices)), questions, choices, lm.id, lm.revision
    ).T
    weighed = sample.drop(columns=["prompt_text", "attribute"]).assign(
        label=(yes > no).astype(int), score=yes - no
    )
    tables = [weighed.assign(rater=f"{lm.id}, weighed", rater_kind="model")]
    pages = pairs[pairs["prompt"].isin(pairs["prompt"].unique()[:PAGES])]
    for mode, some in {"single": by.sample(WRITTEN, random_state=0), "list": pages}.items():
        judged, counts = attributes.judge(lm, some, mode, max_tokens=TOKENS)
        print(counts.to_string(index=False))
        # Of few answers that can be read nothing is told.
        if 2 * len(judged) >= len(some):
            tables.append(judged)
    return pd.concat(tables, ignore_index=True)


def measured(everyone: pd.DataFrame) -> pd.DataFrame:
    """Metrics of every rater; AUPRC of scores where there are some."""
    table = gap.relevance_metrics(everyone, GOLD)
    for rater, own in everyone[everyone["score"].notna()].groupby("rater", sort=False):
        reference = everyone[everyone["rater"] == GOLD].merge(own[KEY], on=KEY)
        scored = gap.scored_metrics(pd.concat([reference, own.assign(label=own["score"])]), GOLD)
        scored = scored[scored["metric"] == "auprc"].assign(unit="")
        table = table[(table["rater"] != rater) | (table["metric"] != "auprc")]
        table = pd.concat(
            [table, scored[table.columns.intersection(scored.columns)]], ignore_index=True
        )
    return table[table["metric"].isin(METRICS)].assign(versus="")


def compared(everyone: pd.DataFrame) -> pd.DataFrame:
    """Paired differences, on the same pairs: of each rater with scores and every model, and of
    leaking folds.
    """
    scored = everyone[everyone["rater_kind"] == "trained"]["rater"].unique()
    stored = everyone.loc[everyone["rater_kind"] == "stored", "rater"].unique()
    tables = []
    for rater in scored:
        name, split, draw = rater.split("|")
        others = [*stored, "select_all"]
        if split.startswith("random"):
            others = [f"{name}|{by}-disjoint|{draw}" for by in ("prompt", "user")]
            # What takes long to tune may not have been tuned on all.
            others = [other for other in others if other in scored]
        for other in others:
            three = everyone[everyone["rater"].isin([rater, other, GOLD])]
            table = gap.paired_difference(three, rater, other, GOLD)
            table = table[table["metric"].isin(["f1", "kappa"])]
            both = three.assign(label=three["score"].fillna(three["label"]))
            table = pd.concat(
                [table, gap.scored_difference(both, rater, other, GOLD)], ignore_index=True
            )
            versus = other.split("|")[1] if "|" in other else other
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
@click.option("--sft-steps", default=100, help="its optimizer steps in each fold, of 8 pairs each")
@click.option("--tuned", multiple=True, type=click.Choice(TUNED), help="of all, these alone")
@click.option("--model", "specs", multiple=True, help="a language model to ask, such as smollm2")
@click.option("--states", help="a language model in process: a probe of its hidden states")
@click.option("--dtype", default="auto", help="of the language models that are asked or probed")
def main(folder, embeddings, encoder, sft, sft_steps, tuned, specs, states, dtype):
    pairs, judgments = datasets.load_relevance(folder)
    labels = judgments.set_index([*KEY, "rater"])["label"].unstack("rater")
    labels = labels.reindex(pd.MultiIndex.from_frame(pairs[KEY]))
    stored = judgments.loc[judgments["rater_kind"] == "model", "rater"].unique()
    tables = [judgments.assign(rater_kind=judgments["rater_kind"].replace("model", "stored"))]
    models_to_tune = {"fine-tuned encoder": ("encoder", encoder)} if encoder else {}
    if sft:
        models_to_tune[f"{sft}, SFT"] = "sft", sft, sft_steps
    for method in {each.split(":")[0] for each in tuned}:
        if method not in {known for known, *_ in models_to_tune.values()}:
            raise click.UsageError(f"--tuned {method}:… needs --{method}, the model to tune")
    said = labels[stored].to_numpy()
    known = {spec: models.load_model(spec, dtype=dtype) for spec in {*specs, states} if spec}
    probed = known.get(states)
    tables.append(trained(pairs, labels[GOLD], said, embeddings, probed, models_to_tune, tuned))
    tables += [zero_shot(known[spec], pairs) for spec in specs]
    everyone = pd.concat(tables, ignore_index=True)
    table = pd.concat([measured(everyone), compared(everyone)], ignore_index=True)
    keys = (
        table["rater"]
        .str.split("|", expand=True)
        .set_axis(["classifier", "folds", "draw"], axis=1)
        .fillna("")
    )
    table, file = keys.join(table.drop(columns="rater")), Path(__file__).with_name("relevance.csv")
    before = pd.read_csv(file, dtype={"draw": str})
    before = before.fillna({"folds": "", "draw": "", "versus": "", "unit": ""})
    made = pd.MultiIndex.from_frame(table[["classifier", "folds", "draw"]])
    before = before[~pd.MultiIndex.from_frame(before[["classifier", "folds", "draw"]]).isin(made)]
    table = corrected(pd.concat([table, before], ignore_index=True), ["folds", "versus", "metric"])
    table = result(table, ["classifier", "folds", "draw", "versus"])
    table = table[[*table.columns[: table.columns.get_loc("method") + 1]]]
    table.round(4).to_csv(file, index=False)


if __name__ == "__main__":
    main()
