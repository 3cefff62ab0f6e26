"""The ways in which a vLLM engine computes, one at a time, and what may differ between them on a GPU."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.engine import EngineTuning, GenerateRequest, GenerateResult

ON_CPU = os.environ.get("MERGEBOARD_GPU_TESTS_ON_CPU") == "1"
"""Run on the CPU what does not ask for a GPU, so that these tests are not first tried on one."""
ONLY_DTYPE = os.environ.get("MERGEBOARD_GPU_TESTS_DTYPE")
"""Run the tests of one dtype alone."""


def has_gpu() -> bool:
    """Whether torch sees a CUDA device."""
    import torch

    return bool(torch.cuda.is_available())


@dataclass(frozen=True)
class Precision:
    """How far an engine in one dtype may be from transformers in float32 on the same weights."""

    dtype: str
    backend: str
    """The attention backend that vLLM chooses for it on Hopper."""
    tolerance: float
    """Between sums of log-probabilities of up to five tokens."""
    near_tie: float
    """Two tokens whose logits are closer than this may change places."""


PRECISIONS = {
    # Triton's attention multiplies float32 as TF32, which has the 10 bits of mantissa of float16.
    "float32": Precision("float32", "TRITON_ATTN", 1e-2, 1e-2),
    # 7 bits of mantissa in weights, activations and KV cache; six to twelve layers of random weights, logits of about one.
    "bfloat16": Precision("bfloat16", "FLASH_ATTN", 0.25, 0.125),
}
DTYPES = [dtype for dtype in PRECISIONS if ONLY_DTYPE in (None, dtype)]


def tuning(slots: int = 0, **fields: Any) -> EngineTuning:
    """A small share of the GPU, for several engines one after another; a small KV cache and all cores on a CPU."""
    small = {"gpu_memory_share": 0.2} if has_gpu() else {"kv_cache_gib": 0.125}
    return EngineTuning.model_validate({"extra_layer_slots": slots, **small, **fields})


@contextmanager
def scheduler_alone(engine: Any) -> Iterator[None]:
    """Scores and texts through vLLM's scheduler, as where the passes outside it are not served."""
    engine._claim_cache("compare")
    outside, engine._unscheduled = engine._unscheduled, None
    try:
        yield
    finally:
        engine._unscheduled = outside
        engine._reset_prefix_cache()


@contextmanager
def eager(engine: Any) -> Iterator[None]:
    """Decode steps without CUDA graphs."""
    engine._llm.collective_rpc("use_graphs", args=(False,))
    try:
        yield
    finally:
        engine._llm.collective_rpc("use_graphs", args=(True,))


def graphs_of(engine: Any) -> int:
    """How many CUDA graphs the first worker holds; 0 where it runs eager."""
    return int(engine._llm.collective_rpc(_count_graphs)[0])


def _count_graphs(worker: Any) -> int:
    return len(worker.path_graphs.graphs) if worker.path_graphs is not None else 0


Exact = list[tuple[tuple[int, ...], tuple[float, ...]]]


def exact(engine: Any, prompts: Sequence[Sequence[int]], new: int) -> Exact:
    """New tokens of each prompt and their log-probabilities to the last bit, through the scheduler as `generate` runs it."""
    from vllm import SamplingParams, TokensPrompt

    engine._release_cache()
    engine._capture_graphs(len(prompts))
    params = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, logprobs=0, detokenize=False)
    asked = [TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts]
    # What is in the prefix cache changes how many tokens a prefill has, and so its kernels.
    engine._reset_prefix_cache()
    outputs = [output.outputs[0] for output in engine._llm.generate(asked, params, use_tqdm=False)]
    return [
        (
            tuple(o.token_ids),
            tuple(step[token].logprob for step, token in zip(o.logprobs, o.token_ids, strict=True)),
        )
        for o in outputs
    ]


class Reference:
    """Greedy decoding by plain forward passes of transformers, in float32 and without a cache."""

    def __init__(self, checkpoint: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self._layers = list(self._model.model.layers)

    def smallest_margin(self, request: GenerateRequest, path: Sequence[int]) -> float:
        """Least difference between the best two logits on the way of the greedy text."""
        import torch

        self._model.model.layers = torch.nn.ModuleList(self._layers[layer] for layer in path)
        self._model.config.num_hidden_layers = len(path)
        tokens, least = list(request.prompt), float("inf")
        with torch.inference_mode():
            for _ in range(request.max_new_tokens):
                logits = self._model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
                (best, second), (token, _) = logits.topk(2)
                least = min(least, float(best - second))
                tokens.append(int(token))
                if int(token) == 2:
                    break
        return least


def same_answer(ours: GenerateResult, transformers: GenerateResult) -> bool:
    """Whether two engines wrote the same, as far as they spell it alike: vLLM leaves out bytes at the end that are no whole
    character, and transformers special tokens in the middle."""

    def spelled(result: GenerateResult) -> tuple[str, int, str]:
        text = result.text.replace("<|endoftext|>", "").rstrip("\ufffd")
        return text, result.n_tokens, result.finish_reason

    return spelled(ours) == spelled(transformers)


def differing_by_near_ties(
    reference: Reference,
    path: Sequence[int],
    requests: Sequence[GenerateRequest],
    ours: Sequence[GenerateResult],
    expected: Sequence[GenerateResult],
    near_tie: float,
) -> int:
    """Texts that differ; any that does without a near-tie on its way fails."""
    ties = 0
    for request, text, known in zip(requests, ours, expected, strict=True):
        if same_answer(text, known):
            continue
        margin = reference.smallest_margin(request, path)
        assert margin < near_tie, f"{text} against {known}, on {path}: the closest tokens are {margin} apart"
        ties += 1
    return ties


def allocated_bytes() -> int:
    """What tensors of this process take on the device, after what is garbage is gone; resident memory on a CPU."""
    import psutil
    import torch

    gc.collect()
    if not has_gpu():
        return int(psutil.Process().memory_info().rss)
    torch.cuda.synchronize()
    return int(torch.cuda.memory_allocated())
