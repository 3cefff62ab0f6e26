"""The thread that makes comparisons: what fails ends one comparison, never the thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dashboard import comparer as comparer_module
from dashboard.comparer import Comparer
from dashboard.comparisons import Broken, PairResult, _result
from evals.suite import load_suite
from orchestrator.compare import Comparison, kept
from orchestrator.compare.family import At
from orchestrator.store import Store
from orchestrator.store.pages import Pages
from tests.support.demo_stores import Maker, store_url
from tests.support.made_results import Made


def asked_until_there(comparer: Comparer, run_id: str, at: At) -> PairResult:
    """As a page does it: ask, and ask again."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if (result := comparer.ask(run_id, 0, lambda family: _result(family, at), first=(at,))) is not None:
            return result
        time.sleep(0.02)
    raise AssertionError("the comparison was not made: the thread hangs or has ended")


def test_an_unexpected_exception_ends_one_comparison_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparer_module, "_POLITE_S", 0.0)
    real: Callable[..., tuple[Comparison, ...]] = kept.compare_sides

    def compare(base: object, named: dict[str, object], *rest: object) -> tuple[Comparison, ...]:
        if "bad" in named:
            raise ZeroDivisionError("nobody thought of this")
        return real(base, named, *rest)

    monkeypatch.setattr(kept, "compare_sides", compare)
    suite = load_suite("smoke")
    short = suite.model_copy(update={"benchmarks": suite.benchmarks[:2]})
    made = (Made("base"), Made("good", built=True), Made("bad", built=True))
    with Store.open(store_url(tmp_path)) as store:
        run = Maker(store, tmp_path, short, n=6, whole=False).run(made)
    pages = Pages.open(store_url(tmp_path))
    assert isinstance(pages, Pages)
    comparer = Comparer(pages, tmp_path)
    key = pages.columns(run)[0].engine_key
    failed = asked_until_there(comparer, run, (2, key))
    assert isinstance(failed, Broken)
    assert "ZeroDivisionError: nobody thought of this" in failed.reason
    compared = asked_until_there(comparer, run, (1, key))
    assert isinstance(compared, Comparison)
