"""Scoring requests as parts that share a context each, and their way into a forward pass and back."""

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
        self._wanted: list[set[int]] = [set() for _ in range(1 + len(self.tree.tokens))]
        for rows, continuation in zip(self.tree.rows, continuations, strict=True):
            for row, token in zip(rows, continuation, strict=True):
                self._wanted[row].add(token)

    def sequences(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Rows of the tree with the tokens up to each."""
        known = [self.context]
        yield 0, self.context
        for row, (token, parent) in enumerate(zip(self.tree.tokens, self.tree.parents, strict=True), start=1):
            known.append((*known[parent], token))
            yield row, known[row]

    def wanted(self, row: int) -> set[int]:
        """Tokens whose log-probabilities are wanted at a row."""
        return self._wanted[row]

    def result(self, found: dict[tuple[int, int], float], best: dict[int, int]) -> ScoreResult:
        """The sums over each continuation, from log-probabilities by (row, token) and the likeliest token by row."""
        scored = [
            list(zip(rows, tokens, strict=True))
            for rows, tokens in zip(self.tree.rows, self._continuations, strict=True)
        ]
        return ScoreResult(
            logprobs=tuple(sum(found[pair] for pair in pairs) for pairs in scored),
            is_greedy=tuple(all(best[row] == token for row, token in pairs) for pairs in scored),
        )


def parts_of(requests: Sequence[ScoreRequest], max_length: int) -> list[SharedContext]:
    """All requests in an order in which neighbours share prefixes; a request is taken apart where truncation leaves its
    continuations contexts of their own."""
    parts = []
    for index, request in enumerate(requests):
        groups: dict[tuple[int, ...], list[int]] = {}
        for choice, continuation in enumerate(request.continuations):
            groups.setdefault(truncated(request.context, continuation, max_length), []).append(choice)
        for context, choices in groups.items():
            parts.append(SharedContext(index, context, [request.continuations[c] for c in choices], choices))
    return sorted(parts, key=lambda part: part.context)


def step_of(packed: Batch, marks: dict[int, list[Mark]], parts: Sequence[SharedContext]) -> Step:
    """The pass with the log-probabilities that the parts want of it; a mark is (number of the part, row of its tree)."""
    lookups = [
        (index, token)
        for index, owners in enumerate(marks.values())
        for token in sorted({token for number, row in owners for token in parts[number].wanted(row)})
    ]
    return Step(
        packed, np.array(list(marks), dtype=np.int64), np.array(lookups, dtype=np.int64).reshape(-1, 2)
    )


def results_of(
    step: Step, marks: dict[int, list[Mark]], answer: StepResult, parts: Sequence[SharedContext]
) -> list[ScoreResult]:
    """Each part's result, out of the answer to the pass."""
    values: list[dict[int, float]] = [{} for _ in marks]
    for (index, token), value in zip(step.lookups.tolist(), answer.logprobs, strict=True):
        values[index][token] = value
    found: list[dict[tuple[int, int], float]] = [{} for _ in parts]
    likeliest: list[dict[int, int]] = [{} for _ in parts]
    for owners, by_token, best in zip(marks.values(), values, answer.best, strict=True):
        for number, row in owners:
            likeliest[number][row] = best
            found[number].update(((row, token), by_token[token]) for token in parts[number].wanted(row))
    return [part.result(f, b) for part, f, b in zip(parts, found, likeliest, strict=True)]


class Collector:
    """Puts the results of parts together again, request by request."""

    def __init__(self, parts: Sequence[SharedContext]) -> None:
        self._missing: dict[int, int] = {}
        self._entries: dict[int, list[tuple[int, float, bool]]] = {}
        for part in parts:
            self._missing[part.request] = self._missing.get(part.request, 0) + 1

    def add(self, part: SharedContext, result: ScoreResult) -> ScoreResult | None:
        """Take in one part's result; the whole request's once all its parts are there."""
        entries = self._entries.setdefault(part.request, [])
        entries += zip(part.choices, result.logprobs, result.is_greedy, strict=True)
        self._missing[part.request] -= 1
        if self._missing[part.request]:
            return None
        entries = sorted(self._entries.pop(part.request))
        return ScoreResult(
            logprobs=tuple(entry[1] for entry in entries), is_greedy=tuple(entry[2] for entry in entries)
        )
