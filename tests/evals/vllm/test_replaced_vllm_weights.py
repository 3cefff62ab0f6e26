"""Weights replaced in a running vLLM: read back from its kernels, compared with the built artifact and with an engine of it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from evals.engine import EngineKind, EngineTuning, ScoreResult
from evals.errors import EngineError
from evals.vllm.engine import VllmEngine
from recipes.merge import BuildOptions, MergedWeights, MergekitProcess, build
from recipes.recipe import METHODS, Recipe
from tests.support.engine_requests import (
    LAYERS,
    PATHS,
    generated,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.support.merge_recipes import SOURCES, STACKED, STAGES, method_recipe, sources_in
from tests.support.replaced_weights import FileWeights, sources_of_family
from tests.support.tiny_checkpoints import DENSE_FAMILIES, VOCABULARY

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

KIND = EngineKind.VLLM
REQUESTS = random_requests(1, vocabulary=VOCABULARY)
TUNING = EngineTuning(threads=1, extra_layer_slots=LAYERS, kv_cache_gib=0.125)
RECIPES = {name: method_recipe(name) if name != "passthrough" else STACKED for name in METHODS}
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


@pytest.fixture(scope="module", params=[(f, f == "qwen2") for f in DENSE_FAMILIES], ids=DENSE_FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources of each family; one family with tied embeddings."""
    family, tied = request.param
    return sources_of_family(tmp_path_factory.mktemp(family), family, tied=tied)


@pytest.fixture(scope="module")
def mergekit() -> Iterator[MergekitProcess]:
    with MergekitProcess(threads=1) as process:
        yield process


def read_back(worker: Any) -> dict[str, torch.Tensor]:
    """Every weight as the worker's kernels have it: a linear layer's is its answer to the unit vectors."""
    model = worker.model_runner.get_model()
    weights = {}
    for name, module in model.named_modules():
        method = getattr(module, "quant_method", None)
        width = getattr(module, "input_size", None) or getattr(module, "embedding_dim", None)
        if method is not None and width is not None and hasattr(method, "apply"):
            with torch.no_grad():
                weights[f"{name}.weight"] = method.apply(module, torch.eye(width, dtype=torch.bfloat16)).T
                if hasattr(module, "embedding_dim"):
                    weights[f"{name}.weight (lookup)"] = module.weight.detach().clone()
    for name, parameter in model.named_parameters():
        if parameter.numel() and name not in weights:
            weights[name] = parameter.detach().clone()
    return weights


