"""GPU workers that scale from zero, on Ray's own fake provider: asked for at planning and while jobs wait, given back after."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from evals.engine import EngineKind
from evals.engines import installed_version
from orchestrator.cluster import RayExecutor, cluster_facts, connect, disconnect
from orchestrator.cluster.demand import Autoscaler, Demand, gpus_awaited
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.run.run import cluster_for, register
from orchestrator.run.scheduler import Scheduler
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.support.fake_autoscaler import autoscaling_head
from tests.support.fault_driver import Nothing, settings_of
from tests.support.stand_in import StandIn
from tests.support.stand_in_plan import stand_in_plan

pytestmark = pytest.mark.slow

SLOWLY_S = 300.0


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A head without CPUs, and a group of nodes with two GPUs, none of which runs; its address."""
    groups = {"gpu-2": {"CPU": 2, "GPU": 2, "object_store_memory": 80_000_000}}
    with autoscaling_head(tmp_path_factory.mktemp("head"), groups) as address:
        yield address


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    yield settings_of(tmp_path, f"sqlite:///{tmp_path}/s.sqlite")
    disconnect()


def until(condition: Callable[[], bool]) -> bool:
    """Whether it comes true in time; how long that takes is the autoscaler's business."""
    end = time.monotonic() + SLOWLY_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.5)
    return False


def gpus() -> float:
    return sum(node.gpus for node in cluster_facts().nodes)


def test_a_run_starts_without_a_gpu_and_its_jobs_run_on_a_node_that_was_asked_for(
    head: str, settings: Settings
) -> None:
    facts: ClusterFacts = connect(settings, head)
    assert not facts.has_gpus
    # The new node is asked what is installed on it: this machine's packages.
    plan = stand_in_plan(6, version=installed_version(EngineKind.VLLM))
    with Store.open(settings.database_url) as store:
        scheduler = Scheduler(
            store, plan, run_id=register(store, plan), settings=settings, reporter=Nothing()
        )
        summary = scheduler.run(RayExecutor(settings, facts, host=StandIn, start_s=lambda job: 0.5))
        attempts = [a for job in plan.jobs for a in store.attempts(job)]
    assert (summary.done, summary.failed) == (6, {})
    assert all(a.node for a in attempts)
    assert until(lambda: gpus() == 0), "nothing is asked for any more, so the idle node is given back"


def test_planning_waits_for_the_first_gpu_node_and_says_so(head: str, settings: Settings) -> None:
    said: list[str] = []
    cluster = cluster_for(settings, head, say=said.append)
    assert cluster.has_gpus
    assert any(node.software is not None for node in cluster.engine_nodes)
    assert any("No node has 1 GPU now" in sentence for sentence in said)
    assert until(lambda: gpus() == 0)


def test_more_gpus_than_any_node_may_have_are_not_waited_for(head: str, settings: Settings) -> None:
    connect(settings, head)
    assert Autoscaler().is_there()
    with gpus_awaited(4, lambda sentence: None, patience_s=SLOWLY_S) as come:
        assert not come


def test_a_request_is_forgotten_with_the_driver_that_made_it(head: str, settings: Settings) -> None:
    """A request that outlived a killed driver would keep nodes that cost money."""
    connect(settings, head)
    autoscaler = Autoscaler()
    Demand().ask({2.0: 1})
    assert until(lambda: bool(autoscaler.starting()) or gpus() > 0)
    ray.shutdown()
    connect(settings, head)
    assert until(lambda: gpus() > 0 or not Autoscaler().starting())
    assert until(lambda: gpus() == 0)
