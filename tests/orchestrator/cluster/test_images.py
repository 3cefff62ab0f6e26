"""Plans for the nodes that run them: their engines and data, nodes of other images, CPU nodes beside GPU nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray

from benchmarks.ray_nodes import add_node, new_cluster
from evals.engine import DeviceKind, EngineKind
from orchestrator.cluster import RayExecutor, disconnect
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.plan.plan import Plan
from orchestrator.plan.sweep import SweepFile, load_sweep
from orchestrator.run import run as runs
from orchestrator.run.run import cluster_for, plan_for, register
from orchestrator.run.scheduler import Scheduler
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.support.fault_driver import Nothing, settings_of
from tests.support.node_images import OnNode, add_image_node, image
from tests.support.runs_fixture import mergeboard
from tests.support.tiny_checkpoints import tiny_checkpoint

pytestmark = pytest.mark.slow

SWEEP = """\
name: on gpus
base: {base}
recipes: [{recipes}]
suites: [{suites}]
engines: [vllm]
"""
SMOKE = "{suite: smoke, limit: 2, benchmarks: [bbh]}"


@dataclass
class Nodes:
    """A head, a CPU node of this machine's packages, and two GPU nodes with the GPU build of vLLM."""

    cluster: Any
    folder: Path
    gpu_path: str

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def sweep(self, suites: str = SMOKE, recipes: str = '"(1, 2)"', layers: int = 4) -> Path:
        file = self.folder / "sweep.yaml"
        base = tiny_checkpoint(self.folder / f"tiny-{layers}", layers=layers)
        file.write_text(SWEEP.format(base=base, suites=suites, recipes=recipes))
        return file


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("nodes")
    (folder / "hub").mkdir()
    path = image(folder / "gpu-image", vllm="0.32.0")
    cluster = new_cluster()
    add_node(cluster, num_cpus=2, num_gpus=0)
    for _ in range(2):
        add_image_node(cluster, path, num_cpus=2, num_gpus=1, env_vars={"HF_HOME": str(folder / "hub")})
    yield Nodes(cluster, folder, path)
    disconnect()
    cluster.shutdown()


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    yield settings_of(tmp_path / "home", f"sqlite:///{tmp_path}/s.sqlite")
    disconnect()


def planned(nodes: Nodes, file: SweepFile, settings: Settings) -> tuple[Plan, ClusterFacts]:
    cluster = cluster_for(settings, nodes.address)
    return plan_for(file, settings, cluster), cluster


def test_a_plan_takes_the_engine_of_the_nodes_and_runs_on_them_alone(
    nodes: Nodes, settings: Settings
) -> None:
    """The head's packages are the CPU build, the GPU nodes' the GPU build: every job was refused."""
    file = load_sweep(nodes.sweep(recipes="{grid: all}", layers=9))
    plan, cluster = planned(nodes, file, settings)
    assert len(plan.candidates) > 40
    specs = {e.job.engine for e in plan.evals}
    assert {(s.version, s.device) for s in specs} == {("0.32.0", DeviceKind.CUDA)}
    (spec,) = specs
    gpu_nodes = {n.node_id for n in cluster.nodes if n.gpus}
    assert {n.node_id for n in cluster.nodes_for(spec)} == gpu_nodes
    assert len(cluster.nodes) == 4
    with Store.open(settings.database_url) as store:
        run_id = register(store, plan)
        scheduler = Scheduler(store, plan, run_id=run_id, settings=settings, reporter=Nothing())
        summary = scheduler.run(
            RayExecutor(settings, cluster, needs=plan.needs, host=OnNode, start_s=lambda job: 0.1)
        )
    assert (summary.done, summary.failed) == (len(plan.jobs), {})
    assert {p.name for p in (settings.home / "nodes").iterdir()} <= gpu_nodes


