"""The first documents of every subset of both leaderboards, here and in stock lm-eval, on the embedded language model.

    python -m tests.evals.test_parity_slow [--limit 20] [--engine vllm] [--checkpoint DIR] [--log FILE] [suite[:benchmark] ...]

prints a line for each subset and every sample that differs; with a log it goes on where it was cut. Without a checkpoint
a two-layer one with a tokenizer of the benchmarks' own text is made, on which all subsets of a suite take minutes instead
of hours: prompts are compared by their hash in any case, and log-probabilities of random weights depend on every token.
As a test it runs two documents of each subset on the language model.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from evals.datasets import DatasetState, check
from evals.engine import EngineKind
from evals.scores import ChatTemplate
from evals.suite import Benchmark, Suite, load_suite
from tests.support.parity import Parity, SideBySide
from tests.support.tiny_checkpoints import tiny_checkpoint, trained_tokenizer

MIRROR = os.environ.get("MERGEBOARD_DATASETS")
SUITES = ("leaderboard-v2", "leaderboard-v1")


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not MIRROR, reason="MERGEBOARD_DATASETS names no mirror of the benchmark data")
@pytest.mark.parametrize("name", SUITES)
def test_the_same_answers_as_stock_lm_eval(name: str, demo_checkpoint: Path, tmp_path: Path) -> None:
    suite = load_suite(name)
    mirror = Path(MIRROR or "")
    both = SideBySide(suite, demo_checkpoint)
    template = suite.settings.chat_template or ChatTemplate.ON
    for benchmark in suite.benchmarks:
        if check(benchmark, mirror).state is DatasetState.AVAILABLE:
            found = both.compare(benchmark, suite.eval_settings(template, limit=2), mirror, tmp_path)
            assert found.n_samples == 2 * len(benchmark.subsets)
            assert found.differing == []
            assert found.worst_logprob < 1e-3


class _Line(NamedTuple):
    """One subset with one template setting."""

    suite: str
    subset: str
    template: ChatTemplate


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument(
        "--engine", type=EngineKind, choices=list(EngineKind), default=EngineKind.TRANSFORMERS
    )
    parser.add_argument("--chat-template", choices=["on", "off"], nargs="*", default=["off", "on"])
    parser.add_argument("--log", type=Path)
    parser.add_argument("what", nargs="*", default=list(SUITES))
    chosen = parser.parse_args(arguments)
    done = {tuple(json.loads(line)["key"]) for line in chosen.log.open()} if _exists(chosen.log) else set()
    worst = 0
    scratch = tempfile.TemporaryDirectory()
    checkpoint = chosen.checkpoint or _small(Path(scratch.name))
    opened: dict[str, SideBySide] = {}
    for what in chosen.what:
        name, _, only = what.partition(":")
        suite = load_suite(name)
        if name not in opened:
            opened[name] = SideBySide(suite, checkpoint, kind=chosen.engine)
        both = opened[name]
        for benchmark, line in _lines(suite, only, chosen.chat_template):
            if tuple(line) in done:
                continue
            found, duration_s = _compare(both, benchmark, line, chosen.limit)
            _show(line, found, duration_s)
            worst += len(found.differing) + (found.worst_logprob > 1e-3)
            if chosen.log is not None:
                with chosen.log.open("a") as log:
                    log.write(json.dumps({"key": line, **vars(found), "duration_s": duration_s}) + "\n")
    return 1 if worst else 0


def _small(directory: Path) -> Path:
    """Two layers of width 64, with 8,192 tokens of the mirror's questions, so that prompts are about as long as usual."""
    texts = [
        str(value)
        for path in sorted(Path(MIRROR or "").rglob("*.parquet"))[::9]
        for row in pq.read_table(path).slice(0, 300).to_pylist()
        for value in row.values()
    ]
    tiny_checkpoint(directory, layers=2, vocabulary=8192, config={"max_position_embeddings": 8192})
    (directory / "tokenizer.json").write_text(trained_tokenizer(texts, 8192), encoding="utf-8")
    return directory


def _exists(path: Path | None) -> bool:
    return path is not None and path.is_file()


def _lines(suite: Suite, only: str, templates: list[str]) -> Iterator[tuple[Benchmark, _Line]]:
    """Every subset that the mirror has, as a benchmark of its own, once for each template setting."""
    for template in map(ChatTemplate, templates):
        for benchmark in suite.benchmarks:
            if only not in ("", benchmark.name) or suite.settings.chat_template not in (None, template):
                continue
            if check(benchmark, Path(MIRROR) if MIRROR else None).state is not DatasetState.AVAILABLE:
                continue
            for subset in benchmark.subsets:
                line = _Line(suite.name, subset.task, template)
                yield benchmark.model_copy(update={"subsets": (subset,)}), line


def _compare(both: SideBySide, benchmark: Benchmark, line: _Line, limit: int) -> tuple[Parity, float]:
    settings = both.suite.eval_settings(line.template, limit=limit)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = both.compare(benchmark, settings, Path(MIRROR or ""), Path(folder))
    return found, time.monotonic() - begun


def _show(line: _Line, found: Parity, duration_s: float) -> None:
    print(
        f"{line.suite:14} {line.subset:58} template {line.template:3} samples {found.n_samples:4} "
        f"differing {len(found.differing):3} worst log-probability {found.worst_logprob:.1e} {duration_s:6.0f} s",
        flush=True,
    )
    for differing in found.differing:
        print("   ", differing, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
