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
        "another process; after the second time jobs that ran in one batch get batches of their own. The attempt's log is read: "
        "where it names one of the causes below, the failure has that class"
    ),
    FailureClass.BAD_NODE: "none",
    FailureClass.ENGINE_START: "none; the attempt's log is read for a cause in the table first",
    FailureClass.HUNG_ENGINE: "none; the engine's processes are ended",
    FailureClass.FULL_DISK: "none",
    FailureClass.UNKNOWN: "none",
    FailureClass.BAD_CHECKPOINT: "never: the same checkpoint fails on every node",
    FailureClass.CHANGED_INPUT: (
        "none; another node may have the checkpoint, data or packages that were planned, this one does not"
    ),
    FailureClass.BAD_INPUT: "never: the sweep, the recipe or the data has to change",
}

_HEAD = """# Failures: what an error text means and what is done

Generated from the tables in `evals/faults.py` and `orchestrator/run/retries.py`; a test keeps this page equal to them. After a change:
`python -m orchestrator.run.failure_table > docs/failures.md`.

A failed attempt has a class. Exceptions with a type of their own are classified by it; for the others the first text below that
the error contains decides, in this order. An error of a tensor-parallel worker reaches vLLM's main process only as
"initialization failed": then the attempt's log is searched for the same texts. A class decides how often a job is tried again,
after which pause, where, and with which changes. None of the changes touches what a score depends on.

An engine that does not start fails its whole batch at once. So does one that breaks (`broken_engine`): nothing runs on it any
more, its process is ended, and its place is given away when all of its processes are gone. Any other error in a batch of layer
paths is found by halves.

## Classes

| class | retries | pause | another node | changes |
| --- | --- | --- | --- | --- |
"""

_TEXTS = """
"Another node": for so long no engine starts on the node of the failure, if another one can hold the engine.

## Texts

| from | text | class | next step where retries do not help |
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
