"""Learners for `classifiers`: linear and kernel models of embeddings, a probe of a language model's
hidden states, and a fine-tuned encoder.
"""

import functools
import tempfile
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import normalize, scale

from personagap import models
from personagap.embeddings import embed
from personagap.errors import UserError, explained
from personagap.models.rendering import user_chat
from personagap.recentering import attributes

Texts = Sequence[str] | Sequence[tuple[str, str]]

#: Inverse strengths of the ridge penalty to choose from, and dimensions of the embeddings that need
#: no model.
PENALTIES, DIMENSIONS = (3e-4, 3e-3, 3e-2), 100
#: Width of the Gaussian kernels, on unit vectors, and strengths of the ridge penalty to choose
#: from.
WIDTH, RIDGES = 0.8, (1.0, 3.0)
#: The layer whose hidden states are read, as a share of all layers, and the beginning of the answer
#: that they are read after.
DEPTH, ANSWER_START = 0.7, "Answer:"
#: Usual settings of fine-tuning (Devlin et al. 2019, doi 10.18653/v1/N19-1423), not chosen by data.
EPOCHS, RATE, BATCH, TOKENS = 3, 5e-5, 16, 256
#: A function of training and test rows that returns the scores of the test rows by a model fitted
#: to the training rows, one row per setting: (n_settings, n_test).
Learner = Callable[[np.ndarray, np.ndarray], np.ndarray]


