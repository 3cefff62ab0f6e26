"""mergekit's sums over whole tensors on one thread: the last bits of a sum depend on the number of threads that share it.

Without this, the same recipe has other bits on a machine with another number of cores, and a merge that runs live has other bits than its built
artifact if engine and build have different numbers of threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ELEMENTWISE = frozenset(
    {
        "linear", "passthrough", "nearswap", "ram", "ramplus_tl", "task_arithmetic", "ties", "dare_ties", "dare_linear",
        "breadcrumbs", "breadcrumbs_ties", "della", "della_linear",
    }
)  # fmt: skip
"""Methods that compute each element by itself, but for counts, which are exact, and the norm by which a sparsified vector is rescaled."""


@contextmanager
def reproducible_sums() -> Iterator[None]:
    """Until the block ends, no bit of mergekit's results depends on the number of torch's threads."""
    from mergekit import sparsify
    from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask

    rescale, execute = sparsify.rescaled_masked_tensor, ExecuteMergeMethodTask.execute

    @functools.wraps(execute)
    def execute_reproducibly(task: Any, *arguments: Any, **named: Any) -> Any:
        if task.method_name in ELEMENTWISE:
            return execute(task, *arguments, **named)
        return _on_one_thread(execute, task, *arguments, **named)

    sparsify.rescaled_masked_tensor = functools.partial(_on_one_thread, rescale)
    ExecuteMergeMethodTask.execute = execute_reproducibly
    try:
        yield
    finally:
        sparsify.rescaled_masked_tensor = rescale
        ExecuteMergeMethodTask.execute = execute


def _on_one_thread(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(*arguments, **named)
    finally:
        torch.set_num_threads(n_threads)
