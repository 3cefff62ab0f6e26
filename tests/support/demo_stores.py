"""Small stores with runs as the product writes them: real suites, real samples on disk, scores that follow from the samples.

The sides are made by rule: a question has a difficulty, a candidate an ability; which answers flip follows from a seed.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from evals.documents import documents_path, write_documents
from evals.engine import EngineSpec
from evals.normalize import benchmark_score
from evals.samples import write_samples
from evals.scores import Alarm, EvalSettings, Evaluation
from evals.suite import Benchmark, Suite, load_suite
from orchestrator.plan.job import BuildJob, CheckpointPlace, EvalJob, RecipeSource
from orchestrator.provenance import Hardware
from orchestrator.store import Store
from orchestrator.store.records import (
    AttemptRecord,
    BuildOutcome,
    CandidateRecord,
    EvalOutcome,
    Failure,
    NewRun,
    PlannedJob,
    RunLease,
    RunState,
)
from orchestrator.store.tables import attempts, outcomes, run_jobs, runs
from tests.support.claim_store import claims, imported
from tests.support.made_results import (
    BASE_DIGEST,
    DEMO,
    ENGINE,
    HARDWARE,
    N_LAYERS,
    Made,
    documents_of,
    provenance,
    samples_of,
    scores_of,
)


@dataclass
class Maker:
    """Writes a run into a store through the store's own interface."""

    store: Store
    home: Path
    suite: Suite
    n: int = 24
    whole: bool = True
    hardware: Hardware = HARDWARE
    seed: int = 0
    alarms: tuple[Alarm, ...] = ()
    name: str = "demo"
    engine: EngineSpec = ENGINE

    def create(self, candidates: tuple[Made, ...] = DEMO) -> tuple[RunLease, list[PlannedJob]]:
        """Write the run and take its lease."""
        planned = self.planned(candidates)
        return self.write(candidates, planned), planned

    def planned(self, candidates: tuple[Made, ...] = DEMO) -> list[PlannedJob]:
        """The jobs of a run."""
        planned: list[PlannedJob] = []
        for position, made in enumerate(candidates):
            if made.built:
                planned.append(PlannedJob(job=self._build_job(made), candidates=(position,)))
            for benchmark in self.suite.benchmarks:
                planned.append(PlannedJob(job=self._eval_job(made, benchmark), candidates=(position,)))
        return planned

    def write(self, candidates: tuple[Made, ...], planned: list[PlannedJob]) -> RunLease:
        """Write a run with these jobs and take its lease."""
        run = NewRun(
            name=self.name,
            sweep=f"name: {self.name}\nbase: demo/SmolLM2-135M-Instruct\n",
            sweep_digest="5eed",
            provenance=provenance(),
            plan=f'{{"folder": "/sweeps", "jobs": {len(planned)}, "missing": []}}',
        )
        records = [_record(position, made) for position, made in enumerate(candidates)]
        self.store.create_run(run, records, planned)
        for benchmark in self.suite.benchmarks:
            path = self.home / documents_path(benchmark.digest, "da7a")
            if not path.exists():
                write_documents(path, documents_of(benchmark, max(self.n, 24)))
        lease = self.store.take_lease(run.id, "host:1:00")
        assert lease is not None
        return lease

    def run(self, candidates: tuple[Made, ...] = DEMO, *, end: RunState | None = RunState.DONE) -> str:
        """A whole run, executed."""
        lease, planned = self.create(candidates)
        for item in planned:
            self.execute(lease, item, candidates[item.candidates[0]])
        if end is not None:
            self.store.finish_run(lease, end)
        return lease.run_id

    def execute(self, lease: RunLease, item: PlannedJob, made: Made) -> None:
        """One attempt at one job, with its outcome."""
        attempt = self.store.start_attempt(lease, item.job.digest, node=self.hardware.host, worker="actor-1")
        if not isinstance(attempt, AttemptRecord):
            return
        if made.failure is not None:
            tail = "loading weights\nTraceback (most recent call last):\n  RuntimeError: out of memory\n"
            failure = Failure(
                failure_class=made.failure, message="The engine ran out of memory.", log_tail=tail
            )
            self.store.fail_attempt(attempt.id, failure, will_retry=False)
            return
        outcome = self.built(item.job) if isinstance(item.job, BuildJob) else self.scored(item.job, made)
        self.store.finish_attempt(attempt.id, outcome)

    def _eval_job(self, made: Made, benchmark: Benchmark) -> EvalJob:
        return EvalJob(
            weights_digest=made.weights_digest,
            layer_path=made.layer_path,
            suite=self.suite.name,
            benchmark=benchmark.name,
            benchmark_digest=benchmark.digest,
            dataset_digest="da7a",
            engine=self.engine,
            settings=EvalSettings(
                chat_template=made.template,
                fewshot_as_multiturn=True,
                limit=None if self.whole else self.n,
            ),
            scorer=f"mergeboard-scorer=1 seed={self.seed}",
            place=CheckpointPlace(artifact=self._build_job(made).digest)
            if made.built
            else CheckpointPlace(name="demo/SmolLM2-135M-Instruct"),
            live_layers=made.layer_path,
        )

    def _build_job(self, made: Made) -> BuildJob:
        source = RecipeSource(name="base", place="demo/SmolLM2-135M-Instruct", weights_digest=BASE_DIGEST)
        recipe = f"merge_method: slerp\nname: {made.name}\n"
        return BuildJob(recipe=recipe, recipe_digest=made.weights_digest, sources=(source,), seed=3)

    def built(self, job: BuildJob) -> BuildOutcome:
        now = datetime.now(UTC)
        return BuildOutcome(
            artifact=job.digest,
            path=f"artifacts/{job.digest}",
            size_bytes=269_000_000,
            parameters=134_515_008,
            layers=N_LAYERS,
            hardware=self.hardware,
            started_at=now - timedelta(seconds=6),
            ended_at=now,
        )

    def scored(self, job: EvalJob, made: Made) -> EvalOutcome:
        benchmark = self.suite.benchmark(job.benchmark)
        samples = samples_of(made, benchmark, self.n, seed=self.seed)
        scores = scores_of(benchmark, samples, whole=self.whole, alarms=self.alarms)
        path = self.home / "samples" / f"{job.digest}.parquet"
        write_samples(path, samples)
        now = datetime.now(UTC)
        seconds = 20 + len(samples) * 0.4
        return EvalOutcome(
            evaluation=Evaluation(
                suite=job.suite,
                benchmark_digest=job.benchmark_digest,
                engine=job.engine,
                settings=job.settings,
                scores=scores,
                result=benchmark_score(
                    benchmark, scores, differences=self.suite.differences(job.settings, None)
                ),
                n_requests=len(samples),
                n_replayed=0,
                duration_s=seconds,
            ),
            samples_path=str(path.relative_to(self.home)),
            samples_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            hardware=self.hardware,
            started_at=now - timedelta(seconds=seconds),
            ended_at=now,
        )


