"""A sweep becomes a plan: candidates, build jobs, evaluation jobs, and what cannot run and why.

Planning looks things up (configs, headers, data sets) and touches nothing. Every shorthand ends here:
a plan holds pinned revisions, resolved layer paths, and a chat template that is on or off.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from evals.datasets import check, content_digest
from evals.engine import EngineSpec, EngineTuning, digest_of, installed_version
from evals.live_paths import LIVE_FAMILIES
from evals.scores import ChatTemplate, EvalSettings
from evals.suite import Benchmark, Suite, load_suite
from orchestrator.candidates import BASE_NAME, Candidate, Expander, absolute_place
from orchestrator.errors import PlanError, SweepError
from orchestrator.jobs import BuildJob, CheckpointPlace, EvalJob, Frozen
from orchestrator.provenance import scorer_identity
from orchestrator.settings import Settings
from orchestrator.sweep import EngineEntry, SuiteEntry, Sweep, SweepFile
from recipes.sources import SourceFacts, describe, pin


class MissingBenchmark(Frozen):
    """A benchmark that cannot run here."""

    suite: str = Field(description="Name of the suite.")
    benchmark: str = Field(description="Name of the benchmark.")
    reason: str = Field(description="What is missing, and the command that gets it.")


class PlannedEval(Frozen):
    """An evaluation job and the candidate whose row it fills."""

    candidate: str = Field(description="Name of the candidate.")
    job: EvalJob = Field(description="The job.")


class Plan(Frozen):
    """Everything that a run will do."""

    sweep: Sweep = Field(description="The sweep that it was made from.")
    text: str = Field(description="The sweep file's text.")
    folder: str = Field(description="Folder that the sweep's `file:` entries are relative to.")
    candidates: tuple[Candidate, ...] = Field(
        description="The base first, then the recipes in the file's order."
    )
    evals: tuple[PlannedEval, ...] = Field(description="Evaluation jobs, engine by engine.")
    missing: tuple[MissingBenchmark, ...] = Field(default=(), description="What cannot run here.")

    @property
    def builds(self) -> tuple[BuildJob, ...]:
        """Build jobs, each once."""
        return tuple({c.build.digest: c.build for c in self.candidates if c.build}.values())

    @property
    def jobs(self) -> dict[str, BuildJob | EvalJob]:
        """All jobs by digest, builds first."""
        jobs: dict[str, BuildJob | EvalJob] = {job.digest: job for job in self.builds}
        for planned in self.evals:
            jobs.setdefault(planned.job.digest, planned.job)
        return jobs

    @property
    def digest(self) -> str:
        """Names what the run is: its candidates and its jobs."""
        return digest_of([sorted(self.jobs), [c.name for c in self.candidates]])


def make_plan(file: SweepFile, settings: Settings) -> Plan:
    """Expand a sweep; raises SweepError, PlanError or a RecipeError with one sentence."""
    sweep = file.sweep
    base_pin = pin(absolute_place(sweep.base, Path.cwd()), None, home=settings.home)
    facts = describe(base_pin, home=settings.home, allow_pickles=sweep.allow_pickles)
    base = Candidate(
        name=BASE_NAME,
        is_base=True,
        place=CheckpointPlace(name=base_pin.reference),
        weights_digest=base_pin.weights_digest,
        layers=facts.config.n_layers,
        parameters=facts.parameters,
    )
    benchmarks, missing = _benchmarks(sweep, settings)
    expander = Expander(file, settings, base, facts, live=_runs_live(sweep, facts))
    candidates = [base, *expander.candidates()]
    _check_names(candidates, file)
    evals = list(_evals(sweep, candidates, facts, benchmarks))
    return Plan(
        sweep=sweep,
        text=file.text,
        folder=file.folder,
        candidates=tuple(candidates),
        evals=tuple(evals),
        missing=tuple(missing),
    )


def _benchmarks(
    sweep: Sweep, settings: Settings
) -> tuple[list[tuple[Suite, Benchmark, SuiteEntry, str]], list[MissingBenchmark]]:
    """The benchmarks whose data is there, with the data's digest; and the others."""
    found: list[tuple[Suite, Benchmark, SuiteEntry, str]] = []
    missing: list[MissingBenchmark] = []
    for entry in sweep.suites:
        suite = load_suite(entry.suite)
        wanted = (
            [suite.benchmark(n) for n in entry.benchmarks] if entry.benchmarks else list(suite.benchmarks)
        )
        for benchmark in wanted:
            status = check(benchmark, settings.datasets)
            if status.location is not None:
                found.append((suite, benchmark, entry, content_digest(status.location)))
            else:
                reason = f"{status.reason} Get it with: {status.command}"
                missing.append(MissingBenchmark(suite=suite.name, benchmark=benchmark.name, reason=reason))
    if not found:
        raise PlanError(f"None of the benchmarks can run here: {missing[0].benchmark}: {missing[0].reason}")
    return found, missing


