"""Halves of a layer are left out only where the layer without both returns what it is given."""

from __future__ import annotations

from pathlib import Path
from types import MethodType

import pytest
import torch
from transformers import AutoModelForCausalLM

from evals.engine import EngineKind, EngineTuning
from evals.errors import UnsupportedArchitecture
from evals.layer_visits import cache_slots, running
from evals.partial_layers import (
    damp,
    half_names,
    require_halves,
    require_visit,
    restrict,
    shallow,
    some_states,
)
from evals.transformers.engine import TransformersEngine
from recipes.layer_path import LayerPath
from tests.support.engine_requests import opened
from tests.support.family_checkpoints import family_checkpoint
from tests.support.tiny_checkpoints import tiny_of_type

STATES = some_states((1, 4, 64), torch.float32, torch.device("cpu"))


def layer_of(folder: Path, model_type: str) -> torch.nn.Module:
    model = AutoModelForCausalLM.from_pretrained(family_checkpoint(folder, model_type))
    base = model.base_model
    layer = next(m for m in base.modules() if isinstance(m, torch.nn.ModuleList))[0]
    assert isinstance(layer, torch.nn.Module)
    return layer


class Scales(torch.nn.Module):
    """A layer that multiplies."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.scale * hidden_states


def test_methods_that_were_set_on_a_module_are_bound_to_its_copy() -> None:
    """vLLM's transformers backend sets a rewritten `forward` on attentions; bound to the loaded one, it would use that one's KV cache."""
    module = Scales(2.0)
    vars(module)["forward"] = MethodType(lambda self, states: 10 * self.scale * states, module)
    twin = shallow(module)
    twin.scale = 3.0
    ones = torch.ones(1)
    assert (module(ones).item(), twin(ones).item()) == (20.0, 30.0)


@pytest.mark.parametrize(
    ("model_type", "names"),
    [
        ("llama", ("self_attn", "mlp")),
        ("gemma2", ("self_attn", "mlp")),
        ("mixtral", ("self_attn", "mlp")),
        ("gpt_neox", ("attention", "mlp")),
        ("gpt2", ("attn", "mlp")),
    ],
)
def test_halves_are_tried_on_the_layer(tmp_path: Path, model_type: str, names: tuple[str, str]) -> None:
    """Norms after the halves, experts, halves side by side, and norms with biases before the halves."""
    layer = layer_of(tmp_path, model_type)
    assert half_names(layer) == names
    require_halves(layer, STATES)


def test_layers_whose_halves_do_more_are_refused_by_name(tmp_path: Path) -> None:
    # Bloom's halves add the residual themselves; OPT has no module that is its MLP.
    with pytest.raises(
        UnsupportedArchitecture, match="A BloomBlock without attention and MLP does not return"
    ):
        require_halves(layer_of(tmp_path / "bloom", "bloom"), STATES)
    with pytest.raises(UnsupportedArchitecture, match=r"A OPTDecoderLayer has the parts .*fc1"):
        require_halves(layer_of(tmp_path / "opt", "opt"), STATES)
    after = layer_of(tmp_path / "gemma2", "gemma2")
    bias = torch.nn.LayerNorm(64)
    torch.nn.init.constant_(bias.bias, 0.5)
    after.post_feedforward_layernorm = bias
    with pytest.raises(UnsupportedArchitecture, match="A Gemma2DecoderLayer without"):
        require_halves(after, STATES)


def test_visits_that_do_nothing_are_not_run_and_those_without_attention_take_no_cache() -> None:
    path = LayerPath.parse("layers:0,1:damped=0,1:mlp,2:attention,2:mlp:damped=0.5,3", 4).layers
    assert running(path) == LayerPath.parse("layers:0,1:mlp,2:attention,2:mlp:damped=0.5,3", 4).layers
    assert cache_slots(running(path)) == (0, 1, 1, 2, 2)


def test_an_engine_refuses_a_half_and_keeps_its_path(tmp_path: Path) -> None:
    checkpoint = tiny_of_type(tmp_path, "bloom", dtype="float32", n_layer=3, n_head=2)
    with opened(EngineKind.TRANSFORMERS, checkpoint, EngineTuning(threads=1, live=True)) as engine:
        engine.set_layer_path((0, 2, 1))
        with pytest.raises(UnsupportedArchitecture, match="visit its layers whole"):
            engine.set_layer_path(LayerPath.parse("(1, 2):mlp", 3).layers)
        assert isinstance(engine, TransformersEngine)
        assert engine.layer_path == (0, 2, 1)


class Fused(torch.nn.Module):
    """A layer that passes a residual as vLLM's do: the stream is the sum, or with `stale` the hidden states alone."""

    def __init__(self, *, stale: bool) -> None:
        super().__init__()
        self.self_attn, self.mlp = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)
        self._stale = stale

    def forward(
        self, positions: torch.Tensor, hidden_states: torch.Tensor, residual: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        before = hidden_states if residual is None or self._stale else hidden_states + residual
        after = before + self.self_attn(before)
        half = self.mlp(after)
        return (after + half, before) if self._stale else (half, after)


def test_a_residual_is_damped_with_the_hidden_states_or_refused() -> None:
    layer, positions = Fused(stale=False), torch.arange(4)
    hidden, residual = STATES[0], STATES[0] * 3
    require_visit(layer, "layer", 0.25, hidden)
    before, after = hidden + residual, sum(layer(positions, hidden, residual))
    damped = damp(shallow(layer), 0.25)(positions, hidden, residual)
    assert torch.allclose(sum(damped), before + 0.25 * (after - before), atol=1e-6)
    assert torch.equal(sum(damp(shallow(layer), 0.25)(positions, hidden, None)[1:]), torch.zeros_like(hidden))
    attention = restrict(shallow(layer), "attention")(positions, hidden, residual)
    assert torch.allclose(sum(attention), before + layer.self_attn(before), atol=1e-6)
    stale = Fused(stale=True)
    for part, factor in (("layer", 0.25), ("mlp", 1.0)):
        with pytest.raises(UnsupportedArchitecture, match="does not return what it is given"):
            require_visit(stale, part, factor, hidden)
    require_visit(stale, "layer", 1.0, hidden)
