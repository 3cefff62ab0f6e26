"""Answers of a vLLM engine in a process of its own: vLLM changes the classes of some families of transformers.

python -m tests.support.engine_answers CHECKPOINT DTYPE < requests.pickle > answers.pickle
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

from evals.engine import EngineKind, EngineTuning, GenerateRequest, GenerateResult, ScoreRequest, ScoreResult
from tests.support.engine_requests import generated, opened, scored

Answers = tuple[list[ScoreResult], list[GenerateResult]]


def answers_of(
    checkpoint: Path, requests: list[ScoreRequest], prompts: list[GenerateRequest], dtype: str = "float32"
) -> Answers:
    """Scores and texts of an engine that another process opens with the checkpoint."""
    command = [sys.executable, "-m", "tests.support.engine_answers", str(checkpoint), dtype]
    given = pickle.dumps((requests, prompts))
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    answers: Answers = pickle.loads(done.stdout[done.stdout.index(b"\x80\x04") :])
    return answers


def main() -> None:
    """Read requests, write answers."""
    checkpoint, dtype = sys.argv[1:]
    requests, prompts = pickle.load(sys.stdin.buffer)
    with opened(
        EngineKind.VLLM, Path(checkpoint), EngineTuning(threads=1, kv_cache_gib=0.125), dtype=dtype
    ) as engine:
        answers = scored(engine, requests), generated(engine, prompts)
    sys.stdout.flush()
    sys.stdout.buffer.write(pickle.dumps(answers, protocol=4))


if __name__ == "__main__":
    main()
