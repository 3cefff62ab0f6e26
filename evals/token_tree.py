"""Shared prefixes of token sequences, and the tree of a question's continuations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of leading tokens that are equal."""
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))


@dataclass(frozen=True)
class TokenTree:
    """The inner nodes of a question's continuations.

    Row 0 stands for the context's last token, row r for node r - 1. The last token of a continuation is not a node, because
    nothing is predicted after it.
    """

    tokens: tuple[int, ...]
    """Token of each node."""
    parents: tuple[int, ...]
    """Row that each node follows."""
    depths: tuple[int, ...]
    """Number of tokens after the context up to and including the node."""
    rows: tuple[tuple[int, ...], ...]
    """`rows[c][t]` predicts token t of continuation c."""

    @classmethod
    def of(cls, continuations: Sequence[Sequence[int]]) -> TokenTree:
        """Build the tree of the continuations, parents before children."""
        row_of_child: dict[tuple[int, int], int] = {}
        tokens: list[int] = []
        parents: list[int] = []
        depths: list[int] = [0]
        rows = []
        for continuation in continuations:
            row, path = 0, [0]
            for token in continuation[:-1]:
                if (row, token) not in row_of_child:
                    tokens.append(token)
                    parents.append(row)
                    depths.append(depths[row] + 1)
                    row_of_child[row, token] = len(tokens)
                row = row_of_child[row, token]
                path.append(row)
            rows.append(tuple(path))
        return cls(tuple(tokens), tuple(parents), tuple(depths[1:]), tuple(rows))
