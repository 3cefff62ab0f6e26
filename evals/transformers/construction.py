"""Whether the layers of a model are constructed alike in every place of the stack.

Some architectures compute a factor from a layer's number or from the number of layers when they construct a layer. A live path
keeps the factor of the source layer; the built checkpoint computes that of the new place. No call of a layer shows the difference,
so the model that the built checkpoint would load is constructed, without weights, and its layers are compared with the path's.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from evals.errors import first_line
from evals.transformers.layer_stack import MODEL_ERRORS, LayerStack, find_stack

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_NUMBERS = frozenset({"training", "layer_idx", "layer_id", "layer_number", "layer_index", "block_idx"})
"""Attributes that may differ: numbers by which a layer finds its state, which the check of states covers."""


def construction_difference(model: PreTrainedModel, stack: LayerStack, path: tuple[int, ...]) -> str | None:
    """How layers that are constructed in the places of `path` differ from the path's live layers; None if they do not.

    The model must be switched to `path`, so that its configuration is that of the built checkpoint.
    """
    import torch

    try:
        with torch.device("meta"):
            built = type(model)._from_config(copy.deepcopy(model.config))
    except MODEL_ERRORS as error:
        return f"no model can be constructed with its layers in another order ({first_line(error)})"
    expected = find_stack(built)
    if isinstance(expected, str):
        return expected
    layers = getattr(stack.owner, stack.name)
    for source, constructed, live in zip(path, expected.layers, layers, strict=True):
        name = _difference(constructed, live, "")
        if name is not None:
            return f"{name} of layer {source} depends on its place in the stack or on the number of layers"
    return None


def _difference(constructed: nn.Module, live: nn.Module, where: str) -> str | None:
    """The first plain attribute that differs; None if none does.

    Parts of different classes are not compared: such layers are of different kinds, and a live path moves them whole.
    """
    if type(constructed) is not type(live):
        return None
    of_one_kind = _child_classes(constructed) == _child_classes(live)
    for name, value in vars(constructed).items() if of_one_kind else ():
        if name.startswith("_") or name in _NUMBERS or not _is_plain(value):
            continue
        other = vars(live).get(name)
        if _is_plain(other) and other != value:
            return f"{where}{name}"
    for name, child in constructed.named_children():
        part = live._modules.get(name)
        if part is not None:
            difference = _difference(child, part, f"{where}{name}.")
            if difference is not None:
                return difference
    return None


def _child_classes(module: nn.Module) -> dict[str, type[nn.Module]]:
    return {name: type(child) for name, child in module.named_children()}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
