"""How much of a difference between engines is rounding: an engine in bfloat16 against stock lm-eval's `hf` model in bfloat16 and float32.

    MERGEBOARD_DATASETS=DIR python benchmarks/bfloat16_rounding.py --home DIR [--limit 2]

prints for each engine the largest difference of a log-probability and the documents whose score differs, for the multiple-choice benchmarks.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from evals.engine import EngineKind
from evals.scores import ChatTemplate
from evals.suite import load_suite
from recipes.demo import BASE, ensure_demo_checkpoint
from tests.support.parity import Parity, SideBySide


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=2)
    parser.add_argument(
        "--engine", type=EngineKind, choices=list(EngineKind), default=EngineKind.TRANSFORMERS
    )
    parser.add_argument("--stock-dtype", default="bfloat16")
    parser.add_argument("--suite", default="leaderboard-v2")
    parser.add_argument("--benchmark", nargs="*", default=["bbh", "musr", "mmlu_pro"])
    chosen = parser.parse_args()
    suite = load_suite(chosen.suite)
    checkpoint = ensure_demo_checkpoint(chosen.home, BASE)
    stock: LM | None = None
    for kind in EngineKind:
        pair = SideBySide(
            suite, checkpoint, kind=kind, dtype="bfloat16", stock=stock,
            stock_kind=EngineKind.TRANSFORMERS, stock_dtype=chosen.stock_dtype,
        )  # fmt: skip
        stock = stock or remembering(pair.stock)
        for name in chosen.benchmark:
            with tempfile.TemporaryDirectory() as folder:
                settings = suite.eval_settings(ChatTemplate.OFF, limit=chosen.limit)
                mirror = Path(os.environ["MERGEBOARD_DATASETS"])
                parity = pair.compare(suite.benchmark(name), settings, mirror, Path(folder))
            show(f"{kind} bfloat16, hf {chosen.stock_dtype}, {name}", parity)
        pair.engine.close()


def remembering(model: LM) -> LM:
    """The model, which answers a request that it has answered before from memory."""
    answers: dict[tuple[str, str], tuple[float, bool]] = {}
    ask = model.loglikelihood

    def loglikelihood(requests: list[Instance], **kwargs: object) -> list[tuple[float, bool]]:
        fresh = [request for request in requests if request.args not in answers]
        answers.update(zip([request.args for request in fresh], ask(fresh) if fresh else [], strict=True))
        return [answers[request.args] for request in requests]

    model.loglikelihood = loglikelihood
    return model


def show(what: str, parity: Parity) -> None:
    """Print a line, and the samples that differ."""
    flips = {text.partition(": acc")[0] for text in parity.differing if ": acc" in text}
    print(
        f"{what}: documents {parity.n_samples}, log-probabilities {len(parity.logprob_differences)}, difference at most "
        f"{parity.worst_logprob:.3f}, on average {parity.mean_logprob:.3f}, documents scored differently {len(flips)}",
        flush=True,
    )
    for text in parity.differing:
        print("   ", text, flush=True)


if __name__ == "__main__":
    main()
