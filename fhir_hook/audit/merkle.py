"""Merkle trees as RFC 9162 (and RFC 6962, section 2.1) defines them, over SHA-256: roots, proofs, and their checks.

Leaf i of the decision log's tree is the log's line i, counted from 0, with its newline: the bytes as they are in the
file.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

HASH_SIZE = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
EMPTY_ROOT = sha256(b"").digest()
LONGEST_PROOF = 64

Subtree = Callable[[int, int], bytes]
"""(height, index) -> hash of the complete subtree over the leaves index * 2**height up to (index + 1) * 2**height."""


class ProofError(Exception):
    """A proof does not show what it should; str() is one line."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one leaf (RFC 9162, section 2.1.1)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an interior node (RFC 9162, section 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


def fold(hashes: bytes) -> bytes:
    """The root of a complete subtree whose 2**n leaf hashes stand one behind the other in `hashes`."""
    while len(hashes) > HASH_SIZE:
        pairs = [hashes[at : at + 64] for at in range(0, len(hashes), 64)]
        hashes = b"".join([sha256(b"\x01" + pair).digest() for pair in pairs])
    return hashes


def complete_subtrees(start: int, end: int) -> list[tuple[int, int]]:
    """The complete subtrees, as (height, index) from left to right, that tile the leaves `start` up to `end`.

    `start` must be a multiple of the largest power of two that is at most end - start, as it is in every proof.
    """
    found = []
    while start < end:
        height = (end - start).bit_length() - 1
        if start:
            height = min(height, (start & -start).bit_length() - 1)
        found.append((height, start >> height))
        start += 1 << height
    return found


def range_hash(subtree: Subtree, start: int, end: int) -> bytes:
    """MTH(D[start:end]) of RFC 9162 from complete subtrees; EMPTY_ROOT for none."""
    parts = [subtree(height, index) for height, index in complete_subtrees(start, end)]
    if not parts:
        return EMPTY_ROOT
    right = parts.pop()
    while parts:
        right = node_hash(parts.pop(), right)
    return right


def inclusion_proof(subtree: Subtree, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]) of RFC 9162, section 2.1.3.1: from the leaf's sibling up to the root's child."""
    if not 0 <= index < size:
        raise ProofError(f"there is no record {index} in a tree of {size}")
    start, end = 0, size
    path = []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_hash(subtree, middle, end))
            end = middle
        else:
            path.append(range_hash(subtree, start, middle))
            start = middle
    return path[::-1]


def consistency_proof(subtree: Subtree, old: int, size: int) -> list[bytes]:
    """PROOF(old, D[size]) of RFC 9162, section 2.1.4.1; empty when `old` is 0 or `size`."""
    if not 0 <= old <= size:
        raise ProofError(f"a tree of {old} is no earlier state of a tree of {size}")
    if old in (0, size):
        return []
    start, end = 0, size
    path = []
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(range_hash(subtree, middle, end))
            end = middle
        else:
            path.append(range_hash(subtree, start, middle))
            start = middle
    if start:
        path.append(range_hash(subtree, start, end))
    return path[::-1]


def _split(count: int) -> int:
    """The largest power of two smaller than `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def check_inclusion(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> None:
    """Verify an inclusion proof (RFC 9162, section 2.1.3.2); raises ProofError."""
    if not 0 <= index < size:
        raise ProofError(f"there is no record {index} in a tree of {size}")
    fn, sn, found = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            raise ProofError("the proof is longer than the tree is high")
        if fn & 1 or fn == sn:
            found = node_hash(sibling, found)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            found = node_hash(found, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise ProofError("the proof is shorter than the tree is high")
    if found != root:
        raise ProofError(f"the record is not the one at {index} in the tree that was signed")


def check_consistency(old: int, old_root: bytes, size: int, root: bytes, proof: list[bytes]) -> None:
    """Verify a consistency proof (RFC 9162, section 2.1.4.2); raises ProofError.

    An empty tree is an earlier state of every tree; the proof of that, and of a tree's equality with itself, is empty.
    """
    if not 0 <= old <= size:
        raise ProofError(f"a tree of {old} is no earlier state of a tree of {size}")
    if old in (0, size):
        if proof:
            raise ProofError("the proof holds hashes where none belong")
        if old == size and old_root != root or old == 0 and old_root != EMPTY_ROOT:
            raise ProofError(f"two different trees of {old} records")
        return
    path = ([old_root] if old & (old - 1) == 0 else []) + proof
    fn, sn = old - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    if not path:
        raise ProofError("the proof is empty")
    old_found = found = path[0]
    for sibling in path[1:]:
        if sn == 0:
            raise ProofError("the proof is longer than the tree is high")
        if fn & 1 or fn == sn:
            old_found, found = node_hash(sibling, old_found), node_hash(sibling, found)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            found = node_hash(found, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise ProofError("the proof is shorter than the tree is high")
    if old_found != old_root or found != root:
        raise ProofError(f"the tree of {old} is no earlier state of the tree of {size}: the log was changed in between")


class Frontier:
    """The right edge of a growing tree: enough to tell its root, in constant memory.

    `size` leaves were added. Whole tiles of 256 are kept as roots, the rest as leaf hashes.
    """

    def __init__(self, peaks: list[tuple[int, bytes]] | None = None, size: int = 0, rest: bytes = b"") -> None:
        """Start from `peaks` (height, hash) of complete subtrees over whole tiles, and `rest`, the last tile's
        leaves."""
        self._peaks = peaks or []
        self._rest = rest
        self.size = size

    def add(self, leaves: bytes, roots: list[bytes] | None = None) -> None:
        """Add leaf hashes that stand one behind the other.

        `roots`, if somebody has computed them already, are those of the whole tiles that `leaves` fill up behind the
        first tile border in them.
        """
        at = 0
        if self._rest or len(leaves) < TILE_WIDTH * HASH_SIZE:
            at = min(len(leaves), TILE_WIDTH * HASH_SIZE - len(self._rest))
            self._rest += leaves[:at]
            if len(self._rest) == TILE_WIDTH * HASH_SIZE:
                self._push(fold(self._rest))
                self._rest = b""
        tiles = (len(leaves) - at) // (TILE_WIDTH * HASH_SIZE)
        for tile in range(tiles):
            begin = at + tile * TILE_WIDTH * HASH_SIZE
            self._push(roots[tile] if roots else fold(leaves[begin : begin + TILE_WIDTH * HASH_SIZE]))
        self._rest += leaves[at + tiles * TILE_WIDTH * HASH_SIZE :] if at < len(leaves) else b""
        self.size += len(leaves) // HASH_SIZE

    def _push(self, root: bytes) -> None:
        height = TILE_HEIGHT
        while self._peaks and self._peaks[-1][0] == height:
            root = node_hash(self._peaks.pop()[1], root)
            height += 1
        self._peaks.append((height, root))

    def root(self, more: bytes = b"") -> bytes:
        """The root as it is, or with `more` leaf hashes that stay within the last tile."""
        rest = self._rest + more
        count = len(rest) // HASH_SIZE
        parts = [root for _, root in self._peaks]
        for height, index in complete_subtrees(0, count):
            begin = (index << height) * HASH_SIZE
            parts.append(fold(rest[begin : begin + (HASH_SIZE << height)]))
        if not parts:
            return EMPTY_ROOT
        found = parts.pop()
        while parts:
            found = node_hash(parts.pop(), found)
        return found
