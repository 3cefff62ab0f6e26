"""Records what a model gives to each of its layers, in the worker, for the self-check of layer paths."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from evals.layer_visits import layer_of
from evals.vllm.slots import LayerSlots


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer: what it is given besides hidden states, and whether its form is that of `Forward`."""

    given: tuple[Any, ...]
    plain: bool
    """Called with (positions, hidden states, residual) and returns hidden states and residual."""
    states: tuple[torch.Tensor, ...]
    """The hidden states, and residual, that it is given."""
    output: tuple[torch.Tensor, ...]
    """Those that it returns."""


class CallRecord:
    """The calls of the current path's layers from `start` to `stop`."""

    def __init__(self, slots: LayerSlots, hidden_size: int) -> None:
        self._slots = slots
        self._size = hidden_size
        self._calls: list[LayerCall] = []
        self._hooks: list[Any] = []
        self._states: tuple[torch.Tensor, ...] = ()
        self.reference: list[LayerCall] = []
        """The calls of the unmodified model."""

    def start(self) -> None:
        """Record from the next pass on."""
        self._calls = []
        stack = self._slots.stack
        # The copies of one layer share its dictionary of hooks.
        layers = {id(layer._forward_hooks): layer for layer in getattr(stack.owner, stack.name)}
        for layer in layers.values():
            self._hooks.append(layer.register_forward_pre_hook(self._keep_states, with_kwargs=True))
            self._hooks.append(layer.register_forward_hook(self._keep, with_kwargs=True))

    def stop(self) -> str | None:
        """Stop recording. Compares the calls with those of the unmodified model, which are recorded first.

        Returns how what a layer is given depends on its place; None if it does not.
        """
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        path, count = self._slots.path, len(self._slots.sources)
        if len(self._calls) != len(path):
            return f"a pass of {len(path)} layers calls {len(self._calls)}"
        if not self.reference:
            self.reference = self._calls
            return None
        for call, source in zip(self._calls, map(layer_of, path), strict=True):
            if not _equal(call.given, self.reference[source].given):
                return f"what layer {source} of {count} is given depends on its place in the stack"
        # StableLM's layers also return a residual that the next one is not given; others are given the embeddings, too.
        first = self._calls[0].states
        for slot, (call, following) in enumerate(itertools.pairwise(self._calls)):
            known = (*call.output, *first)
            if not all(any(_same(state, other) for other in known) for state in following.states):
                return f"hidden states change between the layers of slots {slot} and {slot + 1}"
        return None

    def _keep_states(self, layer: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Before the call, because layers change their input in place."""
        self._states = self._states_in((*positional, *named.values()))

    def _states_in(self, values: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        return tuple(value.clone() for value in values if self._is_states(value))

    def _keep(
        self, layer: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any], output: Any
    ) -> None:
        plain = (
            len(positional) == 3
            and not named
            and isinstance(positional[0], torch.Tensor)
            and not positional[0].is_floating_point()
            and self._is_states(positional[1])
            and (positional[2] is None or self._is_states(positional[2]))
            and isinstance(output, tuple)
            and len(output) == 2
            and all(map(self._is_states, output))
        )
        given = self._without_states((positional, tuple(sorted(named.items()))))
        returned = self._states_in(output if isinstance(output, tuple) else (output,))
        self._calls.append(LayerCall(given, plain, self._states, returned))

    def _is_states(self, value: Any) -> bool:
        """Whether a value is hidden states or a residual."""
        return (
            isinstance(value, torch.Tensor)
            and value.is_floating_point()
            and value.shape[-1:] == (self._size,)
        )

    def _without_states(self, value: Any) -> Any:
        if self._is_states(value) or value is None:
            return None  # the first layer has no residual
        if isinstance(value, torch.Tensor):
            return value.clone()
        if isinstance(value, tuple | list):
            return tuple(map(self._without_states, value))
        return value if isinstance(value, str | int | float) else type(value).__name__


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return left.shape == right.shape and torch.equal(left, right)
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(_equal, left, right))
    return not isinstance(left, torch.Tensor) and not isinstance(right, torch.Tensor) and bool(left == right)


def _same(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two tensors are equal; what is not a number has to be so in both, as in damaged weights."""
    return left.shape == right.shape and torch.allclose(left, right, rtol=0.0, atol=0.0, equal_nan=True)
