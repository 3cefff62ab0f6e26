"""Resources from facts: GPUs that share a layer, what can never fit, and durations that are corrected by measuring."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.engine import EngineKind, EngineSpec
from evals.stats.sequence import LookPlan
from evals.stats.stopping import Rule
from orchestrator.plan.capacity import ClusterFacts, NodeFacts
from orchestrator.plan.durations import Durations
from orchestrator.plan.estimate import (
    EngineNeed,
    Shape,
    engine_need,
    engine_resources,
    refusal,
    tensor_parallel_for,
)
from orchestrator.plan.job import Decide
from tests.support.store_data import eval_job

GB = 10**9
GIB = 2**30
# Qwen2-72B (80 layers), and OpenChat-3.5: width of a head 128 in both.
QWEN = Shape(parameters=72_700_000_000, layers=80, heads=64, kv_heads=8, head_dim=128, vocab_size=152_064)
SMALL = Shape(parameters=7_240_000_000, layers=32, heads=32, kv_heads=8, head_dim=128, vocab_size=32_002)


def spec(**fields: object) -> EngineSpec:
    return EngineSpec(kind=EngineKind.VLLM, version="0.32.0", max_length=4096, **fields)


def node(gpus: int, gib: int = 80, cpus: float = 64, name: str = "") -> NodeFacts:
    return NodeFacts(
        node_id=name or f"{gpus}x{gib}",
        host=name or f"{gpus}x{gib}",
        cpus=cpus,
        gpus=gpus,
        memory_bytes=512 * GIB,
        gpu_type="H100" if gpus else None,
        gpu_memory_bytes=gib * GIB if gpus else None,
    )


def cluster(*nodes: NodeFacts) -> ClusterFacts:
    return ClusterFacts(nodes=nodes)


def test_weights_cache_and_overhead_of_a_72b_in_bf16() -> None:
    need = engine_need(QWEN, spec())
    assert need.weight_bytes == 145_400_000_000
    # 2 x 80 layers x 8 heads x 128 x 2 bytes.
    assert need.kv_bytes_per_token == 327_680
    each = need.gpu_bytes(4)
    assert each is not None
    assert 145.4 / 4 * GB < each < 50 * GB


@pytest.mark.parametrize(
    ("shape", "nodes", "expected"),
    [
        (SMALL, [node(8)], 1),
        (QWEN, [node(8)], 4),
        (QWEN, [node(8, gib=141)], 2),
        (QWEN, [node(2), node(2), node(2), node(2)], None),
        (QWEN, [node(2), node(8, gib=40), node(4)], 4),
        (SMALL, [node(4, gib=16)], 2),
    ],
)
def test_the_fewest_gpus_of_one_node_that_hold_it(
    shape: Shape, nodes: list[NodeFacts], expected: int | None
) -> None:
    assert tensor_parallel_for([engine_need(shape, spec())], cluster(*nodes)) == expected


def test_one_number_serves_the_whole_sweep() -> None:
    needs = [engine_need(SMALL, spec()), engine_need(QWEN, spec())]
    assert tensor_parallel_for(needs, cluster(node(8))) == 4


def test_longer_paths_take_more_cache_and_so_more_gpus() -> None:
    tight = node(8, gib=48)
    usual = engine_need(QWEN, spec())
    doubled = engine_need(QWEN.model_copy(update={"layers": 400}), spec())
    assert (tensor_parallel_for([usual], cluster(tight)) or 99) <= (
        tensor_parallel_for([doubled], cluster(tight)) or 99
    )
    assert doubled.kv_bytes_per_token == 5 * usual.kv_bytes_per_token


def test_heads_must_be_dealt_out_evenly() -> None:
    need = engine_need(QWEN.model_copy(update={"heads": 40, "kv_heads": 8}), spec())
    assert need.divides(4)
    assert not need.divides(16)
    reason = refusal("merge", need, 16, cluster(node(16)))
    assert reason is not None
    assert "40 attention heads" in reason


def test_what_can_never_fit_is_refused_with_the_reason() -> None:
    need = engine_need(QWEN, spec())
    assert refusal("base", need, 4, cluster(node(8))) is None
    reason = refusal("base", need, 1, cluster(node(8), node(2)))
    assert reason is not None
    assert "1 GPU of one node" in reason
    assert "1 x 8 H100 of 80 GiB; 1 x 2 H100 of 80 GiB" in reason
    assert refusal("base", need, 16, cluster(node(8), node(8))) is not None


def test_without_gpus_the_weights_must_fit_the_memory() -> None:
    small_machine = NodeFacts(node_id="a", host="a", cpus=2, gpus=0, memory_bytes=24 * GIB)
    assert refusal("base", engine_need(SMALL, spec()), 1, cluster(small_machine)) is None
    reason = refusal("base", engine_need(QWEN, spec()), 1, cluster(small_machine))
    assert reason is not None
    assert "145.4 GB" in reason


def test_what_is_not_known_is_not_refused() -> None:
    unknown = engine_need(Shape(parameters=None, layers=None), spec())
    assert refusal("merged", unknown, 1, cluster(node(1))) is None
    unmeasured = node(8).model_copy(update={"gpu_memory_bytes": None})
    assert refusal("base", engine_need(QWEN, spec()), 1, cluster(unmeasured)) is None


@settings(deadline=None)
@given(st.integers(10**8, 2 * 10**11), st.integers(1, 16), st.sampled_from([16, 24, 40, 80, 141]))
def test_more_gpus_never_need_more_of_each(parameters: int, gpus: int, gib: int) -> None:
    need = engine_need(QWEN.model_copy(update={"parameters": parameters}), spec())
    sizes = [need.gpu_bytes(number) or 0 for number in range(1, gpus + 1)]
    assert sizes == sorted(sizes, reverse=True)
    chosen = tensor_parallel_for([need], cluster(node(gpus, gib)))
    assert chosen is None or (need.fits(node(gpus, gib), chosen) and need.divides(chosen))


def test_the_share_of_the_cache_is_what_the_weights_leave() -> None:
    need = engine_need(SMALL, spec())
    tokens = need.kv_tokens(1, 80 * GIB)
    assert tokens is not None
    assert need.gpu_bytes(1, tokens) == pytest.approx(80 * GIB * 0.9, rel=0.001)


def test_an_engine_takes_its_share_of_a_nodes_cores() -> None:
    job = eval_job().model_copy(update={"engine": spec(tensor_parallel=4)})
    wide = engine_resources(job, node(8, cpus=64))
    assert (wide.gpus, wide.cpus) == (4, 4)
    assert wide.threads == 16
    narrow = engine_resources(job, node(8, cpus=4))
    assert narrow.cpus == pytest.approx(1.5)
    alone = engine_resources(eval_job(), node(0, cpus=2))
    assert (alone.gpus, alone.cpus, alone.threads) == (0, 1.5, 2)


def test_durations_follow_what_is_measured() -> None:
    base = eval_job("bbh")
    path = eval_job("bbh", (0, 1, 2, 1, 2, 3))
    known = Durations(
        {(base.weights_digest, None): 10**9, (base.weights_digest, path.layer_path): 2 * 10**9}, on_gpu=False
    )
    guess = known.seconds(base)
    assert guess is not None
    assert known.seconds(path) == pytest.approx(2 * guess)
    musr = known.seconds(eval_job("musr"))
    assert musr is not None
    assert not known.expected(known.workload(base)).measured
    known.learn(known.workload(base), 7 * guess)
    assert known.expected(known.workload(path)) == (pytest.approx(14 * guess), True)
    assert known.seconds(eval_job("musr")) == pytest.approx(7 * musr), (
        "the model is wrong here by the same factor"
    )


def test_a_part_of_a_race_is_its_share_of_the_work() -> None:
    whole = eval_job("bbh")
    decide = Decide(plan=LookPlan(rule=Rule()), against="base", part=0.1)
    part = whole.model_copy(update={"decide": decide})
    known = Durations({(whole.weights_digest, None): 10**9}, on_gpu=False)
    seconds, of_part = known.seconds(whole), known.seconds(part)
    assert seconds is not None
    assert of_part == pytest.approx(0.1 * seconds)
    known.learn(known.workload(part), 30.0)
    assert known.seconds(whole) == pytest.approx(300.0)


def test_a_checkpoint_of_unknown_size_takes_what_others_took() -> None:
    base, built = eval_job("bbh"), eval_job("bbh", built="merged")
    known = Durations({(base.weights_digest, None): 10**9}, on_gpu=False)
    assert known.expected(known.workload(built)) == (None, False)
    known.learn(known.workload(base), 30.0)
    assert known.expected(known.workload(built)) == (30.0, True)
    known.learn(known.workload(built), 50.0)
    assert known.expected(known.workload(built)) == (50.0, True)
    assert known.expected(known.workload(eval_job("musr", built="merged"))) == (None, False)


def test_needs_are_values() -> None:
    assert engine_need(QWEN, spec()) == engine_need(QWEN, spec())
    assert isinstance(engine_need(QWEN, spec()), EngineNeed)
