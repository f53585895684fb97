"""What `classifiers` can learn with: a linear model or kernels of embeddings, a language model's
hidden states, or an encoder fine-tuned whole.
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
from personagap.models.rendering import user_says
from personagap.recentering import attributes

Texts = Sequence[str] | Sequence[tuple[str, str]]

#: Inverse strengths of the ridge penalty to choose from, and dimensions of the representation that
#: needs no model.
PENALTIES, DIMENSIONS = (3e-4, 3e-3, 3e-2), 100
#: Width of the Gaussian kernels, on unit vectors, and strengths of the ridge penalty to choose
#: from.
WIDTH, RIDGES = 0.8, (1.0, 3.0)
#: Where hidden states are read, as a share of the layers, and with what answer begun.
DEPTH, BEGUN = 0.7, "Answer:"
#: Fine-tuning as is usual (Devlin et al. 2019, doi 10.18653/v1/N19-1423): nothing to choose.
EPOCHS, RATE, BATCH, TOKENS = 3, 5e-5, 16, 256
#: Scores of test rows by a model of training rows, one line per setting: (n_settings, n_test).
Learner = Callable[[np.ndarray, np.ndarray], np.ndarray]


def linear(texts: Texts, labels: np.ndarray, encoder: str | None, seed: int) -> Learner:
    sides = [texts] if isinstance(texts[0], str) else list(zip(*texts, strict=True))
    code, words = pd.factorize(pd.Series([text for side in sides for text in side]))
    code = code.reshape(len(sides), -1)

    def learner(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        known = words[np.unique(code[:, train])]
        x = _features(embed(words, encoder, dimensions=DIMENSIONS, known=known, seed=seed)[code])
        fits = (LogisticRegression(C=penalty, max_iter=1000) for penalty in PENALTIES)
        fits = (fit.fit(x[train], labels[train]) for fit in fits)
        return np.stack([fit.predict_proba(x[test])[:, 1] for fit in fits])

    return learner


def _features(vectors: np.ndarray) -> np.ndarray:
    """All of one size, for one penalty; scaled each by itself, columns that hardly vary in training
    would blow up.
    """
    size = vectors.shape[-1]
    if len(vectors) == 1:
        return size**0.5 * vectors[0]
    a, b = vectors
    cosine = (a * b).sum(axis=1, keepdims=True)
    return np.hstack([size**0.5 * np.hstack([a, b, abs(a - b), cosine]), size * a * b])


def kernel(texts: Texts, labels: np.ndarray, encoder: str | None, seed: int) -> Learner:
    """Kernel ridge regression of pairs, by a pairwise kernel (Stock et al. 2018, arXiv 1803.01575).

    K = k(a, a') (1 + k(p, p')) + s·s'/d: what is known of like attributes counts, more so with a
    like prompt, and so does how similar an attribute is to its prompt, beside the others of that
    prompt. That takes no labels of theirs.
    """
    code, words = _coded_pairs(texts, "kernel")
    overlap = _beside(embed(words)[code], code[0])

    def similarity(train: np.ndarray, both: np.ndarray) -> np.ndarray:
        known = words[np.unique(code[:, train])]
        vectors = embed(words, encoder, dimensions=DIMENSIONS, known=known, seed=seed)[code]
        near = np.hstack([overlap, _beside(vectors, code[0])])
        centred = (normalize(x - x.mean(axis=0)) for x in vectors)
        prompt, attribute = (rbf_kernel(x[both], x[train], gamma=0.5 / WIDTH**2) for x in centred)
        return attribute * (1 + prompt) + near[both] @ near[train].T / near.shape[1]

    return _ridge(similarity, labels)


def states(texts: Texts, labels: np.ndarray, model: Hashable, seed: int) -> Learner:
    """Kernel ridge regression of what a language model holds when it has read a pair and is about
    to answer: a probe of its hidden states (Alain and Bengio 2016, arXiv 1610.01644).

    They are taken less their mean over the attributes of a prompt, which tells the prompt and not
    the attribute, and compared by a Gaussian kernel, beside the words that both have in common.
    """
    code, words = _coded_pairs(texts, "states")
    overlap = _beside(embed(words)[code], code[0])
    held = pd.DataFrame(_held(model, tuple(texts)))
    # A few components are a hundred times as large as others; one that hardly varies is rounding.
    spread = held.std()
    held = (held - held.groupby(code[0]).transform("mean")) / spread.clip(0.01 * spread.mean())
    vectors = normalize(held)

    def similarity(train: np.ndarray, both: np.ndarray) -> np.ndarray:
        alike = rbf_kernel(vectors[both], vectors[train], gamma=0.5 / WIDTH**2)
        return alike + overlap[both] @ overlap[train].T / overlap.shape[1]

    return _ridge(similarity, labels)


@functools.lru_cache(maxsize=2)
def _held(model: Any, pairs: tuple[tuple[str, str], ...]) -> np.ndarray:
    """Hidden states (n, hidden size); once for all folds, as no label goes into them."""
    # Here, as it imports torch, which the others do without.
    from personagap.models.local import LocalModel

    lm = models.load_model(model) if isinstance(model, str) else model
    if not isinstance(lm, LocalModel):
        shown = f"{getattr(lm, 'id', lm)} shows no hidden states"
        remedy = "give encoder= a model in process, such as smollm2, gguf:FILE or hf:ORG/NAME"
        raise UserError(f"method 'states': {shown}; {remedy}")
    asked = [user_says(attributes.question(prompt, [text])) for prompt, text in pairs]
    begun = {"role": "assistant", "content": BEGUN}
    return lm.hidden_states([[*chat, begun] for chat in asked], DEPTH)


def _coded_pairs(texts: Texts, method: str) -> tuple[np.ndarray, pd.Index]:
    """Numbers of the prompts and of the attributes, (2, n), among all texts, and these."""
    if isinstance(texts[0], str):
        remedy = "choose linear or encoder"
        raise UserError(f"method {method!r} judges pairs of a prompt and an attribute: {remedy}")
    sides = zip(*texts, strict=True)
    code, words = pd.factorize(pd.Series([text for side in sides for text in side]))
    return code.reshape(2, -1), words


def _ridge(similarity: Callable[[np.ndarray, np.ndarray], np.ndarray], labels: np.ndarray):
    """Kernel ridge regression, of ``similarity(train, rows)``: (rows, train)."""

    def learner(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        kernel = similarity(train, np.concatenate([train, test]))
        share = labels[train].mean()
        fits = (KernelRidge(alpha=alpha, kernel="precomputed") for alpha in RIDGES)
        fits = (fit.fit(kernel[: len(train)], labels[train] - share) for fit in fits)
        return np.stack([share + fit.predict(kernel[len(train) :]) for fit in fits]).clip(0, 1)

    return learner


def _beside(vectors: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Cosine of prompt and attribute, also less its mean and as its rank among those of the prompt:
    (n, 3), scaled.
    """
    cosine = pd.Series((vectors[0] * vectors[1]).sum(axis=1))
    page = cosine.groupby(prompt)
    return scale(np.column_stack([cosine, cosine - page.transform("mean"), page.rank(pct=True)]))


