"""The header of a GGUF file, read with every size checked before it is used.

The libraries that load such files trust the header: a damaged count makes them compute, and
allocate memory, for hours. Layout of versions 2 and 3:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

MAGIC, VERSIONS = b"GGUF", (2, 3)
#: Type numbers of metadata values: those of fixed size with their ``struct`` format, and two more.
FIXED = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))
STRING, ARRAY = 8, 9
#: Maximum number of entries of all arrays together, since the package ``gguf`` makes an object of
#: each: four times the largest vocabularies with their merges.
MOST_ENTRIES = 2**22
MOST_DIMENSIONS = 4
ALIGNMENT = 32


class Header(NamedTuple):
    """The metadata of a file, with strings as bytes, and the number of weights in its tensors."""

    metadata: dict[str, Any]
    n_numbers: int


class Tensor(NamedTuple):
    shape: tuple[int, ...]
    end: int  # in bytes from the start of the first tensor's data


def read(path: Path) -> Header:
    """Read the header of a complete file.

    Raises
    ------
    ValueError : the file is damaged; the message says how, in one line.
    OSError : the file cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        reader = _Reader(content)
        if reader.take(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin as a GGUF file does")
        version, n_tensors, n_fields = reader.numbers("IQQ")
        if version not in VERSIONS:
            known = " and ".join(map(str, VERSIONS))
            raise ValueError(f"version {version} of the format, where {known} are known")
        metadata = {}
        for _ in range(n_fields):
            name = reader.text()
            metadata[name.decode()] = reader.value(*reader.numbers("I"))
        tensors = [_tensor(reader) for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", ALIGNMENT)
        start = math.ceil(reader.place / alignment) * alignment
        if not tensors or start + max(tensor.end for tensor in tensors) > len(content):
            raise ValueError("it is cut short: some of its weights are missing")
    _check_sizes(metadata, tensors)
    return Header(metadata, sum(math.prod(tensor.shape) for tensor in tensors))


class _Reader:
    """Reads one value after the other, and never beyond the end."""

    def __init__(self, content: mmap.mmap):
        self.content, self.place, self.entries = content, 0, 0

    def take(self, size: int) -> bytes:
        if size > len(self.content) - self.place:
            raise ValueError(f"it ends before the {size:,} bytes that follow byte {self.place:,}")
        self.place += size
        return self.content[self.place - size : self.place]

    def numbers(self, layout: str) -> tuple:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}")))

    def text(self) -> bytes:
        return self.take(*self.numbers("Q"))

    def value(self, kind: int) -> Any:
        if kind in FIXED:
            return self.numbers(FIXED[kind])[0]
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            raise ValueError(f"metadata of an unknown type, {kind}")
        kind, count = self.numbers("IQ")
        self.entries += count
        if self.entries > MOST_ENTRIES or kind not in (*FIXED, STRING):
            raise ValueError(f"an array of {count:,} entries of type {kind}")
        if kind == STRING:
            return [self.text() for _ in range(count)]
        return list(self.numbers(f"{count}{FIXED[kind]}"))


def _tensor(reader: _Reader) -> Tensor:
    from gguf.constants import GGML_QUANT_SIZES

    name = reader.text().decode()
    (n_dimensions,) = reader.numbers("I")
    if not 0 < n_dimensions <= MOST_DIMENSIONS:
        raise ValueError(f"tensor {name} of {n_dimensions} dimensions")
    *shape, kind, offset = reader.numbers(f"{n_dimensions}QIQ")
    if kind not in GGML_QUANT_SIZES:
        raise ValueError(f"tensor {name} of an unknown type, {kind}")
    block, size = GGML_QUANT_SIZES[kind]
    return Tensor(tuple(shape), offset + math.prod(shape) // block * size)


def _check_sizes(metadata: dict[str, Any], tensors: list[Tensor]) -> None:
    """Raise ValueError if the metadata describe a model larger than its weights.

    The libraries allocate the model before they read the weights.
    """
    longest = max(max(tensor.shape) for tensor in tensors)
    for name, value in metadata.items():
        quantity, _, kind = name.rpartition("_")
        is_size = kind in ("count", "length", "size") and not name.startswith("tokenizer.")
        if not is_size or quantity.endswith("context"):
            continue
        most = len(tensors) if name.endswith("block_count") else longest
        largest = max(value, default=0) if isinstance(value, list) else value
        if not isinstance(largest, int) or largest > most:
            raise ValueError(f"{name} is {largest!r}, more than its weights allow")
