"""What users get from a model that sees examples: rewards, win rates, and paired differences with intervals."""

import json
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests
from tqdm.auto import tqdm

from personagap import attributes, gap, users
from personagap.adaptation.icl import STRATEGIES, Examples, Study, chats, favourites, without_template
from personagap.demo import personalllm
from personagap.errors import UserError
from personagap.gap.resampling import resample
from personagap.responses import ANSWER_COLUMNS, ResponseStore, digest

CELL = ["arm", "shots", "template"]
#: Mean reward in the user's eyes; share better served than by the reference; share served as well as by the best of 8.
METRICS = ["persona_reward", "win_rate_vs_reference", "win_rate_vs_best"]
#: Requests per batch: what a kill can lose.
BATCH = 256


def serve(
    lm, study: Study, arms: dict[str, Examples], respond: Callable, shots: Sequence[int], templates: Sequence[str]
) -> pd.DataFrame:
    """What users get from ``lm`` after each arm's examples: ``user prompt`` `METRICS` ``arm shots template``.

    Parameters
    ----------
    arms : of ``source_arms`` or ``neighbour_arms``.
    respond : `by_selection` or `by_generation`.
    shots : numbers of examples; 0 is the arm "zero_shot".
    templates : "chat" (the model's) and "plain" (none, as in the authors' code, T8).
    """
    cells = [("zero_shot", 0)] * (0 in shots) + list(product(arms, [k for k in shots if k]))
    tables = []
    for template, (arm, k) in tqdm(list(product(templates, cells)), desc=f"asking {lm.id}", unit="arm", disable=None):
        reader = lm if template == "chat" else without_template(lm)
        got = respond(reader, chats(study, arm, arms.get(arm), k))
        tables.append(_outcomes(study, got).assign(arm=arm, shots=k, template=template))
    return pd.concat(tables, ignore_index=True)


def by_selection(study: Study, store: ResponseStore | None) -> Callable:
    """Serve the stored response that the model finds likeliest per byte; needs no reward model.

    Per byte, because a sum over tokens picks the shortest and a mean per token depends on the tokenizer (as
    ``acc_norm`` of lm-evaluation-harness). ``store`` keeps likelihoods, so that an interrupted run resumes.
    """
    choices, stored = study.responses[study.target].tolist(), study.stored()
    size = np.array([[len(text.encode()) for text in row] for row in choices])

    def respond(lm, asked: list) -> np.ndarray:
        requests = zip(asked, choices, strict=True)
        keys = [digest("choose", lm.id, lm.revision, lm.render(chat), texts) for chat, texts in requests]
        known = {} if store is None else store.get(pd.Index(keys).unique())["text"].map(json.loads).to_dict()
        missing = [*{key: row for row, key in enumerate(keys) if key not in known}.values()]
        for start in range(0, len(missing), BATCH):
            rows = missing[start : start + BATCH]
            sums = lm.choose([asked[row] for row in rows], [choices[row] for row in rows])
            new = {keys[row]: each.tolist() for row, each in zip(rows, sums, strict=True)}
            known |= new
            if store is not None:
                answers = [(json.dumps(each), "stop", 0, 0, 0.0) for each in new.values()]
                store.add(pd.DataFrame(answers, columns=ANSWER_COLUMNS, index=pd.Index(new, name="key")))
        if store is not None:
            store.compact()
        return stored[np.arange(len(keys)), (np.array([known[key] for key in keys]) / size).argmax(axis=1)]

    return respond


def by_generation(study: Study, max_tokens: int = 512) -> Callable:
    """Serve what the model writes (greedy, as in the paper), scored by the reward models of ``study``.

    Those of the demo read the text alone; others are the paper's (``users.score_responses``).
    """
    values = zip(*(np.moveaxis(each, -1, 0) for each in (study.raw, study.rewards)), strict=True)
    slope, shift = np.transpose([np.polyfit(raw.ravel(), scaled.ravel(), 1) for raw, scaled in values])

    def respond(lm, asked: list) -> np.ndarray:
        texts = attributes.answers(lm, [chat[0]["content"] for chat in asked], 0.0, 0, max_tokens)
        if failed := texts.count(None):
            raise UserError(f"{failed} requests failed; run again: the answers of the others are kept")
        if set(study.models) <= set(personalllm.REWARDS):
            read = [text.strip() or "-" for text in texts]  # they count per word
            scores = np.array([[personalllm.reward(text, name) for name in study.models] for text in read])
        else:
            written = pd.DataFrame({"prompt_text": study.prompts[study.target], "text": texts})
            scores = users.score_responses(written, dict.fromkeys(study.models))[study.models].to_numpy()
        return ((scores * slope + shift) * study.weights).sum(axis=1)

    return respond


