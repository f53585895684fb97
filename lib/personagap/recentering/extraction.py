"""Attributes of users: a model extracts them from conversations, verifies and refines them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics.pairwise import cosine_similarity

from personagap import ask, gap, pricing, prompts
from personagap.embeddings import embed
from personagap.errors import UserError
from personagap.models import Model
from personagap.recentering.reading import (
    as_number,
    lower_keys,
    read_list,
    read_object,
    read_rating,
)
from personagap.results import add_holm, require_columns

#: Self-reported confidence below which an attribute is dropped; arXiv 2606.06614 says 0.4, but its
#: data contain values down to 0.30 (R20).
CONFIDENCE = 0.4
#: Cosine similarity from which two attributes are considered the same.
SAME = 0.7
#: Maximum characters of a history in a prompt, as in the authors' evidence locator.
LONGEST = 80_000
PROBLEMS = ["no answer", "invalid JSON", "empty list", "missing field", "wrong scale"]
PROBLEMS += ["repeated attribute"]
FAILURES = ("overgeneralization", "missing evidence", "task-context confusion", "not standalone")
#: Labels of attributes that people do not accept.
PROBLEMATIC = ["uncertain", "rejected"]
#: Step → temperature, as in the paper; other steps use 0.
TEMPERATURES = {"extract": 0.8}


def contrasts(judgments: pd.DataFrame) -> pd.DataFrame:
    """Compare how often attributes of real and of synthetic histories are problematic.

    Parameters
    ----------
    judgments : of people, ``source user label dataset``, and the ``turns`` of the history.

    Returns
    -------
    ``gap.proportion_difference`` from all synthetic histories, then from those of each synthetic
    data set; last, if the length of every history is known, ``gap.adjusted_difference`` at equal
    log2 of the turns (R13). ``p_adjusted`` corrects over all of these.
    """
    require_columns(judgments, "judgments", "source", "user", "label", "dataset", "turns")
    synthetic = judgments["source"] == "synthetic"
    by_dataset = judgments.assign(source=judgments["dataset"].where(synthetic, "real"))
    names = sorted(set(judgments["dataset"][synthetic]))
    # Also each benchmark separately, as one of them alone could cause the difference (R13).
    tables = [gap.proportion_difference(judgments, PROBLEMATIC)]
    tables += [gap.proportion_difference(by_dataset, PROBLEMATIC, b=name) for name in names]
    # 0 turns mark a history that was not stored; the stored ones alone would be another sample.
    if judgments["turns"].min() > 0:
        with_length = judgments.assign(log2_turns=np.log2(judgments["turns"]))
        tables.append(gap.adjusted_difference(with_length, PROBLEMATIC, ["log2_turns"]))
    return add_holm(pd.concat(tables, ignore_index=True).assign(metric="problematic"), ["metric"])


def extract(
    lm: Model, histories: pd.DataFrame, *, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Let a model extract the attributes of a user from each conversation (``user text``).

    Returns
    -------
    attributes : ``user attribute reason confidence``, in order, unfiltered.
    outputs : one row per output and kind of problem, ``step user problem hit``.
    """
    parsed = [parse_attributes(text) for text in _texts(lm, "extract", histories, seed=seed)]
    rows: list[dict] = []
    for user, (attributes, _) in zip(histories["user"], parsed, strict=True):
        rows += [{"user": user} | attribute for attribute in attributes]
    table = pd.DataFrame(rows, columns=["user", "attribute", "reason", "confidence"])
    return table, _outputs("extract", histories["user"], [problems for _, problems in parsed])


