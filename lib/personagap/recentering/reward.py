"""Learned reward models: do features of a response predict how people rate it, for users nobody
trained on?
"""

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from personagap.embeddings import embed
from personagap.errors import explained
from personagap.gap.tables import UNIT
from personagap.recentering.classifiers import folds
from personagap.segmentation import spaced, word_pattern

#: Ridge penalties to choose from.
PENALTIES = np.logspace(0, 4, 5)
#: Directions of the attributes.
TOPICS = 10
#: Share of an attribute's content words that a response must hold, and the generic one not, to
#: mention it.
MENTION = 0.5


def features(pairs: pd.DataFrame, embeddings: str | None = None) -> pd.DataFrame:
    """Transparent features of pairs of responses, one row each, with the index of ``pairs``.

    Parameters
    ----------
    pairs : ``prompt_text attribute generic personalized``.
    embeddings : a sentence-transformers model; None: TF-IDF.

    Returns
    -------
    DataFrame ``mention`` (0/1: the personalized response newly holds ``MENTION`` of the attribute's
    content words; a lexical stand-in for the paper's GPT-5.4), ``log2_length`` (of the ratio of
    words), ``topical`` (cosine of prompt and attribute), ``gain`` (cosine with the attribute,
    personalized − generic), ``about_0`` … (what the attribute is about: principal directions of its
    embedding).
    """
    columns = ["prompt_text", "attribute", "generic", "personalized"]
    vectors = embed(pd.concat([pairs[column] for column in columns]).tolist(), embeddings)
    prompt, attribute, generic, personalized = np.split(vectors, 4)
    texts = (pairs[column].str.lower() for column in columns[1:])
    content = [text.str.findall(word_pattern(4)).map(set) for text in texts]
    # Words that only the personalized response has: what both say is not personal.
    new = [
        len(about & theirs - before) / max(len(about), 1)
        for about, before, theirs in zip(*content, strict=True)
    ]
    # Personalized responses are longer, and length moves ratings (R17): a feature of its own, so
    # that the others do not stand in for it.
    long, short = (pairs[side].map(spaced).str.split().str.len() for side in columns[:1:-1])
    length = long.clip(lower=1) / short.clip(lower=1)  # an answer may be empty
    table = {
        "mention": (np.array(new) >= MENTION).astype(int),
        "log2_length": np.log2(length),
        "topical": (prompt * attribute).sum(axis=1),
        "gain": ((personalized - generic) * attribute).sum(axis=1),
    }
    # Of few words there are not so many topics.
    topics = min(TOPICS, attribute.shape[1])
    about = TruncatedSVD(topics, random_state=0).fit_transform(attribute)
    table |= {f"about_{i}": column for i, column in enumerate(about.T)}
    return pd.DataFrame(table, index=pairs.index)


def nested_ridge(x: pd.DataFrame, y: np.ndarray, groups: list, seed: int = 0) -> np.ndarray:
    """Out-of-fold predictions (n,) of ridge regression; the penalty is chosen within the training
    folds.

    Outer and inner folds are disjoint in ``groups``: a random split would leak what it knows of a
    user (R7).
    """
    model = make_pipeline(StandardScaler(), Ridge())
    search = GridSearchCV(model, {"ridge__alpha": PENALTIES}, cv=GroupKFold(5))
    outer = PredefinedSplit(folds(groups, seed=seed))
    few = explained("ridge regression by users", "take ratings of seven users or more")
    with few, config_context(enable_metadata_routing=True):
        # Else the search would not learn the groups.
        return cross_val_predict(search, x, y, cv=outer, params={"groups": groups})


def learned(
    pairs: pd.DataFrame, judgments: pd.DataFrame, x: pd.DataFrame, *, seed: int = 0
) -> pd.DataFrame:
    """Judgments of a "learned reward": `nested_ridge` of the mean rating of people, on users it has
    not seen.

    Parameters
    ----------
    pairs : items of the stage "response", of ``datasets.load_judgments``.
    judgments : of people, ``user prompt item label``; pairs without one are left out.
    x : `features` of the pairs.

    Returns
    -------
    DataFrame ``stage source user prompt item rater rater_kind label``, for ``gap``.
    """
    mean = judgments.groupby(["user", "prompt", "item"])["label"].mean().rename("mean")
    rated = pairs.join(mean, on=["user", "prompt", "item"]).dropna(subset="mean")
    mean, users = rated["mean"].to_numpy(), rated["user"].tolist()
    label = nested_ridge(x.loc[rated.index], mean, users, seed=seed)
    return rated[[*UNIT]].assign(rater="learned reward", rater_kind="model", label=label)
