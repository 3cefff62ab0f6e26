"""What a run shows while it goes on: live in a terminal, as lines elsewhere, and to those who watch from another process."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from evals.live_paths import BUILD_ADVICE
from evals.race_rule import RaceRule
from evals.stats.candidate_race import CandidateLook, CandidateRace, RacingCandidate
from orchestrator.cli.progress import TerminalReporter, headline, job_text
from orchestrator.cli.status_view import show_run, watch_run
from orchestrator.display.text_safety import Terminal
from orchestrator.plan.durations import Durations
from orchestrator.run.job_state import NodeState
from orchestrator.run.outlook import RunOutlook, StoredOutlook
from orchestrator.run.progress import FailedAttempt, JobProgress, RunProgress
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import AttemptRecord, EvalOutcome, Failure, FailureClass, RunRecord, RunState
from tests.support.store_data import build_job, eval_job, outcome_of
from tests.support.store_work import BAD_INPUT, driven, started

SCORES = JobProgress(
    digest="a", label="merged: smoke bbh", stage="evaluating", done=12, total=90, tokens=4000, share_done=0.1,
    work_s=8.0, node="node-1",
)  # fmt: skip
STARTS = JobProgress(
    digest="b",
    label="base: smoke musr and 3 more",
    stage="starting the engine",
    engine_starts=True,
    node="node-2",
)


def moment(done: int = 2, remaining_s: float | None = 290.0, **fields: object) -> RunProgress:
    counts = dict.fromkeys(NodeState, 0) | {
        NodeState.DONE: done,
        NodeState.RUNNING: 2,
        NodeState.READY: 6 - done,
        NodeState.FAILED: 1,
    }
    return RunProgress.model_validate(
        {
            "counts": counts,
            "running": (SCORES, STARTS),
            "elapsed_s": 125,
            "ran": done,
            "remaining_s": remaining_s,
        }
        | fields
    )


def shown(*moments: RunProgress, terminal: bool, quiet: bool = False) -> str:
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=terminal, width=110, height=40)
    with TerminalReporter(console, quiet=quiet) as reporter:
        for each in moments:
            reporter.update(each)
    return out.getvalue()


def test_the_live_view_shows_what_the_lines_show() -> None:
    live, lines = shown(moment(), terminal=True), shown(moment(), terminal=False)
    for text in (
        "2/9 jobs after 2 min 5 s, about 5 min left, 1 failed",
        "merged: smoke bbh 12/90 (500 tokens/s) on node-1",
        "base: smoke musr and 3 more (starting the engine) on node-2",
    ):
        assert text in live
        assert text in lines
    assert shown(moment(), terminal=True, quiet=True) == shown(moment(), terminal=False, quiet=True) == ""


def test_the_live_view_is_redrawn_in_place_and_taken_away_at_the_end() -> None:
    once = shown(moment(), terminal=True)
    twice = shown(moment(), moment(3), terminal=True)
    assert "\x1b[2K" in twice, "lines are erased"
    assert once.count("\n") < twice.count("\n") <= 3 * once.count("\n")
    many = moment(running=(SCORES,) * 40)
    assert "and 24 more" in shown(many, terminal=True)


def test_what_a_search_will_add_counts() -> None:
    """The work to come is shown as an estimate, in number and in time."""
    text = "2 of about 49 jobs after 2 min 5 s"
    assert headline(moment(later=40)).startswith(text)
    assert text in shown(moment(later=40), terminal=True)
    job = eval_job()
    durations = Durations({}, on_gpu=False)
    durations.learn(durations.workload(job), 30.0)
    outlook = RunOutlook(durations, {job.digest: job}, clock=lambda: 0.0)
    outlook.add({}, {job.engine_key: 9, "another engine": 5})
    left = outlook.left_s([job.digest], [], 0)
    assert left is not None
    assert left >= 300


def test_lines_come_when_a_job_ends_and_else_seldom() -> None:
    assert shown(moment(), moment(), moment(), terminal=False).count("\n") == 1
    assert shown(moment(), moment(3), moment(3), terminal=False).count("\n") == 2


def test_a_failed_attempt_is_told_once_when_it_happens() -> None:
    """Jobs of one batch that failed alike share a line."""
    lost = FailedAttempt(
        label="a: smoke bbh", failure_class=FailureClass.ENGINE_START, message="No kernel.\nlog", retried=True
    )
    other = lost.model_copy(update={"label": "b: smoke bbh"})
    last = lost.model_copy(update={"retried": False})
    first = moment(attempts_failed=2, failures=(lost, other))
    second = moment(attempts_failed=3, failures=(lost, other, last))
    for terminal in (False, True):
        text = shown(moment(), first, first, second, terminal=terminal)
        assert text.count("a: smoke bbh and 1 more failed (engine_start); it is tried again: No kernel.") == 1
        assert text.count("a: smoke bbh failed (engine_start); it is not tried again: No kernel.") == 1
    assert shown(first, terminal=False, quiet=True) == ""


def test_a_note_is_told_once() -> None:
    first, second = moment(notes=("It is built.",)), moment(notes=("It is built.", "So is that."))
    for terminal in (False, True):
        text = shown(moment(), first, first, second, second, terminal=terminal)
        assert (text.count("It is built."), text.count("So is that.")) == (1, 1)
    assert shown(second, terminal=False, quiet=True) == ""


def test_nothing_is_estimated_where_nothing_is_known() -> None:
    assert headline(moment(remaining_s=None)) == "2/9 jobs after 2 min 5 s, 1 failed"
    waits = headline(moment(waits_for="The store does not answer."))
    assert waits.endswith("waiting: The store does not answer.")
    assert (
        job_text(JobProgress(digest="a", label="build merged", stage="starting")) == "build merged (starting)"
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path, database_url=f"sqlite:///{tmp_path}/s.sqlite", datasets=None, ray_address=None
    )


def test_status_and_watch_name_jobs_nodes_and_what_is_left(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(settings.database_url) as store:
        lease = driven(store)
        attempt = store.start_attempt(lease, eval_job().digest, node="node-7", worker="engine-1")
        folder = settings.journals / eval_job().digest
        folder.mkdir(parents=True)
        written = {
            "stage": "evaluating", "done": 20, "total": 40, "tokens": 500, "share_done": 0.5, "work_s": 60.0,
        }  # fmt: skip
        (folder / "progress.json").write_text(json.dumps(written))
        show_run(settings, lease.run_id, as_json=False)
        text = capsys.readouterr().out
        assert "base: smoke bbh 20/40 (8 tokens/s) on node-7 for" in text
        assert "0 of 7 jobs done, 1 running" in text
        show_run(settings, lease.run_id, as_json=True)
        data = json.loads(capsys.readouterr().out)
        assert 60 < data["remaining_s"] < 2000, "the pace of the one that runs tells for the others"
        assert data["running_attempts"][0]["node"] == "node-7"
        store.fail_attempt(attempt.id, BAD_INPUT, will_retry=False)
        store.finish_run(lease, RunState.FAILED)
    for terminal in (False, True):
        out = io.StringIO()
        watch_run(settings, lease.run_id, 0.01, Terminal(file=out, force_terminal=terminal, width=110))
        assert f"{lease.run_id}: failed, 0 of 7 jobs done" in out.getvalue()
        assert "1 job failed (base: smoke bbh): bad_input: No." in out.getvalue()
        assert "Next step: Mend the sweep file, the recipe or the data" in out.getvalue()
        assert "left" not in out.getvalue(), "nothing is left of a run that has ended"


REFUSED = Failure(
    failure_class=FailureClass.LIVE_REFUSED, message=f"X cannot run live layer paths: why{BUILD_ADVICE}"
)
BUILT = "X cannot run live layer paths: why; its layer paths are built as checkpoints instead."
PATH = (0, 1, 2, 1, 2, 3)


def test_status_tells_what_is_built_instead_of_run_live(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused live attempt is no failure with a next step, unless its job has no result when the run has ended."""
    with Store.open(settings.database_url) as store:
        lease = driven(store)
        attempt = started(store, lease, eval_job(layer_path=PATH).digest)
        store.fail_attempt(attempt.id, REFUSED, will_retry=True)
        show_run(settings, lease.run_id, as_json=False)
        text = capsys.readouterr().out
        assert text.count(BUILT) == 1
        assert "Next step" not in text
        store.finish_run(lease, RunState.FAILED)
        show_run(settings, lease.run_id, as_json=False)
    text = capsys.readouterr().out
    assert text.count(BUILT) == 1
    assert "1 job failed" in text
    assert "Next step: Its layer paths are built as checkpoints instead; where that fails too" in text


