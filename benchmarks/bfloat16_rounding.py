"""How much of a difference between engines is rounding: an engine in bfloat16 against stock lm-eval's `hf` model in bfloat16 and float32.

    MERGEBOARD_DATASETS=DIR python benchmarks/bfloat16_rounding.py --home DIR [--engine vllm] [--limit 2]

prints the largest difference of a log-probability and the documents whose score differs, for the multiple-choice benchmarks.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from evals.engine import EngineKind
from evals.scores import ChatTemplate
from evals.suite import load_suite
from recipes.demo import BASE, ensure_demo_checkpoint
from tests.evals.parity import SideBySide


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=2)
    parser.add_argument(
        "--engine", type=EngineKind, choices=list(EngineKind), default=EngineKind.TRANSFORMERS
    )
    parser.add_argument("--stock-dtype", default="bfloat16")
    parser.add_argument("--benchmark", nargs="*", default=["bbh", "musr", "mmlu_pro"])
    chosen = parser.parse_args()
    suite = load_suite("leaderboard-v2")
    checkpoint = ensure_demo_checkpoint(chosen.home, BASE)
    pair = SideBySide(
        suite, checkpoint, kind=chosen.engine, stock_kind=EngineKind.TRANSFORMERS, dtype="bfloat16",
        stock_dtype=chosen.stock_dtype,
    )  # fmt: skip
    for name in chosen.benchmark:
        with tempfile.TemporaryDirectory() as folder:
            settings = suite.eval_settings(ChatTemplate.OFF, limit=chosen.limit)
            mirror = Path(os.environ["MERGEBOARD_DATASETS"])
            parity = pair.compare(suite.benchmark(name), settings, mirror, Path(folder))
        flips = {text.rsplit(":", 1)[0] for text in parity.differing if ": acc" in text}
        print(
            f"{chosen.engine} bfloat16, hf {chosen.stock_dtype}, {name}: documents {parity.n_samples}, log-probabilities differ by "
            f"{parity.worst_logprob:.2f} at most, {parity.mean_logprob:.3f} on average, different answers {len(flips)}",
            flush=True,
        )
        for text in parity.differing:
            print("   ", text, flush=True)


if __name__ == "__main__":
    main()
