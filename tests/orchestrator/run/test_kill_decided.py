"""kill -9 in the middle of a slice: resumed by two engines instead of one, the same is decided after the same documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.store import Store
from orchestrator.store.records import AttemptState, EarlyOutcome, EvalOutcome
from tests.orchestrator.run.test_kill import kill_when, start
from tests.support.runs_fixture import mergeboard
from tests.support.tiny_checkpoints import tiny_checkpoint
from tests.support.two_nodes import resume_on_two_nodes

SWEEP = """\
name: decided
base: {base}
recipes: ["(1, 2)", "(0, 3)"]
suites: [{{suite: smoke, benchmarks: [bbh]}}]
engines: [{{kind: transformers, dtype: float32}}]
decide: {{margin: 30, error_rate: 0.2, smallest_share: 0.1, slice: 0.1}}
"""
ANSWERS = 12
"""Answers in a candidate's journal at which it is killed: between its first look, after 10 documents, and its last."""


def opened(home: Path) -> Store:
    return Store.open(f"sqlite:///{home}/store.sqlite", create=False)


def answers(home: Path, digest: str) -> int:
    files = (home / "journals" / digest).glob("*.journal")
    return sum(max(0, file.read_bytes().count(b"\n") - 1) for file in files)


@pytest.mark.slow
def test_killed_in_a_slice_and_resumed_by_two_engines(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(SWEEP.format(base=tiny_checkpoint(tmp_path / "tiny", seed=0)))
    calm, home = tmp_path / "calm", tmp_path / "home"
    ran = mergeboard("run", str(sweep), home=calm)
    assert ran.returncode == 0, ran.stderr
    assert "Decided against the base" in ran.stdout
    with opened(calm) as store:
        (run,) = store.runs()
        expected = store.sequences(run.id)
        jobs = [planned.job for planned in store.run_jobs(run.id)]
    assert len(expected) == 2
    assert all(record.early for record in expected), [record.sequence.text for record in expected]
    assert expected[0].sequence.n > ANSWERS, expected[0].sequence.text
    first = next(job for job in jobs if job.digest == expected[0].job_digest)
    assert first.kind == "eval"

    process = start(sweep, home)
    kill_when(process, lambda: answers(home, first.whole.digest) >= ANSWERS)
    with opened(home) as store:
        assert store.sequences(run.id) == ()
    resume_on_two_nodes(run.id, home)
    with opened(home) as store, opened(calm) as other:
        assert store.snapshot() == other.snapshot()
        resumed = store.sequences(run.id)
        assert [r.sequence for r in resumed] == [r.sequence for r in expected]
        outcome = store.outcomes([first.digest])[first.digest]
        assert isinstance(outcome, EarlyOutcome)
        assert outcome.early.n_replayed >= ANSWERS
        states = [attempt.state for attempt in store.attempts(first.digest)]
        assert states.count(AttemptState.SUCCEEDED) == 1
        assert AttemptState.LOST in states
    # What stopped early is completed, and only what is missing is asked.
    whole = mergeboard("resume", run.id, "--whole", home=home)
    assert whole.returncode == 0, whole.stderr
    with opened(home) as store:
        completed = store.outcomes([first.whole.digest])[first.whole.digest]
    assert isinstance(completed, EvalOutcome)
    assert completed.evaluation.n_replayed >= outcome.early.n_requests
    assert completed.evaluation.result.n == expected[0].sequence.n_whole
