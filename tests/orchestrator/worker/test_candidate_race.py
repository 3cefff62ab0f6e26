"""A race of candidates through planner, scheduler, store, worker and commands; the engine alone answers by a rule instead of a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evals.stats.candidate_race import part_answers
from evals.stats.sequence import PartAnswers
from orchestrator.cli.decided_view import decided_table
from orchestrator.cli.plan_view import show_plan
from orchestrator.cli.results_view import show_results
from orchestrator.cli.status_view import show_run
from orchestrator.compare.candidate_races import candidate_race_of
from orchestrator.compare.run_comparisons import results_of_run, stored_samples
from orchestrator.errors import SweepError
from orchestrator.plan.job import EvalJob, Task
from orchestrator.plan.plan import make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.report.html import render_html
from orchestrator.report.request import ReportRequest
from orchestrator.report.run_report import run_report
from orchestrator.run.run import execute, stored_plan
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import EvalOutcome
from tests.support.in_process import InProcess, Silent, all_runs_here
from tests.support.racing_sweep import SWEEP, open_skilled, write_tasks

SMALL = SWEEP.replace("{{grid: all}}", '"(1, 2)", "(2, 3)", "(0, 3)", "(1, 4)"').replace("keep: 2", "keep: 1")


def _points(part: PartAnswers) -> float:
    """What the credits are worth: with all documents the difference of the normalized scores."""
    value, begin = 0.0, 0
    for subset in part.subsets:
        value += subset.points * sum(part.credits[begin : begin + subset.n]) / subset.n
        begin += subset.n
    return value


class Stopped(Exception):
    """Stands for the end of the process."""


def test_it_races_goes_on_after_a_stop_and_is_completed(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engines, home = open_skilled(monkeypatch), tmp_path / "home"
    all_runs_here(monkeypatch)
    settings = Settings(
        home=home, database_url=f"sqlite:///{home}/store.sqlite", datasets=None, ray_address=None
    )
    text = SMALL.format(base=tiny_llama, tasks=write_tasks(tmp_path / "tasks")).replace(", race_written", "")
    (tmp_path / "sweep.yaml").write_text(text)
    plan = make_plan(parse_sweep(text.encode(), origin="sweep.yaml", folder=tmp_path), settings)
    show_plan(tmp_path / "sweep.yaml", settings, sources=[], as_json=False)
    assert "Race: 4 candidates are asked 20%, 50% of each" in capsys.readouterr().out

    # It is stopped in its first part.
    submit, calls = InProcess.submit, 0

    def stopping(self: InProcess, tasks: Sequence[Task]) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Stopped
        submit(self, tasks)

    with monkeypatch.context() as patched:
        patched.setattr(InProcess, "submit", stopping)
        with pytest.raises(Stopped):
            execute(plan, settings, Silent())
    with Store.open(settings.database_url) as store:
        (run,) = store.runs()
    summary = execute(stored_plan(run.id, settings), settings, Silent())
    assert (summary.run_id, summary.failed) == (run.id, {})
    with Store.open(settings.database_url) as store:
        run = store.run(run.id)
        race = candidate_race_of(store, run)
        results = results_of_run(store, run.id)
        report = run_report(
            store,
            run,
            results,
            ReportRequest(names=(run.id,)),
            home,
            now=datetime.now(UTC),
        )
        assert decided_table(store.sequences(run.id)).row_count == 0
    assert race is not None
    assert race.contenders[0] in ("(1, 2)", "(2, 3)")
    left = {candidate.name for candidate, _ in race.left}
    assert {"(0, 3)", "(1, 4)"} <= left
    assert {result.candidate.name for result in results} == {"base", *race.contenders}
    # Nothing is asked twice, over the stop and over the rounds.
    asked = sum(engine.asked for engine in engines)
    assert asked == race.asked + race.looks[0].n_whole

    show_results(summary, plan, settings, as_json=False)
    printed = capsys.readouterr().out
    assert "The race: who can still be among the best 1" in printed
    assert race.sentence in " ".join(printed.split())
    show_results(summary, plan, settings, as_json=True)
    assert set(json.loads(capsys.readouterr().out)["race"]["left"]) == left
    show_run(settings, run.id, as_json=False)
    shown = capsys.readouterr().out
    assert race.sentence in shown
    assert "(0, 3): left the race for the best 1 after" in shown
    html = render_html(report)
    assert "Candidates that left" in html
    assert "left the race" in html

    # The whole sweep asks the rest, and nothing twice; then the race finds everything in the store.
    completed = execute(stored_plan(run.id, settings, whole=True), settings, Silent())
    assert completed.run_id != run.id
    assert sum(engine.asked for engine in engines) == 5 * race.looks[0].n_whole
    with Store.open(settings.database_url) as store:
        assert candidate_race_of(store, store.run(completed.run_id)) is None
        jobs = {item.job.digest: item.job for item in store.run_jobs(completed.run_id)}
        outcomes = store.outcomes(jobs)
    samples, values = {}, {}
    for digest, job in jobs.items():
        outcome = outcomes[digest]
        assert isinstance(outcome, EvalOutcome)
        assert isinstance(job, EvalJob)
        samples[job.layer_path] = stored_samples(digest, outcome, home).read()
        values[job.layer_path] = outcome.evaluation.result.normalized
    benchmark = plan.suites[0][1].benchmarks[0]
    for path, of_path in samples.items():
        part = part_answers(benchmark, samples[None], of_path, 0.9999, 0)
        assert len(part.items) == race.looks[0].n_whole
        assert _points(part) == pytest.approx(values[path] - values[None])

    other = text.replace("error_rate: 0.1", "error_rate: 0.1, seed: 3")
    again = make_plan(parse_sweep(other.encode(), origin="sweep.yaml", folder=tmp_path), settings)
    before = sum(engine.asked for engine in engines)
    summary = execute(again, settings, Silent())
    assert summary.failed == {}
    assert sum(engine.asked for engine in engines) == before
    with Store.open(settings.database_url) as store:
        assert candidate_race_of(store, store.run(summary.run_id)) is not None


def test_a_benchmark_that_cannot_be_asked_in_parts_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url="sqlite://", datasets=None, ray_address=None)
    tasks = write_tasks(tmp_path / "tasks")
    (tasks / "f1.yaml").write_text(
        (tasks / "scored.yaml")
        .read_text()
        .replace("race_scored", "race_f1")
        .replace("metric: acc, aggregation: mean", "metric: f1, aggregation: f1")
    )
    text = SMALL.format(base=tiny_llama, tasks=tasks).replace("race_written", "race_f1")
    with pytest.raises(
        SweepError,
        match=r"decide.race: race_f1 cannot be asked in parts \(its metric is over all documents\)",
    ):
        make_plan(parse_sweep(text.encode(), origin="sweep.yaml", folder=tmp_path), settings)
