"""Loading a causal language model and its tokenizer, with what a run must record of them."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import cached_file

from personagap.errors import UserError, explained, first_line
from personagap.paths import regular

DTYPES = ("float32", "bfloat16", "float16")
# Those of loading weights are noise in every report.
transformers.logging.disable_progress_bar()


def load(
    source: str, name: str, device: str, dtype: str, revision: str | None
) -> tuple[transformers.PreTrainedTokenizerBase, PreTrainedModel, str]:
    """Tokenizer, model on its device, and the revision of both; code that comes along is never run.

    ``UserError`` for an unknown device or dtype, and for whatever cannot be loaded or lacks
    weights.
    """
    found, where = revision_of(source, revision), device_named(device)
    if dtype == "auto":
        dtype = "bfloat16" if where.type == "cuda" else "float32"
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r}: choose auto, {', '.join(DTYPES)}")
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        options |= {"dtype": getattr(torch, dtype)}
        model = from_pretrained(AutoModelForCausalLM, source, **options)
    except Exception as error:
        # Of a damaged folder the libraries raise errors of every kind.
        place = f" from {source}" if Path(source).is_dir() else ""
        raise UserError(f"model {name}: cannot be loaded{place} ({first_line(error)})") from error
    return tokenizer, model.eval().to(where), found


def from_pretrained(model_class: Any, source: str, **options: Any) -> Any:
    """``model_class.from_pretrained``, with weights in safetensors, if ``options`` do not say
    otherwise: pickled ones could run code of whoever published them. ValueError of `check_weights`.
    """
    options = {"use_safetensors": True, "output_loading_info": True} | options
    # A pair, for the sake of the loading information, which the types of transformers leave out.
    model, told = model_class.from_pretrained(source, **options)
    check_weights(model, told)
    return model


def check_weights(
    model: torch.nn.Module, told: Mapping[str, Collection[Any]] | None = None
) -> None:
    """ValueError for weights that are not finite, or that the loading information ``told`` says
    were not read.

    transformers makes the latter up, at random; the former make every answer the first of those
    possible.
    """
    absent: list[str] = []
    if told:
        absent = sorted([*told["missing_keys"], *(key for key, *_ in told["mismatched_keys"])])
    if absent:
        raise ValueError(f"it lacks {len(absent)} of its weights, such as {absent[0]}")
    # Of the buffers those that a checkpoint holds: others are made here, and may well be infinite,
    # as masks are.
    for name, weights in model.state_dict().items():
        # One pass, and no second copy as large as the first.
        if weights.is_floating_point() and not torch.isfinite(weights.sum(dtype=torch.float32)):
            raise ValueError(f"its weights are not all numbers, such as those of {name}")


def eos_ids(tokenizer: transformers.PreTrainedTokenizerBase, model: PreTrainedModel) -> list[int]:
    """Tokens that end an answer: those of the generation configuration, and the tokenizer's own."""
    configured = model.generation_config.eos_token_id
    several = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in [*several, tokenizer.eos_token_id] if token is not None})


def attention_windows(config) -> dict[str, int | None]:
    """Kinds of attention layers, and how far back each sees (None: everything)."""
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if kinds is None:
        return {"sliding_attention": window} if window else {"full_attention": None}
    return {kind: window if kind == "sliding_attention" else None for kind in dict.fromkeys(kinds)}


def device_named(name: str) -> torch.device:
    """The device; "auto" is a GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        here = torch.zeros(1, device=name)
        # Raises for "meta", which torch offers as a device but which holds no values.
        here.item()
        return here.device
    except (AssertionError, RuntimeError, TypeError) as error:
        raise UserError(f"device {name!r}: not available here ({first_line(error)})") from error


def revision_of(source: str, revision: str | None = None) -> str:
    """Hash of a folder's content, or the commit of a Hub model, from where its configuration lies
    in the cache.

    A folder may be known by another ``revision``: that of the file it was made from.
    """
    if Path(source).is_dir():
        with explained(f"model folder {source}: cannot be read", "replace it with the full folder"):
            return revision or _content_hash(Path(source))
    try:
        # Raises where it finds none.
        config: Any = cached_file(source, "config.json", revision=revision)
        return Path(config).parent.name
    except OSError as error:
        missing = "not in the local cache, and not to be had from the Hub"
        raise UserError(f"model {source}: {missing} ({first_line(error)})") from error


def _content_hash(folder: Path) -> str:
    """Hash of what decides a folder's answers: configuration, tokenizer and weights."""
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"model folder {folder}: no *.safetensors weights in it")
    digest = hashlib.sha256()
    # Not the files beside them, such as a README or notes: they change no answer.
    for path in sorted(
        [*folder.glob("*.safetensors"), *folder.glob("*.json"), *folder.glob("*.jinja")]
    ):
        digest.update(path.name.encode())
        with regular(path).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