def test_nodes_of_different_images_are_refused_by_name(nodes: Nodes, tmp_path: Path) -> None:
    other = image(nodes.folder / "other-image", vllm="0.31.0")
    node = add_image_node(nodes.cluster, other, num_cpus=2, num_gpus=1)
    try:
        refused = mergeboard("run", str(nodes.sweep()), "--address", nodes.address, home=tmp_path / "home")
        told = mergeboard("doctor", "--address", nodes.address, "--json", home=tmp_path / "home")
    finally:
        nodes.cluster.remove_node(node)
    assert refused.returncode == 2
    (sentence,) = [line for line in refused.stderr.splitlines() if line.startswith("mergeboard: ")]
    # Nodes are listed in Ray's order.
    assert "vllm is" in sentence
    assert "0.32.0 for cuda on" in sentence
    assert "0.31.0 for cuda on" in sentence
    assert node.node_id[-6:] in sentence
    findings = {f["name"]: f for f in json.loads(told.stdout)}
    assert findings["images"]["health"] == "broken"
    assert "0.31.0" in findings["images"]["message"]


def test_a_scorer_that_differs_from_the_drivers_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    other = image(nodes.folder / "scorer-image", vllm="0.32.0", sympy="1.0")
    node = add_image_node(nodes.cluster, other, num_cpus=2, num_gpus=1)
    try:
        refused = mergeboard("plan", str(nodes.sweep()), "--address", nodes.address, home=tmp_path / "home")
    finally:
        nodes.cluster.remove_node(node)
    assert refused.returncode == 2
    assert "sympy is " in refused.stderr
    assert "1.0 on" in refused.stderr


def test_data_that_only_the_driver_has_is_missing_with_the_nodes_name(
    nodes: Nodes, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs failed on the nodes, after their engine had started."""
    snapshot = (
        tmp_path / "hub" / "hub" / "datasets--wis-k--instruction-following-eval" / "snapshots" / ("0" * 40)
    )
    snapshot.mkdir(parents=True)
    (snapshot / "input_data.jsonl").write_text("{}\n")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    both = f"{SMOKE}, {{suite: leaderboard-v2, benchmarks: [ifeval]}}"
    plan, _ = planned(nodes, load_sweep(nodes.sweep(both)), settings)
    assert {e.job.benchmark for e in plan.evals} == {"bbh"}
    (missing,) = plan.missing
    assert missing.benchmark == "ifeval"
    assert "hf download --repo-type dataset wis-k/instruction-following-eval" in missing.reason
    assert ray.nodes()[0]["NodeManagerHostname"] in missing.reason
    there = (
        nodes.folder
        / "hub"
        / "hub"
        / "datasets--wis-k--instruction-following-eval"
        / "snapshots"
        / ("0" * 40)
    )
    there.mkdir(parents=True)
    (there / "input_data.jsonl").write_text('{"another": "revision"}\n')
    plan, _ = planned(nodes, load_sweep(nodes.sweep(both)), settings)
    assert "other content" in plan.missing[0].reason
    (there / "input_data.jsonl").write_text("{}\n")
    plan, _ = planned(nodes, load_sweep(nodes.sweep(both)), settings)
    assert not plan.missing
    assert {e.job.benchmark for e in plan.evals} == {"bbh", "ifeval"}


def test_a_run_that_was_planned_for_gpus_is_not_resumed_on_a_cpu(nodes: Nodes, settings: Settings) -> None:
    plan, _ = planned(nodes, load_sweep(nodes.sweep()), settings)
    with Store.open(settings.database_url) as store:
        run_id = register(store, plan)
    disconnect()
    env = {"MERGEBOARD_DATABASE_URL": settings.database_url}
    refused = mergeboard("resume", run_id, home=settings.home, **env)
    assert refused.returncode == 2
    assert "planned for vllm 0.32.0 on cuda" in refused.stderr
    assert runs.stored_plan(run_id, settings).engines[0].kind is EngineKind.VLLM
