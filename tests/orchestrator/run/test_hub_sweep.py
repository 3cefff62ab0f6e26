"""A sweep of 40 candidates of the hub: planned, run by the scheduler, compared, exported and shown; PostgreSQL as SQLite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from evals.engine import digest_of
from evals.suite import load_suite
from orchestrator import cli
from orchestrator.cluster import Batch, Finished, ReadyJobs, Seat
from orchestrator.compare.run_comparisons import result_of_candidate, results_of_run, run_comparisons
from orchestrator.compare.sides import compare_names
from orchestrator.plan.job import BuildJob, Task
from orchestrator.plan.plan import make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.run.run import register
from orchestrator.run.scheduler import Scheduler
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.leaderboard import LeaderboardQuery, SortKey
from orchestrator.store.pages import Pages
from orchestrator.store.records import Failure, Usage
from recipes import hub as hub_client
from tests.support.demo_stores import Maker
from tests.support.hub_server import COMMIT, HubServer, running
from tests.support.in_process import Silent
from tests.support.made_results import Made
from tests.support.tiny_checkpoints import tiny_checkpoint

BASE = "meta-llama/Meta-Llama-3.1-70B-Instruct"
OTHER = "nvidia/Llama-3.1-Nemotron-70B-Instruct-HF"
MERGE = f"""
  - name: {OTHER} slerp
    materialize: true
    mergekit:
      slices:
        - sources: [{{model: {BASE}, layer_range: [0, 9]}}, {{model: {OTHER}, layer_range: [0, 9]}}]
      merge_method: slerp
      base_model: {BASE}
      parameters: {{t: 0.5}}
      dtype: bfloat16
"""


def sweep_text() -> str:
    """The base, 38 blocks of it and a merge."""
    blocks = [f"({i}, {j})" for i in range(9) for j in range(i + 1, 10)][:38]
    recipes = "".join(f'  - {{name: "{BASE} block {b}", layer_path: "{b}"}}\n' for b in blocks)
    head = f"name: {BASE} and its blocks\nbase: {BASE}\nrecipes:\n{recipes}"
    return f"{head}{MERGE.lstrip(chr(10))}suites: [{{suite: smoke, benchmarks: [bbh, musr]}}]\nengines: [transformers]\n"


class Answering:
    """An executor whose engine answers by rule: a candidate is as able as its job's weights and path say."""

    def __init__(self, maker: Maker) -> None:
        self._maker = maker
        self._waiting: list[Task] = []

    def pick(self, ready: ReadyJobs) -> list[Batch]:
        builds: list[Batch] = [(job,) for job in ready.builds()]
        return [] if self._waiting else builds + [ready.queue(key).take() for key in ready.first_of_each()]

    def seat_of(self, batch: Batch) -> Seat:
        return Seat()

    def submit(self, tasks: Sequence[Task]) -> None:
        self._waiting += tasks

    def wait(self, timeout_s: float) -> list[Finished]:
        done, self._waiting = self._waiting, []
        return [
            Finished(attempt_id=t.attempt_id, job_digest=t.job.digest, outcome=self._outcome(t)) for t in done
        ]

    def _outcome(self, task: Task) -> Any:
        if isinstance(task.job, BuildJob):
            return self._maker.built(task.job)
        who = digest_of([task.job.weights_digest, task.job.layer_path])
        return self._maker.scored(task.job, Made(who, ability=0.3 + 0.5 * int(who[:2], 16) / 255))

    def give_up(self, attempt_id: str, failure: Failure) -> None:
        raise AssertionError(failure.message)

    def homeless(self, ready: ReadyJobs) -> dict[str, str]:
        return {}

    def cancel(self) -> None:
        self._waiting.clear()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Two checkpoints of nine layers under real names."""
    with running() as server:
        for seed, name in enumerate((BASE, OTHER)):
            server.repositories[name] = tiny_checkpoint(tmp_path / f"tiny-{seed}", layers=9, seed=seed)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "own-cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        hub_client._check_reachable.cache_clear()
        yield server


def run_sweep(settings: Settings) -> str:
    """Plan and run the sweep; the run's id."""
    plan = make_plan(parse_sweep(sweep_text().encode(), origin="s.yaml", folder=Path.cwd()), settings)
    with Store.open(settings.database_url) as store:
        run_id = register(store, plan)
        scheduler = Scheduler(
            store, plan, run_id=run_id, settings=settings, reporter=Silent(), durations=None
        )
        # No name of the suite, so that what is stored is what the plan has.
        summary = scheduler.run(
            Answering(Maker(store, settings.home, load_suite("smoke"), n=12, whole=False))
        )
        assert summary.done == len(plan.jobs) == 81
    return run_id


