"""Hashes of JSON-serialisable values: the keys of stored answers and of cached tables."""

import hashlib
import json
from collections.abc import Iterable, Sequence


def digest(*parts: object) -> str:
    """Return the hash of JSON-serialisable parts, 32 hexadecimal digits."""
    return _hash(_to_json(parts))


def digests(first: object, rests: Iterable[Sequence]) -> list[str]:
    """Return ``digest(first, *rest)`` for each of ``rests``, but serialise ``first`` only once."""
    prefix = f"[{_to_json(first)}, "
    return [_hash(prefix + _to_json(rest)[1:]) for rest in rests]


_to_json = json.JSONEncoder(sort_keys=True).encode


def _hash(text: str) -> str:
    # 128 bits: even among a billion keys, two are practically never equal by chance.
    return hashlib.sha256(text.encode()).hexdigest()[:32]