def test_status_and_watch_tell_what_is_built_because_an_earlier_run_was_refused(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a run has no failed attempt of its settings."""
    with Store.open(settings.database_url) as store:
        lease = driven(store)
        store.fail_attempt(
            started(store, lease, eval_job(layer_path=PATH).digest).id, REFUSED, will_retry=True
        )
        later = driven(store, name="later")
        show_run(settings, later.run_id, as_json=True)
        data = json.loads(capsys.readouterr().out)
        assert (data["built_instead"], data["failures"]) == ([BUILT], [])
        looks, out = iter([True, True, True, False]), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("orchestrator.cli.status_view._is_active", lambda _: next(looks))
            watch_run(settings, later.run_id, 0.01, Terminal(file=out, force_terminal=False, width=110))
    assert out.getvalue().count(BUILT) == 2, "once while it goes on, and once in what is told at the end"


def test_status_names_the_first_that_left_a_race(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A race of thousands does not fill the terminal."""
    candidates = tuple(
        RacingCandidate(name=f"path {n}", value=-1.0, low=-2.0, high=-0.5, leaves=n > 0) for n in range(12)
    )
    look = CandidateLook(share=0.1, n=10, n_whole=100, candidates=candidates)
    race = CandidateRace(rule=RaceRule(keep=1, shares=(0.1,)), n_candidates=12, looks=(look,), over=True)
    monkeypatch.setattr("orchestrator.cli.status_view.candidate_race_of", lambda *_: race)
    monkeypatch.setattr("orchestrator.cli.status_view.race_rule_of", lambda _: race.rule)
    with Store.open(settings.database_url) as store:
        run_id = driven(store).run_id
        show_run(settings, run_id, as_json=False)
        text = capsys.readouterr().out
        show_run(settings, run_id, as_json=True)
    assert text.count(": left the race for the best 1 after 10 of 100 documents") == 8
    assert f"And 3 further candidates left; `mergeboard status {run_id} --json` has all." in text
    assert len(json.loads(capsys.readouterr().out)["race"]["left"]) == 11


def test_who_watches_lines_is_told_of_failed_attempts(settings: Settings) -> None:
    """A message is a line when it comes and when it comes again, also while the job is tried again."""
    with Store.open(settings.database_url) as store:
        lease = driven(store)
        looks = iter([True, True, False])

        def look_again(record: RunRecord) -> bool:
            attempt = store.start_attempt(lease, eval_job().digest)
            assert isinstance(attempt, AttemptRecord)
            store.fail_attempt(attempt.id, BAD_INPUT, will_retry=True)
            return next(looks)

        out = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("orchestrator.cli.status_view._is_active", look_again)
            watch_run(settings, lease.run_id, 0.01, Terminal(file=out, force_terminal=False, width=110))
    assert "An attempt failed so far, the latest base: smoke bbh: bad_input: No." in out.getvalue()


def test_the_stored_estimate_falls_while_nothing_ends(settings: Settings) -> None:
    clock = [0.0]
    with Store.open(settings.database_url) as store:
        lease = driven(store)
        outlook = StoredOutlook(lease.run_id, settings.home, clock=lambda: clock[0])

        def left() -> float | None:
            return outlook.left_s(store, store.progress(lease.run_id))

        assert left() is None, "nothing was measured"
        for job in (build_job(), eval_job("bbh"), eval_job("ifeval")):
            outcome = outcome_of(job)
            if isinstance(outcome, EvalOutcome):
                evaluation = outcome.evaluation.model_copy(update={"n_replayed": 0, "duration_s": 100.0})
                outcome = outcome.model_copy(update={"evaluation": evaluation})
            store.finish_attempt(started(store, lease, job.digest).id, outcome)
        first = left()
        assert first is not None
        assert 350 < first < 550, "four evaluations of 100 s, and starts of engines"
        started(store, lease, eval_job("ifeval", (0, 1, 2, 1, 2, 3)).digest)
        clock[0] += 30
        second = left()
        assert second is not None
        assert second <= first, "a job that has begun is no news"
