"""Nodes that are asked too early, or too late: a node that cannot be given a task yet is no node that has a problem."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray

from benchmarks.ray_nodes import add_node, new_cluster
from orchestrator.cluster import nodes as nodes_module
from orchestrator.cluster import survey as survey_nodes
from orchestrator.cluster.nodes import KnownNodes
from orchestrator.cluster.software import software_here
from orchestrator.cluster.survey import NodeReport
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.run import run as runs
from orchestrator.settings import Settings
from tests.orchestrator.plan.test_estimate import node
from tests.support.fault_driver import settings_of

NEW_NODE = "ab" * 28


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path / "home", f"sqlite:///{tmp_path}/s.sqlite")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs that this process is connected to."""
    cluster = new_cluster()
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_a_node_that_the_head_lists_and_nobody_can_place_a_task_on_yet(
    cluster: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the mend left out: `TaskUnschedulableError`, and the run left the node out for good."""
    started: list[Any] = []

    def nodes() -> list[dict[str, Any]]:
        """The head lists the node, which in truth starts only now: the first task was refused."""
        if not started:
            started.append(
                add_node(cluster, num_cpus=1, env_vars={"RAY_OVERRIDE_NODE_ID_FOR_TESTING": NEW_NODE})
            )
        return [{"NodeID": NEW_NODE, "Alive": True}]

    monkeypatch.setattr("ray.nodes", nodes)
    report = survey_nodes(settings, [NEW_NODE])[NEW_NODE]
    assert started
    assert report.problem is None
    assert report.software == software_here()


@pytest.mark.slow
def test_a_node_that_is_gone_is_not_waited_for(
    cluster: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def without_it() -> list[dict[str, Any]]:
        looks.append(1)
        return []

    monkeypatch.setattr("ray.nodes", without_it)
    assert survey_nodes(settings, ["cd" * 28])["cd" * 28].problem == "Ray could not place a task on the node"
    assert len(looks) == 1


def test_a_node_that_gave_no_answer_is_asked_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that was too busy once was left out until the run's end; one that has another image stays out."""
    now = [0.0]
    there = [node(2, name=name) for name in "abc"]
    other = software_here().model_copy(update={"mergeboard": "9.9"})
    answers = {
        "a": NodeReport(problem=None, software=software_here()),
        "b": NodeReport(problem="the node did not answer (GetTimeoutError)"),
        "c": NodeReport(problem=None, software=other),
    }
    asked: list[list[str]] = []

    def survey(settings: Settings, node_ids: Sequence[str]) -> dict[str, NodeReport]:
        asked.append(list(node_ids))
        return {node_id: answers[node_id] for node_id in node_ids}

    def facts(reports: dict[str, NodeReport] | None = None) -> ClusterFacts:
        usable = [n for n in there if reports is None or not reports[n.node_id].problem]
        return ClusterFacts(nodes=tuple(usable))

    monkeypatch.setattr(nodes_module, "survey", survey)
    monkeypatch.setattr(nodes_module, "cluster_facts", facts)
    monkeypatch.setattr(nodes_module.time, "monotonic", lambda: now[0])
    known = KnownNodes(settings, ClusterFacts(nodes=()))

    def hosts_after(seconds: float) -> list[str]:
        now[0] += seconds
        looked = known.look()
        assert looked is not None
        return [n.host for n in looked.nodes]

    assert hosts_after(10) == ["a"]
    assert hosts_after(10) == ["a"]
    answers["b"] = answers["a"]
    assert hosts_after(400) == ["a", "b"]
    assert hosts_after(400) == ["a", "b"]
    assert asked == [["a", "b", "c"], ["b"]]
    assert "another image" in known.left_out


def test_a_gpu_node_that_is_given_back_while_it_is_asked_is_asked_for_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planning failed where the autoscaler took the idle node away at that moment."""
    gpu_node, gone = ClusterFacts(nodes=(node(2),)), ClusterFacts(nodes=())
    now = [gpu_node]
    events: list[str] = []

    def survey(settings: Settings, node_ids: Sequence[str]) -> dict[str, NodeReport]:
        events.append(f"asks {len(node_ids)}")
        if "asked for 1" in events:
            return {node_id: NodeReport(problem=None) for node_id in node_ids}
        now[0] = gone
        return {node_id: NodeReport(problem="Ray could not place a task on the node") for node_id in node_ids}

    @contextlib.contextmanager
    def awaited(gpus: int, say: object) -> Iterator[bool]:
        events.append(f"asked for {gpus}")
        now[0] = gpu_node
        yield True

    monkeypatch.setattr(runs, "connect", lambda settings, address: now[0])
    monkeypatch.setattr(runs, "disconnect", lambda: events.append("left"))
    monkeypatch.setattr(runs, "cluster_facts", lambda reports=None: now[0])
    monkeypatch.setattr(runs, "survey", survey)
    monkeypatch.setattr(runs, "gpus_awaited", awaited)
    monkeypatch.setattr(runs.Growth, "may_come", lambda growth, gpus: True)
    assert runs.cluster_for(settings, "head:6379", say=events.append) == gpu_node
    assert events == ["asks 1", "asked for 1", "asks 1"]
