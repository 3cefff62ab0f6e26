"""From error texts to failure classes to what is tried again; engines that break or do not start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from evals import faults
from evals.engine import EngineSpec, EngineTuning
from evals.errors import EngineError, EngineStartError, Fault
from orchestrator.cluster import ReadyJobs
from orchestrator.plan.job import EvalJob, Task
from orchestrator.run.failure_table import failures_page
from orchestrator.run.retries import RETRIES, as_retried, is_retried
from orchestrator.settings import WorkerContext
from orchestrator.store.records import EvalOutcome, Failure, FailureClass, Outcome
from orchestrator.worker import worker
from orchestrator.worker.failures import batch_size, classify, failure_of, lost_failure
from orchestrator.worker.inputs import Inputs
from orchestrator.worker.worker import EngineHost
from tests.support.stand_in_plan import stand_in_plan
from tests.support.store_data import eval_outcome

ILLEGAL = RuntimeError("CUDA error: an illegal memory access was encountered")
BUSY = (
    "vLLM does not start on /x: Free memory on device cuda:0 (70.5/79.18 GiB) on startup is less than desired GPU memory "
    "utilization (0.9, 71.26 GiB)."
)
WORKER_FAILED = "WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause."


@pytest.fixture(scope="module")
def jobs() -> list[EvalJob]:
    """Jobs that differ in their layer path, and may run together."""
    return [planned.job for planned in stand_in_plan(8).evals]


def failure(kind: FailureClass, message: str = "x", **values: int) -> Failure:
    return Failure(failure_class=kind, message=message, **values)


def retried(job: EvalJob, of: Failure, count: int = 1) -> EvalJob:
    again = as_retried(job, of, count)
    assert isinstance(again, EvalJob)
    assert again.digest == job.digest
    assert again.engine_key == job.engine_key
    return again


@pytest.mark.parametrize("row", faults.TABLE, ids=lambda row: " ".join(row.marks)[:60])
def test_each_text_has_its_class_whatever_it_is_raised_as(row: faults.FaultText) -> None:
    for error in (RuntimeError(row.example), EngineError(row.example)):
        assert classify(error) is FailureClass(row.fault)
    assert classify(faults.start_error(Path("/x"), RuntimeError(row.example), "")) is FailureClass(row.fault)


def test_every_fault_is_a_class_and_only_the_checkpoints_are_for_good() -> None:
    for fault in Fault:
        assert is_retried(FailureClass(fault), 1) is (fault is not Fault.BAD_CHECKPOINT)


def test_the_page_shows_the_tables() -> None:
    page = Path(__file__).parents[3] / "docs" / "failures.md"
    assert page.read_text() == failures_page(), (
        "run `python -m orchestrator.run.failure_table > docs/failures.md`"
    )


def test_memory_comes_back_by_halves_of_what_was_used(jobs: list[EvalJob]) -> None:
    job = jobs[0]
    seen = []
    for _ in range(RETRIES[FailureClass.OUT_OF_MEMORY]):
        job = retried(job, failure(FailureClass.OUT_OF_MEMORY, batch_size=job.tuning.batch_size or 256))
        seen.append((job.tuning.batch_size, job.tuning.gpu_memory_share))
    assert seen == [(128, 0.85), (64, 0.8), (32, 0.75)]
    small = job.model_copy(update={"tuning": EngineTuning(gpu_memory_share=0.3, batch_size=1)})
    assert retried(small, failure(FailureClass.OUT_OF_MEMORY)).tuning == small.tuning


def test_the_batch_of_an_engine_is_that_of_its_node(jobs: list[EvalJob]) -> None:
    assert batch_size(jobs[0]) == 64, "the CPU build"
    assert batch_size(jobs[0].model_copy(update={"tuning": EngineTuning(batch_size=7)})) == 7


def test_what_does_not_fit_gets_more_of_the_gpu_once(jobs: list[EvalJob]) -> None:
    again = retried(jobs[0], failure(FailureClass.TOO_LARGE, batch_size=256))
    assert (again.tuning.batch_size, again.tuning.gpu_memory_share) == (128, 0.95)
    assert not is_retried(FailureClass.TOO_LARGE, 2)


@pytest.mark.parametrize(
    ("free", "share"),
    [("70.5", 0.87), ("60.0", 0.74), ("20.0", 0.9), ("79.0", 0.9), ("0.00", 0.9)],
)
def test_a_busy_gpu_is_shared_if_most_of_it_is_free(jobs: list[EvalJob], free: str, share: float) -> None:
    again = retried(jobs[0], failure(FailureClass.BUSY_GPU, BUSY.replace("70.5", free)))
    assert again.tuning.gpu_memory_share == share
    assert again.tuning.batch_size is None


def test_jobs_whose_batch_broke_an_engine_run_alone(jobs: list[EvalJob]) -> None:
    probes = [job.model_copy(update={"suite": "probes", "benchmark": "p"}) for job in jobs]
    assert len({job.batch_key for job in probes}) == 1
    broken = failure(FailureClass.BROKEN_ENGINE, jobs=8)
    again = [retried(job, broken) for job in probes]
    assert [job.batch_key for job in again] == [None] * 8
    queue = ReadyJobs.of(again).queue(again[0].engine_key)
    assert [len(queue.take()) for _ in range(len(queue))] == [1] * 8
    assert retried(probes[0], failure(FailureClass.BROKEN_ENGINE, jobs=1)) == probes[0]
    # A node may be lost; a batch that loses two is suspect.
    lost = failure(FailureClass.LOST_NODE, jobs=8)
    assert retried(probes[0], lost, 1) == probes[0]
    assert retried(probes[0], lost, 2).alone


class ScriptedHost(EngineHost):
    """The real host; `serve` stands for what the engine does with a job."""

    serve: Callable[[EvalJob], EvalOutcome]

    def _benchmark(self, engine: object, job: EvalJob, *rest: object) -> EvalOutcome:
        return self.serve(job)


class Opened:
    """An engine that is only opened and closed."""

    def close(self) -> None:
        """Nothing to free."""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[EngineSpec]:
    """Engines that were opened."""
    specs: list[EngineSpec] = []

    def open_engine(spec: EngineSpec, *rest: object) -> Opened:
        specs.append(spec)
        return Opened()

    monkeypatch.setattr(worker, "open_engine", open_engine)
    monkeypatch.setattr(Inputs, "checkpoint", lambda *place: Path("/nowhere"))
    monkeypatch.setattr(Inputs, "require_planned", lambda *job: None)
    return specs


def host(home: Path, serve: Callable[[EvalJob], EvalOutcome]) -> ScriptedHost:
    made = ScriptedHost(WorkerContext(home=str(home), datasets=None))
    made.serve = serve  # type: ignore[method-assign]
    return made


def tasks_of(jobs: list[EvalJob]) -> list[Task]:
    return [Task(attempt_id=f"a{number}", job=job) for number, job in enumerate(jobs)]


def classes(outcomes: tuple[Outcome, ...]) -> list[FailureClass | None]:
    return [o.failure_class if isinstance(o, Failure) else None for o in outcomes]


def test_nothing_runs_on_a_broken_engine(home: Path, jobs: list[EvalJob], opened: list[EngineSpec]) -> None:
    served: list[str] = []

    def serve(job: EvalJob) -> EvalOutcome:
        served.append(job.digest)
        if len(served) == 2:
            raise ILLEGAL
        return eval_outcome(job)

    broken = host(home, serve)
    outcomes = broken.run(tasks_of(jobs[:4]))
    assert classes(outcomes) == [FailureClass.BROKEN_ENGINE] * 4
    assert [o.jobs for o in outcomes if isinstance(o, Failure)] == [4] * 4
    assert len(served) == 2, "no half is tried on the dead engine"
    later = broken.run(tasks_of(jobs[4:6]))
    assert classes(later) == [FailureClass.BROKEN_ENGINE] * 2
    assert len(served) == 2
    assert len(opened) == 1
    with pytest.raises(EngineError, match="illegal memory access"):
        broken.help(tasks_of(jobs)[0], 1.0)


def test_another_error_is_still_found_by_halves(
    home: Path, jobs: list[EvalJob], opened: list[EngineSpec]
) -> None:
    def serve(job: EvalJob) -> EvalOutcome:
        if job == jobs[2]:
            raise IndexError("list index out of range")
        return eval_outcome(job)

    outcomes = host(home, serve).run(tasks_of(jobs[:4]))
    assert classes(outcomes) == [None, None, FailureClass.UNKNOWN, None]
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EngineStartError(BUSY, Fault.BUSY_GPU), FailureClass.BUSY_GPU),
        (EngineStartError("x", Fault.TOO_LARGE), FailureClass.TOO_LARGE),
        (EngineError("The checkpoint is quantised."), FailureClass.BAD_CHECKPOINT),
    ],
)
def test_an_engine_that_does_not_start_is_tried_once_for_the_whole_batch(
    home: Path, jobs: list[EvalJob], monkeypatch: pytest.MonkeyPatch, error: Exception, kind: FailureClass
) -> None:
    tried: list[object] = []

    def open_engine(*arguments: object) -> Opened:
        tried.append(arguments)
        raise error

    monkeypatch.setattr(worker, "open_engine", open_engine)
    monkeypatch.setattr(Inputs, "checkpoint", lambda *place: Path("/nowhere"))
    monkeypatch.setattr(Inputs, "require_planned", lambda *job: None)
    outcomes = host(home, eval_outcome).run(tasks_of(jobs))
    assert classes(outcomes) == [kind] * len(jobs)
    assert len(tried) == 1
    assert all(o.jobs == 1 and o.batch_size == 64 for o in outcomes if isinstance(o, Failure))


def test_the_batch_is_that_of_the_open_engine(
    home: Path, jobs: list[EvalJob], opened: list[EngineSpec]
) -> None:
    def serve(job: EvalJob) -> EvalOutcome:
        if job == jobs[1]:
            raise MemoryError
        return eval_outcome(job)

    serving = host(home, serve)
    first = jobs[0].model_copy(update={"tuning": EngineTuning(batch_size=24)})
    serving.run(tasks_of([first]))
    (failed,) = serving.run(tasks_of([jobs[1]]))
    assert isinstance(failed, Failure)
    assert (failed.failure_class, failed.batch_size) == (FailureClass.OUT_OF_MEMORY, 24)
    assert len(opened) == 1


def test_the_cause_is_in_the_log_where_a_worker_did_not_start(tmp_path: Path) -> None:
    error = EngineStartError(f"vLLM does not start on /x: {WORKER_FAILED}\nThe end of its log:\n")
    log = tmp_path / "a.log"
    assert failure_of(error, log).failure_class is FailureClass.ENGINE_START
    log.write_text(
        "noise\n" * 50_000
        + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1 GiB\n"
        + "end\n" * 100
    )
    found = failure_of(error, log)
    assert found.failure_class is FailureClass.OUT_OF_MEMORY
    assert found.message.endswith("more memory.")


def test_a_process_that_died_is_asked_for_its_log(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert lost_failure(log) is None
    log.write_text("Loading weights\n")
    assert lost_failure(log) is None
    log.write_text(
        "[rank0]:[E ProcessGroupNCCL.cpp:577] [Rank 0] Some NCCL operations have failed or timed out.\n"
    )
    found = lost_failure(log)
    assert found is not None
    assert found.failure_class is FailureClass.BROKEN_ENGINE
    assert "NCCL_DEBUG" in found.message


def test_the_seconds_of_a_start_come_with_the_first_outcome(
    home: Path, jobs: list[EvalJob], opened: list[EngineSpec]
) -> None:
    serving = host(home, eval_outcome)
    first, second = serving.run(tasks_of(jobs[:2]))
    (third,) = serving.run(tasks_of(jobs[2:3]))
    assert isinstance(first, EvalOutcome)
    assert first.engine_start_s is not None
    for later in (second, third):
        assert isinstance(later, EvalOutcome)
        assert later.engine_start_s is None
