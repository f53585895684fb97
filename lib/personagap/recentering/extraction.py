"""Attributes of users from their conversations: a model extracts, verifies and refines them."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics.pairwise import cosine_similarity

from personagap import ask, gap, pricing, prompts
from personagap.embeddings import embed
from personagap.errors import UserError
from personagap.models import Model
from personagap.models.answers import visible
from personagap.results import corrected, require

#: Self-reported confidence below which an attribute is dropped; arXiv 2606.06614 says 0.4, its data
#: go to 0.30 (R20).
CONFIDENCE = 0.4
#: Attributes at least this alike (cosine) are one.
SAME = 0.7
#: Brackets after which its JSON is looked for in an output.
TRIES = 100
#: Characters of a history that a model is shown at once, as in the authors' evidence locator.
LONGEST = 80_000
PROBLEMS = ["no answer", "invalid JSON", "empty list", "missing field", "wrong scale"]
PROBLEMS += ["repeated attribute"]
FAILURES = ("overgeneralization", "missing evidence", "task-context confusion", "not standalone")
#: Labels of attributes that do not hold.
PROBLEMATIC = ["uncertain", "rejected"]
#: Of steps that are not asked at 0: the paper's.
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
    require(judgments, "judgments", "source", "user", "label", "dataset", "turns")
    synthetic = judgments["source"] == "synthetic"
    by_dataset = judgments.assign(source=judgments["dataset"].where(synthetic, "real"))
    names = sorted(set(judgments["dataset"][synthetic]))
    # Each benchmark by itself as well: one of them, and not that it is synthetic, could make the
    # difference (R13).
    tables = [gap.proportion_difference(judgments, PROBLEMATIC)]
    tables += [gap.proportion_difference(by_dataset, PROBLEMATIC, b=name) for name in names]
    # 0 stands for a history that was not stored; the others alone would be other histories.
    if judgments["turns"].min() > 0:
        with_length = judgments.assign(log2_turns=np.log2(judgments["turns"]))
        tables.append(gap.adjusted_difference(with_length, PROBLEMATIC, ["log2_turns"]))
    return corrected(pd.concat(tables, ignore_index=True).assign(metric="problematic"), ["metric"])


def extract(
    lm: Model, histories: pd.DataFrame, *, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each conversation (``user text``) says of its user, as ``lm`` puts it.

    Returns
    -------
    found : ``user attribute reason confidence``, in order, unfiltered.
    outputs : one row per output and kind of problem, ``step user problem hit``: nothing is dropped
        uncounted.
    """
    parsed = [parse_attributes(text) for text in _texts(lm, "extract", histories, seed=seed)]
    rows: list[dict] = []
    for user, (found, _) in zip(histories["user"], parsed, strict=True):
        rows += [{"user": user} | one for one in found]
    table = pd.DataFrame(rows, columns=["user", "attribute", "reason", "confidence"])
    return table, _outputs("extract", histories["user"], [problems for _, problems in parsed])


def parse_attributes(text: str | None) -> tuple[list[dict], set[str]]:
    """Attributes in an output, but those with one of ``PROBLEMS``, and which of these it has.

    Examples
    --------
    >>> parse_attributes('Sure: [{"attribute": "The user bakes.", "reason": "", "confidence": 80}]')
    ([], {'wrong scale'})
    """
    value = read_json(text, list)
    if not value:
        unread = "no answer" if text is None else "invalid JSON"
        return [], {unread if value is None else "empty list"}
    found, problems = {}, set()
    for element in value:
        one = element if isinstance(element, dict) else {}
        attribute, confidence = str(one.get("attribute") or "").strip(), one.get("confidence")
        # What breaks the format is dropped and counted by kind, and not mended: nobody can tell
        # what a confidence of 8 stands for.
        if not attribute or not isinstance(confidence, int | float):
            problems.add("missing field")
        elif not 0 <= confidence <= 1:
            problems.add("wrong scale")
        # A text that is given twice would count twice in the user's profile.
        elif attribute in found:
            problems.add("repeated attribute")
        else:
            reason = str(one.get("reason") or "")
            found[attribute] = {"attribute": attribute, "reason": reason, "confidence": confidence}
    return list(found.values()), problems


