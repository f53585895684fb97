"""Relevance of a user's attributes to a prompt: judged by a model, and by retrieval, the baseline
it must beat.
"""

import re
from collections.abc import Sequence

import bm25s
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

from personagap import ask, pricing, prompts
from personagap.embeddings import embed
from personagap.errors import at_least, explained, one_of
from personagap.models import Model
from personagap.models.answers import visible
from personagap.results import require
from personagap.segmentation import word_pattern

#: Of an answer, as in arXiv 2606.06614.
TOKENS = 4096
MODES = ("single", "list")


def _bm25(queries: list[str], documents: list[str]) -> np.ndarray:
    # Stop words are those of the other baseline, so that the two differ in their weighting alone.
    how = {"stopwords": list(ENGLISH_STOP_WORDS), "return_ids": False, "show_progress": False}
    how["token_pattern"] = word_pattern(2)
    index, asked = bm25s.BM25(), bm25s.tokenize(queries, **how)
    index.index(bm25s.tokenize(documents, **how), show_progress=False)
    # A prompt of stop words alone matches nothing; asked for it, the index raises.
    nothing = np.zeros(len(documents))
    return np.stack([index.get_scores(query) if query else nothing for query in asked])


def _tfidf(queries: list[str], documents: list[str]) -> np.ndarray:
    how = {"stop_words": "english", "token_pattern": word_pattern(2)}
    vectorizer = TfidfVectorizer(sublinear_tf=True, **how).fit(documents)
    return (vectorizer.transform(queries) @ vectorizer.transform(documents).T).toarray()


def retrieval_scores(pairs: pd.DataFrame, embeddings: str | None = None) -> pd.DataFrame:
    """Score every attribute as a document for its prompt as the query, by models that know no user.

    Term weights are those of all distinct attributes, so scores compare across users.

    Parameters
    ----------
    pairs : ``stage source user prompt item prompt_text attribute``, one row per pair.
    embeddings : folder or name of a sentence-transformers model; None leaves that baseline out.

    Returns
    -------
    Judgments of the same pairs, ``… rater rater_kind label``: raters "bm25", "tfidf" and, if asked
    for, "embedding" (cosine), of kind "retrieval"; ``label`` is the score.
    """
    require(pairs, "pairs", "prompt_text", "attribute")
    # Each text once: attributes recur across prompts, and a document counted twice would weigh its
    # terms as commoner than they are.
    (prompt, queries), (attribute, documents) = (
        pd.factorize(pairs[name]) for name in ("prompt_text", "attribute")
    )
    texts = list(queries), list(documents)
    with explained("retrieval by words", "give attributes with words in them"):
        tfidf = _tfidf(*texts)  # which tells of no words
        scores = {"bm25": _bm25(*texts), "tfidf": tfidf}
    if embeddings is not None:
        scores["embedding"] = embed(texts[0], embeddings) @ embed(texts[1], embeddings).T
    key = pairs.drop(columns=["prompt_text", "attribute"])
    labels = {rater: matrix[prompt, attribute] for rater, matrix in scores.items()}
    tables = [key.assign(rater=rater, label=label) for rater, label in labels.items()]
    return pd.concat(tables, ignore_index=True).assign(rater_kind="retrieval")