def store_url(home: Path) -> str:
    """The store that a page on this home opens: the environment's, or the home's own file."""
    return os.environ.get("MERGEBOARD_DATABASE_URL") or f"sqlite:///{home / 'store.sqlite'}"


def demo_store(home: Path, *, suite: str = "smoke", **fields: object) -> str:
    """A store with one finished run of the demo's recipes; its id."""
    home.mkdir(parents=True, exist_ok=True)
    with Store.open(store_url(home)) as store:
        run_id = Maker(store, home, load_suite(suite), **fields).run()  # type: ignore[arg-type] # any of its fields
        claims(store, run_id)
        imported(store)
    spread(home, run_id)
    return run_id


def spread(home: Path, run_id: str, minutes: float = 11.0) -> None:
    """Let a made run look as if it had taken its time: outcomes come in one after another, until a minute ago."""
    engine = sa.create_engine(store_url(home).replace("postgresql://", "postgresql+psycopg://"))
    end = datetime.now(UTC) - timedelta(minutes=1)
    begin = end - timedelta(minutes=minutes)
    with engine.begin() as connection:
        mine = outcomes.join(run_jobs, run_jobs.c.job_digest == outcomes.c.job_digest)
        query = sa.select(outcomes.c.job_digest).select_from(mine).where(run_jobs.c.run_id == run_id)
        done = connection.execute(query.order_by(outcomes.c.accepted_at)).scalars().all()
        step = (end - begin) / max(1, len(done))
        for number, digest in enumerate(done, start=1):
            start, at = begin + (number - 1) * step, begin + number * step
            times = {"started_at": start, "ended_at": at}
            this = outcomes.c.job_digest == digest
            connection.execute(sa.update(outcomes).where(this).values(accepted_at=at, **times))
            tries = attempts.c.job_digest == digest
            connection.execute(sa.update(attempts).where(tries).values(heartbeat_at=at, **times))
        connection.execute(
            sa.update(runs).where(runs.c.id == run_id).values(created_at=begin, started_at=begin)
        )
        connection.execute(
            sa.update(runs).where(runs.c.id == run_id, runs.c.ended_at.is_not(None)).values(ended_at=end)
        )
    engine.dispose()


def _record(position: int, made: Made) -> CandidateRecord:
    layers = len(made.layer_path) if made.layer_path is not None else N_LAYERS
    return CandidateRecord(
        position=position,
        name=made.name,
        is_base=position == 0,
        weights_digest=made.weights_digest,
        layer_path=made.layer_path,
        recipe=f"merge_method: slerp\nname: {made.name}\n" if made.built else None,
        layers=layers,
        parameters=28_311_552 + 3_540_000 * layers,
    )
