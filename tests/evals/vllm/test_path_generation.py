"""Generation through many layer paths with a worker that only remembers: which blocks are written and read, without an engine."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from evals.engine import GenerateRequest
from evals.vllm.batch import DecodeStep, Step, StepResult
from evals.vllm.limits import Limits
from evals.vllm.path_generation import Passes, PathGenerator, Text
from evals.vllm.schedule import Path, Stride
from tests.evals.vllm.test_planning import BLOCK, PATHS, SEQUENCES

NEW = 6


class Remembering:
    """A worker whose keys are (token, position), in each repetition of a layer; the next token is told from all of them."""

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._memory: dict[tuple[int, int, int], tuple[int, int]] = {}

    def prefill(self, step: Step, paths: Sequence[Path], stride: Stride) -> list[StepResult]:
        batch = step.batch
        assert not len(batch.copies)
        for path in range(len(paths)):
            for repeat in range(stride.repeats):
                for row, block, place in zip(
                    batch.write_rows.tolist(),
                    batch.write_blocks.tolist(),
                    batch.write_offsets.tolist(),
                    strict=True,
                ):
                    self._write(
                        stride.holder(repeat),
                        stride.block(block, path, repeat),
                        place,
                        int(batch.tokens[row]),
                        int(batch.positions[row]),
                    )
        owner = {
            row: sequence
            for sequence in range(len(batch.lengths))
            for row in range(batch.starts[sequence], batch.starts[sequence + 1])
        }
        return [
            StepResult([], [
                self._next(batch.tables[owner[row]].tolist(), int(batch.positions[row]) + 1, path, paths, stride)
                for row in step.rows.tolist()
            ])
            for path in range(len(paths))
        ]  # fmt: skip

    def decode(self, step: DecodeStep, paths: Sequence[Path], stride: Stride) -> list[int]:
        rows = list(
            zip(
                step.tokens.tolist(),
                step.paths.tolist(),
                step.lengths.tolist(),
                step.tables.tolist(),
                strict=True,
            )
        )
        for token, path, length, table in rows:
            for repeat in range(stride.repeats):
                block = stride.block(table[(length - 1) // BLOCK], path, repeat)
                self._write(stride.holder(repeat), block, (length - 1) % BLOCK, token, length - 1)
        return [self._next(table, length, path, paths, stride) for _, path, length, table in rows]

    def _write(self, holder: int, block: int, place: int, token: int, position: int) -> None:
        assert 0 < block < self._blocks
        self._memory[holder, block, place] = token, position

    def _next(self, table: list[int], length: int, path: int, paths: Sequence[Path], stride: Stride) -> int:
        seen = []
        for at in range(length):
            found = {
                self._memory[stride.holder(r), stride.block(table[at // BLOCK], path, r), at % BLOCK]
                for r in range(stride.repeats)
            }
            ((token, position),) = found
            assert position == at
            seen.append(token)
        return following(seen, paths[path])


def _number(visit: object) -> int:
    """A layer's number, or one for what a visit that is not whole runs."""
    return visit if isinstance(visit, int) else 5 + zlib.crc32(str(visit).encode()) % 90


def following(tokens: Sequence[int], path: Path) -> int:
    """A next token that every token before it and every layer matters for."""
    value = 0
    for number in (*map(_number, path), *tokens):
        value = (3 * value + number + 1) % 101
    return value % 2


class Spelled:
    """A tokenizer whose texts are its tokens' numbers."""

    def decode(self, tokens: list[int], **kwargs: object) -> str:
        return "".join(map(str, tokens))


@given(SEQUENCES, PATHS, st.integers(1, 3), st.sampled_from([400, 4000]))
def test_every_row_sees_its_own_past(
    prompts: list[tuple[int, ...]], paths: list[Path], holders: int, blocks: int
) -> None:
    worker = Remembering(blocks)
    passes = Passes(worker.prefill, worker.decode, lambda: None)
    generator = PathGenerator(passes, Limits(holders, blocks, BLOCK), 64, Text(Spelled(), frozenset(), ""))
    requests = [
        GenerateRequest(prompt=prompt, max_new_tokens=NEW + number % 2)
        for number, prompt in enumerate(prompts)
    ]
    found = {(path, number): result.text for path, number, result in generator.generations(requests, paths)}
    assert len(found) == len(paths) * len(prompts)
    for (path, number), text in found.items():
        tokens: list[int] = []
        while len(tokens) < requests[number].max_new_tokens:
            tokens.append(following([*prompts[number], *tokens], paths[path]))
        assert text == Spelled().decode(tokens)
