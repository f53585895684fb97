"""The head of a GGUF file, read with every size checked before anything is made of it.

The libraries that load such a file trust what it says of itself: a damaged count keeps them busy,
and eating memory, for hours. Layout, of versions 2 and 3:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

MAGIC, VERSIONS = b"GGUF", (2, 3)
#: Numbers of the types of metadata: those of fixed size with their letters in ``struct``, and two.
FIXED = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))
STRING, ARRAY = 8, 9
#: Entries of all arrays together, of each of which the package ``gguf`` makes an object: four times
#: the largest vocabularies with their merges.
MOST_ENTRIES = 2**22
MOST_DIMENSIONS = 4
ALIGNMENT = 32


class Header(NamedTuple):
    """What a file says of itself, strings as bytes, and how many numbers its tensors hold."""

    metadata: dict[str, Any]
    n_numbers: int


class Tensor(NamedTuple):
    shape: tuple[int, ...]
    end: int  # in bytes from where the numbers of the first begin


def read(path: Path) -> Header:
    """The head of a file that is whole.

    Raises
    ------
    ValueError : what is wrong with the file, in a line.
    OSError : it cannot be read.
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
    """Takes one value after the other; none reaches beyond the end."""

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
    """The model that is stated is no larger than the weights: it is made before they are read."""
    longest = max(max(tensor.shape) for tensor in tensors)
    for name, value in metadata.items():
        what, _, kind = name.rpartition("_")
        sized = kind in ("count", "length", "size") and not name.startswith("tokenizer.")
        if not sized or what.endswith("context"):
            continue
        most = len(tensors) if name.endswith("block_count") else longest
        largest = max(value, default=0) if isinstance(value, list) else value
        if not isinstance(largest, int) or largest > most:
            raise ValueError(f"{name} is {largest!r}, more than its weights allow")
