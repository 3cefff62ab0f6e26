"""Both engines against stock lm-eval's `hf` model on eight further kinds of tokenizers and chat templates, in float32.

The quick test takes a document of two benchmarks of the smoke suite, with short texts, and vLLM with one kind; the slow ones take
all of the smoke suite, and ten documents of every subset of both leaderboards that the mirror has.

    MERGEBOARD_DATASETS=DIR python -m tests.evals.test_further_tokenizers [--engine vllm] [--limit 10] [KIND ...]

prints a line for each kind, template setting and suite, and every sample that differs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from evals.datasets import DatasetState, check
from evals.engine import EngineKind
from evals.scores import ChatTemplate
from evals.suite import Suite, load_suite
from tests.support.further_tokenizers import FURTHER_KINDS, further_checkpoint, smoke_lines
from tests.support.parity import Parity, SideBySide

MIRROR = os.environ.get("MERGEBOARD_DATASETS")
KINDS = pytest.mark.parametrize(
    "engine", [EngineKind.TRANSFORMERS, pytest.param(EngineKind.VLLM, marks=pytest.mark.vllm)]
)
NAMES = pytest.mark.parametrize("name", FURTHER_KINDS)


def suite_for(name: str, suite: str) -> Suite:
    """The suite with the BOS setting of the kind of tokenizer."""
    loaded = load_suite(suite)
    settings = loaded.settings.model_copy(update={"add_bos_token": FURTHER_KINDS[name].add_bos_token})
    return loaded.model_copy(update={"settings": settings})


def compared(
    side_by_side: SideBySide, name: str, limit: int, mirror: Path | None, only: Sequence[str] = ()
) -> Iterator[tuple[str, Parity]]:
    """One comparison for each benchmark whose data is there, and template setting that the kind of tokenizer has."""
    suite = side_by_side.suite
    templates = (ChatTemplate.OFF, ChatTemplate.ON) if FURTHER_KINDS[name].template else (ChatTemplate.OFF,)
    for template in templates:
        if suite.settings.chat_template not in (None, template):
            continue
        for benchmark in suite.benchmarks:
            if (only and benchmark.name not in only) or check(
                benchmark, mirror
            ).state is not DatasetState.AVAILABLE:
                continue
            with tempfile.TemporaryDirectory() as folder:
                settings = suite.eval_settings(template, limit=limit)
                parity = side_by_side.compare(benchmark, settings, mirror, Path(folder))
            yield f"{suite.name} {benchmark.name} template {template}", parity


def check_smoke(name: str, engine: EngineKind, folder: Path, suite: Suite) -> None:
    checkpoint = further_checkpoint(folder, name, smoke_lines(), 512)
    side_by_side = SideBySide(suite, checkpoint, kind=engine, stock_kind=EngineKind.TRANSFORMERS)
    try:
        parities = dict(compared(side_by_side, name, 1, None))
    finally:
        side_by_side.engine.close()
    assert len(parities) == len(suite.benchmarks) * (2 if FURTHER_KINDS[name].template else 1)
    assert {what: parity.differing for what, parity in parities.items() if parity.differing} == {}
    assert max(parity.worst_logprob for parity in parities.values()) < 1e-3


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        *((name, EngineKind.TRANSFORMERS) for name in FURTHER_KINDS),
        pytest.param("sentencepiece-bos", EngineKind.VLLM, marks=pytest.mark.vllm),
    ],
)
def test_the_same_answers_as_stock_lm_eval(name: str, engine: EngineKind, tmp_path: Path) -> None:
    suite = suite_for(name, "smoke")
    short = {"generation_kwargs": {"max_gen_toks": 24, "do_sample": False, "until": ["Problem:", " e"]}}
    math = suite.benchmark("math").model_copy(update={"overrides": short})
    benchmarks = (suite.benchmark("musr"), math)
    check_smoke(name, engine, tmp_path, suite.model_copy(update={"benchmarks": benchmarks}))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@KINDS
@NAMES
def test_the_whole_smoke_suite(name: str, engine: EngineKind, tmp_path: Path) -> None:
    check_smoke(name, engine, tmp_path, suite_for(name, "smoke"))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.skipif(not MIRROR, reason="MERGEBOARD_DATASETS names no mirror of the benchmark data")
@KINDS
@NAMES
def test_the_leaderboards_of_the_mirror(name: str, engine: EngineKind) -> None:
    assert main(["--engine", engine, name]) == 0


def main(arguments: Sequence[str]) -> int:
    """Compare on the mirror and print; 1 where a sample differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, default=10)
    parser.add_argument(
        "--engine", type=EngineKind, choices=list(EngineKind), default=EngineKind.TRANSFORMERS
    )
    parser.add_argument("--suite", nargs="*", default=["leaderboard-v2", "leaderboard-v1"])
    parser.add_argument("--benchmark", nargs="*", default=[])
    parser.add_argument("names", nargs="*", default=list(FURTHER_KINDS))
    chosen = parser.parse_args(arguments)
    mirror = Path(MIRROR or "")
    lines = _mirror_lines(mirror)
    different = 0
    for name in chosen.names:
        for suite in chosen.suite:
            begun = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = further_checkpoint(Path(folder), name, lines, 8192)
                side_by_side = SideBySide(
                    suite_for(name, suite), checkpoint, kind=chosen.engine, stock_kind=EngineKind.TRANSFORMERS
                )
                for what, parity in compared(side_by_side, name, chosen.limit, mirror, chosen.benchmark):
                    print(
                        f"{name:24} {what:44} samples {parity.n_samples:4} differing {len(parity.differing):3} "
                        f"worst log-probability {parity.worst_logprob:.1e} {time.monotonic() - begun:5.0f} s",
                        flush=True,
                    )
                    for differing in parity.differing:
                        print("   ", differing[:400], flush=True)
                    different += len(parity.differing) + (parity.worst_logprob > 1e-3)
                side_by_side.engine.close()
    return 1 if different else 0


def _mirror_lines(mirror: Path) -> list[str]:
    """A sample of the mirror's text."""
    return [
        str(value)
        for path in sorted(mirror.rglob("*.parquet"))[::9]
        for row in pq.read_table(path).slice(0, 200).to_pylist()
        for value in row.values()
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
