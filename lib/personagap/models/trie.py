"""Token sequences packed as a prefix tree, so that a model computes each shared token once.

The tokens of many prompts become one row of a forward pass. Sorted sequences visit the tree in
depth-first order, so the descendants of a token are the tokens right after it, up to its ``end``;
"q may attend to k" is then ``k <= q < end[k]``. Nothing is padded, and few-shot examples, system
prompts and instructions in common cost one computation whatever follows them.
"""

from collections.abc import Iterator

import numpy as np


class Pack:
    """Consecutive tokens of the tree, for one forward pass.

    ``carried`` (C) are the columns of the previous pack's key-value cache that are ancestors of
    this one; they are its first columns. ``tokens`` (Q) are new; ``depths`` and ``ends`` (C + Q)
    are the position of a token in its sequence and the end of its descendants. ``members`` are the
    sequences that end here, each with its columns in ``paths``.
    """

    def __init__(self, carried: np.ndarray):
        self.carried, self.depths = carried, list(range(len(carried)))
        self.tokens: list[int] = []
        self.members: list[int] = []
        self.paths: list[np.ndarray] = []

    def add(self, member: int, sequence: np.ndarray, shared: int) -> None:
        """Add a sequence whose first ``shared`` tokens are those of the sequence before it."""
        head = self.paths[-1][:shared] if self.paths else np.arange(len(self.carried))
        size = len(self.depths)
        self.tokens.extend(sequence[shared:].tolist())
        self.depths.extend(range(shared, len(sequence)))
        self.members.append(member)
        self.paths.append(np.concatenate([head, np.arange(size, size + len(sequence) - shared)]))

    def close(self) -> "Pack":
        """Work out ``ends``: a token's descendants stop where the last sequence through it does."""
        self.ends = np.zeros(len(self.depths), dtype=np.int64)
        size = len(self.carried)
        for path in self.paths:
            size = max(size, int(path[-1]) + 1)
            self.ends[path] = size
        return self


def common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    """Number of leading tokens that two sequences share."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


def packs(sequences: list[np.ndarray], read_from: list[int], size: int) -> Iterator[Pack]:
    """Cut the prefix tree of ``sequences`` into packs of about ``size`` new tokens.

    Parameters
    ----------
    sequences : token ids, one integer array each.
    read_from : for each sequence, the first position whose output is read. Positions from there on
        are always new in the pack in which the sequence ends, whatever earlier packs held.
    size : new tokens per pack; a longer sequence has a pack of its own.
    """
    # Big-endian bytes sort as the token ids do.
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())
    pack, previous = Pack(np.arange(0)), np.arange(0)
    for i in order:
        sequence = sequences[i]
        shared = common_prefix(previous, sequence)
        if pack.tokens and len(pack.tokens) + len(sequence) - shared > size:
            yield pack.close()
            pack = Pack(pack.paths[-1][: min(shared, read_from[i])])
        # A position whose output is read must be computed in this pack: what is carried has keys
        # and values only.
        if read_from[i] < len(pack.carried):
            shared = min(shared, read_from[i])
        elif not pack.members:
            shared = len(pack.carried)
        pack.add(i, sequence, shared)
        previous = sequence
    if pack.members:
        yield pack.close()
