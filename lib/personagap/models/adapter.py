"""Low-rank adapters: trained by a trainer of trl and merged into their model."""

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
from personagap.store.folder import build_whole


def load(model: str):
    """Load the model to tune with ``models.load_model``; ``UserError`` for one on a server."""
    if model.startswith("openai:"):
        remedy = "give hf:ORG/NAME or a folder"
        raise UserError(f"model {model!r}: a model on a server cannot be tuned; {remedy}")
    return models.load_model(model)


def common_arguments(seed: int, half: bool, on_gpu: bool) -> dict[str, Any]:
    """Return the ``TrainingArguments`` that all training here shares.

    Nothing is saved or printed during training. ``half`` is mixed precision: weights stay in
    float32.
    """
    return {
        "seed": seed, "bf16": half, "use_cpu": half and not on_gpu, "dataloader_pin_memory": on_gpu,
        "save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True,
    }  # fmt: skip


def batch_arguments(lm, batch: int) -> dict[str, int]:
    """Return the ``TrainingArguments`` for steps on ``batch`` rows, in parts that fit into memory.

    Gradients are summed over the parts. The logits of the whole vocabulary are kept for each token:
    eight pairs of answers took 14 GB for a model of 0.5 billion parameters.
    """
    part = math.gcd(batch, 2 if _is_large(lm) else 8)
    return {"per_device_train_batch_size": part, "gradient_accumulation_steps": batch // part}


def _is_large(lm) -> bool:
    """Return whether the model is on a CPU and has layers for which packed weights pay off."""
    on_cpu = lm.device.type == "cpu"
    layers = (layer for layer in lm.model.modules() if isinstance(layer, nn.Linear))
    return on_cpu and any(layer.weight.numel() >= prepacked.MIN_WEIGHTS for layer in layers)


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Disable the progress bars of datasets, which no argument of the trainer controls."""
    from datasets import utils

    disabled = utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        if not disabled:
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
    """Train an adapter, on a GPU if there is one, and save the model with the adapter merged.

    Parameters
    ----------
    lm : model from `load`.
    folder : folder for the result, which is written completely or not at all.
    method : "DPO" or another method of trl.
    rows : training data.
    options, more : further arguments of the method's configuration, and of its trainer.
    lora : rank, scale and target layers of the adapter.
    seed : determines the adapter's initial weights, the order of rows and dropout; runs on one
        machine are repeatable.
    qlora : whether to keep the model's weights in 4 bits meanwhile (arXiv 2305.14314), if there are
        a GPU and bitsandbytes.
    """
    import trl
    from datasets import Dataset
    from peft import LoraConfig, PeftModel
    from transformers import BitsAndBytesConfig, PrinterCallback, set_seed

    on_gpu = lm.device.type == "cuda"
    # Mixed precision if the processor supports it; small models gain nothing.
    half = on_gpu or (_is_large(lm) and prepacked.has_bfloat16())
    quantised = qlora and on_gpu and is_bitsandbytes_available()
    usual = common_arguments(seed, half, on_gpu) | {"activation_checkpointing": on_gpu}
    # Trl uses names that transformers 5.23 deprecated.
    quiet = warnings.catch_warnings(action="ignore", category=FutureWarning)
    with build_whole(folder) as place, quiet, _no_bars():
        if not place:
            # A parallel run has already written the result.
            return
        scratch = str(place / "scratch")
        model = lm.model
        if quantised:
            nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
            nf4 |= {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"}
            four_bits = BitsAndBytesConfig(**nf4)
            model = _reload(lm, quantization_config=four_bits)
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
            count = f"{left_out} of {len(rows)} prompts"
            problem = f"{count} to tune {lm.id} on fill {method}'s max_length"
            if left_out == len(rows):
                raise UserError(f"{problem}: shorten them")
            warnings.warn(f"{problem}: they are left out", stacklevel=2)
        trainer.train()
        trainer.model.save_pretrained(scratch)
        # Merged into the original weights: the rounding of 4-bit weights would stay in the model.
        tuned = PeftModel.from_pretrained(_reload(lm), scratch).merge_and_unload()
        with explained(f"{lm.id} tuned by {method}", "give a lower learning rate"):
            check_weights(tuned)
        shutil.rmtree(scratch)
        tuned.save_pretrained(place)
        lm.tokenizer.save_pretrained(place)


def _reload(lm, **options) -> PreTrainedModel:
    """Load the weights of ``lm`` before any training; a folder ignores the revision."""
    options |= {"dtype": lm.model.dtype, "revision": lm.commit, "use_safetensors": True}
    return AutoModelForCausalLM.from_pretrained(lm.model.name_or_path, **options)
