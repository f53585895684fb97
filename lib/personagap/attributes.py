"""Relevance of a user's attributes to a prompt, by retrieval: the baselines that judges must beat."""

import bm25s
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

from personagap.errors import UserError


def _bm25(prompts: list[str], attributes: list[str]) -> np.ndarray:
    def tokens(texts: list[str]) -> list[list[str]]:
        return bm25s.tokenize(texts, stopwords=list(ENGLISH_STOP_WORDS), return_ids=False, show_progress=False)

    index = bm25s.BM25()
    index.index(tokens(attributes), show_progress=False)
    # A prompt of stop words alone matches nothing.
    return np.stack([index.get_scores(words) if words else np.zeros(len(attributes)) for words in tokens(prompts)])


def _tfidf(prompts: list[str], attributes: list[str]) -> np.ndarray:
    vectorizer = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit(attributes)
    return (vectorizer.transform(prompts) @ vectorizer.transform(attributes).T).toarray()


def _cosine(name: str, prompts: list[str], attributes: list[str]) -> np.ndarray:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise UserError("embeddings need sentence-transformers: pip install 'personagap[embeddings]'") from None
    try:
        model = SentenceTransformer(name)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"no sentence-transformers model at {name!r} ({reason}): give a folder or a hub name") from None
    query, document = (
        model.encode(t, normalize_embeddings=True, show_progress_bar=False) for t in (prompts, attributes)
    )
    return query @ document.T


def retrieval_scores(pairs: pd.DataFrame, embeddings: str | None = None) -> pd.DataFrame:
    """Score every attribute as a document for its prompt as the query, with models that know no user.

    Term weights are those of all distinct attributes, so scores compare across users.

    Parameters
    ----------
    pairs : ``stage source user prompt item prompt_text attribute``, one row per pair.
    embeddings : folder or name of a sentence-transformers model; None leaves that baseline out.

    Returns
    -------
    Judgments of the same pairs, ``… rater rater_kind label``: raters "bm25", "tfidf" and, if asked for,
    "embedding" (cosine), of kind "retrieval"; ``label`` is the score.
    """
    prompt, prompts = pd.factorize(pairs["prompt_text"])
    attribute, attributes = pd.factorize(pairs["attribute"])
    texts = list(prompts), list(attributes)
    scores = {"bm25": _bm25(*texts), "tfidf": _tfidf(*texts)}
    if embeddings is not None:
        scores["embedding"] = _cosine(embeddings, *texts)
    key = pairs.drop(columns=["prompt_text", "attribute"])
    tables = [key.assign(rater=rater, label=matrix[prompt, attribute]) for rater, matrix in scores.items()]
    return pd.concat(tables, ignore_index=True).assign(rater_kind="retrieval")


def select_top(scored: pd.DataFrame, k: int) -> pd.DataFrame:
    """Say yes to the ``k`` best-scored attributes of each user for each prompt (ties: the earlier one).

    Returns
    -------
    The same judgments with ``label`` 0/1 and raters named like "bm25_top5".
    """
    rank = scored.groupby(["rater", "prompt", "user"])["label"].rank(method="first", ascending=False)
    return scored.assign(label=(rank <= k).astype(int), rater=scored["rater"] + f"_top{k}")
