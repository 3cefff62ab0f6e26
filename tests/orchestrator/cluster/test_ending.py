"""Engines that are killed: none of their processes is left, and their place is not given away before that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import ray

from benchmarks.ray_nodes import add_node, new_cluster
from orchestrator.cluster import Finished, RayExecutor, ReadyJobs, cluster_facts
from orchestrator.cluster.engines import LiveEngine
from orchestrator.cluster.placement import Spot
from orchestrator.cluster.processes import ProcessGroup, kill_group, members
from orchestrator.plan.job import Task
from orchestrator.store.records import Failure, FailureClass
from recipes.process_identity import process_birth
from tests.support.fault_driver import settings_of
from tests.support.parent_host import ParentHost, TensorParallelHost
from tests.support.stand_in_plan import stand_in_plan
from tests.support.tiny_checkpoints import tiny_checkpoint

# A child that ignores SIGTERM, whose parent may be killed.
_FAMILY = """
import os, signal, subprocess, sys, time
os.setpgid(0, 0)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"],
                         stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("parent_first", [False, True])
def test_a_group_is_killed_whether_its_leader_lives_or_not(parent_first: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", _FAMILY], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        group = ProcessGroup(leader=parent.pid, birth=process_birth(parent.pid))
        assert members(group) == sorted([parent.pid, child])
        if parent_first:
            parent.kill()
            parent.wait()
            assert alive(child), "it outlives its parent"
        assert kill_group(group)
        assert not alive(child)
        assert members(group) == []


def test_a_number_that_another_process_has_by_now_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", _FAMILY], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        before = ProcessGroup(leader=other.pid, birth="1")
        assert kill_group(before)
        assert other.poll() is None
        assert kill_group(before.model_copy(update={"birth": process_birth(other.pid)}))


@pytest.fixture(scope="module", params=["0", "1"])
def node(request: pytest.FixtureRequest) -> Iterator[str]:
    """A cluster with one node for engines, whose raylets end a worker's children or do not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_process_group_cleanup_enabled", request.param)
        cluster = new_cluster()
        add_node(cluster, num_cpus=4, num_gpus=2)
    yield str(cluster.address)
    ray.shutdown()
    cluster.shutdown()


def until(condition: Callable[[], bool], limit_s: float, step: Callable[[], object] = lambda: None) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it took too long"
        step()
        time.sleep(0.05)


@dataclass
class Hanging:
    """An engine that hangs in its first attempt: its processes, its own first, and which of them lived when its place was given away."""

    executor: RayExecutor
    pids: list[int]
    given: list[list[int]]

    def failure(self) -> Failure:
        """The failure of its attempt, which has to come soon."""
        finished: list[Finished] = []
        until(lambda: bool(finished), 60, lambda: finished.extend(self.executor.wait(0.1)))
        assert isinstance(finished[0].outcome, Failure)
        return finished[0].outcome

    def place_given_away(self) -> list[int]:
        """Wait until its place is given away; its processes that were alive then."""
        nothing = ReadyJobs.of([])
        until(lambda: bool(self.given), 60, lambda: self.executor.pick(nothing))
        (alive_then,) = self.given
        return alive_then


@pytest.fixture
def hanging(
    node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[type], Hanging]]:
    """Start an engine of a class of hosts on the node and hand it an attempt."""
    tiny_checkpoint(tmp_path / "base", layers=2, dtype="float32")
    settings = settings_of(tmp_path, f"sqlite:///{tmp_path}/s.sqlite")
    (job,) = [planned.job for planned in stand_in_plan(1, gpus=(2,)).evals]
    ray.init(
        address=node,
        log_to_driver=False,
        logging_level="ERROR",
        configure_logging=False,
        ignore_reinit_error=True,
    )
    pids: list[int] = []
    executors: list[RayExecutor] = []

    def start(host: type) -> Hanging:
        executor = RayExecutor(settings, cluster_facts(), host=host)
        executors.append(executor)
        given: list[list[int]] = []
        give = executor._floor.give

        def watched(spot: Spot) -> None:
            given.append([pid for pid in pids if alive(pid)])
            give(spot)

        monkeypatch.setattr(executor._floor, "give", watched)
        ready = ReadyJobs.of([job])
        until(lambda: bool(executor.pick(ready)), 60)
        executor.submit([Task(attempt_id="a", job=job)])
        until((tmp_path / "pids").exists, 240, lambda: executor.wait(0.1))
        pids.extend(map(int, (tmp_path / "pids").read_text().split()))
        assert len(pids) >= 2
        assert all(map(alive, pids))
        return Hanging(executor, pids, given)

    yield start
    for executor in executors:
        executor.cancel()
    for pid in filter(alive, pids):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("host", [ParentHost, pytest.param(TensorParallelHost, marks=pytest.mark.vllm)])
def test_the_place_of_a_killed_engine_is_free_when_its_children_are_gone(
    hanging: Callable[[type], Hanging], host: type
) -> None:
    engine = hanging(host)
    engine.executor.give_up("a", Failure(failure_class=FailureClass.HUNG_ENGINE, message="It hangs."))
    assert engine.failure().failure_class is FailureClass.HUNG_ENGINE
    assert engine.place_given_away() == []
    assert not any(map(alive, engine.pids))


@pytest.mark.slow
def test_the_place_of_an_engine_whose_process_died_is_free_when_its_children_are_gone(
    hanging: Callable[[type], Hanging], node: str
) -> None:
    """A process that gets SIGKILL (the kernel's, for memory) ends no child; Ray ends them only where its raylets are told to."""
    engine = hanging(ParentHost)
    os.kill(engine.pids[0], signal.SIGKILL)
    assert engine.failure().failure_class is FailureClass.LOST_NODE
    assert engine.place_given_away() == []
    assert not any(map(alive, engine.pids))


@pytest.mark.slow
@pytest.mark.parametrize("node", ["0"], indirect=True)
def test_without_the_executor_the_children_of_a_dead_process_live_on(
    hanging: Callable[[type], Hanging], node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above would see if nothing killed the process group: the place is given away with a child in it."""
    monkeypatch.setattr(LiveEngine, "process_group", lambda engine: None)
    engine = hanging(ParentHost)
    os.kill(engine.pids[0], signal.SIGKILL)
    engine.failure()
    assert engine.place_given_away() == engine.pids[1:]
