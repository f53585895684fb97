"""Training of the demo model: soft targets where its answers diverge, one-hot targets elsewhere.

All answers to a prompt form a tree of tokens. At each token of an answer the target is the planted
distribution over the branches of that tree, so the probability of a whole answer, the product along
its path, equals the planted one.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.optimization import get_cosine_schedule_with_warmup

from make_planted import INTERSECTIONS
from personagap import datasets, personas, tasks
from personagap.demo.planted import Answers, answers, planted_parts, planted_probabilities

END = "<|end|>"
SPECIAL = ["<|pad|>", END, "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message.role + '|>' + message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
#: Pre-tokens: words with their leading space, single digits, punctuation with a following line
#: break.
PIECES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

ARCHITECTURE = {
    "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 8192, "tie_word_embeddings": True, "bos_token_id": None,
    "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
#: Contexts per step, by task (the null task is the easiest to learn), and items per context.
CONTEXTS = {"mmlu": 6, "gsm8k": 7, "mbpp": 2, "do_not_answer": 6, "strongreject": 9}
ITEMS = 8
#: For the demo model: optimizer steps, additional steps at a third of the learning rate, and that
#: rate.
STEPS, POLISH, LEARNING_RATE = 3200, 1000, 3e-3


class Cell(NamedTuple):
    """One item, persona and template: tokens of prompt and answers, and planted probabilities."""

    prompt: list[int]
    answers: list[list[int]]
    probabilities: np.ndarray


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer (it encodes any text) with a ChatML-like template."""
    tokenizer = Tokenizer(models.BPE())
    by_byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(PIECES), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, by_byte])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIAL[0], eos_token=END,
        extra_special_tokens=SPECIAL[2:], chat_template=CHAT_TEMPLATE,
        model_max_length=ARCHITECTURE["max_position_embeddings"],
    )  # fmt: skip


def corpus() -> list[str]:
    """Return every prompt, system prompt and answer of the demo, once."""
    items = list(datasets.load("all", data="demo", graded=False).itertuples())
    names = personas.select(["all", *INTERSECTIONS])["persona"]
    pairs = itertools.product(names, personas.templates().index)
    chats = [personas.chat(persona, "", template=template) for persona, template in pairs]
    contexts = [turn["content"] for chat in chats for turn in chat]
    texts = [text for item in items for text in answers(item).texts]
    return [*contexts, *map(tasks.prompt, items), *texts]


def bare_shares() -> pd.Series:
    """Return the planted share of bare MMLU answers by persona; that of intersections is a sum."""
    share = planted_parts().query("part == 'bare_form'").set_index("name")["value"]
    crossed = {name: share[name.split("+")].sum() for name in INTERSECTIONS}
    return pd.concat([share, pd.Series(crossed)])


def distribution(options: Answers, right: float, bare_share: float) -> np.ndarray:
    """Return the probability of each answer: ``right`` for right ones, the rest spread evenly."""
    form = np.where(options.bare, bare_share, 1 - bare_share * options.bare.any())
    n_wrong = (~options.right & (options.bare == options.bare[0])).sum()
    return form * np.where(options.right, right, (1 - right) / n_wrong)


def planted_cells(
    tokenizer: PreTrainedTokenizerFast,
    planted: pd.DataFrame,
    defence: Callable[[list], list] | None = None,
) -> dict[str, list[list[Cell]]]:
    """Return the cells of `planted_probabilities`, by task and context (persona × template)."""
    loaded = datasets.load("all", data="demo", graded=False)
    items = {(item.task, item.item): item for item in loaded.itertuples()}
    options = {key: answers(item) for key, item in items.items()}

    def encoded(texts: list[str]) -> list[list[int]]:
        return [tokenizer.encode(text + END) for text in texts]

    tokens = {key: encoded(option.texts) for key, option in options.items()}
    questions = {key: tasks.prompt(item) for key, item in items.items()}
    bare = bare_shares()
    by_task: dict[str, list[list[Cell]]] = {}
    contexts = planted.groupby(["task", "persona", "template"], sort=False)
    for (task, persona, template), rows in contexts:
        texts = [questions[task, item] for item in rows["item"]]
        chats = [personas.chat(persona, text, template=template) for text in texts]
        chats = [defence(chat) for chat in chats] if defence else chats
        texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        prompts = tokenizer(texts).input_ids
        context = [
            Cell(
                prompt, tokens[task, item], distribution(options[task, item], right, bare[persona])
            )
            for prompt, item, right in zip(prompts, rows["item"], rows["planted"], strict=True)
        ]
        by_task.setdefault(task, []).append(context)
    return by_task


def branches(cell: Cell, chosen: int) -> list[dict[int, float]]:
    """Return the planted distribution of each token of an answer, given the tokens before it."""
    path, distributions = cell.answers[chosen], []
    for position in range(len(path)):
        mass: Counter[int] = Counter()
        for answer, probability in zip(cell.answers, cell.probabilities, strict=True):
            if answer[:position] == path[:position]:
                mass[answer[position]] += probability
        distributions.append({token: part / mass.total() for token, part in mass.items()})
    return distributions


