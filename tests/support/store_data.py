"""Records for tests of the store: made by rule, no two alike by accident, with names as long as those of the hub."""

from __future__ import annotations

from datetime import UTC, datetime

from evals.engine import EngineKind, EngineSpec, EngineTuning
from evals.scores import Alarm, AlarmKind, BenchmarkScore, ChatTemplate, EvalSettings, Evaluation, Score
from orchestrator.plan.job import BuildJob, CheckpointPlace, EvalJob, RecipeSource
from orchestrator.provenance import Hardware, Provenance
from orchestrator.store.records import BuildOutcome, CandidateRecord, EvalOutcome, NewRun, PlannedJob
from recipes.origin import MadeFrom

N_DEMO = 20
BENCHMARKS = ("ifeval", "bbh", "math", "gpqa", "musr", "mmlu_pro")
HARDWARE = Hardware(host="node-1", cpu="a processor", cpu_count=2, memory_bytes=2**34)
ENGINE = EngineSpec(kind=EngineKind.TRANSFORMERS, version="5.19.0", dtype="float32")
SETTINGS = EvalSettings(chat_template=ChatTemplate.ON, fewshot_as_multiturn=False, limit=20)
# A checkpoint of the hub is known by its pinned commit.
HUB_BASE = "meta-llama/Meta-Llama-3.1-70B-Instruct@1605565b47bb9346c5515c34102e054115b4f98b"
# Names that a database, a query or a terminal could stumble over.
UNUSUAL_NAMES = (
    'o\'clock "quoted" `ticks` $1 %s :name ; -- /* */ {a,\\b} NULL',
    "名前 – Größe – Ελλάδα – 🦙🧩 – e\u0301 – \u200f\u202eright to left",
    "x" * 300,
    "🦙" * 300,
    " ",
    "{}",
    "NULL",
    "%_\\",
    "a\tb\nc\x1b[31m",
)
ALARM = Alarm(kind=AlarmKind.EMPTY, share=0.2, threshold=0.1)


def new_run(name: str = "a sweep", **fields: str) -> NewRun:
    provenance = Provenance(
        versions={"torch": "2.13.0"},
        python="3.11.9",
        commit="abc",
        hardware=HARDWARE,
        command="mergeboard run x.yaml",
    )
    return NewRun(
        **({"name": name, "sweep": "name: x\n", "sweep_digest": "5" * 16} | fields), provenance=provenance
    )


def build_job(name: str = "built") -> BuildJob:
    source = RecipeSource(name="base", place=HUB_BASE, weights_digest=HUB_BASE)
    return BuildJob(
        recipe=f'{{"recipe": "{name}"}}', recipe_digest=f"recipe-{name}", sources=(source,), seed=3
    )


def eval_job(
    benchmark: str = "bbh", layer_path: tuple[int, ...] | None = None, *, built: str | None = None
) -> EvalJob:
    """An evaluation of the base, of a live layer path of it, or of a built checkpoint."""
    return EvalJob(
        weights_digest=HUB_BASE if built is None else f"recipe-{built}",
        layer_path=layer_path,
        suite="smoke",
        benchmark=benchmark,
        benchmark_digest=f"def-{benchmark}",
        dataset_digest="data",
        engine=ENGINE,
        settings=SETTINGS,
        scorer="scorer=1",
        place=CheckpointPlace(name=HUB_BASE)
        if built is None
        else CheckpointPlace(artifact=f"recipe-{built}"),
        live_layers=layer_path,
        tuning=EngineTuning(batch_size=8),
    )


def candidate_name(position: int) -> str:
    """The base is called so by every plan; the others have names of the length that merges on the hub have."""
    prefix = "mergekit-community/Meta-Llama-3.1-70B-Instruct-della_linear-slerp candidate"
    return "base" if position == 0 else f"{prefix} {position}"


def candidate(position: int, layer_path: tuple[int, ...] | None = None, **fields: str) -> CandidateRecord:
    name = fields.pop("name", candidate_name(position))
    return CandidateRecord(
        position=position,
        name=name,
        is_base=position == 0,
        weights_digest=fields.pop("weights_digest", HUB_BASE),
        layer_path=layer_path,
        layers=30 + position,
        parameters=135_000_000 + position,
        recipe=fields.pop("recipe", None),
    )