def _evals(
    sweep: Sweep,
    candidates: list[Candidate],
    facts: SourceFacts,
    benchmarks: list[tuple[Suite, Benchmark, SuiteEntry, str]],
) -> Iterator[PlannedEval]:
    template = _chat_template(sweep, facts)
    scorer = scorer_identity()
    live = _runs_live(sweep, facts)
    slots = _slots(candidates) if live else {}
    for entry in sweep.engines:
        version = installed_version(entry.kind)
        for candidate in candidates:
            place, layers = _place(candidate, live)
            for suite, benchmark, suite_entry, dataset_digest in benchmarks:
                job = EvalJob(
                    weights_digest=candidate.weights_digest,
                    layer_path=candidate.layer_path,
                    suite=suite.name,
                    benchmark=benchmark.name,
                    benchmark_digest=benchmark.digest,
                    dataset_digest=dataset_digest,
                    engine=_engine(entry, version, suite, facts, sweep.trust_remote_code),
                    settings=_settings(suite, template, facts, suite_entry.limit or sweep.limit, sweep),
                    scorer=scorer,
                    place=place,
                    live_layers=layers,
                    tuning=EngineTuning(extra_layer_slots=slots.get(place, 0)),
                )
                yield PlannedEval(candidate=candidate.name, job=job)


def _settings(
    suite: Suite, template: ChatTemplate, facts: SourceFacts, limit: int | None, sweep: Sweep
) -> EvalSettings:
    """The board's own settings; a board that never used a template keeps to that unless the sweep says `on`."""
    if sweep.chat_template == "auto" and suite.settings.chat_template is not None:
        template = suite.settings.chat_template
    settings = suite.eval_settings(template, model_type=facts.config.model_type, limit=limit)
    return settings.model_copy(update={"seeds": sweep.seeds})


def _runs_live(sweep: Sweep, facts: SourceFacts) -> bool:
    """Whether layer paths are switched in a live engine instead of built."""
    mixed = len(set(facts.config.layer_types)) > 1
    return not sweep.materialize and facts.config.model_type in LIVE_FAMILIES and not mixed


def _slots(candidates: list[Candidate]) -> dict[CheckpointPlace, int]:
    """KV-cache slots that each checkpoint's engine needs beyond its own layers, for the longest of its paths."""
    slots: dict[CheckpointPlace, int] = {}
    for candidate in candidates:
        if candidate.layer_path is not None:
            added = len(candidate.layer_path) - candidate.source_layers
            slots[candidate.place] = max(slots.get(candidate.place, 0), added)
    return slots


def _place(candidate: Candidate, live: bool) -> tuple[CheckpointPlace, tuple[int, ...] | None]:
    """Where the weights are, and the path to switch to: live on the source, or built."""
    if candidate.layer_path is None or live:
        return candidate.place, candidate.layer_path
    if candidate.build is None:
        return candidate.place, None
    return CheckpointPlace(artifact=candidate.build.digest), None


def _engine(
    entry: EngineEntry, version: str, suite: Suite, facts: SourceFacts, trust_remote_code: bool
) -> EngineSpec:
    limits = [n for n in (entry.max_length or suite.settings.max_length, facts.config.max_length) if n]
    return EngineSpec(
        kind=entry.kind,
        version=version,
        dtype=entry.dtype,
        quantization=facts.config.quantization,
        kv_cache_dtype=entry.kv_cache_dtype,
        tensor_parallel=entry.tensor_parallel,
        max_length=min(limits) if limits else None,
        trust_remote_code=trust_remote_code,
    )


def _chat_template(sweep: Sweep, facts: SourceFacts) -> ChatTemplate:
    """`auto` resolved once, from the base, for all candidates."""
    if sweep.chat_template == "auto":
        return ChatTemplate.ON if facts.has_chat_template else ChatTemplate.OFF
    if sweep.chat_template == "on" and not facts.has_chat_template:
        raise PlanError(
            f"chat_template is on, but the tokenizer of {sweep.base} has no chat template; use auto or off."
        )
    return ChatTemplate(sweep.chat_template)


def _check_names(candidates: list[Candidate], file: SweepFile) -> None:
    seen: set[str] = set()
    for candidate in candidates:
        if candidate.name in seen:
            raise SweepError(
                f"{file.origin}: two recipes are called {candidate.name!r}; give one of them another `name`."
            )
        seen.add(candidate.name)
