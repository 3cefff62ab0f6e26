"""Decides which built layer paths share an engine, into which their weights are loaded one after another.

The first path of a form (`recipes.built_form`) is built, and an engine is opened with it. The tensors of the others are views of
their source's tensors under new names, so that nothing is written for them; if the sweep asks for files, they are read from those.
Scores, samples and digests are those of an engine of each path's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from evals.engine import DeviceKind, ExecutionMode, InstalledEngine
from evals.live_paths import unreplaced_family
from orchestrator.plan.job import BuildJob, CheckpointPlace, LiveMerge
from orchestrator.plan.sweep import EngineEntry, Sweep
from recipes.built_form import BuiltForms
from recipes.layer_path import LayerPath
from recipes.layer_visit import is_whole_path
from recipes.sources import SourceFacts


class SharedEngines:
    """The engines of a plan's built layer paths, each with the paths that it serves."""

    def __init__(self, sweep: Sweep, engines: Sequence[tuple[EngineEntry, InstalledEngine]]) -> None:
        self._materialize = sweep.materialize
        self._engines = engines
        self._leaders: dict[tuple[str, str], BuildJob] = {}
        self._served: dict[str, LiveMerge | None] = {}
        self._with_leader: Counter[str] = Counter()
        self._alone: dict[str, set[str]] = {}
        self._obstacles: dict[str, str | None] = {}

    def host_of(
        self, path: LayerPath, build: BuildJob, facts: SourceFacts, forms: BuiltForms
    ) -> tuple[CheckpointPlace, LiveMerge] | None:
        """The engine that serves a built path with other weights than its own; None if the path has an engine of its own.

        `facts` and `forms` are those of the path's source, which `build` names.
        """
        if build.digest not in self._served:
            self._served[build.digest] = self._assign(path, build, facts, forms)
        live = self._served[build.digest]
        return None if live is None else (CheckpointPlace(artifact=live.opened_with), live)

    def notes(self) -> Iterator[str]:
        """How many engines serve the built paths, and why some paths have one each."""
        paths, engines = len(self._served), len(self._with_leader)
        alone = sum(map(len, self._alone.values()))
        if paths > engines + alone:
            yield (
                f"The {paths - alone} built layer paths take {engines} engine start{'s' if engines != 1 else ''}: paths of one source, "
                "number of layers and config share an engine, into which the weights of each are loaded."
            )
        for reason, digests in self._alone.items():
            if len(digests) > 1:
                yield f"{len(digests)} built layer paths have an engine each: {reason}."

    def _assign(
        self, path: LayerPath, build: BuildJob, facts: SourceFacts, forms: BuiltForms
    ) -> LiveMerge | None:
        (source,) = build.sources
        if source.place not in self._obstacles:
            self._obstacles[source.place] = next(self._problems(facts), None)
        obstacle = self._obstacles[source.place]
        if obstacle is None and facts.config.experts and not is_whole_path(path.layers):
            obstacle = "mergekit, which builds halves of layers, writes experts under other names"
        if obstacle is not None:
            self._alone.setdefault(obstacle, set()).add(build.digest)
            return None
        leader = self._leaders.setdefault((source.place, forms.of(path)), build)
        self._with_leader[leader.digest] += 1
        if leader is build:
            return None
        return LiveMerge(
            build=build,
            opened_digest=source.weights_digest,
            opened_with=leader.digest,
            from_files=self._materialize,
        )

    def _problems(self, facts: SourceFacts) -> Iterator[str]:
        """What keeps the built paths of a source from sharing engines."""
        config = facts.config
        if any(entry.execution is ExecutionMode.COMPILED for entry, _ in self._engines):
            yield "the weights of a compiled engine are not replaced"
        if config.quantized:
            yield "a quantised engine cannot replace its weights"
        if not facts.tensor_names:
            yield "the weights are pickled or their headers are not known"
        if config.tied and "lm_head.weight" in facts.tensor_names:
            yield "the checkpoint ties its embeddings and stores lm_head.weight besides"
        if config.remote_code:
            yield "the checkpoint comes with code of its own"
        for _, engine in self._engines:
            reason = unreplaced_family(
                config.model_type,
                config.architecture,
                kind=engine.kind,
                cpu=engine.device is DeviceKind.CPU,
            )
            if reason is not None:
                yield reason
