"""Turns a sweep into a plan: candidates, build jobs, evaluation jobs, and what cannot run and why.

Planning reads configs, headers and data sets, and changes nothing. It resolves every shorthand:
a plan holds pinned revisions, resolved layer paths, and a chat template that is on or off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from evals.engine import (
    EngineKind,
    EngineSpec,
    EngineTuning,
    Frozen,
    InstalledEngine,
    digest_of,
)
from evals.engines import installed_engine
from evals.execution import default_execution, planned_attention, require_runnable
from evals.probes import RankMethod
from evals.probes.race import RacePlan
from evals.quantization import engine_quantization
from evals.suite import Suite, suite_names
from evals.suite_file import SuiteRequest
from orchestrator.errors import SweepError
from orchestrator.plan.benchmarks import MissingBenchmark, PlannedBenchmark, measures_of, resolve_suites
from orchestrator.plan.candidate import Candidate, quantization_method, quantized_bytes
from orchestrator.plan.candidates import BASE_NAME, Expander, absolute_place
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.plan.decide import check_first, decided
from orchestrator.plan.estimate import EngineNeed
from orchestrator.plan.job import BuildJob, CheckpointPlace, EvalJob
from orchestrator.plan.live import built_reason, path_notes
from orchestrator.plan.racing import check_race
from orchestrator.plan.shared_engines import SharedEngines
from orchestrator.plan.sizing import Sizes
from orchestrator.plan.sweep import EngineEntry, Sweep, SweepFile
from orchestrator.settings import Settings
from recipes.layer_visit import Layers, attention_visits
from recipes.sources import SourceFacts, describe, pin


class PlannedEval(Frozen):
    """An evaluation job and the candidate that it scores."""

    candidate: str = Field(description="Name of the candidate.")
    job: EvalJob = Field(description="The job.")


Installed = Callable[[EngineKind], InstalledEngine]
"""Maps an engine kind to the engine installed where the jobs will run; EngineError if there is none."""


class Confirms(Frozen):
    """The search whose best paths a run confirms, so that both are shown as one."""

    runs: tuple[str, ...] = Field(min_length=1, description="Ids of the search's runs, the first one first.")
    rank: RankMethod = Field(description="How the search combined the probes of a path.")


class Plan(Frozen):
    """All candidates and jobs of a run."""

    sweep: Sweep = Field(description="The sweep that the plan was made from.")
    text: str = Field(description="The sweep file's text.")
    folder: str = Field(description="Folder that the sweep's `file:` entries are relative to.")
    candidates: tuple[Candidate, ...] = Field(
        description="The base first, then the recipes in the file's order."
    )
    evals: tuple[PlannedEval, ...] = Field(description="Evaluation jobs, engine by engine.")
    missing: tuple[MissingBenchmark, ...] = Field(default=(), description="Benchmarks that cannot run here.")
    notes: tuple[str, ...] = Field(
        default=(), description="Decisions that the sweep leaves open, one sentence each."
    )
    tensor_parallel: int = Field(
        default=1, description="GPUs that share each layer, if the sweep does not set it."
    )
    engines: tuple[InstalledEngine, ...] = Field(
        default=(), description="The engines of the plan, as installed where its jobs run."
    )
    suites: tuple[tuple[SuiteRequest, Suite], ...] = Field(
        default=(), description="The users' suites of the plan, with what names them in the sweep."
    )
    needs: dict[str, EngineNeed] = Field(
        default_factory=dict, description="Engine key to the memory need of its engine, for placement."
    )
    whole: bool = Field(
        default=False, description="Whether evaluations are whole although the sweep lets them stop early."
    )
    confirms: Confirms | None = Field(
        default=None,
        description="The search that it confirms; null for any other run. Not part of its identity.",
    )
    race: RacePlan | None = Field(
        default=None,
        description="The rule by which layer paths leave while the run goes on; null for any other run. Not part of its identity.",
    )

    @property
    def builds(self) -> tuple[BuildJob, ...]:
        """Build jobs, each once."""
        return tuple({c.build.digest: c.build for c in self.candidates if c.build}.values())

    @property
    def engine_starts(self) -> int:
        """Number of different engines of the evaluations; each is started at least once."""
        return len({planned.job.engine_key for planned in self.evals})

    @property
    def jobs(self) -> dict[str, BuildJob | EvalJob]:
        """All jobs by digest, builds first."""
        jobs: dict[str, BuildJob | EvalJob] = {job.digest: job for job in self.builds}
        for planned in self.evals:
            jobs.setdefault(planned.job.digest, planned.job)
        return jobs

    def suite_of(self, job: BuildJob | EvalJob) -> Suite | None:
        """The definition that a job's worker needs; None for builds, probes and shipped suites."""
        if isinstance(job, BuildJob):
            return None
        return next((suite for _, suite in self.suites if suite.name == job.suite), None)

    @property
    def digest(self) -> str:
        """Identity of the run: its candidates and jobs."""
        return digest_of([sorted(self.jobs), [c.name for c in self.candidates]])


