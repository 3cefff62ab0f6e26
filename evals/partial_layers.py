"""Layers of a loaded model that run in part: a half replaced by zeros, or the change of the hidden states damped.

A half is its module between norms and residual, found in the layer by name. Replaced by zeros it adds nothing to the residual
stream, in most families; `require_halves` tries that on a layer: without both halves it must return what it is given.
"""

from __future__ import annotations

import copy
import inspect
import math
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import nn

from evals.errors import UnsupportedArchitecture, first_line
from evals.layer_visits import ATTENTION, LAYER, MLP

ATTENTION_NAMES = frozenset({"self_attn", "attn", "attention", "self_attention"})
MLP_NAMES = frozenset({"mlp", "feed_forward", "ffn", "block_sparse_moe", "moe"})
_NORM_WORDS = ("norm", "ln_")
_HAVE_HALVES: weakref.WeakSet[nn.Module] = weakref.WeakSet()
"""Loaded layers whose halves can be left out."""
_SIGNATURES: dict[type[Any], inspect.Signature] = {}


class Zeros(nn.Module):
    """Stands for a half of a layer: zeros of the shape of its hidden states; with `pair`, a tuple of them and None."""

    def __init__(self, *, pair: bool) -> None:
        super().__init__()
        self._pair = pair

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Zeros of the shape and dtype of the hidden states, the argument of that name or the first of floats."""
        hidden = kwargs.get("hidden_states")
        if hidden is None:
            hidden = next(
                a for a in (*args, *kwargs.values()) if torch.is_tensor(a) and a.is_floating_point()
            )
        zeros = torch.zeros_like(hidden)
        return (zeros, None) if self._pair else zeros


def half_names(layer: nn.Module) -> tuple[str, str]:
    """Names of a layer's attention and MLP. Raises UnsupportedArchitecture if they are not its only halves."""
    children = dict(layer.named_children())
    halves = [[name for name in children if name in names] for names in (ATTENTION_NAMES, MLP_NAMES)]
    others = [
        name
        for name, child in children.items()
        if name not in ATTENTION_NAMES | MLP_NAMES
        and not any(word in name for word in _NORM_WORDS)
        and any(True for _ in child.parameters())
    ]
    kind = type(layer).__name__
    if [len(names) for names in halves] != [1, 1] or others:
        parts = ", ".join(children)
        raise UnsupportedArchitecture(
            f"A {kind} has the parts {parts}, which are not one attention and one MLP: visit its layers whole."
        )
    return halves[0][0], halves[1][0]


def require_visit(layer: nn.Module, part: str, factor: float, states: torch.Tensor) -> None:
    """Raise UnsupportedArchitecture if a loaded layer cannot run the part with the factor; see `require_halves`.

    A damped visit needs the residual stream before and after: the hidden states, or their sum with the residual. That it is the
    sum where a layer passes a residual is what `require_halves` tries.
    """
    if part != LAYER or (factor != 1 and "residual" in _signature(type(layer)).parameters):
        require_halves(layer, states)


@torch.inference_mode()
def require_halves(layer: nn.Module, states: torch.Tensor) -> None:
    """Raise UnsupportedArchitecture unless each half of a loaded layer can be left out; tried once for each layer.

    `states` are any hidden states, in the shape that the engine gives to its layers.
    """
    if layer in _HAVE_HALVES:
        return
    attention, _ = half_names(layer)
    empty = restrict(restrict(shallow(layer), ATTENTION), MLP)
    parameters = _signature(type(layer)).parameters
    needed = {
        name: None
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    }
    # The first layer gets no residual, the others do.
    residuals = (None, states / 2) if "residual" in parameters else (None,)
    try:
        same = all(_returns_what_it_is_given(empty, needed, states, residual) for residual in residuals)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        same, reason = False, f" ({first_line(error)})"
    else:
        reason = ""
    if not same:
        raise UnsupportedArchitecture(
            f"A {type(layer).__name__} without attention and MLP does not return what it is given{reason}, so that no half can be "
            f"left out and no visit damped ({attention}, MLP or norms do more): visit its layers whole."
        )
    _HAVE_HALVES.add(layer)


def _returns_what_it_is_given(
    layer: nn.Module, needed: dict[str, None], states: torch.Tensor, residual: torch.Tensor | None
) -> bool:
    before = stream(states, residual)
    given = {} if residual is None else {"residual": residual.clone()}
    output = layer(**{**needed, "hidden_states": states.clone(), **given})
    if isinstance(output, tuple):
        output = stream(*output[:2]) if "residual" in _signature(type(layer)).parameters else output[0]
    return output.shape == before.shape and torch.allclose(output, before, rtol=1e-2, atol=1e-5)


def restrict(twin: Any, part: str) -> Any:
    """Make a shallow copy of a layer run only the part; returns it."""
    if part != LAYER:
        attention, mlp = half_names(twin)
        if part == ATTENTION:
            setattr(twin, mlp, Zeros(pair=False))
        else:
            # An attention of transformers returns its weights as well, also in a model that vLLM runs.
            of_transformers = type(getattr(twin, attention)).__module__.startswith("transformers")
            setattr(twin, attention, Zeros(pair=of_transformers))
    return twin


def damp(twin: Any, factor: float) -> Any:
    """Make a shallow copy of a layer change the residual stream by `factor` times its change; returns it."""
    if factor == 1:
        return twin
    twin.forward = _damped(twin.forward, _signature(type(twin)), factor)
    return twin


def _signature(layer_class: type[Any]) -> inspect.Signature:
    """Parameters of a layer's `forward`, kept because a change of path must stay fast."""
    if layer_class not in _SIGNATURES:
        signature = inspect.signature(layer_class.forward)
        _SIGNATURES[layer_class] = signature.replace(parameters=list(signature.parameters.values())[1:])
    return _SIGNATURES[layer_class]


def _damped(forward: Callable[..., Any], signature: inspect.Signature, factor: float) -> Callable[..., Any]:
    """`forward` with its effect damped. The stream is the hidden states, plus the residual in layers that pass one."""

    def run(*args: Any, **kwargs: Any) -> Any:
        values = signature.bind(*args, **kwargs).arguments
        before = stream(values["hidden_states"], values.get("residual"))
        output = forward(*args, **kwargs)
        if not isinstance(output, tuple):
            return torch.lerp(before, output, factor)
        if "residual" in signature.parameters:
            return torch.lerp(before, stream(*output), factor), torch.zeros_like(before)
        return torch.lerp(before, output[0], factor), *output[1:]

    return run


def stream(hidden: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
    """The residual stream in memory of its own: layers change hidden states and residual in place."""
    return hidden.clone() if residual is None else hidden + residual


def some_states(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Hidden states for `require_halves`, from -1 to 1."""
    return torch.linspace(-1, 1, math.prod(shape), device=device).to(dtype).reshape(shape)


def shallow(module: nn.Module) -> Any:
    """A copy that shares all tensors and children, but whose children can be replaced.

    Methods that were set on the module, as vLLM's transformers backend sets a rewritten `forward`, are bound to the copy.
    """
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    for name, value in vars(module).items():
        # Not isinstance: a change of path copies hundreds of modules.
        if type(value) is MethodType and value.__self__ is module:
            vars(twin)[name] = MethodType(value.__func__, twin)
    return twin
