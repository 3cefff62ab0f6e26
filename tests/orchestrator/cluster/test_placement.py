"""Where engines go: whole gangs on one node, best fit, kinds of GPU, nodes kept for those that wait."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from evals.engine import EngineKind, EngineSpec
from orchestrator.cluster.placement import Floor, Spot
from orchestrator.plan.estimate import Shape, engine_need
from orchestrator.plan.job import CheckpointPlace, EvalJob
from tests.orchestrator.plan.test_estimate import cluster, node
from tests.support.store_data import eval_job


def job(gpus: int, name: str = "x") -> EvalJob:
    engine = EngineSpec(kind=EngineKind.VLLM, version="0.32.0", tensor_parallel=gpus)
    return eval_job().model_copy(update={"engine": engine, "place": CheckpointPlace(name=name)})


def taken(floor: Floor, gpus: int) -> Spot | None:
    spot = floor.place(job(gpus), None)
    if spot is not None:
        floor.take(spot)
    return spot


def test_small_engines_fill_what_is_begun_and_leave_whole_nodes_whole() -> None:
    floor = Floor(cluster(node(8, name="a"), node(8, name="b"), node(4, name="c")))
    assert [taken(floor, 1).node.host for _ in range(4)] == ["c"] * 4  # type: ignore[union-attr] # there is room
    assert taken(floor, 8) is not None
    assert taken(floor, 8) is not None
    assert taken(floor, 1) is None


def test_a_gang_is_never_split_over_nodes() -> None:
    floor = Floor(cluster(node(4, name="a"), node(4, name="b")))
    assert floor.place(job(8), None) is None
    assert not floor.ever(job(8), None)
    assert floor.ever(job(4), None)
    assert floor.slots(job(2), None) == 4


def test_who_helps_uses_no_cores_that_another_engine_has() -> None:
    small, other = (node(0, name=name).model_copy(update={"cpus": 2.0}) for name in "ab")
    floor = Floor(cluster(small, other))
    first = taken(floor, 1)
    assert first is not None
    assert floor.place(job(1), None) is not None
    spot = floor.place(job(1), None, alone=True)
    assert spot is not None
    assert spot.node.host != first.node.host
    floor.take(spot)
    assert floor.place(job(1), None, alone=True) is None
    gpus = Floor(cluster(node(4, name="c")))
    assert taken(gpus, 1) is not None
    assert gpus.place(job(1), None, alone=True) is not None, "GPUs are not shared in any case"


def test_the_smallest_kind_of_gpu_that_holds_it() -> None:
    floor = Floor(cluster(node(4, gib=141, name="large"), node(4, gib=24, name="small")))
    shape = Shape(parameters=7_000_000_000, layers=32, heads=32, kv_heads=8, head_dim=128)
    need = engine_need(shape, job(1).engine)
    hosts = [floor.place(job(1), need), floor.place(job(4), need)]
    assert [spot.node.host for spot in hosts if spot] == ["small", "small"]
    large = engine_need(shape.model_copy(update={"parameters": 40_000_000_000}), job(1).engine)
    spot = floor.place(job(1), large)
    assert spot is not None
    assert spot.node.host == "large"


def test_a_kept_node_takes_only_the_engine_that_waits_for_it() -> None:
    floor = Floor(cluster(node(4, name="a")))
    floor.keep(node(4, name="a"), job(4, "large").engine_key)
    assert floor.place(job(1), None) is None
    spot = floor.place(job(4, "large"), None)
    assert spot is not None
    floor.take(spot)
    floor.give(spot)
    assert floor.place(job(1), None) is not None


def test_a_node_that_is_gone_takes_nothing_and_one_that_comes_does() -> None:
    floor = Floor(cluster(node(4, name="a")))
    floor.update(cluster(node(2, name="b")))
    assert floor.place(job(4), None) is None
    spot = taken(floor, 2)
    assert spot is not None
    assert spot.node.host == "b"


def test_builds_go_where_no_gpu_is_one_to_a_node() -> None:
    floor = Floor(cluster(node(8, name="gpu"), node(0, name="cpu")))
    hosts = []
    while (found := floor.room_for_build()) is not None:
        floor.start_build(found)
        hosts.append(found.host)
    assert hosts == ["cpu", "gpu"]


@settings(deadline=None)
@given(st.lists(st.sampled_from([1, 2, 4, 8]), max_size=40), st.randoms(use_true_random=False))
def test_no_node_is_ever_overbooked(sizes: list[int], random) -> None:
    nodes = [node(8, name="a"), node(4, name="b"), node(4, name="c")]
    floor = Floor(cluster(*nodes))
    spots: list[Spot] = []
    for size in sizes:
        if spots and random.random() < 0.3:
            floor.give(spots.pop(random.randrange(len(spots))))
        spot = taken(floor, size)
        if spot is not None:
            spots.append(spot)
        for each in nodes:
            used = sum(s.resources.gpus for s in spots if s.node.node_id == each.node_id)
            assert used <= each.gpus
            assert floor.free(each)[0] == each.gpus - used


def test_the_node_of_a_failure_is_left_out_where_another_one_holds_the_engine() -> None:
    floor = Floor(cluster(node(4, name="a"), node(8, name="b")))
    small, large = job(2), job(8)
    a, b = floor.facts.engine_nodes
    floor.avoid(b, 600.0, large, None)
    assert floor.place(large, None) is not None, "no other node has eight GPUs"
    floor.avoid(a, 600.0, small, None)
    spot = floor.place(small, None)
    assert spot is not None
    assert spot.node == b
    floor.avoid(b, 600.0, small, None)
    assert floor.place(small, None) is None
