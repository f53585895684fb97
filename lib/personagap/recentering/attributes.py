"""Relevance of a user's attributes to a prompt, judged by a model and by retrieval baselines."""

from collections.abc import Sequence

import bm25s
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

from personagap import ask, pricing, prompts
from personagap.embeddings import embed
from personagap.errors import explained, require_at_least, require_one_of
from personagap.models import Model
from personagap.recentering.reading import read_answer
from personagap.results import require_columns
from personagap.segmentation import word_pattern

#: Maximum length of an answer, as in arXiv 2606.06614.
TOKENS = 4096
#: One attribute per request, or all attributes of a prompt in one request.
MODES = ("single", "list")


def _bm25(queries: list[str], documents: list[str]) -> np.ndarray:
    # The same stop words as in `_tfidf`, so that the two baselines differ only in their weighting.
    how = {"stopwords": list(ENGLISH_STOP_WORDS), "return_ids": False, "show_progress": False}
    how["token_pattern"] = word_pattern(2)
    index, tokens = bm25s.BM25(), bm25s.tokenize(queries, **how)
    index.index(bm25s.tokenize(documents, **how), show_progress=False)
    # A prompt that consists of stop words matches nothing, and BM25S raises on an empty query.
    nothing = np.zeros(len(documents))
    return np.stack([index.get_scores(query) if query else nothing for query in tokens])


def _tfidf(queries: list[str], documents: list[str]) -> np.ndarray:
    how = {"stop_words": "english", "token_pattern": word_pattern(2)}
    vectorizer = TfidfVectorizer(sublinear_tf=True, **how).fit(documents)
    return (vectorizer.transform(queries) @ vectorizer.transform(documents).T).toarray()


def retrieval_scores(pairs: pd.DataFrame, embeddings: str | None = None) -> pd.DataFrame:
    """Score each attribute, as a document, for its prompt, as the query, by retrieval baselines.

    Term weights are estimated on all distinct attributes, so scores are comparable across users.

    Parameters
    ----------
    pairs : ``stage source user prompt item prompt_text attribute``, one row per pair.
    embeddings : folder or name of a sentence-transformers model; None leaves that baseline out.

    Returns
    -------
    Judgments of the same pairs, ``… rater rater_kind label``: raters "bm25", "tfidf" and, with
    ``embeddings``, "embedding" (cosine), of kind "retrieval"; ``label`` is the score.
    """
    require_columns(pairs, "pairs", "prompt_text", "attribute")
    # Distinct texts only: attributes recur across prompts, and a repeated document would make its
    # terms seem more common than they are.
    (prompt, queries), (attribute, documents) = (
        pd.factorize(pairs[name]) for name in ("prompt_text", "attribute")
    )
    texts = list(queries), list(documents)
    with explained("retrieval by words", "give attributes with words in them"):
        # First, as TfidfVectorizer raises if the documents have no words.
        tfidf = _tfidf(*texts)
        scores = {"bm25": _bm25(*texts), "tfidf": tfidf}
    if embeddings is not None:
        scores["embedding"] = embed(texts[0], embeddings) @ embed(texts[1], embeddings).T
    key = pairs.drop(columns=["prompt_text", "attribute"])
    labels = {rater: matrix[prompt, attribute] for rater, matrix in scores.items()}
    tables = [key.assign(rater=rater, label=label) for rater, label in labels.items()]
    return pd.concat(tables, ignore_index=True).assign(rater_kind="retrieval")


def select_top(scored: pd.DataFrame, top_k: Sequence[int]) -> pd.DataFrame:
    """Label the k best-scored attributes of each user for each prompt as relevant, for each k of
    ``top_k``; of tied attributes the earlier one ranks higher.

    The judgments have ``label`` 0/1 and raters named like "bm25_top5".
    """
    require_at_least(1, each=True, top_k=top_k)
    of_user = scored.groupby(["rater", "prompt", "user"])["label"]
    rank, rater = of_user.rank(method="first", ascending=False), scored["rater"]
    tables = [scored.assign(label=(rank <= k) * 1, rater=rater + f"_top{k}") for k in top_k]
    return pd.concat(tables, ignore_index=True)