def read_json(text: str | None, kind: type):
    """The first JSON list or dict (``kind``) in an output, after any thinking, or None."""
    # A thought may hold drafts of the list: only what the user sees is the answer.
    text = visible(text or "")
    # Whatever is said before and after it: fences, "The list [as asked]:", a closing remark.
    at, mark = 0, "[" if kind is list else "{"
    for _ in range(TRIES):
        if (start := text.find(mark, at)) < 0:
            break
        try:
            return json.JSONDecoder().raw_decode(text, start)[0]
        except json.JSONDecodeError as error:
            # Not within what was begun there: of a list that is cut off no part is the list.
            at = max(error.pos, start + 1)
        except RecursionError:
            break
    return None


def merge(found: pd.DataFrame, embeddings: str | None = None) -> pd.DataFrame:
    """One attribute of those of a user that say the same, numbered as ``item``.

    Agglomerative clustering of the embeddings, cut at cosine ``SAME``; of each cluster the member
    nearest to its confidence-weighted centroid stays (arXiv 2606.06614, which does not state
    linkage or embedding; here: average).
    """
    if found.empty:
        # A model that cannot do it has found nothing.
        return found.assign(item="")
    vectors, kept = embed(found["attribute"].tolist(), embeddings), []
    same = AgglomerativeClustering(
        n_clusters=None, distance_threshold=1 - SAME, metric="cosine", linkage="average"
    )
    for places in found.groupby("user", sort=False).indices.values():
        # A user's own attributes only; and clustering refuses a single one.
        labels = same.fit_predict(vectors[places]) if len(places) > 1 else np.zeros(1)
        for label in dict.fromkeys(labels):
            members = places[labels == label]
            centroid = found["confidence"].to_numpy()[members] @ vectors[members]
            # Of equals, the first: rounded, or the last digits, which differ between machines,
            # decide.
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
    # As texts, since some models put the word in quotes.
    means = {"True": "rejected", "False": "accepted"}
    label = [means.get(str(value.get("problem"))) for value in values]
    # A failure of another name is none of the four kinds, but the rejection stands.
    failure = [value.get("failure") if value.get("failure") in FAILURES else "" for value in values]
    broken = ["no answer" if text is None else "invalid JSON" for text in texts]
    problems = [set() if known else {kind} for known, kind in zip(label, broken, strict=True)]
    outputs = _outputs("verify", items["user"], problems, PROBLEMS[:2])
    return items.assign(label=label, failure=failure), outputs


def refine(
    lm: Model, flagged: pd.DataFrame, histories: pd.DataFrame, *, seed: int = 0
) -> tuple[pd.Series, pd.DataFrame]:
    """Send flagged attributes back for revision: their new texts, with the index of ``flagged``
    (None: nothing left to say), and the outputs.
    """
    parsed = [parse_attributes(text) for text in _texts(lm, "refine", flagged, histories, seed)]
    texts = [found[0]["attribute"] if found else None for found, _ in parsed]
    # An empty list is an answer here: nothing is left to say.
    kinds = [kind for kind in PROBLEMS if kind != "empty list"]
    outputs = _outputs("refine", flagged["user"], [problems for _, problems in parsed], kinds)
    return pd.Series(texts, flagged.index, dtype=object), outputs


