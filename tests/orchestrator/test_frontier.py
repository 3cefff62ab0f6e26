"""Which jobs may start: order, dependencies, failures and what they block."""

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.frontier import Frontier, NodeState


def test_a_job_waits_for_all_that_it_needs() -> None:
    frontier = Frontier({"a": [], "b": [], "c": ["a", "b"]})
    assert frontier.ready() == ["a", "b"]
    frontier.done("a")
    assert frontier.ready() == ["b"]
    frontier.done("b")
    assert frontier.ready() == ["c"]


def test_what_the_store_has_is_not_offered() -> None:
    frontier = Frontier({"a": [], "b": ["a"]}, done=["a"])
    assert frontier.ready() == ["b"]


def test_a_failure_blocks_what_waits_for_it_and_nothing_else() -> None:
    frontier = Frontier({"a": [], "b": ["a"], "c": ["b"], "d": []})
    frontier.started("a")
    assert set(frontier.failed("a")) == {"b", "c"}
    assert frontier.ready() == ["d"]
    frontier.done("d")
    assert frontier.finished


def test_a_lost_job_is_offered_again_in_its_old_place() -> None:
    frontier = Frontier({"a": [], "b": []})
    frontier.started("a")
    assert frontier.ready() == ["b"]
    frontier.again("a")
    assert frontier.ready() == ["a", "b"]


@settings(deadline=None)
@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_every_job_runs_exactly_once_after_its_needs(count: int, random) -> None:
    needs = {str(i): [str(j) for j in range(i) if random.random() < 0.2] for i in range(count)}
    frontier = Frontier(needs)
    order: list[str] = []
    while not frontier.finished:
        digest = random.choice(frontier.ready())
        assert all(frontier.state(other) is NodeState.DONE for other in needs[digest])
        frontier.started(digest)
        frontier.done(digest)
        order.append(digest)
    assert sorted(order) == sorted(needs)
