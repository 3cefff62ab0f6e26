"""Log-probabilities of continuations with nothing computed twice: radix trees of whole batches, outside the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from evals.engine import ScoreRequest, ScoreResult
from evals.token_tree import TokenTree, common_prefix
from evals.vllm.batch import Batch, Step, StepResult, batch_of
from evals.vllm.radix import BlockPool, Mark, RadixTree, Resident
from evals.vllm.schedule import Path, Stride, most_repeats
from evals.vllm.scoring import truncated

BATCH_TOKENS = 4096
"""New tokens after which a batch is run and its results handed out."""

Run = Callable[[Step, list[Path], Stride], list[StepResult]]


class TreeScorer:
    """Scores batch by batch; the last context of a batch stays in the KV cache for the next one."""

    def __init__(self, run: Run, n_blocks: int, block_size: int, max_length: int) -> None:
        self._run = run
        self._n_blocks = n_blocks
        self._block_size = block_size
        self._max_length = max_length

    def start(self, path: Path) -> None:
        """Score through this layer path from now on, with an empty KV cache."""
        self._path = path
        self._repeats = most_repeats([path])
        self._pool = BlockPool(1, self._n_blocks // self._repeats, self._block_size)
        self._resident = Resident()

    def scores(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, ScoreResult]]:
        """Results of the requests, batch by batch in an order in which neighbours share their prefixes."""
        parts = sorted(self._parts(requests), key=lambda part: part.context)
        waiting: dict[int, list[_Part]] = {}
        for part in parts:
            waiting.setdefault(part.request, []).append(part)
        for batch in self._batches(parts):
            self._run_batch(batch)
            for request in dict.fromkeys(part.request for part in batch):
                if all(part.result for part in waiting[request]):
                    yield request, _merged(waiting.pop(request))

    def _parts(self, requests: Sequence[ScoreRequest]) -> Iterator[_Part]:
        """Requests, taken apart where truncation leaves the continuations contexts of their own."""
        for index, request in enumerate(requests):
            groups: dict[tuple[int, ...], list[int]] = {}
            for choice, continuation in enumerate(request.continuations):
                groups.setdefault(truncated(request.context, continuation, self._max_length), []).append(
                    choice
                )
            for context, choices in groups.items():
                yield _Part(index, context, [request.continuations[c] for c in choices], choices)

    def _batches(self, parts: Sequence[_Part]) -> Iterator[list[_Part]]:
        """Neighbours until enough tokens are new, or the KV cache might not hold more."""
        block_size = self._block_size
        batch: list[_Part] = []
        tokens = blocks = 0
        before: tuple[int, ...] = self._resident.tokens
        for part in parts:
            new = len(part.context) - common_prefix(part.context, before)
            need = new // block_size + 2 + 2 * len(part.tree.tokens)
            if batch and (tokens >= BATCH_TOKENS or blocks + need > self._pool.free):
                yield batch
                batch, tokens, blocks = [], 0, 0
                need = len(part.context) // block_size + 2 + 2 * len(part.tree.tokens)
            batch.append(part)
            tokens, blocks, before = tokens + new + len(part.tree.tokens), blocks + need, part.context
        if batch:
            yield batch

    def _run_batch(self, batch: list[_Part]) -> None:
        tree = RadixTree(self._resident)
        for number, part in enumerate(batch):
            for row, tokens in part.sequences():
                tree.insert(tokens, (number, row))
        taken = tree.place(self._pool)
        packed, marks = batch_of(tree, self._block_size)
        step = _step(packed, marks, batch)
        (result,) = self._run(step, [self._path], Stride(1, self._repeats))
        _hand_out(step, list(marks.values()), result, batch)
        for part in batch:
            part.finish()
        self._keep(tree, batch[-1].context, taken)

    def _keep(self, tree: RadixTree, context: tuple[int, ...], taken: set[int]) -> None:
        """Let the last context stay in the KV cache."""
        n_blocks = -(-len(context) // self._block_size)
        line = next(
            line
            for line in tree.lines()
            if line[-1].end >= len(context)
            and tuple(token for segment in line for token in segment.tokens)[: len(context)] == context
        )
        table = line[-1].table[:n_blocks]
        self._pool.give_back((taken | set(self._resident.table)) - set(table))
        self._resident = Resident(context, table)


def _step(packed: Batch, marks: dict[int, list[Mark]], batch: list[_Part]) -> Step:
    lookups = [
        (index, token)
        for index, owners in enumerate(marks.values())
        for token in sorted({token for number, row in owners for token in batch[number].wanted[row]})
    ]
    return Step(
        packed, np.array(list(marks), dtype=np.int64), np.array(lookups, dtype=np.int64).reshape(-1, 2)
    )


class _Part:
    """Continuations of one request that share a context."""

    def __init__(
        self, request: int, context: tuple[int, ...], continuations: list[tuple[int, ...]], choices: list[int]
    ) -> None:
        self.request = request
        self.context = context
        self.choices = choices
        self.tree = TokenTree.of(continuations)
        self._continuations = continuations
        self.wanted: list[set[int]] = [set() for _ in range(1 + len(self.tree.tokens))]
        for rows, continuation in zip(self.tree.rows, continuations, strict=True):
            for row, token in zip(rows, continuation, strict=True):
                self.wanted[row].add(token)
        self.found: dict[tuple[int, int], float] = {}
        self.best: dict[int, int] = {}
        self.result: ScoreResult | None = None

    def sequences(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Rows of the tree with the tokens up to each."""
        known = [self.context]
        yield 0, self.context
        for row, (token, parent) in enumerate(zip(self.tree.tokens, self.tree.parents, strict=True), start=1):
            known.append((*known[parent], token))
            yield row, known[row]

    def finish(self) -> None:
        """Sum the log-probabilities of each continuation."""
        scored = [
            list(zip(rows, tokens, strict=True))
            for rows, tokens in zip(self.tree.rows, self._continuations, strict=True)
        ]
        self.result = ScoreResult(
            logprobs=tuple(sum(self.found[pair] for pair in pairs) for pairs in scored),
            is_greedy=tuple(all(self.best[row] == token for row, token in pairs) for pairs in scored),
        )


def _hand_out(step: Step, marks: list[list[tuple[int, int]]], result: StepResult, batch: list[_Part]) -> None:
    values: list[dict[int, float]] = [{} for _ in marks]
    for (index, token), value in zip(step.lookups.tolist(), result.logprobs, strict=True):
        values[index][token] = value
    for owners, by_token, best in zip(marks, values, result.best, strict=True):
        for number, row in owners:
            batch[number].best[row] = best
            for token in batch[number].wanted[row]:
                batch[number].found[row, token] = by_token[token]


def _merged(parts: list[_Part]) -> ScoreResult:
    """One request's result, in the order of its continuations."""
    entries = sorted(
        (choice, part.result.logprobs[i], part.result.is_greedy[i])
        for part in parts
        if part.result
        for i, choice in enumerate(part.choices)
    )
    return ScoreResult(logprobs=tuple(e[1] for e in entries), is_greedy=tuple(e[2] for e in entries))
