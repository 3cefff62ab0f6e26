"""What can be wrong with an evaluation.

EvaluationError
├── SuiteError             an unknown suite or benchmark, or a suite file that does not parse
├── DatasetError           a data set that is missing, gated or not as the task needs it
├── EngineError            an engine that cannot serve this checkpoint or these settings
│   └── UnsupportedArchitecture   live layer paths are not written for this architecture
├── JournalError           a request journal that belongs to another job
├── SamplesError           a samples file that is gone, altered or unreadable
└── ClaimError             a claim or result file that cannot be read
"""


class EvaluationError(Exception):
    """Base of all errors of this package; the message is one sentence that says what, where and the next step."""


class SuiteError(EvaluationError):
    """The suite or benchmark is unknown, or its file does not parse."""


class DatasetError(EvaluationError):
    """A data set is missing, gated or not as its task needs it."""


class EngineError(EvaluationError):
    """The engine cannot serve this checkpoint with these settings."""


class UnsupportedArchitecture(EngineError):
    """Live layer paths are not written for this architecture."""


class JournalError(EvaluationError):
    """The request journal belongs to another job."""


class SamplesError(EvaluationError):
    """A samples file is gone, is not the one that was stored, or cannot be read."""


class ClaimError(EvaluationError):
    """A claim or a result file cannot be read."""
