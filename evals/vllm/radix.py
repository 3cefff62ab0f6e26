"""How many sequences are computed with every shared token once: a radix tree, cut into steps, laid out in KV blocks.

Pure planning, no torch. A segment is a run of tokens that the same sequences share. Segments of one depth run in one
step, after those they follow; a segment finds its past through the block tables of its ancestors, and where it begins
inside a block it continues in that block (the first to follow) or in a copy of it (the others).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from evals.errors import EngineError
from evals.token_tree import common_prefix

MIN_SAVED_TOKENS = 16
"""A shared run is computed apart only where that spares this many tokens; a step of its own costs about as much."""

Mark = tuple[int, int]
"""Who wants the prediction after a token: (request, row of its TokenTree)."""


@dataclass
class Segment:
    """A run of tokens in the tree."""

    start: int
    tokens: tuple[int, ...]
    marks: list[tuple[int, Mark]] = field(default_factory=list)
    children: list[Segment] = field(default_factory=list)
    resident: bool = False
    """Whether its keys and values are in the KV cache already, at the resident sequence's place."""
    again: bool = False
    """Whether a resident run is computed again, because what follows its last token is wanted and was not kept."""
    table: tuple[int, ...] = ()
    copy_block: tuple[int, int] | None = None

    @property
    def end(self) -> int:
        """Position after the last token."""
        return self.start + len(self.tokens)

    def split(self, offset: int) -> None:
        """Cut the run in two, so that another one can branch off between."""
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
        """A free block."""
        if not self._free:
            raise EngineError("The KV cache is too small for one batch of requests: raise kv_cache_gib.")
        return self._free.pop()

    def give_back(self, blocks: set[int]) -> None:
        """Blocks that nobody needs any more."""
        self._free.extend(sorted(blocks, reverse=True))


class RadixTree:
    """The sequences of one batch, with the resident one as a branch that is computed already."""

    def __init__(self, resident: Resident) -> None:
        self.root = Segment(0, ())
        self.root.resident = True
        self._resident = resident
        if resident.tokens:
            self.root.children.append(Segment(0, resident.tokens, resident=True))

    def insert(self, tokens: tuple[int, ...], mark: Mark) -> None:
        """Add a sequence after whose last token a prediction is wanted."""
        node, at = self.root, 0
        while at < len(tokens):
            child = next((c for c in node.children if c.tokens[0] == tokens[at]), None)
            if child is None:
                child = Segment(at, tokens[at:])
                node.children.append(child)
            else:
                shared = common_prefix(child.tokens, tokens[at : at + len(child.tokens)])
                if shared < len(child.tokens):
                    child.split(shared)
            node, at = child, child.end
        if node.resident and not node.again:
            if len(node.tokens) > 1:
                node.split(len(node.tokens) - 1)
                node = node.children[0]
            node.again = True
        node.marks.append((len(node.tokens) - 1, mark))

    def prepare(self) -> None:
        """Drop what no request follows, and merge runs that are not worth a step of their own."""
        _drop_unused(self.root)
        _collapse(self.root)

    def place(self, pool: BlockPool) -> set[int]:
        """Give every segment its block table; returns the blocks that were taken."""
        taken: set[int] = set()
        self._place(self.root, pool, taken)
        return taken

    def _place(self, node: Segment, pool: BlockPool, taken: set[int]) -> None:
        size = pool.block_size
        busy = any(child.resident for child in node.children)
        for child in node.children:
            if child.resident:
                child.table = self._resident.table[: -(-child.end // size)]
            else:
                table = list(node.table[: child.start // size])
                if child.start % size:
                    partial = node.table[child.start // size]
                    if busy:
                        block = pool.take()
                        taken.add(block)
                        child.copy_block = (partial, block)
                        table.append(block)
                    else:
                        table.append(partial)
                        busy = True
                while len(table) * size < child.end:
                    table.append(pool.take())
                    taken.add(table[-1])
                child.table = tuple(table)
            self._place(child, pool, taken)

    def levels(self) -> Iterator[list[Segment]]:
        """Segments to compute, parents before children."""
        level = self.root.children
        while level:
            todo = [segment for segment in level if segment.again or not segment.resident]
            if todo:
                yield todo
            level = [child for segment in level for child in segment.children]


def _drop_unused(node: Segment) -> bool:
    node.children = [child for child in node.children if _drop_unused(child)]
    return bool(node.children or node.marks)


def _collapse(node: Segment) -> None:
    merged: list[Segment] = []
    for child in node.children:
        _collapse(child)
        if child.resident or not _is_worthless(child):
            merged.append(child)
            continue
        for number, grandchild in enumerate(child.children):
            shift = len(child.tokens)
            grandchild.marks = [(at + shift, mark) for at, mark in grandchild.marks]
            if number == 0:
                grandchild.marks += child.marks
            grandchild.start, grandchild.tokens = child.start, child.tokens + grandchild.tokens
            merged.append(grandchild)
    node.children = merged


def _is_worthless(segment: Segment) -> bool:
    """Whether computing the run with each of its followers costs less than a step of its own."""
    branches = len(segment.children)
    return branches > 0 and len(segment.tokens) * (branches - 1) < MIN_SAVED_TOKENS
