"""Parameters by the config alone are those of the tensors, for every listed family."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.checkpoint import Checkpoint
from recipes.config_facts import ConfigFacts, read_config
from recipes.layer_parameters import _FORMS, layer_sizes
from recipes.layer_path import LayerPath
from recipes.sources import facts_from_config
from tests.support.family_checkpoints import family_checkpoint


@pytest.mark.parametrize("model_type", _FORMS)
def test_counts_are_those_of_the_tensors(tmp_path: Path, model_type: str) -> None:
    checkpoint = Checkpoint.open(family_checkpoint(tmp_path, model_type))
    sizes = layer_sizes(read_config(tmp_path / "config.json"), checkpoint.n_layers)
    assert sizes is not None
    for layer, count in enumerate(sizes.layers):
        assert count == sum(tensor.parameters for tensor in checkpoint.layer_tensors(layer))
    assert checkpoint.config.parameters() == checkpoint.parameters


def test_active_parameters_leave_out_the_experts_that_a_token_does_not_use(tmp_path: Path) -> None:
    config = {
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_hidden_layers": 32, "hidden_size": 4096,
        "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000,
        "num_local_experts": 8, "num_experts_per_tok": 2, "tie_word_embeddings": False,
    }  # fmt: skip
    facts = ConfigFacts.from_config(config, "here")
    # Mixtral-8x7B: 46.7 B, of which a token uses 12.9 B.
    assert facts.parameters() == 46_702_792_704
    assert facts.active_parameters() == 12_879_925_248
    assert facts.parameters(33) == 46_702_792_704 + (facts.layer_parameters or 0)


def test_layers_that_differ_have_no_single_size_and_a_path_has_its_own(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(family_checkpoint(tmp_path, "qwen3_moe"))
    facts = checkpoint.config
    assert facts.layer_parameters is None
    assert facts.sizes is not None
    dense, sparse = facts.sizes.layers[1], facts.sizes.layers[0]
    total = facts.parameters()
    assert total is not None
    assert facts.parameters_along((0, 1, 1, 2, 3)) == total + dense
    assert facts.parameters_along((0, 1, 2, 2, 3)) == total + sparse


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", *_FORMS])
def test_halves_are_those_of_the_tensors(tmp_path: Path, model_type: str) -> None:
    """Attention with its norms, and the rest; where one norm serves both it belongs to each."""
    checkpoint = Checkpoint.open(family_checkpoint(tmp_path, model_type))
    for layer, attention in enumerate(checkpoint.config.attention_parameters):
        tensors = {
            t.name.partition(f"layers.{layer}.")[2]: t.parameters for t in checkpoint.layer_tensors(layer)
        }
        in_attention = {name for name in tensors if name.partition(".")[0] in ("self_attn", "linear_attn")}
        norms = [n for name, n in tensors.items() if "norm" in name and name not in in_attention]
        heads = sum(tensors[name] for name in in_attention)
        assert attention == heads + sum(norms) // (2 if sum(norms) > checkpoint.config.hidden_size else 1)
    assert checkpoint.config.attention_parameters


def test_a_live_path_counts_what_its_visits_run(tmp_path: Path) -> None:
    facts = facts_from_config(Checkpoint.open(family_checkpoint(tmp_path, "qwen3_moe")).config)
    sizes, total = facts.config.sizes, facts.parameters
    assert sizes is not None
    assert total is not None
    layer, attention = sizes.layers[2], sizes.attention[2]

    def added(*visits: str) -> int:
        path = LayerPath.parse([0, 1, 2, *visits, 3], 4)
        return (facts.parameters_of_visits(path.layers) or 0) - total

    assert added("2:attention") == attention
    assert added("2:mlp") == layer - attention
    assert added("2:attention", "2:mlp:damped=0.5") == layer
    assert added("2:damped=0.5") == layer
    assert added("2:damped=0") == 0
