"""Generation through many layer paths with a worker that only remembers: which blocks are written and read, without an engine."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given

from evals.engine import GenerateRequest
from evals.vllm.batch import DecodeStep, Step, StepResult
from evals.vllm.path_generation import Passes, PathGenerator, Text
from evals.vllm.schedule import Path, Stride
from tests.evals.vllm.test_planning import BLOCK, PATHS, SEQUENCES

BLOCKS = 4000
NEW = 6


class Remembering:
    """A worker whose keys are (token, position): the next token is told from all that a token sees."""

    def __init__(self) -> None:
        self._memory: dict[tuple[int, int], tuple[int, int]] = {}

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
                self._next(batch.tables[owner[row]].tolist(), int(batch.positions[row]) + 1, path, stride)
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
                self._write(block, (length - 1) % BLOCK, token, length - 1)
        return [self._next(table, length, path, stride) for _, path, length, table in rows]

    def _write(self, block: int, place: int, token: int, position: int) -> None:
        assert 0 < block < BLOCKS
        self._memory[block, place] = token, position

    def _next(self, table: list[int], length: int, path: int, stride: Stride) -> int:
        seen = []
        for at in range(length):
            found = {
                self._memory[stride.block(table[at // BLOCK], path, r), at % BLOCK]
                for r in range(stride.repeats)
            }
            ((token, position),) = found
            assert position == at
            seen.append(token)
        return following(seen, path)


def following(tokens: Sequence[int], path: int) -> int:
    """A next token that every token before it matters for."""
    value = path
    for token in tokens:
        value = (3 * value + token + 1) % 101
    return value % 2


def spelled(prompt: tuple[int, ...], tokens: list[int]) -> str:
    return "".join(map(str, tokens))


@given(SEQUENCES, PATHS)
def test_every_row_sees_its_own_past(prompts: list[tuple[int, ...]], paths: list[Path]) -> None:
    worker = Remembering()
    generator = PathGenerator(
        Passes(worker.prefill, worker.decode, lambda: None),
        BLOCKS,
        BLOCK,
        64,
        Text(None, frozenset(), "", spelled),
    )
    requests = [
        GenerateRequest(prompt=prompt, max_new_tokens=NEW + number % 2)
        for number, prompt in enumerate(prompts)
    ]
    found = {(path, number): result.text for path, number, result in generator.generations(requests, paths)}
    assert len(found) == len(paths) * len(prompts)
    # A group numbers its paths in the trie's order, and here all paths are one group.
    numbers = {path: n for n, path in enumerate(sorted(range(len(paths)), key=lambda p: paths[p]))}
    for (path, number), text in found.items():
        tokens: list[int] = []
        while len(tokens) < requests[number].max_new_tokens:
            tokens.append(following([*prompts[number], *tokens], numbers[path]))
        assert text == spelled((), tokens)