def make_plan(
    file: SweepFile,
    settings: Settings,
    *,
    cluster: ClusterFacts | None = None,
    tensor_parallel: int | None = None,
    installed: Installed = installed_engine,
    suites: Mapping[SuiteRequest, Suite] | None = None,
    whole: bool = False,
) -> Plan:
    """Expand a sweep; raises SweepError, PlanError, EngineError or a RecipeError with one sentence.

    With a cluster, tensor parallelism follows from its GPUs, and a sweep that can never run on it is refused.
    `tensor_parallel` is the choice of an earlier plan of the run, `installed` looks up the nodes' engines, and
    `suites` are those that it resolved. With `whole` no evaluation stops early, whatever the sweep says.
    """
    sweep = file.sweep
    base_pin = pin(absolute_place(sweep.base, Path.cwd()), None, home=settings.home)
    facts = describe(base_pin, home=settings.home, allow_pickles=sweep.allow_pickles)
    base = Candidate(
        name=sweep.base_name or BASE_NAME,
        is_base=True,
        place=CheckpointPlace(name=base_pin.reference),
        weights_digest=base_pin.weights_digest,
        layers=facts.config.n_layers,
        parameters=facts.parameters,
        quantization=quantization_method(facts),
        stored_bytes=quantized_bytes(facts, facts.config.n_layers),
        made_from=facts.made_from,
    )
    resolved = resolve_suites(sweep, Path(file.folder), suites or {})
    measures, missing = measures_of(sweep, facts, settings, resolved)
    engines = [(entry, installed(entry.kind)) for entry in sweep.engines]
    built = built_reason(sweep, engines, facts.config)
    shared = SharedEngines(sweep, engines)
    expander = Expander(file, settings, base, facts, live=built is None, shared=shared, cluster=cluster)
    candidates = [base, *expander.candidates()]
    _check_names(candidates, file)
    sizes = Sizes(candidates, facts, live=built is None)
    if tensor_parallel is None:
        specs = (_engine(entry, e, m, facts, sweep, 1, None) for entry, e in engines for m in measures)
        tensor_parallel = sizes.tensor_parallel(specs, cluster)
    evals = list(_evals(sweep, engines, candidates, facts, measures, tensor_parallel, live=built is None))
    check_first(file, (planned.job.benchmark for planned in evals))
    race_notes: tuple[str, ...] = ()
    if not whole:
        race_notes = check_race(file, [(p.candidate, p.job) for p in evals], base.name)
        evals = with_early_stops(evals, base.name, sweep)
    served = [(planned.candidate, planned.job) for planned in evals]
    needs = sizes.needs(served)
    if cluster is not None:
        sizes.require(needs, served, cluster)
    return Plan(
        sweep=sweep,
        text=file.text,
        folder=file.folder,
        candidates=tuple(candidates),
        evals=tuple(evals),
        missing=tuple(missing),
        notes=(
            *path_notes(
                built, engines, facts.config, has_paths=any(c.layer_path is not None for c in candidates)
            ),
            *shared.notes(),
            *_merge_notes(candidates),
            *race_notes,
            *_size_notes(sweep, candidates, needs, evals, cluster),
        ),
        tensor_parallel=tensor_parallel,
        engines=tuple(dict.fromkeys(engine for _, engine in engines)),
        suites=tuple((r, s) for r, s in resolved.items() if s.name not in suite_names()),
        needs=needs,
        whole=whole and sweep.decide is not None,
    )


def _evals(
    sweep: Sweep,
    engines: list[tuple[EngineEntry, InstalledEngine]],
    candidates: list[Candidate],
    facts: SourceFacts,
    measures: list[PlannedBenchmark],
    tensor_parallel: int,
    *,
    live: bool,
) -> Iterator[PlannedEval]:
    slots = _slots(candidates) if live else {}
    # A path that skips or reorders layers adds no slot, but still needs an engine with live layer paths.
    tunings = {place: EngineTuning(live=True, extra_layer_slots=extra) for place, extra in slots.items()}
    for entry, installed in engines:
        # Computed once per engine and shared by all candidates: plans hold thousands of jobs.
        measures_by_method = {
            method: [
                (measure, _engine(entry, installed, measure, facts, sweep, tensor_parallel, method))
                for measure in measures
            ]
            for method in {candidate.quantization for candidate in candidates}
        }
        for candidate in candidates:
            if candidate.is_base and not sweep.score_base:
                continue
            place, layers = place_of(candidate, live)
            tuning = tunings.get(place) or EngineTuning()
            for measure, engine in measures_by_method[candidate.quantization]:
                job = EvalJob(
                    weights_digest=candidate.weights_digest,
                    layer_path=candidate.layer_path,
                    engine=engine,
                    **measure.identity_fields(),
                    place=place,
                    live_layers=layers,
                    live_merge=candidate.live_merge,
                    tuning=tuning,
                )
                yield PlannedEval(candidate=candidate.name, job=job)


