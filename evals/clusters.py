"""Clusters of questions: those that share a passage, a story or a source are not independent.

A question's cluster is a hash of the field of its document that it shares with others. The field is the one that
`board/clusters.yaml` names for the task, else a text of some length that many questions have in common, as SQuAD's `context`,
RACE's `article` or MuSR's `narrative`. The cluster is stored with the sample; it is part of no identity.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evals.scores import Sample

_RULES = Path(__file__).parent / "board" / "clusters.yaml"
LEAST_CLUSTERS = 10
"""Fewer clusters than this do not tell how questions vary between them; questions then count as independent."""
_LEAST_LENGTH = 100
_LEAST_SHARING = 0.1
_MOST_FIELDS = 20


@functools.cache
def _rules() -> tuple[tuple[str, str], ...]:
    data = yaml.safe_load(_RULES.read_text(encoding="utf-8"))
    return tuple((rule["task"], rule["field"]) for rule in data)


def field_hashes(document: Any) -> dict[str, tuple[str, int]]:
    """Hash and length of every text field of a document: what is needed to find clusters later."""
    if not isinstance(document, Mapping):
        return {}
    texts = [(k, v) for k, v in document.items() if isinstance(k, str) and isinstance(v, str) and v]
    return {name: (_sha(value), len(value)) for name, value in texts[:_MOST_FIELDS]}


def clusters_of(task: str, fields: Mapping[int, Mapping[str, tuple[str, int]]]) -> dict[int, str]:
    """The cluster of every document of a task, by document id; empty if no field is shared.

    `fields` is `field_hashes` of each document.
    """
    named = next((field for pattern, field in _rules() if re.fullmatch(pattern, task)), None)
    chosen = named if named is not None else _shared_field(fields.values())
    if chosen is None:
        return {}
    clusters = {doc_id: f[chosen][0] for doc_id, f in fields.items() if chosen in f}
    return clusters if len(clusters) == len(fields) and _is_shared(clusters.values()) else {}


def with_clusters(samples: Sequence[Sample], documents: Mapping[int, Any]) -> tuple[Sample, ...]:
    """The samples of one task with their clusters, from the documents by id."""
    if not samples:
        return ()
    fields = {doc_id: field_hashes(document) for doc_id, document in documents.items()}
    clusters = clusters_of(samples[0].subset, fields)
    if not clusters:
        return tuple(samples)
    return tuple(s.model_copy(update={"cluster": clusters.get(s.doc_id)}) for s in samples)


def _shared_field(fields: Iterable[Mapping[str, tuple[str, int]]]) -> str | None:
    """The long text that most questions share with others; None if none is shared by many."""
    values: dict[str, list[str]] = defaultdict(list)
    lengths: dict[str, int] = defaultdict(int)
    n = 0
    for document in fields:
        n += 1
        for name, (digest, length) in document.items():
            values[name].append(digest)
            lengths[name] += length
    shared = [
        (len(set(digests)), name)
        for name, digests in values.items()
        if len(digests) == n and lengths[name] >= _LEAST_LENGTH * n and _is_shared(digests)
    ]
    return min(shared)[1] if shared else None


def _is_shared(digests: Iterable[str]) -> bool:
    """Whether at least a tenth of the questions share a value with another, and there are enough values."""
    counts = Counter(digests)
    total = counts.total()
    sharing = sum(count for count in counts.values() if count > 1)
    return len(counts) >= LEAST_CLUSTERS and sharing >= _LEAST_SHARING * total


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
