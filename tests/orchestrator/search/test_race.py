"""A race of layer paths with the real planner, scheduler, store and worker; the engine answers by a rule instead of a model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from dashboard.runs import going_on
from evals.engine import EngineSpec, EngineTuning
from evals.layer_visits import VisitPath
from evals.probes import Split, get_probe
from evals.probes.race import Race, RacePlan
from orchestrator.charts import (
    PointStatus,
    Theme,
    heat_grid,
    race_chart,
    race_image,
    race_picture,
    write_image,
)
from orchestrator.compare.races import race_of_run
from orchestrator.compare.scan_runs import scan_runs, search_ranking, stored_confirmation
from orchestrator.errors import RunError, SweepError
from orchestrator.plan.job import EvalJob, Task
from orchestrator.run.run import stored_plan
from orchestrator.run.scheduler import RunSummary
from orchestrator.search import ScanReport
from orchestrator.search.files import chart_scan
from orchestrator.search.grid_scan import scan_with
from orchestrator.search.request import ScanRequest, race_of_options
from orchestrator.search.tables import report_text
from orchestrator.store import Store
from orchestrator.store.pages import Pages
from orchestrator.store.records import EarlyOutcome, EvalOutcome
from orchestrator.worker import worker
from tests.orchestrator.search.test_grid_scan import PROBES, at, request, settings_at
from tests.support.in_process import InProcess
from tests.support.racing_engine import RacingEngine
from tests.support.tiny_checkpoints import tiny_checkpoint

RACE = RacePlan(keep=2, shares=(0.25, 0.5))
GOOD = (0, 1, 0, 1, 2, 3)
NAMES = [f"{key}-{split}" for key in PROBES for split in Split]


def skill(path: VisitPath) -> float:
    """One path is better than the base, short ones are somewhat worse, and the others lose what it knows."""
    return 3.0 if path == GOOD else 2.0 if len(path) < 5 else 1.5 if len(path) == 5 else 0.0


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> list[RacingEngine]:
    """The engines that were opened."""
    return open_racing(monkeypatch)


def open_racing(monkeypatch: pytest.MonkeyPatch) -> list[RacingEngine]:
    opened: list[RacingEngine] = []

    def opening(spec: EngineSpec, checkpoint: Path, tuning: EngineTuning) -> RacingEngine:
        opened.append(RacingEngine(checkpoint, spec, NAMES, skill))
        return opened[-1]

    monkeypatch.setattr(worker, "open_engine", opening)
    return opened


def racing(checkpoint: Path) -> ScanRequest:
    return request(checkpoint, race=RACE, top=2)


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScanReport]:
    folder = tmp_path_factory.mktemp("race")
    checkpoint = tiny_checkpoint(folder / "tiny", layers=4)
    with pytest.MonkeyPatch.context() as patched:
        open_racing(patched)
        return folder, scan_with(racing(checkpoint), *at(folder / "home"))


def race_in(report: ScanReport) -> Race:
    assert report.race is not None
    return report.race


def test_who_leaves_has_no_score_and_who_stays_has_one(raced: tuple[Path, ScanReport]) -> None:
    folder, report = raced
    race = race_in(report)
    assert race.n_paths == 11
    assert 2 <= len(race.contenders) < 11
    assert {path.layers for path in report.table[1:]} == set(race.contenders)
    with Store.open(settings_at(folder / "home").database_url) as store:
        jobs = [i.job for i in store.run_jobs(report.run_id) if isinstance(i.job, EvalJob)]
        outcomes = store.outcomes(job.digest for job in jobs)
        saved = store.savings(report.run_id)
        assert store.sequences(report.run_id) == ()
    parts = [job for job in jobs if job.decide is not None]
    assert all(isinstance(outcomes[job.digest], EarlyOutcome) for job in parts)
    whole = [job for job in jobs if isinstance(outcomes[job.digest], EvalOutcome)]
    assert {job.layer_path for job in whole} == {None, *race.contenders}
    # Nothing is asked twice: the answers of the last part are those with which the whole begins.
    for job in whole:
        outcome = outcomes[job.digest]
        assert isinstance(outcome, EvalOutcome)
        if job.layer_path is not None:
            n = len(RACE.items(get_probe(job.benchmark), 1))
            assert outcome.evaluation.n_replayed == n * (outcome.evaluation.n_requests // _n_items(job))
    assert saved is not None
    assert (saved.comparisons, saved.early) == (22, 2 * (11 - len(race.contenders)))
    assert saved.asked == race.asked < saved.whole == race.whole


def _n_items(job: EvalJob) -> int:
    return len(get_probe(job.benchmark).items)


def test_racing_again_runs_nothing_and_tells_the_same(raced: tuple[Path, ScanReport]) -> None:
    folder, report = raced
    seen: list[RunSummary] = []
    again = scan_with(report.request, *at(folder / "home", seen))
    assert all(summary.cached == summary.done for summary in seen)
    assert again.model_copy(update={"duration_s": 0.0}) == report.model_copy(update={"duration_s": 0.0})


def test_pages_and_command_show_the_same(raced: tuple[Path, ScanReport]) -> None:
    folder, report = raced
    home = folder / "home"
    with Pages.open(settings_at(home).database_url) as pages:
        run = pages.run(report.run_id)
        race = race_of_run(pages, run, home)
        scan = scan_runs(pages, report.run_id)
        assert race == report.race
        assert scan is not None
        ranking = search_ranking(pages, report.run_id, scan.rank, race)
        stored = stored_confirmation(pages, scan, home)
    assert ranking is not None
    assert [p.layers for p in ranking.paths] == [p.layers for p in report.ranking.paths]
    assert ranking.weights == report.ranking.weights
    assert stored is not None
    assert report.confirmation is not None
    assert stored.n_tried == report.confirmation.n_tried == 11
    assert [p.finding for p in stored.paths] == [p.finding for p in report.confirmation.paths]


def test_pictures_and_text_say_who_left(raced: tuple[Path, ScanReport], tmp_path: Path) -> None:
    _, report = raced
    race = race_in(report)
    text = report_text(report)
    assert "The race: who can still be among the best 2" in text
    assert race.sentence in " ".join(text.split())
    left = [point for point in chart_scan(report).points if point.status is PointStatus.LEFT]
    assert len(left) == len(race.left)
    assert all(not point.values and "early estimate" in (point.reason or "") for point in left)
    grid = heat_grid(chart_scan(report), "together")
    assert len(grid.left) == sum(point.block is not None for point in left)
    assert not {point.block for point in grid.left} & set(grid.missing)
    picture = race_picture(race, {}, "tiny", lambda layers: report.path(layers).label)
    assert [line.left for line in picture.lines].count(True) == len(left)
    traces = race_chart(picture, Theme.LIGHT).data
    assert [trace.name for trace in traces[:2]] == [
        f"Left ({len(left)})",
        f"Asked everything ({11 - len(left)})",
    ]
    assert write_image(race_image(picture, Theme.DARK), tmp_path / "race.png").stat().st_size > 10_000


def test_a_race_cannot_be_resumed_by_its_run(raced: tuple[Path, ScanReport]) -> None:
    folder, report = raced
    with Store.open(settings_at(folder / "home").database_url) as store:
        race = store.run(report.run_id)
        assert going_on(race) == race.provenance.command
        assert report.confirmation_run_id is not None
        assert going_on(store.run(report.confirmation_run_id)).startswith("mergeboard resume ")
    with pytest.raises(RunError, match="run the same `mergeboard scan --race` again"):
        stored_plan(report.run_id, settings_at(folder / "home"))


class Stopped(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("after", [3, 5])
def test_a_race_that_was_stopped_goes_on_and_ends_the_same(
    raced: tuple[Path, ScanReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    _, report = raced
    unconfirmed = report.request.model_copy(update={"top": 0})
    calls = 0
    submit = InProcess.submit

    def stopping(self: InProcess, tasks: Sequence[Task]) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise Stopped
        submit(self, tasks)

    with monkeypatch.context() as patched:
        patched.setattr(InProcess, "submit", stopping)
        with pytest.raises(Stopped):
            scan_with(unconfirmed, *at(tmp_path / "home"))
    again = scan_with(unconfirmed, *at(tmp_path / "home"))
    assert again.race == report.race
    assert again.table == report.table


def test_a_race_after_the_whole_scan_asks_nothing(
    raced: tuple[Path, ScanReport], tmp_path: Path, engines: list[RacingEngine]
) -> None:
    _, report = raced
    race = report.request.model_copy(update={"top": 0})
    scan_with(race.model_copy(update={"race": None}), *at(tmp_path / "home"))
    asked = sum(engine.asked for engine in engines)
    again = race_in(scan_with(race, *at(tmp_path / "home")))
    assert sum(engine.asked for engine in engines) == asked
    # Stored log-probabilities are rounded, so that values agree and are not the same to the last bit.
    assert [set(look.left) for look in again.looks] == [set(look.left) for look in race_in(report).looks]


def test_the_whole_scan_after_a_race_asks_the_rest(
    raced: tuple[Path, ScanReport], tmp_path: Path, engines: list[RacingEngine]
) -> None:
    folder, report = raced
    shutil.copytree(folder / "home", tmp_path / "home")
    whole = report.request.model_copy(update={"race": None, "top": 0})
    scanned = scan_with(whole, *at(tmp_path / "home"))
    assert len(scanned.table) == 12
    race = race_in(report)
    assert sum(engine.asked for engine in engines) == race.whole - race.asked


def test_options() -> None:
    def options(
        *, race: bool = True, keep: int | None = None, error_rate: float | None = None, top: int = 10
    ) -> RacePlan | None:
        return race_of_options(race, keep, error_rate, top=top, rank="balanced_z")

    assert options(race=False) is None
    assert options() == RacePlan(keep=10)
    assert options(keep=20, error_rate=0.1) == RacePlan(keep=20, error_rate=0.1)
    assert options(top=0) == RacePlan(keep=1)
    for wrong, words in (
        (partial(options, race=False, keep=3), "--keep is about a race"),
        (partial(options, keep=3), "10 paths are confirmed"),
        (partial(options, error_rate=0.9), "--error-rate"),
    ):
        with pytest.raises(SweepError, match=words):
            wrong()
