"""Paired timings, what a machine allows, and models of any size."""

import datetime
import itertools
import os
import platform
import time
import timeit
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from personagap.errors import at_least
from personagap.models.prepacked import prepack
from personagap.models.trie import common_prefix
from personagap.paths import DEMO
from personagap.results import result


class Limits(NamedTuple):
    """What a machine does at most in a second: floating-point operations of matrix products, and
    bytes read.
    """

    operations: float
    bytes: float


def machine_limits(device: torch.device, dtype: torch.dtype) -> Limits:
    """The best of several large matrix products, and of several readings of 512 MiB."""
    # Large enough that starting the product takes no time beside it.
    size = 2048 if device.type == "cpu" else 8192
    with torch.inference_mode():
        # A linear layer as a model has it, its weights packed where that helps.
        layer = nn.Linear(size, size, bias=False, dtype=dtype, device=device)
        prepack(layer)
        x = torch.ones(size, size, dtype=dtype, device=device)
        memory = torch.ones(2**27, device=device)
        # `item` waits for a GPU.
        product = min(timeit.repeat(lambda: layer(x)[0, 0].item(), number=1))
        reading = min(timeit.repeat(lambda: memory.sum().item(), number=1))
    return Limits(2 * size**3 / product, memory.nbytes / reading)


def machine(limits: Limits, dtype: torch.dtype) -> dict[str, str]:
    """What absolute figures hold for: the hardware, torch, the date, and the `machine_limits`."""
    return {
        "processor": platform.machine(),
        "cores": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
        "date": f"{datetime.date.today()}",
        "matrix products": f"{limits.operations / 1e9:.0f} GFLOP/s in {dtype}",
        "memory": f"{limits.bytes / 1e9:.1f} GB/s",
    }


def seconds_at_limit(
    model: nn.Module, limits: Limits, read: int, predicted: int = 0, written: int = 0, rows: int = 1
) -> float:
    """The least time that a machine needs for a model's linear layers: its roofline (doi
    10.1145/1498765.1498785).

    Attention and all else are left out, so that this is out of reach.

    Parameters
    ----------
    read, predicted : tokens of prompts, and positions in them whose next token is predicted.
    written, rows : tokens of answers, and how many answers are written side by side, which read the
        weights together.
    """
    # The head is computed where a next token is predicted, not for each token that is read.
    head = model.get_output_embeddings()
    linear = (layer for layer in model.modules() if isinstance(layer, nn.Linear))
    body = sum(layer.weight.numel() for layer in linear if layer is not head)
    prompts = 2 * (body * read + head.weight.numel() * predicted) / limits.operations
    products = 2 * (body + head.weight.numel()) * written / limits.operations
    reading = (body + head.weight.numel()) * head.weight.itemsize * written / rows / limits.bytes
    return prompts + max(products, reading)


def distinct_tokens(sequences: Iterable[list[int]]) -> int:
    """Tokens that a model must read, those of a beginning in common once.

    Examples
    --------
    >>> distinct_tokens([[1, 2, 3], [1, 2, 4, 5], [1, 2, 3]])
    5
    """
    # Sorted, a sequence has more in common with its neighbour than with any other.
    ordered = list(map(np.array, sorted(sequences)))
    again = sum(common_prefix(before, after) for before, after in itertools.pairwise(ordered))
    return sum(map(len, ordered)) - again


def paired(
    work: str,
    peer: str,
    amount: str,
    ours: Callable,
    theirs: Callable,
    repeats: int,
    limit: float = np.nan,
) -> pd.DataFrame:
    """Time two ways to do the same work, in turns, so that a busy machine slows both.

    Parameters
    ----------
    ours, theirs : called with the number of the repetition; do the work and return its amount.
    amount : what that is of.
    limit : the amount per second that the machine allows.

    Returns
    -------
    Keys ``work peer`` and the ``results.COLUMNS``: the median of the paired ratios ours / theirs,
    and as its interval the least and the largest of the ``n`` repetitions; then ``ours theirs
    amount limit``, amounts per second (medians), and ``share_of_limit``, of ours.
    """
    # In turns: whatever else the machine does slows both, and drops out of their ratio.
    rates = np.array([[_rate(run, repeat) for run in (ours, theirs)] for repeat in range(repeats)])
    ratio = rates[:, 0] / rates[:, 1]
    row: dict[str, Any] = {"work": work, "peer": peer, "n": repeats, "amount": f"{amount}/s"}
    row["limit"] = limit
    row["estimate"], row["ci_low"], row["ci_high"] = np.quantile(ratio, [0.5, 0, 1])
    row["ours"], row["theirs"] = np.median(rates, axis=0)
    row["share_of_limit"] = row["ours"] / limit
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
    # Else there is no head.
    at_least(config.head_dim, hidden_size=hidden_size)
    heads = hidden_size // config.head_dim
    size = {"hidden_size": hidden_size, "intermediate_size": 3 * hidden_size}
    size |= {"num_hidden_layers": layers, "num_attention_heads": heads}
    config.update(size | {"num_key_value_heads": heads})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    words = np.arange(5, config.vocab_size)  # without the special tokens
    # With random weights the one token that ends an answer would hardly ever come.
    ends = np.random.default_rng(seed).choice(words, 22, replace=False)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *map(int, ends)]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
