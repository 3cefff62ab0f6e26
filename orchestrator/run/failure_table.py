"""docs/failures.md: each known error text, its failure class, and what is done. `python -m orchestrator.run.failure_table` prints it."""

from __future__ import annotations

import sys

from evals.faults import TABLE
from orchestrator.cluster.placement import AVOID_S
from orchestrator.run.retries import RETRIES, pause_s
from orchestrator.store.records import FailureClass

_CHANGES = {
    FailureClass.OUT_OF_MEMORY: (
        "half of the batch that the failed engine had (256, 128, 64 on a GPU), and a share of the GPU's memory that is smaller by "
        "0.05 (0.9, 0.85, 0.8): the KV cache shrinks, activations and graphs get the rest"
    ),
    FailureClass.TOO_LARGE: (
        "half of the batch and a memory share of 0.95; `tensor_parallel` and `max_length` are part of a score's identity and are "
        "never changed"
    ),
    FailureClass.BUSY_GPU: (
        "where vLLM tells that at least three quarters of what it asks for are free, it asks for that (less 0.02 of the GPU); "
        "else it waits for the other process"
    ),
    FailureClass.BROKEN_ENGINE: (
        "a new process, since CUDA's context or a worker of the old one is lost; jobs that ran in one batch get batches of their "
        "own, so that the one that breaks engines fails alone"
    ),
    FailureClass.LOST_NODE: (
        "another process; after the second failure the jobs of one batch run in separate batches. The attempt's log is read: "
        "if it contains one of the texts below, the failure has that class"
    ),
    FailureClass.BAD_NODE: "none",
    FailureClass.ENGINE_START: "none; the attempt's log is first searched for the texts below",
    FailureClass.HUNG_ENGINE: "none; the engine's processes are killed",
    FailureClass.FULL_DISK: "none",
    FailureClass.UNKNOWN: "none",
    FailureClass.BAD_CHECKPOINT: "never: the same checkpoint fails on every node",
    FailureClass.LIVE_REFUSED: (
        "no further live attempt: all layer paths of the checkpoint in engines of these settings are built as checkpoints, which are "
        "evaluated instead"
    ),
    FailureClass.PATH_REFUSED: (
        "no further live attempt: the path, which the engine refuses although it runs others, is built as a checkpoint"
    ),
    FailureClass.CHANGED_INPUT: ("none; another node may have the planned checkpoint, data or packages"),
    FailureClass.BAD_INPUT: "never: the sweep, the recipe or the data must be changed",
}

_HEAD = """# Failures: error texts, classes and retries

Generated from the tables in `evals/faults.py` and `orchestrator/run/retries.py`; a test keeps this page equal to them. After a change:
`python -m orchestrator.run.failure_table > docs/failures.md`.

Every failed attempt has a class. Exceptions with a specific type are classified by type; all others by the first text below that
the error contains, in this order. An error of a tensor-parallel worker reaches vLLM's main process only as
"initialization failed"; the attempt's log is then searched for the same texts. The class determines how often a job is retried,
after which pause, on which node, and with which changes. No change affects a score.

An engine that does not start fails its whole batch. So does an engine that breaks (`broken_engine`): it gets no more work,
its process is killed, and its GPUs are released when all of its processes have ended. Any other error in a batch of layer
paths is located by bisection.

## Classes

| class | retries | pause | another node | changes |
| --- | --- | --- | --- | --- |
"""

_TEXTS = """
"Another node": how long no engine starts on the node of the failure, if another node can hold the engine.

## Texts

| from | text | class | next step if retries do not help |
| --- | --- | --- | --- |
"""


def failures_page() -> str:
    """The whole page."""
    classes = "".join(_class_row(kind) for kind in _CHANGES)
    texts = "".join(
        f"| {row.source} | {_cell(row.example)} | `{row.fault}` | {_cell(row.next_step)} |\n" for row in TABLE
    )
    return _HEAD + classes + _TEXTS + texts


def _class_row(kind: FailureClass) -> str:
    retries = RETRIES.get(kind, 0)
    pauses = ", ".join(f"{pause_s(kind, n):g}" for n in range(1, retries + 1))
    avoided = f"{AVOID_S[kind]:g} s" if kind in AVOID_S else ""
    return f"| `{kind}` | {retries} | {pauses + ' s' if pauses else ''} | {avoided} | {_CHANGES[kind]} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(failures_page())
