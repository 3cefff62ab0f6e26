"""How many sequences are computed with every shared token once: a radix tree, laid out in KV blocks.

Pure planning, no torch. A segment is a run of tokens that the same sequences share; it is computed once. All segments run in
one forward pass: within a layer every key and value is written before any is read, so a segment finds its past through the
blocks of its ancestors though they run beside it. Where two segments branch inside a block, the first goes on in that block,
and what the others need of it is written to blocks of their own as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from evals.errors import EngineError
from evals.token_tree import common_prefix

Mark = tuple[int, int]
"""Who wants the prediction after a token: (number of the sequence's owner, a number of the owner's own)."""


@dataclass
class Segment:
    """A run of tokens in the tree."""

    start: int
    tokens: tuple[int, ...]
    marks: list[tuple[int, Mark]] = field(default_factory=list)
    """(offset in the run, who wants the prediction after that token)"""
    children: list[Segment] = field(default_factory=list)
    resident: bool = False
    """Whether its keys and values are in the KV cache already, at the resident sequence's place."""
    alone: bool = False
    """Whether no other sequence may go on from here, since its own will go on in its last block."""
    again: bool = False
    """Whether a resident run is computed again, because what follows its last token is wanted and was not kept."""
    table: tuple[int, ...] = ()
    """Blocks of the sequence up to the end of the run."""
    private: int | None = None
    """The block that repeats the part of an ancestors' block before this run, if it has one."""

    @property
    def end(self) -> int:
        """Position after the last token."""
        return self.start + len(self.tokens)

    @property
    def computed(self) -> bool:
        """Whether the run takes part in the forward pass."""
        return self.again or not self.resident

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
        self.root = Segment(0, (), resident=True)
        self._resident = resident
        if resident.tokens:
            self.root.children.append(Segment(0, resident.tokens, resident=True))

    def insert(self, tokens: tuple[int, ...], mark: Mark) -> None:
        """Add a sequence after whose last token a prediction is wanted."""
        node, at = self.root, 0
        while at < len(tokens):
            child = next((c for c in node.children if c.tokens[0] == tokens[at] and not c.alone), None)
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

    def insert_alone(self, tokens: tuple[int, ...], mark: Mark) -> None:
        """Add a sequence that shares nothing, whatever is added later, so that its blocks are its own to the end."""
        self.root.children.append(Segment(0, tokens, marks=[(len(tokens) - 1, mark)], alone=True))

    def place(self, pool: BlockPool) -> set[int]:
        """Drop what no sequence follows and give every segment its blocks; returns the blocks that were taken."""
        _drop_unused(self.root)
        taken: set[int] = set()
        self._place(self.root, pool, taken)
        return taken

    def _place(self, node: Segment, pool: BlockPool, taken: set[int]) -> None:
        size = pool.block_size

        def take() -> int:
            block = pool.take()
            taken.add(block)
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
            self._place(child, pool, taken)

    def lines(self) -> Iterator[tuple[Segment, ...]]:
        """Every segment but the root, as the last of the line of segments that leads to it."""
        stack: list[tuple[Segment, ...]] = [(child,) for child in reversed(self.root.children)]
        while stack:
            line = stack.pop()
            yield line
            stack.extend((*line, child) for child in reversed(line[-1].children))


def _drop_unused(node: Segment) -> bool:
    node.children = [child for child in node.children if _drop_unused(child)]
    return bool(node.children or node.marks)
