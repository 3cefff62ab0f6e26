"""Runs one build, or an engine that serves evaluations one after another, on a node.

The only place that catches every exception: errors are returned as a classified Failure with the tail of the
attempt's log. A worker never opens the store.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from evals.engine import PathEngine
from evals.engines import open_engine
from evals.errors import EngineError, SamplesError
from evals.harness import Until, evaluate, evaluate_until_decided, help_out
from evals.probes import ProbeError
from evals.probes.evaluate import ProbeRun
from evals.samples import StoredSamples, write_samples
from evals.scores import Evaluation, Sample
from evals.suite import define_suite, suite_with
from orchestrator.plan.job import BaseSamples, BuildJob, Decide, EvalJob, Task
from orchestrator.provenance import hardware
from orchestrator.settings import WorkerContext
from orchestrator.store.records import BuildOutcome, EarlyOutcome, EvalOutcome, Failure, FailureClass, Outcome
from orchestrator.worker.attempt_files import ProgressFile, captured, share_log
from orchestrator.worker.failures import batch_size, failure_of
from orchestrator.worker.inputs import Inputs
from recipes.artifact import ArtifactStore
from recipes.checkpoint import Checkpoint
from recipes.merge import BuildOptions, MergekitProcess, build
from recipes.origin import write_origin
from recipes.recipe import Recipe
from recipes.verification import verified_source


def run_build(context: WorkerContext, attempt_id: str, job: BuildJob) -> Outcome:
    """Build one recipe into the artifact store; an artifact that exists is reused."""
    log = context.home_path / "logs" / f"{attempt_id}.log"
    try:
        with captured(log):
            return _build(context, job)
    except BaseException as error:  # noqa: BLE001 - the one place that turns everything into a Failure
        return failure_of(error, log)


class EngineHost:
    """Holds one engine and serves jobs on it; becomes a Ray actor.

    After an error that leaves the process without a usable engine (a lost CUDA context, a dead worker of a tensor-parallel
    engine) every further job fails at once with that error, until the executor replaces the process.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._inputs = Inputs(context)
        self._engine: PathEngine | None = None
        self._holds: tuple[str, str] | None = None
        self._opened_for: EvalJob | None = None
        self._start_s: float | None = None
        self._broken: Failure | None = None

    def run(self, tasks: Sequence[Task]) -> tuple[Outcome, ...]:
        """Evaluate a batch and return one outcome per job; opens the engine for the first job.

        Errors in a batch are located by bisection, so that a layer path that fails does not affect the others.
        An engine that does not start, or breaks, fails the whole batch: bisection cannot help in this process.
        """
        if self._broken is not None:
            return (self._broken,) * len(tasks)
        logs = [self._context.home_path / "logs" / f"{task.attempt_id}.log" for task in tasks]
        jobs = [task.job for task in tasks if isinstance(task.job, EvalJob)]
        started = False
        try:
            with captured(logs[0]):
                share_log(logs)
                for suite in {task.suite.digest: task.suite for task in tasks if task.suite}.values():
                    define_suite(suite)
                begun_at = datetime.now(UTC)
                report = ProgressFile(self._context.home_path / "journals" / jobs[0].digest)
                engine = self._engine_for(jobs[0], report.engine_start)
                started = True
                bases = {task.job.digest: task.base for task in tasks}
                return tuple(self._evaluate(engine, jobs, bases, report, begun_at, logs[0]))
        except BaseException as error:  # noqa: BLE001 - the one place that turns everything into a Failure
            # The engine may have been opened for a job with another batch size.
            used = batch_size(self._opened_for or jobs[0])
            failure = failure_of(error, logs[0]).model_copy(update={"batch_size": used})
        if failure.failure_class is FailureClass.BROKEN_ENGINE:
            self._broken = failure
            return (failure.model_copy(update={"jobs": len(tasks) if started else 1}),) * len(tasks)
        if len(tasks) == 1 or not started:
            return (failure,) * len(tasks)
        half = len(tasks) // 2
        return (*self.run(tasks[:half]), *self.run(tasks[half:]))

    def help(self, task: Task, seconds: float) -> bool:
        """Answer requests of another engine's evaluation for at most `seconds`; True if more may be left.

        Errors are raised: the leading engine continues without help, and reports lasting errors itself.
        """
        job = task.job
        assert isinstance(job, EvalJob)
        if self._broken is not None:
            raise EngineError(self._broken.message)
        if task.suite is not None:
            define_suite(task.suite)
        log = self._context.home_path / "logs" / f"{task.attempt_id}-help-{os.getpid()}.log"
        with captured(log):
            engine = self._engine_for(job)
            self._inputs.require_planned(job, self._mirror)
            self._load(engine, job)
            engine.set_layer_path(job.live_layers)
            may_be_more = help_out(
                engine,
                suite_with(job.suite, job.benchmark, job.benchmark_digest).benchmark(job.benchmark),
                job.settings,
                mirror=self._mirror,
                journal_dir=self._context.home_path / "journals" / job.digest,
                seconds=seconds,
            )
        log.unlink(missing_ok=True)
        return may_be_more

    def close(self) -> None:
        """Close the engine and free its memory."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        self._inputs.release()

    def _evaluate(
        self,
        engine: PathEngine,
        jobs: Sequence[EvalJob],
        bases: Mapping[str, BaseSamples | None],
        report: ProgressFile,
        started: datetime,
        log: Path,
    ) -> list[Outcome]:
        if jobs[0].is_probe:
            outcomes = list(self._probe(engine, jobs, report, log))
        else:
            outcomes = [self._benchmark(engine, job, bases[job.digest], report, started) for job in jobs]
        start_s, self._start_s = self._start_s, None
        if isinstance(outcomes[0], EvalOutcome | EarlyOutcome):
            outcomes[0] = outcomes[0].model_copy(update={"engine_start_s": start_s})
        return outcomes

    def _benchmark(
        self,
        engine: PathEngine,
        job: EvalJob,
        base: BaseSamples | None,
        report: ProgressFile,
        started: datetime,
    ) -> EvalOutcome | EarlyOutcome:
        self._require_planned(job)
        self._load(engine, job)
        engine.set_layer_path(job.live_layers)
        suite = suite_with(job.suite, job.benchmark, job.benchmark_digest)
        benchmark, samples = suite.benchmark(job.benchmark), self._samples_path(job)
        journal = self._context.home_path / "journals" / job.whole.digest
        if job.decide is None:
            evaluation = evaluate(
                engine,
                suite,
                benchmark,
                job.settings,
                mirror=self._mirror,
                journal_dir=journal,
                samples_path=samples,
                home=self._context.home_path,
                on_progress=report,
            )
            self._require_planned(job)
            return self._outcome(evaluation, samples, started)
        result, sequence = evaluate_until_decided(
            engine,
            suite,
            benchmark,
            job.settings,
            Until(job.decide.plan, self._base_samples(job.decide, base), job.decide.part),
            mirror=self._mirror,
            journal_dir=journal,
            samples_path=samples,
            home=self._context.home_path,
            on_progress=report,
        )
        self._require_planned(job)
        if isinstance(result, Evaluation):
            return self._outcome(result, samples, started).model_copy(update={"sequence": sequence})
        return EarlyOutcome(early=result, hardware=hardware(), started_at=started, ended_at=datetime.now(UTC))

    def _base_samples(self, decide: Decide, base: BaseSamples | None) -> tuple[Sample, ...]:
        """The base's samples, checked against their hash."""
        if base is None:
            raise SamplesError(
                f"The base's answers (job {decide.against}) did not come with the job that is decided against them; run the sweep again."
            )
        owner = f"job {decide.against}"
        return StoredSamples(self._context.home_path, base.path, base.sha256, owner).read()

    def _probe(
        self, engine: PathEngine, jobs: Sequence[EvalJob], report: ProgressFile, log: Path
    ) -> Iterator[Outcome]:
        """Evaluate one probe on the layer paths of all these jobs in one batch."""
        started = datetime.now(UTC)
        for job in jobs:
            self._require_planned(job)
        self._load(engine, jobs[0])  # jobs of one batch differ only in their layer path
        run = ProbeRun(engine, jobs[0].benchmark, jobs[0].settings)
        paths = [job.live_layers for job in jobs]
        journals = [self._context.home_path / "journals" / job.whole.digest for job in jobs]
        part = jobs[0].decide
        if part is not None and part.items is not None:
            for early in run.measure_part(paths, part.items, part.plan, journals, report.count):
                now = datetime.now(UTC)
                yield (
                    failure_of(early, log)
                    if isinstance(early, ProbeError)
                    else EarlyOutcome(early=early, hardware=hardware(), started_at=started, ended_at=now)
                )
            return
        for job, result in zip(jobs, run.measure(paths, report.count, journals), strict=True):
            if isinstance(result, ProbeError):
                yield failure_of(result, log)
                continue
            samples = self._samples_path(job)
            write_samples(samples, result.samples)
            yield self._outcome(result.evaluation, samples, started)

    @property
    def _mirror(self) -> Path | None:
        return Path(self._context.datasets) if self._context.datasets else None

    def _samples_path(self, job: EvalJob) -> Path:
        path = self._context.home_path / "samples" / f"{job.digest}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _outcome(self, evaluation: Evaluation, samples: Path, started: datetime) -> EvalOutcome:
        return EvalOutcome(
            evaluation=evaluation,
            samples_path=str(samples.relative_to(self._context.home_path)),
            samples_sha256=hashlib.sha256(samples.read_bytes()).hexdigest(),
            hardware=hardware(),
            started_at=started,
            ended_at=datetime.now(UTC),
        )

    def _require_planned(self, job: EvalJob) -> None:
        """Raise an error if checkpoint, data, definitions or versions of a job are not the planned ones.

        Called before an evaluation, which reads tokenizer and data by name, and after it, to detect changes.
        """
        self._inputs.checkpoint(job.place, job.opened_digest)
        self._inputs.require_planned(job, self._mirror)

    def _load(self, engine: PathEngine, job: EvalJob) -> None:
        """Make the engine hold the weights of a job: those of a merge or built layer path, or the checkpoint's own after them.

        The engine is closed if that fails, so that the next job opens it with whole weights.
        """
        live = job.live_merge
        digest = live.weights_digest if live else None
        if engine.weights.whole and engine.weights.digest == digest:
            return
        with contextlib.ExitStack() as on_error:
            on_error.callback(self.close)
            engine.load_weights(self._inputs.weights(live) if live else None)
            if live:
                self._inputs.weights(live)  # no source changed while it was read
            on_error.pop_all()

    def _engine_for(self, job: EvalJob, on_start: Callable[[], None] = lambda: None) -> PathEngine:
        """The engine of a job; its weights are verified before and after they are loaded."""
        holds = (job.engine_key, job.opened_digest)
        checkpoint = self._inputs.checkpoint(job.place, job.opened_digest)
        if self._engine is not None and self._holds == holds:
            return self._engine
        self.close()
        on_start()
        self._inputs.checkpoint(
            job.place, job.opened_digest
        )  # leased again, since closing released the lease
        begun = time.monotonic()
        self._opened_for = job
        self._engine = open_engine(job.engine, checkpoint, job.tuning)
        self._start_s = time.monotonic() - begun
        self._holds = holds
        self._inputs.checkpoint(job.place, job.opened_digest)
        return self._engine


