"""Log-probabilities of continuations by radix trees of whole batches, outside vLLM's scheduler."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

from evals.engine import RequestFilter, ScoreRequest, ScoreResult, accept_all
from evals.errors import EngineError
from evals.layer_visits import path_order_key
from evals.token_tree import common_prefix
from evals.vllm.batch import Step, StepResult, batch_of
from evals.vllm.limits import Limits
from evals.vllm.parts import Collector, SharedContext, parts_of, results_of, step_of
from evals.vllm.radix import BlockPool, Mark, RadixTree, Resident
from evals.vllm.schedule import Path, Stride, most_repeats

PATHS_PER_RUN = 16
"""Number of layer paths per forward pass."""

T = TypeVar("T")
Run = Callable[[Step, list[Path], Stride], list[StepResult]]


class TreeScorer:
    """Scores batch by batch. On one path, the last context of a batch stays in the KV cache for the next batch."""

    def __init__(self, run: Run, mend: Callable[[], None], limits: Limits, max_length: int) -> None:
        self._run = run
        self._mend = mend
        self._limits = limits
        self._n_blocks = limits.blocks
        self._block_size = limits.block_size
        self._max_length = max_length
        self._epoch = 0

    def start(self, path: Path) -> None:
        """Score on this layer path from now on, with an empty KV cache."""
        self.stop()
        self._path = path
        self._repeats = most_repeats([path])
        self._reset_blocks()

    def _reset_blocks(self) -> None:
        self._pool = BlockPool(1, self._n_blocks // self._repeats, self._block_size)
        self._resident = Resident()

    def stop(self) -> None:
        """Give up the KV cache; iterators that are still being read raise EngineError."""
        self._epoch += 1

    def scores(
        self, requests: Sequence[ScoreRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, ScoreResult]]:
        """Results of the requests on the path, batch by batch."""
        epoch = self._epoch
        parts = parts_of(requests, self._max_length)
        collector = Collector(parts)
        selected = (part for part in parts if accepts(part.request))
        for batch in self._batches(selected, self._resident.tokens, self._pool):
            if epoch != self._epoch:
                raise EngineError(
                    "The engine was used for something else while scores were being read: read them to the end first."
                )
            for part, result in zip(batch, self._score(batch), strict=True):
                request_result = collector.add(part, result)
                if request_result is not None:
                    yield part.request, request_result

    def path_scores(
        self, requests: Sequence[ScoreRequest], paths: Sequence[Path]
    ) -> Iterator[tuple[int, int, ScoreResult]]:
        """Yield (path, request, result), by groups of neighbouring paths in the trie.

        A layer's keys and values are read only in the call that writes them, so all paths use the same blocks.
        """
        self.stop()
        parts = parts_of(requests, self._max_length)
        order = sorted(range(len(paths)), key=lambda p: path_order_key(paths[p]))
        collectors = {path: Collector(parts) for path in order}
        pool = BlockPool(1, self._n_blocks, self._block_size)
        plans = (self._plan(batch) for batch in self._batches(parts, (), pool))
        for batch, step, marks in prefetch_next(plans) if self._limits.ahead else plans:
            for begin in range(0, len(order), PATHS_PER_RUN):
                group = order[begin : begin + PATHS_PER_RUN]
                answers = self._run(step, [paths[p] for p in group], Stride(1, 1))
                if not all(map(_is_finite, answers)):
                    self._mend()
                for path, answer in zip(group, answers, strict=True):
                    for part, result in zip(batch, results_of(step, marks, answer, batch), strict=True):
                        request_result = collectors[path].add(part, result)
                        if request_result is not None:
                            yield path, part.request, request_result

    def _plan(self, batch: list[SharedContext]) -> tuple[list[SharedContext], Step, dict[int, list[Mark]]]:
        """The pass over a batch that starts with an empty KV cache."""
        tree = _build_tree(batch, Resident())
        tree.place(BlockPool(1, self._n_blocks, self._block_size))
        packed, marks = batch_of(tree, self._block_size)
        return batch, step_of(packed, marks, batch), marks

    def _batches(
        self, parts: Iterable[SharedContext], previous: tuple[int, ...], pool: BlockPool
    ) -> Iterator[list[SharedContext]]:
        """Batches of neighbouring parts, limited by new tokens and by an upper bound of their KV blocks."""
        batch: list[SharedContext] = []
        tokens = blocks = 0
        for part in parts:
            new = len(part.context) - common_prefix(part.context, previous)
            n_nodes = len(part.tree.tokens)
            need = new // self._block_size + 2 + 2 * n_nodes
            if batch and (tokens >= self._limits.tokens or blocks + need > pool.free):
                yield batch
                batch, tokens, blocks = [], 0, 0
                need = len(part.context) // self._block_size + 2 + 2 * n_nodes
            batch.append(part)
            tokens, blocks, previous = tokens + new + n_nodes, blocks + need, part.context
        if batch:
            yield batch

    def _score(self, batch: list[SharedContext]) -> list[ScoreResult]:
        tree = _build_tree(batch, self._resident)
        try:
            allocated = tree.place(self._pool)
        except EngineError:
            self._reset_blocks()
            raise
        packed, marks = batch_of(tree, self._block_size)
        step = step_of(packed, marks, batch)
        (answer,) = self._run(step, [self._path], Stride(1, self._repeats))
        if _is_finite(answer):
            self._keep_context(tree, batch[-1].context, allocated)
        else:
            self._reset_blocks()
            self._mend()
        return results_of(step, marks, answer, batch)

    def _keep_context(self, tree: RadixTree, context: tuple[int, ...], allocated: set[int]) -> None:
        """Keep the last context in the KV cache and free the other blocks."""
        last = next(
            line[-1]
            for line in tree.lines()
            if line[-1].end >= len(context)
            and tuple(token for segment in line for token in segment.tokens)[: len(context)] == context
        )
        table = last.table[: -(-len(context) // self._block_size)]
        self._pool.release((allocated | set(self._resident.table)) - set(table))
        self._resident = Resident(context, table)


def prefetch_next(items: Iterator[T]) -> Iterator[T]:
    """Iterate over the items; a thread computes the next one while the caller processes the current one."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, end)
        while (item := following.result()) is not end:
            following = thread.submit(next, items, end)
            yield cast(T, item)


def _is_finite(answer: StepResult) -> bool:
    return all(math.isfinite(value) for value in answer.logprobs)


def _build_tree(batch: Sequence[SharedContext], resident: Resident) -> RadixTree:
    tree = RadixTree(resident)
    for number, part in enumerate(batch):
        for row, tokens in part.sequences():
            tree.insert(tokens, (number, row))
    return tree
