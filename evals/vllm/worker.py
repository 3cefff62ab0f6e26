"""vLLM's worker with layer slots: it can change its layer path while it lives. Named to vLLM by `worker_cls`."""

from __future__ import annotations

from typing import Any

from vllm.platforms import current_platform

from evals.vllm.slots import LayerSlots

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

    def weight_bytes(self) -> int:
        """Size of the weights on this rank; tied ones count once."""
        return self.layer_slots.weight_bytes()