def select_top(scored: pd.DataFrame, top_k: Sequence[int]) -> pd.DataFrame:
    """Say yes to the k best-scored attributes of each user for each prompt (ties: the earlier one),
    for each k.

    The judgments get ``label`` 0/1 and raters named like "bm25_top5".
    """
    at_least(1, each=True, top_k=top_k)
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
    lm : a model of ``models.load_model``.
    pairs : as of `retrieval_scores`. Prompts are not cut.
    mode : "single", one attribute a request, as arXiv 2606.06614 asked models; "list", all
        attributes of a prompt, of all its users, shuffled on one page, as it asked people (R3).
    max_tokens : of an answer, at temperature 0; that of the paper.
    seed : order of the attributes on a page.

    Returns
    -------
    judgments : of the pairs whose answer can be read, ``… rater rater_kind label``; the rater is
        the model's id, for "list" with "_list".
    outputs : one row ``rater requests unreadable``. An unreadable answer is no judgment; the
        paper's code reads NO.
    """
    pages, asked = pages_of(pairs, mode, seed)
    texts = ask.texts(lm, asked, 0.0, seed, max_tokens)
    read = [read_answer(text, len(page), mode) for text, page in zip(texts, pages, strict=True)]
    # One answer that cannot be read leaves all attributes of its page without a judgment: taken for
    # NO, as in the paper's code, a model that fails to answer would look selective.
    labels: list[int | None] = []
    for page, known in zip(pages, read, strict=True):
        labels += known or [None] * len(page)
    rater = lm.id if mode == "single" else f"{lm.id}_{mode}"
    judged = pd.concat(pages).drop(columns=["prompt_text", "attribute"])
    judged = judged.assign(rater=rater, rater_kind="model")
    judged["label"] = pd.array(labels, dtype="Int64")
    counts = {"rater": rater, "requests": len(pages), "unreadable": read.count(None)}
    return judged.dropna(subset="label").astype({"label": int}).sort_index(), pd.DataFrame([counts])


def cost(lms: Sequence[Model], pairs: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """What `judge` would ask ``lms`` in both modes, as of ``pricing.of_texts`` by ``model mode``;
    nothing is asked.
    """
    keys = [(lm, mode) for lm in lms for mode in MODES]
    texts = {mode: pages_of(pairs, mode, seed)[1] for mode in MODES}
    prices = [pricing.of_texts(lm, texts[mode], 0.0, seed, TOKENS) for lm, mode in keys]
    named = [(lm.id, mode) for lm, mode in keys]
    return pd.concat(prices, keys=named, names=["model", "mode"]).droplevel(2).reset_index()


def pages_of(pairs: pd.DataFrame, mode: str, seed: int = 0) -> tuple[list[pd.DataFrame], list[str]]:
    """The pairs of each request of `judge`, and its prompt."""
    one_of(MODES, "mode", mode)
    rng = np.random.default_rng(seed)
    by = pairs["prompt"] if mode == "list" else np.arange(len(pairs))
    # Shuffled, as on the page that people saw (R3).
    pages = [page.iloc[rng.permutation(len(page))] for _, page in pairs.groupby(by, sort=False)]
    return pages, [question(page["prompt_text"].iloc[0], page["attribute"], mode) for page in pages]


def question(prompt: str, attributes: Sequence[str], mode: str = "single") -> str:
    """What a model is asked: should the attribute (mode "list": which of them) change the answer to
    the prompt?
    """
    listed = "\n".join(f"{number}. {text}" for number, text in enumerate(attributes, start=1))
    text = prompts.template("relevance_list" if mode == "list" else "relevance").strip()
    alone = listed.removeprefix("1. ")
    return prompts.fill(text, prompt=prompt, attribute=alone, attributes=listed)


#: Answers that leave "Answer:" out: "The answer is NO.", a last line that is "NO", "Yes, as …".
_WORD = re.compile(
    r"(?:.*\bANSWER IS\W{1,3}|.*\n\W*(?=\w+\W*\Z)|\W*(?=\w+\W*(?:\n|\Z|[.,;:–—-]\s)))"
    r"(YES|NO)\b",
    re.DOTALL,
)
#: And "2, 5", "None".
_NUMBERS = re.compile(r"(?:[\W\d]|\bAND\b)*|\W*NONE\W*")


def read_answer(text: str | None, n: int = 1, mode: str = "single") -> list[int] | None:
    """Labels 0/1 of the ``n`` attributes of a page, from the last "Answer:" of a text, or one that
    says nothing else; None if it cannot be read.

    Examples
    --------
    >>> read_answer("It sets the tone.\\n**Answer: YES**"), read_answer("Answer: 1, 3", 3, "list")
    ([1], [1, 0, 1])
    >>> read_answer("NO"), read_answer("2", 3, "list")
    ([0], [0, 1, 0])
    >>> read_answer("Yes and no."), read_answer("Answer: 4", 3, "list")
    (None, None)
    """
    said = visible(text or "").strip().upper()
    # The last one counts: a text may repeat the question's "Answer:" before it gives its own.
    _, marked, answer = said.rpartition("ANSWER:")
    if mode == "single":
        word = re.match(r"\W*(YES|NO)\b", answer) if marked else _WORD.match(answer)
        return [int(word[1] == "YES")] if word else None
    # On a line of their own each, or on one with what is said of them.
    alone = _NUMBERS.fullmatch(answer)
    last = answer if alone or not marked else answer.strip("* \n").split("\n")[0]
    # A number that no attribute of the page has makes the whole answer unreadable: it is not known
    # which one was meant, and the others may be shifted too.
    numbers = {int(number) for number in re.findall(r"\d+", last)}
    none = re.match(r"\W*NONE\b", last)
    if not (marked or alone) or not numbers <= set(range(1, n + 1)) or not (numbers or none):
        return None
    return [int(number in numbers) for number in range(1, n + 1)]
