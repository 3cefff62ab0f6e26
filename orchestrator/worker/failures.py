"""Classifies exceptions, and logs of processes that died, as Failures. The texts are in `evals.faults`."""

from __future__ import annotations

import errno
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from evals import errors as evals_errors
from evals.engine import EngineKind
from evals.errors import Fault
from evals.faults import GENERIC, find_fault
from orchestrator.errors import PlanOutdated
from orchestrator.plan.job import EvalJob
from orchestrator.provenance import without_secrets
from orchestrator.store.records import Failure, FailureClass
from recipes import errors as recipes_errors

_LOG_TAIL_LINES = 40
_LOG_END_BYTES = 64 * 1024


def failure_of(error: BaseException, log: Path) -> Failure:
    """Convert an error to a Failure: its class, one sentence, and the tail of the attempt's log."""
    message = without_secrets(str(error).strip() or type(error).__name__)
    tail, kind = _tail(log), classify(error)
    if isinstance(error, evals_errors.EngineStartError) and error.fault in GENERIC:
        # The cause is an error of a tensor-parallel worker, which appears only in the log.
        row = find_fault(_log_end(log))
        if row is not None and row.fault not in GENERIC:
            kind = FailureClass(row.fault)
            message = f"{message.partition(chr(10))[0]} {row.next_step}"
    return Failure(failure_class=kind, message=message, log_tail=tail)


# The first match decides; a BuildError is classified by its cause.
_CLASSES: tuple[tuple[tuple[type[BaseException], ...], FailureClass], ...] = (
    ((MemoryError,), FailureClass.OUT_OF_MEMORY),
    (
        (
            recipes_errors.CheckpointChanged,
            recipes_errors.ArtifactChanged,
            evals_errors.DatasetChanged,
            PlanOutdated,
        ),
        FailureClass.CHANGED_INPUT,
    ),
    ((evals_errors.LivePathsRefused,), FailureClass.LIVE_REFUSED),
    ((evals_errors.UnsupportedArchitecture,), FailureClass.PATH_REFUSED),
    (
        (recipes_errors.CheckpointError, recipes_errors.ArtifactError, evals_errors.EngineError),
        FailureClass.BAD_CHECKPOINT,
    ),
    ((recipes_errors.RecipeError, evals_errors.EvaluationError), FailureClass.BAD_INPUT),
)


def classify(error: BaseException) -> FailureClass:
    """The failure class of an exception, which determines whether and how the job is retried.

    By type if the exception has a specific one, else by the table of texts in `evals.faults`.
    """
    chain = [error, *([error.__cause__] if error.__cause__ else [])]
    if any(isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT) for e in chain):
        return FailureClass.FULL_DISK
    if isinstance(error, evals_errors.EngineStartError):
        return FailureClass(error.fault)
    kind = next((kind for types, kind in _CLASSES if isinstance(error, types)), None)
    row = next(filter(None, (find_fault(str(e)) for e in chain)), None)
    if row is not None and (kind is not FailureClass.BAD_INPUT or row.fault is Fault.OUT_OF_MEMORY):
        return FailureClass(row.fault)
    return kind or FailureClass.UNKNOWN


def lost_failure(log: Path) -> Failure | None:
    """The failure of an attempt whose process died, by its log; None if the log has no known text."""
    row = find_fault(_log_end(log))
    if row is None or row.fault in GENERIC:
        return None
    kind = FailureClass(row.fault)
    if kind is FailureClass.BAD_CHECKPOINT:
        # A process that died did not fail because its checkpoint was refused, whatever it logged before.
        return None
    return Failure(
        failure_class=kind, message=f"The engine's process died. {row.next_step}", log_tail=_tail(log)
    )


def batch_size(job: EvalJob) -> int | None:
    """Sequences per batch of the engine that serves this job on this node."""
    if job.tuning.batch_size is not None:
        return job.tuning.batch_size
    if job.engine.kind is EngineKind.VLLM:
        from evals.vllm.environment import answer_for_cpu_build
        from evals.vllm.loading import BATCH_CPU, BATCH_CUDA

        try:
            return BATCH_CPU if answer_for_cpu_build() else BATCH_CUDA
        except PackageNotFoundError:
            return None
    from evals.transformers import engine as by_transformers
    from evals.transformers.loading import pick_device

    return by_transformers.BATCH_CUDA if pick_device().type == "cuda" else by_transformers.BATCH_CPU


def _log_end(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_END_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _tail(log: Path) -> str:
    """Last lines of a log, without secrets."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return without_secrets("\n".join(lines[-_LOG_TAIL_LINES:]))