def expected_weights(checkpoint: Path, held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `read_back` must give: the stored tensors, joined where vLLM joins them."""
    stored = load_file(checkpoint / "model.safetensors")
    stored.setdefault("lm_head.weight", stored["model.embed_tokens.weight"])
    expected = {}
    for name in held:
        key = name.removesuffix(" (lookup)")
        fused = next((part for part in FUSED if f".{part}." in key), None)
        if fused is None or key in stored:
            expected[name] = stored[key]
        else:
            parts = [stored[key.replace(fused, part)] for part in FUSED[fused]]
            expected[name] = torch.cat(parts)
    return expected


def check_held(engine: VllmEngine, checkpoint: Path) -> None:
    (held,) = engine._llm.collective_rpc(read_back)
    assert sum("norm" in name for name in held) >= 9
    assert "lm_head.weight" in held
    for name, tensor in expected_weights(checkpoint, held).items():
        rows = held[name][: len(tensor)]
        assert torch.equal(rows, tensor.to(torch.bfloat16).to(rows.dtype)), name


def merged(text: str, folder: Path) -> MergedWeights:
    return MergedWeights(
        recipe=Recipe.parse(text).canonical_text,
        digest=text[:16],
        sources=tuple(sources_in(folder).items()),
        seed=7,
    )


def built(text: str, folder: Path, out: Path, mergekit: MergekitProcess) -> Path:
    options = BuildOptions(seed=7, threads=1)
    build(Recipe.parse(text), sources_in(folder), out, options=options, mergekit=mergekit)
    return out


def check_nothing_is_answered(engine: VllmEngine) -> None:
    """After a change that failed; also another change is refused, since vLLM's reload is half done."""
    path = [(0, 1, 2, 3)]
    for answer in (
        lambda: scored(engine, REQUESTS),
        lambda: generated(engine, prompts_of(REQUESTS[:1])),
        lambda: list(engine.score_paths(REQUESTS[:1], path)),
        lambda: list(engine.generate_paths(prompts_of(REQUESTS[:1]), path)),
        lambda: engine.load_weights(None),
    ):
        with pytest.raises(EngineError, match="weights of two sources"):
            answer()


def test_every_method_is_the_built_artifact(folder: Path, mergekit: MergekitProcess, tmp_path: Path) -> None:
    """Weights read back, for one family of all methods; answers, also on layer paths, against an engine of one artifact."""
    prompts = prompts_of(REQUESTS[:4])
    paths = [tuple(layer % 4 for layer in path) for path in PATHS[1:4]]

    def answers(engine: VllmEngine) -> tuple[list[ScoreResult], list[ScoreResult], Any]:
        by_path = {(p, i): r for p, i, r in engine.score_paths(REQUESTS, paths)}
        return scored(engine, REQUESTS), list(by_path.values()), generated(engine, prompts)

    with opened(KIND, folder / SOURCES[0], TUNING, dtype="bfloat16") as engine:
        assert isinstance(engine, VllmEngine)
        own = scored(engine, REQUESTS)
        check_held(engine, folder / SOURCES[0])
        for name in RECIPES if "llama" in folder.name else ("slerp", "ties", "passthrough"):
            text = RECIPES[name]
            engine.load_weights(merged(text, folder))
            check_held(engine, built(text, folder, tmp_path / name, mergekit))
            assert scored(engine, REQUESTS) != own, name
        engine.load_weights(None)
        check_held(engine, folder / SOURCES[0])
        assert scored(engine, REQUESTS) == own
        generated(engine, prompts)
        engine.set_layer_path(paths[0])
        engine.load_weights(merged(RECIPES["slerp"], folder))
        live = answers(engine)
        with pytest.raises(OSError, match="injected"):
            engine.load_weights(FileWeights(folder / SOURCES[1], fails_at=17))
        check_nothing_is_answered(engine)
    with opened(KIND, tmp_path / "slerp", TUNING, dtype="bfloat16") as reference:
        assert isinstance(reference, VllmEngine)
        expected = answers(reference)
    differences = [
        abs(a - b)
        for one, other in zip([*live[0], *live[1]], [*expected[0], *expected[1]], strict=True)
        for a, b in zip(one.logprobs, other.logprobs, strict=True)
    ]
    print(f"{folder.name}: {sum(d > 0 for d in differences)} of {len(differences)} log-probabilities differ")
    assert max(differences) == 0  # the same kernels on the same batches: no rounding to count
    assert live[2] == expected[2]


def test_a_thousand_changes_leak_nothing(tmp_path: Path) -> None:
    """Memory after 1,000 changes is that after the first hundred, but for a few MiB of the allocator's."""
    folder = sources_of_family(tmp_path, "llama")
    process = psutil.Process(os.getpid())
    weights = [merged(RECIPES["slerp"], folder), merged(RECIPES["linear"], folder)]
    sizes = []
    with opened(KIND, folder / SOURCES[0], TUNING, dtype="bfloat16") as engine:
        first: list[ScoreResult] = []
        for number in range(1000):
            engine.load_weights(weights[number % 2])
            if number % 100 == 0:
                results = scored(engine, REQUESTS[:2])
                assert results == (first or results)
                first = results
                gc.collect()
                sizes.append(process.memory_info().rss / 2**20)
    print(f"resident MiB every 100 changes: {[round(size) for size in sizes]}")
    assert sizes[-1] - sizes[1] < 16


def test_tensor_parallel_workers_make_their_tensors_themselves(
    tmp_path: Path, mergekit: MergekitProcess
) -> None:
    """Of a recipe with random methods and stages; each worker loads its part of every tensor."""
    folder = sources_of_family(tmp_path, "llama")
    artifact = built(STAGES, folder, tmp_path / "out", mergekit)
    answers = []
    for checkpoint, weights in ((folder / SOURCES[0], merged(STAGES, folder)), (artifact, None)):
        with opened(KIND, checkpoint, TUNING, dtype="bfloat16", tensor_parallel=2) as engine:
            own = scored(engine, REQUESTS)
            if weights is not None:
                engine.load_weights(weights)
                assert scored(engine, REQUESTS) != own
            answers.append((scored(engine, REQUESTS), generated(engine, prompts_of(REQUESTS[:2]))))
    assert answers[0] == answers[1]
