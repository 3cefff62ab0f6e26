"""Benchmarks whose data is not on every node: what is said, and a run that goes on without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.datasets import DataOnNode, data_of
from evals.engine import DeviceKind, EngineKind, InstalledEngine
from evals.suite import load_suite
from orchestrator.cluster.software import software_here
from orchestrator.errors import PlanError
from orchestrator.plan.benchmarks import MissingBenchmark
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.run import node_data
from orchestrator.run.node_data import with_data_on_nodes, without
from orchestrator.run.run import register, stored_plan
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.orchestrator.plan.test_estimate import node

TEXT = "name: s\nbase: {base}\nsuites: [{{suite: smoke, benchmarks: [bbh, musr]}}]\nengines: [{engine}]\n"
NODES = ClusterFacts(
    nodes=tuple(node(8, name=name).model_copy(update={"software": software_here()}) for name in "abcde")
)


def plan_of(base: Path, settings: Settings, engine: str = "transformers") -> Plan:
    return make_plan(
        parse_sweep(TEXT.format(base=base, engine=engine).encode(), origin="s.yaml", folder=base.parent),
        settings,
    )


def answering(monkeypatch: pytest.MonkeyPatch, **wrong: DataOnNode | str) -> None:
    """Every node has what is here, but for the named ones: another answer for the second benchmark, or none at all."""
    here = tuple(data_of(load_suite("smoke").benchmark(name), None) for name in ("bbh", "musr"))

    def answers(settings: Settings, nodes: list[str], benchmarks: object) -> dict[str, object]:
        told: dict[str, object] = {}
        for name in nodes:
            other = wrong.get(name)
            told[name] = other if isinstance(other, str) else (here[0], other or here[1])
        return told

    monkeypatch.setattr(node_data, "data_on_nodes", answers)


def data(digest: str | None) -> DataOnNode:
    gone = digest is None
    return DataOnNode(
        benchmark="musr",
        dataset="TAUR-Lab/MuSR",
        digest=digest,
        reason="Benchmark 'musr' needs the data set TAUR-Lab/MuSR, which is not in the hub's cache."
        if gone
        else None,
        command="hf download --repo-type dataset TAUR-Lab/MuSR" if gone else None,
    )


def test_all_nodes_have_it(tiny_llama: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_environment()
    answering(monkeypatch)
    plan = plan_of(tiny_llama, settings)
    assert with_data_on_nodes(plan, settings, NODES) == plan


def test_nodes_that_lack_it_are_named_with_the_command(
    tiny_llama: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_environment()
    answering(monkeypatch, b=data(None), c=data(None), d=data(None), e=data(None))
    plan = with_data_on_nodes(plan_of(tiny_llama, settings), settings, NODES)
    assert {e.job.benchmark for e in plan.evals} == {"bbh"}
    (missing,) = plan.missing
    assert missing.reason.startswith(
        "On b, c, d and 1 more: Benchmark 'musr' needs the data set TAUR-Lab/MuSR"
    )
    assert "Get it there with: hf download --repo-type dataset TAUR-Lab/MuSR" in missing.reason


def test_other_content_and_silence(tiny_llama: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_environment()
    answering(monkeypatch, d=data("0" * 16))
    plan = with_data_on_nodes(plan_of(tiny_llama, settings), settings, NODES)
    assert "other content on d than here" in plan.missing[0].reason
    answering(monkeypatch, d="the node did not answer (GetTimeoutError)")
    with pytest.raises(PlanError, match="d could not be asked whether it has"):
        with_data_on_nodes(plan_of(tiny_llama, settings), settings, NODES)


def test_a_run_goes_on_without_what_the_nodes_lacked_and_with_the_engine_they_had(
    tiny_llama: Path, home: Path
) -> None:
    settings = Settings.from_environment()
    engine = InstalledEngine(
        kind=EngineKind.VLLM, version="0.32.0", device=DeviceKind.CUDA, compute_capability=(9, 0)
    )
    file = parse_sweep(
        TEXT.format(base=tiny_llama, engine="vllm").encode(), origin="s.yaml", folder=tiny_llama.parent
    )
    whole = make_plan(file, settings, installed=lambda kind: engine)
    plan = without(whole, [MissingBenchmark(suite="smoke", benchmark="musr", reason="node b lacks it")])
    with Store.open(settings.database_url) as store:
        run_id = register(store, plan)
    again = stored_plan(run_id, settings)
    assert again.digest == plan.digest
    assert {e.job.engine.version for e in again.evals} == {"0.32.0"}
    assert {e.job.engine.device for e in again.evals} == {DeviceKind.CUDA}
