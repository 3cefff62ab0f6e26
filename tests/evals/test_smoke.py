"""The smoke suite: data of our own, the same every time, and a model that does well at it but not perfectly."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path

import pytest

from evals.engine import EngineKind, EngineSpec
from evals.engines import installed_version, open_engine
from evals.harness import evaluate, resolve_chat_template
from evals.scores import Evaluation
from evals.suite import load_suite
from evals.tasks.smoke.generate import DATA_DIR, tables, write

SMOKE = load_suite("smoke")


def test_the_generator_writes_what_is_shipped(tmp_path: Path) -> None:
    write(tmp_path)
    made = sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file())
    assert made == sorted(str(f.relative_to(DATA_DIR)) for f in DATA_DIR.rglob("*") if f.is_file())
    assert filecmp.cmpfiles(tmp_path, DATA_DIR, made, shallow=False) == (made, [], [])


def test_every_subset_has_at_least_forty_questions_and_no_two_the_same() -> None:
    assert all((s.n_documents or 0) >= 40 for b in SMOKE.benchmarks for s in b.subsets)
    for name, rows in tables().items():
        if not name.endswith("validation"):
            assert len(rows) >= 40
            assert len({json.dumps(row, sort_keys=True) for row in rows}) > 0.6 * len(rows)


def test_it_is_the_board_in_small() -> None:
    board = load_suite("leaderboard-v2")
    assert [b.name for b in SMOKE.benchmarks] == [b.name for b in board.benchmarks]
    for small, big in zip(SMOKE.benchmarks, board.benchmarks, strict=True):
        assert (small.metrics, small.aggregation, small.output, small.shots, small.title) == (
            big.metrics, big.aggregation, big.output, big.shots, big.title
        )  # fmt: skip


def run(checkpoint: Path, folder: Path, layers: tuple[int, ...] | None) -> dict[str, Evaluation]:
    spec = EngineSpec(
        kind=EngineKind.TRANSFORMERS, version=installed_version(EngineKind.TRANSFORMERS), max_length=4096
    )
    engine = open_engine(spec, checkpoint)
    engine.set_layer_path(layers)
    settings = SMOKE.eval_settings(resolve_chat_template(checkpoint))
    return {
        benchmark.name: evaluate(
            engine,
            SMOKE,
            benchmark,
            settings,
            mirror=None,
            journal_dir=folder / benchmark.name,
            samples_path=folder / f"{benchmark.name}.parquet",
        )
        for benchmark in SMOKE.benchmarks
    }


@pytest.mark.slow
def test_the_embedded_model_does_well_and_worse_without_ten_layers(
    demo_checkpoint: Path, tmp_path: Path
) -> None:
    whole = run(demo_checkpoint, tmp_path / "whole", None)
    assert sum(0.3 <= e.result.raw <= 0.9 for e in whole.values()) >= 4
    assert not any(e.result.comparable_to_board or e.result.alarms for e in whole.values())
    cut = run(demo_checkpoint, tmp_path / "cut", (*range(10), *range(20, 30)))
    for name in ("ifeval", "bbh", "math"):
        assert cut[name].result.raw < whole[name].result.raw - 0.25