def rate(lm: Model, pairs: pd.DataFrame, *, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Let a model judge responses as people did, 1–5 per attribute; the order alternates (R11).

    Parameters
    ----------
    pairs : items of the stage "response", of ``datasets.load_judgments``.

    Returns
    -------
    judgments : of what could be read, above 3 where personalized is better.
    outputs : as of `extract`.
    """
    first = _first(pairs)
    answers = [read_json(text, dict) for text in _texts(lm, "rate", pairs, seed=seed)]
    # None: no object to read. An object without a rating has none on the scale.
    values = [(answer or {"rating": None}).get("rating", 0) for answer in answers]
    rating = pd.Series([value if value in range(1, 6) else np.nan for value in values], pairs.index)
    wrong = ["invalid JSON" if value is None else "wrong scale" for value in values]
    problems = [{kind} if lost else set() for kind, lost in zip(wrong, rating.isna(), strict=True)]
    table = pairs[["stage", "source", "user", "prompt", "item"]].assign(
        rater=lm.id,
        rater_kind="model",
        # A rating is of the second response, as the prompt asks.
        label=rating.mask(first, 6 - rating),
        personalized_first=first,
    )
    outputs = _outputs("rate", pairs["user"], problems, ("invalid JSON", "wrong scale"))
    return table.dropna(subset="label"), outputs


def cost(
    lm: Model,
    steps: Mapping[str, pd.DataFrame],
    histories: pd.DataFrame | None = None,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """What ``steps``, each with the table of `asked`, would ask; nothing is asked.

    Rows are as of ``pricing.of_answers``.

    What "verify" finds stands in the prompts of "refine": until it is known, none of these counts
    as stored.
    """
    prices = {}
    for step, table in steps.items():
        texts = asked(step, table, histories)
        prices[step] = pricing.of_texts(lm, texts, TEMPERATURES.get(step, 0.0), seed)
    return pd.concat(prices, names=["step"]).droplevel(1).reset_index()


def _outputs(
    step: str, users: pd.Series, problems: list[set[str]], kinds: Sequence[str] = PROBLEMS
) -> pd.DataFrame:
    """One row per output and kind of problem, as `extract` returns."""
    hits = {name: [name in mine for mine in problems] for name in kinds}
    table = pd.DataFrame(hits).assign(step=step, user=[*users])
    return table.melt(["step", "user"], var_name="problem", value_name="hit")


def asked(step: str, table: pd.DataFrame, histories: pd.DataFrame | None = None) -> list[str]:
    """The prompts of a step: "extract" histories, "verify" or "refine" items, "rate" pairs."""
    if step == "extract":
        fields = table[["text"]].set_axis(["conversation"], axis=1)
    elif step == "rate":
        first, personalized, generic = _first(table), table["personalized"], table["generic"]
        fields = table[["attribute"]].assign(
            prompt=table["prompt_text"],
            first=personalized.where(first, generic),
            second=generic.where(first, personalized),
        )
    else:
        assert histories is not None, f"{step} shows the conversations: give the histories"
        # All of a user's conversations: an attribute that is supported elsewhere would be rejected
        # for missing evidence (R12).
        history = whole(histories, table["user"], "\n\n").str[:LONGEST]
        fields = table.reindex(columns=["attribute", "reason", "failure"], fill_value="")
        fields = fields.astype("str").assign(conversation=history[table["user"]].to_numpy())
    return [prompts.fill(prompts.template(step), **each) for each in fields.to_dict("records")]


def whole(histories: pd.DataFrame, users: pd.Series, between: str) -> pd.Series:
    """Each user's conversations in one text; `UserError` where one of ``users`` has none."""
    texts = histories.groupby("user", sort=False)["text"].agg(between.join)
    for user in users[~users.isin(texts.index)].head(1):
        raise UserError(f"no conversations of user {user!r}: add them, or leave its attributes out")
    return texts


def _first(pairs: pd.DataFrame) -> pd.Series:
    """Whether the personalized response stands first: alternating, so that a judge's liking for a
    place is not one for personalization.
    """
    return pd.Series(np.arange(len(pairs)) % 2 == 1, pairs.index)


def _texts(
    lm: Model, step: str, table: pd.DataFrame, histories: pd.DataFrame | None = None, seed: int = 0
) -> list[str | None]:
    return ask.texts(lm, asked(step, table, histories), TEMPERATURES.get(step, 0.0), seed)
