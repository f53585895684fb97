"""What users get from a model that sees examples: rewards, win
rates, and paired differences with intervals.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import count, cycle, product

import numpy as np
import pandas as pd

from personagap import ask, gap, pricing
from personagap.demo import personalllm as demo_rewards
from personagap.demo.selector import PLANTED, Selector
from personagap.errors import UserError, one_of
from personagap.gap.resampling import resample
from personagap.models import Generation, Model, load_model
from personagap.personalllm import users
from personagap.personalllm.adaptation.icl import (
    STRATEGIES,
    TEMPLATES,
    Examples,
    Study,
    chats,
    favourites,
    reader,
)
from personagap.responses import ResponseStore, complete, digest
from personagap.results import corrected, result

CELL = ["arm", "shots", "template"]
#: Of an answer that is written, as in the authors' code.
TOKENS = 512
#: Mean reward in the user's eyes; share better served than by the
#: reference; share served as well as by the best of 8.
METRICS = ["persona_reward", "win_rate_vs_reference", "win_rate_vs_best"]


def serve(
    lm: Model,
    study: Study,
    arms: dict[str, Examples],
    respond: Callable,
    shots: Sequence[int],
    templates: Sequence[str],
) -> pd.DataFrame:
    """What users get from ``lm`` after each arm's examples: ``user
    prompt`` `METRICS` ``arm shots template unit``.

    Parameters
    ----------
    arms : of ``source_arms`` or ``neighbour_arms``.
    respond : `by_selection` or `by_generation`: model, chats of the users in turn → what each
        thinks of the answer.
    shots : numbers of examples; 0 is the arm "zero_shot".
    templates : "chat" (the model's) and "plain" (none, as in the authors' code, P8).
    """
    tables = []
    for template, model, cells, asked in _asked(lm, study, arms, shots, templates):
        got = np.split(respond(model, asked), len(cells))
        for (arm, k), scores in zip(cells, got, strict=True):
            tables.append(_outcomes(study, scores, arm, k, template))
    return pd.concat(tables, ignore_index=True)


def cost(
    lm: Model,
    study: Study,
    arms: dict[str, Examples],
    shots: Sequence[int],
    templates: Sequence[str],
    evaluation: str = "select",
) -> pd.DataFrame:
    """What `serve` would ask, rows as of ``pricing.of_answers`` by ``template``; nothing is asked.

    ``evaluation`` is that of `open_model`, the other arguments are those of `serve`.
    """
    prices = []
    for template, model, _, asked in _asked(lm, study, arms, shots, templates):
        texts = [chat[0]["content"] for chat in asked]
        if evaluation == "generate":
            price = pricing.of_texts(model, texts, 0.0, 0, TOKENS)
        else:
            choices = study.responses[study.target].tolist()
            read = np.resize(
                [sum(map(len, row)) / pricing.TOKEN_CHARACTERS for row in choices], len(texts)
            )
            sizes = [pricing.length(text, more) for text, more in zip(texts, read, strict=True)]
            price = pricing.of_requests(
                dict(zip(_keys(model, asked, choices), sizes, strict=True)), [model.id]
            )
        prices.append(price.assign(template=template))
    return pd.concat(prices)[["template", *prices[0].columns.drop("template")]]


def _asked(
    lm: Model,
    study: Study,
    arms: dict[str, Examples],
    shots: Sequence[int],
    templates: Sequence[str],
) -> Iterator[tuple]:
    """Of each template: the model that reads by it, its cells (arm,
    shots), and the chats of each cell's users.
    """
    if not templates or not set(templates) <= set(TEMPLATES):
        raise UserError(f"templates is {templates!r}: give a list of {', '.join(TEMPLATES)}")
    shots, templates = list(dict.fromkeys(shots)), list(dict.fromkeys(templates))
    cells = [("zero_shot", 0)] * (0 in shots) + list(product(arms, [k for k in shots if k]))
    for template in templates:
        asked = [chat for arm, k in cells for chat in chats(study, arm, arms.get(arm), k)]
        yield template, reader(lm, template), cells, asked


def _keys(lm: Model, asked: list, choices: list, stored: bool = True) -> list:
    """What the choice of each chat, of the users in turn, is ``stored``
    under, or else the same number for the same.
    """
    number = count()
    key = cache(
        partial(digest, "choose", lm.id, lm.revision) if stored else lambda *_: next(number)
    )
    return [key(lm.render(chat), tuple(mine)) for chat, mine in zip(asked, cycle(choices))]


def open_model(
    model: str,
    planted: str,
    study: Study,
    evaluation: str = "select",
    data: str = "demo",
    device: str = "auto",
) -> tuple[object, Callable]:
    """Who serves the study's users, and how: a model, and what `serve` takes as ``respond``.

    Parameters
    ----------
    model : "simulated" (`Selector` with what is ``planted``), or that of ``models.load_model``,
        whose answers are kept.
    evaluation : "select" among the stored responses, or "generate" and score: with the demo's
        rewards if ``data`` is the demo, else with the reward models.
    """
    one_of(PLANTED, "planted is", planted)
    one_of(["select", "generate"], "evaluation is", evaluation)
    simulated = model == "simulated"
    lm: Model = (
        Selector(planted, study.responses, study.rewards)
        if simulated
        else load_model(model, device=device)
    )
    if evaluation == "select":
        return lm, by_selection(study, None if simulated else ResponseStore(lm.id))
    return lm, by_generation(
        study, demo_rewards.score if data == "demo" else reward_models(study, device)
    )


def by_selection(study: Study, store: ResponseStore | None) -> Callable:
    """Serve the stored response that the model finds likeliest per byte; needs no reward model.

    Per byte, because a sum over tokens picks the shortest and a mean per token depends on the
    tokenizer (as ``acc_norm`` of lm-evaluation-harness). ``store`` keeps likelihoods, so that an
    interrupted run resumes.
    """
    choices, stored = study.responses[study.target].tolist(), study.stored()
    size = np.array([[len(text.encode()) for text in row] for row in choices])

    def respond(lm: Model, asked: list) -> np.ndarray:
        user = np.arange(len(asked)) % len(choices)
        keys = _keys(lm, asked, choices, stored=store is not None)

        def make(rows: np.ndarray, keep: Callable) -> None:
            def weighed(i: int, sums: np.ndarray) -> None:
                keep(i, Generation(json.dumps(sums.tolist()), "stop", 0, 0, 0.0))

            lm.choose(
                [asked[row] for row in rows], [choices[user[row]] for row in rows], keep=weighed
            )

        sums = complete(store, keys, make, title=f"asking {lm.id}")["text"].map(json.loads)
        return stored[user, (np.stack(sums[keys]) / size[user]).argmax(axis=1)]

    return respond


def by_generation(study: Study, score: Callable) -> Callable:
    """Serve what the model writes (greedy, as in the paper).

    ``score`` adds to a table ``prompt_text text`` a column of raw rewards for each of
    ``study.models``: `reward_models`, or ``demo.personalllm.score``.
    """
    values = zip(*(np.moveaxis(each, -1, 0) for each in (study.raw, study.rewards)), strict=True)
    slope, shift = np.transpose(
        [np.polyfit(raw.ravel(), scaled.ravel(), 1) for raw, scaled in values]
    )

    def respond(lm: Model, asked: list) -> np.ndarray:
        texts = ask.texts(lm, [chat[0]["content"] for chat in asked], 0.0, 0, TOKENS)
        if failed := texts.count(None):
            raise UserError(
                f"{failed} requests failed; run again: the answers of the others are kept"
            )
        user = np.arange(len(asked)) % len(study.target)
        written = pd.DataFrame({"prompt_text": study.prompts[study.target[user]], "text": texts})
        scores = score(written)[study.models].to_numpy()
        return ((scores * slope + shift) * study.weights[user]).sum(axis=1)

    return respond


def reward_models(study: Study, device: str = "cpu") -> Callable:
    """For `by_generation`: the models of ``users.REWARD_MODELS``
    that the study's rewards come from.
    """
    if unknown := sorted(set(study.models) - set(users.REWARD_MODELS)):
        known = ", ".join(users.REWARD_MODELS)
        raise UserError(
            f"no reward model {unknown[0]!r} to score what is written, only {known}: select instead"
        )
    sources = {name: users.REWARD_MODELS[name] for name in study.models}
    return partial(users.score_responses, models=sources, device=device)


def references(study: Study, seed: int = 0) -> pd.DataFrame:
    """Outcomes without a model, of template "none": what a
    strategy must beat, and what none can.
    """
    stored, each = study.stored(), np.arange(len(study.target))
    scores = {
        "random response": stored[
            each, np.random.default_rng(seed).integers(stored.shape[1], size=len(each))
        ],
        "reference": stored[:, study.reference],
        "population's favourite": stored[each, favourites(study, study.target)[0]],
        "best of 8": stored.max(axis=1),
    }
    return pd.concat(
        [_outcomes(study, got, name, 0, "none") for name, got in scores.items()], ignore_index=True
    )


def _outcomes(study: Study, scores: np.ndarray, *cell: str | int) -> pd.DataFrame:
    """``user prompt``, ``METRICS``, ``CELL`` and the ``unit`` of rewards; a
    tie with the reference is no win, as in the paper.
    """
    stored = study.stored()
    values = np.array(
        [scores, scores > stored[:, study.reference], scores >= stored.max(axis=1)], dtype=float
    )
    columns = {"user": np.arange(len(scores)), "prompt": study.target} | dict(
        zip(METRICS, values, strict=True)
    )
    return pd.DataFrame(columns | dict(zip(CELL, cell, strict=True)) | {"unit": study.unit})


def summarise(results: pd.DataFrame, **how) -> pd.DataFrame:
    """Means of all cells: `results` with the keys ``strategy shots control template``.

    ``how`` holds ``n_bootstrap level seed`` of ``gap.How``. Intervals resample test prompts, and
    with each the users that it was dealt to: users alone, where there are no more users than
    prompts.
    """
    table = results.melt([*CELL, "user", "prompt"], METRICS, "metric")
    table["control"] = (
        table["arm"].where(table["shots"] > 0, "none").mask(table["arm"].isin(STRATEGIES), "own")
    )
    table["strategy"] = table["arm"].where(
        table["shots"] == 0, table["arm"].map(STRATEGIES).fillna("winning")
    )
    columns = ["strategy", "shots", "control", "template", "metric"]
    return gap.means(table, "value", columns, unit=results["unit"].iloc[0], cluster="prompt", **how)


def compare(
    results: pd.DataFrame, of: Sequence[str], against: Sequence[str], **how
) -> pd.DataFrame:
    """Differences between arms, paired by user, of like shots and
    template; ``how`` as in `summarise`.

    Arms without examples stand against every number of shots.

    `results`, with the keys ``contrast shots template``; ``n`` counts users, ``p_adjusted``
    corrects over the contrasts of one metric, number of shots and template.
    """
    wide = results.pivot(index=["user", "prompt"], columns=CELL, values=METRICS)
    cells = results[CELL].drop_duplicates()
    pairs = cells[cells["arm"].isin(of)].merge(
        cells[cells["arm"].isin(against)], how="cross", suffixes=("", "_b")
    )
    pairs = pairs.query(
        "(shots_b == shots or shots_b == 0) and (template_b == template or template_b == 'none')"
    )
    pairs.insert(0, "contrast", pairs["arm"] + " − " + pairs["arm_b"])
    sides = [
        pd.MultiIndex.from_frame(pairs[[f"{name}{end}" for name in CELL]]) for end in ("", "_b")
    ]
    drawn = resample(wide.index, cluster="prompt", **how)
    tables = []
    for metric in METRICS:
        values = drawn.totals(np.subtract(*(wide[metric][side].to_numpy() for side in sides)))
        values /= drawn.totals(np.ones((len(wide), 1)))
        unit = results["unit"].iloc[0] if metric == "persona_reward" else "share"
        found = pairs[["contrast", *CELL[1:]]].assign(
            metric=metric, unit=unit, **drawn.tested(values)
        )
        tables.append(found)
    table = result(pd.concat(tables), ["contrast", *CELL[1:]], n=len(wide), method=drawn.method)
    return corrected(table, ["metric", "shots", "template"])


def by_database(
    results: pd.DataFrame, study: Study, seed: int = 0, **how
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`summarise` and `compare` of users who were served from several
    databases, with a further key, ``users``.

    ``results`` is of `serve` with ``neighbour_arms``, and has ``users``, the size of the database.
    Similar users are held against everything else, and the own history against the one drawn as in
    the authors' code (P7).
    """
    against = ["zero_shot", "random users", "own history", "oracle users", "population's favourite"]
    means, paired = [], []
    for size, served in results.groupby("users"):
        both = pd.concat([served.drop(columns="users"), references(study, seed)])
        means.append(summarise(both, seed=seed, **how).assign(users=size))
        for pair in (
            (["similar by difference"], against),
            (["own history"], ["own history as coded"]),
        ):
            paired.append(compare(both, *pair, seed=seed, **how).assign(users=size))
    keys = ["users", "strategy", "shots", "control", "template"]
    return result(pd.concat(means), keys), result(
        pd.concat(paired), ["users", "contrast", "shots", "template"]
    )