def encoder(texts: Texts, labels: np.ndarray, encoder: str | None, seed: int) -> Learner:
    import torch
    import transformers as hf

    from personagap.models import adapter, prepacked

    if encoder is None:
        raise UserError("method 'encoder' fine-tunes a model: give encoder= a folder or a Hub name")
    with explained(f"no encoder at {encoder!r}", "give a folder or a Hub name"):
        tokenizer = hf.AutoTokenizer.from_pretrained(encoder)
        config = hf.AutoConfig.from_pretrained(encoder, num_labels=2)

    def model_init():  # for Trainer to seed before a new head is drawn
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
    # Few prompts are long: padded to them, batches at random are three times as many tokens.
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
                **adapter.usual_arguments(seed, half, on_gpu),
            )  # fmt: skip
            trainer = hf.Trainer(
                args=arguments, model_init=model_init, compute_loss_func=loss,
                train_dataset=[rows[i] for i in train], data_collator=pad,
            )  # fmt: skip
            trainer.remove_callback(hf.PrinterCallback)
            trainer.train()
        # Not by `Trainer.predict`, which groups by length in an order of its own.
        model, logits = trainer.model.eval(), np.empty((len(test), 2))
        order = np.argsort(lengths[test], kind="stable")
        with torch.inference_mode():
            for batch in np.array_split(order, np.arange(64, len(order), 64)):
                inputs = pad([rows[i] for i in test[batch]]).to(model.device)
                logits[batch] = model(**inputs).logits.float().cpu()
        return softmax(logits, axis=1)[None, :, 1]

    return learner