def linear(texts: Texts, labels: np.ndarray, encoder: str | None, seed: int) -> Learner:
    """Logistic regression on embeddings of texts, or on `_features` of the embeddings of pairs."""
    code, distinct = _factorize(texts)

    def learner(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        known = distinct[np.unique(code[:, train])]
        x = _features(embed(distinct, encoder, dimensions=DIMENSIONS, known=known, seed=seed)[code])
        fits = (LogisticRegression(C=penalty, max_iter=1000) for penalty in PENALTIES)
        fits = (fit.fit(x[train], labels[train]) for fit in fits)
        return np.stack([fit.predict_proba(x[test])[:, 1] for fit in fits])

    return learner


def _features(vectors: np.ndarray) -> np.ndarray:
    """Return the features of embeddings, (1 or 2, n, d), as in InferSent for two.

    Unit vectors and their products are rescaled to a similar size, so that one penalty suits all.
    Standardising each column would inflate columns that hardly vary in training.
    """
    size = vectors.shape[-1]
    if len(vectors) == 1:
        return size**0.5 * vectors[0]
    a, b = vectors
    cosine = (a * b).sum(axis=1, keepdims=True)
    return np.hstack([size**0.5 * np.hstack([a, b, abs(a - b), cosine]), size * a * b])


def kernel(texts: Texts, labels: np.ndarray, encoder: str | None, seed: int) -> Learner:
    """Kernel ridge regression of pairs, by a pairwise kernel (Stock et al. 2018, arXiv 1803.01575).

    K = k(a, a') (1 + k(p, p')) + s·s'/d for attributes a and prompts p: labels of similar
    attributes count, and count more with a similar prompt. The features s say how similar an
    attribute is to its prompt, compared with the other attributes of that prompt; they use no
    labels, so those of the test rows may be used.
    """
    _require_pairs(texts, "kernel")
    code, distinct = _factorize(texts)
    overlap = _relative_similarity(embed(distinct)[code], code[0])

    def similarity(train: np.ndarray, rows: np.ndarray) -> np.ndarray:
        known = distinct[np.unique(code[:, train])]
        vectors = embed(distinct, encoder, dimensions=DIMENSIONS, known=known, seed=seed)[code]
        s = np.hstack([overlap, _relative_similarity(vectors, code[0])])
        centred = (normalize(x - x.mean(axis=0)) for x in vectors)
        prompt, attribute = (rbf_kernel(x[rows], x[train], gamma=0.5 / WIDTH**2) for x in centred)
        return attribute * (1 + prompt) + s[rows] @ s[train].T / s.shape[1]

    return _ridge(similarity, labels)


def states(texts: Texts, labels: np.ndarray, model: Hashable, seed: int) -> Learner:
    """Kernel ridge regression of the hidden states of a language model that has read a pair and is
    about to answer: a probe (Alain and Bengio 2016, arXiv 1610.01644).

    The mean over the attributes of a prompt, which carries information on the prompt but not on the
    attribute, is subtracted from the states. These are compared by a Gaussian kernel, to which a
    linear kernel of the lexical overlap of prompt and attribute is added.
    """
    _require_pairs(texts, "states")
    code, distinct = _factorize(texts)
    overlap = _relative_similarity(embed(distinct)[code], code[0])
    hidden = pd.DataFrame(_hidden_states(model, tuple(texts)))
    # Standardised, as a few components are a hundred times as large as others. The lower limit is
    # for components that hardly vary, whose variation is rounding error.
    sd = hidden.std()
    hidden = (hidden - hidden.groupby(code[0]).transform("mean")) / sd.clip(0.01 * sd.mean())
    vectors = normalize(hidden)

    def similarity(train: np.ndarray, rows: np.ndarray) -> np.ndarray:
        gaussian = rbf_kernel(vectors[rows], vectors[train], gamma=0.5 / WIDTH**2)
        return gaussian + overlap[rows] @ overlap[train].T / overlap.shape[1]

    return _ridge(similarity, labels)


@functools.lru_cache(maxsize=2)
def _hidden_states(model: Any, pairs: tuple[tuple[str, str], ...]) -> np.ndarray:
    """Return hidden states (n, hidden size). They depend on no labels, so they are cached for all
    folds.
    """
    # Imported here, as it imports torch, which the other learners do not need.
    from personagap.models.local import LocalModel

    lm = models.load_model(model) if isinstance(model, str) else model
    if not isinstance(lm, LocalModel):
        problem = f"{getattr(lm, 'id', lm)} shows no hidden states"
        remedy = "give encoder= a model in process, such as smollm2, gguf:FILE or hf:ORG/NAME"
        raise UserError(f"method 'states': {problem}; {remedy}")
    chats = [user_chat(attributes.question(prompt, [text])) for prompt, text in pairs]
    start = {"role": "assistant", "content": ANSWER_START}
    return lm.hidden_states([[*chat, start] for chat in chats], DEPTH)


def _factorize(texts: Texts) -> tuple[np.ndarray, pd.Index]:
    """Return the indices of texts, (1, n), or of both sides of pairs, (2, n), in the array of
    distinct texts, and that array.
    """
    sides = [texts] if isinstance(texts[0], str) else list(zip(*texts, strict=True))
    code, distinct = pd.factorize(pd.Series([text for side in sides for text in side]))
    return code.reshape(len(sides), -1), distinct


def _require_pairs(texts: Texts, method: str) -> None:
    if isinstance(texts[0], str):
        remedy = "choose linear or encoder"
        raise UserError(f"method {method!r} judges pairs of a prompt and an attribute: {remedy}")


def _ridge(similarity: Callable[[np.ndarray, np.ndarray], np.ndarray], labels: np.ndarray):
    """Return a learner by kernel ridge regression; ``similarity(train, rows)`` is the kernel, an
    array (rows, train).
    """

    def learner(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        kernel = similarity(train, np.concatenate([train, test]))
        # The mean label takes the place of an intercept, which kernel ridge regression lacks.
        mean = labels[train].mean()
        fits = (KernelRidge(alpha=alpha, kernel="precomputed") for alpha in RIDGES)
        fits = (fit.fit(kernel[: len(train)], labels[train] - mean) for fit in fits)
        return np.stack([mean + fit.predict(kernel[len(train) :]) for fit in fits]).clip(0, 1)

    return learner


def _relative_similarity(vectors: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Return the cosine of prompt and attribute, its difference from the mean cosine of the prompt,
    and its rank among those of the prompt: (n, 3), standardised.
    """
    cosine = pd.Series((vectors[0] * vectors[1]).sum(axis=1))
    page = cosine.groupby(prompt)
    return scale(np.column_stack([cosine, cosine - page.transform("mean"), page.rank(pct=True)]))


def encoder(texts: Texts, labels: np.ndarray, encoder: str | None, seed: int) -> Learner:
    """Fully fine-tuned sequence classifier of texts or pairs, with class weights in the loss."""
    import torch
    import transformers as hf

    from personagap.models import adapter, prepacked

    if encoder is None:
        raise UserError("method 'encoder' fine-tunes a model: give encoder= a folder or a Hub name")
    with explained(f"no encoder at {encoder!r}", "give a folder or a Hub name"):
        tokenizer = hf.AutoTokenizer.from_pretrained(encoder)
        config = hf.AutoConfig.from_pretrained(encoder, num_labels=2)

    # A function and no model, so that Trainer can set the seed before the new head is initialised.
    def model_init():
        return hf.AutoModelForSequenceClassification.from_pretrained(
            encoder, config=config, use_safetensors=True
        )

    length = min(TOKENS, config.max_position_embeddings - 2)
    sides = [texts] if isinstance(texts[0], str) else zip(*texts, strict=True)
    encoded = tokenizer(*map(list, sides), truncation=True, max_length=length)
    encoded["labels"] = [int(label) for label in labels]
    rows = [{name: column[i] for name, column in encoded.items()} for i in range(len(labels))]

    on_gpu = torch.cuda.is_available()
    half = torch.cuda.is_bf16_supported() if on_gpu else prepacked.has_bfloat16()
    # Batches are grouped by length: few texts are long, and padding random batches to the longest
    # would triple the number of tokens.
    lengths = np.array([len(row["input_ids"]) for row in rows])
    pad = hf.DataCollatorWithPadding(tokenizer)

    def learner(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        weight = torch.tensor(len(train) / (2 * np.bincount(labels[train]))).float()

        def loss(output, gold, num_items_in_batch=None):
            return torch.nn.functional.cross_entropy(output.logits, gold, weight.to(gold.device))

        with tempfile.TemporaryDirectory() as folder:
            arguments = hf.TrainingArguments(
                folder, num_train_epochs=EPOCHS, learning_rate=RATE, warmup_steps=0.1,
                per_device_train_batch_size=BATCH, train_sampling_strategy="group_by_length",
                **adapter.common_arguments(seed, half, on_gpu),
            )  # fmt: skip
            trainer = hf.Trainer(
                args=arguments, model_init=model_init, compute_loss_func=loss,
                train_dataset=[rows[i] for i in train], data_collator=pad,
            )  # fmt: skip
            trainer.remove_callback(hf.PrinterCallback)
            trainer.train()
        # Not by `Trainer.predict`, which would group by length in an order of its own.
        model, logits = trainer.model.eval(), np.empty((len(test), 2))
        order = np.argsort(lengths[test], kind="stable")
        with torch.inference_mode():
            for batch in np.array_split(order, np.arange(64, len(order), 64)):
                inputs = pad([rows[i] for i in test[batch]]).to(model.device)
                logits[batch] = model(**inputs).logits.float().cpu()
        return softmax(logits, axis=1)[None, :, 1]

    return learner
