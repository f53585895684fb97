"""Relevance of a user's attributes to a prompt: judged by a model, and by retrieval, the baseline it must beat."""

import functools
import re
from collections.abc import Sequence
from dataclasses import asdict

import bm25s
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

from personagap.errors import UserError
from personagap.models import Sampling
from personagap.paths import DATA
from personagap.responses import ANSWER_COLUMNS, ResponseStore, digest


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


def embed(name: str, texts: Sequence[str]) -> np.ndarray:
    """Unit vectors (n, dimensions) of texts, by a sentence-transformers model."""
    return _embed(name, tuple(texts))


@functools.lru_cache(maxsize=8)
def _embed(name: str, texts: tuple[str, ...]) -> np.ndarray:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise UserError("embeddings need sentence-transformers: pip install 'personagap[embeddings]'") from None
    try:
        model = SentenceTransformer(name)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"no sentence-transformers model at {name!r} ({reason}): give a folder or a hub name") from None
    return model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)


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
        query, document = (embed(embeddings, side) for side in texts)
        scores["embedding"] = query @ document.T
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


def judge(
    lm, pairs: pd.DataFrame, mode: str = "single", *, max_tokens: int = 4096, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ask a model which attributes should change the answer to a prompt.

    Parameters
    ----------
    lm : a model of ``models.load_model``.
    pairs : as of `retrieval_scores`. Prompts are not cut.
    mode : "single", one attribute a request, as arXiv 2606.06614 asked models; "list", all attributes of a prompt,
        of all its users, shuffled on one page, as it asked people (T3).
    max_tokens : of an answer, at temperature 0; that of the paper.
    seed : order of the attributes on a page.

    Returns
    -------
    judgments : of the pairs whose answer can be read, ``… rater rater_kind label``; the rater is the model's id, for
        "list" with "_list".
    outputs : one row ``rater requests unreadable``. An unreadable answer is no judgment; the paper's code reads NO.
    """
    if mode not in ("single", "list"):
        raise UserError(f"mode {mode!r}: choose 'single' or 'list'")
    rng, by = np.random.default_rng(seed), pairs["prompt"] if mode == "list" else np.arange(len(pairs))
    pages = [page.iloc[rng.permutation(len(page))] for _, page in pairs.groupby(by, sort=False)]
    prompts = [question(page["prompt_text"].iloc[0], page["attribute"], mode) for page in pages]
    texts = answers(lm, prompts, 0.0, seed, max_tokens)
    read = [read_answer(text, len(page), mode) for text, page in zip(texts, pages, strict=True)]
    labels = [label for page, known in zip(pages, read, strict=True) for label in known or [None] * len(page)]
    rater = lm.id if mode == "single" else f"{lm.id}_{mode}"
    judged = pd.concat(pages).drop(columns=["prompt_text", "attribute"]).assign(rater=rater, rater_kind="model")
    judged["label"] = pd.array(labels, dtype="Int64")
    counts = {"rater": rater, "requests": len(pages), "unreadable": read.count(None)}
    return judged.dropna(subset="label").astype({"label": int}).sort_index(), pd.DataFrame([counts])


def question(prompt: str, attributes: Sequence[str], mode: str = "single") -> str:
    """What a model is asked: should the attribute (mode "list": which of them) change the answer to the prompt?"""
    listed = "\n".join(f"{number}. {text}" for number, text in enumerate(attributes, start=1))
    file = DATA / "prompts" / ("relevance_list.txt" if mode == "list" else "relevance.txt")
    fields = {"prompt": prompt, "attribute": listed.removeprefix("1. "), "attributes": listed}
    return re.sub(r"\{(\w+)\}", lambda match: fields[match[1]], file.read_text(encoding="utf-8").strip())


def read_answer(text: str | None, n: int = 1, mode: str = "single") -> list[int] | None:
    """Labels 0/1 of the ``n`` attributes of a page, from the last "Answer:" of a text; None if it cannot be read.

    Examples
    --------
    >>> read_answer("It sets the tone.\\n**Answer: YES**"), read_answer("Answer: 1, 3", 3, "list")
    ([1], [1, 0, 1])
    >>> read_answer("Yes and no."), read_answer("Answer: 4", 3, "list")
    (None, None)
    """
    found = re.findall(r"(?i)answer:\W*(.*)", re.sub(r"(?s)^.*</think>", "", text or ""))
    last = found[-1].upper() if found else ""
    if mode == "single":
        word = re.match(r"(YES|NO)\b", last)
        return [int(word[1] == "YES")] if word else None
    numbers = {int(number) for number in re.findall(r"\d+", last)}
    if not numbers <= set(range(1, n + 1)) or not (numbers or last.startswith("NONE")):
        return None
    return [int(number in numbers) for number in range(1, n + 1)]


def answers(lm, prompts: Sequence[str], temperature: float, seed: int, max_tokens: int = 2048) -> list[str | None]:
    """One answer per prompt, None where the model failed; what the response store holds is not asked again."""
    sampling, store = Sampling(temperature=temperature, top_k=0, max_tokens=max_tokens), ResponseStore(lm.id)
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    keys = [digest([lm.id, lm.revision, asdict(sampling), seed], lm.render(chat)) for chat in chats]
    known = store.get(pd.Index(keys)).index
    missing = {key: chat for key, chat in zip(keys, chats, strict=True) if key not in known}
    for start in range(0, len(missing), 256):  # what a kill can lose
        batch = list(missing)[start : start + 256]
        made = lm.generate([missing[key] for key in batch], sampling, [int(key[:15], 16) for key in batch])
        table = pd.DataFrame(made, index=batch, columns=ANSWER_COLUMNS)
        store.add(table[table["finish_reason"] != "error"])
    store.compact()
    texts = store.get(pd.Index(keys))["text"]
    return [texts.get(key) for key in keys]
