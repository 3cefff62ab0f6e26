"""Merges of the demo model and its noisy sibling are still language models: vLLM loads them, and they read English as well."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from evals.engine import EngineKind, EngineSpec, ScoreRequest
from evals.engines import installed_version, open_engine
from recipes.demo import BASE, NOISE
from recipes.merge import MergekitProcess, build
from recipes.recipe import Recipe

TEXT = (
    "Paris is the capital and largest city of France. With an estimated population of two million residents, it is one "
    "of the most populous cities in the European Union. Since the 17th century, Paris has been one of the world's major "
    "centres of finance, diplomacy, commerce, culture, fashion, and gastronomy."
)

BOTH = f"{{model: {BASE}, layer_range: [0, 30]}}, {{model: {NOISE}, layer_range: [0, 30]}}"
RECIPES = {
    "slerp": f"""\
slices: [{{sources: [{BOTH}]}}]
merge_method: slerp
base_model: {BASE}
parameters: {{t: [{{filter: self_attn, value: [0.2, 0.8]}}, {{value: 0.5}}]}}
dtype: bfloat16
""",
    "dare_ties": f"""\
models:
  - {{model: {BASE}}}
  - {{model: {NOISE}, parameters: {{density: 0.6, weight: 0.5}}}}
merge_method: dare_ties
base_model: {BASE}
parameters: {{int8_mask: true}}
dtype: bfloat16
""",
    "three stages": f"""\
name: one
slices:
  - sources: [{{model: {BASE}, layer_range: [0, 15]}}]
  - sources: [{{model: {NOISE}, layer_range: [14, 30]}}]
merge_method: passthrough
dtype: bfloat16
---
name: two
slices:
  - sources: [{{model: {NOISE}, layer_range: [0, 15]}}]
  - sources: [{{model: {BASE}, layer_range: [14, 30]}}]
merge_method: passthrough
dtype: bfloat16
---
slices:
  - sources: [{{model: one, layer_range: [0, 31]}}, {{model: two, layer_range: [0, 31]}}]
merge_method: slerp
base_model: one
parameters: {{t: 0.5}}
dtype: bfloat16
""",
}


def perplexity(directory: Path) -> float:
    """Of the fixed text, in vLLM."""
    ids = Tokenizer.from_file(str(directory / "tokenizer.json")).encode(TEXT).ids
    spec = EngineSpec(
        kind=EngineKind.VLLM, version=installed_version(EngineKind.VLLM), dtype="float32", max_length=512
    )
    engine = open_engine(spec, directory)
    try:
        request = ScoreRequest(context=(ids[0],), continuations=(tuple(ids[1:]),))
        ((_, result),) = engine.score([request])
    finally:
        engine.close()
    return math.exp(-result.logprobs[0] / (len(ids) - 1))


@pytest.mark.slow
@pytest.mark.vllm
def test_merges_answer_like_their_sources(
    demo_checkpoint: Path, demo_noise_checkpoint: Path, tmp_path: Path
) -> None:
    sources = {BASE: demo_checkpoint, NOISE: demo_noise_checkpoint}
    known = {name: perplexity(place) for name, place in sources.items()}
    worst = max(known.values())
    with MergekitProcess() as mergekit:
        for name, text in RECIPES.items():
            build(Recipe.parse(text), sources, tmp_path / name, mergekit=mergekit)
            known[name] = perplexity(tmp_path / name)
    print({name: round(value, 2) for name, value in known.items()})
    assert min(known.values()) > 2
    for name in RECIPES:
        assert known[name] < 1.5 * worst, known
