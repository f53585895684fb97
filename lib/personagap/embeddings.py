"""Unit vectors of texts, by a sentence-transformers model or by their words alone, which needs no
download.
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

#: Words kept where each is a dimension of its own.
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
    """Unit vectors of n texts: (n, d) float32; zeros where no word is known.

    Parameters
    ----------
    model : folder or Hub name of a sentence-transformers model, which the other options do not
        touch; None: TF-IDF.
    dimensions : reduce to so many, by truncated SVD (latent semantic analysis); None: one per word.
    known : texts that words, weights and reduction come from; None: ``texts``.
    stop_words : of scikit-learn; None keeps them, as style is in them.
    seed : of the SVD.
    """
    if model is not None:
        return _encode(model, tuple(texts))
    # Sublinear for the reduction, as scikit-learn's guide to latent semantic analysis advises.
    how: dict[str, Any] = {"max_features": WORDS} if dimensions is None else {"sublinear_tf": True}
    how |= {"token_pattern": word_pattern(2), "dtype": np.float32}
    tfidf = TfidfVectorizer(stop_words=stop_words, **how)
    with explained("TF-IDF of texts", "give texts with words in them, or a model for embeddings"):
        terms = tfidf.fit_transform(texts if known is None else known)
    if dimensions is None:
        return tfidf.transform(texts).toarray()
    # Of few texts there are not so many directions.
    svd = TruncatedSVD(min(dimensions, *(size - 1 for size in terms.shape)), random_state=seed)
    with explained("TF-IDF of texts", "give more texts and words, or a model for embeddings"):
        reduced = svd.fit_transform(terms)
    return normalize(reduced if known is None else svd.transform(tfidf.transform(texts)))


@functools.lru_cache(maxsize=8)
def _encode(name: str, texts: tuple[str, ...]) -> np.ndarray:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        remedy = "pip install 'personagap[embeddings]'"
        raise UserError(f"embeddings need sentence-transformers: {remedy}") from None
    # Here, as it imports torch, which TF-IDF does without.
    from personagap.models import loading

    with explained(f"no sentence-transformers model at {name!r}", "give a folder or a hub name"):
        model = SentenceTransformer(name, model_kwargs={"use_safetensors": True})
        loading.check_weights(model)
    return model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
