"""The radix tree, its place in KV blocks, and the order of layers: what needs no engine."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.errors import EngineError
from evals.vllm.batch import Batch, batch_of
from evals.vllm.radix import BlockPool, RadixTree, Resident
from evals.vllm.schedule import PathNode, Stride, most_repeats, occurrences, path_trie, sweeps
from recipes.layer_path import LayerPath
from recipes.layer_visit import Layers, Variant, Visit, visit_of

BLOCK = 4
SEQUENCES = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=14).map(tuple), min_size=1, max_size=6)
VARIANTS = st.sampled_from(["attention", "mlp", "damped=0.5", "mlp:damped=0.5"])
VISITS = st.integers(0, 4) | st.builds(
    lambda layer, variant: visit_of(layer, Variant.parse(variant)), st.integers(0, 4), VARIANTS
)
PATHS = st.lists(st.lists(VISITS, min_size=1, max_size=9).map(tuple), min_size=1, max_size=5)


def run_batch(batch: Batch, memory: dict[tuple[int, int], tuple[int, ...]]) -> list[tuple[int, ...]]:
    """What the layers do with a batch, with a token's whole history in the place of its key: write all, then read.

    Returns the history that each new token sees, itself included; raises KeyError where it would read what nobody wrote.
    """
    for source, target in batch.copies.tolist():
        memory.update(
            {(target, place): memory[source, place] for place in range(BLOCK) if (source, place) in memory}
        )
    spelled: list[tuple[int, ...]] = []
    owner = np.repeat(np.arange(len(batch.lengths)), batch.starts[1:] - batch.starts[:-1])
    writes = list(
        zip(batch.write_rows.tolist(), batch.write_blocks.tolist(), batch.write_offsets.tolist(), strict=True)
    )
    for row, block, place in writes:
        memory[block, place] = (int(batch.tokens[row]), int(batch.positions[row]))
    for row, sequence in enumerate(owner.tolist()):
        places = range(int(batch.positions[row]) + 1)
        seen = [memory[int(batch.tables[sequence, at // BLOCK]), at % BLOCK] for at in places]
        assert [position for _, position in seen] == list(places)
        spelled.append(tuple(token for token, _ in seen))
    return spelled


@given(st.lists(SEQUENCES, min_size=1, max_size=3))
def test_every_token_sees_its_own_past_and_is_computed_once(batches: list[list[tuple[int, ...]]]) -> None:
    pool = BlockPool(1, 200, BLOCK)
    memory: dict[tuple[int, int], tuple[int, ...]] = {}
    resident = Resident()
    for sequences in batches:
        tree = RadixTree(resident)
        for number, tokens in enumerate(sequences):
            tree.insert(tokens, (number, 0))
        taken = tree.place(pool)
        batch, marks = batch_of(tree, BLOCK)
        spelled = run_batch(batch, memory)
        assert {n: spelled[row] for row, owners in marks.items() for n, _ in owners} == dict(
            enumerate(sequences)
        )
        known = {resident.tokens[:n] for n in range(1, len(resident.tokens) + 1)}
        fresh = {s[:n] for s in sequences for n in range(1, len(s) + 1)} - known
        assert Counter(spelled) == Counter(fresh | {s for s in sequences if s in known})
        table = next(
            line[-1].table for line in tree.lines()
            if tuple(t for segment in line for t in segment.tokens)[: len(sequences[-1])] == sequences[-1]
        )[: -(-len(sequences[-1]) // BLOCK)]  # fmt: skip
        pool.release((taken | set(resident.table)) - set(table))
        resident = Resident(sequences[-1], table)
        assert pool.free == 199 - len(table)


def test_blocks_run_out() -> None:
    tree = RadixTree(Resident())
    tree.insert(tuple(range(20)), (0, 0))
    with pytest.raises(EngineError, match="kv_cache_gib"):
        tree.place(BlockPool(1, 5, BLOCK))


@given(PATHS)
def test_the_trie_spells_every_path(paths: list[Layers]) -> None:
    found: dict[int, tuple[Layers, tuple[int, ...]]] = {}

    def walk(node: PathNode, layers: Layers, repeats: tuple[int, ...]) -> int:
        layers, repeats = layers + node.layers, repeats + node.repeats
        found.update(dict.fromkeys(node.ends, (layers, repeats)))
        assert set(node.paths) == set(node.ends).union(*(child.paths for child in node.children))
        return len(node.layers) + sum(walk(child, layers, repeats) for child in node.children)

    total = walk(path_trie(paths), (), ())
    assert found == {p: (path, occurrences(path)) for p, path in enumerate(paths)}
    assert total == len({path[:n] for path in paths for n in range(1, len(path) + 1)})


@given(PATHS)
def test_sweeps_take_every_path_through_its_layers(paths: list[Layers]) -> None:
    taken: list[list[tuple[int | Visit, int]]] = [[] for _ in paths]
    for visit in sweeps(paths):
        for path, repeat in visit.due:
            taken[path].append((visit.layer, repeat))
    assert taken == [list(zip(path, occurrences(path), strict=True)) for path in paths]


def test_paths_are_shared_up_to_the_first_visit_of_another_part_or_factor() -> None:
    texts = ("(1, 3):damped=0.5", "(1, 3):damped=0.25", "(1, 3)", "(1, 3):mlp")
    paths = [LayerPath.parse(text, 4).layers for text in texts]
    root = path_trie(paths)
    assert (root.layers, root.ends) == ((0, 1, 2), ())
    assert sorted(str(child.layers[0]) for child in root.children) == [
        "1",
        "1:damped=0.25",
        "1:damped=0.5",
        "1:mlp",
    ]
    # A damped visit has keys and values of its own; one without attention has none and takes no repetition.
    assert [occurrences(path)[3] for path in paths] == [1, 1, 1, 0]
    assert [most_repeats([path]) for path in paths] == [2, 2, 2, 1]
    runs = [(str(visit.layer), [path for path, _ in visit.due]) for visit in sweeps(paths)]
    assert ("1:mlp", [3]) in runs
    assert runs[:3] == [(str(layer), [0, 1, 2, 3]) for layer in range(3)]


def test_blocks_of_the_scan_need_two_sweeps() -> None:
    n = 12
    paths = [(*range(j), *range(i, n)) for j in range(1, n + 1) for i in range(j)]
    assert len(sweeps(paths)) <= 2 * n
    assert most_repeats(paths) == 2


@pytest.mark.parametrize("holders", [1, 2, 4])
def test_physical_blocks_do_not_collide(holders: int) -> None:
    stride = Stride(paths=3, repeats=3, holders=holders)
    wanted = [(b, p, r) for b in range(1, 5) for p in range(3) for r in range(3)]
    places = [(stride.holder(r), stride.block(b, p, r)) for b, p, r in wanted]
    assert len(set(places)) == len(places)
    assert min(block for _, block in places) > 0
    assert max(block for _, block in places) < 5 * stride.blocks
    logical, paths, repeats = np.array(wanted).T
    assert stride.tables(logical[:, None], paths, repeats)[:, 0].tolist() == [block for _, block in places]