def references(study: Study, seed: int = 0) -> pd.DataFrame:
    """Outcomes without a model, of template "none": what a strategy must beat, and what none can."""
    stored, each = study.stored(), np.arange(len(study.target))
    scores = {
        "random response": stored[each, np.random.default_rng(seed).integers(stored.shape[1], size=len(each))],
        "reference": stored[:, study.reference],
        "population's favourite": stored[each, favourites(study, study.target)[0]],
        "best of 8": stored.max(axis=1),
    }
    tables = [_outcomes(study, got).assign(arm=name, shots=0, template="none") for name, got in scores.items()]
    return pd.concat(tables, ignore_index=True)


def _outcomes(study: Study, scores: np.ndarray) -> pd.DataFrame:
    """``user prompt`` and ``METRICS``; a tie with the reference is no win, as in the paper."""
    stored = study.stored()
    values = [scores, scores > stored[:, study.reference], scores >= stored.max(axis=1)]
    index = {"user": np.arange(len(scores)), "prompt": study.target}
    return pd.DataFrame(index | dict(zip(METRICS, np.array(values, dtype=float), strict=True)))


def summarise(results: pd.DataFrame, **how) -> pd.DataFrame:
    """Means of all cells: ``strategy shots control metric value ci_low ci_high template n``.

    ``how`` holds ``n_bootstrap level seed`` of ``gap.How``. Intervals resample test prompts, and with each the users
    that it was dealt to: users alone, where there are no more users than prompts.
    """
    table = results.melt([*CELL, "user", "prompt"], METRICS, "metric")
    table["control"] = table["arm"].where(table["shots"] > 0, "none").mask(table["arm"].isin(STRATEGIES), "own")
    table["strategy"] = table["arm"].where(table["shots"] == 0, table["arm"].map(STRATEGIES).fillna("winning"))
    columns = ["strategy", "shots", "control", "metric", "template"]
    means = gap.means(table, "value", columns, cluster="prompt", **how).rename(columns={"estimate": "value"})
    return means[[*columns[:4], "value", "ci_low", "ci_high", "template", "n"]]


def compare(results: pd.DataFrame, of: Sequence[str], against: Sequence[str], **how) -> pd.DataFrame:
    """Differences between arms, paired by user, of like shots and template; ``how`` as in `summarise`.

    Arms without examples stand against every number of shots.

    Returns
    -------
    DataFrame ``contrast shots template metric estimate ci_low ci_high p_value p_holm n_users``; ``p_holm`` corrects
    over the comparisons of one metric.
    """
    wide = results.pivot(index=["user", "prompt"], columns=CELL, values=METRICS)
    cells = results[CELL].drop_duplicates()
    pairs = cells[cells["arm"].isin(of)].merge(cells[cells["arm"].isin(against)], how="cross", suffixes=("", "_b"))
    like = (pairs["shots_b"] == pairs["shots"]) | (pairs["shots_b"] == 0)
    pairs = pairs[like & ((pairs["template_b"] == pairs["template"]) | (pairs["template_b"] == "none"))]
    pairs.insert(0, "contrast", pairs["arm"] + " − " + pairs["arm_b"])
    sides = [pd.MultiIndex.from_frame(pairs[[f"{name}{end}" for name in CELL]]) for end in ("", "_b")]
    drawn = resample(wide.index, cluster="prompt", **how)
    tables = []
    for metric in METRICS:
        values = drawn.totals(np.subtract(*(wide[metric][side].to_numpy() for side in sides)))
        values /= drawn.totals(np.ones((len(wide), 1)))
        (low, high), p = drawn.interval(values), drawn.p_value(values)
        found = {"metric": metric, "estimate": values[0], "ci_low": low, "ci_high": high, "p_value": p}
        holm = multipletests(p, method="holm")[1]
        tables.append(pairs[["contrast", "shots", "template"]].assign(**found, p_holm=holm, n_users=len(wide)))
    return pd.concat(tables, ignore_index=True)
