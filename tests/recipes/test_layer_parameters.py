"""Parameters by the config alone are those of the tensors, for every listed family."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.checkpoint import Checkpoint
from recipes.config_facts import ConfigFacts, read_config
from recipes.layer_parameters import _FORMS, layer_sizes
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
