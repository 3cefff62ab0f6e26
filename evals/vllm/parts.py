"""Splits scoring requests into parts with one context each, builds forward passes of them and collects the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from evals.engine import ScoreRequest, ScoreResult
from evals.token_tree import TokenTree
from evals.vllm.batch import Batch, Step, StepResult
from evals.vllm.radix import Mark
from evals.vllm.scoring import truncated


class SharedContext:
    """Continuations of one request that share a context."""

    def __init__(
        self, request: int, context: tuple[int, ...], continuations: list[tuple[int, ...]], choices: list[int]
    ) -> None:
        self.request = request
        self.context = context
        self.choices = choices
        self.tree = TokenTree.of(continuations)
        self._continuations = continuations
        self._tokens_by_row: list[set[int]] = [set() for _ in range(1 + len(self.tree.tokens))]
        for rows, continuation in zip(self.tree.rows, continuations, strict=True):
            for row, token in zip(rows, continuation, strict=True):
                self._tokens_by_row[row].add(token)

    def sequences(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Rows of the tree with the sequence up to each."""
        sequences_by_row = [self.context]
        yield 0, self.context
        for row, (token, parent) in enumerate(zip(self.tree.tokens, self.tree.parents, strict=True), start=1):
            sequences_by_row.append((*sequences_by_row[parent], token))
            yield row, sequences_by_row[row]

    def tokens_at(self, row: int) -> set[int]:
        """Tokens whose log-probabilities are read at a row."""
        return self._tokens_by_row[row]

    def result(self, logprobs: dict[tuple[int, int], float], best: dict[int, int]) -> ScoreResult:
        """Sums over each continuation, from log-probabilities by (row, token) and the likeliest token by row."""
        scored = [
            list(zip(rows, tokens, strict=True))
            for rows, tokens in zip(self.tree.rows, self._continuations, strict=True)
        ]
        return ScoreResult(
            logprobs=tuple(sum(logprobs[pair] for pair in pairs) for pairs in scored),
            is_greedy=tuple(all(best[row] == token for row, token in pairs) for pairs in scored),
        )


def parts_of(requests: Sequence[ScoreRequest], max_length: int) -> list[SharedContext]:
    """The parts of all requests, ordered so that neighbours share prefixes.

    A request has several parts if its continuations' contexts differ after truncation.
    """
    parts = []
    for index, request in enumerate(requests):
        groups: dict[tuple[int, ...], list[int]] = {}
        for choice, continuation in enumerate(request.continuations):
            groups.setdefault(truncated(request.context, continuation, max_length), []).append(choice)
        for context, choices in groups.items():
            parts.append(SharedContext(index, context, [request.continuations[c] for c in choices], choices))
    return sorted(parts, key=lambda part: part.context)


def step_of(packed: Batch, marks: dict[int, list[Mark]], parts: Sequence[SharedContext]) -> Step:
    """The pass with the lookups of the parts; a mark is (number of the part, row of its tree)."""
    lookups = [
        (index, token)
        for index, owners in enumerate(marks.values())
        for token in sorted({token for number, row in owners for token in parts[number].tokens_at(row)})
    ]
    return Step(
        packed, np.array(list(marks), dtype=np.int64), np.array(lookups, dtype=np.int64).reshape(-1, 2)
    )


def results_of(
    step: Step, marks: dict[int, list[Mark]], answer: StepResult, parts: Sequence[SharedContext]
) -> list[ScoreResult]:
    """The result of each part from the answer to the pass."""
    values: list[dict[int, float]] = [{} for _ in marks]
    for (index, token), value in zip(step.lookups.tolist(), answer.logprobs, strict=True):
        values[index][token] = value
    logprobs: list[dict[tuple[int, int], float]] = [{} for _ in parts]
    likeliest: list[dict[int, int]] = [{} for _ in parts]
    for owners, by_token, best in zip(marks.values(), values, answer.best, strict=True):
        for number, row in owners:
            likeliest[number][row] = best
            logprobs[number].update(((row, token), by_token[token]) for token in parts[number].tokens_at(row))
    return [part.result(f, b) for part, f, b in zip(parts, logprobs, likeliest, strict=True)]


class Collector:
    """Joins the results of parts to results of requests."""

    def __init__(self, parts: Sequence[SharedContext]) -> None:
        self._missing: dict[int, int] = {}
        self._entries: dict[int, list[tuple[int, float, bool]]] = {}
        for part in parts:
            self._missing[part.request] = self._missing.get(part.request, 0) + 1

    def add(self, part: SharedContext, result: ScoreResult) -> ScoreResult | None:
        """Add one part's result; returns the request's result after its last part, else None."""
        entries = self._entries.setdefault(part.request, [])
        entries += zip(part.choices, result.logprobs, result.is_greedy, strict=True)
        self._missing[part.request] -= 1
        if self._missing[part.request]:
            return None
        entries = sorted(self._entries.pop(part.request))
        return ScoreResult(
            logprobs=tuple(entry[1] for entry in entries), is_greedy=tuple(entry[2] for entry in entries)
        )
