"""Attributes of users from their conversations: extract, merge,
verify, refine; and what that costs in substance.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Unpack

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics.pairwise import cosine_similarity

from personagap import ask, gap, pricing, prompts
from personagap.embeddings import embed
from personagap.models import Model
from personagap.results import corrected

#: Self-reported confidence below which an attribute is dropped; arXiv
#: 2606.06614 says 0.4, its data go to 0.30 (R20).
CONFIDENCE = 0.4
#: Attributes at least this alike (cosine) are one.
SAME = 0.7
#: Characters of a history that a model is shown at once, as in the authors' evidence locator.
LONGEST = 80_000
PROBLEMS = (
    "no answer",
    "invalid JSON",
    "empty list",
    "missing field",
    "wrong scale",
    "repeated attribute",
)
FAILURES = ("overgeneralization", "missing evidence", "task-context confusion", "not standalone")
#: Labels of attributes that do not hold.
PROBLEMATIC = ["uncertain", "rejected"]
HEDGES = r"\b(?:may|might|could|likely|possibly|possible|perhaps|probably|maybe|seems?)\b"
HEDGE = "It is possible that "
#: Of steps that are not asked at 0.
TEMPERATURES = {"extract": 0.8}


def contrasts(judgments: pd.DataFrame) -> pd.DataFrame:
    """Are attributes of real histories more often problematic than those of synthetic ones?

    Parameters
    ----------
    judgments : of people, ``source user label``, with the ``dataset`` and the number of ``turns``
        of the history.

    Returns
    -------
    ``gap.proportion_difference`` from all synthetic histories, then from those of each data set;
    last, if the length of every history is known, ``gap.adjusted_difference`` at equal log2 of the
    turns (R13). ``p_adjusted`` corrects over all of them.
    """
    synthetic = judgments["source"] == "synthetic"
    by_dataset = judgments.assign(source=judgments["dataset"].where(synthetic, "real"))
    names = sorted(set(judgments["dataset"][synthetic]))
    tables = [gap.proportion_difference(judgments, PROBLEMATIC)]
    tables += [gap.proportion_difference(by_dataset, PROBLEMATIC, b=name) for name in names]
    if judgments["turns"].min() > 0:
        with_length = judgments.assign(log2_turns=np.log2(judgments["turns"]))
        tables.append(gap.adjusted_difference(with_length, PROBLEMATIC, ["log2_turns"]))
    found = pd.concat(tables, ignore_index=True).assign(metric="problematic")
    return corrected(found, ["metric"])


def extract(
    lm: Model, histories: pd.DataFrame, *, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each conversation (``user text``) says of its user, as
    ``lm`` puts it at the paper's temperature, 0.8.

    Returns
    -------
    found : ``user attribute reason confidence``, in order, unfiltered.
    outputs : one row per output and kind of problem, ``step user problem hit``: nothing is dropped
        uncounted.
    """
    parsed = [parse_attributes(text) for text in _texts(lm, "extract", histories, seed=seed)]
    rows = [
        {"user": user} | one
        for user, (found, _) in zip(histories["user"], parsed, strict=True)
        for one in found
    ]
    found = pd.DataFrame(rows, columns=["user", "attribute", "reason", "confidence"])
    return found, _outputs("extract", histories["user"], [problems for _, problems in parsed])


def parse_attributes(text: str | None) -> tuple[list[dict], set[str]]:
    """Attributes in an output, and which of ``PROBLEMS`` it has;
    what has one is left out of the attributes.

    Examples
    --------
    >>> parse_attributes('Sure: [{"attribute": "The user bakes.", "reason": "", "confidence": 80}]')
    ([], {'wrong scale'})
    """
    value = read_json(text, list)
    if not value:
        return [], {
            "no answer" if text is None else "invalid JSON" if value is None else "empty list"
        }
    found, problems = {}, set()
    for element in value:
        one = element if isinstance(element, dict) else {}
        attribute, confidence = str(one.get("attribute") or "").strip(), one.get("confidence")
        if not attribute or not isinstance(confidence, int | float):
            problems.add("missing field")
        elif not 0 <= confidence <= 1:
            problems.add("wrong scale")
        elif attribute in found:
            problems.add("repeated attribute")
        else:
            reason = str(one.get("reason") or "")
            found[attribute] = {"attribute": attribute, "reason": reason, "confidence": confidence}
    return list(found.values()), problems


