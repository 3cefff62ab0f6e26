"""What a user does about a failure that retries do not mend."""

from __future__ import annotations

from collections.abc import Iterable

from evals.faults import find_fault
from evals.live_paths import BUILD_ADVICE
from orchestrator.store.pages import FailureGroup
from orchestrator.store.records import FailureClass
from orchestrator.store.refusals import LiveRefusal

_MEMORY = "Set a larger `tensor_parallel`, a smaller `max_length`, or use a node with more memory."
_OTHER_PROCESS = (
    "End the other process that holds the memory (`nvidia-smi` on the node names it), then resume."
)
_LOG = "The job's log tells the cause; mend it, then resume."

_BY_CLASS = {
    FailureClass.OUT_OF_MEMORY: _MEMORY,
    FailureClass.TOO_LARGE: _MEMORY,
    FailureClass.BUSY_GPU: _OTHER_PROCESS,
    FailureClass.BROKEN_ENGINE: _LOG,
    FailureClass.BAD_NODE: "Mend the node or leave it out of the cluster (`mergeboard doctor` checks it), then resume.",
    FailureClass.ENGINE_START: _LOG,
    FailureClass.BAD_CHECKPOINT: "Mend or replace the checkpoint, then run the sweep file again.",
    FailureClass.LIVE_REFUSED: "Its layer paths are built as checkpoints instead; where that fails too, the failed build tells why.",
    FailureClass.PATH_REFUSED: "The path is built as a checkpoint instead; where that fails too, the failed build tells why.",
    FailureClass.BAD_INPUT: "Mend the sweep file, the recipe or the data, then run the sweep file again.",
    FailureClass.CHANGED_INPUT: "Restore what was planned, or run the sweep file again, which plans for what is there.",
    FailureClass.LOST_NODE: "Check that the node is up and has enough memory, then resume.",
    FailureClass.HUNG_ENGINE: "Look at the node and the job's log, then resume.",
    FailureClass.FULL_DISK: "Free space below MERGEBOARD_HOME (`mergeboard cache prune`), then resume.",
    FailureClass.LOST_STORE: "Check that the database answers (`mergeboard db check`), then resume.",
    FailureClass.WRONG_RESULT: "The job's log shows what was measured instead; report it if the sweep did not change.",
    FailureClass.CANCELLED: "Resume the run.",
}

_VAGUE = (
    None,
    FailureClass.UNKNOWN,
    FailureClass.ENGINE_START,
    FailureClass.LOST_NODE,
    FailureClass.HUNG_ENGINE,
)
"""Classes that do not name a cause; the message or the log may."""


def remedy(failure_class: FailureClass | None, text: str) -> str:
    """The next step after a failure: by its message and log (docs/failures.md), else by its class."""
    row = find_fault(text)
    if row is not None and (failure_class in _VAGUE or row.fault.value == failure_class):
        return row.next_step
    if failure_class is None:
        return _BY_CLASS[FailureClass.LOST_NODE]
    return _BY_CLASS.get(failure_class, _LOG)


def refusal_note(failure_class: FailureClass | None, message: str) -> str | None:
    """What becomes of layer paths that an engine refused to run live, as a sentence; None for any other failure."""
    if failure_class is FailureClass.LIVE_REFUSED:
        return f"{message.removesuffix(BUILD_ADVICE)}; its layer paths are built as checkpoints instead."
    if failure_class is FailureClass.PATH_REFUSED:
        return f"Layer paths that the engine refuses to run live are built as checkpoints instead: {message}"
    return None


def refusal_notes(failures: Iterable[LiveRefusal | FailureGroup]) -> tuple[str, ...]:
    """What is built instead of run live, a sentence for each refusal among these, none twice."""
    notes = (refusal_note(failure.failure_class, failure.message) for failure in failures)
    return tuple(dict.fromkeys(note for note in notes if note is not None))
