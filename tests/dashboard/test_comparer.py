"""The thread that makes comparisons: what fails ends one comparison, never the thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dashboard import comparisons
from dashboard.comparisons import Broken, ComparedPair, Comparer, PairResult, pairs_of
from evals.suite import load_suite
from orchestrator.compare import Comparison
from orchestrator.store import Store
from orchestrator.store.leaderboard import LeaderboardQuery
from orchestrator.store.pages import Pages
from tests.support.demo_stores import Maker, store_url
from tests.support.made_results import Made


def asked_until_there(comparer: Comparer, wanted: list[ComparedPair]) -> dict[str, PairResult]:
    """As a page does it: ask, and ask again."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if len(there := comparer.ask(wanted)) == len(wanted):
            return there
        time.sleep(0.02)
    raise AssertionError("the comparisons were not made: the thread hangs or has ended")


def test_an_unexpected_exception_ends_one_comparison_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparisons, "_POLITE_S", 0.0)
    real: Callable[..., tuple[Comparison, ...]] = comparisons.compare_sides

    def compare(base: object, named: dict[str, object], *rest: object) -> tuple[Comparison, ...]:
        if "bad" in named:
            raise ZeroDivisionError("nobody thought of this")
        return real(base, named, *rest)

    monkeypatch.setattr(comparisons, "compare_sides", compare)
    suite = load_suite("smoke")
    short = suite.model_copy(update={"benchmarks": suite.benchmarks[:2]})
    made = (Made("base"), Made("good", built=True), Made("bad", built=True))
    with Store.open(store_url(tmp_path)) as store:
        run = Maker(store, tmp_path, short, n=6, whole=False).run(made)
        rows = {r.candidate.name: r for r in store.leaderboard(LeaderboardQuery(run_id=run)).rows}
    pages = Pages.open(store_url(tmp_path))
    comparer = Comparer(pages, tmp_path)
    pairs = pairs_of(run, rows.values(), rows["base"].candidate.position, pages.columns(run))
    good, bad = (
        next(p for p in pairs if p.candidate.scores.candidate.name == name) for name in ("good", "bad")
    )
    (failed,) = asked_until_there(comparer, [bad]).values()
    assert isinstance(failed, Broken)
    assert "ZeroDivisionError: nobody thought of this" in failed.reason
    (compared,) = asked_until_there(comparer, [good]).values()
    assert isinstance(compared, Comparison)
