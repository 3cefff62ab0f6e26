"""The scheduler and the executor on real Ray nodes with a stand-in engine: sizes, hung engines, results that come twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import yaml

from benchmarks.ray_nodes import add_node, new_cluster
from evals.sharing import STRETCH
from orchestrator.cluster import RayExecutor, cluster_facts
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.plan.plan import make_plan
from orchestrator.plan.sweep import load_sweep
from orchestrator.run.progress import RunProgress
from orchestrator.run.run import register
from orchestrator.run.scheduler import Scheduler
from orchestrator.store import Store
from orchestrator.store.records import AttemptState, EvalOutcome, FailureClass, Success
from tests.support.engines_before import answers_by_writer
from tests.support.fault_driver import Nothing, drive, settings_of
from tests.support.runs_fixture import Finished, mergeboard
from tests.support.slow_host import SlowHost

pytestmark = pytest.mark.slow

ONE_JOB = {
    "recipes": [],
    "suites": [{"suite": "smoke", "benchmarks": ["bbh"]}],
    "engines": [{"kind": "transformers", "dtype": "float32"}],
}
"""98 questions."""


class Collecting:
    """Looks who answered what when a job is done and its journal still there."""

    def __init__(self, journal: Path, seen: list[list[str]]) -> None:
        self._journal = journal
        self._seen = seen

    def finished(self, job: BuildJob | EvalJob, outcome: Success) -> None:
        self._seen += answers_by_writer(self._journal)

    def failed(self, failure_class: FailureClass) -> None:
        raise AssertionError(failure_class)

    def update(self, progress: RunProgress) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[str]:
    """A head without work, a node with four GPUs and one with two; its address."""
    cluster = new_cluster()
    add_node(cluster, num_cpus=8, num_gpus=4)
    add_node(cluster, num_cpus=4, num_gpus=2)
    yield str(cluster.address)
    ray.shutdown()
    cluster.shutdown()


def attempts_of(url: str) -> list:  # type: ignore[type-arg] # attempt records
    with Store.open(url, create=False, read_only=True) as store:
        (run,) = store.runs()
        assert run.state == "done"
        return [a for planned in store.run_jobs(run.id) for a in store.attempts(planned.job.digest)]


def test_engines_of_all_sizes_are_served(nodes: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.sqlite"
    summary = drive(tmp_path, url, nodes, jobs=24, gpus=(1, 2, 4))
    assert (summary.done, summary.failed) == (24, {})
    attempts = attempts_of(url)
    assert {a.state for a in attempts} == {AttemptState.SUCCEEDED}
    assert all(a.node and a.worker for a in attempts)
    with Store.open(url, create=False, read_only=True) as store:
        (usage,) = store.usage(store.runs()[0].id)
    assert usage.attempts == 24
    assert not ray.is_initialized()


def test_a_hung_engine_is_ended_and_its_job_tried_again(nodes: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.sqlite"
    summary = drive(tmp_path, url, nodes, jobs=8, hangs=True)
    assert (summary.done, summary.failed) == (8, {})
    failures = [a.failure_class for a in attempts_of(url) if a.failure_class]
    assert FailureClass.HUNG_ENGINE in failures


def test_results_that_come_twice_count_once(nodes: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.sqlite"
    summary = drive(tmp_path, url, nodes, twice="x")
    assert (summary.done, summary.failed) == (12, {})
    assert len(attempts_of(url)) == 12


def test_an_idle_engine_takes_part_in_a_long_evaluation(finished: Finished, tmp_path: Path) -> None:
    """One job, two nodes: requests are shared, no answer is there twice, and the result is that of one engine."""
    text = finished.sweep.read_text()
    sweep = tmp_path / "one.yaml"
    sweep.write_text(yaml.safe_dump({**yaml.safe_load(text), **ONE_JOB}))
    settings = settings_of(tmp_path, f"sqlite:///{tmp_path}/s.sqlite")
    plan = make_plan(load_sweep(sweep), settings)
    (job,) = plan.jobs.values()
    cluster = new_cluster(head_cpus=1)
    seen: list[list[str]] = []
    try:
        add_node(cluster, num_cpus=1, num_gpus=0)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        with Store.open(settings.database_url) as store:
            scheduler = Scheduler(
                store, plan, run_id=register(store, plan), settings=settings, reporter=Nothing(),
                observers=[Collecting(tmp_path / "journals" / job.digest, seen)],
            )  # fmt: skip
            executor = RayExecutor(
                settings, cluster_facts(), host=SlowHost, start_s=lambda job: 5.0, help_after_s=1.0
            )
            assert scheduler.run(executor).done == 1
            (outcome,) = store.outcomes([job.digest]).values()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert isinstance(outcome, EvalOutcome)
    assert len(seen) >= 2
    assert min(map(len, seen)) >= STRETCH
    assert sum(map(len, seen)) == len({digest for writer in seen for digest in writer})
    assert 0 < outcome.evaluation.n_replayed < outcome.evaluation.n_requests
    alone = mergeboard("run", str(sweep), home=tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    with Store.open(f"sqlite:///{tmp_path}/alone/store.sqlite", create=False, read_only=True) as store:
        (other,) = store.outcomes([job.digest]).values()
    assert isinstance(other, EvalOutcome)
    assert outcome.evaluation.scores == other.evaluation.scores


def test_two_nodes_give_what_one_gives(finished: Finished, tmp_path: Path) -> None:
    """The real engine and real builds, by the real command."""
    cluster = new_cluster(head_cpus=1)
    try:
        add_node(cluster, num_cpus=1, num_gpus=0)
        home = tmp_path / "home"
        ran = mergeboard(
            "run", str(finished.sweep), "--address", str(cluster.address), home=home, timeout_s=1500
        )
        assert ran.returncode == 0, ran.stderr
    finally:
        cluster.shutdown()
    with (
        Store.open(f"sqlite:///{home}/store.sqlite", create=False) as two,
        Store.open(f"sqlite:///{finished.home}/store.sqlite", create=False, read_only=True) as one,
    ):
        assert two.snapshot() == one.snapshot()