def demo_run(name: str = "a sweep") -> tuple[NewRun, list[CandidateRecord], list[PlannedJob]]:
    """A base, a live layer path and a built checkpoint, two benchmarks each: one build and six evaluations.

    17 further candidates have the base's weights and share its evaluations.
    """
    path = (0, 1, 2, 1, 2, 3)
    built = candidate(2, weights_digest="recipe-built", recipe='{"recipe": "built"}').model_copy(
        update={"made_from": (MadeFrom(name=HUB_BASE, weights_digest=HUB_BASE, quantization="Q4_1"),)}
    )
    planned = [PlannedJob(job=build_job(), candidates=(2,))]
    for benchmark in ("bbh", "ifeval"):
        planned.append(PlannedJob(job=eval_job(benchmark), candidates=(0, *range(3, N_DEMO))))
        planned.append(PlannedJob(job=eval_job(benchmark, path), candidates=(1,)))
        planned.append(PlannedJob(job=eval_job(benchmark, built="built"), candidates=(2,)))
    again = [candidate(position) for position in range(3, N_DEMO)]
    return new_run(name), [candidate(0), candidate(1, path), built, *again], planned


def sweep_of_paths(
    layers: int, name: str = "a grid"
) -> tuple[NewRun, list[CandidateRecord], list[PlannedJob]]:
    """All (i, j) of a checkpoint and its base, over six benchmarks: 80 layers make 3,241 paths."""
    paths: list[tuple[int, ...] | None] = [None]
    paths += [tuple([*range(j), *range(i, layers)]) for i in range(layers) for j in range(i + 1, layers + 1)]
    planned = [
        PlannedJob(job=eval_job(benchmark, path), candidates=(position,))
        for position, path in enumerate(paths)
        for benchmark in BENCHMARKS
    ]
    return new_run(name), [candidate(position, path) for position, path in enumerate(paths)], planned


def build_outcome(job: BuildJob) -> BuildOutcome:
    now = datetime.now(UTC)
    return BuildOutcome(
        artifact=job.digest,
        path=f"artifacts/{job.digest}",
        size_bytes=269_000_000,
        parameters=135_000_000,
        layers=30,
        hardware=HARDWARE,
        started_at=now,
        ended_at=now,
    )


def eval_outcome(job: EvalJob, *, value: float = 0.5, subsets: int = 2, host: str = "node-1") -> EvalOutcome:
    now = datetime.now(UTC)
    scores = tuple(
        Score(
            benchmark=job.benchmark,
            subset=f"{job.benchmark}_{number}",
            metric="acc_norm",
            value=value,
            stderr=None if number else 0.01,
            n=20,
            n_full=250,
            lower_bound=0.25,
            task_version="1.0",
            alarms=(ALARM,) if number else (),
        )
        for number in range(subsets)
    )
    result = BenchmarkScore(
        benchmark=job.benchmark,
        title=job.benchmark.upper(),
        metric="acc_norm",
        raw=value,
        normalized=100 * value,
        n=20 * subsets,
        partial=True,
        comparable_to_board=False,
        remark="limit 20",
        alarms=(ALARM,),
    )
    evaluation = Evaluation(
        suite=job.suite,
        benchmark_digest=job.benchmark_digest,
        engine=job.engine,
        settings=job.settings,
        scores=scores,
        result=result,
        n_requests=40,
        n_replayed=10,
        duration_s=1.5,
    )
    return EvalOutcome(
        evaluation=evaluation,
        samples_path=f"samples/{job.digest}.parquet",
        samples_sha256="0" * 64,
        hardware=HARDWARE.model_copy(update={"host": host}),
        started_at=now,
        ended_at=now,
    )


def outcome_of(job: BuildJob | EvalJob) -> BuildOutcome | EvalOutcome:
    return build_outcome(job) if isinstance(job, BuildJob) else eval_outcome(job)