def read_json(text: str | None, kind: type):
    """The first JSON value of a kind (list or dict) in an output,
    after any thinking; None if there is none.
    """
    text = re.sub(r"(?s)^.*</think>", "", text or "")
    start = text.find("[" if kind is list else "{")
    try:
        value, _ = json.JSONDecoder().raw_decode(text, max(start, 0))
    except (json.JSONDecodeError, RecursionError):
        return None
    return value if isinstance(value, kind) else None


def merge(found: pd.DataFrame, embeddings: str | None = None) -> pd.DataFrame:
    """One attribute of those of a user that say the same: ``user
    item attribute reason confidence``.

    Agglomerative clustering of the embeddings, cut at cosine ``SAME``; of each cluster the member
    nearest to its confidence-weighted centroid stays (arXiv 2606.06614, which does not state
    linkage or embedding; here: average).
    """
    if found.empty:  # a model that cannot do it
        return found.assign(item="")
    vectors, kept = embed(found["attribute"].tolist(), embeddings), []
    same = AgglomerativeClustering(
        n_clusters=None, distance_threshold=1 - SAME, metric="cosine", linkage="average"
    )
    for places in found.groupby("user", sort=False).indices.values():
        labels = same.fit_predict(vectors[places]) if len(places) > 1 else np.zeros(1)
        for label in dict.fromkeys(labels):
            members = places[labels == label]
            centroid = found["confidence"].to_numpy()[members] @ vectors[members]
            # Of equals, the first.
            nearness = cosine_similarity(vectors[members], centroid[None]).round(4)
            kept.append(members[nearness.argmax()])
    table = found.iloc[kept].reset_index(drop=True)
    table.insert(1, "item", table.groupby("user").cumcount().astype("str"))
    return table


