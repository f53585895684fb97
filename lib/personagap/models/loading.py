"""Loading a causal language model and its tokenizer, and identifying their revision."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import cached_file

from personagap.errors import UserError, explained, first_line
from personagap.paths import regular_file

DTYPES = ("float32", "bfloat16", "float16")
# Progress bars of loading weights would be noise in every report.
transformers.logging.disable_progress_bar()


def load(
    source: str, name: str, device: str, dtype: str, revision: str | None
) -> tuple[transformers.PreTrainedTokenizerBase, PreTrainedModel, str]:
    """Return the tokenizer, the model on its device, and the revision of both.

    Code in the repository is never run. ``UserError`` for an unknown device or dtype, and for a
    model that cannot be loaded or lacks weights.
    """
    commit, torch_device = revision_of(source, revision), get_device(device)
    if dtype == "auto":
        dtype = "bfloat16" if torch_device.type == "cuda" else "float32"
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r}: choose auto, {', '.join(DTYPES)}")
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        options |= {"dtype": getattr(torch, dtype)}
        model = from_pretrained(AutoModelForCausalLM, source, **options)
    except Exception as error:
        # For a damaged folder the libraries raise errors of every kind.
        place = f" from {source}" if Path(source).is_dir() else ""
        raise UserError(f"model {name}: cannot be loaded{place} ({first_line(error)})") from error
    return tokenizer, model.eval().to(torch_device), commit


def from_pretrained(model_class: Any, source: str, **options: Any) -> Any:
    """Return ``model_class.from_pretrained``, checked by `check_weights`.

    Weights must be in safetensors, unless ``options`` override it: pickled weights could run code
    of their publisher.
    """
    options = {"use_safetensors": True, "output_loading_info": True} | options
    # With the loading information the result is a pair, which transformers' types do not state.
    model, info = model_class.from_pretrained(source, **options)
    check_weights(model, info)
    return model


def check_weights(
    model: torch.nn.Module, info: Mapping[str, Collection[Any]] | None = None
) -> None:
    """Raise ValueError for weights that are not finite, or that were not read according to the
    loading information ``info``.

    transformers initialises missing weights at random. Weights that are not finite make every
    answer the first possible one.
    """
    absent: list[str] = []
    if info:
        absent = sorted([*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])])
    if absent:
        raise ValueError(f"it lacks {len(absent)} of its weights, such as {absent[0]}")
    # The state dictionary has only the buffers of the checkpoint: others, such as masks, may be
    # infinite.
    for name, weights in model.state_dict().items():
        # The sum needs one pass and no second tensor of the same size.
        if weights.is_floating_point() and not torch.isfinite(weights.sum(dtype=torch.float32)):
            raise ValueError(f"its weights are not all numbers, such as those of {name}")


def eos_ids(tokenizer: transformers.PreTrainedTokenizerBase, model: PreTrainedModel) -> list[int]:
    """Return the tokens that end an answer, from the generation configuration and the tokenizer."""
    configured = model.generation_config.eos_token_id
    tokens = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in [*tokens, tokenizer.eos_token_id] if token is not None})


def attention_windows(config) -> dict[str, int | None]:
    """Return the kinds of attention layers, and how far back each sees (None: everything)."""
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if kinds is None:
        return {"sliding_attention": window} if window else {"full_attention": None}
    return {kind: window if kind == "sliding_attention" else None for kind in dict.fromkeys(kinds)}


def get_device(name: str) -> torch.device:
    """Return the device of this name; "auto" is a GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        tensor = torch.zeros(1, device=name)
        # Raises for "meta", a device of torch that holds no values.
        tensor.item()
        return tensor.device
    except (AssertionError, RuntimeError, TypeError) as error:
        raise UserError(f"device {name!r}: not available here ({first_line(error)})") from error


def revision_of(source: str, revision: str | None = None) -> str:
    """Return the hash of a folder's content, or the commit of a Hub model.

    A ``revision`` given for a folder is returned as it is: that of the file it was made from.
    """
    if Path(source).is_dir():
        with explained(f"model folder {source}: cannot be read", "replace it with the full folder"):
            return revision or _content_hash(Path(source))
    try:
        # Raises if there is none. The cache has a folder for each commit.
        config: Any = cached_file(source, "config.json", revision=revision)
        return Path(config).parent.name
    except OSError as error:
        missing = "not in the local cache, and not to be had from the Hub"
        raise UserError(f"model {source}: {missing} ({first_line(error)})") from error


def _content_hash(folder: Path) -> str:
    """Return a hash of what determines a folder's answers: configuration, tokenizer, weights."""
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"model folder {folder}: no *.safetensors weights in it")
    digest = hashlib.sha256()
    # Other files, such as a README, do not change answers.
    patterns = "*.safetensors", "*.json", "*.jinja"
    for path in sorted(file for pattern in patterns for file in folder.glob(pattern)):
        digest.update(path.name.encode())
        with regular_file(path).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
