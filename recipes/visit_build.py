"""Visits that a checkpoint can hold: a copied layer with the output projection of its attention or its MLP set to zero.

The half then adds zeros to the residual stream, also where a norm without bias follows it. A damped visit has no such copy: the
MLP reads what the undamped attention leaves, so that no scaling of the projections gives hidden + a x (layer(hidden) - hidden).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from recipes.errors import LayerPathError
from recipes.layer_path import LayerPath
from recipes.layer_visit import Variant, VisitPart, variant_of
from recipes.recipe.stage import Condition, Parameter

_PROJECTIONS = {VisitPart.ATTENTION: "mlp.down_proj", VisitPart.MLP: "self_attn.o_proj"}
"""The output projection of the half that a visit leaves out."""
_LAYER = re.compile(r"(?:^|\.)layers\.(\d{1,6})\.(.+)")


def slice_parameters(variant: Variant) -> tuple[Parameter, ...]:
    """mergekit's parameters of a passthrough slice for a visit. Raises LayerPathError for a damped one."""
    if variant.factor != 1:
        raise LayerPathError(
            f"A visit with {variant.text} is live only, because no checkpoint holds it: run the path live, in an engine that can "
            "change its layer path (`try_live: true` in a sweep or --try-live tries it)."
        )
    projection = _PROJECTIONS.get(variant.part)
    if projection is None:
        return ()
    return (Parameter(name="scale", conditions=(Condition(filter=projection, value=0.0),)),)


def require_buildable(path: LayerPath, tensor_names: Iterable[str]) -> None:
    """Raise LayerPathError if a checkpoint with these tensors cannot be built to hold the path's visits."""
    variants = {variant_of(visit) for visit in path.layers} - {Variant()}
    for variant in sorted(variants, key=lambda v: v.text):
        slice_parameters(variant)
    if not variants:
        return
    names_by_layer: dict[int, set[str]] = {}
    for name in tensor_names:
        if match := _LAYER.search(name):
            names_by_layer.setdefault(int(match[1]), set()).add(match[2])
    for visit in path.layers:
        if not isinstance(visit, int):
            _require_projection(visit.part, visit.layer, names_by_layer.get(visit.layer, set()))


def _require_projection(part: VisitPart, layer: int, names: set[str]) -> None:
    projection = _PROJECTIONS[part]
    tensors = {name.removeprefix(projection) for name in names if name.startswith(f"{projection}.")}
    if ".weight" not in tensors or not tensors <= {".weight", ".bias"}:
        raise LayerPathError(
            f"Layer {layer} has no plain {projection}.weight, so {part} alone cannot be built: visit the layer whole, or run the "
            "path live."
        )
    parts = {name.partition(".")[0] for name in names}
    other = sorted(p for p in parts - {"self_attn", "mlp"} if "norm" not in p and "ln_" not in p)
    if other:
        raise LayerPathError(
            f"Layer {layer} has more than attention, MLP and norms ({', '.join(other)}), so {part} alone cannot be built: visit the "
            "layer whole, or run the path live."
        )
    modules = {name.removesuffix(".weight") for name in names if name.endswith(".weight")}
    norms = [name for name in modules if "." not in name and ("norm" in name or "ln_" in name)]
    if len(norms) > 2 and any(f"{norm}.bias" in names for norm in norms):
        raise LayerPathError(
            f"Layer {layer} adds a bias after its attention or MLP, so {part} alone cannot be built: visit the layer whole."
        )
