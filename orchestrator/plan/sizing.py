"""Sizes of a sweep's checkpoints, and the memory needs and tensor parallelism that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evals.engine import EngineKind, EngineSpec
from orchestrator.errors import PlanError
from orchestrator.plan.candidate import Candidate
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.plan.estimate import EngineNeed, Shape, engine_need, refusal, tensor_parallel_for
from orchestrator.plan.job import EvalJob
from recipes.config_facts import ConfigFacts
from recipes.layer_state import CHUNKED, SLIDING, keeps_keys
from recipes.layer_visit import Layers, attention_visits, source_layers_of
from recipes.sources import SourceFacts


class Sizes:
    """Shapes of a sweep's candidates, as far as known when planning."""

    def __init__(self, candidates: Sequence[Candidate], facts: SourceFacts, *, live: bool) -> None:
        self._shapes = {c.name: _shape(c, facts, live) for c in candidates}
        self._needs: dict[tuple[Shape, EngineSpec], EngineNeed] = {}

    def tensor_parallel(self, specs: Iterable[EngineSpec], cluster: ClusterFacts | None) -> int:
        """GPUs that share each layer, one number for the whole sweep; 1 without GPUs, or if nothing fits."""
        vllm = {spec for spec in specs if spec.kind is EngineKind.VLLM}
        if cluster is None or not cluster.has_gpus or not vllm:
            return 1
        needs = {self._need(shape, spec) for shape in set(self._shapes.values()) for spec in vllm}
        return tensor_parallel_for(needs, cluster) or 1

    def needs(self, planned: Iterable[tuple[str, EvalJob]]) -> dict[str, EngineNeed]:
        """Engine key to the memory need of its engine, for the largest of its jobs."""
        needs: dict[str, EngineNeed] = {}
        for name, job in planned:
            need = self._need(self._shapes[name], job.engine)
            largest = needs.get(job.engine_key)
            if largest is None or _size(need) > _size(largest):
                needs[job.engine_key] = need
        return needs

    def require(
        self, needs: dict[str, EngineNeed], planned: Iterable[tuple[str, EvalJob]], cluster: ClusterFacts
    ) -> None:
        """Raise PlanError with the first reason and the count, if candidates can never run on the cluster."""
        reasons: dict[str, str] = {}
        checked: set[str] = set()
        for name, job in planned:
            if job.engine_key not in checked:
                checked.add(job.engine_key)
                reason = refusal(name, needs[job.engine_key], job.engine.tensor_parallel, cluster)
                if reason is not None:
                    reasons.setdefault(name, reason)
        if reasons:
            total = f" ({len(reasons)} candidates in all)" if len(reasons) > 1 else ""
            raise PlanError(next(iter(reasons.values())) + total)

    def _need(self, shape: Shape, spec: EngineSpec) -> EngineNeed:
        if (shape, spec) not in self._needs:
            self._needs[shape, spec] = engine_need(shape, spec)
        return self._needs[shape, spec]


def _size(need: EngineNeed) -> int:
    return (need.weight_bytes or 0) + need.kv_bytes_per_token * need.longest_tokens


def _shape(candidate: Candidate, facts: SourceFacts, live: bool) -> Shape:
    """Shape of the weights that a candidate's engine loads; for a live layer path, those of its source."""
    config = facts.config
    parameters = candidate.parameters
    if parameters is None and candidate.layers is not None:
        parameters = facts.parameters_of(candidate.layers)
    # A path over a merge that cannot run live is built, whatever other paths are.
    live = live and (candidate.layer_path is None or candidate.build is None)
    if live and candidate.layer_path is not None and parameters is not None:
        along = facts.parameters_of_visits(candidate.layer_path)
        if facts.parameters is not None and along is not None:
            parameters += facts.parameters - along
    stored = candidate.stored_bytes
    if live and candidate.layer_path is not None and stored is not None and facts.layer_bytes:
        stored += (candidate.source_layers - len(candidate.layer_path)) * facts.layer_bytes
    on_live_path = live and candidate.layer_path is not None
    kinds = _kinds(config, None if on_live_path else candidate.layer_path)
    # In a live engine every KV cache is of full length, so that any layer can use any.
    windowed = 0 if live else sum(kind in (SLIDING, CHUNKED) for kind in kinds)
    stateful = sum(not keeps_keys(kind) for kind in kinds)
    layers = candidate.layers or config.n_layers
    if on_live_path and candidate.layer_path is not None:
        layers = max(attention_visits(candidate.layer_path), candidate.source_layers)
    return Shape(
        windowed_layers=windowed,
        window=config.sliding_window,
        parameters=None if candidate.quantization else parameters,
        stored_bytes=stored,
        layers=layers - stateful,
        state_bytes=stateful * config.state_bytes,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
    )


def _kinds(config: ConfigFacts, path: Layers | None) -> tuple[str, ...]:
    """The kind of each layer of a built path or of the checkpoint; empty if all are of one kind."""
    if path is None or not config.layer_types:
        return config.layer_types
    return tuple(config.layer_types[layer] for layer in source_layers_of(path))
