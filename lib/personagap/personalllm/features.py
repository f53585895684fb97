"""Features of responses (arXiv 2409.20296): syntactic ones are counted in the text, semantic ones
are predicted by classifiers.
"""

import re
import string
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from personagap.errors import explained, require_one_of
from personagap.formatting import word_table
from personagap.segmentation import spaced

#: The paper's semantic features: ``feature``, a ``classifier`` on the Hub, its ``label`` for the
#: feature ("" for a model with one output), and ``words``, a pattern of our own that stands in for
#: the classifier.
SEMANTIC = word_table("personalllm/features")
#: Classifier → feature → label.
CLASSIFIERS: dict[str, dict[str, str]] = {}
for _row in SEMANTIC:
    CLASSIFIERS.setdefault(_row["classifier"], {})[_row["feature"]] = _row["label"]
#: Endings that most English adjectives and adverbs have, and few other words.
ENDINGS = re.compile(r"\w{2,}(?:ly|ful|ous|ive|able|ible|less|ical|ic)")


def syntactic(texts: Sequence[str]) -> pd.DataFrame:
    """Compute the paper's seven syntactic features, one row per text.

    Tokens are words and punctuation marks matched by a regular expression, not NLTK's; stop words
    are scikit-learn's; adjectives and adverbs are recognised by their endings, not by a tagger, so
    ``adj_adv`` is a rough count.

    Examples
    --------
    >>> counted = syntactic(["The quick fox, quickly:\\n- runs\\n- hides"]).iloc[0]
    >>> counted[["length", "unique_words", "avg_word_length", "stopwords"]].tolist()
    [10.0, 9.0, 4.5, 1.0]
    >>> counted[["punctuation", "list_items", "adj_adv"]].tolist()
    [4.0, 2.0, 1.0]
    """
    text = pd.Series(list(texts), dtype=object)
    tokens = text.map(spaced).str.lower().str.findall(r"\w+|[^\w\s]")
    words = tokens.map(lambda row: [token for token in row if token[0].isalnum()])
    columns = {
        "length": tokens.map(len),
        "unique_words": tokens.map(set).map(len),
        "avg_word_length": words.map(lambda row: np.mean([*map(len, row)]) if row else 0),
        "stopwords": words.map(lambda row: sum(word in ENGLISH_STOP_WORDS for word in row)),
        "punctuation": text.str.count(f"[{re.escape(string.punctuation)}]"),
        "list_items": text.str.count(r"(?m)^\s*(?:[-*•]|\d+\.)"),
        "adj_adv": words.map(lambda row: sum(map(bool, map(ENDINGS.fullmatch, row)))),
    }
    return pd.DataFrame(columns, dtype=float)


def lexicon(texts: Sequence[str]) -> pd.DataFrame:
    """Approximate the seven semantic features by word lists: matches of ``words`` per 100 words,
    one row per text.
    """
    text = pd.Series(list(texts), dtype=object)
    length = text.map(spaced).str.split().map(len).clip(lower=1)
    return pd.DataFrame(
        {row["feature"]: 100 * text.str.count(row["words"], re.I) / length for row in SEMANTIC}
    )


def kinds(texts: Sequence[str], semantic_by: str = "lexicon") -> dict[str, pd.DataFrame]:
    """Compute the features of each kind: name of the kind → one row per text.

    "syntactic" holds `syntactic` features. The other kind is "word-list" (`lexicon`) if
    ``semantic_by`` is "lexicon", or "semantic" (`semantic`) if it is "classifiers".
    """
    require_one_of(["lexicon", "classifiers"], "semantic is", semantic_by)
    # The two have different names so that counts of a word list are never mistaken for the
    # predictions of a classifier.
    if semantic_by == "lexicon":
        return {"syntactic": syntactic(texts), "word-list": lexicon(texts)}
    return {"syntactic": syntactic(texts), "semantic": semantic(texts)}


def semantic(texts: Sequence[str], classifiers: dict | None = None) -> pd.DataFrame:
    """Predict the paper's seven semantic features with its three classifiers, one row per text.

    Parameters
    ----------
    texts : responses, truncated to 512 tokens as the classifiers require.
    classifiers : folder or Hub name → feature → label; by default ``CLASSIFIERS``.

    Returns
    -------
    DataFrame of probabilities, or of raw scores for a model with one output (educational value:
    0–5).
    """
    from transformers import pipeline

    from personagap.models import loading

    columns: dict[str, pd.Series] = {}
    for name, labels in (classifiers or CLASSIFIERS).items():
        with explained(f"cannot load the classifier {name}", "check the name and the network"):
            # Pickled weights could execute arbitrary code of their publisher.
            safe = {"use_safetensors": True}
            classify = pipeline("text-classification", name, top_k=None, model_kwargs=safe)
            loading.check_weights(classify.model)
        raw = "none" if "" in labels.values() else None
        how: dict[str, Any] = {"truncation": True, "max_length": 512, "batch_size": 16}
        # ``top_k=None`` returns every label of each text, not only the most likely one.
        predicted: Any = classify(list(texts), function_to_apply=raw, **how)
        scores = pd.DataFrame([{hit["label"]: hit["score"] for hit in row} for row in predicted])
        for feature, label in labels.items():
            columns[feature] = scores[label] if label else scores.iloc[:, 0]
    return pd.DataFrame(columns)
