"""A sweep over a user's suite on two Ray nodes, of which only the driver had the suite's files."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import ray

from benchmarks.ray_nodes import add_node, new_cluster
from orchestrator.cluster import disconnect
from orchestrator.cluster.engines import LiveEngine
from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
from orchestrator.plan.sweep import load_sweep
from orchestrator.run.run import cluster_for, execute, plan_for, run_id_of
from orchestrator.store import Store
from orchestrator.store.records import AttemptState, EvalOutcome
from tests.support.fault_driver import Nothing, settings_of
from tests.support.own_tasks import write_own_tasks
from tests.support.tiny_checkpoints import tiny_checkpoint

pytestmark = pytest.mark.slow


def _nodes_of_engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """References of the Ray node on which each engine's process says that it runs, by the engine's id."""
    nodes: dict[str, Any] = {}
    opened = LiveEngine.open

    def recorded(*args: Any, **kwargs: Any) -> LiveEngine:
        engine = opened(*args, **kwargs)
        nodes[engine.id] = engine._actor.__ray_call__.remote(
            lambda _: ray.get_runtime_context().get_node_id()
        )
        return engine

    monkeypatch.setattr(LiveEngine, "open", recorded)
    return nodes


def test_a_users_suite_on_two_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_own_tasks(tmp_path / "tasks")
    for number in range(3):
        tiny_checkpoint(tmp_path / f"tiny-{number}", seed=number)
    (tmp_path / "my.yaml").write_text(
        "name: mine\ntasks: [own_choice, own_pages, own_scored]\ninclude: tasks\nallow_code: [own_scored]\n"
    )
    (tmp_path / "sweep.yaml").write_text(
        f"name: mine on two nodes\nbase: {tmp_path}/tiny-0\n"
        f"recipes: [{{name: one, checkpoint: {tmp_path}/tiny-1}}, {{name: two, checkpoint: {tmp_path}/tiny-2}}]\n"
        "suites: [my.yaml]\nengines: [{kind: transformers, dtype: float32}]\nchat_template: 'off'\n"
    )
    engines = _nodes_of_engines(monkeypatch)
    settings = settings_of(tmp_path / "home", f"sqlite:///{tmp_path}/s.sqlite")
    cluster = new_cluster(head_cpus=1)
    try:
        add_node(cluster, num_cpus=1, num_gpus=0)
        facts = cluster_for(settings, str(cluster.address), gpus=0)
        plan = plan_for(load_sweep(tmp_path / "sweep.yaml"), settings, facts)
        # The nodes of one machine share its disks: take away what the driver read.
        shutil.rmtree(tmp_path / "tasks")
        (tmp_path / "my.yaml").unlink()
        shutil.rmtree(Path(tempfile.gettempdir()) / f"mergeboard-tasks-{os.getuid()}", ignore_errors=True)
        summary = execute(plan, settings, Nothing(), address=str(cluster.address), cluster=facts, stay=True)
        nodes = {engine: ray.get(node, timeout=60) for engine, node in engines.items()}
    finally:
        disconnect()
        cluster.shutdown()
    assert not summary.failed
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        run = run_id_of(plan)
        outcomes = store.outcomes(plan.jobs)
        succeeded = [
            a for d in plan.jobs for a in store.attempts(d) if a.state is AttemptState.SUCCEEDED and a.worker
        ]
        comparisons = run_comparisons(results_of_run(store, run), settings.home)
    assert len(outcomes) == 9
    assert all(isinstance(outcome, EvalOutcome) for outcome in outcomes.values())
    assert {nodes[a.worker or ""] for a in succeeded} == {node.node_id for node in facts.nodes}
    assert len(facts.nodes) == 2
    assert [c.candidate for c in comparisons] == ["one", "two"]
    assert {row.benchmark for c in comparisons for row in c.rows} == {"own_choice", "own_pages", "own_scored"}
    assert all(not row.refused for c in comparisons for row in c.rows)
