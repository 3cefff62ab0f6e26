"""Errors of evaluations.

EvaluationError
├── SuiteError             an unknown suite or benchmark, or a suite file that does not parse
├── DatasetError           a data set that is missing, gated or not as the task needs it
│   └── DatasetChanged     its content differs from what was planned
├── EngineError            an engine that cannot serve this checkpoint or these settings
│   ├── UnsupportedArchitecture   a layer path that cannot run live in this architecture
│   │   └── LivePathsRefused          no layer path of the checkpoint can run live in this engine
│   └── EngineStartError          an engine that did not start, with the cause
├── JournalError           a request journal that belongs to another job
├── SamplesError           a samples file that is gone, altered or unreadable
└── ClaimError             a claim or result file that cannot be read
"""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """Cause of an engine's failure; the value equals that of the orchestrator's failure class."""

    BAD_CHECKPOINT = "bad_checkpoint"
    OUT_OF_MEMORY = "out_of_memory"
    TOO_LARGE = "too_large"
    BUSY_GPU = "busy_gpu"
    BROKEN_ENGINE = "broken_engine"
    BAD_NODE = "bad_node"
    ENGINE_START = "engine_start"
    LOST_NODE = "lost_node"


class EvaluationError(Exception):
    """Base of all errors of this package; the message is one sentence: what, where, next step."""


class SuiteError(EvaluationError):
    """The suite or benchmark is unknown, or its file does not parse."""


class DatasetError(EvaluationError):
    """A data set is missing, gated or not as its task needs it."""


class DatasetChanged(DatasetError):
    """A data set's content differs from what was planned."""


class EngineError(EvaluationError):
    """The engine cannot serve this checkpoint with these settings."""


class UnsupportedArchitecture(EngineError):
    """A layer path cannot run live in this architecture."""


class LivePathsRefused(UnsupportedArchitecture):
    """No layer path of a checkpoint can run live in this engine."""


class EngineStartError(EngineError):
    """An engine did not start; `fault` is the cause."""

    def __init__(self, message: str, fault: Fault = Fault.ENGINE_START) -> None:
        super().__init__(message)
        self.fault = fault


class JournalError(EvaluationError):
    """The request journal belongs to another job."""


class SamplesError(EvaluationError):
    """A samples file is missing, altered or unreadable."""


class ClaimError(EvaluationError):
    """A claim or a result file cannot be read."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its class if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
