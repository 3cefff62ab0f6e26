"""Canonical form and digest of a recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from recipes.recipe.depth import is_copy
from recipes.recipe.methods import MERGEKIT_VERSION
from recipes.recipe.normal import Encode, as_text, document, normalize
from recipes.recipe.refs import ModelRef, SourceRef
from recipes.recipe.stage import Stage


def numbered_names(stages: Sequence[Stage], sources: Sequence[SourceRef]) -> dict[str, str]:
    """Map stage names, which do not affect the result, to numbered names that no source has."""
    prefix = "stage-"
    while any(source.name.startswith(prefix) for source in sources):
        prefix = "s" + prefix
    return {stage.name: f"{prefix}{number}" for number, stage in enumerate(stages, 1) if stage.name}


def canonical_stages(stages: Sequence[Stage], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Normal forms of the ordered stages as mergekit documents."""

    def encode(ref: ModelRef) -> Any:
        number = names.get(ref.source.name)
        return as_text(ref.model_copy(update={"source": SourceRef(name=number)}) if number else ref)

    return _documents(stages, names, encode)


def _documents(stages: Sequence[Stage], names: Mapping[str, str], encode: Encode) -> list[dict[str, Any]]:
    """Documents of the stages; the last one has no name."""
    last = stages[-1]
    renamed = [
        normalize(stage).model_copy(update={"name": None if stage is last else names[stage.name or ""]})
        for stage in stages
    ]
    return [document(stage, encode) for stage in renamed]


def digest_stages(
    stages: Sequence[Stage], names: Mapping[str, str], weights: Callable[[SourceRef], str], seed: int
) -> str:
    """Digest of the stages with each source replaced by the digest of its weights; 16 hex digits."""

    def encode(ref: ModelRef) -> Any:
        number = names.get(ref.source.name)
        adapter = weights(ref.adapter) if ref.adapter else None
        return [number or weights(ref.source), adapter, ref.architecture]

    random = any(stage.method_spec.random for stage in stages)
    computes = not all(is_copy(stage) for stage in stages)
    return digest_data(
        {
            "stages": _documents(stages, names, encode),
            "mergekit": MERGEKIT_VERSION if computes else None,
            "seed": seed if random else None,
        }
    )


def digest_data(data: Any) -> str:
    """First 16 hex digits of the sha256 of canonical JSON."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def dump_documents(documents: Sequence[Mapping[str, Any]]) -> str:
    """Dump documents as YAML."""
    return yaml.safe_dump_all(
        [dict(document_) for document_ in documents],
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=110,
    )