def with_early_stops(evals: Sequence[PlannedEval], base: str, sweep: Sweep) -> list[PlannedEval]:
    """The evaluations, those of candidates marked with when they may stop early if the sweep says so; `base` is the base's name."""
    if sweep.decide is None or sweep.decide.race is not None:
        return list(evals)
    jobs = decided([(planned.candidate == base, planned.job.whole) for planned in evals], sweep.decide)
    return [p.model_copy(update={"job": job}) for p, job in zip(evals, jobs, strict=True)]


def _size_notes(
    sweep: Sweep,
    candidates: list[Candidate],
    needs: dict[str, EngineNeed],
    evals: list[PlannedEval],
    cluster: ClusterFacts | None,
) -> tuple[str, ...]:
    """A note that names checkpoints of unknown size that are planned onto GPUs."""
    if cluster is None or not cluster.has_gpus or all(entry.tensor_parallel for entry in sweep.engines):
        return ()
    unknown = {p.candidate for p in evals if needs[p.job.engine_key].weight_bytes is None}
    names = [candidate.name for candidate in candidates if candidate.name in unknown]
    if not names:
        return ()
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"The size of {names[0]}{others} is not known, so nothing tells how many GPUs hold it: set `tensor_parallel` of the engine.",
    )


def _merge_notes(candidates: list[Candidate]) -> Iterator[str]:
    """One note for each reason why merges are built, with the names of the first ones."""
    names_by_reason: dict[str, list[str]] = {}
    for candidate in candidates:
        if candidate.built_because is not None:
            names_by_reason.setdefault(candidate.built_because, []).append(candidate.name)
    for reason, names in names_by_reason.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"Built instead of run live: {', '.join(names[:3])}{more}: {reason}."


def _slots(candidates: list[Candidate]) -> dict[CheckpointPlace, int]:
    """KV-cache slots of each checkpoint's engine beyond the checkpoint's layers, for its longest path."""
    slots: dict[CheckpointPlace, int] = {}
    for candidate in candidates:
        if candidate.layer_path is not None and candidate.build is None:
            added = attention_visits(candidate.layer_path) - candidate.source_layers
            slots[candidate.place] = max(slots.get(candidate.place, 0), added)
    return slots


def with_path_slots(plan: Plan, extra: int) -> Plan:
    """The plan, its live engines opened for layer paths of this many layers more: for paths that follow in later plans."""

    def widened(job: EvalJob) -> EvalJob:
        if job.place.name is None:
            return job
        slots = max(extra, job.tuning.extra_layer_slots)
        return job.model_copy(
            update={"tuning": job.tuning.model_copy(update={"live": True, "extra_layer_slots": slots})}
        )

    evals = tuple(e.model_copy(update={"job": widened(e.job)}) for e in plan.evals)
    return plan.model_copy(update={"evals": evals})


def place_of(candidate: Candidate, live: bool) -> tuple[CheckpointPlace, Layers | None]:
    """Location of the weights and the live layer path; the path is None if it is built into the weights."""
    if candidate.build is None:
        return candidate.place, candidate.layer_path if live else None
    if candidate.live_merge is not None:
        return candidate.place, None
    return CheckpointPlace(artifact=candidate.build.digest), None


def _engine(
    entry: EngineEntry,
    engine: InstalledEngine,
    measure: PlannedBenchmark,
    facts: SourceFacts,
    sweep: Sweep,
    tensor_parallel: int,
    quantization: str | None,
) -> EngineSpec:
    """The complete engine specification; transformers runs on one device. EngineError if it cannot run."""
    shared = entry.tensor_parallel or (tensor_parallel if entry.kind is EngineKind.VLLM else 1)
    limits = [n for n in (entry.max_length or measure.max_length, facts.config.max_length) if n]
    config = facts.config
    attention = entry.attention_backend or planned_attention(
        engine,
        dtype=entry.dtype,
        kv_cache_dtype=entry.kv_cache_dtype,
        model_type=config.model_type,
        head_dim=config.head_dim,
    )
    spec = EngineSpec(
        kind=entry.kind,
        version=engine.version,
        dtype=entry.dtype,
        quantization=_stored_as(entry, quantization),
        kv_cache_dtype=entry.kv_cache_dtype,
        tensor_parallel=shared,
        max_length=min(limits) if limits else None,
        trust_remote_code=sweep.trust_remote_code,
        device=engine.device,
        execution=entry.execution or default_execution(entry.kind, engine.device),
        attention_backend=attention,
        batch_invariant=entry.batch_invariant,
    )
    require_runnable(spec, engine)
    return spec


def _stored_as(entry: EngineEntry, method: str | None) -> str | None:
    """The engine's name of a quantization method; EngineError if vLLM cannot load it."""
    if method is None or entry.kind is not EngineKind.VLLM:
        return method
    return engine_quantization(method)


def _check_names(candidates: list[Candidate], file: SweepFile) -> None:
    names: set[str] = set()
    for candidate in candidates:
        if candidate.name in names:
            raise SweepError(
                f"{file.place('recipes')}: two recipes are called {candidate.name!r}; give one of them another name, or leave one out."
            )
        names.add(candidate.name)
