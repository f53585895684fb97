"""Tiny models with random weights, made in a moment: real tokenizer, real chat template."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Refuses a system message, as the templates of Mistral-7B-Instruct-v0.1 or Gemma do.
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + CHATML
)
#: Silently drops a system message.
DROPS_SYSTEM = CHATML.replace(
    "{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"
)
#: Writes the BOS token itself, as the template of Llama-3 does (S9).
WITH_BOS = "{{ bos_token }}" + CHATML
#: Inserts a default system prompt if a chat has none, as the templates of SmolLM2 and Qwen2.5 do.
OWN_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Tiny, a small "
    "model.<|im_end|>\n{% endif %}"
) + CHATML
#: Inserts a default system prompt if a chat has none or an empty one.
OWN_FOR_EMPTY = (
    "{% set given = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "<|im_start|>system\n{{ given or 'You are Tiny, a small model.' }}<|im_end|>\n"
) + DROPS_SYSTEM
#: Adds a default system text to the given one, as the template of Llama-3.1 does with dates.
DATED = (
    "{{ bos_token }}<|im_start|>system\nCutting Knowledge Date: May 2026\n\n"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% endif %}<|im_end|>\n"
) + DROPS_SYSTEM
#: Has markers that are no special tokens, and the system text inside the user's turn, as the
#: template of Llama-2.
MARKED = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ bos_token }}[INST] <<SYS>>\n{{ "
    "m['content'] }}\n"
    "<</SYS>>\n\n{% elif m['role'] == 'user' %}{% if loop.first or messages[loop.index0 - "
    "1]['role'] != 'system' %}"
    "{{ bos_token }}[INST] {% endif %}{{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)

TEXT = [
    "You are a helpful assistant. I am a person who asks a question, and the answer is one of "
    "the options.",
    "Answer this multiple-choice question. Therefore, the answer is (A), (B), (C) or (D).",
    "What is the capital of the country? How many apples are left when two of the seven are eaten?",
]


def tokenizer(template: str | None = CHATML, **special) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 400 tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=names, initial_alphabet=alphabet, show_progress=False
        ),
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        **special,
    )
    made.chat_template = template
    return made


def save_model(
    folder: Path, config_class=LlamaConfig, template: str | None = CHATML, seed: int = 0, **options
) -> Path:
    """Save a model of two layers; its random weights are large enough for varied answers."""
    text_tokenizer = tokenizer(template)
    size = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    ids = {
        "bos_token_id": text_tokenizer.bos_token_id,
        "eos_token_id": text_tokenizer.eos_token_id,
        "pad_token_id": text_tokenizer.pad_token_id,
    }
    heads = {"num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.2}
    torch.manual_seed(seed)
    config = config_class(vocab_size=len(text_tokenizer), **{**size, **ids, **heads, **options})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    text_tokenizer.save_pretrained(folder)
    return folder


def save_reward_model(folder: Path) -> Path:
    """Save a model of one layer with random weights that scores a text."""
    size = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=400, num_labels=1, pad_token_id=0, **size)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_gguf(
    file: Path,
    folder: Path,
    architecture: str = "llama",
    changed: dict[str, torch.Tensor | None] | None = None,
) -> Path:
    """Write the Llama in ``folder`` as a GGUF file in float32, as llama.cpp's converter does.

    ``changed`` replaces weights (by transformers' names), adds some (by llama.cpp's) or, with None,
    omits them.
    """
    from gguf import MODEL_ARCH, GGUFWriter, get_tensor_name_map

    model, text_tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    config, bpe = model.config, json.loads(text_tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = sorted(bpe["vocab"], key=bpe["vocab"].get)
    writer = GGUFWriter(file, architecture)
    metadata = {
        "block_count": config.num_hidden_layers, "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "rope.dimension_count": config.head_dim, "vocab_size": config.vocab_size,
    }  # fmt: skip
    for name, value in metadata.items():
        writer.add_uint32(f"{architecture}.{name}", value)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_name("Tiny Llama")
    writer.add_license("apache-2.0")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    # Token types: 1 normal, 3 control.
    writer.add_token_types(
        [3 if token in text_tokenizer.all_special_tokens else 1 for token in vocabulary]
    )
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    for name in ("bos", "eos", "pad"):
        getattr(writer, f"add_{name}_token_id")(getattr(text_tokenizer, f"{name}_token_id"))
    writer.add_chat_template(text_tokenizer.chat_template)
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weights in (model.state_dict() | (changed or {})).items():
        if weights is None:
            continue
        layer, kind = name.split(".")[-2], name.rpartition(".")[2]
        # RoPE pairs neighbouring dimensions in llama.cpp, but the halves of a head in transformers.
        if layer in heads:
            weights = (
                weights.view(heads[layer], 2, -1, weights.shape[1])
                .transpose(1, 2)
                .reshape(weights.shape)
            )
        gguf_name = names.get_name(name.removesuffix(f".{kind}"))
        writer.add_tensor(f"{gguf_name}.{kind}" if gguf_name else name, weights.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
