"""What token sequences have in common: shared prefixes, and the tree of a question's continuations."""

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

    Row 0 stands for the context's last token, row r for node r - 1. The last token of a continuation is no node: nobody
    needs what follows it.
    """

    tokens: tuple[int, ...]
    """Token of each node."""
    parents: tuple[int, ...]
    """Row that each node follows."""
    depths: tuple[int, ...]
    """Tokens between the context's last one and the node, the node included."""
    rows: tuple[tuple[int, ...], ...]
    """`rows[c][t]` predicts token t of continuation c."""

    @classmethod
    def of(cls, continuations: Sequence[Sequence[int]]) -> TokenTree:
        """The tree of these continuations, parents before children."""
        known: dict[tuple[int, int], int] = {}
        tokens: list[int] = []
        parents: list[int] = []
        depths: list[int] = [0]
        rows = []
        for continuation in continuations:
            row, path = 0, [0]
            for token in continuation[:-1]:
                if (row, token) not in known:
                    tokens.append(token)
                    parents.append(row)
                    depths.append(depths[row] + 1)
                    known[row, token] = len(tokens)
                row = known[row, token]
                path.append(row)
            rows.append(tuple(path))
        return cls(tuple(tokens), tuple(parents), tuple(depths[1:]), tuple(rows))
