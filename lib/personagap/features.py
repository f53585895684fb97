"""Features of responses: syntactic ones counted in the text, semantic ones read by classifiers (arXiv 2409.20296)."""

import re
import string
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

#: Classifier on the Hub → feature → its label there ("" for a model with one output).
CLASSIFIERS = {
    "s-nlp/roberta-base-formality-ranker": {"formality": "formal"},
    "HuggingFaceFW/fineweb-edu-classifier": {"educational_value": ""},
    "SamLowe/roberta-base-go_emotions": {
        name: name for name in ("approval", "caring", "excitement", "joy", "optimism")
    },
}
#: Without a classifier: words of our own choice that go with a feature, counted per 100 words.
WORDS = {
    "formality": r"\b(?:furthermore|moreover|therefore|consequently|hence|thus|ought|considerable|regarding)\b",
    "educational_value": r"\b(?:for example|such as|because|survey|percent|means|reason|defined)\b",
    "approval": r"\b(?:great|good|right|agree|excellent|correct|well done)\b",
    "caring": r"\b(?:kind|care|comfort|friend|sorry|gentle|yourself)\b",
    "excitement": r"!",
    "joy": r"\b(?:joy|enjoy|glad|happy|lovely|delight|love)\b",
    "optimism": r"\b(?:hope|will|can|soon|better|bright)\b",
}
#: Endings that most English adjectives and adverbs have and few other words.
_ENDINGS = re.compile(r"\w{2,}(?:ly|ful|ous|ive|able|ible|less|ical|ic)")
_LIST = re.compile(r"^\s*(?:[-*•]|\d+\.)", re.MULTILINE)
_PUNCTUATION = set(string.punctuation)


def syntactic(texts: Sequence[str]) -> pd.DataFrame:
    """The paper's seven syntactic features, one row per text.

    Tokens are words and punctuation marks by a pattern, not NLTK's; stop words are scikit-learn's; adjectives and
    adverbs are told by their endings, not by a tagger, so ``adj_adv`` is a rough count.

    Examples
    --------
    >>> syntactic(["The quick fox, quickly:\\n- runs\\n- hides"]).iloc[0].to_dict()  # doctest: +NORMALIZE_WHITESPACE
    {'length': 10.0, 'unique_words': 9.0, 'avg_word_length': 4.5, 'stopwords': 1.0, 'punctuation': 4.0,
     'list_items': 2.0, 'adj_adv': 1.0}
    """
    rows = []
    for text in texts:
        tokens = re.findall(r"\w+|[^\w\s]", text.lower())
        words = [token for token in tokens if token[0].isalnum()]
        length = np.mean([len(word) for word in words]) if words else 0
        stopwords = sum(word in ENGLISH_STOP_WORDS for word in words)
        marks, endings = sum(c in _PUNCTUATION for c in text), sum(bool(_ENDINGS.fullmatch(word)) for word in words)
        rows.append((len(tokens), len(set(tokens)), length, stopwords, marks, len(_LIST.findall(text)), endings))
    columns = ["length", "unique_words", "avg_word_length", "stopwords", "punctuation", "list_items", "adj_adv"]
    return pd.DataFrame(rows, columns=columns, dtype=float)


def lexicon(texts: Sequence[str]) -> pd.DataFrame:
    """Rough stand-ins for the seven semantic features: words of ``WORDS`` per 100 words, one row per text."""
    patterns = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in WORDS.items()}
    rows = [
        [100 * len(pattern.findall(text)) / max(len(text.split()), 1) for pattern in patterns.values()]
        for text in texts
    ]
    return pd.DataFrame(rows, columns=list(patterns), dtype=float)


def semantic(texts: Sequence[str], classifiers: dict | None = None, device: str = "cpu") -> pd.DataFrame:
    """The paper's seven semantic features from its three classifiers, one row per text.

    Parameters
    ----------
    texts : responses, cut at 512 tokens as the classifiers demand.
    classifiers : like ``CLASSIFIERS``, the default: a folder or Hub name → feature → label.
    device : where they run.

    Returns
    -------
    DataFrame of probabilities; of a model with one output, its raw score (educational value: 0–5).
    """
    from transformers import pipeline

    columns = {}
    for name, labels in (classifiers or CLASSIFIERS).items():
        raw = "" in labels.values()
        ask = pipeline("text-classification", name, device=device, top_k=None)
        options = {"truncation": True, "max_length": 512, "batch_size": 16}
        found = ask(list(texts), function_to_apply="none" if raw else None, **options)
        for feature, label in labels.items():
            columns[feature] = [{one["label"]: one["score"] for one in row} for row in found]
            columns[feature] = [row[label] if label else max(row.values()) for row in columns[feature]]
    return pd.DataFrame(columns)
