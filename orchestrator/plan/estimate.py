"""Memory and GPU needs of engines and builds; `durations` estimates their time."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from evals.engine import EngineKind, EngineSpec, Frozen
from orchestrator.display.format import size
from orchestrator.plan.capacity import ClusterFacts, NodeFacts
from orchestrator.plan.job import EvalJob

GIB = 1 << 30
# A build is bound by I/O: half a core is enough beside an engine that computes on all cores.
BUILD_CPUS = 0.5
# CUDA context, activations and compiled graphs; the logits of one step are added to it.
_GPU_OVERHEAD_BYTES = 2 * GIB
_TOKENS_PER_STEP = 8192
# Share of a GPU that vLLM uses for weights and KV cache (evals.engine.EngineTuning.gpu_memory_share).
_GPU_SHARE = 0.9
# With a smaller KV cache (in tokens) requests mostly wait for free blocks.
_COMFORTABLE_TOKENS = 65_536
# Greatest share of a machine's memory for the weights of a CPU engine; more would make the machine swap.
_HOST_SHARE = 0.9


class Resources(Frozen):
    """Resources of one node that an engine or build reserves."""

    cpus: float = Field(description="CPUs that Ray reserves.")
    gpus: float = Field(default=0.0, description="GPUs that Ray reserves, all on one node.")
    threads: int = Field(default=1, description="Number of threads that it may use.")


class Shape(Frozen):
    """Properties of a checkpoint that determine its memory; null if unknown."""

    parameters: int | None = Field(description="Number of parameters.")
    layers: int | None = Field(description="Layers of a forward pass that have a KV cache.")
    heads: int | None = Field(default=None, description="Attention heads.")
    kv_heads: int | None = Field(default=None, description="Key and value heads.")
    windowed_layers: int = Field(
        default=0, description="Layers whose KV cache holds the tokens of a window; 0 in a live engine."
    )
    window: int | None = Field(default=None, description="The window in tokens.")
    state_bytes: int = Field(
        default=0,
        description="Bytes that layers of linear attention keep of a sequence, whatever its length.",
    )
    head_dim: int | None = Field(default=None, description="Width of one head.")
    vocab_size: int = Field(default=0, description="Rows of the embedding.")
    stored_bytes: int | None = Field(
        default=None,
        description="Bytes of the weights as stored, if they are quantized; null otherwise.",
    )


class EngineNeed(Frozen):
    """Memory of an engine over all its GPUs; null if the checkpoint's size is unknown."""

    weight_bytes: int | None = Field(
        description="Bytes of the weights in the engine's dtype, or as stored if they are quantized."
    )
    kv_bytes_per_token: int = Field(
        description="KV cache and state bytes of one token in all layers, averaged over the longest sequence."
    )
    longest_tokens: int = Field(description="Longest sequence in tokens that it must fit.")
    overhead_bytes: int = Field(description="Bytes of each GPU beside weights and KV cache.")
    heads: int | None = Field(description="Attention heads; GPUs that share a layer must divide them.")
    kv_heads: int | None = Field(description="Key and value heads; replicated if there are fewer than GPUs.")

    def gpu_bytes(self, tensor_parallel: int, tokens: int | None = None) -> int | None:
        """Bytes of each GPU with a KV cache of `tokens`, at least the longest sequence; None if unknown."""
        if self.weight_bytes is None:
            return None
        cache = self.kv_bytes_per_token * max(tokens or 0, self.longest_tokens)
        parts = min(tensor_parallel, self.kv_heads or tensor_parallel)
        return self.weight_bytes // tensor_parallel + cache // parts + self.overhead_bytes

    def kv_tokens(self, tensor_parallel: int, gpu_memory_bytes: int) -> int | None:
        """Capacity of the KV cache in tokens on GPUs of this size; None if unknown."""
        fixed = self.gpu_bytes(tensor_parallel, None)
        if fixed is None or not self.kv_bytes_per_token:
            return None
        parts = min(tensor_parallel, self.kv_heads or tensor_parallel)
        longest = self.kv_bytes_per_token * self.longest_tokens // parts
        kv_bytes = int(gpu_memory_bytes * _GPU_SHARE) - (fixed - longest)
        return max(0, kv_bytes * parts // self.kv_bytes_per_token)

    def divides(self, tensor_parallel: int) -> bool:
        """Whether so many GPUs can share a layer: heads split evenly, key-value heads may be replicated."""
        if self.heads is not None and self.heads % tensor_parallel:
            return False
        kv = self.kv_heads
        return kv is None or kv % tensor_parallel == 0 or tensor_parallel % kv == 0

    def fits(self, node: NodeFacts, tensor_parallel: int, tokens: int | None = None) -> bool:
        """Whether the engine fits on this node when it is empty; unknown sizes count as fitting."""
        if not node.gpus:
            return not self.weight_bytes or self.weight_bytes <= node.memory_bytes * _HOST_SHARE
        if node.gpus < tensor_parallel:
            return False
        needed = self.gpu_bytes(tensor_parallel, tokens)
        return needed is None or not node.gpu_memory_bytes or needed <= node.gpu_memory_bytes * _GPU_SHARE


def engine_need(shape: Shape, spec: EngineSpec) -> EngineNeed:
    """Memory need of an engine of this specification for a checkpoint of this shape."""
    width = 4 if spec.dtype == "float32" else 2
    cached = width if spec.kv_cache_dtype == "auto" else 1
    weights = shape.stored_bytes
    if weights is None and shape.parameters is not None and spec.quantization is None:
        weights = shape.parameters * width
    longest = spec.max_length or 4096
    # Averaged over the longest sequence: layers with a window keep the keys and values of its tokens alone, linear ones a state.
    windowed = shape.windowed_layers if shape.window is not None and shape.window < longest else 0
    kv_tokens = ((shape.layers or 0) - windowed) * longest + windowed * (shape.window or 0)
    kept = 2 * kv_tokens * (shape.kv_heads or 0) * (shape.head_dim or 0) * cached + shape.state_bytes
    per_token = -(-kept // longest)
    return EngineNeed(
        weight_bytes=weights,
        kv_bytes_per_token=per_token,
        longest_tokens=longest,
        overhead_bytes=_GPU_OVERHEAD_BYTES + 4 * shape.vocab_size * _TOKENS_PER_STEP,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
    )


def tensor_parallel_for(needs: Iterable[EngineNeed], cluster: ClusterFacts) -> int | None:
    """The fewest GPUs of one node that fit each of these engines; None if none do.

    Prefers room for a large KV cache. One number for the whole sweep: it is part of a score's identity.
    """
    engines = list(needs)
    most = max((int(node.gpus) for node in cluster.engine_nodes), default=0)
    for tokens in (_COMFORTABLE_TOKENS, None):
        for number in range(1, most + 1):
            if all(_somewhere(need, cluster, number, tokens) for need in engines):
                return number
    return None


def refusal(name: str, need: EngineNeed, tensor_parallel: int, cluster: ClusterFacts) -> str | None:
    """Reason why an engine can never run on this cluster, as a sentence; None if it can."""
    if not cluster.engine_nodes:
        return f"{name} cannot run: no node of the cluster has a CPU or a GPU to give ({cluster.sentence})."
    if not cluster.has_gpus:
        if any(need.fits(node, 1) for node in cluster.engine_nodes):
            return None
        return (
            f"{name} can never run here: its weights take {size(need.weight_bytes)} and no node has as much memory "
            f"({cluster.sentence}); name a cluster with GPUs by --address."
        )
    if not need.divides(tensor_parallel):
        return (
            f"{name} cannot be shared by {tensor_parallel} GPUs: its {need.heads} attention heads and {need.kv_heads} "
            "key-value heads do not divide; set `tensor_parallel` of the engine to another number."
        )
    if any(need.fits(node, tensor_parallel) for node in cluster.engine_nodes):
        return None
    bytes_per_gpu = need.gpu_bytes(tensor_parallel)
    share = f", {bytes_per_gpu / GIB:.0f} GiB of each" if bytes_per_gpu else ""
    return (
        f"{name} can never run here: it takes {tensor_parallel} GPU{'s' if tensor_parallel > 1 else ''} of one node{share}, "
        f"and the cluster has {cluster.sentence}; add a larger node, or set a larger `tensor_parallel`."
    )


def _somewhere(need: EngineNeed, cluster: ClusterFacts, number: int, tokens: int | None) -> bool:
    return need.divides(number) and any(need.fits(node, number, tokens) for node in cluster.engine_nodes)


def engine_resources(job: EvalJob, node: NodeFacts) -> Resources:
    """Resources of a job's engine on this node: tensor-parallel GPUs, or all cores but a build's share."""
    if node.gpus >= 1:
        gpus = job.engine.tensor_parallel if job.engine.kind is EngineKind.VLLM else 1
        share = node.cpus * gpus / node.gpus
        cpus = min(float(gpus), max(share - BUILD_CPUS, 0.0))
        return Resources(cpus=cpus, gpus=float(gpus), threads=max(1, min(16, int(share))))
    threads = job.tuning.threads or max(1, int(node.cpus))
    return Resources(cpus=max(node.cpus - BUILD_CPUS, min(0.5, node.cpus)), threads=threads)


def build_memory_bytes(output_bytes: int | None, moves_bytes: bool) -> int:
    """Host memory of a build in bytes: small for copies; mergekit holds about two shards of each source."""
    if moves_bytes:
        return GIB // 2
    return 3 * GIB + min(output_bytes or 0, 24 * GIB)