def results(settings: Settings, run_id: str) -> dict[str, Any]:
    """What commands and pages make of a run, without times and sizes of files."""
    with Pages.open(settings.database_url, create=False, read_only=True) as store:
        found = results_of_run(store, run_id)
        columns = store.columns(run_id)
        board = LeaderboardQuery(run_id=run_id, sort=SortKey.MEAN, descending=True, limit=100)
        name = f"{BASE} block (2, 5)"
        since = datetime.now(UTC) - timedelta(hours=1)
        detail = store.job_detail(found[1].evaluated[0][0].digest)
        return {
            "snapshot": store.snapshot(),
            "scores": {r.candidate.name: [o.evaluation.result for _, o in r.evaluated] for r in found},
            "sweep": [c.model_dump() for c in run_comparisons(found, settings.home)],
            "named": [c.model_dump() for c in compare_names(store, [name], "base", settings.home)],
            "by digest": [c.run_id for c in store.find_candidates(f"{BASE}@{COMMIT}")],
            "best": [r.candidate.name for r in store.leaderboard(board).rows],
            "by name": [
                r.candidate.name
                for r in store.leaderboard(board.model_copy(update={"sort": SortKey.NAME})).rows
            ],
            "columns": [store.column_scores(run_id, column) for column in columns],
            "unscored": [store.unscored(run_id, column) for column in columns],
            "base": store.base_of(run_id),
            "searched": [c.name for c in store.search_candidates(run_id, "block (2")],
            "jobs": store.job_list(run_id, limit=200),
            "of one": store.job_list(run_id, position=39, limit=200),
            "detail": detail and (detail.job.digest, detail.candidates),
            "attempts": Usage.total(store.usage(run_id)).attempts,
            "pace": store.pace(run_id).jobs,
            "arrived": sum(a.count for a in store.arrivals(run_id, since, 60)),
            "one": _evaluated(store, run_id, columns[0].engine_key),
            "failed": store.failed_work(run_id),
            "counts": (store.count_runs(), store.count_jobs(run_id), store.count_candidates(run_id)),
        }


def _evaluated(store: Pages, run_id: str, engine_key: str) -> list[Any]:
    candidate = store.candidate(run_id, 39)
    assert candidate is not None
    result = result_of_candidate(store, run_id, candidate, engine_key)
    assert result is not None
    return [outcome.evaluation.result for _, outcome in result.evaluated]


def mergeboard(*words: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def exported(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    times = {"run_created_at", "ended_at"}
    tables = {name: pq.read_table(folder / f"{name}.parquet") for name in names}
    return {n: t.drop_columns(sorted(times & set(t.column_names))).to_pylist() for n, t in tables.items()}


@pytest.mark.usefixtures("hub")
def test_forty_candidates_of_the_hub_are_the_same_in_both_databases(
    postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    server = postgres.new_database()
    for number, url in enumerate((f"sqlite:///{tmp_path / 'store.sqlite'}", server)):
        home = tmp_path / f"home-{number}"
        home.mkdir()
        settings = Settings(home=home, database_url=url, datasets=None, ray_address=None)
        run_id = run_sweep(settings)
        monkeypatch.setenv("MERGEBOARD_HOME", str(home))
        monkeypatch.setenv("MERGEBOARD_DATABASE_URL", url)
        mergeboard("export", "--out", str(home / "out"), "--run", run_id)
        files = exported(home / "out", ("candidates", "benchmarks", "scores", "samples"))
        assert len(files["candidates"]) == len(files["benchmarks"]) == 80
        mergeboard("db", "check")
        compared = mergeboard("compare", f"{BASE} block (2, 5)", "--base", "base", "--json")
        seen.append((run_id, results(settings, run_id), files, compared))
    ours, theirs = seen
    assert len(ours[1]["scores"]) == 40
    assert len(ours[1]["sweep"]) == 39
    assert {r["weights_digest"] for r in ours[2]["benchmarks"]} > {f"{BASE}@{COMMIT}"}
    assert ours == theirs
    postgres.drop(server)