def verify(
    lm: Model, items: pd.DataFrame, histories: pd.DataFrame, *, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ask a model whether each attribute holds, and if not, how it fails.

    Returns
    -------
    items : with ``label`` ("accepted", "rejected", NaN if unreadable) and ``failure`` (of
        ``FAILURES``, or "").
    outputs : as of `extract`.
    """
    texts = _texts(lm, "verify", items, histories, seed)
    values = [read_json(text, dict) or {} for text in texts]
    label = [
        {"True": "rejected", "False": "accepted"}.get(str(value.get("problem"))) for value in values
    ]
    failure = [value.get("failure") if value.get("failure") in FAILURES else "" for value in values]
    broken = ["no answer" if text is None else "invalid JSON" for text in texts]
    problems = [set() if known else {kind} for known, kind in zip(label, broken, strict=True)]
    return items.assign(label=label, failure=failure), _outputs(
        "verify", items["user"], problems, PROBLEMS[:2]
    )


def refine(
    lm: Model, flagged: pd.DataFrame, histories: pd.DataFrame, *, seed: int = 0
) -> tuple[pd.Series, pd.DataFrame]:
    """Send flagged attributes back for revision: their new texts, with the index of ``flagged``
    (None: nothing left to say), and the outputs.
    """
    parsed = [parse_attributes(text) for text in _texts(lm, "refine", flagged, histories, seed)]
    texts = [found[0]["attribute"] if found else None for found, _ in parsed]
    kinds = [kind for kind in PROBLEMS if kind != "empty list"]  # that is an answer here
    outputs = _outputs("refine", flagged["user"], [problems for _, problems in parsed], kinds)
    return pd.Series(texts, flagged.index, dtype=object), outputs


def rate(lm: Model, pairs: pd.DataFrame, *, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Let a model judge responses as people did, 1–5 per
    attribute; which stands second alternates (R11).

    Parameters
    ----------
    pairs : items of the stage "response", of ``datasets.load_judgments``.

    Returns
    -------
    judgments : of what could be read, above 3 where personalized is better.
    outputs : as of `extract`.
    """
    first, answers = (
        _first(pairs),
        [read_json(text, dict) for text in _texts(lm, "rate", pairs, seed=seed)],
    )
    values = [(answer or {"rating": None}).get("rating", 0) for answer in answers]
    problems = [
        {"invalid JSON"} if v is None else set() if v in range(1, 6) else {"wrong scale"}
        for v in values
    ]
    rating = pd.Series(
        [np.nan if bad else value for bad, value in zip(problems, values, strict=True)], pairs.index
    )
    key = pairs[["stage", "source", "user", "prompt", "item"]]
    table = key.assign(
        rater=lm.id,
        rater_kind="model",
        label=rating.mask(first, 6 - rating),
        personalized_first=first,
    )
    return table.dropna(subset="label"), _outputs(
        "rate", pairs["user"], problems, ("invalid JSON", "wrong scale")
    )


def profiles(
    items: pd.DataFrame, refined: pd.Series, histories: pd.DataFrame, embeddings: str | None = None
) -> pd.DataFrame:
    """What becomes of flagged attributes, those in ``refined``, by
    strategy, and how much the profiles still say (R14).

    "hedge flagged" puts "It is possible that" before them: no remedy, but a control that shows what
    a measure of acceptance alone rewards.

    DataFrame ``strategy user item attribute`` (None: dropped) ``hedged identifies covered``.
    ``hedged``: it has a word like "might"; ``identifies``: share of other users whose history it
    fits less well than its own user's (0.5 is chance); ``covered``: something in the new profile is
    alike (cosine ``SAME``) to the original.
    """
    old, flagged = items["attribute"].astype(object), items.index.isin(refined.index)
    changes = {
        "as extracted": old,
        "drop flagged": None,
        "hedge flagged": HEDGE + _in_mid_sentence(old),
    }
    texts = histories.groupby("user", sort=False)["text"].agg("\n".join)
    own, tables = texts.index.get_indexer(items["user"]), []
    for strategy, change in (changes | {"refine flagged": refined}).items():
        new = old.mask(flagged, change)
        kept = new.notna()
        vectors = embed([*texts, *old, *new.fillna("")], embeddings)
        history, before, after = np.split(vectors, [len(texts), len(texts) + len(old)])
        fit = rankdata(after @ history.T, axis=1)[np.arange(len(own)), own]
        alike = (before @ after.T >= SAME) & (own[:, None] == own) & kept.to_numpy()
        table = items[["user", "item"]].assign(strategy=strategy, attribute=new)
        # Not "in May".
        table["hedged"] = _in_mid_sentence(new).str.contains(HEDGES).where(kept).astype(float)
        table["identifies"] = pd.Series((fit - 1) / (len(texts) - 1), new.index).where(kept)
        table["covered"] = alike.any(axis=1)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def compare(
    profiles: pd.DataFrame,
    judgments: pd.DataFrame,
    anew: pd.DataFrame | None = None,
    **how: Unpack[gap.How],
) -> pd.DataFrame:
    """What each strategy gains and what it costs: `results` with the key ``strategy``, shares.

    Parameters
    ----------
    profiles : of `profiles`.
    judgments : of people, ``user item label``, of what was extracted.
    anew : of people, ``strategy user item label``, of what became of it; a strategy nobody judged
        has no acceptance.

    Returns
    -------
    ``accepted`` (judgments of what is kept), ``useful`` (of *all* originals: now accepted by most,
    and unhedged), ``covered`` (of the originals that most accepted), ``identifies``, ``hedged`` and
    ``kept``. What was extracted covers and keeps itself by definition: an interval of width 0.
    """
    key, said = (
        ["strategy", "user", "item"],
        pd.concat([judgments.assign(strategy="as extracted"), anew]),
    )
    share = said.assign(accepted=said["label"] == "accepted").groupby(key)["accepted"].mean()
    table = profiles.join(share, on=key)
    useful = (table["accepted"] > 0.5) & (table["hedged"] == 0)
    wanted = pd.MultiIndex.from_frame(table[key[1:]]).isin(
        share[share > 0.5].xs("as extracted").index
    )
    table["useful"] = useful.where(table["strategy"].isin(said["strategy"]))
    table["covered"] = table["covered"].where(wanted)
    table["kept"] = table["attribute"].notna()
    metrics = ["accepted", "useful", "covered", "identifies", "hedged", "kept"]
    table[metrics] = table[metrics].astype(float)
    long = table.melt(["strategy", "user"], metrics, "metric")
    found = gap.means(long, "value", ["metric", "strategy"], unit="share", **how)
    itself = (found["strategy"] == "as extracted") & found["metric"].isin(["covered", "kept"])
    found.loc[itself & (found["estimate"] == 1), ["ci_low", "ci_high"]] = 1.0
    return found


def cost(
    lm: Model,
    steps: Mapping[str, pd.DataFrame],
    histories: pd.DataFrame | None = None,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """What ``steps``, each with the table of `asked`, would ask: rows as
    of ``pricing.of_answers``; nothing is asked.

    What "verify" finds stands in the prompts of "refine": until it is known, none of these counts
    as stored.
    """
    how = {
        step: (asked(step, table, histories), TEMPERATURES.get(step, 0.0), seed)
        for step, table in steps.items()
    }
    tables = [pricing.of_texts(lm, *each).assign(step=step) for step, each in how.items()]
    return pd.concat(tables)[["step", *tables[0].columns.drop("step")]]


def _in_mid_sentence(texts: pd.Series) -> pd.Series:
    return texts.str[0].str.lower() + texts.str[1:]


def _outputs(
    step: str, users: pd.Series, problems: list[set[str]], kinds: Sequence[str] = PROBLEMS
) -> pd.DataFrame:
    table = pd.DataFrame({name: [name in mine for mine in problems] for name in kinds}).assign(
        step=step, user=[*users]
    )
    return table.melt(["step", "user"], var_name="problem", value_name="hit")


def asked(step: str, table: pd.DataFrame, histories: pd.DataFrame | None = None) -> list[str]:
    """The prompts of a step: "extract" from histories, "verify" or
    "refine" items, "rate" pairs of responses.
    """
    if step == "extract":
        fields = table[["text"]].set_axis(["conversation"], axis=1)
    elif step == "rate":
        first, (personalized, generic) = _first(table), (table["personalized"], table["generic"])
        fields = table[["attribute", "prompt_text"]].set_axis(["attribute", "prompt"], axis=1)
        fields = fields.assign(
            first=personalized.where(first, generic), second=generic.where(first, personalized)
        )
    else:
        assert histories is not None, f"{step} shows the conversations: give the histories"
        history = histories.groupby("user")["text"].agg("\n\n".join).str[:LONGEST]
        fields = table.reindex(columns=["attribute", "reason", "failure"], fill_value="").astype(
            "str"
        )
        fields = fields.assign(conversation=history[table["user"]].to_numpy())
    return [prompts.fill(prompts.template(step), **each) for each in fields.to_dict("records")]


def _first(pairs: pd.DataFrame) -> pd.Series:
    """Whether the personalized response stands first: alternating, so that a judge's liking for a
    place is not one for personalization.
    """
    return pd.Series(np.arange(len(pairs)) % 2 == 1, pairs.index)


def _texts(
    lm: Model, step: str, table: pd.DataFrame, histories: pd.DataFrame | None = None, seed: int = 0
) -> list[str | None]:
    return ask.texts(lm, asked(step, table, histories), TEMPERATURES.get(step, 0.0), seed)
