"""DPO with identities in the system prompt: the same preferences whoever asks, as in arXiv 2406.11107."""

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from transformers.utils import is_bitsandbytes_available

from personagap import models, personas
from personagap.errors import UserError
from personagap.paths import CACHE
from personagap.responses import digest

VARIANTS = ("dpo", "dpo-vanilla", "dpo-random")
COLUMNS = ["system", "question", "chosen", "rejected"]
#: Low-rank adapter of the released code: rank, scale, dropout, and the layers it is put on.
LORA = {
    "r": 16, "lora_alpha": 16, "lora_dropout": 0.05, "bias": "none", "task_type": "CAUSAL_LM",
    "target_modules": ["k_proj", "q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}  # fmt: skip


def load_pairs(source: str) -> pd.DataFrame:
    """Preference pairs: ``system question chosen rejected``, all texts.

    Parameters
    ----------
    source : a JSON-lines file with these columns, or "hub": ``Intel/orca_dpo_pairs``, the pairs of the released code
        (needs the network and the extra ``hub``).

    Raises
    ------
    UserError : the file is missing or malformed, or lacks a column.
    """
    if source == "hub":
        try:
            import datasets as hub
        except ImportError:
            raise UserError('pairs of "hub" need one more package: pip install "personagap[hub]"') from None
        return hub.load_dataset("Intel/orca_dpo_pairs", split="train").to_pandas()[COLUMNS]
    try:
        pairs = pd.read_json(source, lines=True)
    except (OSError, ValueError) as error:
        raise UserError(f"preference pairs {source}: {error}; give a JSON-lines file or 'hub'") from None
    if missing := set(COLUMNS) - set(pairs):
        raise UserError(f"preference pairs {source}: no column {sorted(missing)[0]!r}; {', '.join(COLUMNS)} are needed")
    return pairs[COLUMNS].astype("str")


def dress(pairs: pd.DataFrame, variant: str = "dpo-random", seed: int = 0) -> pd.DataFrame:
    """Preference pairs as chats: ``prompt chosen rejected``, lists of messages.

    Parameters
    ----------
    pairs : n rows of `load_pairs`.
    variant : "dpo" keeps the system prompts of the pairs, "dpo-vanilla" leaves them out, "dpo-random" has each pair
        asked by one of the 31 identities or the two controls, drawn evenly. The controls stand in for the released
        code's "I am no_persona." and "I am ." (T17).
    seed : determines the draw.

    Examples
    --------
    >>> pairs = pd.DataFrame({"system": ["Be brief."], "question": ["Hi"], "chosen": ["Hello."], "rejected": ["No."]})
    >>> dress(pairs)["prompt"][0][0]["content"]
    'You are a helpful assistant. I am a male user.'
    """
    if variant not in VARIANTS:
        raise UserError(f"unknown variant {variant!r}: choose from {', '.join(VARIANTS)}")
    systems = {"dpo": pairs["system"], "dpo-vanilla": [""] * len(pairs)}.get(variant)
    if systems is None:
        known = [personas.system_prompt(persona) for persona in personas.select("all")["persona"]]
        systems = np.random.default_rng(seed).choice(known, len(pairs))
    return pd.DataFrame(
        {
            "prompt": [
                [_says("system", system)] * bool(system) + [_says("user", question)]
                for system, question in zip(map(str, systems), pairs["question"], strict=True)
            ],
            "chosen": [[_says("assistant", text)] for text in pairs["chosen"]],
            "rejected": [[_says("assistant", text)] for text in pairs["rejected"]],
        }
    )


def _says(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def tune(
    model: str,
    pairs: pd.DataFrame,
    variant: str = "dpo-random",
    *,
    steps: int = 100,
    batch: int = 40,
    learning_rate: float = 5e-6,
    sft: float = 0.0,
    seed: int = 0,
) -> str:
    """Tune a low-rank adapter by direct preference optimization (arXiv 2305.18290, trl) and merge it into the model.

    β = 0.1, half of 100 steps of warm-up, a cosine and at most 1,024 tokens as in the released code. On a GPU the
    model is loaded in 4 bits while the adapter is trained (QLoRA; needs bitsandbytes), and in its own precision to be
    merged with it.

    Parameters
    ----------
    model : of ``models.load_model``, in process.
    pairs, variant, seed : as of `dress`; the seed also decides the adapter's start, order and dropout.
    steps, batch, learning_rate : optimizer steps, pairs of each, and the maximum of the rate. The defaults are the
        released code's, for 7B models; a rate for a tiny one is higher.
    sft : weight of the likelihood of the chosen answers beside the preference loss (0 in the released code). It keeps
        a model that is moved far from losing the likelihood of both answers.

    Returns
    -------
    A folder for ``models.load_model``. The same request finds it again; a run is repeatable on one machine.
    """
    from peft import PeftModel

    if model.startswith("openai:"):
        raise UserError(f"model {model!r}: a model on a server cannot be tuned; give hf:ORG/NAME or a folder")
    lm = models.load_model(model)
    settings = (lm.id, lm.revision, steps, batch, learning_rate, sft, seed)
    chats = dress(pairs, variant, seed)
    folder = CACHE / "tuned" / f"{lm.id.replace('/', '-')}-{variant}-{digest(settings, chats.to_dict('list'))[:8]}"
    if folder.exists():
        return str(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        adapter, merged = Path(scratch, "adapter"), Path(scratch, "merged")
        _train(lm, chats, adapter, steps, batch, learning_rate, sft, seed)
        PeftModel.from_pretrained(models.load_model(model).model, adapter).merge_and_unload().save_pretrained(merged)
        lm.tokenizer.save_pretrained(merged)
        os.replace(merged, folder)  # whole or not at all
    return str(folder)


def _train(lm, chats: pd.DataFrame, folder: Path, steps: int, batch: int, learning_rate: float, sft: float, seed: int):
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback, set_seed
    from trl import DPOConfig, DPOTrainer

    on_gpu = lm.device.type == "cuda"
    together = min(batch, 8) if on_gpu else batch
    set_seed(seed)
    quiet = warnings.catch_warnings(action="ignore", category=FutureWarning)  # trl uses names transformers 5.23 renamed
    with tempfile.TemporaryDirectory() as scratch, quiet:
        arguments = DPOConfig(
            scratch, max_steps=steps, learning_rate=learning_rate, lr_scheduler_type="cosine", warmup_steps=steps // 2,
            beta=0.1, loss_type=["sigmoid", "sft"], loss_weights=[1.0, sft], max_length=1024, seed=seed, bf16=on_gpu,
            per_device_train_batch_size=together, gradient_accumulation_steps=batch // together,
            optim="paged_adamw_32bit" if on_gpu and is_bitsandbytes_available() else "adamw_torch",
            activation_checkpointing=on_gpu, dataloader_pin_memory=on_gpu, save_strategy="no", logging_strategy="no",
            report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer = DPOTrainer(
            _in_four_bits(lm.model) if on_gpu and is_bitsandbytes_available() else lm.model, None, arguments,
            train_dataset=Dataset.from_pandas(chats), processing_class=lm.tokenizer, peft_config=LoraConfig(**LORA),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        trainer.model.save_pretrained(folder)


def _in_four_bits(model):
    """The same weights for QLoRA (arXiv 2305.14314): 4-bit normal floats, doubly quantized."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    packed = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    revision = model.config._commit_hash  # None of a folder
    return AutoModelForCausalLM.from_pretrained(model.name_or_path, revision=revision, quantization_config=packed)
