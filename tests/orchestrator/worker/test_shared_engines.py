"""Built layer paths that share an engine, as jobs: the outcomes of an engine of each path's own, on one start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.scores import PROBE_SUITE
from orchestrator.plan.job import EvalJob, Task
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.settings import Settings, WorkerContext
from orchestrator.store.records import EvalOutcome, Failure, FailureClass
from orchestrator.worker.worker import EngineHost, run_build
from recipes.artifact import ArtifactStore
from tests.orchestrator.worker.test_live_merges import PROBE, measured, run_plan
from tests.support.family_checkpoints import family_checkpoint

PATHS = ([0, 1, 1, 2, 3, 4], [0, 1, 2, 3, 3, 4], [2, 3, 1, 0, 1, 4])


def planned(base: Path, *paths: list[int], materialize: bool) -> Plan:
    values: dict[str, Any] = {
        "name": "s",
        "base": str(base),
        "recipes": [{"layer_path": path} for path in paths],
        "suites": [
            {"suite": PROBE_SUITE, "benchmarks": [PROBE]},
            {"suite": "smoke", "benchmarks": ["musr"], "limit": 2},
        ],
        "engines": [{"kind": "transformers", "dtype": "float32"}],
        "materialize": materialize,
        "score_base": False,
    }
    file = parse_sweep(json.dumps(values).encode(), origin="s.yaml", folder=base)
    return make_plan(file, Settings.from_environment())


@pytest.fixture
def unlisted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint with layers of two kinds, of a family that no test compares live."""
    monkeypatch.setattr("evals.live_paths._FURTHER_FAMILIES", frozenset())
    return family_checkpoint(tmp_path / "base", "gemma2")


@pytest.mark.parametrize(
    "materialize", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["streamed", "files"]
)
def test_outcomes_are_those_of_an_engine_of_their_own(unlisted: Path, home: Path, materialize: bool) -> None:
    """The first and the third path have layer types of one order; the second has another order and another engine."""
    plan = planned(unlisted, *PATHS, materialize=materialize)
    assert len({p.job.engine_key for p in plan.evals}) == 2
    outcomes = run_plan(plan, home)
    starts = [o.engine_start_s for o in outcomes.values() if isinstance(o, EvalOutcome) and o.engine_start_s]
    assert len(plan.builds) == (3 if materialize else 2)
    ours = {p.job.digest: measured(outcomes[p.job.digest], home) for p in plan.evals}
    assert len(starts) == 3  # the second path's engine took the place of the first one's in this process
    for path in PATHS if materialize else PATHS[2:]:
        alone = planned(unlisted, path, materialize=True)
        theirs = run_plan(alone, home)
        for p in alone.evals:
            assert p.job.live_merge is None
            assert measured(theirs[p.job.digest], home) == ours[p.job.digest]
    assert len({str(result) for result in ours.values()}) == len(ours)


def test_a_built_file_that_changed_is_not_loaded(unlisted: Path, home: Path) -> None:
    """Weights that are read from files are checked against what the build wrote."""
    plan = planned(unlisted, PATHS[0], PATHS[2], materialize=True)
    context = WorkerContext(home=str(home), datasets=None)
    for job in plan.builds:
        run_build(context, f"b-{job.digest}", job)
    first, second = (p.job for p in plan.evals if isinstance(p.job, EvalJob) and p.job.is_probe)
    weights = ArtifactStore(home / "artifacts").verify(plan.builds[1].digest).path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(data)
    host = EngineHost(context)
    (outcome,) = host.run([Task(attempt_id="a", job=second)])
    assert isinstance(outcome, Failure)
    assert outcome.failure_class is not FailureClass.UNKNOWN
    (outcome,) = host.run([Task(attempt_id="b", job=first)])
    assert isinstance(outcome, EvalOutcome)
    host.close()
