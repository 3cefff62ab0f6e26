"""vLLM's worker with layer slots: it can change its layer path while it lives. Named to vLLM by `worker_cls`."""

from __future__ import annotations

from typing import Any

from vllm.platforms import current_platform
from vllm.v1.kv_cache_interface import FullAttentionSpec

from evals.vllm.batch import DecodeStep, Step, StepResult
from evals.vllm.forward import Forward
from evals.vllm.reporting import ReportsExecution
from evals.vllm.schedule import Stride
from evals.vllm.slots import LayerSlots

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as _Worker
else:
    from vllm.v1.worker.gpu_worker import Worker as _Worker


def has_plain_cache(runner: Any) -> bool:
    """Whether the KV cache is one plain group that a single block table addresses."""
    groups = runner.kv_cache_config.kv_cache_groups
    return len(groups) == 1 and type(groups[0].kv_cache_spec) is FullAttentionSpec


class LiveWorker(ReportsExecution, _Worker):
    """The platform's worker; every rank of a tensor-parallel engine is one and changes its path with the others."""

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Load the weights, then add the extra slots, before vLLM asks which layers need a KV cache."""
        super().load_model(*args, **kwargs)
        extra = int(self.vllm_config.additional_config["extra_layer_slots"])
        self.layer_slots = LayerSlots(self.model_runner.get_model(), self.vllm_config, self.device, extra)

    def set_layer_path(self, layers: tuple[int, ...] | None) -> None:
        """Run these source layers from the next step on; null is the checkpoint as it is."""
        self.layer_slots.set(layers)

    def start_steps(self) -> int:
        """How many KV caches a layer has for `run_step`; 0 where that is not written for this machine and model."""
        # Tried on CPUs alone; on the others the scheduler does it.
        if not current_platform.is_cpu() or not has_plain_cache(self.model_runner):
            return 0
        self.forward = Forward(self.model_runner, self.layer_slots, self.vllm_config, self.device)
        return self.forward.n_holders

    def run_step(self, step: Step, paths: list[tuple[int, ...]], stride: Stride) -> list[StepResult]:
        """A forward pass through each of these layer paths, outside the scheduler, which must be idle."""
        return self.forward.run(step, paths, stride)

    def decode_step(self, step: DecodeStep, paths: list[tuple[int, ...]], stride: Stride) -> list[int]:
        """One more token for each row (path, prompt), after `run_step` over their prompts with the same stride."""
        return self.forward.decode(step, tuple(paths), stride)

    def mend_cache(self) -> bool:
        """Zero the KV cache if it holds what is not finite; nobody may need what is in it."""
        return self.layer_slots.mend_cache()
