"""Which jobs may start: order, dependencies, failures and what they block."""

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.run.job_state import Frontier, NodeState


def alone(digest: str) -> None:
    """All jobs in one group."""


def ready(frontier: Frontier[None]) -> list[str]:
    """What is offered, where all jobs are in one group."""
    return list(frontier.ready().get(None, ()))


def test_a_job_waits_for_all_that_it_needs() -> None:
    frontier = Frontier({"a": [], "b": [], "c": ["a", "b"]}, group=alone)
    assert ready(frontier) == ["a", "b"]
    frontier.done("a")
    assert ready(frontier) == ["b"]
    frontier.done("b")
    assert ready(frontier) == ["c"]


def test_what_the_store_has_is_not_offered() -> None:
    frontier = Frontier({"a": [], "b": ["a"]}, done=["a"], group=alone)
    assert ready(frontier) == ["b"]


def test_a_failure_blocks_what_waits_for_it_and_nothing_else() -> None:
    frontier = Frontier({"a": [], "b": ["a"], "c": ["b"], "d": []}, group=alone)
    frontier.started("a")
    assert set(frontier.failed("a")) == {"b", "c"}
    assert ready(frontier) == ["d"]
    frontier.done("d")
    assert frontier.finished


def test_a_job_that_waits_for_an_end_goes_on_after_a_failure() -> None:
    """Also where the failure is that of what the job before needs; late results change nothing."""
    needs = {
        "base": [],
        "first": ["base"],
        "second": ["build", "first"],
        "third": ["build", "second"],
        "build": [],
    }
    after = {"second": ["first"], "third": ["second"]}
    frontier = Frontier(
        {d: needs[d] for d in ("base", "build", "first", "second", "third")},
        group=alone,
        waits=lambda d: after.get(d, ()),
    )
    frontier.started("base")
    assert frontier.failed("base") == ["first"]
    assert ready(frontier) == ["build"]
    frontier.done("first")
    assert ready(frontier) == ["build"]
    frontier.done("build")
    assert ready(frontier) == ["second"]
    frontier.started("second")
    assert frontier.failed("second") == []
    assert ready(frontier) == ["third"]
    frontier.add({"fourth": ["third", "second"], "fifth": ["second"]})
    assert frontier.state("fourth") is frontier.state("fifth") is NodeState.BLOCKED
    after["sixth"] = ["second"]
    frontier.add({"sixth": ["second", "build"]})
    assert ready(frontier) == ["third", "sixth"]


def test_a_lost_job_is_offered_again_in_its_old_place() -> None:
    frontier = Frontier({"a": [], "b": []}, group=alone)
    frontier.started("a")
    assert ready(frontier) == ["b"]
    frontier.again("a")
    assert ready(frontier) == ["a", "b"]


@settings(deadline=None)
@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_every_job_runs_exactly_once_after_its_needs(count: int, random) -> None:
    needs = {str(i): [str(j) for j in range(i) if random.random() < 0.2] for i in range(count)}
    frontier = Frontier(needs, group=alone)
    order: list[str] = []
    while not frontier.finished:
        digest = random.choice(ready(frontier))
        assert all(frontier.state(other) is NodeState.DONE for other in needs[digest])
        frontier.started(digest)
        frontier.done(digest)
        order.append(digest)
    assert sorted(order) == sorted(needs)


def test_groups_and_the_jobs_in_them_keep_the_order_of_the_plan() -> None:
    letters = {"a1": [], "b1": [], "a2": [], "c1": [], "b2": []}
    frontier = Frontier(letters, group=lambda digest: digest[0])

    def offered() -> list[list[str]]:
        return [list(digests) for digests in frontier.ready().values()]

    assert offered() == [["a1", "a2"], ["b1", "b2"], ["c1"]]
    frontier.started("a1")
    assert offered() == [["b1", "b2"], ["a2"], ["c1"]]
    frontier.started("c1")
    frontier.rest("b1")
    assert offered() == [["a2"], ["b2"]]
    frontier.again("b1")
    frontier.again("a1")
    assert offered() == [["a1", "a2"], ["b1", "b2"]]


def test_a_job_that_is_done_twice_counts_once() -> None:
    frontier = Frontier({"a": [], "b": [], "c": ["a", "b"]}, group=alone)
    frontier.done("a")
    frontier.done("a")
    assert ready(frontier) == ["b"]


def test_a_job_that_rests_is_not_offered_and_not_forgotten() -> None:
    frontier = Frontier({"a": [], "b": ["a"]}, group=alone)
    frontier.rest("a")
    assert ready(frontier) == []
    assert not frontier.finished
    frontier.done("a")
    assert ready(frontier) == ["b"]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["start", "rest", "again", "done", "failed"]), max_size=60),
    st.randoms(use_true_random=False),
)
def test_what_is_offered_is_what_is_ready(steps: list[str], random) -> None:
    digests = [f"{random.choice('abc')}{n}" for n in range(12)]
    frontier = Frontier(dict.fromkeys(digests, ()), group=lambda digest: digest[0])
    for step in steps:
        digest = random.choice(digests)
        state = frontier.state(digest)
        if step == "again" and state in (NodeState.WAITING, NodeState.RUNNING):
            frontier.again(digest)
        elif step != "again" and state is NodeState.READY:
            {
                "start": frontier.started,
                "rest": frontier.rest,
                "done": frontier.done,
                "failed": frontier.failed,
            }[step](digest)
        expected = [d for d in digests if frontier.state(d) is NodeState.READY]
        offered = frontier.ready()
        assert sorted(d for group in offered.values() for d in group) == sorted(expected)
        for group, members in offered.items():
            assert list(members) == [d for d in expected if d[0] == group]
        assert [next(iter(m)) for m in offered.values()] == sorted(
            (next(iter(m)) for m in offered.values()), key=digests.index
        )
        assert frontier.count(NodeState.READY) == len(expected)


def test_a_job_that_needs_more_than_planned_waits_for_it() -> None:
    """Whether it was ready or rested after a failure; one whose new prerequisite failed is blocked."""
    frontier = Frontier({"base": [], "a": [], "b": ["base"], "c": []}, group=alone)
    frontier.started("c")
    frontier.rest("c")
    frontier.add({"build": [], "broken": []})
    frontier.require("a", ["build"])
    frontier.require("b", ["build"])
    frontier.require("c", ["build", "broken"])
    frontier.again("c")
    assert ready(frontier) == ["base", "build", "broken"]
    frontier.done("build")
    assert ready(frontier) == ["base", "a", "broken"]
    frontier.done("base")
    assert ready(frontier) == ["a", "b", "broken"]
    frontier.started("broken")
    assert frontier.failed("broken") == ["c"]
    frontier.add({"late": []})
    frontier.require("late", ["broken"])
    assert frontier.state("late") is NodeState.BLOCKED
    frontier.require("a", [])
    assert ready(frontier) == ["a", "b"]
