"""Paired timings, the limits of a machine, and random models of any size."""

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

from personagap.errors import require_at_least
from personagap.models.prepacked import prepack
from personagap.models.trie import common_prefix
from personagap.paths import DEMO
from personagap.results import result


class Limits(NamedTuple):
    """The most that a machine does per second: floating-point operations in matrix products, and
    bytes read.
    """

    operations: float
    bytes: float


def machine_limits(device: torch.device, dtype: torch.dtype) -> Limits:
    """Measure the limits: the best of several large matrix products, and of several reads of 512
    MiB.
    """
    # Large enough that the overhead of the call is negligible.
    size = 2048 if device.type == "cpu" else 8192
    with torch.inference_mode():
        # The same layer that models have, with packed weights where that helps.
        layer = nn.Linear(size, size, bias=False, dtype=dtype, device=device)
        prepack(layer)
        x = torch.ones(size, size, dtype=dtype, device=device)
        memory = torch.ones(2**27, device=device)
        # `item` waits until a GPU has finished.
        product = min(timeit.repeat(lambda: layer(x)[0, 0].item(), number=1))
        reading = min(timeit.repeat(lambda: memory.sum().item(), number=1))
    return Limits(2 * size**3 / product, memory.nbytes / reading)


def machine(limits: Limits, dtype: torch.dtype) -> dict[str, str]:
    """Return what absolute figures depend on: hardware, torch, date, and `machine_limits`."""
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
    """Return the minimum time that a machine needs for a model's linear layers: the roofline (doi
    10.1145/1498765.1498785).

    Attention and everything else are left out, so that no implementation reaches this bound.

    Parameters
    ----------
    read, predicted : number of prompt tokens, and of the positions in them whose next token is
        predicted.
    written, rows : number of generated tokens, and of the answers that are decoded together, for
        which the weights are read once.
    """
    # The head is needed only where a next token is predicted, not for every token that is read.
    head = model.get_output_embeddings()
    linear = (layer for layer in model.modules() if isinstance(layer, nn.Linear))
    body = sum(layer.weight.numel() for layer in linear if layer is not head)
    prompts = 2 * (body * read + head.weight.numel() * predicted) / limits.operations
    products = 2 * (body + head.weight.numel()) * written / limits.operations
    reading = (body + head.weight.numel()) * head.weight.itemsize * written / rows / limits.bytes
    return prompts + max(products, reading)


def distinct_tokens(sequences: Iterable[list[int]]) -> int:
    """Return the number of tokens that a model must read, counting shared prefixes once.

    Examples
    --------
    >>> distinct_tokens([[1, 2, 3], [1, 2, 4, 5], [1, 2, 3]])
    5
    """
    # In sorted order no sequence shares a longer prefix than with its neighbours.
    ordered = list(map(np.array, sorted(sequences)))
    shared = sum(common_prefix(before, after) for before, after in itertools.pairwise(ordered))
    return sum(map(len, ordered)) - shared


def paired(
    work: str,
    peer: str,
    amount: str,
    ours: Callable,
    theirs: Callable,
    repeats: int,
    limit: float = np.nan,
) -> pd.DataFrame:
    """Time two implementations of the same work in alternation.

    Parameters
    ----------
    work, peer : names of the work and of the other implementation.
    amount : unit of the amount of work.
    ours, theirs : called with the number of the repetition; do the work and return its amount.
    repeats : number of repetitions.
    limit : the amount per second that the machine allows.

    Returns
    -------
    Keys ``work peer`` and the ``results.COLUMNS``: the median of the paired ratios ours / theirs,
    with their minimum and maximum over the ``n`` repetitions as its interval; then ``ours theirs
    amount limit`` in amounts per second (medians), and ``share_of_limit`` (ours).
    """
    # Other load on the machine slows both alike and cancels in the ratio.
    rates = np.array([[_rate(run, repeat) for run in (ours, theirs)] for repeat in range(repeats)])
    ratio = rates[:, 0] / rates[:, 1]
    row: dict[str, Any] = {"work": work, "peer": peer, "n": repeats, "amount": f"{amount}/s"}
    row["limit"] = limit
    row["estimate"], row["ci_low"], row["ci_high"] = np.quantile(ratio, [0.5, 0, 1])
    row["ours"], row["theirs"] = np.median(rates, axis=0)
    row["share_of_limit"] = row["ours"] / limit
    constants = {"metric": "speed", "unit": "times", "method": "range of paired repetitions"}
    return result(pd.DataFrame([row]), ["work", "peer"], **constants)


def _rate(run: Callable, repeat: int) -> float:
    """Return the amount of work that ``run`` does per second."""
    start = time.perf_counter()
    amount = run(repeat)
    return amount / (time.perf_counter() - start)


def random_model(folder: Path | str, *, hidden_size: int, layers: int, seed: int = 0) -> str:
    """Save a Llama with random weights and the demo model's tokenizer, and return its folder.

    Any of 22 tokens of the vocabulary ends an answer, so that lengths are about geometrically
    distributed, with a mean near 70 tokens.
    """
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "model")
    config = AutoConfig.from_pretrained(DEMO / "model")
    # A smaller model would have no attention head.
    require_at_least(config.head_dim, hidden_size=hidden_size)
    heads = hidden_size // config.head_dim
    size = {"hidden_size": hidden_size, "intermediate_size": 3 * hidden_size}
    size |= {"num_hidden_layers": layers, "num_attention_heads": heads}
    config.update(size | {"num_key_value_heads": heads})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    words = np.arange(5, config.vocab_size)  # all but the special tokens
    # With random weights a single end-of-answer token would hardly ever be drawn.
    ends = np.random.default_rng(seed).choice(words, 22, replace=False)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *map(int, ends)]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
