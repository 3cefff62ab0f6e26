"""Greedy generation through many layer paths at once, outside the scheduler.

Paths share the prompts' first pass up to the first layer in which they differ. Every decode step then runs all rows (path,
prompt) together and reads a layer's weights once per sweep instead of once per path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evals.engine import GenerateRequest, GenerateResult
from evals.errors import EngineError
from evals.layer_visits import path_order_key
from evals.text_stop import StopStrings, final_text
from evals.vllm.batch import DecodeStep, Penalty, Step, StepResult, batch_of
from evals.vllm.limits import Limits
from evals.vllm.radix import BlockPool, RadixTree, Resident
from evals.vllm.schedule import Path, Stride, most_repeats

Prefill = Callable[[Step, list[Path], Stride], list[StepResult]]
Decode = Callable[[DecodeStep, list[Path], Stride], list[int]]


@dataclass(frozen=True)
class Passes:
    """The worker's forward passes."""

    prefill: Prefill
    decode: Decode
    mend: Callable[[], None]
    """Zero the KV cache if a path left non-finite values in it."""


@dataclass
class _Row:
    """One prompt on one path."""

    path: int
    prompt: int
    watch: StopStrings
    tokens: list[int]
    ended: bool = False
    """Whether an end token or a stop string was reached."""


@dataclass(frozen=True)
class Text:
    """Tokenizer, end tokens and repetition penalty of generated text."""

    tokenizer: Any
    ends: frozenset[int]
    end_text: str
    repetition_penalty: float = 1.0
    """Applied to the tokens of prompt and text; 1 for none."""