def parse_attributes(text: str | None) -> tuple[list[dict], set[str]]:
    """Return the attributes in an output that have none of ``PROBLEMS``, and its set of problems.

    Examples
    --------
    >>> parse_attributes('Sure: [{"attribute": "The user bakes.", "reason": "", "confidence": 80}]')
    ([], {'wrong scale'})
    """
    value = read_list(text)
    if not value:
        unreadable = "no answer" if text is None else "invalid JSON"
        return [], {unreadable if value is None else "empty list"}
    valid, problems = {}, set()
    for element in value:
        item = lower_keys(element) if isinstance(element, dict) else {}
        attribute, confidence = item.get("attribute"), as_number(item.get("confidence"))
        attribute = attribute.strip() if isinstance(attribute, str) else ""
        # Malformed attributes are dropped and counted by kind rather than repaired, as nobody knows
        # what, say, a confidence of 8 means.
        if not attribute or confidence is None:
            problems.add("missing field")
        elif not 0 <= confidence <= 1:
            problems.add("wrong scale")
        # A repeated text would count twice in the user's profile.
        elif attribute in valid:
            problems.add("repeated attribute")
        else:
            reason = str(item.get("reason") or "")
            valid[attribute] = {"attribute": attribute, "reason": reason, "confidence": confidence}
    return list(valid.values()), problems


