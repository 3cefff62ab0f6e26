"""The seeded random order in which documents are asked when an evaluation may stop before its end.

The order is a function of the seed and of each document's subset and id alone: a keyed hash, so that it is the same on every
machine and with every library version. Within a subset it is a random permutation; across subsets it is proportional, so that
every prefix holds each subset's share of the documents to within one. A prefix is therefore a stratified random sample
without replacement, and the whole order is the whole benchmark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

ORDER = "blake2b, proportional, 1"
"""Name of the procedure, for identities: another procedure gives another order."""

Key = tuple[str, int]
"""Subset and document id."""


def document_order(documents: Sequence[Key], seed: int) -> tuple[int, ...]:
    """The positions in `documents` in the order in which they are asked; a permutation of range(len(documents)).

    Two calls with the same documents in another sequence give the same order of documents.
    """
    by_subset: dict[str, list[tuple[float, int]]] = {}
    for position, (subset, doc_id) in enumerate(documents):
        by_subset.setdefault(subset, []).append((_uniform(seed, subset, str(doc_id)), position))
    places: list[tuple[float, str, int]] = []
    for subset, drawn in by_subset.items():
        offset = _uniform(seed, subset)
        for rank, (_, position) in enumerate(sorted(drawn)):
            places.append(((rank + offset) / len(drawn), subset, position))
    return tuple(position for _, _, position in sorted(places))


def _uniform(seed: int, *words: str) -> float:
    """A number in [0, 1) that follows from the seed and the words."""
    text = "\x1f".join((str(seed), *words)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big") / 2**56
