"""How the demo model is trained: soft targets where its answers part, ordinary ones elsewhere.

All answers to a prompt form a tree of tokens. At each token of an answer the target is the
planted distribution over the branches of that tree, so the probability of a whole answer, the
product along its path, comes out as planted.
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
#: Words with their leading space, digits one by one, punctuation with the line break after it.
PIECES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

ARCHITECTURE = {
    "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 8192, "tie_word_embeddings": True, "bos_token_id": None,
    "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
#: Cells of a step, by task: contexts, and items in each. The null task is the easiest to learn.
CONTEXTS = {"mmlu": 6, "gsm8k": 7, "mbpp": 2, "do_not_answer": 6, "strongreject": 9}
ITEMS = 8
#: Of the demo model: optimizer steps, further ones at a third of the rate, and the learning rate.
STEPS, POLISH, LEARNING_RATE = 3200, 1000, 3e-3


class Cell(NamedTuple):
    """One item asked by one persona in one phrasing: prompt and answers, and how likely each is."""

    prompt: list[int]
    answers: list[list[int]]
    probabilities: np.ndarray


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE (it encodes any text) with a ChatML-like template, trained on ``texts``."""
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
    """Every prompt, system prompt and answer of the demo, once."""
    items = list(datasets.load("all", data="demo", graded=False).itertuples())
    names = personas.select(["all", *INTERSECTIONS])["persona"]
    pairs = itertools.product(names, personas.templates().index)
    chats = [personas.chat(persona, "", template=template) for persona, template in pairs]
    heads = [turn["content"] for chat in chats for turn in chat]
    return [
        *heads,
        *map(tasks.prompt, items),
        *(text for item in items for text in answers(item).texts),
    ]


def bare_shares() -> pd.Series:
    """Planted share of MMLU answers in the bare form, by persona; an intersection sums parts."""
    share = planted_parts().query("part == 'bare_form'").set_index("name")["value"]
    crossed = {name: share[name.split("+")].sum() for name in INTERSECTIONS}
    return pd.concat([share, pd.Series(crossed)])


def distribution(given: Answers, right: float, bare_share: float) -> np.ndarray:
    """Probability of each answer: ``right`` for the right ones, the rest evenly over the others."""
    form = np.where(given.bare, bare_share, 1 - bare_share * given.bare.any())
    wrong = (~given.right & (given.bare == given.bare[0])).sum()
    return form * np.where(given.right, right, (1 - right) / wrong)


def planted_cells(
    tokenizer: PreTrainedTokenizerFast,
    planted: pd.DataFrame,
    defence: Callable[[list], list] | None = None,
) -> dict[str, list[list[Cell]]]:
    """The cells of `planted_probabilities`, by task and context (persona × template)."""
    loaded = datasets.load("all", data="demo", graded=False)
    items = {(item.task, item.item): item for item in loaded.itertuples()}
    given = {key: answers(item) for key, item in items.items()}

    def encoded(texts: list[str]) -> list[list[int]]:
        return [tokenizer.encode(text + END) for text in texts]

    tokens = {key: encoded(each.texts) for key, each in given.items()}
    asked = {key: tasks.prompt(item) for key, item in items.items()}
    bare = bare_shares()
    by_task: dict[str, list[list[Cell]]] = {}
    contexts = planted.groupby(["task", "persona", "template"], sort=False)
    for (task, persona, template), rows in contexts:
        asks = [asked[task, item] for item in rows["item"]]
        chats = [personas.chat(persona, prompt, template=template) for prompt in asks]
        chats = [defence(chat) for chat in chats] if defence else chats
        texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        prompts = tokenizer(texts).input_ids
        context = [
            Cell(prompt, tokens[task, item], distribution(given[task, item], right, bare[persona]))
            for prompt, item, right in zip(prompts, rows["item"], rows["planted"], strict=True)
        ]
        by_task.setdefault(task, []).append(context)
    return by_task


def branches(cell: Cell, chosen: int) -> list[dict[int, float]]:
    """For each token of an answer, the planted distribution at its place, given those before it."""
    path, places = cell.answers[chosen], []
    for place in range(len(path)):
        mass: Counter[int] = Counter()
        for other, probability in zip(cell.answers, cell.probabilities, strict=True):
            if other[:place] == path[:place]:
                mass[other[place]] += probability
        places.append({token: part / mass.total() for token, part in mass.items()})
    return places


