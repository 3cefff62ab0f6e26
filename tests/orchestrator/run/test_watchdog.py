"""What counts as hung, and reading a worker's progress."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.run.progress import JobProgress, Watchdog, read_progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def at(done: int, total: int = 100, stage: str = "evaluating") -> JobProgress:
    return JobProgress(digest="d", label="l", stage=stage, done=done, total=total)


def test_only_standing_still_for_long_is_hung() -> None:
    clock = Clock()
    dog = Watchdog(counted_s=10, uncounted_s=100, clock=clock)
    for second in range(0, 50, 9):
        clock.now = float(second)
        assert dog.hung(at(second + 1)) is None
    clock.now += 9
    assert dog.hung(at(46)) is None
    clock.now += 2
    reason = dog.hung(at(46))
    assert reason is not None
    assert "46 of 100" in reason


def test_starting_and_scoring_have_nothing_to_count_and_more_time() -> None:
    clock = Clock()
    dog = Watchdog(counted_s=10, uncounted_s=100, clock=clock)
    starting, scoring = at(0, 0, "starting the engine"), at(100)
    for state in (starting, scoring):
        dog.hung(state)
        clock.now += 99
        assert dog.hung(state) is None
        clock.now += 2
        assert dog.hung(state) is not None
        dog.forget("d")


def test_a_forgotten_job_starts_anew() -> None:
    clock = Clock()
    dog = Watchdog(counted_s=10, uncounted_s=100, clock=clock)
    dog.hung(at(5))
    dog.forget("d")
    clock.now += 50
    assert dog.hung(at(5)) is None


def test_progress_is_what_the_worker_wrote_last(tmp_path: Path) -> None:
    assert read_progress(tmp_path, "d", "l").stage == "starting"
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "progress.json").write_text('{"stage": "eval')
    assert read_progress(tmp_path, "d", "l").stage == "starting"
    written = {"stage": "evaluating", "done": 3, "total": 9, "tokens": 70, "share_done": 0.5, "work_s": 4.0}
    (tmp_path / "d" / "progress.json").write_text(json.dumps(written))
    read = read_progress(tmp_path, "d", "l", "node-1")
    assert (read.digest, read.label, read.node) == ("d", "l", "node-1")
    assert read.model_dump(include=set(written)) == written
