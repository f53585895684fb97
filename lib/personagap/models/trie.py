"""Token sequences packed as a prefix tree, so that a model computes each shared token once.

The tokens of many prompts become one row of a forward pass. Sorted sequences visit the tree in
depth-first order: the descendants of a token are the tokens that follow it, up to its ``end``, and
query q may attend to key k if ``k <= q < end[k]``. Nothing is padded, and shared few-shot examples,
system prompts and instructions are computed once.
"""

from collections.abc import Iterator

import numpy as np


class Pack:
    """Consecutive tokens of the tree, for one forward pass.

    Attributes
    ----------
    carried : (C) columns of the previous pack's key-value cache that are ancestors of this pack's
        tokens; they become its first columns.
    tokens : (Q) new tokens.
    depths, ends : (C + Q) position of each token in its sequence, and the end of its descendants.
    members, paths : numbers of the sequences that end here, and the columns of each.
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
        """Compute ``ends`` and return the pack. A token's descendants end with the last sequence
        that contains it.
        """
        self.ends = np.zeros(len(self.depths), dtype=np.int64)
        size = len(self.carried)
        for path in self.paths:
            size = max(size, int(path[-1]) + 1)
            self.ends[path] = size
        return self


def common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    """Return the number of leading tokens that two sequences share."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


def packs(sequences: list[np.ndarray], read_from: list[int], size: int) -> Iterator[Pack]:
    """Cut the prefix tree of ``sequences`` into packs of about ``size`` new tokens.

    Parameters
    ----------
    sequences : token ids, one integer array each.
    read_from : for each sequence, the first position whose output is read. Positions from there on
        are always computed in the pack in which the sequence ends, even if an earlier pack had
        them.
    size : new tokens per pack; a longer sequence has a pack of its own.
    """
    # Big-endian bytes sort like the token ids.
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())
    pack, previous = Pack(np.arange(0)), np.arange(0)
    for i in order:
        sequence = sequences[i]
        shared = common_prefix(previous, sequence)
        if pack.tokens and len(pack.tokens) + len(sequence) - shared > size:
            yield pack.close()
            pack = Pack(pack.paths[-1][: min(shared, read_from[i])])
        # A position whose output is read must be computed in this pack: carried columns have keys
        # and values only.
        if read_from[i] < len(pack.carried):
            shared = min(shared, read_from[i])
        elif not pack.members:
            shared = len(pack.carried)
        pack.add(i, sequence, shared)
        previous = sequence
    if pack.members:
        yield pack.close()
