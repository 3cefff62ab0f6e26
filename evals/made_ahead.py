"""Makes tensors in a thread of their own while the engine loads the ones before."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

NamedTensors = Generator[tuple[str, "torch.Tensor"], None, None]
"""Names, as in a checkpoint's files, and tensors."""

BYTES_AHEAD = 256 << 20
"""Tensors of together at most so many bytes wait to be loaded; a larger one waits alone."""


def made_ahead(tensors: NamedTensors, bytes_ahead: int = BYTES_AHEAD) -> NamedTensors:
    """The same tensors in the same order; an error of their maker is raised when those before it have been taken.

    The thread computes with as many threads of torch as the caller, since the last bits of a sum depend on their number.
    """
    import torch

    n_threads = torch.get_num_threads()
    queue = _Queue(bytes_ahead)

    def make() -> None:
        torch.set_num_threads(n_threads)
        with closing(tensors), torch.no_grad():
            for name, tensor in tensors:
                if not queue.put(name, tensor):
                    break

    with ThreadPoolExecutor(1, thread_name_prefix="makes weights") as pool:
        making = pool.submit(make)
        making.add_done_callback(lambda _: queue.end())
        try:
            yield from queue.taken()
        finally:
            queue.abandon()
        making.result()


class _Queue:
    """Tensors that are made and not taken yet."""

    def __init__(self, bytes_ahead: int) -> None:
        self._bytes_ahead = bytes_ahead
        self._changed = threading.Condition()
        self._tensors: deque[tuple[str, torch.Tensor]] = deque()
        self._bytes = 0
        self._ended = False
        self._abandoned = False

    def put(self, name: str, tensor: torch.Tensor) -> bool:
        """Add a tensor when there is room; False if nobody takes tensors any more."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._abandoned or not self._tensors or self._bytes + tensor.nbytes <= self._bytes_ahead
                )
            )
            self._tensors.append((name, tensor))
            self._bytes += tensor.nbytes
            self._changed.notify_all()
            return not self._abandoned

    def taken(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors as they come, until the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._tensors)
                if not self._tensors:
                    return
                name, tensor = self._tensors.popleft()
                self._bytes -= tensor.nbytes
                self._changed.notify_all()
            yield name, tensor

    def end(self) -> None:
        """No further tensor comes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nobody takes tensors any more."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()