def merge(found: pd.DataFrame, embeddings: str | None = None) -> pd.DataFrame:
    """Keep one of those attributes of a user that say the same, and number them as ``item``.

    Agglomerative clustering of the embeddings is cut at cosine ``SAME``; each cluster is
    represented by the member nearest to its confidence-weighted centroid (arXiv 2606.06614, which
    does not state the linkage or the embedding; here: average linkage).
    """
    if found.empty:
        # No attributes at all, as from a model too weak for the task.
        return found.assign(item="")
    vectors, kept = embed(found["attribute"].tolist(), embeddings), []
    same = AgglomerativeClustering(
        n_clusters=None, distance_threshold=1 - SAME, metric="cosine", linkage="average"
    )
    for places in found.groupby("user", sort=False).indices.values():
        # Clustered for each user separately; scikit-learn raises on a single vector.
        labels = same.fit_predict(vectors[places]) if len(places) > 1 else np.zeros(1)
        for label in dict.fromkeys(labels):
            members = places[labels == label]
            centroid = found["confidence"].to_numpy()[members] @ vectors[members]
            # Rounded so that the first of equally near members is kept: the last digits differ
            # between machines.
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
    items : with ``label`` ("accepted", "rejected", NaN if unreadable) and ``failure`` (one of
        ``FAILURES``, or "").
    outputs : as in `extract`.
    """
    texts = _texts(lm, "verify", items, histories, seed)
    answers = [read_object(text, "problem") or {} for text in texts]
    # Compared as strings, since some models put the Boolean in quotes.
    meanings = {"true": "rejected", "false": "accepted"}
    labels = [meanings.get(str(answer.get("problem")).lower()) for answer in answers]
    # An unknown name of a failure is dropped, but the rejection remains valid.
    names = {_spelling(failure): failure for failure in FAILURES}
    failures = [names.get(_spelling(answer.get("failure")), "") for answer in answers]
    kinds = ["no answer" if text is None else "invalid JSON" for text in texts]
    problems = [set() if label else {kind} for label, kind in zip(labels, kinds, strict=True)]
    outputs = _outputs("verify", items["user"], problems, PROBLEMS[:2])
    return items.assign(label=labels, failure=failures), outputs


def _spelling(name: object) -> str:
    return str(name).lower().replace("-", " ").replace("_", " ").strip()


def refine(
    lm: Model, flagged: pd.DataFrame, histories: pd.DataFrame, *, seed: int = 0
) -> tuple[pd.Series, pd.DataFrame]:
    """Let a model revise flagged attributes: new texts with the index of ``flagged`` (None: the
    attribute is dropped), and outputs as in `extract`.
    """
    parsed = [parse_attributes(text) for text in _texts(lm, "refine", flagged, histories, seed)]
    texts = [valid[0]["attribute"] if valid else None for valid, _ in parsed]
    # Here an empty list is a valid answer: the attribute should be dropped.
    kinds = [kind for kind in PROBLEMS if kind != "empty list"]
    outputs = _outputs("refine", flagged["user"], [problems for _, problems in parsed], kinds)
    return pd.Series(texts, flagged.index, dtype=object), outputs


def rate(lm: Model, pairs: pd.DataFrame, *, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Let a model judge responses as people did, 1–5 per attribute; the order alternates (R11).

    Parameters
    ----------
    pairs : items of the stage "response" from ``datasets.load_judgments``.

    Returns
    -------
    judgments : those that could be read; above 3 the personalized response is better.
    outputs : as in `extract`.
    """
    first = _personalized_first(pairs)
    values = [read_rating(text) for text in _texts(lm, "rate", pairs, seed=seed)]
    rating = pd.Series([value if value in range(1, 6) else np.nan for value in values], pairs.index)
    kinds = ["invalid JSON" if value is None else "wrong scale" for value in values]
    problems = [{kind} if lost else set() for kind, lost in zip(kinds, rating.isna(), strict=True)]
    table = pairs[["stage", "source", "user", "prompt", "item"]].assign(
        rater=lm.id,
        rater_kind="model",
        # The prompt asks for a rating of the second response.
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
    """Price the requests of ``steps`` (step → table, as in `requests`) without sending any.

    Rows are like those of ``pricing.of_answers``. The prompts of "refine" contain the failures that
    "verify" finds, so until these are known no request of "refine" counts as stored.
    """
    prices = {}
    for step, table in steps.items():
        texts = requests(step, table, histories)
        prices[step] = pricing.of_texts(lm, texts, TEMPERATURES.get(step, 0.0), seed)
    return pd.concat(prices, names=["step"]).droplevel(1).reset_index()


def _outputs(
    step: str, users: pd.Series, problems: list[set[str]], kinds: Sequence[str] = PROBLEMS
) -> pd.DataFrame:
    """Return the outputs of `extract` from the ``problems`` of each output."""
    hits = {kind: [kind in found for found in problems] for kind in kinds}
    table = pd.DataFrame(hits).assign(step=step, user=[*users])
    return table.melt(["step", "user"], var_name="problem", value_name="hit")


def requests(step: str, table: pd.DataFrame, histories: pd.DataFrame | None = None) -> list[str]:
    """Return the prompts of a step; ``table`` holds histories for "extract", items for "verify" and
    "refine", and pairs for "rate".
    """
    if step == "extract":
        fields = table[["text"]].set_axis(["conversation"], axis=1)
    elif step == "rate":
        first = _personalized_first(table)
        fields = table[["attribute"]].assign(
            prompt=table["prompt_text"],
            first=table["personalized"].where(first, table["generic"]),
            second=table["generic"].where(first, table["personalized"]),
        )
    else:
        assert histories is not None, f"{step} shows the conversations: give the histories"
        # All of a user's conversations, or an attribute supported by another conversation would be
        # rejected for missing evidence (R12).
        history = join_histories(histories, table["user"], "\n\n").str[:LONGEST]
        fields = table.reindex(columns=["attribute", "reason", "failure"], fill_value="")
        fields = fields.astype("str").assign(conversation=history[table["user"]].to_numpy())
    return [prompts.fill(prompts.template(step), **row) for row in fields.to_dict("records")]


def join_histories(histories: pd.DataFrame, users: pd.Series, separator: str) -> pd.Series:
    """Join each user's conversations into one text; `UserError` if one of ``users`` has none."""
    texts = histories.groupby("user", sort=False)["text"].agg(separator.join)
    for user in users[~users.isin(texts.index)].head(1):
        raise UserError(f"no conversations of user {user!r}: add them, or leave its attributes out")
    return texts


def _personalized_first(pairs: pd.DataFrame) -> pd.Series:
    """Return whether the personalized response comes first. The order alternates, so that a judge's
    position bias is not mistaken for a preference for personalization.
    """
    return pd.Series(np.arange(len(pairs)) % 2 == 1, pairs.index)


def _texts(
    lm: Model, step: str, table: pd.DataFrame, histories: pd.DataFrame | None = None, seed: int = 0
) -> list[str | None]:
    return ask.texts(lm, requests(step, table, histories), TEMPERATURES.get(step, 0.0), seed)
