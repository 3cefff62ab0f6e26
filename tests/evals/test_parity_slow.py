"""The first documents of every subset of both leaderboards, here and in stock lm-eval, on the embedded language model.

    python -m tests.evals.test_parity_slow [--limit 20] [--checkpoint DIR] [suite[:benchmark] ...]

prints a table and every sample that differs. As a test it runs two documents of each subset.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from evals.datasets import DatasetState, check
from evals.scores import ChatTemplate
from evals.suite import load_suite
from tests.evals.parity import SideBySide

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


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--chat-template", choices=["on", "off"], nargs="*", default=["off", "on"])
    parser.add_argument("what", nargs="*", default=list(SUITES))
    chosen = parser.parse_args(arguments)
    worst = 0
    for what in chosen.what:
        name, _, only = what.partition(":")
        suite = load_suite(name)
        both = SideBySide(suite, chosen.checkpoint)
        for benchmark in suite.benchmarks:
            status = check(benchmark, Path(MIRROR) if MIRROR else None)
            if only not in ("", benchmark.name) or status.state is not DatasetState.AVAILABLE:
                continue
            for template in chosen.chat_template:
                if suite.settings.chat_template not in (None, ChatTemplate(template)):
                    continue
                settings = suite.eval_settings(ChatTemplate(template), limit=chosen.limit)
                begun = time.monotonic()
                with tempfile.TemporaryDirectory() as folder:
                    found = both.compare(benchmark, settings, Path(MIRROR or ""), Path(folder))
                print(
                    f"{name:15} {benchmark.name:11} template {template:3} samples {found.n_samples:5} scores {found.n_scores:4} "
                    f"differing {len(found.differing):3} worst log-probability {found.worst_logprob:.1e} "
                    f"{time.monotonic() - begun:6.0f} s",
                    flush=True,
                )
                for line in found.differing:
                    print("   ", line, flush=True)
                worst += len(found.differing) + (found.worst_logprob > 1e-3)
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
