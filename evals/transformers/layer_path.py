"""Live layer paths in a transformers model: shallow copies of the layers that share the weights, fully reversible."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from evals.errors import LivePathsRefused, UnsupportedArchitecture
from evals.layer_visits import (
    LAYER,
    AnyVisit,
    VisitPath,
    cache_slots,
    factor_of,
    has_attention,
    layer_of,
    part_of,
    running,
)
from evals.live_paths import check_layer_path, path_obstacle, paths_refused
from evals.transformers.layer_stack import LayerStack, find_stack

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class LivePaths:
    """Switches a loaded model between layer paths.

    Slot k of a path runs a shallow copy of its source layer whose parts have `layer_idx` k, the layer's index in the KV
    cache. Per-layer lists of the configuration (`layer_types`) follow the path. What else depends on a layer's number is
    found by `self_check` before the first path is set; a model that fails it runs as it is, and paths are refused.
    """

    def __init__(self, model: PreTrainedModel, checkpoint: Path) -> None:
        self._model = model
        self._checkpoint = checkpoint
        self._stack = path_obstacle(model.config.to_dict()) or find_stack(model)
        self._checked = False

    @property
    def n_layers(self) -> int:
        """Number of loaded layers. Raises LivePathsRefused if there is no stack of layers."""
        return len(self._supported_stack().layers)

    def require_supported(self) -> None:
        """Raise LivePathsRefused, with the reason, if layer paths of this model would differ from built checkpoints."""
        stack = self._supported_stack()
        if self._checked:
            return
        from evals.transformers.self_check import difference

        reason = difference(self._model, stack, lambda layers: self._switch(stack, layers))
        if reason is not None:
            self._stack = reason
            raise self._refusal(reason)
        self._checked = True

    def set(self, layers: VisitPath | None) -> None:
        """Run these visits in this order; None restores the loaded model."""
        if layers is None:
            if isinstance(self._stack, LayerStack):
                self._switch(self._stack, None)
            return
        self.require_supported()
        stack = self._supported_stack()
        check_layer_path(layers, len(stack.layers), None, self._checkpoint)
        self._require_parts(stack, layers)
        self._switch(stack, layers)

    def _supported_stack(self) -> LayerStack:
        if isinstance(self._stack, str):
            raise self._refusal(self._stack)
        return self._stack

    def _refusal(self, reason: str) -> LivePathsRefused:
        return paths_refused(
            self._checkpoint, type(self._model).__name__, reason, "in the transformers engine"
        )

    def _require_parts(self, stack: LayerStack, path: VisitPath) -> None:
        """Raise UnsupportedArchitecture if a layer cannot run the part or be damped as a visit says."""
        if all(part_of(visit) == LAYER and factor_of(visit) == 1 for visit in path):
            return
        from evals.partial_layers import require_visit, some_states

        states = some_states((1, 4, stack.config.hidden_size), self._model.dtype, self._model.device)
        for visit in path:
            require_visit(stack.layers[layer_of(visit)], part_of(visit), factor_of(visit), states)

    def _switch(self, stack: LayerStack, layers: VisitPath | None) -> None:
        from torch import nn

        if layers is None:
            stack.show(stack.layers, range(len(stack.layers)))
            return
        visits = running(layers)
        sources = [layer_of(visit) for visit in visits]
        kinds = stack.per_layer.get("layer_types")
        slots = self._slots(visits, kinds)
        path = nn.ModuleList(
            _in_part(_with_cache_slot(stack.layers[source], slot), visit)
            for source, slot, visit in zip(sources, slots, visits, strict=True)
        )
        stack.show(path, sources)

    def _slots(self, visits: VisitPath, kinds: list[Any] | None) -> tuple[int, ...]:
        """The visits' indices in the KV cache; visits without attention have none of their own if all layers are of one kind."""
        if not kinds or len(set(kinds)) == 1:
            return cache_slots(visits)
        # transformers takes the length of each kind's states from the first layer of the kind.
        first = {kinds[layer_of(visit)]: visit for visit in reversed(visits)}
        without = next((visit for visit in first.values() if not has_attention(visit)), None)
        if without is not None:
            raise UnsupportedArchitecture(
                f"{self._checkpoint} has layers of several kinds, and the path's first visit of a kind, {without}, runs no attention, "
                "which the transformers engine does not support: visit a layer of that kind whole first."
            )
        return tuple(range(len(visits)))


def _with_cache_slot(module: nn.Module, slot: int) -> nn.Module:
    """A copy of a layer or a part of it, whose parts have `layer_idx` `slot`; parts without a number are shared."""
    from evals.partial_layers import shallow

    twin = cast("nn.Module", shallow(module))
    if isinstance(getattr(module, "layer_idx", None), int):
        twin.layer_idx = slot
    for name, child in module._modules.items():
        if child is not None and any(hasattr(part, "layer_idx") for part in child.modules()):
            twin._modules[name] = _with_cache_slot(child, slot)
    return twin


def _in_part(twin: nn.Module, visit: AnyVisit) -> nn.Module:
    """Make a shallow copy of a layer run the part of the visit, with its factor."""
    from evals.partial_layers import damp, restrict

    return cast("nn.Module", damp(restrict(twin, part_of(visit)), factor_of(visit)))
