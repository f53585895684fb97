"""Embeddings of texts as unit vectors: from a sentence-transformers model, or by TF-IDF, which
needs no download.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from personagap.errors import UserError, explained
from personagap.segmentation import word_pattern

#: Vocabulary size where each word is a dimension.
WORDS = 10_000


def embed(
    texts: Sequence[str],
    model: str | None = None,
    *,
    dimensions: int | None = None,
    known: Sequence[str] | None = None,
    stop_words: str | None = "english",
    seed: int = 0,
) -> np.ndarray:
    """Return unit vectors of n texts: (n, d) float32; zeros for a text without a known word.

    Parameters
    ----------
    model : folder or Hub name of a sentence-transformers model, for which all other options are
        ignored; None for TF-IDF.
    dimensions : number of dimensions to reduce to, by truncated SVD (latent semantic analysis);
        None for one dimension per word.
    known : texts to fit the vocabulary, the weights and the reduction on; None for ``texts``.
    stop_words : as in scikit-learn; None keeps stop words, which carry the style of a text.
    seed : seed of the SVD.
    """
    if model is not None:
        return _encode(model, tuple(texts))
    # Scikit-learn's guide to latent semantic analysis recommends sublinear term frequencies.
    how: dict[str, Any] = {"max_features": WORDS} if dimensions is None else {"sublinear_tf": True}
    how |= {"token_pattern": word_pattern(2), "dtype": np.float32}
    tfidf = TfidfVectorizer(stop_words=stop_words, **how)
    with explained("TF-IDF of texts", "give texts with words in them, or a model for embeddings"):
        terms = tfidf.fit_transform(texts if known is None else known)
    if dimensions is None:
        return tfidf.transform(texts).toarray()
    # A matrix of few texts or words has a lower rank.
    svd = TruncatedSVD(min(dimensions, *(size - 1 for size in terms.shape)), random_state=seed)
    with explained("TF-IDF of texts", "give more texts and words, or a model for embeddings"):
        reduced = svd.fit_transform(terms)
    return normalize(reduced if known is None else svd.transform(tfidf.transform(texts)))


@functools.lru_cache(maxsize=8)
def _encode(name: str, texts: tuple[str, ...]) -> np.ndarray:
    """Return the unit vectors of a sentence-transformers model; cached."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        remedy = "pip install 'personagap[embeddings]'"
        raise UserError(f"embeddings need sentence-transformers: {remedy}") from None
    # Imported here because it imports torch, which TF-IDF does not need.
    from personagap.models import loading

    with explained(f"no sentence-transformers model at {name!r}", "give a folder or a hub name"):
        model = SentenceTransformer(name, model_kwargs={"use_safetensors": True})
        loading.check_weights(model)
    return model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
