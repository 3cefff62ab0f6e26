"""One image on all nodes: what is compared, who is named; engines and nodes of a plan."""

from __future__ import annotations

import pytest

from evals.engine import DeviceKind, EngineKind, EngineSpec, InstalledEngine
from evals.errors import EngineError
from orchestrator.cluster.software import EnginesOf, mismatch, require_same, software_here
from orchestrator.errors import ClusterError
from orchestrator.plan.capacity import ClusterFacts, NodeFacts, NodeSoftware
from orchestrator.provenance import SCORER_REVISION
from tests.orchestrator.plan.test_estimate import node

CUDA = InstalledEngine(
    kind=EngineKind.VLLM, version="0.32.0", device=DeviceKind.CUDA, compute_capability=(9, 0)
)
CPU = InstalledEngine(kind=EngineKind.VLLM, version="0.32.0+cpu", device=DeviceKind.CPU)
SPEC = EngineSpec(kind=EngineKind.VLLM, version="0.32.0", device=DeviceKind.CUDA)
CPU_SPEC = EngineSpec(kind=EngineKind.VLLM, version="0.32.0+cpu", device=DeviceKind.CPU)
VLLM = {EngineKind.VLLM}


def software(engine: InstalledEngine | None = CUDA, **fields: str) -> NodeSoftware:
    here = software_here()
    return here.model_copy(update={"engines": (engine,) if engine else (), **fields})


def with_software(facts: NodeFacts, has: NodeSoftware | None) -> NodeFacts:
    return facts.model_copy(update={"software": has})


def cluster(*nodes: NodeFacts) -> ClusterFacts:
    return ClusterFacts(nodes=nodes)


def gpu(name: str, has: NodeSoftware | None = None) -> NodeFacts:
    return with_software(node(8, name=name), has or software())


def cpu(name: str, has: NodeSoftware | None = None) -> NodeFacts:
    return with_software(node(0, name=name), has or software(CPU))


def test_a_plan_is_made_for_the_engine_of_the_nodes_with_gpus() -> None:
    facts = cluster(cpu("c"), gpu("a"), gpu("b"))
    require_same(facts, VLLM)
    assert EnginesOf(facts)(EngineKind.VLLM) == CUDA
    assert EnginesOf(cluster(cpu("c")))(EngineKind.VLLM) == CPU


def test_gpus_of_different_kinds_leave_the_capability_open() -> None:
    old = CUDA.model_copy(update={"compute_capability": (8, 0)})
    facts = cluster(gpu("a"), gpu("b", software(old)))
    require_same(facts, VLLM)
    assert EnginesOf(facts)(EngineKind.VLLM).compute_capability is None


@pytest.mark.parametrize(
    ("has", "words"),
    [
        (software(CUDA.model_copy(update={"version": "0.31.0"})), ["vllm is", "0.32.0 for cuda on a, b", "0.31.0 for cuda on c"]),
        (software(None), ["vllm is", "not installed on c"]),
        (software(mergeboard="9.9"), ["mergeboard is", "9.9 on c", "on this machine, a, b"]),
        (software(scorer=f"mergeboard-scorer={SCORER_REVISION} lm_eval=0.0"), ["lm_eval is", "0.0 on c"]),
    ],
)  # fmt: skip
def test_a_node_with_another_image_is_named(has: NodeSoftware, words: list[str]) -> None:
    with pytest.raises(ClusterError) as refused:
        require_same(cluster(gpu("a"), gpu("b"), gpu("c", has)), VLLM)
    for word in words:
        assert word in str(refused.value)


def test_an_engine_with_the_name_of_a_package_that_scores() -> None:
    """Every sweep on the transformers engine was refused: `5.19.0 on this machine and 5.19.0 for cpu on c`."""
    here = software_here()
    assert here.engine(EngineKind.TRANSFORMERS) is not None
    require_same(cluster(cpu("c", here), cpu("d", here)), set(EngineKind))
    other = InstalledEngine(kind=EngineKind.TRANSFORMERS, version="0.1", device=DeviceKind.CPU)
    with pytest.raises(ClusterError, match=r"engine transformers is .* on c and 0\.1 for cpu on d"):
        require_same(cluster(cpu("c", here), cpu("d", software(other))), {EngineKind.TRANSFORMERS})


def test_engines_that_the_sweep_does_not_use_may_differ() -> None:
    facts = cluster(gpu("a"), gpu("b", software(CUDA.model_copy(update={"version": "0.31.0"}))))
    require_same(facts, {EngineKind.TRANSFORMERS})


def test_many_nodes_are_named_by_the_first() -> None:
    others = [gpu(f"x{n}", software(CUDA.model_copy(update={"version": "0.31.0"}))) for n in range(12)]
    with pytest.raises(ClusterError, match="x0, x1, x2 and 9 more"):
        require_same(cluster(gpu("a"), *others), VLLM)


def test_an_engine_that_no_node_has_is_one_sentence() -> None:
    facts = cluster(gpu("a", software(None)))
    with pytest.raises(EngineError, match=r"not installed on the nodes that would run it \(a\)"):
        EnginesOf(facts)(EngineKind.VLLM)


def test_a_cpu_node_never_stands_in_for_a_gpu_node() -> None:
    lone = cluster(cpu("c"), with_software(node(0, name="same image"), software()))
    assert lone.nodes_for(SPEC) == ()
    assert [n.host for n in lone.nodes_for(CPU_SPEC)] == ["c"]
    both = cluster(cpu("c"), gpu("a"))
    assert [n.host for n in both.nodes_for(SPEC)] == ["a"]


def test_cpu_engines_go_on_when_a_gpu_node_comes() -> None:
    """It has another engine; all of a run's jobs would have been without a node."""
    facts = cluster(cpu("c"), gpu("a"))
    assert [n.host for n in facts.nodes_for(CPU_SPEC)] == ["c"]


def test_nodes_that_were_not_asked_are_taken_at_their_word() -> None:
    facts = cluster(node(0, name="c"), node(8, name="a"))
    assert [n.host for n in facts.nodes_for(SPEC)] == ["a"]
    assert EnginesOf(cluster(node(0, name="c")))(EngineKind.TRANSFORMERS).device is DeviceKind.CPU


def test_who_comes_later_with_another_image_is_left_out() -> None:
    assert mismatch(software()) is None
    assert mismatch(software(CUDA.model_copy(update={"version": "0.31.0"}))) is None, (
        "jobs say which they need"
    )
    assert "mergeboard is" in (mismatch(software(mergeboard="9.9")) or "")


def test_hosts_that_repeat_are_told_apart() -> None:
    first, second = gpu("a"), gpu("a").model_copy(update={"node_id": "ffff1234567"})
    assert cluster(first, gpu("b")).name_of(first) == "a"
    assert cluster(first, second).name_of(second) == "a (234567)"
