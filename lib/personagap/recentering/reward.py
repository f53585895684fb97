"""Learned reward models: ridge regressions that predict from features of a response how people rate
it, for users who are not in the training data.
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
#: Principal directions of the embeddings of attributes that are features.
TOPICS = 10
#: Share of an attribute's content words that a response must have, and the generic one must lack,
#: to mention the attribute.
MENTION = 0.5


def features(pairs: pd.DataFrame, embeddings: str | None = None) -> pd.DataFrame:
    """Compute interpretable features of pairs of responses, one row each, with the index of
    ``pairs``.

    Parameters
    ----------
    pairs : ``prompt_text attribute generic personalized``.
    embeddings : a sentence-transformers model; None: TF-IDF.

    Returns
    -------
    DataFrame ``mention`` (0/1: the personalized response adds at least the share ``MENTION`` of the
    attribute's content words; a lexical substitute for the paper's GPT-5.4), ``log2_length`` (of
    the ratio of the numbers of words), ``topical`` (cosine of prompt and attribute), ``gain``
    (cosine with the attribute, personalized − generic), ``about_0`` … (the topic of the attribute:
    principal directions of the embeddings).
    """
    columns = ["prompt_text", "attribute", "generic", "personalized"]
    vectors = embed(pd.concat([pairs[column] for column in columns]).tolist(), embeddings)
    prompt, attribute, generic, personalized = np.split(vectors, 4)
    texts = (pairs[column].str.lower() for column in columns[1:])
    content = [text.str.findall(word_pattern(4)).map(set) for text in texts]
    # Words that both responses have are not due to personalization.
    mentioned = [
        len(of_attribute & of_personalized - of_generic) / max(len(of_attribute), 1)
        for of_attribute, of_generic, of_personalized in zip(*content, strict=True)
    ]
    # Personalized responses are longer, and length affects ratings (R17). It is a feature of its
    # own, so that the others do not act as its proxies.
    words = {side: pairs[side].map(spaced).str.split().str.len() for side in columns[2:]}
    # An empty response counts as one word.
    length = words["personalized"].clip(lower=1) / words["generic"].clip(lower=1)
    table = {
        "mention": (np.array(mentioned) >= MENTION).astype(int),
        "log2_length": np.log2(length),
        "topical": (prompt * attribute).sum(axis=1),
        "gain": ((personalized - generic) * attribute).sum(axis=1),
    }
    # The embeddings of few words have fewer dimensions.
    topics = min(TOPICS, attribute.shape[1])
    about = TruncatedSVD(topics, random_state=0).fit_transform(attribute)
    table |= {f"about_{i}": column for i, column in enumerate(about.T)}
    return pd.DataFrame(table, index=pairs.index)


def nested_ridge(x: pd.DataFrame, y: np.ndarray, groups: list, seed: int = 0) -> np.ndarray:
    """Return out-of-fold predictions (n,) of ridge regression, with the penalty chosen within the
    training folds.

    Outer and inner folds are disjoint in ``groups``, as a random split would leak information on
    users (R7).
    """
    # The level is that of all ratings. An intercept would be the mean of the training users, which
    # is low where the others rate high: without a signal, predictions would correlate negatively.
    # Slopes are the same, as features are centred on the training users.
    model, level = make_pipeline(StandardScaler(), Ridge(fit_intercept=False)), np.mean(y)
    search = GridSearchCV(model, {"ridge__alpha": PENALTIES}, cv=GroupKFold(5))
    outer = PredefinedSplit(folds(groups, seed=seed))
    too_few = explained("ridge regression by users", "take ratings of seven users or more")
    # Without metadata routing the inner search would not receive the groups.
    with too_few, config_context(enable_metadata_routing=True):
        return level + cross_val_predict(search, x, y - level, cv=outer, params={"groups": groups})


def learned(
    pairs: pd.DataFrame, judgments: pd.DataFrame, x: pd.DataFrame, *, seed: int = 0
) -> pd.DataFrame:
    """Judge pairs by a "learned reward": `nested_ridge` predictions of the mean rating of people,
    for users who are not in the training folds.

    Parameters
    ----------
    pairs : items of the stage "response" from ``datasets.load_judgments``.
    judgments : judgments of people, ``user prompt item label``; pairs without one are left out.
    x : `features` of the pairs.

    Returns
    -------
    Judgments ``stage source user prompt item rater rater_kind label``, for the functions of
    ``gap``.
    """
    mean = judgments.groupby(["user", "prompt", "item"])["label"].mean().rename("mean")
    rated = pairs.join(mean, on=["user", "prompt", "item"]).dropna(subset="mean")
    mean, users = rated["mean"].to_numpy(), rated["user"].tolist()
    label = nested_ridge(x.loc[rated.index], mean, users, seed=seed)
    return rated[[*UNIT]].assign(rater="learned reward", rater_kind="model", label=label)