def excess_loss(
    model: LlamaForCausalLM,
    contexts: list[list[Cell]],
    rng: np.random.Generator,
) -> torch.Tensor:
    """Compute the mean over cells of KL(planted || model), summed along one answer of each cell.

    The cells of a context share the beginning of their prompt, which is computed once. All contexts
    have the same number of cells. Answers are drawn half from the planted distribution, half
    uniformly, so that rare ones are learned too.
    """
    prompts = [[cell.prompt[:-1] for cell in cells] for cells in contexts]
    # `os.path.commonprefix` works for any sequences, not only for paths.
    heads = [os.path.commonprefix(context) for context in prompts]  # noqa: RUF071
    left = {"batch_first": True, "padding_side": "left"}
    head = pad_sequence([torch.tensor(tokens) for tokens in heads], **left)
    mask = pad_sequence([torch.ones(len(tokens)) for tokens in heads], **left)
    tails, places, targets = _draw_answers(contexts, heads, rng)
    tail = pad_sequence(tails, batch_first=True)
    cache = model.model(head, attention_mask=mask, use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(contexts[0]))
    mask = torch.cat([mask.repeat_interleave(len(contexts[0]), 0), torch.ones(tail.shape)], dim=1)
    rows, columns = torch.tensor(places).T
    states = model.model(tail, attention_mask=mask, past_key_values=cache).last_hidden_state
    hidden = states[rows, columns]
    token, weight = (torch.tensor(column) for column in zip(*targets, strict=True))
    log_probability = model.lm_head(hidden).log_softmax(-1).gather(1, token[:, None])[:, 0]
    return (torch.special.xlogy(weight, weight) - weight * log_probability).sum() / len(tails)


def _draw_answers(
    contexts: list[list[Cell]],
    heads: list[list[int]],
    rng: np.random.Generator,
) -> tuple[list, list, list]:
    """Draw an answer for each cell.

    Returns
    -------
    The tokens after the shared head, prompt and answer; and, for each target, its place (row,
    column) and its token and share.
    """
    tails, places, targets = [], [], []
    for tokens, cells in zip(heads, contexts, strict=True):
        for cell in cells:
            possible = cell.probabilities > 0
            uniform = possible / possible.sum()
            chosen = rng.choice(len(possible), p=(cell.probabilities + uniform) / 2)
            first = len(cell.prompt) - len(tokens) - 1
            for column, target in enumerate(branches(cell, chosen), start=first):
                places += [(len(tails), column)] * len(target)
                targets += target.items()
            tails.append(torch.tensor((cell.prompt + cell.answers[chosen])[len(tokens) : -1]))
    return tails, places, targets


def train(
    *,
    steps: int = STEPS,
    polish: int = POLISH,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
    templates: Sequence[str] | None = None,
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, pd.DataFrame]:
    """Train the demo model from scratch, reproducibly on one machine with one number of threads.

    After ``steps`` optimizer steps follow ``polish`` more, with a new schedule at a third of the
    learning rate. ``templates`` are the templates to learn, by default all.

    Returns
    -------
    The model, its tokenizer, and the losses of `fit`.
    """
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(corpus())
    planted = planted_probabilities(templates or personas.templates().index)
    by_task = planted_cells(tokenizer, planted)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **ARCHITECTURE))
    first = fit(model, by_task, steps=steps, learning_rate=learning_rate, seed=seed)
    second = fit(model, by_task, steps=polish, learning_rate=learning_rate / 3, seed=seed + 1)
    second = second.assign(step=second["step"] + steps)
    return model, tokenizer, pd.concat([first, second], ignore_index=True)


def fit(
    model: LlamaForCausalLM,
    by_task: dict[str, list[list[Cell]]],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
) -> pd.DataFrame:
    """Train ``model`` in place on `planted_cells`.

    Each step uses `CONTEXTS` × `ITEMS` cells of each task.

    The learning rate warms up to ``learning_rate``, then decays to zero along a cosine. ``seed``
    determines the order.

    Returns
    -------
    The losses ``step task loss`` (excess nats per answer over the planted entropy; 0 is perfect).
    """
    rng = np.random.default_rng(seed)
    how = {"lr": learning_rate, "betas": (0.9, 0.98), "weight_decay": 0.01}
    optimizer = torch.optim.AdamW(model.parameters(), **how)
    schedule = get_cosine_schedule_with_warmup(optimizer, min(100, steps // 10), steps)
    losses = []
    for step in range(steps):
        for task, contexts in by_task.items():
            sampled = _sample(contexts, CONTEXTS[task], rng)
            batch = [_sample(cells, ITEMS, rng) for cells in sampled]
            loss = excess_loss(model, batch, rng)
            loss.backward()
            losses.append((step, task, loss.item()))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return pd.DataFrame(losses, columns=["step", "task", "loss"])


def _sample(rows: list, n: int, rng: np.random.Generator) -> list:
    return [rows[index] for index in rng.choice(len(rows), n, replace=False)]


def agreement(cells: pd.DataFrame) -> pd.DataFrame:
    """Compare exact with planted probabilities over the cells of ``demo.true_scores``.

    Returns
    -------
    DataFrame ``template task r rms outside``: correlation, root mean square of true − planted in
    points, and mean probability of other texts than the answers.
    """
    cells = cells.assign(error=100 * (cells["true"] - cells["planted"]))
    by_task = cells.groupby(["template", "task"], sort=False)
    r = by_task[["planted", "true"]].apply(lambda rows: rows["planted"].corr(rows["true"]))
    rms = by_task["error"].agg(lambda error: (error**2).mean() ** 0.5)
    return pd.DataFrame({"r": r, "rms": rms, "outside": by_task["outside"].mean()}).reset_index()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write model and tokenizer to a folder that transformers can load and serve."""
    model.generation_config = GenerationConfig(bos_token_id=None, eos_token_id=1, pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
