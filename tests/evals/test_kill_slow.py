"""`kill -9` at random moments of an evaluation: the resumed result is the undisturbed one, at most one batch is done twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from evals.engine import EngineKind, EngineSpec, EngineTuning, PathEngine
from evals.engines import installed_version, open_engine
from evals.harness import evaluate
from evals.journal import Request, request_digest
from evals.samples import read_samples
from evals.scores import ChatTemplate, Evaluation
from evals.suite import load_suite
from tests.support.engines_before import Before

SMOKE = load_suite("smoke")
BATCH = 8
MOMENTS = 20


class Counting(Before):
    """Notes every answer that an engine gives in a file, before anyone else sees it."""

    def __init__(self, behind: PathEngine, log: Path) -> None:
        super().__init__(behind)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def answered(self, index: int, request: Request) -> bool:
        os.write(self._log, request_digest(request).encode() + b"\n")
        return True


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> Iterator[PathEngine]:
    torch.set_num_threads(1)  # a child of a process with threads at work would wait for them for ever
    version = installed_version(EngineKind.TRANSFORMERS)
    spec = EngineSpec(kind=EngineKind.TRANSFORMERS, version=version, dtype="float32", max_length=1024)
    opened = open_engine(spec, tiny_llama, EngineTuning(batch_size=BATCH, threads=1))
    yield opened
    opened.close()


def start(engine: PathEngine, name: str, folder: Path) -> int:
    """An evaluation in a process of its own; its process id."""
    folder.mkdir(exist_ok=True)
    child = os.fork()
    if child:
        return child
    try:
        found = evaluate(
            Counting(engine, folder / "answers"),
            SMOKE,
            SMOKE.benchmark(name),
            SMOKE.eval_settings(ChatTemplate.OFF, limit=24),
            mirror=None,
            journal_dir=folder / "journal",
            samples_path=folder / "samples.parquet",
        )
        (folder / "evaluation.json").write_text(found.model_dump_json())
        os._exit(0)
    finally:
        os._exit(1)


def finish(child: int) -> bool:
    """Whether the process ended by itself and well."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def result(folder: Path) -> Evaluation:
    found = Evaluation.model_validate_json((folder / "evaluation.json").read_text())
    return found.model_copy(update={"n_replayed": 0, "duration_s": 0.0})


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["bbh", "math"])
def test_a_killed_evaluation_resumes_to_the_undisturbed_result(
    engine: PathEngine, tmp_path: Path, name: str
) -> None:
    whole = tmp_path / "whole"
    begun = time.monotonic()
    assert finish(start(engine, name, whole))
    duration_s = time.monotonic() - begun
    needed = (whole / "answers").read_text().split()
    moments = random.Random(name)
    cut, repeated = 0, []
    for number in range(MOMENTS // 2):
        folder = tmp_path / f"killed-{number}"
        child = start(engine, name, folder)
        time.sleep(moments.uniform(0.0, duration_s))
        os.kill(child, signal.SIGKILL)
        cut += not finish(child)
        answered = len((folder / "answers").read_text().split()) if (folder / "answers").exists() else 0
        assert finish(start(engine, name, folder))
        given = (folder / "answers").read_text().split()
        assert set(given) == set(needed)
        repeated.append(len(given) - len(needed))
        assert repeated[-1] <= BATCH, f"{repeated[-1]} of {answered} answers were computed again"
        assert result(folder) == result(whole)
        assert read_samples(folder / "samples.parquet") == read_samples(whole / "samples.parquet")
    print(f"{name}: {cut} of {MOMENTS // 2} cut, {repeated} answers computed twice")
    assert cut >= MOMENTS // 4, "most moments have to lie within the evaluation"
