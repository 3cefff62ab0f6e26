"""Attention-only and MLP-only visits built as a checkpoint against the same path run in the loaded source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.run.build import build_to
from orchestrator.settings import Settings
from recipes.layer_path import LayerPath
from recipes.layer_visit import layer_of, variant_of
from tests.support.tiny_checkpoints import VOCABULARY, tiny_checkpoint, tiny_of_type

LAYERS = 6
TEXT = "layers:0-4,1-3:attention,2:mlp,3-5,5:mlp"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "phi3", "mistral", "gemma2"])
def test_a_built_path_of_halves_computes_what_the_source_does(
    family: str, tmp_path: Path, home: Path
) -> None:
    """Gemma 2 has norms after its halves as well, and layers of two kinds."""
    import torch
    from transformers import AutoModelForCausalLM

    source, built = tmp_path / "source", tmp_path / "built"
    if family == "gemma2":
        tiny_of_type(source, family, dtype="float32", num_hidden_layers=LAYERS, sliding_window=8)
    else:
        tiny_checkpoint(source, family=family, layers=LAYERS, dtype="float32")
    build_to(TEXT, built, Settings.from_environment(), base=str(source), sources=[])
    tokens = torch.randint(3, VOCABULARY, (2, 24), generator=torch.Generator().manual_seed(0))
    models = [AutoModelForCausalLM.from_pretrained(at, dtype=torch.float32) for at in (source, built)]
    with torch.inference_mode():
        plain = models[0](tokens, use_cache=False).logits
        run_path(models[0], TEXT)
        live, expected = (model(tokens, use_cache=False).logits for model in models)
    assert (live - expected).abs().max() < 1e-5
    assert (plain - expected).abs().max() > 1e-2


def run_path(model: Any, text: str) -> None:
    """Make a loaded model run the path, without a cache."""
    from torch import nn

    from evals.partial_layers import damp, restrict, shallow

    path = LayerPath.parse(text, LAYERS).layers
    layers, kinds = model.model.layers, getattr(model.config, "layer_types", None)
    model.model.layers = nn.ModuleList(
        damp(
            restrict(shallow(layers[layer_of(v)]), variant_of(v).part),
            variant_of(v).factor,
        )
        for v in path
    )
    model.config.num_hidden_layers = len(path)
    if kinds is not None:
        model.config.layer_types = [kinds[layer_of(v)] for v in path]
