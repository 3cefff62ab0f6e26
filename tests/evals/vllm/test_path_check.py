"""Parts of the self-check of layer paths in vLLM that need no engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from evals.vllm.call_record import CallRecord
from evals.vllm.path_check import repeating

SIZE = 4


class Adds(nn.Module):
    """A layer with a residual, which it changes in place."""

    def forward(
        self, positions: torch.Tensor, hidden: torch.Tensor, residual: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        residual = hidden.clone() if residual is None else residual.add_(hidden)
        return hidden + 1, residual


class StaleResidual(nn.Module):
    """Runs layers that return a residual which the next one is not given, as StableLM's do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Adds(), Adds(), Adds()])

    def forward(self, positions: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            hidden, _ = layer(positions, hidden, None)
        return hidden


class Stack(nn.Module):
    """Runs layers, and multiplies the hidden states after the first one if asked to."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Adds(), Adds(), Adds()])
        self._factor = factor

    def forward(self, positions: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        residual = None
        for number, layer in enumerate(self.layers):
            hidden, residual = layer(positions, hidden, residual)
            if number == 0:
                hidden = hidden * self._factor
        return hidden


def difference(stack: Stack | StaleResidual) -> str | None:
    slots: Any = SimpleNamespace(
        stack=SimpleNamespace(owner=stack, name="layers"), path=(0, 1, 2), sources=list(stack.layers)
    )
    record = CallRecord(slots, SIZE)
    answers = []
    for _ in range(2):  # the first pass is the reference
        record.start()
        stack(torch.arange(2), torch.randn(2, SIZE, generator=torch.Generator().manual_seed(0)))
        answers.append(record.stop())
    assert answers[0] is None
    assert all(call.plain for call in record.reference)
    return answers[1]


def test_layers_that_pass_on_what_they_return_are_alike() -> None:
    assert difference(Stack(1.0)) is None
    assert difference(StaleResidual()) is None


def test_a_model_that_changes_hidden_states_between_layers_is_refused() -> None:
    assert difference(Stack(2.0)) == "hidden states change between the layers of slots 0 and 1"


@pytest.mark.parametrize(("count", "slots"), [(4, 5), (4, 4), (5, 12), (3, 3), (2, 1)])
def test_every_layer_is_tried_twice_in_a_row(count: int, slots: int) -> None:
    paths = repeating(count, slots)
    assert all(len(path) <= slots for path in paths)
    assert {layer for path in paths for layer in path} == set(range(count))
    if slots > 1:
        assert sum(map(len, paths)) == 2 * count
