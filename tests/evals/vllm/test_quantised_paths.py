"""Live layer paths of quantised checkpoints: layers are pointers to the same packed weights, and equal the built checkpoint.

pytest -m slow -s tests/evals/vllm/test_quantised_paths.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.engine import EngineKind, EngineTuning, ScoreResult
from evals.execution import NO_CPU_KERNEL
from recipes.relayer import write_layer_path
from tests.support.engine_requests import (
    generated,
    largest_difference,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.support.quantised_checkpoints import FORMATS, dequantised, quantised
from tests.support.tiny_checkpoints import VOCABULARY, tiny_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(900)]

PATHS = ((0, 1, 2, 1, 2, 3), (3, 0, 0), (0, 2, 3))
REQUESTS = random_requests(4, vocabulary=VOCABULARY, count=4, longest=45)
TUNING = EngineTuning(threads=1, live=True, extra_layer_slots=2, kv_cache_gib=0.25)


def best(results: list[ScoreResult]) -> list[int]:
    """The likeliest continuation of each request."""
    return [max(range(len(r.logprobs)), key=lambda i: r.logprobs[i]) for r in results]


@pytest.mark.parametrize("form", sorted(FORMATS.keys() - NO_CPU_KERNEL.keys()))
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_live_paths_equal_built_checkpoints(tmp_path: Path, family: str, form: str) -> None:
    source = tiny_checkpoint(tmp_path / "source", family=family, hidden=128)
    packed = quantised(source, tmp_path / "packed", form)
    plain = dequantised(source, tmp_path / "plain", form)
    label = FORMATS[form]["quant_method"]
    prompts = prompts_of(REQUESTS[:2], new=6)
    live, near = {}, {}
    settings = {"dtype": "bfloat16", "quantization": label}
    with opened(EngineKind.VLLM, packed, TUNING, **settings) as engine:
        for path in PATHS:
            engine.set_layer_path(path)
            live[path] = scored(engine, REQUESTS), generated(engine, prompts)
    with opened(EngineKind.VLLM, plain, TUNING, dtype="bfloat16") as engine:
        for path in PATHS:
            engine.set_layer_path(path)
            near[path] = scored(engine, REQUESTS)
    for path in PATHS:
        built = tmp_path / "built" / "-".join(map(str, path))
        write_layer_path(packed, path, built)
        with opened(EngineKind.VLLM, built, TUNING, **settings) as engine:
            gap = largest_difference(live[path][0], scored(engine, REQUESTS))
            print(
                f"{family} {form} {path}: {gap:.1e} from built, {largest_difference(live[path][0], near[path]):.1e} from dequantised"
            )
            assert gap < 1e-3
            assert live[path][1] == generated(engine, prompts)
        same = sum(a == b for a, b in zip(best(live[path][0]), best(near[path]), strict=True))
        assert same >= len(REQUESTS) - 1
