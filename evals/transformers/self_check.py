"""Self-check of live layer paths: whether this model, on a path, computes what the built checkpoint would.

Layers must be constructed alike in every place (`construction`). A layer of a path must get the hidden states of the layer before
it and the arguments that its source layer gets in the unmodified model (attention mask and rotary factors of its kind, routing,
shared states), must compute the same wherever it stands, and every visit must have keys and values of its own. All this is tried on
a few tokens with a path that moves and repeats every layer. A window of local attention is made narrower than the prompt meanwhile,
because masks of a wide window look like those of full attention.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evals.errors import first_line
from evals.transformers.construction import construction_difference
from evals.transformers.layer_stack import MODEL_ERRORS, LayerStack

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

TOKENS = 12
"""Length of the prompt of the check."""
_DECODED = 3
"""Tokens of the prompt that are also added one by one."""
_WINDOW = 4
_LOOSE, _STRICT = 0.5, 1e-3
"""Largest difference of log-probabilities between decoding with and without a KV cache: 16-bit dtypes, and float32."""
_STATES = ("past_key_values", "cache_params")
"""Names under which models return the states of their layers and take them."""
_CACHES = frozenset({"past_key_values", "past_key_value", "layer_past", "cache_params"})
Switch = Callable[[tuple[int, ...] | None], None]


@dataclass(frozen=True)
class _Call:
    """One call of a layer: its arguments besides the hidden states, and hidden states before and after, [1, tokens, size]."""

    layer: nn.Module
    before: torch.Tensor
    after: torch.Tensor
    positional: tuple[Any, ...]
    named: Mapping[str, Any]


def difference(model: PreTrainedModel, stack: LayerStack, switch: Switch) -> str | None:
    """How a layer path of the model would differ from the built checkpoint; None if it does not. Restores the model."""
    import torch

    count = len(stack.layers)
    # Every layer moves, and first and last are repeated.
    path = (*range(count - 1, -1, -1), 0, count - 1)
    ids = (torch.arange(TOKENS, device=model.device) * 7 + 1)[
        None
    ] % model.get_input_embeddings().num_embeddings
    switch(path)
    try:
        reason = construction_difference(model, stack, path)
    finally:
        switch(None)
    if reason is not None:
        return reason
    with torch.inference_mode(), _narrow_window(stack.config):
        try:
            plain = _recorded(model, stack, ids)
            if len(plain) != count:
                return f"a pass runs {len(plain)} of its {count} layers"
            switch(path)
            moved = _recorded(model, stack, ids)
            reason = _moved_difference(plain, moved, path) or _cache_difference(model, ids)
        except MODEL_ERRORS as error:
            reason = f"its layers do not run in another order ({first_line(error)})"
        finally:
            switch(None)
    return reason


def _recorded(model: PreTrainedModel, stack: LayerStack, ids: torch.Tensor) -> list[_Call]:
    """The layers' calls in one pass without a KV cache."""
    calls: list[_Call] = []

    def keep(layer: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any], output: Any) -> None:
        before = positional[0] if positional else named["hidden_states"]
        after = output[0] if isinstance(output, tuple) else output
        rest = {
            name: value for name, value in named.items() if name != "hidden_states" and name not in _CACHES
        }
        calls.append(_Call(layer, before.clone(), after.clone(), positional[1:], rest))

    # The copies of one layer share its dictionary of hooks.
    layers = {id(layer._forward_hooks): layer for layer in getattr(stack.owner, stack.name)}
    hooks = [layer.register_forward_hook(keep, with_kwargs=True) for layer in layers.values()]
    try:
        model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _moved_difference(plain: list[_Call], moved: list[_Call], path: tuple[int, ...]) -> str | None:
    if len(moved) != len(path):
        return f"a path of {len(path)} layers runs {len(moved)}"
    for slot, (call, following) in enumerate(itertools.pairwise(moved)):
        if not _within(call.after, following.before, 0.0):
            return f"hidden states change between the layers of slots {slot} and {slot + 1}"
    for slot, (call, source) in enumerate(zip(moved, path, strict=True)):
        expected = plain[source]
        if not _equal((call.positional, call.named), (expected.positional, expected.named)):
            return f"what layer {source} is given depends on its place in the stack"
        output = expected.layer(call.before.clone(), *expected.positional, **expected.named)
        output = output[0] if isinstance(output, tuple) else output
        if not _close(output, call.after):
            return f"layer {source} computes something else in place {slot}"
    return None


def _cache_difference(model: PreTrainedModel, ids: torch.Tensor) -> str | None:
    """Whether the path's last log-probabilities change if the last tokens are added one by one with a cache of states."""
    import torch

    begin = ids.shape[1] - _DECODED
    whole = model(input_ids=ids, use_cache=False).logits[0, begin:]
    output = model(input_ids=ids[:, :begin], use_cache=True)
    # Mamba calls its states cache_params.
    name = next((name for name in _STATES if getattr(output, name, None) is not None), None)
    if name is None:
        return "it does not return the states of its layers"
    steps = []
    for place in range(begin, ids.shape[1]):
        states = getattr(output, name)
        output = model(input_ids=ids[:, place : place + 1], use_cache=True, **{name: states})
        steps.append(output.logits[0])
    limit = _STRICT if whole.dtype == torch.float32 else _LOOSE
    decoded = torch.log_softmax(torch.cat(steps).float(), -1)
    same = _within(torch.log_softmax(whole.float(), -1), decoded, limit)
    return None if same else "its layers do not keep separate states for separate visits"


def _equal(left: Any, right: Any) -> bool:
    """Whether two arguments hold the same values."""
    import torch

    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return left.shape == right.shape and torch.equal(left, right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, tuple | list) and isinstance(right, tuple | list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return left is right or (isinstance(left, str | int | float) and left == right)


def _close(left: torch.Tensor, right: torch.Tensor) -> bool:
    import torch

    values = left.float().abs()
    scale = float(values.nan_to_num(0.0, 0.0, 0.0).max()) or 1.0
    return _within(left, right, (1e-5 if left.dtype == torch.float32 else 2e-2) * scale)


def _within(left: torch.Tensor, right: torch.Tensor, tolerance: float) -> bool:
    """Whether two tensors differ by at most `tolerance`; what is not finite has to be so in both, as in damaged weights."""
    import torch

    return torch.allclose(left.float(), right.float(), rtol=0.0, atol=tolerance, equal_nan=True)


@contextmanager
def _narrow_window(config: Any) -> Iterator[None]:
    """Make the configuration's window of local attention narrower than the check's prompt."""
    window = getattr(config, "sliding_window", None)
    if not isinstance(window, int):
        yield
        return
    config.sliding_window = min(window, _WINDOW)
    try:
        yield
    finally:
        config.sliding_window = window