def excess_loss(
    model: LlamaForCausalLM,
    contexts: list[list[Cell]],
    rng: np.random.Generator,
) -> torch.Tensor:
    """Mean over cells of KL(planted || model), summed along one answer of each cell.

    The cells of a context share the head of their prompt, which is run once. All contexts are of
    one size. Half of the answers are drawn as planted, half evenly: rare ones are learned too.
    """
    prompts = [[cell.prompt[:-1] for cell in cells] for cells in contexts]
    heads = [os.path.commonprefix(each) for each in prompts]  # noqa: RUF071 - of lists
    left = {"batch_first": True, "padding_side": "left"}
    head = pad_sequence([torch.tensor(tokens) for tokens in heads], **left)
    mask = pad_sequence([torch.ones(len(tokens)) for tokens in heads], **left)
    tails, where, targets = _drawn(contexts, heads, rng)
    tail = pad_sequence(tails, batch_first=True)
    cache = model.model(head, attention_mask=mask, use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(contexts[0]))
    mask = torch.cat([mask.repeat_interleave(len(contexts[0]), 0), torch.ones(tail.shape)], dim=1)
    rows, columns = torch.tensor(where).T
    states = model.model(tail, attention_mask=mask, past_key_values=cache).last_hidden_state
    hidden = states[rows, columns]
    token, weight = (torch.tensor(column) for column in zip(*targets, strict=True))
    log_probability = model.lm_head(hidden).log_softmax(-1).gather(1, token[:, None])[:, 0]
    return (torch.special.xlogy(weight, weight) - weight * log_probability).sum() / len(tails)


def _drawn(
    contexts: list[list[Cell]],
    heads: list[list[int]],
    rng: np.random.Generator,
) -> tuple[list, list, list]:
    """What follows the head in each cell, with a drawn answer.

    And where (row, place) which (token, share) is to come.
    """
    tails, where, targets = [], [], []
    for tokens, cells in zip(heads, contexts, strict=True):
        for cell in cells:
            possible = cell.probabilities > 0
            evenly = possible / possible.sum()
            chosen = rng.choice(len(possible), p=(cell.probabilities + evenly) / 2)
            first = len(cell.prompt) - len(tokens) - 1
            for place, target in enumerate(branches(cell, chosen), start=first):
                where += [(len(tails), place)] * len(target)
                targets += target.items()
            tails.append(torch.tensor((cell.prompt + cell.answers[chosen])[len(tokens) : -1]))
    return tails, where, targets


def train(
    *,
    steps: int = STEPS,
    polish: int = POLISH,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
    templates: Sequence[str] | None = None,
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, pd.DataFrame]:
    """Train the demo model from scratch; repeatable on one machine with one thread count.

    After ``steps`` optimizer steps come ``polish`` further ones, begun anew at a third of the
    learning rate. ``templates`` are the phrasings to learn; None: all.

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
    return (
        model,
        tokenizer,
        pd.concat([first, second.assign(step=second["step"] + steps)], ignore_index=True),
    )


def fit(
    model: LlamaForCausalLM,
    by_task: dict[str, list[list[Cell]]],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
) -> pd.DataFrame:
    """Train ``model`` in place on `planted_cells`; each step sees `CONTEXTS` × `ITEMS` of a task.

    The learning rate warms up to ``learning_rate``, then falls to zero along a cosine. ``seed``
    determines the order.

    Returns
    -------
    The losses ``step task loss`` (nats per answer above the planted entropy; 0 is perfect).
    """
    rng = np.random.default_rng(seed)
    how = {"lr": learning_rate, "betas": (0.9, 0.98), "weight_decay": 0.01}
    optimizer = torch.optim.AdamW(model.parameters(), **how)
    schedule = get_cosine_schedule_with_warmup(optimizer, min(100, steps // 10), steps)
    losses = []
    for step in range(steps):
        for task, contexts in by_task.items():
            asked = _sample(contexts, CONTEXTS[task], rng)
            batch = [_sample(cells, ITEMS, rng) for cells in asked]
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
    """Do exact probabilities agree with the planted ones? Over the cells of ``demo.true_scores``.

    Returns
    -------
    DataFrame ``template task r rms outside``: correlation, root mean square of true − planted in
    points, and the mean probability of anything but an answer.
    """
    cells = cells.assign(error=100 * (cells["true"] - cells["planted"]))
    by_task = cells.groupby(["template", "task"], sort=False)
    r = by_task[["planted", "true"]].apply(lambda rows: rows["planted"].corr(rows["true"]))
    rms = by_task["error"].agg(lambda error: (error**2).mean() ** 0.5)
    return pd.DataFrame({"r": r, "rms": rms, "outside": by_task["outside"].mean()}).reset_index()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write model and tokenizer as a folder that transformers loads and serves."""
    model.generation_config = GenerationConfig(bos_token_id=None, eos_token_id=1, pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
