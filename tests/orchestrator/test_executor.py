"""The scheduler and the executor on real Ray nodes with a stand-in engine: sizes, hung engines, results that come twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from benchmarks.ray_nodes import add_node, new_cluster
from orchestrator.records import AttemptState, FailureClass
from orchestrator.store import Store
from tests.orchestrator.fault_driver import drive
from tests.orchestrator.runs_fixture import Finished, mergeboard

pytestmark = pytest.mark.slow


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
