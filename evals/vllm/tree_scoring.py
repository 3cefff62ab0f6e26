"""Log-probabilities of continuations with nothing computed twice: radix trees of whole batches, outside the scheduler."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

from evals.engine import ScoreRequest, ScoreResult, Wanted, all_wanted
from evals.errors import EngineError
from evals.token_tree import common_prefix
from evals.vllm.batch import Step, StepResult, batch_of
from evals.vllm.limits import Limits
from evals.vllm.parts import Collector, SharedContext, parts_of, results_of, step_of
from evals.vllm.radix import BlockPool, Mark, RadixTree, Resident
from evals.vllm.schedule import Path, Stride, most_repeats

PATHS_PER_RUN = 16
"""Layer paths whose results are handed out together."""

T = TypeVar("T")
Run = Callable[[Step, list[Path], Stride], list[StepResult]]


class TreeScorer:
    """Scores batch by batch. On one path, the last context of a batch stays in the KV cache for the next one."""

    def __init__(self, run: Run, mend: Callable[[], None], limits: Limits, max_length: int) -> None:
        self._run = run
        self._mend = mend
        self._limits = limits
        self._n_blocks = limits.blocks
        self._block_size = limits.block_size
        self._max_length = max_length
        self._epoch = 0

    def start(self, path: Path) -> None:
        """Score through this layer path from now on, with an empty KV cache."""
        self.stop()
        self._path = path
        self._repeats = most_repeats([path])
        self._forget()

    def _forget(self) -> None:
        self._pool = BlockPool(1, self._n_blocks // self._repeats, self._block_size)
        self._resident = Resident()

    def stop(self) -> None:
        """Somebody else uses the KV cache now; iterators that are still being read fail."""
        self._epoch += 1

    def scores(
        self, requests: Sequence[ScoreRequest], wanted: Wanted = all_wanted
    ) -> Iterator[tuple[int, ScoreResult]]:
        """Results of the requests on the path, batch by batch."""
        epoch = self._epoch
        parts = parts_of(requests, self._max_length)
        collector = Collector(parts)
        mine = (part for part in parts if wanted(part.request))
        for batch in self._batches(mine, self._resident.tokens, self._pool):
            if epoch != self._epoch:
                raise EngineError(
                    "The engine was used for something else while scores were being read: read them to the end first."
                )
            for part, result in zip(batch, self._score(batch), strict=True):
                whole = collector.add(part, result)
                if whole is not None:
                    yield part.request, whole

    def path_scores(
        self, requests: Sequence[ScoreRequest], paths: Sequence[Path]
    ) -> Iterator[tuple[int, int, ScoreResult]]:
        """(path, request, result), paths that lie next to each other in the trie together.

        A layer's keys and values are read in the call that writes them and never again, so all paths use the same blocks.
        """
        self.stop()
        parts = parts_of(requests, self._max_length)
        order = sorted(range(len(paths)), key=lambda p: paths[p])
        collectors = {path: Collector(parts) for path in order}
        pool = BlockPool(1, self._n_blocks, self._block_size)
        plans = (self._plan(batch) for batch in self._batches(parts, (), pool))
        for batch, step, marks in one_ahead(plans) if self._limits.ahead else plans:
            for begin in range(0, len(order), PATHS_PER_RUN):
                group = order[begin : begin + PATHS_PER_RUN]
                answers = self._run(step, [paths[p] for p in group], Stride(1, 1))
                if not all(map(_is_finite, answers)):
                    self._mend()
                for path, answer in zip(group, answers, strict=True):
                    for part, result in zip(batch, results_of(step, marks, answer, batch), strict=True):
                        whole = collectors[path].add(part, result)
                        if whole is not None:
                            yield path, part.request, whole

    def _plan(self, batch: list[SharedContext]) -> tuple[list[SharedContext], Step, dict[int, list[Mark]]]:
        """The pass over a batch that starts with an empty KV cache."""
        tree = _tree(batch, Resident())
        tree.place(BlockPool(1, self._n_blocks, self._block_size))
        packed, marks = batch_of(tree, self._block_size)
        return batch, step_of(packed, marks, batch), marks

    def _batches(
        self, parts: Iterable[SharedContext], before: tuple[int, ...], pool: BlockPool
    ) -> Iterator[list[SharedContext]]:
        """Neighbours until enough tokens are new, or the KV cache might not hold more."""
        batch: list[SharedContext] = []
        tokens = blocks = 0
        for part in parts:
            new = len(part.context) - common_prefix(part.context, before)
            inner = len(part.tree.tokens)
            need = new // self._block_size + 2 + 2 * inner
            if batch and (tokens >= self._limits.tokens or blocks + need > pool.free):
                yield batch
                batch, tokens, blocks = [], 0, 0
                need = len(part.context) // self._block_size + 2 + 2 * inner
            batch.append(part)
            tokens, blocks, before = tokens + new + inner, blocks + need, part.context
        if batch:
            yield batch

    def _score(self, batch: list[SharedContext]) -> list[ScoreResult]:
        tree = _tree(batch, self._resident)
        try:
            taken = tree.place(self._pool)
        except EngineError:
            self._forget()
            raise
        packed, marks = batch_of(tree, self._block_size)
        step = step_of(packed, marks, batch)
        (answer,) = self._run(step, [self._path], Stride(1, self._repeats))
        if _is_finite(answer):
            self._keep(tree, batch[-1].context, taken)
        else:
            self._forget()
            self._mend()
        return results_of(step, marks, answer, batch)

    def _keep(self, tree: RadixTree, context: tuple[int, ...], taken: set[int]) -> None:
        """Let the last context stay in the KV cache."""
        last = next(
            line[-1]
            for line in tree.lines()
            if line[-1].end >= len(context)
            and tuple(token for segment in line for token in segment.tokens)[: len(context)] == context
        )
        table = last.table[: -(-len(context) // self._block_size)]
        self._pool.give_back((taken | set(self._resident.table)) - set(table))
        self._resident = Resident(context, table)


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; the next one is made in a thread while the caller works on one."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, end)
        while (item := following.result()) is not end:
            following = thread.submit(next, items, end)
            yield cast(T, item)


def _is_finite(answer: StepResult) -> bool:
    return all(math.isfinite(value) for value in answer.logprobs)


def _tree(batch: Sequence[SharedContext], resident: Resident) -> RadixTree:
    tree = RadixTree(resident)
    for number, part in enumerate(batch):
        for row, tokens in part.sequences():
            tree.insert(tokens, (number, row))
    return tree
