"""Paired timings, and a model of any size; ``notebooks/performance.ipynb`` does the measuring."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from personagap.errors import at_least
from personagap.paths import DEMO
from personagap.results import result


def paired(work: str, peer: str, amount: str, ours: Callable, theirs: Callable, repeats: int) -> pd.DataFrame:
    """Time two ways to do the same work, in turns, so that a busy machine slows both.

    Parameters
    ----------
    ours, theirs : called with the number of the repetition; do the work and return its amount.
    amount : what that is of.

    Returns
    -------
    Keys ``work peer`` and the ``results.COLUMNS``: the median of the paired ratios ours / theirs, and
    as its interval the least and the largest of the ``n`` repetitions; then ``ours theirs amount``,
    the median amounts per second.
    """
    rates = np.array([[_rate(run, repeat) for run in (ours, theirs)] for repeat in range(repeats)])
    ratio = rates[:, 0] / rates[:, 1]
    row = {"work": work, "peer": peer, "n": repeats, "amount": f"{amount}/s"}
    row |= dict(zip(["estimate", "ci_low", "ci_high"], np.quantile(ratio, [0.5, 0, 1]), strict=True))
    row |= dict(zip(["ours", "theirs"], np.median(rates, axis=0), strict=True))
    known = {"metric": "speed", "unit": "times", "method": "range of paired repetitions"}
    return result(pd.DataFrame([row]), ["work", "peer"], **known)


def _rate(run: Callable, repeat: int) -> float:
    start = time.perf_counter()
    amount = run(repeat)
    return amount / (time.perf_counter() - start)


def random_model(folder: Path | str, *, hidden_size: int, layers: int, seed: int = 0) -> str:
    """Save a Llama with random weights and the demo model's tokenizer; its folder.

    Twenty-two tokens of the vocabulary end an answer, so lengths vary: about geometrically, with a
    mean near 70 tokens.
    """
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "model")
    config = AutoConfig.from_pretrained(DEMO / "model")
    at_least(config.head_dim, hidden_size=hidden_size)  # or there is no head
    heads = hidden_size // config.head_dim
    size = {
        "hidden_size": hidden_size,
        "intermediate_size": 3 * hidden_size,
        "num_hidden_layers": layers,
    }
    config.update(size | {"num_attention_heads": heads, "num_key_value_heads": heads})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    words = np.arange(5, config.vocab_size)  # without the special tokens
    ends = np.random.default_rng(seed).choice(words, 22, replace=False)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *map(int, ends)]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