def _build(context: WorkerContext, job: BuildJob) -> BuildOutcome:
    started = datetime.now(UTC)
    recipe = Recipe.parse(job.recipe, origin=f"recipe {job.digest}")
    home, pickles = context.home_path, job.allow_pickles

    def sources() -> dict[str, Path]:
        """Directories of the sources, verified against the plan."""
        return {
            s.name: verified_source(s.place, s.weights_digest, home=home, allow_pickles=pickles)
            for s in job.sources
        }

    options = BuildOptions(
        seed=job.seed, trust_remote_code=job.trust_remote_code, allow_pickles=job.allow_pickles
    )
    report = ProgressFile(context.home_path / "journals" / job.digest)

    def write(out: Path) -> None:
        folders = sources()
        build(recipe, folders, out, options=options, on_progress=report.build, mergekit=_mergekit())
        sources()  # raises an error if a source changed while it was read
        write_origin(out, job.digest, {s.place: (s.weights_digest, folders[s.name]) for s in job.sources})

    artifact = ArtifactStore(context.home_path / "artifacts").build(
        job.digest, write, meta={"recipe": job.recipe}
    )
    checkpoint = Checkpoint.open(artifact.path)
    shutil.rmtree(context.home_path / "journals" / job.digest, ignore_errors=True)
    return BuildOutcome(
        artifact=job.digest,
        path=str(artifact.path.relative_to(context.home_path)),
        size_bytes=artifact.size_bytes,
        parameters=checkpoint.parameters,
        layers=checkpoint.n_layers,
        hardware=hardware(),
        started_at=started,
        ended_at=datetime.now(UTC),
    )


@functools.cache
def _mergekit() -> MergekitProcess:
    """This process's mergekit, cached: it takes seconds to start, and Ray reuses processes for builds."""
    return MergekitProcess()


def read_and_write(mark: str, token: str) -> str | None:
    """Check that this node can read a file of the driver and write beside it; the problem, or None."""
    path = Path(mark)
    try:
        if path.read_text() != token:
            return "it reads another file than the driver wrote"
        probe = path.with_name(f"{path.name}-{os.getpid()}")
        probe.write_text(token)
        probe.unlink()
    except OSError as error:
        return f"{error.strerror} ({error.filename})"
    return None