def judge(
    lm: Model, pairs: pd.DataFrame, mode: str = "single", *, max_tokens: int = TOKENS, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ask a model which attributes should change the answer to a prompt.

    Parameters
    ----------
    lm : a model from ``models.load_model``.
    pairs : as in `retrieval_scores`. Prompts are not truncated.
    mode : "single", one attribute per request, as arXiv 2606.06614 asked models; "list", all
        attributes of a prompt, of all its users, shuffled on one page, as the paper asked people
        (R3).
    max_tokens : maximum length of an answer, by default that of the paper. The temperature is 0.
    seed : determines the order of the attributes on a page.

    Returns
    -------
    judgments : of the pairs whose answer can be read, ``… rater rater_kind label``; the rater is
        the model's id, followed by "_list" in that mode.
    outputs : one row ``rater requests unreadable``. An unreadable answer is no judgment; the
        paper's code reads it as NO.
    """
    pages, questions = requests(pairs, mode, seed)
    texts = ask.texts(lm, questions, 0.0, seed, max_tokens)
    answers = [read_answer(text, len(page), mode) for text, page in zip(texts, pages, strict=True)]
    # An unreadable answer leaves all attributes of its page without a judgment: read as NO, as in
    # the paper's code, it would make a model that fails to answer look selective.
    labels: list[int | None] = []
    for page, answer in zip(pages, answers, strict=True):
        labels += answer or [None] * len(page)
    rater = lm.id if mode == "single" else f"{lm.id}_{mode}"
    judged = pd.concat(pages).drop(columns=["prompt_text", "attribute"])
    judged = judged.assign(rater=rater, rater_kind="model")
    judged["label"] = pd.array(labels, dtype="Int64")
    counts = {"rater": rater, "requests": len(pages), "unreadable": answers.count(None)}
    return judged.dropna(subset="label").astype({"label": int}).sort_index(), pd.DataFrame([counts])


def cost(lms: Sequence[Model], pairs: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Price the requests of `judge` to ``lms`` in both modes without sending any: rows like those
    of ``pricing.of_texts``, by ``model mode``.
    """
    cells = [(lm, mode) for lm in lms for mode in MODES]
    texts = {mode: requests(pairs, mode, seed)[1] for mode in MODES}
    prices = [pricing.of_texts(lm, texts[mode], 0.0, seed, TOKENS) for lm, mode in cells]
    keys = [(lm.id, mode) for lm, mode in cells]
    return pd.concat(prices, keys=keys, names=["model", "mode"]).droplevel(2).reset_index()


def requests(pairs: pd.DataFrame, mode: str, seed: int = 0) -> tuple[list[pd.DataFrame], list[str]]:
    """Return the pairs on the page of each request of `judge`, and the text of each request."""
    require_one_of(MODES, "mode", mode)
    rng = np.random.default_rng(seed)
    by = pairs["prompt"] if mode == "list" else np.arange(len(pairs))
    # Shuffled like the pages that people saw (R3).
    pages = [page.iloc[rng.permutation(len(page))] for _, page in pairs.groupby(by, sort=False)]
    return pages, [question(page["prompt_text"].iloc[0], page["attribute"], mode) for page in pages]


def question(prompt: str, attributes: Sequence[str], mode: str = "single") -> str:
    """Return the request to a model: whether the attribute (in mode "list": which of the
    attributes) should change the answer to the prompt.
    """
    listed = "\n".join(f"{number}. {text}" for number, text in enumerate(attributes, start=1))
    text = prompts.template("relevance_list" if mode == "list" else "relevance").strip()
    single = listed.removeprefix("1. ")
    return prompts.fill(text, prompt=prompt, attribute=single, attributes=listed)
