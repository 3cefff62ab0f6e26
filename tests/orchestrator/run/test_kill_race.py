"""kill -9 in the second part of a race: resumed by two engines instead of one, the same candidates leave after the same documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.compare.candidate_races import candidate_race_of
from orchestrator.errors import StoreError
from orchestrator.plan.job import EvalJob
from orchestrator.store import Store
from orchestrator.store.records import EvalOutcome
from tests.orchestrator.run.test_kill import kill_when, start
from tests.support.runs_fixture import mergeboard
from tests.support.tiny_checkpoints import tiny_checkpoint
from tests.support.two_nodes import resume_on_two_nodes

SWEEP = """\
name: raced
base: {base}
recipes: ["(1, 2)", "(0, 3)", "(2, 3)", "(0, 1)", "(1, 4)"]
suites: [{{suite: smoke, benchmarks: [bbh]}}]
engines: [{{kind: transformers, dtype: float32}}]
decide: {{race: {{keep: 1, shares: [0.3, 0.6], error_rate: 0.25}}}}
"""


def opened(home: Path) -> Store:
    return Store.open(f"sqlite:///{home}/store.sqlite", create=False)


def second_part_runs(home: Path, run_id: str) -> bool:
    """Whether a job of the second part has begun."""
    try:
        with opened(home) as store:
            jobs = [item.job for item in store.run_jobs(run_id)]
            second = [
                j for j in jobs if isinstance(j, EvalJob) and j.decide is not None and j.decide.part == 0.6
            ]
            return any(store.attempts(job.digest) for job in second)
    except StoreError:  # it is not there yet
        return False


@pytest.mark.slow
def test_killed_in_the_second_part_and_resumed_by_two_engines(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(SWEEP.format(base=tiny_checkpoint(tmp_path / "tiny", seed=0)))
    calm, home = tmp_path / "calm", tmp_path / "home"
    ran = mergeboard("run", str(sweep), home=calm)
    assert ran.returncode == 0, ran.stderr
    assert "The race: who can still be among the best 1" in ran.stdout
    with opened(calm) as store:
        (run,) = store.runs()
        expected = candidate_race_of(store, run)
        assert expected is not None
    assert len(expected.looks) == 2
    assert expected.left, expected.looks

    process = start(sweep, home)
    kill_when(process, lambda: second_part_runs(home, run.id))
    with opened(home) as store:
        before = candidate_race_of(store, store.run(run.id))
        assert before is not None
        assert before.looks == expected.looks[:1]
    resume_on_two_nodes(run.id, home)
    with opened(home) as store, opened(calm) as other:
        assert candidate_race_of(store, store.run(run.id)) == expected
        assert store.snapshot() == other.snapshot()
        jobs = [item.job for item in store.run_jobs(run.id)]
        left = {candidate.name for candidate, _ in expected.left}
    # Whoever left is asked the rest by the whole run, and nothing twice.
    whole = mergeboard("resume", run.id, "--whole", home=home)
    assert whole.returncode == 0, whole.stderr
    with opened(home) as store:
        (completed,) = (r for r in store.runs() if r.id != run.id)
        names = {c.position: c.name for c in store.candidates(completed.id)}
        outcomes = store.outcomes(job.digest for job in jobs)
        for item in store.run_jobs(completed.id):
            outcome = store.outcomes([item.job.digest])[item.job.digest]
            assert isinstance(outcome, EvalOutcome)
            if names[item.candidates[0]] in left:
                assert outcome.evaluation.n_replayed > 0
    assert len(outcomes) == len(jobs)
