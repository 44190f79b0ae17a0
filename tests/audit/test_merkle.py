"""The tree against the vectors of the Certificate Transparency project and its definition in RFC 6962."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from fhir_hook.audit import merkle, tiles

# Source: certificate-transparency-go, merkletree/merkle_verifier_test.go; the same inputs and roots are in
# transparency-dev/merkle, testonly/constants.go.
INPUTS = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    bytes.fromhex(text)
    for text in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
INCLUSION = [  # record (from 0), size, proof
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCY = [  # old size, size, proof
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]


def by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word; `leaves` are leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + by_definition(leaves[:k]) + by_definition(leaves[k:])).digest()


def subtrees(leaves: list[bytes]) -> merkle.Subtree:
    return lambda height, index: by_definition(leaves[index << height : (index + 1) << height])


def fhex(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


LEAVES = [merkle.leaf_hash(each) for each in INPUTS]


def test_the_roots_are_those_of_the_certificate_transparency_project() -> None:
    for size, root in enumerate(ROOTS):
        assert merkle.range_hash(subtrees(LEAVES), 0, size) == root
        frontier = merkle.Frontier()
        frontier.add(b"".join(LEAVES[:size]))
        assert frontier.root() == root


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_inclusion_proofs_are_those_of_the_certificate_transparency_project(
    index: int, size: int, proof: list[str]
) -> None:
    assert merkle.inclusion_proof(subtrees(LEAVES), index, size) == fhex(proof)
    merkle.check_inclusion(LEAVES[index], index, size, fhex(proof), ROOTS[size])


@pytest.mark.parametrize(("old", "size", "proof"), CONSISTENCY)
def test_consistency_proofs_are_those_of_the_certificate_transparency_project(
    old: int, size: int, proof: list[str]
) -> None:
    assert merkle.consistency_proof(subtrees(LEAVES), old, size) == fhex(proof)
    merkle.check_consistency(old, ROOTS[old], size, ROOTS[size], fhex(proof))


def refused(check: Callable[..., None], *arguments: object) -> bool:
    try:
        check(*arguments)
    except merkle.ProofError:
        return True
    return False


def spoilt(proof: list[bytes], root: bytes) -> list[list[bytes]]:
    """What the reference implementation's test does to a proof, and must not be accepted."""
    other = ROOTS[0]
    found = [[*proof[:at], other, *proof[at + 1 :]] for at in range(len(proof))]
    return [*found, [*proof, b""], [*proof, root], proof[:-1] if proof else [other], [b"", *proof], [root, *proof]]


def test_no_spoilt_inclusion_proof_is_accepted_at_any_size_up_to_40() -> None:
    leaves = [merkle.leaf_hash(b"%d" % n) for n in range(40)]
    for size in range(1, 41):
        root = by_definition(leaves[:size])
        for index in range(size):
            proof = merkle.inclusion_proof(subtrees(leaves), index, size)
            merkle.check_inclusion(leaves[index], index, size, proof, root)
            for wrong in spoilt(proof, root):
                assert refused(merkle.check_inclusion, leaves[index], index, size, wrong, root)
            for at in (index - 1, index + 1, index ^ 2):
                assert refused(merkle.check_inclusion, leaves[index], at, size, proof, root)
            assert refused(merkle.check_inclusion, LEAVES[0], index, size, proof, root)
            assert refused(merkle.check_inclusion, leaves[index], index, size, proof, ROOTS[0])


def test_no_spoilt_consistency_proof_is_accepted_at_any_size_up_to_40() -> None:
    leaves = [merkle.leaf_hash(b"%d" % n) for n in range(40)]
    roots = [by_definition(leaves[:size]) for size in range(41)]
    for size in range(41):
        for old in range(size + 1):
            proof = merkle.consistency_proof(subtrees(leaves), old, size)
            merkle.check_consistency(old, roots[old], size, roots[size], proof)
            for wrong in spoilt(proof, roots[size]):
                assert refused(merkle.check_consistency, old, roots[old], size, roots[size], wrong)
            assert refused(merkle.check_consistency, old, LEAVES[7], size, roots[size], proof)
            assert old == 0 or refused(merkle.check_consistency, old, roots[old], size, LEAVES[7], proof)
    assert refused(merkle.check_consistency, 2, roots[2], 1, roots[1], [])


def test_a_frontier_fed_in_any_portions_knows_the_root_at_every_size(chosen: random.Random) -> None:
    leaves = [merkle.leaf_hash(b"%d" % n) for n in range(1500)]
    for _ in range(20):
        frontier, size = merkle.Frontier(), 0
        while size < len(leaves):
            step = chosen.choice([1, 2, 100, 255, 256, 257, 600])
            frontier.add(b"".join(leaves[size : size + step]))
            size = min(len(leaves), size + step)
            assert frontier.root() == by_definition(leaves[:size])


def test_tiles_written_in_any_portions_know_every_earlier_root_and_go_on_from_any_size(
    chosen: random.Random, tmp_path: Path
) -> None:
    leaves = [merkle.leaf_hash(b"%d" % n) for n in range(70_000)]
    size = 0
    while size < len(leaves):
        step = chosen.choice([1, 255, 256, 257, 5000, 20_000])
        writer = tiles.Writer(tmp_path, size)
        writer.add(b"".join(leaves[size : size + step]))
        writer.sync()
        writer.close()
        size = min(len(leaves), size + step)
    assert {path.name: path.stat().st_size // 32 for path in tmp_path.iterdir()} == {
        "level0": 70_000,
        "level1": 273,
        "level2": 1,
    }
    with tiles.Tiles(tmp_path) as stored:
        for size in (0, 1, 255, 256, 257, 65_535, 65_536, 65_537, 69_999, 70_000):
            assert stored.root(size) == by_definition(leaves[:size])
            assert stored.frontier(size).root() == by_definition(leaves[:size])


def test_tile_names_are_those_of_the_specification() -> None:
    # Source: C2SP tlog-tiles, "Merkle Tree" and "Partial Tiles".
    assert tiles.tile_path(0, 1_234_067) == "tile/0/x001/x234/067"
    found = list(tiles.tile_paths(70_000))
    assert [(level, width) for level, _, width, _ in found if width < 256] == [(0, 112), (1, 17), (2, 1)]
    assert sum(1 for level, _, width, _ in found if level == 0 and width == 256) == 273
    assert sum(1 for level, _, width, _ in found if level == 1 and width == 256) == 1
    assert [(level, width, path) for level, _, width, path in tiles.tile_paths(256)] == [
        (0, 256, "tile/0/000"),
        (1, 1, "tile/1/000.p/1"),
    ]
