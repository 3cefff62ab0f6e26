"""vLLM's worker with layer slots: it can change its layer path while it lives. Named to vLLM by `worker_cls`."""

from __future__ import annotations

from typing import Any

from vllm.platforms import current_platform

from evals.vllm.forward import Forward
from evals.vllm.slots import LayerSlots
from evals.vllm.steps import Step, StepResult

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as _Worker
else:
    from vllm.v1.worker.gpu_worker import Worker as _Worker


class LiveWorker(_Worker):
    """The platform's worker; every rank of a tensor-parallel engine is one and changes its path with the others."""

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Load the weights, then add the extra slots, before vLLM asks which layers need a KV cache."""
        super().load_model(*args, **kwargs)
        extra = int(self.vllm_config.additional_config["extra_layer_slots"])
        self.layer_slots = LayerSlots(self.model_runner.get_model(), self.vllm_config, self.device, extra)

    def set_layer_path(self, layers: tuple[int, ...] | None) -> None:
        """Run these source layers from the next step on; null is the checkpoint as it is."""
        self.layer_slots.set(layers)

    def can_run_steps(self) -> bool:
        """Whether `run_steps` is written for this machine and model."""
        # Tried on CPUs alone; the scheduler serves the others.
        if not current_platform.is_cpu() or not Forward.is_possible(self.model_runner):
            return False
        self.forward = Forward(self.model_runner, self.layer_slots, self.vllm_config, self.device)
        return True

    def run_steps(self, steps: list[Step]) -> list[StepResult]:
        """Forward passes through the current layer path, outside the scheduler, which must be idle."""
        return self.forward.run(steps, self.layer_slots.path)

    def clear_cache(self) -> None:
        """Zero the KV cache."""
        self.forward.clear_cache()

    def weight_bytes(self) -> int:
        """Size of the weights on this rank; tied ones count once."""
        return self.layer_slots.weight_bytes()
