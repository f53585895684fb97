"""DPO with identities in the system prompt: the same preferences whoever asks, as in arXiv 2406.11107."""

import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from transformers.utils import is_bitsandbytes_available

from personagap import models, personas
from personagap.errors import UserError
from personagap.models import rendering
from personagap.paths import CACHE
from personagap.responses import digest

#: Preference pairs of the released code.
HUB = "Intel/orca_dpo_pairs"
VARIANTS = ("dpo", "dpo-vanilla", "dpo-random")
COLUMNS = ["system", "question", "chosen", "rejected"]
#: Low-rank adapter of the released code: rank, scale, dropout, and the layers it is put on.
LORA = {
    "r": 16, "lora_alpha": 16, "lora_dropout": 0.05, "bias": "none", "task_type": "CAUSAL_LM",
    "target_modules": ["k_proj", "q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}  # fmt: skip


def load_pairs(source: str) -> pd.DataFrame:
    """Preference pairs ``system question chosen rejected``: a JSON-lines file, or "hub" for the released code's.

    ``UserError`` if ``source`` cannot be read or lacks one of these columns.
    """
    from datasets import load_dataset

    try:
        hub = source == "hub"
        pairs = load_dataset(HUB, split="train").to_pandas() if hub else pd.read_json(source, lines=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"preference pairs {source}: {error}; give a JSON-lines file, or 'hub' with a network"
        ) from None
    if missing := set(COLUMNS) - set(pairs):
        raise UserError(f"preference pairs {source}: no column {sorted(missing)[0]!r}; {', '.join(COLUMNS)} are needed")
    return pairs[COLUMNS].astype("str")


def dress(pairs: pd.DataFrame, variant: str = "dpo-random", seed: int = 0) -> pd.DataFrame:
    """Preference pairs as chats: ``prompt chosen rejected``, lists of messages.

    Parameters
    ----------
    pairs : n rows of `load_pairs`.
    variant : "dpo" keeps the system prompts of the pairs, "dpo-vanilla" leaves them out, "dpo-random" has each pair
        asked by one of the 31 identities or two controls, in place of the released code's "I am no_persona." (T17).
    seed : determines the draw.

    Examples
    --------
    >>> pairs = pd.DataFrame({"system": ["Be brief."], "question": ["Hi"], "chosen": ["Hello."], "rejected": ["No."]})
    >>> dress(pairs)["prompt"][0][0]["content"]
    'You are a helpful assistant. I am straight.'
    """
    if variant not in VARIANTS:
        raise UserError(f"unknown variant {variant!r}: choose from {', '.join(VARIANTS)}")
    systems = pairs["system"]
    if variant == "dpo-vanilla":
        systems = [""] * len(pairs)
    elif variant == "dpo-random":
        known = [personas.system_prompt(persona) for persona in personas.select("all")["persona"]]
        systems = np.random.default_rng(seed).choice(known, len(pairs))

    def says(role: str, texts: Sequence[str]) -> list[list[dict[str, str]]]:
        return [[{"role": role, "content": str(text)}] if text or role != "system" else [] for text in texts]

    asked = zip(says("system", systems), says("user", pairs["question"]), strict=True)
    answers = {name: says("assistant", pairs[name]) for name in ("chosen", "rejected")}
    return pd.DataFrame({"prompt": [system + user for system, user in asked], **answers})


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

    The defaults, β = 0.1, warm-up for half of the steps, then a cosine, are those of the released code. With a GPU and
    bitsandbytes the model is held in 4 bits while its adapter is trained (QLoRA), and in its own precision to be merged
    with it; the computing is in bfloat16 where the released code had float16.

    Parameters
    ----------
    model : of ``models.load_model``, in process.
    pairs, variant, seed : as of `dress`; the seed also decides the adapter's start, order and dropout.
    steps, batch, learning_rate : optimizer steps, pairs of each, maximal rate (a tiny model needs a higher one).
    sft : weight of the likelihood of the chosen answers beside the preference loss, 0 in the released code. It keeps a
        model that is moved far from giving neither answer.

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
    # A template without a system role must not lose the identity, as Llama-2's did (T9).
    chats["prompt"] = [rendering.fit(lm.tokenizer, messages)[0] for messages in chats["prompt"]]
    folder = CACHE / "tuned" / f"{lm.id.replace('/', '-')}-{variant}-{digest(settings, chats.to_dict('list'))[:8]}"
    if folder.exists():
        return str(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    quiet = warnings.catch_warnings(action="ignore", category=FutureWarning)  # of names that transformers 5.23 renamed
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch, quiet:
        adapter = _train(lm, chats, scratch, steps, batch, learning_rate, sft, seed)
        merged = Path(scratch, "merged")
        PeftModel.from_pretrained(models.load_model(model).model, adapter).merge_and_unload().save_pretrained(merged)
        lm.tokenizer.save_pretrained(merged)
        os.replace(merged, folder)  # whole or not at all
    return str(folder)


def _train(lm, chats: pd.DataFrame, scratch: str, steps: int, batch: int, rate: float, sft: float, seed: int) -> Path:
    """The folder of the adapter."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback, set_seed
    from trl import DPOConfig, DPOTrainer

    on_gpu = lm.device.type == "cuda"
    packed = on_gpu and is_bitsandbytes_available()
    together = min(batch, 8) if on_gpu else batch
    set_seed(seed)
    arguments = DPOConfig(
        scratch, max_steps=steps, learning_rate=rate, lr_scheduler_type="cosine", warmup_steps=steps // 2, beta=0.1,
        loss_type=["sigmoid", "sft"], loss_weights=[1.0, sft], max_length=1024, seed=seed, bf16=on_gpu,
        per_device_train_batch_size=together, gradient_accumulation_steps=batch // together,
        optim="paged_adamw_32bit" if packed else "adamw_torch", activation_checkpointing=on_gpu,
        dataloader_pin_memory=on_gpu, save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = DPOTrainer(
        _in_four_bits(lm.model) if packed else lm.model, None, arguments, train_dataset=Dataset.from_pandas(chats),
        processing_class=lm.tokenizer, peft_config=LoraConfig(**LORA),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.model.save_pretrained(Path(scratch, "adapter"))
    return Path(scratch, "adapter")


def _in_four_bits(model):
    """The same weights for QLoRA (arXiv 2305.14314): 4-bit normal floats, doubly quantized."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    four_bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="bfloat16"
    )  # fmt: skip
    revision = model.config._commit_hash  # None of a folder
    return AutoModelForCausalLM.from_pretrained(model.name_or_path, revision=revision, quantization_config=four_bits)