class PathGenerator:
    """Generates on groups of layer paths."""

    def __init__(self, passes: Passes, limits: Limits, max_length: int, text: Text) -> None:
        self._passes = passes
        self._limits = limits
        self._max_length = max_length
        self._text = text

    def generations(
        self, requests: Sequence[GenerateRequest], paths: Sequence[Path]
    ) -> Iterator[tuple[int, int, GenerateResult]]:
        """Yield (path, request, result), by groups of neighbouring paths in the trie."""
        order = sorted(range(len(paths)), key=lambda p: path_order_key(paths[p]))
        for numbers in self._chunks(requests):
            chunk = [requests[number] for number in numbers]
            begin = 0
            while begin < len(order):
                group = self._group(chunk, [paths[p] for p in order[begin:]])
                for row in self._run(chunk, group):
                    request = chunk[row.prompt]
                    yield order[begin + row.path], numbers[row.prompt], self._result(request, row)
                begin += len(group)
                self._passes.mend()

    def _chunks(self, requests: Sequence[GenerateRequest]) -> Iterator[range]:
        """Ranges of requests whose prompts are computed in one pass; on a GPU also limited by tokens, because of memory."""
        begin = tokens = 0
        for number, request in enumerate(requests):
            full = self._limits.ahead and tokens and tokens + len(request.prompt) > self._limits.tokens
            if number - begin == self._limits.prompts or full:
                yield range(begin, number)
                begin, tokens = number, 0
            tokens += len(request.prompt)
        if begin < len(requests):
            yield range(begin, len(requests))

    def _group(self, requests: Sequence[GenerateRequest], paths: list[Path]) -> list[Path]:
        """As many of the paths as rows and KV cache allow; EngineError if not even one fits."""
        blocks = self._blocks_of_a_path(requests)
        count = 0
        while count < len(paths) and (count + 1) * len(requests) <= max(self._limits.rows, len(requests)):
            if blocks >= self._limits.blocks // self._stride(paths[: count + 1]).blocks:
                break
            count += 1
        if not count:
            raise EngineError(
                f"{len(requests)} prompts with their answers do not fit into the KV cache: raise kv_cache_gib."
            )
        return paths[:count]

    def _stride(self, paths: Sequence[Path]) -> Stride:
        return Stride(len(paths), most_repeats(paths), self._limits.holders)

    def _blocks_of_a_path(self, requests: Sequence[GenerateRequest]) -> int:
        """Number of blocks of all prompts with their answers; shared blocks count once."""
        size = self._limits.block_size
        prompts = [self._prompt(request) for request in requests]
        most = sum(len(prompt) // size + 2 for prompt in prompts)
        pool = BlockPool(1, most + 1, size)
        _, tables = self._first_pass(prompts, pool)
        ends = [-(-(len(p) + r.max_new_tokens) // size) for p, r in zip(prompts, requests, strict=True)]
        return most - pool.free + sum(end - len(table) for end, table in zip(ends, tables, strict=True))

    def _prompt(self, request: GenerateRequest) -> tuple[int, ...]:
        room = self._max_length - request.max_new_tokens
        if room < 1:
            raise EngineError(
                f"{request.max_new_tokens} new tokens leave no room for a prompt in {self._max_length} tokens: "
                "lower the task's limit or raise max_length."
            )
        return request.prompt[-room:]

    def _run(self, requests: Sequence[GenerateRequest], paths: list[Path]) -> list[_Row]:
        stride = self._stride(paths)
        pool = BlockPool(1, self._limits.blocks // stride.blocks, self._limits.block_size)
        prompts = [self._prompt(request) for request in requests]
        step, tables = self._first_pass(prompts, pool)
        prompt_tokens = list(map(set, prompts))
        step = replace(step, penalty=self._penalty(prompt_tokens))
        rows: list[_Row] = []
        for path, result in enumerate(self._passes.prefill(step, paths, stride)):
            for prompt, token in enumerate(result.best):
                watch = StopStrings(self._text.tokenizer, requests[prompt].stop)
                rows.append(_Row(path, prompt, watch, [token]))
        unfinished = rows
        while unfinished := [row for row in unfinished if self._continues(row, requests[row.prompt])]:
            lengths = self._extend_tables(tables, prompts, unfinished, pool)
            penalty = self._penalty([prompt_tokens[row.prompt].union(row.tokens) for row in unfinished])
            next_step = replace(_decode_step(unfinished, lengths, tables), penalty=penalty)
            best = self._passes.decode(next_step, paths, stride)
            for row, token in zip(unfinished, best, strict=True):
                row.tokens.append(token)
        return rows

    def _penalty(self, tokens_by_row: Sequence[set[int]]) -> Penalty | None:
        """The repetition penalty on rows with these tokens; None if the penalty is 1."""
        if self._text.repetition_penalty == 1.0:
            return None
        pairs = [(row, token) for row, tokens in enumerate(tokens_by_row) for token in tokens]
        return Penalty(self._text.repetition_penalty, np.array(pairs, dtype=np.int64))

    def _first_pass(self, prompts: list[tuple[int, ...]], pool: BlockPool) -> tuple[Step, list[list[int]]]:
        """The pass over the prompts, and each prompt's blocks; the last block is not shared."""
        tree = RadixTree(Resident())
        order = sorted(range(len(prompts)), key=lambda p: prompts[p])
        for index, following in zip(order, [*order[1:], None], strict=True):
            is_prefix = following is not None and prompts[following][: len(prompts[index])] == prompts[index]
            # A prompt that is a prefix of another would share the block to which its answer is appended.
            (tree.insert_alone if is_prefix else tree.insert)(prompts[index], (index, 0))
        tree.place(pool)
        packed, marks = batch_of(tree, self._limits.block_size)
        row_of = {owner: row for row, owners in marks.items() for owner, _ in owners}
        ends = {owner: line[-1] for line in tree.lines() for _, (owner, _) in line[-1].marks}
        rows = np.array([row_of[prompt] for prompt in range(len(prompts))], dtype=np.int64)
        step = Step(packed, rows, np.zeros((0, 2), dtype=np.int64))
        return step, [list(ends[prompt].table) for prompt in range(len(prompts))]

    def _continues(self, row: _Row, request: GenerateRequest) -> bool:
        row.ended = row.tokens[-1] in self._text.ends or row.watch.reached(row.tokens)
        return not row.ended and len(row.tokens) < request.max_new_tokens

    def _extend_tables(
        self, tables: list[list[int]], prompts: list[tuple[int, ...]], unfinished: list[_Row], pool: BlockPool
    ) -> dict[int, int]:
        """Length of each unfinished prompt with its newest token; allocates the block for it."""
        lengths = {row.prompt: len(prompts[row.prompt]) + len(row.tokens) for row in unfinished}
        for prompt, length in lengths.items():
            while len(tables[prompt]) * self._limits.block_size < length:
                tables[prompt].append(pool.take())
        return lengths

    def _result(self, request: GenerateRequest, row: _Row) -> GenerateResult:
        return GenerateResult(
            text=final_text(self._text.tokenizer, row.tokens, request.stop, self._text.end_text),
            n_tokens=len(row.tokens),
            finish_reason="stop" if row.ended else "length",
        )


def _decode_step(rows: list[_Row], lengths: dict[int, int], tables: list[list[int]]) -> DecodeStep:
    prompts = [row.prompt for row in rows]
    table = np.zeros((len(rows), max(len(tables[prompt]) for prompt in prompts)), dtype=np.int64)
    for number, prompt in enumerate(prompts):
        table[number, : len(tables[prompt])] = tables[prompt]
    return DecodeStep(
        tokens=np.array([row.tokens[-1] for row in rows], dtype=np.int64),
        paths=np.array([row.path for row in rows], dtype=np.int64),
        lengths=np.array([lengths[prompt] for prompt in prompts], dtype=np.int64),
        tables=table,
    )
