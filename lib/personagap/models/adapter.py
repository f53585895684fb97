"""Low-rank adapters: trained by a trainer of trl, then merged into their model."""

import contextlib
import math
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import is_bitsandbytes_available

from personagap import models
from personagap.errors import UserError, explained
from personagap.models import prepacked
from personagap.models.loading import check_weights
from personagap.store.folder import whole


def load(model: str):
    """The model to tune, of ``models.load_model``; ``UserError`` for one on a server."""
    if model.startswith("openai:"):
        remedy = "give hf:ORG/NAME or a folder"
        raise UserError(f"model {model!r}: a model on a server cannot be tuned; {remedy}")
    return models.load_model(model)


def usual_arguments(seed: int, half: bool, on_gpu: bool) -> dict[str, Any]:
    """Of any ``TrainingArguments`` here: nothing is saved or printed on the way; ``half``, mixed
    precision: weights stay in float32.
    """
    return {
        "seed": seed, "bf16": half, "use_cpu": half and not on_gpu, "dataloader_pin_memory": on_gpu,
        "save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True,
    }  # fmt: skip


def in_parts(lm, batch: int) -> dict[str, int]:
    """Of any ``TrainingArguments``: a step on ``batch`` rows, as few at a time as memory holds.

    Gradients are summed over the parts. For each token of a row the scores of the whole vocabulary
    are kept: eight pairs of answers took 14 GB for a model of 0.5 billion parameters.
    """
    at_once = math.gcd(batch, 2 if _is_large(lm) else 8)
    return {
        "per_device_train_batch_size": at_once, "gradient_accumulation_steps": batch // at_once,
    }  # fmt: skip


def _is_large(lm) -> bool:
    on_cpu = lm.device.type == "cpu"
    layers = (layer for layer in lm.model.modules() if isinstance(layer, nn.Linear))
    return on_cpu and any(layer.weight.numel() >= prepacked.LEAST for layer in layers)


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bars of datasets, which the trainer's own switch does not reach."""
    from datasets import utils

    before = utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            utils.enable_progress_bars()


def train(
    lm,
    folder: Path,
    method: str,
    rows: pd.DataFrame,
    options: dict,
    lora: dict,
    seed: int,
    qlora: bool = False,
    **more,
) -> None:
    """Train an adapter, on a GPU if there is one, and save the model with it merged in.

    Parameters
    ----------
    lm, folder : of `load`; for the result, which appears whole or not at all.
    method, options, more : "DPO" or another of trl; what its configuration, and its trainer, take
        beside the usual.
    rows, lora : what it learns from; rank, scale and place of the adapter.
    seed : decides the adapter's start, order and dropout; a run is repeatable on one machine.
    qlora : train it beside weights in 4 bits (arXiv 2305.14314), if there are a GPU and
        bitsandbytes.
    """
    import trl
    from datasets import Dataset
    from peft import LoraConfig, PeftModel
    from transformers import BitsAndBytesConfig, PrinterCallback, set_seed

    on_gpu = lm.device.type == "cuda"
    # Mixed precision, where the processor has it; small models gain nothing.
    half = on_gpu or (_is_large(lm) and prepacked.has_bfloat16())
    packed = qlora and on_gpu and is_bitsandbytes_available()
    usual = usual_arguments(seed, half, on_gpu) | {"activation_checkpointing": on_gpu}
    # Trl uses names transformers 5.23 renamed.
    quiet = warnings.catch_warnings(action="ignore", category=FutureWarning)
    with whole(folder) as place, quiet, _no_bars():
        if not place:
            # A parallel run was faster.
            return
        scratch = str(place / "scratch")
        model = lm.model
        if packed:
            nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
            nf4 |= {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"}
            four_bits = BitsAndBytesConfig(**nf4)
            model = _loaded_again(lm, quantization_config=four_bits)
            usual["optim"] = "paged_adamw_32bit"
        set_seed(seed)
        trainer = getattr(trl, f"{method}Trainer")(
            model, processing_class=lm.tokenizer,
            args=getattr(trl, f"{method}Config")(scratch, **options | usual),
            train_dataset=Dataset.from_pandas(rows),
            peft_config=LoraConfig(task_type="CAUSAL_LM", **lora), **more,
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        if left_out := len(rows) - len(trainer.train_dataset):
            told = (
                f"{left_out} of {len(rows)} prompts to tune {lm.id} on fill {method}'s max_length"
            )
            if left_out == len(rows):
                raise UserError(f"{told}: shorten them")
            warnings.warn(f"{told}: they are left out", stacklevel=2)
        trainer.train()
        trainer.model.save_pretrained(scratch)
        # Into weights that were not packed into 4 bits, whose rounding would stay in the merged
        # model.
        tuned = PeftModel.from_pretrained(_loaded_again(lm), scratch).merge_and_unload()
        with explained(f"{lm.id} tuned by {method}", "give a lower learning rate"):
            check_weights(tuned)
        shutil.rmtree(scratch)
        tuned.save_pretrained(place)
        lm.tokenizer.save_pretrained(place)


def _loaded_again(lm, **options) -> PreTrainedModel:
    """The weights of ``lm`` before any training; a folder heeds no revision."""
    options |= {"dtype": lm.model.dtype, "revision": lm.commit, "use_safetensors": True}
    return AutoModelForCausalLM.from_pretrained(lm.model.name_or_path, **options)
