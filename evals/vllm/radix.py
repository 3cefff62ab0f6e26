"""A radix tree of sequences, laid out in KV blocks, so that every shared token is computed once.

Pure planning, no torch. A segment is a run of tokens that the same sequences share. All segments run in one forward pass: a
layer writes all keys and values before it reads any, so that a segment reads its ancestors' blocks although they run in the
same pass. If segments branch inside a block, the first one continues in that block, and for the others the shared part is also
written to separate blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from evals.errors import EngineError
from evals.token_tree import common_prefix

Mark = tuple[int, int]
"""Owner of the prediction after a token: (number of the owner, number chosen by the owner)."""


@dataclass
class Segment:
    """A run of tokens in the tree."""

    start: int
    tokens: tuple[int, ...]
    marks: list[tuple[int, Mark]] = field(default_factory=list)
    """Pairs (offset in the run, mark of the prediction after that token)."""
    children: list[Segment] = field(default_factory=list)
    resident: bool = False
    """Whether its keys and values are already in the KV cache, in the resident sequence's blocks."""
    alone: bool = False
    """Whether no other sequence may continue from here, because tokens are appended to its last block."""
    again: bool = False
    """Whether a resident run is computed again, because the prediction after its last token was not kept."""
    table: tuple[int, ...] = ()
    """Blocks of the sequence up to the end of the run."""
    private: int | None = None
    """The block with a copy of the shared part of an ancestor's block, if the run has one."""

    @property
    def end(self) -> int:
        """Position after the last token."""
        return self.start + len(self.tokens)

    @property
    def computed(self) -> bool:
        """Whether the run takes part in the forward pass."""
        return self.again or not self.resident

    def split(self, offset: int) -> None:
        """Split the run at `offset`, so that another one can branch off there."""
        tail = Segment(self.start + offset, self.tokens[offset:], children=self.children)
        tail.resident, tail.again = self.resident, self.again
        tail.marks = [(at - offset, mark) for at, mark in self.marks if at >= offset]
        self.marks = [(at, mark) for at, mark in self.marks if at < offset]
        self.tokens, self.children = self.tokens[:offset], [tail]


@dataclass(frozen=True)
class Resident:
    """A sequence whose keys and values are still in the KV cache."""

    tokens: tuple[int, ...] = ()
    table: tuple[int, ...] = ()


class BlockPool:
    """Free KV blocks."""

    def __init__(self, first: int, end: int, block_size: int) -> None:
        self.block_size = block_size
        self._free = list(range(end - 1, first - 1, -1))

    @property
    def free(self) -> int:
        """Number of free blocks."""
        return len(self._free)

    def take(self) -> int:
        """Allocate a block; EngineError if none is free."""
        if not self._free:
            raise EngineError("The KV cache is too small for one batch of requests: raise kv_cache_gib.")
        return self._free.pop()

    def release(self, blocks: set[int]) -> None:
        """Free these blocks."""
        self._free.extend(sorted(blocks, reverse=True))


class RadixTree:
    """The sequences of one batch; the resident sequence is a branch that is already computed."""

    def __init__(self, resident: Resident) -> None:
        self.root = Segment(0, (), resident=True)
        self._resident = resident
        if resident.tokens:
            self.root.children.append(Segment(0, resident.tokens, resident=True))

    def insert(self, tokens: tuple[int, ...], mark: Mark) -> None:
        """Add a sequence; `mark` identifies the prediction after its last token."""
        node, position = self.root, 0
        while position < len(tokens):
            child = next((c for c in node.children if c.tokens[0] == tokens[position] and not c.alone), None)
            if child is None:
                child = Segment(position, tokens[position:])
                node.children.append(child)
            else:
                shared = common_prefix(child.tokens, tokens[position : position + len(child.tokens)])
                if shared < len(child.tokens):
                    child.split(shared)
            node, position = child, child.end
        if node.resident and not node.again:
            if len(node.tokens) > 1:
                node.split(len(node.tokens) - 1)
                node = node.children[0]
            node.again = True
        node.marks.append((len(node.tokens) - 1, mark))

    def insert_alone(self, tokens: tuple[int, ...], mark: Mark) -> None:
        """Add a sequence that shares no blocks with earlier or later ones."""
        self.root.children.append(Segment(0, tokens, marks=[(len(tokens) - 1, mark)], alone=True))

    def place(self, pool: BlockPool) -> set[int]:
        """Drop unused segments and assign blocks to all others; returns the allocated blocks."""
        _drop_unused(self.root)
        allocated: set[int] = set()
        self._place(self.root, pool, allocated)
        return allocated

    def _place(self, node: Segment, pool: BlockPool, allocated: set[int]) -> None:
        size = pool.block_size

        def take() -> int:
            block = pool.take()
            allocated.add(block)
            return block

        in_place = any(child.resident for child in node.children)
        for child in node.children:
            if child.resident:
                child.table = self._resident.table[: -(-child.end // size)]
            else:
                table = list(node.table[: child.start // size])
                if child.start % size:
                    if in_place:
                        child.private = take()
                    table.append(node.table[child.start // size] if child.private is None else child.private)
                    in_place = True
                while len(table) * size < child.end:
                    table.append(take())
                child.table = tuple(table)
            self._place(child, pool, allocated)

    def lines(self) -> Iterator[tuple[Segment, ...]]:
        """For every segment except the root, the line of segments from the root to it."""
        stack: list[tuple[Segment, ...]] = [(child,) for child in reversed(self.root.children)]
        while stack:
            line = stack.pop()
            yield line
            stack.extend((*line, child) for child in reversed(line[-1].children))


def _drop_unused(node: Segment) -> bool:
    node.children = [child for child in node.children if _drop_unused(child)]
    return bool(node.children or node.marks)
