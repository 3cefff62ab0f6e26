"""Which built layer paths of one checkpoint differ in nothing but their weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property

from recipes.checkpoint import layer_tensor_name
from recipes.layer_config import Json, layers_differ, relayered_config
from recipes.layer_path import LayerPath


class BuiltForms:
    """The config and the tensor names that the built layer paths of one checkpoint have."""

    def __init__(self, config: Json, tensor_names: Iterable[str], where: str) -> None:
        """`config` is the checkpoint's config.json, `where` names it in errors."""
        self._config = config
        self._where = where
        names: dict[int, list[str]] = {}
        for name in tensor_names:
            parts = layer_tensor_name(name)
            if parts is not None:
                names.setdefault(parts.layer, []).append(parts.rest)
        self._names = {layer: " ".join(sorted(rest)) for layer, rest in names.items()}

    def of(self, path: LayerPath) -> str:
        """Digest that two paths share if their built checkpoints have equal configs, and tensors of equal names.

        Visits of a half of a layer are built by mergekit and whole layers by copying, so a path with and one without such
        visits have different digests. Raises BuildError for a path that cannot be built.
        """
        halves = any(not isinstance(visit, int) for visit in path.layers)
        if self._alike:
            return f"{len(path.layers)} {halves}"
        origins = [(self._config, layer) for layer in path.source_layers]
        config = relayered_config(origins, self._config, self._where)
        names = [self._names.get(layer, "") for layer in path.source_layers]
        text = json.dumps([config, names, halves], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def _alike(self) -> bool:
        """Whether a built path's config and names follow from its number of layers."""
        return len(set(self._names.values())) <= 1 and not layers_differ(self._config, self._where)
