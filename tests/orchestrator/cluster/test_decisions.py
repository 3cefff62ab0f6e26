"""The executor's decisions, on engines that take no time: which are opened, for whom, and what has no place. Ray is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cluster import nodes_of, run
from benchmarks.simulated_jobs import START_S, SleepingHost, duration_of, jobs_of
from benchmarks.virtual_clock import VirtualExecutor
from orchestrator.cluster import ReadyJobs
from orchestrator.cluster import ray_executor as on_ray
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.plan.job import CheckpointPlace, EvalJob
from orchestrator.settings import Settings


def of_many_checkpoints(count: int, checkpoints: int, gpus: int = 1) -> list[EvalJob]:
    """Jobs of `checkpoints` engines, in turn."""
    jobs = jobs_of(count, 1, 0.1, ((gpus, 1.0),))
    place = [CheckpointPlace(name=f"checkpoint {number}") for number in range(checkpoints)]
    return [job.model_copy(update={"place": place[n % checkpoints]}) for n, job in enumerate(jobs)]


def executor(
    home: Path, facts: ClusterFacts, kind: type[VirtualExecutor] = VirtualExecutor
) -> VirtualExecutor:
    settings = Settings(home=home, database_url="sqlite://", datasets=None, ray_address=None)
    return kind(settings, facts, host=SleepingHost)


def test_more_checkpoints_than_gpus_are_all_served(tmp_path: Path) -> None:
    jobs = of_many_checkpoints(120, 30)
    taken, _ = run(jobs, nodes_of((2, 2)), tmp_path, 1, VirtualExecutor)
    least = (30 * START_S + sum(map(duration_of, jobs))) / 4
    assert least <= taken < 1.3 * least


def test_gangs_of_other_checkpoints_are_served_beside_small_ones(tmp_path: Path) -> None:
    jobs = [
        *of_many_checkpoints(40, 10),
        *of_many_checkpoints(6, 3, gpus=4),
        *of_many_checkpoints(8, 2, gpus=2),
    ]
    taken, _ = run(jobs, nodes_of((4, 4)), tmp_path, 1, VirtualExecutor)
    starts = 10 * 1 + 3 * 4 + 2 * 2
    least = (starts * START_S + sum(duration_of(j) * j.engine.tensor_parallel for j in jobs)) / 8
    assert least <= taken < 1.6 * least


def test_only_as_many_engines_as_there_are_gpus_are_asked_for(tmp_path: Path) -> None:
    decides = executor(tmp_path, nodes_of((2, 1)))
    ready = ReadyJobs.of(of_many_checkpoints(50, 50))
    assert decides.pick(ready) == []  # asked for, and given work as soon as they are there
    assert len(decides.pick(ReadyJobs.of(of_many_checkpoints(50, 50)))) == 3


def test_what_has_no_place_is_judged_by_the_nodes_as_they_are_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node is lost, the store is away for twenty minutes, and both are back at the same time."""
    now, nodes = [0.0], [nodes_of((1,))]
    monkeypatch.setattr(on_ray.time, "monotonic", lambda: now[0])

    class Looking(VirtualExecutor):
        def _look_around(self) -> None:
            self._floor.update(nodes[0])

    decides = executor(tmp_path, nodes[0], Looking)
    jobs = of_many_checkpoints(4, 2, gpus=2)
    assert decides.homeless(ReadyJobs.of(jobs)) == {}
    now[0] = 1200.0
    given_up = decides.homeless(ReadyJobs.of(jobs))
    assert set(given_up) == {job.digest for job in jobs}
    assert "For ten minutes no node" in given_up[jobs[0].digest]
    nodes[0] = nodes_of((1, 4))
    assert decides.homeless(ReadyJobs.of(jobs)) == {}
